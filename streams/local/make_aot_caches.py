"""`python -m streams.local.make_aot_caches`: make the caches of the classes of Kafka and Neo4j that are missing."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from schemas.errors import Sx9Error
from streams.local.services import make_aot_caches
from streams.settings import load_settings


def main() -> None:
    """Make the caches that are missing. Everything works without them, so an error ends as a message."""
    with tempfile.TemporaryDirectory(prefix="sx9-aot-") as folder:
        settings = load_settings(state_dir=Path(folder), kafka_bootstrap=None, neo4j_uri=None)
        try:
            made = make_aot_caches(settings)
        except Sx9Error as error:
            print(f"Kafka and Neo4j have no cache of their classes, and start slower: {error}", file=sys.stderr)
            return
    for path in made:
        print(f"{path.name}: {path.stat().st_size / 1e6:.0f} MB, for faster starts")


if __name__ == "__main__":
    main()
