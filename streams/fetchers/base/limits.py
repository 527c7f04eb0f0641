"""Limits on what a feed may send; a source or item beyond a limit is refused, with the limit in the message."""

from __future__ import annotations

MAX_RESOURCE_BYTES = 512 * 1024 * 1024
"""One file with a whole feed, unpacked. The bundle of ATT&CK Enterprise 17.1 has 30 MB."""

MAX_BUNDLE_OBJECTS = 200_000
"""Objects of one STIX bundle. ATT&CK Enterprise 17.1 has 22,652."""

MAX_BUNDLE_COMMAS = 20 * MAX_BUNDLE_OBJECTS
"""Commas in a STIX bundle, texts included: a bundle with more is not taken apart. Enterprise 17.1 has 525,854."""

MAX_ANALYTICS = 32
"""Analytics of one detection strategy that are read; ATT&CK 18.1 has nine at most."""

MAX_ANALYTICS_CHARS = 32_000
"""Characters of the analytics that are copied into a detection strategy and each of its relationships."""

MAX_ITEMS = 500_000
"""Items of one document or table. The scores of EPSS have 300,000."""

MAX_DEAD_LETTERS = 1_000
"""Dead letters of one run of a feed; one more says how many items were rejected beyond them, and why."""

MAX_FILE_BYTES = 2 * 1024 * 1024
"""One file of a git repository or a folder. The longest Nuclei template of 2023 has 0.3 MB."""

MAX_MISP_EVENT_BYTES = 64 * 1024 * 1024
"""A MISP event, or the manifest of a MISP feed. An event of CIRCL's feed with 20,000 indicators has 10 MB."""

MAX_TREE_ENTRIES = 250_000
"""Files, links and folders of a git repository or a folder. The largest known collection has 81,000."""

MAX_TREE_BYTES = 1024 * 1024 * 1024
"""Different contents of the files that are read of a git repository or a folder, together."""

MAX_LISTING_BYTES = 64 * 1024 * 1024
"""All paths of a git repository or a folder, together."""

MAX_LINK_BYTES = 4_096
"""The target of a symbolic link in a git tree, as on Linux."""

MAX_YAML_DEPTH = 50
"""Levels of nesting in a YAML file; parsers written in C recurse and crash the process at some depth."""

MAX_YAML_NODES = 250_000
"""Nodes of a YAML file, those behind each alias counted again."""

MAX_YAML_ALIASES = 100
"""Aliases in a YAML file: a bomb needs few anchors and many aliases."""

MAX_YAML_CHARS = 4 * MAX_FILE_BYTES
"""Characters of the scalars of a YAML file, those behind each alias counted again."""

MAX_YAML_DIRECTIVES = 10
"""`%TAG` lines of a YAML file: libyaml compares each with all before it, 80,000 of them take half a minute."""

HTTP_ATTEMPTS = 3
"""Requests for one download, at most."""

HTTP_TIMEOUT_S = 30.0
"""Longest time without a byte from the server, seconds."""

HTTP_TOTAL_S = 900.0
"""Longest download, all redirects and attempts together, seconds."""

HTTP_RETRY_AFTER_S = 120.0
"""Longest wait that a server may ask for with `Retry-After`, seconds; after that the fetch is tried later."""

HTTP_REDIRECTS = 10
"""Redirects that are followed, at most."""

GIT_TIMEOUT_S = 900.0
"""Longest git command, the first clone included, seconds."""

GIT_FILE_BYTES = 2 * 1024 * 1024 * 1024
"""Largest file that git may write: the pack that a server sends."""

GIT_MEMORY_BYTES = 2 * 1024 * 1024 * 1024
"""Memory of one git process, where the system can limit it (Linux)."""

FUTURE_MS = 24 * 3_600 * 1_000
"""Events dated further ahead of now, ms, are rejected: they would make every later change look older."""
