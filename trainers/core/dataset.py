"""The training set and the holdout of a run, from a trigger and the journal.

    windows   ──> still current at the trigger ──> not holdout, not a text of the holdout ───┐
    rehearsal ──> not superseded by the windows ─────────────────────────────────────────────┴──> training set
    holdout_old, holdout_recent ──> latest per key, no text that an ancestor was trained on ────> holdout

The side of a key never changes (`schemas.journal.held_out`). Feeds also repeat a text under other keys. Such a text
stays on the side where it came first: a holdout example is dropped if its text was trained on earlier, and a
training example is dropped if its text is in the holdout.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from schemas.errors import Corrupt
from schemas.journal import Example, held_out
from schemas.recipes.base import RecipeConfig
from schemas.windows import Trigger

OffsetExample = tuple[int, Example]
"""A journal offset and the example at this offset."""


class Dataset(msgspec.Struct, frozen=True, kw_only=True):
    """The examples of a run, each part in order of offset.

    Attributes:
        fresh: Training examples of the windows; no ancestor was trained on them.
        rehearsal: Older training examples to mix in.
        old: Holdout examples from before the first window.
        recent: Holdout examples from within the windows.
        context: All examples that are current at the trigger, holdout included; only for recipes with
            `NEEDS_GRAPH_CONTEXT`.
        dropped: Why a training example of the windows is not among the fresh ones -> how many: `superseded` or
            `retracted` before its turn, `holdout-text`. Together with the fresh ones these are all of them.
        left_out: The number of new examples of a batch call beyond its `max_examples`.
        leaks: The number of examples that were dropped because the other side has their text.
    """

    fresh: tuple[OffsetExample, ...] = ()
    rehearsal: tuple[OffsetExample, ...] = ()
    old: tuple[OffsetExample, ...] = ()
    recent: tuple[OffsetExample, ...] = ()
    context: tuple[OffsetExample, ...] = ()
    dropped: dict[str, int] = {}
    left_out: int = 0
    leaks: int = 0

    @property
    def train(self) -> tuple[OffsetExample, ...]:
        """All training examples."""
        return self.fresh + self.rehearsal

    @property
    def taxonomies(self) -> tuple[str, ...]:
        """The taxonomies of the labels of the training examples, sorted."""
        return tuple(sorted({example.taxonomy for _, example in self.train if example.taxonomy}))

    @property
    def newest_event_ms(self) -> int:
        """Broker time of the newest event among the fresh examples, ms since 1970; 0 if there are none."""
        return max((example.source.timestamp_ms for _, example in self.fresh), default=0)


def run_id(data: Dataset, labels: Sequence[str], parent: str, config: RecipeConfig) -> str:
    """Identify a run: 32 hex digits, equal for equal examples, labels, parent and configuration.

    Args:
        data: The examples.
        labels: The labels that the model must know.
        parent: Identifies the version to start from; empty for none.
        config: Of the recipe.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in (data.train, data.old + data.recent, data.context):
        digest.update(b"|".join(f"{offset}:{example.key}:{example.hash}".encode() for offset, example in part))
        digest.update(b"\n")
    digest.update(repr((tuple(labels), parent, config)).encode())
    return digest.hexdigest()


def named_offsets(trigger: Trigger) -> tuple[int, ...]:
    """The journal offsets that a trigger lists individually: rehearsal and holdout."""
    return trigger.rehearsal + trigger.holdout_old + trigger.holdout_recent


def build(
    trigger: Trigger,
    window: Sequence[OffsetExample],
    named: Mapping[int, Example],
    *,
    later: Mapping[str, Example] = {},
    trained_texts: Collection[int] = frozenset(),
    context: Sequence[OffsetExample] = (),
) -> Dataset:
    """Build the dataset of the run that a trigger asks for.

    Args:
        trigger: The decision to retrain.
        window: All examples of its windows in order of offset, including retractions and holdout, without
            redeliveries.
        named: Offset -> example, for each of `named_offsets(trigger)`.
        later: Key -> its latest example between the end of the windows and the trigger, for keys of the windows: a
            run is bounded, and what it takes may have been superseded meanwhile.
        trained_texts: The `text_hash` of each holdout text that a training example from before the windows has too.
        context: The value of `Dataset.context`.

    Returns:
        The dataset. It is empty if the windows and the lists of the trigger are.

    Raises:
        Corrupt: The number of training examples in a window differs from that in the trigger.
    """
    _check_counts(trigger, window)
    latest = _latest_by_key(window)
    named_holdout = _named_holdout(trigger, named)
    holdout = [each for each in named_holdout if not _has_text_in(each, trained_texts)]
    candidates = [each for each in latest.values() if _is_training_example(each[1]) and each[1].key not in later]
    clean = _without_texts_of(holdout, candidates)
    older = [
        (offset, named[offset])
        for offset in trigger.rehearsal
        if named[offset].key not in latest.keys() | later.keys()
    ]
    rehearsal_candidates = [each for each in older if _is_training_example(each[1])]
    rehearsal = _without_texts_of(holdout, rehearsal_candidates)
    dropped_from_training = len(candidates) - len(clean) + len(rehearsal_candidates) - len(rehearsal)
    recent = set(trigger.holdout_recent)
    return Dataset(
        fresh=tuple(sorted(clean)),
        rehearsal=tuple(sorted(rehearsal)),
        old=tuple(sorted(each for each in holdout if each[0] not in recent)),
        recent=tuple(sorted(each for each in holdout if each[0] in recent)),
        context=tuple(context),
        dropped=_dropped(window, latest, later, clean),
        leaks=len(named_holdout) - len(holdout) + dropped_from_training,
    )


def split(
    examples: Iterable[Example],
    max_examples: int,
    seed: int,
    *,
    known: Collection[str] = frozenset(),
) -> Dataset:
    """Split examples into a training set and a holdout, for a run without a journal.

    Args:
        examples: In order of arrival; their positions become the offsets. Of each key, the latest one counts.
        max_examples: If there are more fresh training examples than this, they are sampled. The sample depends on
            the seed and the keys only.
        seed: Of the sample.
        known: The `example_fingerprint` of each example that an ancestor was trained or evaluated on. These become
            the rehearsal and the old holdout.
    """
    latest = _latest_by_key(enumerate(examples))
    holdout = [each for each in latest.values() if _is_holdout_example(each[1])]
    candidates = [each for each in latest.values() if _is_training_example(each[1])]
    clean = _without_texts_of(holdout, candidates)
    fresh, rehearsal = _partition_by_known(clean, known)
    recent, old = _partition_by_known(holdout, known)
    return Dataset(
        fresh=_sample(fresh, max_examples, f"{seed}:0"),
        rehearsal=tuple(sorted(rehearsal)),
        old=tuple(sorted(old)),
        recent=tuple(sorted(recent)),
        context=tuple(sorted(each for each in latest.values() if not each[1].retracted)),
        left_out=max(0, len(fresh) - max_examples),
        leaks=len(candidates) - len(clean),
    )


def example_fingerprint(example: Example) -> str:
    """16 hex digits that identify the key and the content of an example."""
    return hashlib.blake2b(f"{example.key}\n{example.hash}".encode(), digest_size=8).hexdigest()


def text_hash(text: str) -> int:
    """63 bits that are equal for texts that differ in case and white space only.

    >>> text_hash("Mimikatz  dumps LSASS. ") == text_hash("mimikatz dumps lsass.")
    True
    """
    normal = " ".join(text.lower().split())
    return int.from_bytes(hashlib.blake2b(normal.encode(), digest_size=8).digest(), "big") >> 1


def _check_counts(trigger: Trigger, window: Sequence[OffsetExample]) -> None:
    for span in trigger.spans:
        found = sum(span.start <= offset < span.end and _is_training_example(example) for offset, example in window)
        if found != span.examples:
            raise Corrupt(
                f"journal of {trigger.model}, offsets {span.start} to {span.end}: {found} training examples, but "
                f"trigger {trigger.id} counted {span.examples}; this is not the journal that the trigger was "
                "made from: point SX9_KAFKA_BOOTSTRAP at the one that is"
            )


def _dropped(
    window: Sequence[OffsetExample],
    latest: Mapping[str, OffsetExample],
    later: Mapping[str, Example],
    clean: Sequence[OffsetExample],
) -> dict[str, int]:
    """The value of `Dataset.dropped`."""
    kept = {offset for offset, _ in clean}
    dropped: dict[str, int] = {}
    for offset, example in window:
        if not _is_training_example(example) or offset in kept:
            continue
        newest = later.get(example.key, latest[example.key][1])
        reason = "retracted" if newest.retracted else "holdout-text" if newest is example else "superseded"
        dropped[reason] = dropped.get(reason, 0) + 1
    return dict(sorted(dropped.items()))


def _named_holdout(trigger: Trigger, named: Mapping[int, Example]) -> list[OffsetExample]:
    """The holdout that a trigger lists: the latest example of each key, unless it is a retraction."""
    latest = _latest_by_key((offset, named[offset]) for offset in trigger.holdout_old + trigger.holdout_recent)
    return [each for each in latest.values() if _is_holdout_example(each[1])]


def _latest_by_key(examples: Iterable[OffsetExample]) -> dict[str, OffsetExample]:
    """Key -> its latest example. Retractions are included, since they supersede earlier examples too."""
    latest: dict[str, OffsetExample] = {}
    for offset, example in examples:
        if example.key not in latest or latest[example.key][0] < offset:
            latest[example.key] = (offset, example)
    return latest


def _partition_by_known(
    examples: Iterable[OffsetExample], known: Collection[str]
) -> tuple[list[OffsetExample], list[OffsetExample]]:
    """The examples that are new, and those that an ancestor had."""
    new: list[OffsetExample] = []
    seen: list[OffsetExample] = []
    for each in examples:
        (seen if example_fingerprint(each[1]) in known else new).append(each)
    return new, seen


def _without_texts_of(holdout: Iterable[OffsetExample], examples: Iterable[OffsetExample]) -> list[OffsetExample]:
    """The examples whose text no holdout example has."""
    hashes = {text_hash(example.text) for _, example in holdout if example.text}
    return [each for each in examples if not _has_text_in(each, hashes)]


def _has_text_in(offset_example: OffsetExample, hashes: Collection[int]) -> bool:
    text = offset_example[1].text
    return bool(text) and text_hash(text) in hashes


def _is_training_example(example: Example) -> bool:
    return not example.retracted and not held_out(example)


def _is_holdout_example(example: Example) -> bool:
    return not example.retracted and held_out(example)


def _sample(examples: Sequence[OffsetExample], count: int, salt: str) -> tuple[OffsetExample, ...]:
    def rank(offset_example: OffsetExample) -> bytes:
        return hashlib.blake2b(f"{salt}:{offset_example[1].key}".encode(), digest_size=8).digest()

    return tuple(sorted(heapq.nsmallest(count, examples, key=rank)))
