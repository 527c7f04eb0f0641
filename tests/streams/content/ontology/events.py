"""Events of a small world: two actors, a revoked technique, rules of several feeds, and strange names."""

from __future__ import annotations

from schemas.events import Entity, Event, LogSource, NodeRef, Relationship, Report, ReportSpan, Technique, Template


def technique(id_: str, name: str, *tactics: str, **fields: object) -> Technique:
    """A technique of Enterprise."""
    return Technique(
        id=id_, feed="attack-enterprise", release="17.1", stix_id=f"attack-pattern--{id_}", name=name,
        tactics=tactics, domain="enterprise-attack", modified_ms=1_745_000_000_000, **fields,
             # type: ignore[arg-type]
    )  # fmt: skip


def entity(id_: str, kind: str, name: str, feed: str = "attack-enterprise", **fields: object) -> Entity:
    """An entity."""
    return Entity(id=id_, kind=kind, name=name, feed=feed, release="17.1", **fields)  # type: ignore[arg-type]


def edge(source: tuple[str, str], relation: str, target: tuple[str, str]) -> Relationship:
    """A relationship between (id, kind) and (id, kind)."""
    return Relationship(
        id=f"relationship--{source[0]}-{relation}-{target[0]}", feed="attack-enterprise", release="17.1",
        relation=relation, source=NodeRef(id=source[0], kind=source[1]),
        target=NodeRef(id=target[0], kind=target[1]),
    )  # fmt: skip


APT1, APT2 = ("intrusion-set--1", "group"), ("intrusion-set--2", "group")
SHELL = ("T1059", "technique")
POWERSHELL = ("T1059.001", "technique")
DUMPING = ("T1003", "technique")
CAMPAIGN = ("campaign--1", "campaign")


def world() -> list[Event]:
    """The events, as feeds publish them."""
    return [
        technique(
            "T1059", "Command and Scripting Interpreter", "execution", platforms=("Windows", "Linux"),
            text="Adversaries abuse [shells](https://x.test/a).\n\nO'Neil's \\ \"way\".(Citation: X)",
        ),
        technique("T1059.001", "PowerShell", "execution", platforms=("Windows",),
            text="Adversaries use PowerShell."),
        technique("T1003", "OS Credential Dumping", "credential-access", platforms=("Windows",), text="They dump."),
        technique("T1562.001", "Disable Tools", "defense-evasion", status="revoked", revoked_by="T1685"),
        technique("T1685", "Disable or Modify Tools", "defense-impairment", text="They disable."),
        entity("x-mitre-tactic--1", "tactic", "Execution", external_id="TA0002", aliases=("execution",),
            text="Run."),
        entity(APT1[0], "group", "O'Shady \\ \"Bear\"", external_id="G0016", aliases=("Cozy",),
            text="A group.\n{{x}}"),
        entity(APT2[0], "group", "Other", external_id="G0017"),
        entity("intrusion-set--3", "group", "Old", external_id="G0099", status="revoked"),
        entity(CAMPAIGN[0], "campaign", "Night", external_id="C0001"),
        entity("malware--1", "malware", "Wiper", external_id="S0001", platforms=("Windows",)),
        entity("course-of-action--1", "mitigation", "Execution Prevention", external_id="M1038"),
        entity("x-mitre-data-component--1", "data-component", "Process Creation"),
        entity("d3f:FileHashing", "countermeasure", "File Hashing", "d3fend", techniques=("T1059",)),
        entity("CVE-2021-44228", "vulnerability", "Log4Shell", "cisa-kev", external_id="CVE-2021-44228"),
        entity("exploitdb:50592", "exploit", "Log4j - RCE", "exploitdb", cves=("CVE-2021-44228",)),
        entity("lolbas:OSBinaries:Certutil.exe", "lolbin", "Certutil.exe", "lolbas", techniques=("T1003",)),
        entity("kali-tools:nmap", "package", "nmap", "kali-tools", category="information-gathering",
               external_id="nmap"),
        edge(APT1, "uses", SHELL), edge(APT1, "uses", DUMPING), edge(APT2, "uses", DUMPING),
        edge(CAMPAIGN, "uses", POWERSHELL), edge(CAMPAIGN, "uses", DUMPING), edge(CAMPAIGN, "attributed-to", APT1),
        edge(("malware--1", "malware"), "uses", SHELL), edge(APT1, "uses", ("malware--1", "malware")),
        edge(("course-of-action--1", "mitigation"), "mitigates", SHELL),
        edge(("x-mitre-data-component--1", "data-component"), "detects", SHELL),
        edge(POWERSHELL, "subtechnique-of", SHELL),
        edge(APT1, "uses", ("T9999", "technique")),
        Template(
            id="sigma:1111-2222", feed="sigma", release="abc", name="Suspicious 'Shell'", rule_type="sigma",
            rule_status="stable", severity="info", techniques=("T1059.001", "T1562.001"), text="Detects a shell.",
            log_source=LogSource(category="process_creation", product="windows"), tags=("detection.emerging",),
            detection="selection:\n  Image|endswith: \\powershell.exe\ncondition: selection", author="me",
            false_positives=("Administrators",), date="2024-01-01", path="rules/a.yml", tactics=("execution",),
        ),
        Template(
            id="nuclei-templates:CVE-2021-44228", feed="nuclei-templates", release="def", name="Log4j",
            severity="critical", cves=("CVE-2021-44228", "CVE-2099-1000"), path="http/cves/a.yaml", tags=("cve",),
        ),
        Template(
            id="atomic-red-team:9", feed="atomic-red-team", release="fed", name="Run a command", rule_type="atomic",
            techniques=("T1059",), platforms=("windows", "linux"), detection="whoami",
            path="atomics/T1059/T1059.yaml",
        ),
        Report(
            id="reports:a:1", feed="reports", document="a", name="A report", text="APT used PowerShell here.",
            spans=(ReportSpan(start=9, end=19, kind="technique", id="T1059.001", name="PowerShell"),),
        ),
    ]  # fmt: skip
