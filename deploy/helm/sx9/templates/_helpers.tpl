{{- /* Labels that select the pods of a component: (dict "root" $ "component" "journal") */ -}}
{{- define "sx9.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "sx9.labels" -}}
{{ include "sx9.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- /* A name of at most 52 characters, so that a CronJob's jobs have valid names too. */ -}}
{{- define "sx9.name" -}}
{{ printf "%s-%s" .root.Release.Name .component | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- define "sx9.image" -}}
{{ .root.Values.image.repository }}:{{ if .gpu }}{{ .root.Values.image.cudaTag }}{{ else }}{{ .root.Values.image.tag }}{{ end }}
{{- end }}

{{- define "sx9.env" -}}
- {name: SX9_KAFKA_BOOTSTRAP, value: {{ .Values.kafka.bootstrap | quote }}}
- {name: SX9_REPLICATION_FACTOR, value: {{ .Values.kafka.replicationFactor | default 3 | quote }}}
- {name: SX9_NEO4J_URI, value: {{ .Values.neo4j.uri | quote }}}
- {name: SX9_NEO4J_USER, value: {{ .Values.neo4j.user | default "neo4j" | quote }}}
- {name: SX9_BIND, value: "0.0.0.0"}
- {name: SX9_METRICS_PORT, value: "9464"}
- {name: SX9_TRAINER_METRICS_PORT, value: "9464"}
{{- if .Values.policy }}
- {name: SX9_POLICY_FILE, value: /etc/sx9/policy.toml}
{{- end }}
{{- with .Values.archive.url }}
- {name: SX9_ARCHIVE_URL, value: {{ . | quote }}}
{{- end }}
{{- if .Values.metricsTls.secretName }}
- {name: SX9_METRICS_CERT_FILE, value: /etc/sx9-tls/tls.crt}
- {name: SX9_METRICS_KEY_FILE, value: /etc/sx9-tls/tls.key}
{{- end }}
{{- range $name, $value := .Values.env }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}

{{- /* Variables from a Secret, where there is one. */ -}}
{{- define "sx9.envFrom" -}}
{{- with .Values.storeSecret }}
envFrom: [{secretRef: {name: {{ . }}}}]
{{- end }}
{{- end }}

{{- /* What every pod has: identity, what it may not do, where it may run. */ -}}
{{- define "sx9.pod" -}}
serviceAccountName: {{ .Release.Name }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "sx9.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "sx9.probes" -}}
{{- $scheme := ternary "HTTPS" "HTTP" (not (empty .Values.metricsTls.secretName)) }}
ports: [{name: metrics, containerPort: 9464}]
startupProbe:
  httpGet: {path: /healthz, port: metrics, scheme: {{ $scheme }}}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /healthz, port: metrics, scheme: {{ $scheme }}}
  periodSeconds: 15
  timeoutSeconds: 10
  failureThreshold: 4
readinessProbe:
  httpGet: {path: /readyz, port: metrics, scheme: {{ $scheme }}}
  periodSeconds: 5
  timeoutSeconds: 10
{{- end }}

{{- /* Mounts and volumes that every pod has. */ -}}
{{- define "sx9.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if .Values.existingSecret }}
- {name: secrets, mountPath: /run/secrets, readOnly: true}
{{- end }}
{{- if .Values.metricsTls.secretName }}
- {name: metrics-tls, mountPath: /etc/sx9-tls, readOnly: true}
{{- end }}
{{- if .Values.policy }}
- {name: policy, mountPath: /etc/sx9, readOnly: true}
{{- end }}
{{- end }}

{{- define "sx9.volumes" -}}
- {name: tmp, emptyDir: {sizeLimit: 2Gi}}
{{- with .Values.existingSecret }}
- {name: secrets, secret: {secretName: {{ . }}, defaultMode: 0440}}
{{- end }}
{{- with .Values.metricsTls.secretName }}
- {name: metrics-tls, secret: {secretName: {{ . }}, defaultMode: 0440}}
{{- end }}
{{- if .Values.policy }}
- {name: policy, configMap: {name: {{ .Release.Name }}-policy}}
{{- end }}
{{- end }}
