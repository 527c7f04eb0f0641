"""A small source of each feed, written for the tests in the form of the real one, and what may happen to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streams.fetchers.formats.stix import KILL_CHAINS, Domain
from tests.streams.fetchers.stix_bundles import bundle, ordinary, thing

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
    settings: dict[str, Any] = {"broken": {path: BROKEN_YAML}, "events": 2} | more
    return Sample(
        files=dict((first, second)), edited={path: text.replace(*edit)}, removed={other: None}, **settings
    )


def document(path: str, items: list[dict[str, Any]], wrap: Any, edit: dict[str, Any], **more: Any) -> Sample:
    """A sample of one JSON document with a list of items: the first is edited, then broken; the last is removed."""
    changed = [items[0] | edit, *items[1:]]

    def written(found: list[Any]) -> Files:
        return {path: json.dumps(wrap(found))}

    settings: dict[str, Any] = {"events": len(items), "broken": written(["no item", *changed[1:-1]])} | more
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


def numbered(text: str, path: str, edit: tuple[str, str], **more: Any) -> Sample:
    """A sample of two files whose content and path have an `N`."""
    first, second = ((path.replace("N", str(n)), text.replace("N\n", f"{n}\n", 1)) for n in (1, 2))
    return tree(first, second, edit, **more)


SAMPLES: dict[str, Sample] = {
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
}
