"""The journal: per model, one totally ordered log of everything that can influence its retraining.

    example    what the model can learn from one event
    tick       the current time
    manual     a request to retrain
    policy     the rules of retraining for the records that follow
    score      scores and losses of the champion on new examples
    promoted   the version of a trigger became the champion
    refused    the version of a trigger did not become the champion
    champion   a person made another version the champion
    lineage    a person put versions that were trained again without some examples in place of those that served
    held       an example that is set aside: it is in quarantine
    quarantine-verdict    a person releases or purges what is in quarantine
    quarantine-settled    a verdict was carried out for one source partition

Windows, drift scores and triggers are a pure fold over these records (`streams.core.fold`).
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Literal

import msgspec

from schemas.fetch_totals import FetchTotals
from schemas.policy import Policy
from schemas.scores import Evaluation

HOLDOUT_PER_MILLE = 100
"""Number of entity keys in a thousand that are never trained on. It is a constant, so that the side of an example
never changes."""


class Source(msgspec.Struct, frozen=True, omit_defaults=True):
    """The position of the event that a record was made from, by which a redelivery is recognized.

    `topic_id` is the id that Kafka gave the topic: one that is deleted and made again has another, and its offsets
    begin anew. It is empty in older records, as `feed` is, the name of the feed that published the event.

    `fetch` says what the fetch that published the event had in all. `held` is the journal offset of the `held`
    record that the record was made from, if it was in quarantine; -1: it was not.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int = 0
    topic_id: str = ""
    feed: str = ""
    fetch: FetchTotals | None = None
    held: int = -1

    @property
    def topic_partition(self) -> str:
        """The topic partition of the event, as `topic/number`."""
        return f"{self.topic}/{self.partition}"


SeenOffsets = dict[str, int]
"""The events of one topic partition in a journal: id of the topic -> highest offset; the present id comes last."""


def source_partition(source: Source) -> str:
    """The topic partition of an event, under which readers remember its `SeenOffsets`.

    What comes out of quarantine is recognized by where it was held: it is remembered apart.

    >>> source_partition(Source("threat.techniques.v1", 3, 17)), source_partition(Source("t", 3, 17, held=40))
    ('threat.techniques.v1/3', 't/3/held')
    """
    name = f"{source.topic}/{source.partition}"
    return name if source.held < 0 else f"{name}/held"


def seen_offset(seen: SeenOffsets, topic_id: str) -> int:
    """The highest event offset of a topic that a journal holds; -1 if it holds none.

    >>> seen_offset({"a": 7}, "a"), seen_offset({"a": 7}, "b"), seen_offset({"": 7}, "b")
    (7, -1, 7)
    """
    return seen.get(_topic_of(seen, topic_id), -1)


def is_redelivery(source: Source, seen: SeenOffsets) -> bool:
    """Whether a journal record repeats an event that an earlier record of the journal was made from.

    Args:
        source: The event of the record.
        seen: Of the topic partition of the event; the event is added to it.
    """
    topic_id = source.topic_id
    if topic_id not in seen:
        topic_id = _topic_of(seen, topic_id)
        if not topic_id and source.topic_id and seen:
            seen[source.topic_id] = seen.pop("")
            topic_id = source.topic_id
    offset = source.offset if source.held < 0 else source.held
    if offset <= seen.get(topic_id, -1):
        return True
    seen[topic_id] = offset
    return False


def _topic_of(seen: SeenOffsets, topic_id: str) -> str:
    """The key of a topic. Records without an id are of the topic that is there at the time."""
    if topic_id in seen or not seen:
        return topic_id
    return "" if "" in seen else topic_id or list(seen)[-1]


class Instruction(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A question to a language model, and the answer: `{"instruction", "input", "output"}`."""

    instruction: str
    input: str = ""
    output: str


class Node(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A node of the threat graph: `id` and `kind` as in `schemas.events.NodeRef`, `text` its description."""

    id: str
    kind: str
    name: str = ""
    text: str = ""


class Link(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A typed edge of the threat graph, between the ids of two nodes; the kinds are those of its ends."""

    source: str
    source_kind: str
    relation: str
    target: str
    target_kind: str


class Example(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="example"):
    """What one model can learn from one event: a text, instructions, a node or a link.

    Attributes:
        source: The event.
        key: Entity key; a later example with the same key supersedes the earlier.
        hash: Hash of the content, 16 hex digits.
        group: Examples of one group are on the same side of the holdout; empty: the key is its own group.
        text: Input of `distilbert-mitre`.
        instructions: Questions and answers for `phi3-mitre-lora`.
        node, link: A node or a link of the graph of `gnn-threat`; one of the two.
        labels: Its tactics, or its severity (`severity:high`), or both; of a link `<relation>:<kind of its
            source>`. Sorted.
        taxonomy: Taxonomy of the labels (`enterprise-attack/15.1`).
        retracted: The feed removed or revoked the entity: earlier examples with this key no longer count.
        observed_ms: CloudEvents `time` of the event, for people; the fold does not read it.
    """

    source: Source
    key: str
    hash: str
    group: str = ""
    text: str = ""
    instructions: tuple[Instruction, ...] = ()
    node: Node | None = None
    link: Link | None = None
    labels: tuple[str, ...] = ()
    taxonomy: str = ""
    retracted: bool = False
    observed_ms: int = 0


class Tick(msgspec.Struct, frozen=True, tag="tick"):
    """The current time, `time_ms` since 1970 UTC. The fold knows time from ticks alone."""

    time_ms: int


class Manual(msgspec.Struct, frozen=True, kw_only=True, tag="manual"):
    """A request to retrain; `request` is a unique id, so that a redelivery has no effect."""

    request: str
    reason: str
    time_ms: int


class PolicyChange(msgspec.Struct, frozen=True, tag="policy"):
    """The policy for the records that follow."""

    policy: Policy


class ExampleScore(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a version does on one example.

    Attributes:
        offset: Journal offset of the example.
        losses: Task -> loss, 0 or more: smaller is better.
        projection: A fixed random projection of the embedding, or for `gnn-threat` numbers of the ends of a link.
    """

    offset: int
    losses: dict[str, float] = {}
    projection: tuple[float, ...] = ()


class Score(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="score"):
    """Scores of the champion on new examples before any version is trained on them (prequential evaluation).

    Attributes:
        trigger: The trigger whose new examples were scored by its run; empty: `each` has the examples.
        version: The champion.
        examples: Number of examples.
        scores: Read from older records and no longer written; see `evaluation`.
        time_ms: When, ms since 1970 UTC; for people, the fold does not read it.
        evaluation: The scores on all of them, of a trigger.
        each: The examples, in order of offset; the same example and version give the same.
        reference: `each` are not new but of the holdout, from before: what new ones are compared with.
    """

    trigger: str
    version: str
    examples: int
    scores: dict[str, float] = {}
    time_ms: int = 0
    evaluation: Evaluation = {}
    each: tuple[ExampleScore, ...] = ()
    reference: bool = False


class Promoted(msgspec.Struct, frozen=True, kw_only=True, tag="promoted"):
    """The result of a trigger: `version` is the champion from here on."""

    trigger: str
    version: str
    time_ms: int


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag="refused"):
    """The result of a trigger: the gate refused the candidate; `reason` gives the comparison that failed."""

    trigger: str
    version: str
    reason: str
    time_ms: int


class ChampionChange(msgspec.Struct, frozen=True, kw_only=True, tag="champion"):
    """A person made a version the champion: the next run starts from it.

    Attributes:
        version: The version that serves from here on.
        action: `promoted`, or `rolled-back` to an earlier version.
        by, why: Who, and the reason.
        request: A unique id, so that a redelivery has no effect.
        time_ms: When, ms since 1970 UTC; for people, the fold does not read it.
    """

    version: str
    action: Literal["promoted", "rolled-back"]
    by: str
    why: str
    request: str
    time_ms: int


class Answered(msgspec.Struct, frozen=True):
    """An answer in a lineage that was trained again: before the record at the journal offset `offset`."""

    offset: int
    version: str
    promoted: bool


class LineageChange(msgspec.Struct, frozen=True, kw_only=True, tag="lineage"):
    """A person put versions that were trained without some examples in place of those that served.

    These examples count no more, from the beginning of the journal on, and neither do later ones like them. What an
    earlier change left out and this one does not counts again, from the beginning on, and what came in between too.

    Attributes:
        version: The version that serves from here on.
        exclusions: All that is left out from here on, also what earlier changes left out; see `schemas.exclusions`.
        lifted: What earlier changes left out and this one takes back; for people, `exclusions` decides.
        end: The records before this journal offset were folded again; those since then are pending.
        numbered_from: The versions of the lineage have numbers above it.
        answers: How the gate answered the triggers of the lineage, oldest first; at `end`, after all records.
        by, why: Who, and the reason.
        request: A unique id, so that a redelivery has no effect.
        time_ms: When, ms since 1970 UTC; for people, the fold does not read it.
    """

    version: str
    exclusions: tuple[str, ...]
    end: int
    numbered_from: int
    answers: tuple[Answered, ...]
    by: str
    why: str
    request: str
    time_ms: int
    lifted: tuple[str, ...] = ()


HoldReason = Literal["burst", "relabelled", "near-duplicates", "losses", "following"]
"""The rule that set an event aside; `following`: its feed is in quarantine already."""


class Held(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="held"):
    """An example that is set aside. No model learns from it until a person releases it.

    Attributes:
        example: The example.
        reason: Why.
        value, limit: What the rule measured, and its limit; 0 for `following`.
    """

    example: Example
    reason: HoldReason
    value: float = 0.0
    limit: float = 0.0


class QuarantineVerdict(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="quarantine-verdict"):
    """A person decides about what of a feed was set aside before this record.

    Attributes:
        feed: The feed.
        action: `release`: they become examples, in their order. `purge`: no model ever learns from them.
        keys: Only the examples with these entity keys; the others stay set aside. Empty: all.
        by, why: Who, and the reason.
        request: A unique id.
        time_ms: When, ms since 1970 UTC; for people, the fold does not read it.
    """

    feed: str
    action: Literal["release", "purge"]
    by: str
    why: str
    request: str
    time_ms: int
    keys: tuple[str, ...] = ()


class QuarantineSettled(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="quarantine-settled"):
    """A verdict was carried out for what came from one source partition.

    Attributes:
        topic, partition: The source partition.
        feed: The feed.
        verdict: Journal offset of the verdict.
        released, purged: How many examples became examples, and how many were dropped for good.
        kept: How many the verdict does not name: they were written again, after it.
    """

    topic: str
    partition: int
    feed: str
    verdict: int
    released: int = 0
    purged: int = 0
    kept: int = 0


QuarantineRecord = Held | QuarantineVerdict | QuarantineSettled
ChampionRecord = Promoted | Refused | ChampionChange | LineageChange
"""What decides which version serves."""
Record = Example | Tick | Manual | PolicyChange | Score | ChampionRecord | QuarantineRecord


def key_hash(key: str) -> int:
    """63 bits of BLAKE2b of an entity key, the same on every machine and in every process."""
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big") >> 1


def held_out(example: Example) -> bool:
    """Whether an example is in the holdout, decided by the hash of its group, so that it never changes."""
    return in_holdout(key_hash(example.group or example.key))


def in_holdout(hashed_key: int) -> bool:
    """Whether a group of examples, by its `key_hash`, is in the holdout.

    >>> in_holdout(key_hash("technique:T1059")) == in_holdout(key_hash("technique:T1059"))
    True
    """
    return hashed_key % 1000 < HOLDOUT_PER_MILLE
