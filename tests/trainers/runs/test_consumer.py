"""A trainer on a real Kafka: it answers, commits, keeps its partition, and recovers from a kill."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from kafka import KafkaAdminClient, TopicPartition
from kafka.errors import CommitFailedError, CoordinatorNotAvailableError

from schemas.codec import decode, encode
from schemas.errors import BadConfiguration, RestartRequired, RetryLater
from schemas.journal import Example, Promoted, Score
from schemas.topics import JOURNAL, TRIGGERS, VERSIONS, Topic, partition_of
from schemas.versions import VersionEvent
from schemas.windows import Trigger
from streams.local.services import settings_of
from tests.forks import Fork, Forks
from tests.trainers.runs.test_trigger_handler import World, quick
from tests.trainers.samples import MODEL, examples, trigger
from trainers.bases.resolve import Base
from trainers.core.progress import ProgressCallback, RunProgress
from trainers.runs import consumer as consumer_shell
from trainers.runs.consumer import _handle_while_polling, group_of, run_consumer
from trainers.runs.execute_run import execute
from trainers.runs.trigger_handler import TriggerHandler
from trainers.settings import TrainerSettings, load_trainer_settings
from trainers.store.manifest import verify
from trainers.store.registry import Registry
from transport import files
from transport.admin import admin_client
from transport.health import Health
from transport.kafka import RecordProducer, consumer, producer, read_range
from transport.topics import create_topics

PARTITION = TopicPartition(TRIGGERS.name, partition_of(MODEL))
TIMEOUT_S = 600.0  # a run is a process that imports torch: on a busy machine that alone takes a minute


class Shell:
    """A Kafka, folders, and trainers on them."""

    def __init__(self, bootstrap: str, path: Path, cache: Path) -> None:
        self.bootstrap = bootstrap
        self.folders = {"output_dir": path / "output", "state_dir": path / "state", "cache_dir": cache}
        self.registry = Registry(path / "output" / "models")
        self.log = path / "trainer.log"

    def settings(self, **more: Any) -> TrainerSettings:
        """Quick ones."""
        return load_trainer_settings(**(self.folders | more))

    def write(self, topic: Topic, records: Sequence[Any], partition: int) -> None:
        """Put records on a topic."""
        writer = producer(self.bootstrap)
        outbox = RecordProducer(writer)
        for record in records:
            outbox.send(topic.name, record, key=MODEL, partition=partition)
        outbox.flush()
        writer.close()

    def ask(self, *triggers: Trigger, **recipe: Any) -> None:
        """Put triggers on their topic, with a quick recipe, some of whose fields are changed."""
        self.write(TRIGGERS, [quick(asked, **recipe) for asked in triggers], PARTITION.partition)

    def read(self, topic: Topic, partition: int) -> list[Any]:
        """All records of a partition."""
        reader = consumer(self.bootstrap)
        messages = [m for some in read_range(reader, topic.name, partition, 0) for m in some]
        reader.close()
        return [decode(message.value, topic.record) for message in messages]

    def events(self) -> list[VersionEvent]:
        """What was announced."""
        return self.read(VERSIONS, 0)

    def said(self) -> list[tuple[str, str]]:
        """Version and outcome of each announcement."""
        return [(event.version, event.outcome) for event in self.events()]

    def answers(self) -> list[Any]:
        """What trainers wrote to the journal."""
        return [r for r in self.read(JOURNAL, partition_of(MODEL)) if not isinstance(r, Example)]

    def committed(self, partition: TopicPartition = PARTITION) -> int | None:
        """The group's offset in a partition."""
        member = consumer(self.bootstrap, group_id=group_of(MODEL))
        try:
            found: int | None = member.committed(partition)
        finally:
            member.close()
        return found

    @contextlib.contextmanager
    def trainer(self, **settings: Any) -> Iterator[threading.Event]:
        """A trainer in a thread; stopped and joined at the end, which raises what it raised."""
        stop = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            ended = pool.submit(run_consumer, self.settings(**settings), {}, self.bootstrap, MODEL, stop=stop)
            try:
                yield stop
            finally:
                stop.set()
            ended.result(timeout=30)

    def until(self, true: Callable[[], bool], every_s: float = 0.2) -> None:
        """Wait for something."""
        deadline = time.monotonic() + TIMEOUT_S
        while not true():
            assert time.monotonic() < deadline
            time.sleep(every_s)

    def until_answered(self, *versions: str) -> None:
        """Wait until the journal has the answers of some versions, and the offset is committed."""
        wanted = set(versions)
        self.until(lambda: wanted <= {r.version for r in self.answers() if not isinstance(r, Score)})
        self.until(lambda: self.committed() == len(self.read(TRIGGERS, PARTITION.partition)))


@contextlib.contextmanager
def trainer_process(shell: Shell, forks: Forks) -> Iterator[Fork]:
    """A trainer as a process of its own, with its runs in it; its log is `shell.log`, and it is gone at the end."""
    shell.log.parent.mkdir(parents=True, exist_ok=True)
    folders = {name: str(folder) for name, folder in shell.folders.items()}
    settings = settings_of(shell.bootstrap)
    process = forks.start("tests.flow.targets:train", shell.log, model=MODEL, settings=settings, folders=folders)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def members(admin: KafkaAdminClient) -> list[Any]:
    """The members of the trainers' group, once Kafka has given them their partitions."""
    try:
        (group,) = admin.describe_groups([group_of(MODEL)]).values()
    except CoordinatorNotAvailableError:  # nobody has asked for a group of this Kafka yet
        return []
    return group["members"] if group["group_state"] == "Stable" else []


@pytest.fixture
def shell(fresh_kafka: str, tmp_path: Path, models_cache: Path) -> Shell:
    """A Kafka whose journal has 300 examples."""
    made = Shell(fresh_kafka, tmp_path, models_cache)
    made.write(JOURNAL, examples(300), partition_of(MODEL))
    return made


@pytest.fixture
def runs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are in the process of the trainer, where torch is imported already: each is ten seconds shorter."""
    monkeypatch.setattr(consumer_shell, "TriggerHandler", functools.partial(TriggerHandler, run=execute))


def first_and_second() -> tuple[Trigger, Trigger]:
    """Triggers over that journal."""
    journal = examples(300)
    return trigger(journal, 0, 200), trigger(journal, 200, 300, number=2, parent="v0001")


@pytest.mark.usefixtures("runs_here")
def test_triggers_are_answered_in_order_and_once(shell: Shell) -> None:
    first, second = first_and_second()
    shell.ask(first, second, first)
    with shell.trainer():
        shell.until_answered("v0001", "v0002")
    assert shell.said() == [
        ("v0001", "trained"), ("v0001", "promoted"), ("v0002", "trained"), ("v0002", "promoted"),
    ]  # fmt: skip
    assert [(type(r), r.trigger) for r in shell.answers()] == [
        (Promoted, first.id), (Score, second.id), (Promoted, second.id),
    ]  # fmt: skip
    assert shell.registry.champion(MODEL) == "v0002"

    shell.ask(second)  # delivered again, to a trainer that lost its copy of the journal
    for path in (shell.folders["state_dir"] / "trainer").iterdir():
        path.unlink()
    with shell.trainer():
        shell.until(lambda: shell.committed() == 4)
    assert len(shell.said()) == 4
    assert len(shell.answers()) == 3


def test_a_run_longer_than_the_poll_interval_keeps_its_partition(
    shell: Shell, caplog: pytest.LogCaptureFixture
) -> None:
    shell.ask(first_and_second()[0], epochs=120)
    with shell.trainer(max_poll_interval_ms=1_000):
        shell.until_answered("v0001")
    (trained, _promoted) = shell.events()
    assert trained.seconds > 2.0
    assert not [r for r in caplog.records if "another trainer" in r.message or "was lost" in r.message]


def test_after_a_kill_during_a_run_the_repeated_run_has_the_same_weights(
    shell: Shell, forks: Forks, tiny: Base, tmp_path: Path
) -> None:
    asked = first_and_second()
    straight = World(tmp_path / "straight", tiny, examples(300))
    for one in asked:
        straight.answer(one, epochs=20)
    shell.ask(*asked, epochs=20)
    partial = shell.registry.root / MODEL / ".v0002.partial"
    with trainer_process(shell, forks) as process:
        shell.until(partial.exists, every_s=0.01)
        time.sleep(0.3)
    assert process.returncode == -signal.SIGKILL
    assert partial.exists(), "it was killed in the middle"
    assert shell.said() == [("v0001", "trained"), ("v0001", "promoted")]
    with trainer_process(shell, forks):
        shell.until_answered("v0001", "v0002")
    assert shell.said() == straight.said()
    assert [type(r) for r in shell.answers()] == [type(r) for r in straight.answers()]
    for version in ("v0001", "v0002"):  # the first was made by another process
        files = verify(shell.registry.folder(MODEL, version)).files
        assert files == straight.manifest(version).files
    assert not partial.exists()


def test_of_two_trainers_one_trains_and_if_it_is_gone_the_other_answers_alone(
    shell: Shell, forks: Forks, tiny: Base, tmp_path: Path
) -> None:
    """Two machines share nothing but Kafka. The first is stopped and not killed, so it comes back too late."""
    straight = World(tmp_path / "straight", tiny, examples(300))
    straight.answer(first_and_second()[0], epochs=20)
    machines = {name: Shell(shell.bootstrap, tmp_path / name, shell.folders["cache_dir"]) for name in "ab"}
    with contextlib.ExitStack() as stack:
        processes = {name: stack.enter_context(trainer_process(one, forks)) for name, one in machines.items()}
        with contextlib.closing(admin_client(shell.bootstrap)) as admin:
            shell.until(lambda: len(members(admin)) == 2)
        shell.ask(first_and_second()[0], epochs=20)
        partial = {name: one.registry.home(MODEL) / ".v0001.partial" for name, one in machines.items()}
        shell.until(lambda: any(path.exists() for path in partial.values()), every_s=0.01)
        (owner,) = (name for name, path in partial.items() if path.exists())
        (other,) = set(machines) - {owner}
        os.kill(processes[owner].pid, signal.SIGSTOP)
        shell.until_answered("v0001")
        assert processes[owner].poll() is None
        os.kill(processes[owner].pid, signal.SIGCONT)
        # Kafka may give it the partition back before it looks: then its run goes on, and its answer is dropped.
        gave_up = ("it will be repeated", "was answered by another trainer")
        shell.until(lambda: any(said in machines[owner].log.read_text() for said in gave_up))
        assert shell.said() == [("v0001", "trained"), ("v0001", "promoted")]
        assert [type(r) for r in shell.answers()] == [Promoted]
    made = verify(machines[other].registry.folder(MODEL, "v0001"))
    assert made.files == straight.manifest("v0001").files
    assert machines[owner].registry.champion(MODEL) is None


def test_it_stops_within_seconds_during_a_run_and_repeats_it_later(shell: Shell) -> None:
    shell.ask(first_and_second()[0], epochs=60)
    with shell.trainer():
        shell.until((shell.registry.root / MODEL / ".v0001.partial").exists)
        time.sleep(1.0)
        asked = time.monotonic()
    assert time.monotonic() - asked < 8.0
    assert shell.said() == []
    assert not shell.committed()
    with shell.trainer():
        shell.until_answered("v0001")
    assert shell.said() == [("v0001", "trained"), ("v0001", "promoted")]


def test_a_trigger_that_cannot_be_decoded_is_skipped(shell: Shell) -> None:
    writer = producer(shell.bootstrap)
    writer.send(TRIGGERS.name, value=b"{nonsense", partition=PARTITION.partition).get(timeout=30)
    writer.close()
    with shell.trainer():
        shell.until(lambda: shell.committed() == 1)
    assert shell.said() == []


def test_triggers_of_other_models_leave_no_lag(shell: Shell) -> None:
    asked = first_and_second()[0]
    others = [TopicPartition(TRIGGERS.name, number) for number in range(TRIGGERS.partitions)]
    others.remove(PARTITION)
    for partition in others:
        shell.write(TRIGGERS, [asked, asked], partition.partition)
    with shell.trainer():
        shell.until(lambda: all(shell.committed(partition) == 2 for partition in others))
    assert shell.said() == []


@pytest.mark.usefixtures("runs_here")
def test_triggers_of_a_topic_that_was_made_again_are_read_from_its_beginning(shell: Shell) -> None:
    first, second = first_and_second()
    shell.ask(first)
    with ThreadPoolExecutor(1) as pool, contextlib.closing(admin_client(shell.bootstrap)) as admin:
        ended = pool.submit(run_consumer, shell.settings(), {}, shell.bootstrap, MODEL, stop=threading.Event())
        shell.until_answered("v0001")
        admin.delete_topics([TRIGGERS.name])
        shell.until(lambda: TRIGGERS.name not in admin.list_topics())
        create_topics(shell.bootstrap)
        shell.ask(second)
        with pytest.raises(RestartRequired, match=r"topic retrain\.triggers\.v1 was deleted"):
            ended.result(timeout=TIMEOUT_S)
    with shell.trainer():
        shell.until_answered("v0001", "v0002")


def test_a_trigger_of_a_later_release_stops_the_trainer_and_is_not_committed(shell: Shell) -> None:
    later = encode(first_and_second()[0]).replace(b'"volume"', b'"moon-phase"')
    writer = producer(shell.bootstrap)
    writer.send(TRIGGERS.name, value=later, partition=PARTITION.partition).get(timeout=30)
    writer.close()
    with pytest.raises(BadConfiguration, match=r"offset 0 of retrain\.triggers\.v1/0 .*moon-phase.*update sx9"):
        run_consumer(shell.settings(), {}, shell.bootstrap, MODEL, stop=threading.Event())
    assert not shell.committed()


class Message(NamedTuple):
    """A message of the triggers."""

    topic: str = PARTITION.topic
    partition: int = PARTITION.partition
    offset: int = 0
    value: bytes = b""


class Group:
    """A member of a group that Kafka gives up at its third poll."""

    def __init__(self, *, knows: bool) -> None:
        self.polls = 0
        self._knows = knows

    def assignment(self) -> set[TopicPartition]:
        return set() if self._knows and self.polls >= 3 else {PARTITION}

    def poll(self, timeout_ms: int) -> dict[TopicPartition, list[Any]]:
        self.polls += 1
        time.sleep(0.01)
        return {}

    def commit(self, offsets: object) -> None:
        if self.polls >= 3:
            raise CommitFailedError


def test_a_lost_partition_cancels_the_run() -> None:
    class Endless:
        def handle(self, asked: Trigger, on_progress: ProgressCallback, confirm: Callable[[], None]) -> None:
            while True:
                on_progress(RunProgress("training", 1, 2, 1))
                time.sleep(0.01)

    group: Any = Group(knows=True)
    endless: Any = Endless()
    assert not _handle_while_polling(group, Message(), endless, first_and_second()[0], threading.Event(), Health())
    assert group.polls >= 3


def test_a_trainer_that_was_paused_learns_from_kafka_that_its_partition_is_lost() -> None:
    class Confirms:
        confirmed = 0

        def handle(self, asked: Trigger, on_progress: ProgressCallback, confirm: Callable[[], None]) -> None:
            while True:
                confirm()
                self.confirmed += 1

    group: Any = Group(knows=False)
    handler: Any = Confirms()
    assert not _handle_while_polling(group, Message(), handler, first_and_second()[0], threading.Event(), Health())
    assert handler.confirmed >= 1


def test_a_fault_in_the_run_is_no_answer_and_the_trainer_goes_on(
    shell: Shell, caplog: pytest.LogCaptureFixture
) -> None:
    shell.ask(first_and_second()[1])  # its parent is not there
    with shell.trainer():
        shell.until(lambda: caplog.text.count("v0001/manifest.json is missing") > 1)
    assert shell.said() == []
    assert not shell.committed()


def test_a_trainer_imports_no_torch_before_the_run() -> None:
    code = """
import sys
import sx9_ml_models.roles, trainers.runs.consumer, trainers.settings
for model in ("distilbert-mitre", "phi3-mitre-lora", "gnn-threat"):
    trainers.settings.load_machine_fields(model)
heavy = "torch transformers peft torch_geometric accelerate sklearn scipy numpy pandas matplotlib neo4j faust"
print([name for name in heavy.split() if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_a_second_trainer_in_one_state_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer_shell, "LOCK_TIMEOUT_S", 0.1)
    settings = load_trainer_settings(state_dir=tmp_path)
    with (
        files.lock(settings.trainer_dir / f"{MODEL}.lock", "training"),
        pytest.raises(
            RetryLater, match=r"another process has been training distilbert-mitre .*\(it holds .*\.lock\)"
        ),
    ):
        run_consumer(settings, {}, "127.0.0.1:1", MODEL, stop=threading.Event())


def test_a_model_without_a_recipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        BadConfiguration,
        match="there is no model 'gnn-thread': choose one of",
    ):
        run_consumer(load_trainer_settings(), {}, "nowhere:1", "gnn-thread")
