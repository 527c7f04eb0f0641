"""The nearest examples that name techniques, by the stems of words. Nothing is trained: an index is its examples.

    text ──TF-IDF──> similarity to each example    ──best three of a technique──┐
                └──> similarity to each technique: the mean of its examples  ───┴──> score ──threshold──> techniques

The score of a technique is 1, 0.3 and 0.2 times the cosine similarities of its three nearest examples, plus twice
that of its mean, where its own description counts half as much as all of its examples together: between 0 and 3.5.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from schemas.errors import BadData
from schemas.journal import in_holdout, key_hash
from serving.techniques.examples import TechniqueExample
from serving.techniques.words import stems

NEAREST = (1.0, 0.3, 0.2)
"""Weights of the nearest examples of a technique."""
MEAN = 2.0
"""Weight of the mean of a technique."""
DESCRIPTION = 0.5
"""Weight of the description of a technique in its mean, against that of its other examples together."""
CANDIDATES = 300
"""Nearest examples of a text from which its techniques are taken."""
BATCH = 256
PRECISION = 0.7
"""Share of right techniques, on examples in the holdout, from which a technique is said."""
MIN_HELD_OUT = 30
"""Held-out examples that a threshold needs."""
MAX_HELD_OUT = 600


class Neighbour(msgspec.Struct, frozen=True):
    """An example that an answer rests on, and its cosine similarity, 0 to 1."""

    key: str
    text: str
    feed: str
    release: str
    similarity: float


class FoundTechnique(msgspec.Struct, frozen=True):
    """A technique of a text.

    Attributes:
        id, name: Of the technique; the name is empty if no feed gave its description.
        score: See the module; more is more certain.
        examples: Those it rests on, nearest first.
    """

    id: str
    name: str
    score: float
    examples: tuple[Neighbour, ...]


class Threshold(msgspec.Struct, frozen=True):
    """The score from which a technique is said.

    Attributes:
        score: The threshold.
        precision: Share of the techniques said that are right, on held-out examples whose texts the index of this
            measurement did not have; 0 if there are too few of them, and then nothing is said.
        recall: Share of the techniques of those examples that are said.
        examples: How many there were.
    """

    score: float
    precision: float
    recall: float
    examples: int


class TechniqueIndex:
    """An index over examples. Several threads may use it.

    Args:
        examples: At least one.

    Raises:
        BadData: There are no examples, or they have no words.
    """

    def __init__(self, examples: Sequence[TechniqueExample]) -> None:
        if not examples:
            raise BadData("no example names a technique: fetch ATT&CK first (`sx9 fetch --feed attack-enterprise`)")
        # 150 MB and two seconds, which a server does without until it has examples
        from sklearn.feature_extraction.text import TfidfVectorizer

        self._examples = list(examples)
        self._vectorizer = TfidfVectorizer(analyzer=stems, sublinear_tf=True, dtype=np.float32)
        try:
            self._features = self._vectorizer.fit_transform([example.text for example in examples])
        except ValueError as error:
            raise BadData(f"{len(examples)} examples have no words ({error})") from error
        self._ids = sorted({technique for example in examples for technique in example.techniques})
        self._column = {technique: i for i, technique in enumerate(self._ids)}
        self._means = self._technique_means()
        self._names = {e.techniques[0]: e.subject for e in examples if e.key.startswith("technique:")}

    def __len__(self) -> int:
        """How many examples it has."""
        return len(self._examples)

    @property
    def techniques(self) -> dict[str, str]:
        """Id -> name of all techniques; empty for one without a description."""
        return {technique: self._names.get(technique, "") for technique in self._ids}

    def nearest(self, texts: Sequence[str], k: int = 10, examples: int = 3) -> list[list[FoundTechnique]]:
        """The techniques of texts that score best, without any threshold.

        Args:
            texts: May be empty.
            k: Techniques of a text, at most.
            examples: Examples of a technique, at most.

        Returns:
            Of each text, best first; none for a text without a known word.
        """
        found: list[list[FoundTechnique]] = []
        for start in range(0, len(texts), BATCH):
            features = self._vectorizer.transform(texts[start : start + BATCH])
            similar = (features @ self._features.T).tocsr()
            to_means = (features @ self._means.T).toarray()
            found += [
                self._of_text(similar.indices[slice(*row)], similar.data[slice(*row)], to_means[i], k, examples)
                for i, row in enumerate(zip(similar.indptr[:-1], similar.indptr[1:], strict=True))
            ]
        return found

    def _of_text(self, rows: Any, similarities: Any, to_means: Any, k: int, examples: int) -> list[FoundTechnique]:
        if len(rows) > CANDIDATES:
            best = np.argpartition(-similarities, CANDIDATES)[:CANDIDATES]
            rows, similarities = rows[best], similarities[best]
        order = np.lexsort((rows, -similarities))
        of_technique: defaultdict[str, list[tuple[int, float]]] = defaultdict(list)
        for i in order:
            for technique in self._examples[rows[i]].techniques:
                if len(of_technique[technique]) < max(len(NEAREST), examples):
                    of_technique[technique].append((int(rows[i]), float(similarities[i])))
        scores = {
            technique: MEAN * float(to_means[self._column[technique]])
            + sum(weight * similarity for weight, (_, similarity) in zip(NEAREST, near, strict=False))
            for technique, near in of_technique.items()
        }
        ranked = sorted(scores, key=lambda technique: (-scores[technique], technique))[:k]
        return [self._found(name, scores[name], of_technique[name][:examples]) for name in ranked]

    def _found(self, technique: str, score: float, near: Sequence[tuple[int, float]]) -> FoundTechnique:
        neighbours = tuple(
            Neighbour(example.key, example.text, example.feed, example.release, similarity)
            for example, similarity in ((self._examples[row], similarity) for row, similarity in near)
        )
        return FoundTechnique(technique, self._names.get(technique, ""), score, neighbours)

    def _technique_means(self) -> Any:
        """(techniques, features): the direction of each technique."""
        from scipy.sparse import csr_matrix
        from sklearn.preprocessing import normalize

        sums = {}
        for described in (False, True):
            pairs = [
                (self._column[technique], row)
                for row, example in enumerate(self._examples)
                if example.key.startswith("technique:") is described
                for technique in example.techniques
            ]
            columns, rows = zip(*pairs, strict=True) if pairs else ((), ())
            shape = (len(self._ids), len(self._examples))
            members = csr_matrix((np.ones(len(pairs), np.float32), (columns, rows)), shape=shape)
            sums[described] = normalize(members @ self._features)
        return normalize(sums[False] + DESCRIPTION * sums[True])


def calibrate(examples: Sequence[TechniqueExample], precision: float = PRECISION) -> Threshold:
    """The score from which techniques are right often enough, on the examples in the holdout.

    They are the texts of procedures. The index of the measurement has neither them nor any equal text.

    Args:
        examples: Of an index.
        precision: Wanted share of right techniques among those said, over 0 to 1.

    Returns:
        The lowest score that reaches it; one that nothing reaches, with precision 0, if no score does or if there
        are fewer than `MIN_HELD_OUT` such examples.
    """
    held = [e for e in examples if e.key.startswith("relationship:") and in_holdout(key_hash(e.key))][:MAX_HELD_OUT]
    texts = {example.text for example in held}
    others = [example for example in examples if example.text not in texts]
    none = Threshold(float("inf"), 0.0, 0.0, len(held))
    if len(held) < MIN_HELD_OUT or not others:
        return none
    ranked = TechniqueIndex(others).nearest([example.text for example in held], 3, 0)
    found = ((each, example) for example, row in zip(held, ranked, strict=True) for each in row)
    pairs = sorted(((each.score, each.id in example.techniques) for each, example in found), reverse=True)
    wanted = sum(len(example.techniques) for example in held)
    right = np.cumsum([is_right for _, is_right in pairs])
    reached = [i for i in range(len(pairs)) if right[i] >= precision * (i + 1)]
    if not reached or reached[-1] + 1 < MIN_HELD_OUT // 3:
        return none
    last = reached[-1]
    return Threshold(pairs[last][0], float(right[last] / (last + 1)), float(right[last] / wanted), len(held))
