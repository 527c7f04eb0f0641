"""Real change points: sentences of ATT&CK procedures, new ones of a later release, and Nuclei templates after them.

The embedding is a plain one, counts of hashed words, so that no model is needed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from schemas.journal import key_hash
from streams.core.detectors.input_drift import MAX_REFERENCE, InputDrift
from trainers.core.projection import project

SHARED = Path(__file__).resolve().parents[5] / "shared/feeds"
THRESHOLD, WINDOW, EVERY = 0.2, 200, 50  # the defaults of distilbert-mitre

pytestmark = pytest.mark.skipif(
    not (SHARED / "attack").is_dir(), reason="there is no ../shared/feeds with real content beside the checkout"
)


def procedures(release: str) -> dict[str, str]:
    """Id -> text of each `uses` relationship of a release, in an order that the hash of the id decides."""
    bundle = json.loads((SHARED / f"attack/enterprise-attack-{release}.json").read_bytes())
    texts = {
        one["id"]: one["description"]
        for one in bundle["objects"]
        if one.get("relationship_type") == "uses" and one.get("description")
    }
    return {name: texts[name] for name in sorted(texts, key=key_hash)}


def templates() -> Iterator[str]:
    """Name and description of Nuclei templates."""
    for path in sorted((SHARED / "nuclei-templates/http").rglob("*.yaml"), key=lambda path: key_hash(path.name)):
        text = path.read_text(encoding="utf-8", errors="replace")
        said = re.findall(r"^  (?:name|description): *\|?\n? *(.+)$", text, re.MULTILINE)
        yield " ".join(said)


def projected(text: str) -> tuple[float, ...]:
    counts = np.zeros(512)
    for word in re.findall(r"[a-z]+", re.sub(r"\(Citation:.*?\)", "", text).lower()):
        counts[key_hash(word) % len(counts)] += 1
    return project(np.sqrt(counts))


def highest(detector: InputDrift, texts: list[str]) -> float:
    """The highest of the measurements after every few texts, of full windows."""
    found = [0.0]
    for step, text in enumerate(texts, 1):
        detector.update(projected(text))
        if step % EVERY == 0 and detector.support >= WINDOW:
            found.append(detector.statistic)
    return max(found)


def test_a_release_is_no_drift_of_the_inputs_and_templates_are() -> None:
    known, later = procedures("15.1"), procedures("17.1")
    new = [text for name, text in later.items() if name not in known]
    assert len(new) > 1_000
    reference, *rest = (list(islice(part, 2_000)) for part in (known.values(), new))
    detector = InputDrift(size=WINDOW)
    detector.learn([projected(text) for text in reference[:MAX_REFERENCE]])
    assert highest(detector, reference[MAX_REFERENCE:]) < THRESHOLD / 2
    assert highest(detector, rest[0]) < THRESHOLD
    assert highest(detector, list(islice(templates(), WINDOW))) >= THRESHOLD
