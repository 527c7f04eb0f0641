"""A small source of each feed, written for the tests in the form of the real one, and what may happen to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streams.fetchers.formats.stix import KILL_CHAINS, Domain
from tests.streams.fetchers.stix_bundles import bundle, ordinary, relationship, technique, thing

Files = Mapping[str, str | None]
"""Path -> content; None: there is no such file."""

BROKEN_YAML = "a: [unclosed"


@dataclass(frozen=True)
class Sample:
    """A source, as files in a folder.

    Attributes:
        events: Number of events in it.
        files: Its files.
        edited: Files that change one event.
        removed: Files that no longer have one event.
        broken: Files in which one event, or those of one file, can't be used.
        broken_events: Number of these.
        says_removed: Whether an event that is no longer there is withdrawn; not if the source only has recent ones.
    """

    events: int
    files: Files
    edited: Files
    removed: Files
    broken: Files
    broken_events: int = 1
    says_removed: bool = True


def put(root: Path, *layers: Files) -> Path:
    """A folder with the files of the layers, a later one over the earlier."""
    for layer in layers:
        for name, content in layer.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                path.unlink()
            else:
                path.write_text(content)
    return root


def tree(first: tuple[str, str], second: tuple[str, str], edit: tuple[str, str], **more: Any) -> Sample:
    """A sample of two files: the first is edited, broken in the end, and the second is removed."""
    (path, text), (other, _) = first, second
    assert edit[0] in text
    settings: dict[str, Any] = {"broken": {path: BROKEN_YAML}, "events": 2, "removed": {other: None}} | more
    return Sample(files=dict((first, second)), edited={path: text.replace(*edit)}, **settings)


def document(
    path: str, items: list[dict[str, Any]], wrap: Any, edit: dict[str, Any], bad: Any = "no item", **more: Any
) -> Sample:
    """A sample of one JSON document with a list of items: the first is edited, then broken; the last is removed."""
    changed = [items[0] | edit, *items[1:]]

    def written(found: list[Any]) -> Files:
        return {path: json.dumps(wrap(found))}

    broken = changed[0] | bad if isinstance(bad, dict) else bad
    settings: dict[str, Any] = {"events": len(items), "broken": written([broken, *changed[1:-1]])} | more
    return Sample(files=written(items), edited=written(changed), removed=written(changed[:-1]), **settings)


def attack(domain: Domain) -> Sample:
    """A full release with a technique, a group that uses it, and two campaigns."""
    shared = json.loads(
        json.dumps(ordinary(1)).replace('"mitre-attack", "phase', f'"{KILL_CHAINS[domain]}", "phase')
    )
    one, other = thing("campaign", 1, "One"), thing("campaign", 2, "Other")
    edited = thing("campaign", 1, "One, renamed", modified="2022-01-01T00:00:00.000Z")

    def written(*found: Any) -> Files:
        return {f"{domain}.json": bundle(*shared, *found).decode()}

    return Sample(
        events=5,
        files=written(one, other),
        edited=written(edited, other),
        removed=written(edited),
        broken=written(edited | {"name": ""}),
    )


SIGMA = """\
title: Encoded Command
id: 11111111-0000-4000-8000-000000000001
status: test
description: Finds a shell that is given an encoded command.
references: [https://rules.example/1]
author: A. Writer, B. Reader
date: 2026-01-02
tags:
- attack.execution
- attack.defense_evasion
- attack.t1059.001
- attack.g0016
- cve.2021-44228
- detection.threat-hunting
logsource: {category: process_creation, product: windows}
detection:
  selection:
    CommandLine|contains: ' -enc '
  condition: selection
falsepositives: [Installers]
level: informational
"""
ATOMIC = """\
attack_technique: T1003.001
display_name: "OS Credential Dumping: LSASS Memory"
atomic_tests:
- name: Dump with a tool
  auto_generated_guid: 22222222-0000-4000-8000-000000000001
  description: Dumps the memory of a process.
  supported_platforms: [windows]
  executor: {name: command_prompt, command: dump.exe lsass}
- name: Dump with another
  auto_generated_guid: 22222222-0000-4000-8000-000000000002
  description: Dumps it, too.
  supported_platforms: [windows]
  executor: {name: powershell, command: Out-Dump lsass}
"""
ATOMIC_2 = """\
attack_technique: T1016
atomic_tests:
- name: List addresses
  auto_generated_guid: 22222222-0000-4000-8000-000000000003
  description: Lists the addresses of the machine.
  supported_platforms: [linux, macos]
  executor: {name: sh, command: ip address}
"""
ABILITY = """\
- id: 33333333-0000-4000-8000-00000000000N
  name: List processes
  description: Lists what runs.
  tactic: discovery
  technique: {attack_id: T1057, name: Process Discovery}
  platforms:
    linux: {sh: {command: ps aux}}
    darwin: {sh: {command: ps aux}}
"""
ANALYTIC = """\
title: Shell from the Logon Screen
submission_date: 2014/11/19
platforms: [Windows]
subtypes: [Process]
analytic_types: [TTP]
contributors: [MITRE]
id: CAR-2014-11-00N
description: A shell is started by the logon process.
coverage:
- {technique: T1546, tactics: [TA0004], subtechniques: [T1546.008], coverage: Moderate}
implementations:
- {type: pseudocode, description: As a filter., code: filter processes}
"""
LOLBAS = """\
Name: Fetch.exe
Description: Fetches certificates.
Author: A. Writer
Created: 2018-05-25
Commands:
- Command: fetch.exe -url {REMOTEURL}
  Description: Downloads a file.
  Category: Download
  MitreID: T1105
  OperatingSystem: Windows 10, Windows 11
Resources:
- Link: https://lol.example/fetch
"""
GTFOBIN = """\
---
functions:
  file-read:
  - code: |-
      tool /path/to/input
    comment: Reads it.
    contexts: {sudo: , unprivileged: }
...
"""
DRIVER = """\
Id: 44444444-0000-4000-8000-00000000000N
Tags: [bad.sys]
Author: A. Writer
Created: '2026-06-16'
MitreID: T1068
Category: vulnerable driver
Commands:
  Command: sc.exe create bad
  Description: A driver that lets anyone write memory, CVE-2024-12345.
  OperatingSystem: Windows 10, Windows 11
Resources: [https://drivers.example/1]
KnownVulnerableSamples:
- {Filename: bad.sys, SHA256: AA00, MD5: BB00}
"""
LIBRARY = """\
Name: net.dll
Author: A. Writer
Created: 2021-02-27
Vendor: Microsoft
ExpectedLocations: ['%SYSTEM32%']
VulnerableExecutables:
- {Path: '%SYSTEM32%\\dial.exe', Type: Sideloading}
Resources: [https://libraries.example/1]
"""
COMMAND = """\
---
description: |
  Lists the shares without a password.
command: |
  tool smb 10.10.10.1
items: [No_Creds]
services: [SMB]
attack_types: [Enumeration]
OS: [Linux]
references: [https://commands.example/1]
---
"""
NUCLEI = "id: N\ninfo:\n  name: Exposed panel\n  severity: low\n  description: A panel can be seen.\n"
KEV = [
    {
        "cveID": f"CVE-2025-100{n}", "vendorProject": "Vendor", "product": "Product", "dateAdded": "2025-08-25",
        "vulnerabilityName": f"Vulnerability {n}", "shortDescription": "It lets anyone in.",
        "requiredAction": "Update it.", "knownRansomwareCampaignUse": "Known",
        "notes": "Read this: ; https://kev.example/1", "cwes": ["CWE-59"],
    }
    for n in range(3)
]  # fmt: skip


YARA = """\
import "pe"
/* rule Commented { condition: true } */
rule One : trojan
{
  meta:
    description = "Finds it"
    author = "A. Writer"
    reference = "https://yara.example/1"
  strings:
    $a = "rule Quoted {"
  condition:
    $a
}

private rule Two { condition: true }
"""
WAZUH = """\
<!-- Logins -->
<group name="sshd,">
  <rule id="N00" level="12">
    <if_sid>5700</if_sid>
    <match>Failed password</match>
    <description>Many failed logins.</description>
    <mitre><id>T1110</id></mitre>
  </rule>
</group>
<group name="other,"></group>
"""
NSE = """\
local http = require "http"

description = [[
Shows the title of a page, https://nse.example/1
]]

author = "A. Writer"
categories = {"default", "safe"}
"""
ENGAGE = {
    "EAC0001": {
        "name": "Monitoring", "description": "Watch it.", "long_description": "Watch<br>it well.",
        "goals": ["EGO0001"], "approaches": ["EAP0001"], "attack_techniques": [{"id": "T1007"}],
        "references": [{"url": "https://engage.example/1"}],
    },
    "EAC0002": {"name": "Lures", "description": "Put out a lure."},
}  # fmt: skip
ATLAS = """\
id: ATLAS
version: 5.6.0
matrices:
- id: ATLAS
  tactics:
  - {id: AML.TA0002, name: Reconnaissance, description: Looking.}
  techniques:
  - {id: AML.T0000, name: Search, description: They search., tactics: [AML.TA0002]}
  - {id: AML.T0000.001, name: Search Papers, description: They read., subtechnique-of: AML.T0000}
  mitigations:
  - {id: AML.M0000, name: Say Less, description: Publish less., techniques: [{id: AML.T0000, use: Say nothing.}]}
case-studies:
- id: AML.CS0000
  name: A Detector
  summary: A detector was evaded.
  procedure: [{tactic: AML.TA0002, technique: AML.T0000.001, description: They read papers.}]
- id: AML.CS0001
  name: Another
  summary: So was another.
"""
AWESOME = """\
# Awesome
* [Not in a section](https://osint.example/0)
## [\N{UPWARDS ARROW}](#contents) Search
* [One](https://osint.example/1) - Searches it.
* [Two](https://osint.example/2)
### Pictures
* [Two](https://osint.example/3) - Of pictures.
"""
BELLINGCAT = "# Tool\n\n## URL\n\nhttps://tool.example/N\n\n## Description\n\nFinds it.\n"
KALI = """\
---
Title: nmapper
Homepage: https://kali.example/1
Architectures: any all
Metapackages: kali-linux-default kali-tools-top10
PackagesInfo: |
 A network mapper.
---
"""
ANNOCTR = "".join(
    json.dumps(
        {
            "_context_left": left,
            "mention": mention,
            "_context_right": right,
            "entity_type": kind,
            "label_title": title,
            "label_link": link,
        }
    )
    + "\n"
    for left, mention, right, kind, title, link in (
        ("", "APT0", " sent mail.", "GROUP", "APT0", "https://attack.mitre.org/groups/G0001"),
        ("APT0 ", "sent mail", ".", "TECHNIQUE", "Phishing", "https://attack.mitre.org/techniques/T1566"),
    )
)
PASSAGE = json.dumps({"text": "They sent mail with a document.", "techniques": ["T1566"]}) + "\n"
README = "# Tool\n\nFinds an [account](https://tool.example) by its name.\n"


def cve(number: int, **more: Any) -> dict[str, Any]:
    """A record as the API of NVD gives it."""
    found = {
        "id": f"CVE-2026-1000{number}", "published": "2026-01-01T00:00:00.000",
        "lastModified": "2026-01-02T03:04:05.000", "vulnStatus": "Analyzed",
        "descriptions": [{"lang": "en", "value": "It lets anyone in."}, {"lang": "es", "value": "Entra."}],
        "metrics": {"cvssMetricV31": [{"cvssData": {"baseScore": 8.8, "baseSeverity": "HIGH"}}]},
        "weaknesses": [{"description": [{"lang": "en", "value": "CWE-79"}]}],
        "references": [{"url": "https://nvd.example/1"}],
    }  # fmt: skip
    return {"cve": found | more}


def nvd() -> Sample:
    """Two pages in a folder. What is no longer on a page is not gone."""

    def page(*items: Any) -> str:
        return json.dumps({"totalResults": len(items), "vulnerabilities": items})

    later = {"lastModified": "2026-01-03T00:00:00.000"}
    edited = cve(0, vulnStatus="Modified", **later)
    return Sample(
        events=3,
        files={"1.json": page(cve(0), cve(1)), "2.json": page(cve(2))},
        edited={"1.json": page(edited, cve(1))},
        removed={"1.json": page(edited)},
        broken={"2.json": page(cve(2, lastModified="yesterday"))},
        says_removed=False,
    )


def csv_table(path: str, lines: list[str], edit: tuple[str, str], bad: tuple[str, str]) -> Sample:
    """A sample of a CSV file: its second line is edited, then broken; the last is removed."""
    edited = [line.replace(*edit) for line in lines]
    assert edited != lines

    def written(found: list[str]) -> Files:
        return {path: "".join(f"{line}\n" for line in found)}

    return Sample(
        events=2,
        files=written(lines),
        edited=written(edited),
        removed=written(edited[:-1]),
        broken=written([line.replace(*bad) for line in edited[:-1]]),
    )


def text_document(
    path: str, text: str, events: int, edit: tuple[str, str], removed: str, bad: tuple[str, str]
) -> Sample:
    """A sample of one document of text: a part of it is edited, then another removed, then the first broken."""
    edited = text.replace(*edit)
    shorter = edited.replace(removed, "")
    return Sample(
        events=events,
        files={path: text},
        edited={path: edited},
        removed={path: shorter},
        broken={path: shorter.replace(*bad)},
    )


def readme() -> Sample:
    """A source of one file: without it there is nothing, which withdraws nothing."""
    return Sample(
        events=1,
        files={"README.md": README},
        edited={"README.md": README.replace("Finds", "Shows")},
        removed={"README.md": None},
        broken={"README.md": "\n"},
        broken_events=0,
        says_removed=False,
    )


def by_name(path: str, wrap: Any) -> Sample:
    """A sample of sites by their names."""
    sites = {"One": {"url": "https://one.example/{}"}, "Two": {"urlMain": "https://two.example"}}
    edited = sites | {"One": {"url": "https://one.example/u/{}"}}
    return Sample(
        events=2,
        files={path: json.dumps(wrap(sites))},
        edited={path: json.dumps(wrap(edited))},
        removed={path: json.dumps(wrap({"One": edited["One"]}))},
        broken={path: json.dumps(wrap({"One": "no site"}))},
    )


def numbered(text: str, path: str, edit: tuple[str, str], **more: Any) -> Sample:
    """A sample of two files whose content and path have an `N`."""
    first, second = ((path.replace("N", str(n)), text.replace("N\n", f"{n}\n", 1)) for n in (1, 2))
    return tree(first, second, edit, **more)


def any_stix() -> Sample:
    """Two bundles: malware that does what a technique of ATT&CK says, how to stop it, and what stands alone."""
    of_attack = technique(546)
    malware = thing("malware", 1, "Loader", description="Loads more.")
    remedy = thing("course-of-action", 1, "Updates")
    edges = [
        relationship(1, malware, of_attack),
        relationship(2, remedy, of_attack, "mitigates"),
        relationship(3, malware, thing("identity", 1)),
    ]
    indicator = thing("indicator", 1, pattern="[file:name = 'a']", pattern_type="stix", labels=["bad"])
    campaign = thing("campaign", 1, "One")
    first = {"one.json": bundle(of_attack, malware, remedy, *edges, thing("identity", 1, "A company")).decode()}

    def second(*found: Any) -> Files:
        return {"more/two.json": bundle(*found, thing("x-own", 1)).decode()}

    edited = campaign | {"name": "One, renamed", "modified": "2022-01-01T00:00:00.000Z"}
    return Sample(
        events=6,
        files=first | second(campaign, indicator, thing("ipv4-addr", 1)),
        edited=second(edited, indicator),
        removed=second(edited),
        broken=second(edited | {"name": ""}),
    )


def misp() -> Sample:
    """A manifest and two events: the first with an indicator by itself and one in an object."""
    uuids = [f"55555555-0000-4000-8000-00000000000{n}" for n in range(6)]

    def event(uuid: str, *attributes: Any, **more: Any) -> dict[str, Any]:
        tag = {"name": 'misp-galaxy:mitre-attack-pattern="Phishing - T1566"'}
        found = {"uuid": uuid, "info": "A wave of mail", "date": "2026-01-02", "Orgc": {"name": "CERT"}}
        return {"Event": found | {"Tag": [tag, {"name": "tlp:white"}], "Attribute": attributes} | more}

    def attribute(uuid: str, value: Any = "evil.example", kind: str = "domain") -> dict[str, Any]:
        return {"uuid": uuid, "type": kind, "value": value, "category": "Network activity", "to_ids": True}

    def written(*values: Any, second: bool = True) -> Files:
        objects = [{"name": "file", "Attribute": [attribute(uuids[3], "ab" * 32, "sha256")]}]
        link = attribute(uuids[5], "https://misp.example/1", "link")
        events = {uuids[0]: event(uuids[0], *values, link, Object=objects)}
        events |= {uuids[1]: event(uuids[1])} if second else {}
        manifest = {uuid: {"timestamp": "1"} for uuid in events}
        documents = {"manifest.json": manifest} | {f"{uuid}.json": found for uuid, found in events.items()}
        return {name: json.dumps(found) for name, found in documents.items()}

    edited = attribute(uuids[2], "worse.example")
    return Sample(
        events=4,
        files=written(attribute(uuids[2])),
        edited=written(edited),
        removed=written(edited, second=False),
        broken={f"{uuids[0]}.json": "{}"},
        broken_events=3,
    )


def otx() -> Sample:
    """Pulses as the API gives them. What is no longer on a page is not gone."""

    def pulse(number: int, **more: Any) -> dict[str, Any]:
        found = {
            "id": f"6{number}", "name": "A wave of mail", "author_name": "A", "created": "2026-01-01T00:00:00",
            "modified": "2026-01-02T00:00:00", "tags": ["mail"], "attack_ids": [{"id": "T1566"}],
            "malware_families": [{"id": "x", "display_name": "Loader"}], "adversary": "APT0",
            "references": ["https://otx.example/1"],
            "indicators": [{"id": 1, "indicator": "evil.example", "type": "domain"}],
        }  # fmt: skip
        return found | more

    def page(*pulses: Any) -> Files:
        return {"1.json": json.dumps({"results": pulses, "count": len(pulses), "next": None})}

    edited = pulse(0, tags=["mail", "spam"])
    return Sample(
        events=3,
        files=page(pulse(0), pulse(1, indicators=[])),
        edited=page(edited, pulse(1, indicators=[])),
        removed=page(edited),
        broken=page(edited | {"name": ""}),
        broken_events=2,
        says_removed=False,
    )


SAMPLES: dict[str, Sample] = {
    "stix": any_stix(),
    "taxii": any_stix(),
    "misp": misp(),
    "otx": otx(),
    **{f"attack-{domain.removesuffix('-attack')}": attack(domain) for domain in KILL_CHAINS},
    "nuclei-templates": numbered(NUCLEI, "http/N.yaml", ("Exposed", "Open")),
    "sigma": tree(
        ("rules/windows/one.yml", SIGMA),
        ("rules/windows/two.yml", SIGMA.replace("000001", "000002")),
        ("Finds a shell", "Finds any shell"),
    ),
    "atomic-red-team": tree(
        ("atomics/T1003.001/T1003.001.yaml", ATOMIC),
        ("atomics/T1016/T1016.yaml", ATOMIC_2),
        ("Dumps it, too.", "Dumps it as well."),
        events=3,
        broken_events=2,
    ),
    "caldera": numbered(ABILITY, "data/abilities/discovery/N.yml", ("Lists what", "Shows what")),
    "car": numbered(ANALYTIC, "analytics/CAR-2014-11-00N.yaml", ("logon process", "logon screen")),
    "lolbas": tree(
        ("yml/OSBinaries/Fetch.yml", LOLBAS),
        ("yml/OSBinaries/Get.yml", LOLBAS.replace("Fetch.exe", "Get.exe")),
        ("Downloads a file", "Downloads any file"),
    ),
    "gtfobins": tree(("_gtfobins/one", GTFOBIN), ("_gtfobins/two", GTFOBIN), ("Reads it", "Shows it")),
    "loldrivers": numbered(DRIVER, "yaml/N.yaml", ("anyone write", "anybody write")),
    "hijacklibs": tree(
        ("yml/microsoft/built-in/net.yml", LIBRARY),
        ("yml/microsoft/external/net.yml", LIBRARY),
        ("Sideloading", "Phantom"),
    ),
    "wadcoms": tree(("_wadcoms/one.md", COMMAND), ("_wadcoms/two.md", COMMAND), ("the shares", "all shares")),
    "cisa-kev": document(
        "known_exploited_vulnerabilities.json",
        KEV,
        lambda found: {"catalogVersion": "2025.08.25", "vulnerabilities": found},
        {"shortDescription": "It lets everybody in."},
    ),
    "epss": csv_table(
        "epss_scores-current.csv",
        [
            "#model_version:v2025.03.14,score_date:2026-11-26T00:00:00+0000",
            "cve,epss,percentile",
            "CVE-2024-10001,0.91234,0.99",
            "CVE-2024-10002,0.00050,0.10",
            "CVE-2024-10003,0.30000,0.90",
        ],
        ("0.91234", "0.82"),
        ("0.82", "much"),
    ),
    "exploitdb": csv_table(
        "files_exploits.csv",
        [
            "id,file,description,date_published,author,type,platform,port,codes,tags,verified",
            "1,exploits/a.py,One - Overflow,2020-01-02,A,remote,linux,80,CVE-2020-10001;OSVDB-1,,1",
            "2,exploits/b.py,Two - Overflow,2020-01-02,A,local,windows,,,,0",
        ],
        ("One - Overflow", "One - Heap Overflow"),
        ("One - Heap Overflow", ""),
    ),
    "d3fend": document(
        "d3fend.json",
        [
            {
                "@id": f"d3f:Analysis{n}",
                "@type": ["owl:Class"],
                "rdfs:label": f"Analysis {n}",
                "d3f:d3fend-id": f"D3-A{n}",
                "d3f:definition": "Looks at it.",
                "d3f:synonym": "Looking",
                "rdfs:subClassOf": {"@id": "d3f:Detect"},
            }
            for n in range(3)
        ],
        lambda found: {
            "@graph": [{"@type": "owl:Ontology", "owl:versionInfo": "1.2"}, *found, {"@id": "d3f:File"}]
        },
        {"d3f:definition": "Looks at it well."},
        {"rdfs:label": None},
    ),
    "engage": Sample(
        events=3,
        files={
            "Data/json/activity_details.json": json.dumps(ENGAGE),
            "Data/json/goal_details.json": json.dumps({"EGO0001": {"name": "Expose", "description": "Show it."}}),
            "Data/json/activities.json": "[]",
        },
        edited={"Data/json/goal_details.json": json.dumps({"EGO0001": {"name": "Expose", "description": "See."}})},
        removed={"Data/json/activity_details.json": json.dumps({"EAC0001": ENGAGE["EAC0001"]})},
        broken={"Data/json/goal_details.json": "{"},
    ),
    "atlas": text_document(
        "dist/ATLAS.yaml",
        ATLAS,
        8,
        ("Publish less.", "Publish nothing."),
        "- id: AML.CS0001\n  name: Another\n  summary: So was another.\n",
        ("  name: A Detector\n", ""),
    ),
    "feodo-tracker": document(
        "ipblocklist.json",
        [
            {
                "ip_address": f"192.0.2.{n}",
                "port": 443,
                "status": "online",
                "hostname": None,
                "malware": "Bot",
                "as_name": "NET",
                "country": "XX",
                "first_seen": "2026-01-02 03:04:05",
                "last_online": "2026-11-26",
            }
            for n in range(3)
        ],
        lambda found: found,
        {"status": "offline"},
    ),
    "urlhaus": document(
        "json_recent.json",
        [
            {
                "dateadded": "2026-11-26 01:02:03 UTC",
                "url": f"http://bad.example/{n}",
                "url_status": "online",
                "threat": "malware_download",
                "tags": ["elf"],
                "urlhaus_link": "https://urlhaus.example/1",
            }
            for n in range(3)
        ],
        lambda found: {str(n): [item] for n, item in enumerate(found)},
        {"url_status": "offline"},
        {"url": None},
        says_removed=False,
    ),
    "threatfox": document(
        "recent.json",
        [
            {
                "ioc_value": f"192.0.2.{n}:443",
                "ioc_type": "ip:port",
                "threat_type": "botnet_cc",
                "tags": "a,b",
                "malware_printable": "Bot",
                "malware_alias": None,
                "first_seen_utc": "2026-11-26 01:02:03",
            }
            for n in range(3)
        ],
        lambda found: {str(n): [item] for n, item in enumerate(found)},
        {"tags": "a,c"},
        {"ioc_value": ""},
        says_removed=False,
    ),
    "yara-rules": tree(
        ("malware/one.yar", YARA),
        ("malware/two.yar", YARA.replace("One", "Three").replace("Two", "Four")),
        ("Finds it", "Finds all of it"),
        events=4,
        removed={"malware/two.yar": YARA.replace("One", "Three").partition("private")[0]},
        broken={"malware/one.yar": "nothing of a rule"},
        broken_events=2,
    ),
    "wazuh-rules": tree(
        ("ruleset/rules/1.xml", WAZUH.replace("N00", "100")),
        ("ruleset/rules/2.xml", WAZUH.replace("N00", "200")),
        ("Many failed", "Very many failed"),
        broken={"ruleset/rules/1.xml": "<group"},
    ),
    "nmap-scripts": tree(
        ("scripts/one.nse", NSE),
        ("scripts/two.nse", NSE),
        ("Shows the title", "Prints the title"),
        broken={"scripts/one.nse": "-- nothing"},
    ),
    "awesome-osint": text_document(
        "README.md",
        AWESOME,
        3,
        ("Searches it.", "Finds it."),
        "* [Two](https://osint.example/3) - Of pictures.\n",
        ("[One]", f"[ {' ' * 200} ]"),
    ),
    "osint-framework": document(
        "public/arf.json",
        [
            {"name": f"Site {n}", "type": "url", "url": f"https://osint.example/{n}", "status": "live"}
            for n in range(3)
        ],
        lambda found: {"name": "OSINT", "children": [{"name": "Search", "type": "folder", "children": found}]},
        {"status": "down"},
        {"name": ""},
    ),
    "sherlock": by_name("sherlock_project/resources/data.json", lambda sites: {"$schema": "x", **sites}),
    "maigret": by_name("maigret/resources/data.json", lambda sites: {"sites": sites, "tags": []}),
    "bellingcat-toolkit": tree(
        ("gitbook/tools/one/README.md", BELLINGCAT),
        ("gitbook/tools/two/README.md", BELLINGCAT),
        ("Finds it", "Shows it"),
        broken={"gitbook/tools/one/README.md": "no heading"},
    ),
    "kali-tools": tree(
        ("one/index.md", KALI),
        ("two/index.md", KALI),
        ("A network mapper", "The network mapper"),
        broken={"one/index.md": "no front matter"},
    ),
    "cve-nvd": nvd(),
    "annoctr": tree(
        ("AnnoCTR/all/linking_mitre_only/a_2021-06-10_x.json", ANNOCTR),
        ("AnnoCTR/all/linking_mitre_only/b_2021-06-11_y.json", ANNOCTR),
        ("Phishing", "Phishing, renamed"),
        broken={"AnnoCTR/all/linking_mitre_only/a_2021-06-10_x.json": "{"},
    ),
    "reports": tree(
        ("2026/one.jsonl", PASSAGE),
        ("2026/two.jsonl", PASSAGE),
        ("T1566", "T1003"),
        broken={"2026/one.jsonl": '{"text": ""}'},
    ),
    **{name: readme() for name in ("osintagram", "socialpwned", "phoneinfoga", "holehe", "ghunt")},
}
