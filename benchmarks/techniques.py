"""`python -m benchmarks.techniques`: techniques of sentences that are new, by the nearest examples.

The index has ATT&CK 15.1. The sentences are the procedure texts of 17.1 that 15.1 does not have, of techniques that
it has. Printed: the share whose technique is among the first 1, 3 and 10, and what thresholds for several
precisions say: on held-out examples of 15.1, where they are measured, and on the new sentences.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from schemas.encoding import EncodedEvent
from serving.techniques.examples import TechniqueExample, technique_example
from serving.techniques.index import TechniqueIndex, calibrate
from streams.fetchers.feeds import attack
from sx9_ml_models import render

RANKS = (1, 3, 10)
PRECISIONS = (0.9, 0.8, 0.7, 0.6)


def main() -> None:
    """Measure, and print two tables."""
    parser = argparse.ArgumentParser(prog="benchmarks.techniques", description=__doc__.splitlines()[0])
    parser.add_argument("--feeds", type=Path, default=Path("../shared/feeds"), help="folder of the feeds")
    folder = parser.parse_args().feeds / "attack"
    known, later = (_examples(folder / f"enterprise-attack-{release}.json") for release in ("15.1", "17.1"))
    texts = {example.text for example in known}
    index = TechniqueIndex(known)
    new = list(
        {
            (e.text, e.techniques): e
            for e in later
            if e.key.startswith("relationship:") and e.text not in texts and e.techniques[0] in index.techniques
        }.values()
    )
    started = time.process_time()
    found = index.nearest([example.text for example in new], max(RANKS))
    seconds = time.process_time() - started
    ids = [[technique.id for technique in row] for row in found]
    recall = [np.mean([e.techniques[0] in row[:k] for e, row in zip(new, ids, strict=True)]) for k in RANKS]
    render.rows(
        ("examples", "new sentences", *(f"recall@{k}" for k in RANKS), "texts per CPU second"),
        [(str(len(known)), str(len(new)), *(f"{value:.3f}" for value in recall), f"{len(new) / seconds:.0f}")],
    )
    rows = []
    for wanted in PRECISIONS:
        limit = calibrate(known, wanted)
        pairs = ((e, t) for e, row in zip(new, found, strict=True) for t in row[:3])
        said = [
            technique.id in example.techniques for example, technique in pairs if technique.score >= limit.score
        ]
        rows.append(
            (f"{wanted:.0%}", f"{limit.score:.2f}", f"{limit.precision:.3f}", f"{limit.recall:.3f}",
             f"{np.mean(said):.3f}", f"{sum(said) / len(new):.3f}")
        )  # fmt: skip
    render.rows(("wanted", "threshold", "precision", "recall", "precision on new", "recall on new"), rows)


def _examples(bundle: Path) -> list[TechniqueExample]:
    outcomes = attack.parse(bundle.read_bytes(), "enterprise-attack", bundle.name).outcomes
    found = (technique_example(each.event) for each in outcomes if isinstance(each, EncodedEvent))
    return [example for example in found if isinstance(example, TechniqueExample)]


if __name__ == "__main__":
    main()
