"""The same rules read by pySigma, and the same bundle by the `stix2` library.

It runs in a separate virtual environment, without our packages: `python benchmarks/feeds_peers.py RULES BUNDLE`.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from pathlib import Path

# Neither is installed where the types are checked.
from sigma.exceptions import SigmaError  # type: ignore[import-not-found]
from sigma.rule import SigmaRule  # type: ignore[import-not-found]
from stix2 import MemoryStore  # type: ignore[import-not-found]


def main(rules: Path, bundle: Path) -> None:
    """Read both, and print the processor time and numbers as JSON.

    Args:
        rules: Folder with Sigma rules.
        bundle: A STIX bundle.
    """
    started_s, read, refused = time.process_time(), 0, 0
    for path in sorted(rules.rglob("*.yml")):
        try:
            SigmaRule.from_yaml(path.read_text(encoding="utf-8"))
            read += 1
        except SigmaError:
            refused += 1
    rules_s = time.process_time() - started_s
    started_s = time.process_time()
    store = MemoryStore(allow_custom=True)
    store.load_from_file(str(bundle))
    bundle_s = time.process_time() - started_s
    result = {
        "pysigma": {"cpu_s": rules_s, "items": read, "refused": refused},
        "stix2": {"cpu_s": bundle_s, "items": len(store.query())},
        "versions": {name: importlib.metadata.version(name) for name in ("pysigma", "stix2")},
    }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
