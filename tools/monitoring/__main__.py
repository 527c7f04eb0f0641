"""Writes the configuration of Prometheus and Grafana.

python -m tools.monitoring            writes the files
python -m tools.monitoring --check    exits with 1 if a file is stale
"""

from __future__ import annotations

import sys

from tools.monitoring.files import files

if __name__ == "__main__":
    for path, text in files().items():
        if "--check" not in sys.argv[1:]:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            sys.exit(f"{path} is stale; run `python -m tools.monitoring`")
