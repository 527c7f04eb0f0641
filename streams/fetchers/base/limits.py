"""How much a feed may ask of us; a source or record beyond a limit is refused with the limit in the message."""

from __future__ import annotations

MAX_BUNDLE_BYTES = 512 * 1024 * 1024
"""A STIX bundle, unpacked. ATT&CK Enterprise 17.1 has 30 MB."""

MAX_ANALYTICS = 32
"""Analytics of a detection strategy whose texts are read; ATT&CK 18.1 has nine at most."""

MAX_FILE_BYTES = 2 * 1024 * 1024
"""One YAML file. The longest Nuclei template of 2023 has 0.3 MB."""

MAX_LINK_BYTES = 4_096
"""The target of a symbolic link in a git tree, as on Linux."""

MAX_YAML_DEPTH = 50
"""Nesting of a YAML file; parsers written in C recurse and crash the process at some depth."""

MAX_YAML_NODES = 250_000
"""Nodes of a YAML file."""

MAX_YAML_ALIASES = 100
"""Aliases in a YAML file: a bomb needs few anchors and many aliases."""

MAX_YAML_DIRECTIVES = 10
"""`%TAG` lines of a YAML file: libyaml compares each with all before it, 80,000 of them take half a minute."""

HTTP_ATTEMPTS = 3
HTTP_TIMEOUT_S = 30.0
"""Longest silence of a server."""
HTTP_TOTAL_S = 900.0
"""Longest download."""

GIT_TIMEOUT_S = 900.0
"""One git command, the first clone included."""

FUTURE_MS = 24 * 3_600 * 1_000
"""A change dated so far ahead of now is a lie: it would make every later change look older than itself."""
