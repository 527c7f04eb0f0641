"""The names that `threat_content_fetcher.py` has always used for the sources, and those of the feeds today."""

from __future__ import annotations

_OTHER_NAMES = {
    "attack-enterprise": "mitre_attack",
    "attack-ics": "mitre_attack_ics",
    "attack-mobile": "mitre_attack_mobile",
    "d3fend": "mitre_d3fend",
    "car": "mitre_car",
    "engage": "mitre_engage",
    "atlas": "mitre_atlas",
    "sigma": "sigma_rules",
    "otx": "alienvault_otx",
    "feodo-tracker": "abuse_ch",
}
"""Feed -> source, where they differ in more than `-` and `_`."""

RAW_FILES = {
    "attack-enterprise": "mitre_attack.json",
    "attack-ics": "mitre_attack_ics.json",
    "attack-mobile": "mitre_attack_mobile.json",
    "d3fend": "d3fend.json",
}
"""Feed of one file -> the name of this file in a folder of threat content."""

INDEXES = (
    "mitre_index.json", "crosswalk_index.json", "threat_content_summary.json", "kali_tools_inventory.json",
    "exploitdb_index.json",
)  # fmt: skip
"""Files that are made from the events in a folder of threat content."""

FOLDERS: dict[str, tuple[str, ...]] = {
    "atomic-red-team": ("atomic-red-team", "atomic_red_team"),
    "nuclei-templates": ("nuclei-templates", "nuclei_templates"),
    "sigma": ("sigma", "sigma_rules"),
    "car": ("car",),
    "atlas": ("atlas", "atlas-data"),
    "engage": ("engage",),
    "yara-rules": ("yara", "yara-rules"),
    "wazuh-rules": ("wazuh", "wazuh-rules"),
    "lolbas": ("lolbas",),
    "gtfobins": ("gtfobins",),
    "loldrivers": ("loldrivers",),
    "hijacklibs": ("hijacklibs",),
    "wadcoms": ("wadcoms",),
    "nmap-scripts": ("nmap", "nmap-scripts"),
    "awesome-osint": ("awesome-osint",),
    "osint-framework": ("osint-framework",),
    "sherlock": ("sherlock",),
    "maigret": ("maigret",),
    "bellingcat-toolkit": ("bellingcat-toolkit", "bellingcat_toolkit"),
    "caldera": ("caldera", "stockpile"),
    "exploitdb": ("exploitdb",),
    "cisa-kev": ("kev", "cisa-kev"),
    "d3fend": ("d3fend",),
    "kali-tools": ("kali-tools",),
    "annoctr": ("annoctr",),
    "reports": ("reports",),
}
"""Feed -> names of the folder in which a folder of threat content has its files, in lower case."""


def source_name(feed: str) -> str:
    """The name of a feed's source.

    >>> source_name("sigma"), source_name("nuclei-templates")
    ('sigma_rules', 'nuclei_templates')
    """
    return _OTHER_NAMES.get(feed, feed.replace("-", "_"))
