"""Replays the history: publishes each chunk, waits for its effects, then advances the time.

    for each chunk:  publish ──> wait until the events are in the journals
                             ──> wait for the models whose cool-down ends by the chunk's date
                             ──> a tick with that date in every journal

Time is simulated: ticks carry the dates of the history. During a cool-down only a manual request can retrain a
model, so it makes no difference when in that time its trainer answers. The history goes on meanwhile, the other
models train at the same time, and each model has the same triggers on a slow machine as on a fast one. Within a
chunk, events from different topics enter a journal in no fixed order, so two demos may differ in one trigger.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition

from schemas.errors import BadConfiguration, BadRecord, RetryLater
from schemas.journal import Tick
from schemas.models import MODELS
from schemas.topics import JOURNAL, partition_of
from streams.app.replay import fold_from, load_state
from streams.app.wiring import TOPICS_OF, Role, group_of
from streams.core.fold import State
from streams.fetchers.base.runner import fetch
from streams.settings import Settings
from sx9_ml_models.decisions import DecisionFollower
from sx9_ml_models.demo import templates
from sx9_ml_models.demo.display import Display
from sx9_ml_models.demo.history import Chunk, publish_chunk, published_hashes
from sx9_ml_models.processes import Children
from sx9_ml_models.render import day
from transport.admin import admin_client, committed_offsets
from transport.kafka import RecordProducer, consumer, end_offset, producer
from transport.retry import retry
from transport.topics import partitions_of

STEP_MS = 401 * 86_400_000
"""Time after the templates. With it the demo's cool-down of `distilbert-mitre` is over."""
POLL_S = 0.2
WAIT_TIMEOUT_S = 900.0
"""Longest wait for one effect."""
MAX_RESTARTS = 8
"""The demo fails when a process was started more often than this."""


class Player:
    """Publishes events, waits for what follows from them, and advances the time of the journals.

    Args:
        bootstrap: host:port of Kafka.
        settings: Those of the demo.
        children: The running processes of the system; those that exit while the player waits are restarted.
        display: Shows progress and decisions.
        reader: A consumer without a group.
        follower: Gets the decisions that are shown.
        ticks: Writes to the journals.
        admin: Reads the offsets of the roles.
    """

    def __init__(
        self,
        bootstrap: str,
        settings: Settings,
        children: Children,
        display: Display,
        reader: KafkaConsumer,
        follower: DecisionFollower,
        ticks: RecordProducer,
        admin: KafkaAdminClient,
    ) -> None:
        self._bootstrap = bootstrap
        self._settings = settings
        self._children = children
        self._display = display
        self._reader = reader
        self._follower = follower
        self._ticks = ticks
        self._admin = admin
        self._states = {model: load_state(reader, model, settings.snapshots_dir) for model in MODELS}

    def play(self, chunks: Sequence[Chunk]) -> None:
        """Replay the history. Events that were published before are skipped.

        Raises:
            RetryLater: Kafka does not answer, or an effect does not come within `WAIT_TIMEOUT_S`.
        """
        self._display.set_total(sum(len(chunk.events) for chunk in chunks))
        for model in MODELS:
            self._wait(partial(self._has_records, model), f"the rules in the journal of {model}")
        published = published_hashes(self._reader)
        for chunk in chunks:
            self._display.set_title(f"ATT&CK as of {day(chunk.time_ms)[:7]}")
            publish_chunk(chunk, self._bootstrap, published)
            self._advance_to(chunk.time_ms)
            self._display.advance(len(chunk.events))
        self._display.set_title("ATT&CK history replayed")

    def fetch_templates(self, option: str, end_ms: int) -> None:
        """Fetch the Nuclei templates, after the history. A failure is printed, and the demo goes on without them.

        Their severities are new labels, which trip a retrain once the time has advanced past the cool-down.

        Args:
            option: See `sx9_ml_models.demo.templates.templates_source`.
            end_ms: End of the history, milliseconds since 1970.

        Raises:
            RetryLater: As `play`.
        """
        if option == "none":
            return
        source = templates.templates_source(option)
        if source is None:
            self._display.print(f"Nuclei templates: skipped, there is no {templates.SHARED_FOLDER} and no network")
            return
        on_progress = self._display.add_bar("Nuclei templates")
        try:
            report = fetch(templates.FEED, source, self._settings, self._bootstrap, on_progress=on_progress)
        except (BadRecord, RetryLater, BadConfiguration) as error:
            self._display.print(f"Nuclei templates: skipped: {error}")
            return
        self._display.print(f"Nuclei templates: {report.published} published")
        self._advance_to(end_ms + STEP_MS)

    def wait_for_answers(self) -> None:
        """Wait until every trigger is answered.

        Raises:
            RetryLater: As `play`.
        """
        for model in MODELS:
            self._wait(partial(self._may_retrain, model), f"the trainer of {model} to answer a trigger")

    def wait_for_roles(self, *roles: Role) -> None:
        """Wait until roles have processed everything that is on their topics now.

        Raises:
            RetryLater: As `play`.
        """
        for role in roles:
            partitions = partitions_of(self._reader, TOPICS_OF[role])
            ends = {partition: end_offset(self._reader, *partition) for partition in partitions}
            self._wait(partial(self._has_processed, role, ends), f"the {role} role to process its topics")

    def _advance_to(self, time_ms: int) -> None:
        """Write a tick to each journal, after all events and the answers that the tick has to come after."""
        self.wait_for_roles("journal")
        for model in MODELS:
            self._wait(partial(self._may_retrain, model, time_ms), f"the trainer of {model} to answer a trigger")
        for model in MODELS:
            if self._states[model].now_ms < time_ms:
                self._ticks.send(JOURNAL.name, Tick(time_ms), key=model, partition=partition_of(model))
        self._ticks.flush()

    def _has_records(self, model: str) -> bool:
        return self._read_journal(model).next_offset > 0

    def _may_retrain(self, model: str, time_ms: float = math.inf) -> bool:
        """Whether a model has no open trigger, or is still in its cool-down at a time."""
        state = self._read_journal(model)
        return state.open_trigger is None or time_ms < state.last_trigger_ms + state.policy.cooldown_s * 1000

    def _has_processed(self, role: Role, ends: Mapping[TopicPartition, int]) -> bool:
        committed = retry(lambda: committed_offsets(self._admin, group_of(role)))
        return all(committed.get(partition, 0) >= end for partition, end in ends.items())

    def _read_journal(self, model: str) -> State:
        """The state of the fold after all records that are in the journal now."""
        for state, _ in fold_from(self._reader, self._states[model]):
            self._states[model] = state
        return self._states[model]

    def _wait(self, is_done: Callable[[], bool], awaited: str) -> None:
        """Wait for an effect; meanwhile show decisions and restart processes that exit."""
        deadline = time.monotonic() + WAIT_TIMEOUT_S
        while not is_done():
            for decision in self._follower.poll(int(POLL_S * 1000)):
                self._display.on_decision(decision)
            for line in self._children.restart_exited():
                self._display.print(line)
            too_many = [child.name for child in self._children.all if child.starts > MAX_RESTARTS]
            if too_many or time.monotonic() > deadline:
                cause = (
                    f"{', '.join(too_many)} exited {MAX_RESTARTS} times" if too_many
                    else f"nothing within {WAIT_TIMEOUT_S:.0f} s"
                )  # fmt: skip
                raise RetryLater(
                    f"the demo waited for {awaited}, but {cause}: see the logs in {self._settings.logs_dir}, then "
                    "continue with `sx9 demo --continue`"
                )


@contextlib.contextmanager
def open_player(bootstrap: str, settings: Settings, children: Children, display: Display) -> Iterator[Player]:
    """A player with its Kafka clients, while the block runs; see `Player`.

    Raises:
        RetryLater: Kafka does not answer.
    """
    reader, follower_reader, writer = consumer(bootstrap), consumer(bootstrap), producer(bootstrap)
    admin = admin_client(bootstrap)
    try:
        follower = DecisionFollower(follower_reader)
        yield Player(bootstrap, settings, children, display, reader, follower, RecordProducer(writer), admin)
    finally:
        admin.close()
        writer.close(timeout=5)
        follower_reader.close()
        reader.close()
