"""What a trigger names, as a training set and a holdout: a function of the trigger and the journal.

    windows   ──> latest per key ──> not retracted, not holdout ──> at most `max_examples` ──┐
    rehearsal ──> not superseded by the windows ─────────────────────────────────────────────┴──> train
    holdout_old, holdout_recent ──> latest per key, no text that an ancestor trained on ────────> judge

Every key is on one side for ever (`schemas.journal.held_out`). Feeds also repeat a sentence under another
key, so a text is on the side on which it came first: a holdout example whose text was trained on earlier
isn't judged on, and a training example whose text is judged on isn't trained on.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from schemas.errors import Corrupt
from schemas.journal import Example, held_out
from schemas.windows import Trigger
from trainers.core.config import RecipeConfig

OffsetExample = tuple[int, Example]
"""A journal offset and the example there."""


class Dataset(msgspec.Struct, frozen=True, kw_only=True):
    """The examples of one training run, each part in order of offset.

    Attributes:
        fresh: Window examples to train on; nobody trained on them before.
        rehearsal: Older examples to mix in.
        old, recent: Holdout examples from before the first window, and from within the windows.
        context: All examples that stand at the end of the windows, holdout included; of recipes that want it.
        left_out: Window examples beyond `max_examples`.
        leaks: Examples dropped because the other side has their text.
    """

    fresh: tuple[OffsetExample, ...] = ()
    rehearsal: tuple[OffsetExample, ...] = ()
    old: tuple[OffsetExample, ...] = ()
    recent: tuple[OffsetExample, ...] = ()
    context: tuple[OffsetExample, ...] = ()
    left_out: int = 0
    leaks: int = 0

    @property
    def train(self) -> tuple[OffsetExample, ...]:
        """Everything to train on."""
        return self.fresh + self.rehearsal

    @property
    def taxonomies(self) -> tuple[str, ...]:
        """Where the labels of the training examples come from, sorted."""
        return tuple(sorted({example.taxonomy for _, example in self.train if example.taxonomy}))

    @property
    def newest_event_ms(self) -> int:
        """Broker time of the newest event to train on, ms since 1970; 0 where there is none."""
        return max((example.source.timestamp_ms for _, example in self.fresh), default=0)


def run_id(data: Dataset, labels: Sequence[str], parent: str, config: RecipeConfig) -> str:
    """Identifies a run: 32 hex digits, equal for equal examples, labels, parent and configuration.

    Args:
        data: What it is trained and judged on.
        labels: What it must know.
        parent: Identifies the version that it starts from; empty for none.
        config: Of the recipe.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in (data.train, data.old + data.recent, data.context):
        digest.update(b"|".join(f"{offset}:{example.key}:{example.hash}".encode() for offset, example in part))
        digest.update(b"\n")
    digest.update(repr((tuple(labels), parent, config)).encode())
    return digest.hexdigest()


def named_offsets(trigger: Trigger) -> tuple[int, ...]:
    """The journal offsets that a trigger names one by one, outside or inside its windows."""
    return trigger.rehearsal + trigger.holdout_old + trigger.holdout_recent


def build(
    trigger: Trigger,
    window: Sequence[OffsetExample],
    named: Mapping[int, Example],
    *,
    max_examples: int,
    trained_texts: Collection[int] = frozenset(),
    context: Sequence[OffsetExample] = (),
) -> Dataset:
    """The examples of the run that a trigger asks for.

    Args:
        trigger: The decision to retrain.
        window: All examples of its windows in order of offset, retractions and holdout included, second
            deliveries not.
        named: The examples at `named_offsets(trigger)`.
        max_examples: Of more window examples than this, at least 1, a sample is taken that depends on the
            trigger and the keys alone.
        trained_texts: `text_hash` of every holdout text that is also in a training example from before the
            windows.
        context: What the recipe wants beside: `Dataset.context`.

    Raises:
        Corrupt: The windows hold another number of training examples than the trigger says.
    """
    _check_counts(trigger, window)
    latest = _latest(window)
    holdout = {
        key: at
        for key, at in _latest((o, named[o]) for o in trigger.holdout_old + trigger.holdout_recent).items()
        if _to_judge(at[1])
    }
    judged = {key: at for key, at in holdout.items() if not _has_text_of(trained_texts, at)}

    candidates = [at for at in latest.values() if _to_train(at[1])]
    clean = _unlike(judged.values(), candidates)
    rehearsed = [(o, named[o]) for o in trigger.rehearsal if named[o].key not in latest and _to_train(named[o])]
    rehearsal = _unlike(judged.values(), rehearsed)
    recent = set(trigger.holdout_recent)
    return Dataset(
        fresh=_sample(clean, max_examples, f"{trigger.seed}:{trigger.number}"),
        rehearsal=tuple(sorted(rehearsal)),
        old=tuple(sorted(at for at in judged.values() if at[0] not in recent)),
        recent=tuple(sorted(at for at in judged.values() if at[0] in recent)),
        context=tuple(context),
        left_out=max(0, len(clean) - max_examples),
        leaks=len(holdout) - len(judged) + len(candidates) - len(clean) + len(rehearsed) - len(rehearsal),
    )


def _unlike(judged: Iterable[OffsetExample], placed: Iterable[OffsetExample]) -> list[OffsetExample]:
    """The examples to train on whose text none to judge on has."""
    hashes = {text_hash(example.text) for _, example in judged if example.text}
    return [at for at in placed if not _has_text_of(hashes, at)]


def _has_text_of(hashes: Collection[int], placed: OffsetExample) -> bool:
    text = placed[1].text
    return bool(text) and text_hash(text) in hashes


def text_hash(text: str) -> int:
    """63 bits that are equal for texts that differ only in case and white space.

    >>> text_hash("Mimikatz  dumps LSASS. ") == text_hash("mimikatz dumps lsass.")
    True
    """
    normal = " ".join(text.lower().split())
    return int.from_bytes(hashlib.blake2b(normal.encode(), digest_size=8).digest(), "big") >> 1


def split(
    examples: Iterable[Example],
    max_examples: int,
    seed: int,
    *,
    known: Collection[str] = frozenset(),
) -> Dataset:
    """Some examples as a set to train on and one to judge on, for a run without a journal; the latest of each key.

    Args:
        examples: In the order in which they came; their places in it are the offsets.
        max_examples: Of more to train on, a sample is taken that depends on the seed and the keys alone.
        known: `mark` of each example that an ancestor was trained or judged on: all of these are rehearsed, or old.
    """
    latest = _latest(enumerate(examples))
    judged = {key: at for key, at in latest.items() if _to_judge(at[1])}
    candidates = [at for at in latest.values() if _to_train(at[1])]
    clean = _unlike(judged.values(), candidates)
    fresh = [at for at in clean if mark(at[1]) not in known]
    return Dataset(
        fresh=_sample(fresh, max_examples, f"{seed}:0"),
        rehearsal=tuple(sorted(at for at in clean if mark(at[1]) in known)),
        old=tuple(sorted(at for at in judged.values() if mark(at[1]) in known)),
        recent=tuple(sorted(at for at in judged.values() if mark(at[1]) not in known)),
        context=tuple(sorted(at for at in latest.values() if not at[1].retracted)),
        left_out=max(0, len(fresh) - max_examples),
        leaks=len(candidates) - len(clean),
    )


def mark(example: Example) -> str:
    """16 hex digits that know an example again: its key and its content."""
    return hashlib.blake2b(f"{example.key}\n{example.hash}".encode(), digest_size=8).hexdigest()


def _check_counts(trigger: Trigger, window: Sequence[OffsetExample]) -> None:
    for span in trigger.spans:
        found = sum(span.start <= offset < span.end and _to_train(example) for offset, example in window)
        if found != span.examples:
            raise Corrupt(
                f"journal of {trigger.model}, offsets {span.start} to {span.end}: {found} training examples, but "
                f"trigger {trigger.id} counted {span.examples}; this is not the journal that the trigger was "
                "made from: point SX9_KAFKA_BOOTSTRAP at the one that is"
            )


def _latest(placed: Iterable[OffsetExample]) -> dict[str, OffsetExample]:
    """Key -> its latest example, retractions included, so that a retraction supersedes too."""
    latest: dict[str, OffsetExample] = {}
    for offset, example in placed:
        if example.key not in latest or latest[example.key][0] < offset:
            latest[example.key] = (offset, example)
    return latest


def _to_train(example: Example) -> bool:
    return not example.retracted and not held_out(example)


def _to_judge(example: Example) -> bool:
    return not example.retracted and held_out(example)


def _sample(placed: Sequence[OffsetExample], count: int, salt: str) -> tuple[OffsetExample, ...]:
    def rank(at: OffsetExample) -> bytes:
        return hashlib.blake2b(f"{salt}:{at[1].key}".encode(), digest_size=8).digest()

    return tuple(sorted(heapq.nsmallest(count, placed, key=rank)))
