"""What the chart uses of ScaledObject (KEDA 2) and ServiceMonitor (Prometheus operator), as JSON schemas.

Both were compared with the published definitions of KEDA 2.14.0 and of the Prometheus operator 0.75.0. These
have all of their fields, with the same types, and require no other; to KEDA the metadata of a trigger are any
texts. They know no other field than those of the chart, so a misspelled one is refused. What a definition
allows beyond that, and whether an operator accepts the values, they do not say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]
NONE: Mapping[str, Schema] = {}

TEXT: Schema = {"type": "string", "minLength": 1}
LABELS: Schema = {"type": "object", "additionalProperties": TEXT}
DURATION: Schema = {"type": "string", "pattern": r"^(\d+h)?(\d+m)?(\d+s)?$", "minLength": 2}


def _object(required: Mapping[str, Schema], optional: Mapping[str, Schema] = NONE) -> Schema:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(required),
        "properties": {**required, **optional},
    }


def _resource(api_version: str, kind: str, spec: Schema) -> Schema:
    metadata = _object({"name": TEXT, "labels": LABELS})
    return _object(
        {"apiVersion": {"const": api_version}, "kind": {"const": kind}, "metadata": metadata, "spec": spec}
    )


NAMED = _object({"name": TEXT})
KAFKA_TRIGGER = _object(
    {
        "type": {"const": "kafka"},
        "metadata": _object(
            {
                "bootstrapServers": {"type": "string", "pattern": r"^[^\s:]+:\d+(,[^\s:]+:\d+)*$"},
                "consumerGroup": TEXT,
                "lagThreshold": {"type": "string", "pattern": r"^[1-9]\d*$"},  # all metadata of a trigger are texts
                "offsetResetPolicy": {"enum": ["earliest", "latest"]},
                "version": {"type": "string", "pattern": r"^\d+\.\d+\.\d+$"},
            }
        ),
    },
    {"authenticationRef": NAMED},
)
COUNT: Schema = {"type": "integer", "minimum": 0}
SCALED_OBJECT = _resource(
    "keda.sh/v1alpha1",
    "ScaledObject",
    _object(
        {
            "scaleTargetRef": NAMED,
            "minReplicaCount": COUNT,
            "maxReplicaCount": COUNT,
            "triggers": {"type": "array", "minItems": 1, "items": KAFKA_TRIGGER},
        }
    ),
)

TLS = _object({"ca": _object({"secret": _object({"name": TEXT, "key": TEXT})}), "serverName": TEXT})
RELABELING = _object({"sourceLabels": {"type": "array", "items": TEXT}, "targetLabel": TEXT})
ENDPOINT = _object(
    {
        "port": TEXT,
        "interval": DURATION,
        "scrapeTimeout": DURATION,
        "relabelings": {"type": "array", "items": RELABELING},
    },
    {"scheme": {"enum": ["http", "https"]}, "tlsConfig": TLS},
)
SERVICE_MONITOR = _resource(
    "monitoring.coreos.com/v1",
    "ServiceMonitor",
    _object(
        {
            "selector": _object({"matchLabels": LABELS}),
            "endpoints": {"type": "array", "minItems": 1, "items": ENDPOINT},
        }
    ),
)

SCHEMAS: dict[str, Schema] = {"ScaledObject": SCALED_OBJECT, "ServiceMonitor": SERVICE_MONITOR}
