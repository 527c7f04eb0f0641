"""`sx9 demo`: the whole system in a folder of its own, the real history played through it, and a table in the end.

    for each chunk of the history:  publish ──> wait for the journals
                                            ──> wait for the models whose cool-down is over by the chunk's date
                                            ──> a tick with that date into every journal

Time is simulated: ticks carry the dates of the history, so seven years pass in minutes, however fast the machine
is. While a model cools down nothing but a person retrains it, so when in that time its trainer answers makes no
difference: the history goes on, the other models train beside it, and each has the same triggers however fast the
machine is. Within a chunk the topics' events come into a journal in no fixed order, so two demos may differ in one.
Every step is done once, also when the demo is killed and continued: what is on the topics already is not played
again.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import httpx
from kafka import KafkaAdminClient, KafkaConsumer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from schemas.errors import BadConfiguration, BadRecord, RetryLater
from schemas.journal import Tick
from schemas.models import MODELS
from schemas.topics import JOURNAL, partition_of
from schemas.versions import VersionEvent
from schemas.windows import Trigger
from streams.app.catch_up import committed_offsets, places_of
from streams.app.replay import fold_from, load_state
from streams.app.sink import Place
from streams.app.wiring import TOPICS_OF, Role, group_of
from streams.core.fold import State
from streams.fetchers.base.runner import fetch
from streams.fetchers.feeds.registry import FEEDS
from streams.local.services import Endpoints, services
from streams.settings import Settings, load_settings
from sx9_ml_models import queries as views
from sx9_ml_models import render as tables
from sx9_ml_models.decisions import Decision, Follower, sentence
from sx9_ml_models.demo.history import Chunk, history, play, played
from sx9_ml_models.processes import Children, running
from sx9_ml_models.system import only_one, system
from trainers.core.config import variable_prefix
from trainers.settings import load_trainer_settings
from transport.kafka import RecordProducer, consumer, end_offset, kafka_errors, producer
from transport.retry import retry
from transport.topics import create_topics

POLICY = """# The rules of the demo: times are those of the history, in which years pass in minutes.
[distilbert-mitre]
bootstrap_examples = 1500
retrain_examples = 3000
drift_min_support = 400
cooldown_s = 2592000           # 30 days
champion_age_s = 38880000      # 450 days
staleness_examples = 300

[phi3-mitre-lora]
bootstrap_examples = 1000
retrain_examples = 1500
drift_threshold = 1.0          # a run is dear: by volume only
drift_rearm = 1.0
taxonomy_examples = 100000
cooldown_s = 15552000          # 180 days
champion_age_s = 63072000      # two years
staleness_examples = 300
rehearsal_examples = 60
holdout_examples = 80

[gnn-threat]
bootstrap_examples = 7000
retrain_examples = 5000
drift_threshold = 1.0          # the feed brings its kinds in turn
drift_rearm = 1.0
taxonomy_examples = 100000
cooldown_s = 15552000          # 180 days
champion_age_s = 47304000      # 18 months
staleness_examples = 1000
"""
ENV = {
    "SX9_TICK_INTERVAL_S": "0",
    "SX9_FETCH_INTERVAL_S": "0",
    "SX9_TRAINER_DISTILBERT_MAX_TOKENS": "32",
    "SX9_TRAINER_DISTILBERT_MAX_EXAMPLES": "1500",
    "SX9_TRAINER_DISTILBERT_PIECES": "1",
    "SX9_TRAINER_PHI3_LORA_MAX_EXAMPLES": "64",
    "SX9_TRAINER_PHI3_LORA_MAX_TOKENS": "96",
    "SX9_TRAINER_PHI3_LORA_EVAL_EXAMPLES": "52",
    "SX9_TRAINER_PHI3_LORA_SAMPLE_ANSWERS": "8",
    "SX9_TRAINER_PHI3_LORA_ANSWER_TOKENS": "40",
    **{f"{variable_prefix(model)}THREADS": "1" for model in MODELS},
}
"""Settings of the demo that the environment doesn't override: it is the same everywhere, and its trainers share two
cores."""

MONTH_MS = 31 * 86_400_000
"""Longer than the demo's cool-down."""
SHARED_TEMPLATES = Path("../shared/feeds/nuclei-templates")
NETWORK_S = 3.0
POLL_S = 0.2
STUCK_S = 900.0
"""Nothing new for so long, and the demo gives up."""
MOST_RESTARTS = 8


def run_demo(folder: Path, *, go_on: bool, templates: str, events: int | None = None) -> None:
    """Run the demo to its end.

    Args:
        folder: Everything lies there: data of the services, logs, models.
        go_on: Go on with what is there; otherwise the folder is emptied first.
        templates: A folder, a git URL, `auto` or `none`.
        events: Play only so many, the oldest; None for all.

    Raises:
        BadConfiguration: Nothing to go on with, or the machine isn't fit.
        RetryLater: Another demo runs in the folder, or a part of the system doesn't work.
    """
    if go_on and not (folder / "state").is_dir():
        raise BadConfiguration(f"{folder} has no demo to go on with: run it without --continue")
    if folder.exists() and any(folder.iterdir()) and not (folder / "state").is_dir():
        raise BadConfiguration(f"{folder} is not empty and not a demo's: choose another folder with --folder")
    started = time.monotonic()
    console = Console(stderr=True, highlight=False)
    with only_one(folder / "state") as lock:
        if not go_on:
            _empty(folder, keep=folder / "state" / "run" / "up.lock")
        settings = _settings(folder)
        console.print(f"everything lies in {folder}; if it is interrupted, `sx9 demo --continue` goes on")
        with services(settings) as endpoints:
            create_topics(endpoints.kafka_bootstrap)
            children = system(settings, fetch=False, env={}, lock=lock)
            with running(children), _stage(endpoints, settings, children, console) as stage:
                chunks = history(settings, events)
                stage.play_all(chunks)
                stage.play_templates(templates, chunks[-1].time_ms)
                stage.wait_for_answers()
                stage.wait_for_readers("graph", "fold")
    versions = {model: views.versions(load_trainer_settings(), model) for model in MODELS}
    for model, rows in versions.items():
        print(f"\n{model}")
        tables.versions(rows)
    seconds, number = time.monotonic() - started, sum(map(len, versions.values()))
    print(f"\n{number} versions in {seconds:.0f} s; everything lies in {folder.resolve()}")
    print(f"look further: sx9 --state-dir {folder}/state --output-dir {folder}/output triggers --declined")


def _settings(folder: Path) -> Settings:
    """The settings of the demo, in the environment too, where the children find them."""
    policy = folder / "policy.toml"
    policy.parent.mkdir(parents=True, exist_ok=True)
    policy.write_text(POLICY)
    os.environ |= ENV | {
        "SX9_STATE_DIR": str((folder / "state").resolve()),
        "SX9_OUTPUT_DIR": str((folder / "output").resolve()),
        "SX9_POLICY_FILE": str(policy.resolve()),
    }
    settings = load_settings()
    if settings.kafka_bootstrap or settings.neo4j_uri:
        raise BadConfiguration(
            "the demo plays on a Kafka and a Neo4j of its own, which it empties: unset SX9_KAFKA_BOOTSTRAP and "
            "SX9_NEO4J_URI (`sx9 up` and `sx9 fetch` use them)"
        )
    return settings


def _empty(folder: Path, keep: Path) -> None:
    """Remove what an earlier demo left, but for the lock that we hold."""
    for path in sorted(folder.rglob("*"), key=lambda p: len(p.parts), reverse=True):
        if path == keep or path in keep.parents:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


@contextlib.contextmanager
def _stage(endpoints: Endpoints, settings: Settings, children: Children, console: Console) -> Iterator[Stage]:
    """A stage with its clients, and the bar that shows how far the history is."""
    bootstrap = endpoints.kafka_bootstrap
    reader, following, writer = consumer(bootstrap), consumer(bootstrap), producer(bootstrap)
    with kafka_errors("connecting"):
        admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    try:
        with Progress(*columns, console=console) as bar:
            yield Stage(
                bootstrap, settings, children, bar, reader, Follower(following), RecordProducer(writer), admin
            )
    finally:
        admin.close()
        writer.close(timeout=5)
        following.close()
        reader.close()


class Stage:
    """Where the history is played: publishes, waits for what it leads to, and says what happens."""

    def __init__(
        self,
        bootstrap: str,
        settings: Settings,
        children: Children,
        bar: Progress,
        reader: KafkaConsumer,
        follower: Follower,
        outbox: RecordProducer,
        admin: KafkaAdminClient,
    ) -> None:
        self._bootstrap = bootstrap
        self._settings = settings
        self._children = children
        self._bar = bar
        self._reader = reader
        self._follower = follower
        self._outbox = outbox
        self._admin = admin
        self._states = {model: load_state(reader, model, settings.snapshots_dir) for model in MODELS}
        self._training: dict[str, str] = {}
        self._title, self._task = "starting", bar.add_task("starting")

    def play_all(self, chunks: list[Chunk]) -> None:
        """Play the history; what was played before is passed over."""
        self._bar.update(self._task, total=sum(len(chunk.events) for chunk in chunks))
        for model in MODELS:
            self._wait(lambda m=model: self._read_on(m).next_offset > 0, f"the rules in the journal of {model}")  # type: ignore[misc]
        already = played(self._reader)
        for chunk in chunks:
            self._show(f"ATT&CK as of {tables.day(chunk.time_ms)[:7]}")
            play(chunk, self._bootstrap, already)
            self._let_it_be(chunk.time_ms)
            self._bar.advance(self._task, len(chunk.events))
        self._show("ATT&CK history played")

    def _let_it_be(self, time_ms: int) -> None:
        """Let a time come, once everything published is in the journals and every model that may be retrained by
        then has answered its trigger."""
        self.wait_for_readers("journal")
        for model in MODELS:
            self._wait(partial(self._is_free, model, time_ms), f"the trainer of {model} to answer a trigger")
        for model in MODELS:
            if self._states[model].now_ms < time_ms:
                self._outbox.send(JOURNAL.name, Tick(time_ms), key=model, partition=partition_of(model))
        self._outbox.flush()

    def _is_free(self, model: str, time_ms: float = math.inf) -> bool:
        """Whether a model has no trigger waiting, or still cools down from it at a time."""
        state = self._read_on(model)
        return state.waiting is None or time_ms < state.last_trigger_ms + state.policy.cooldown_s * 1000

    def wait_for_answers(self) -> None:
        """Wait until every trigger is answered."""
        for model in MODELS:
            self._wait(partial(self._is_free, model), f"the trainer of {model} to answer a trigger")

    def play_templates(self, templates: str, end_ms: int) -> None:
        """Fetch the Nuclei templates where they are at hand, and say so where they are not.

        The severities that they bring are new labels; a cool-down after the retrain that this trips, and another
        later, there is time for one on all of the templates.

        Args:
            templates: See `run_demo`.
            end_ms: The end of the history, ms since 1970.
        """
        source = _templates_source(templates)
        if source is None:
            self._bar.print("Nuclei templates: left out, there is neither ../shared/feeds nor a network")
            return
        if source == "none":
            return
        task = self._bar.add_task("Nuclei templates", total=None)
        try:
            report = fetch(
                "nuclei-templates", source, self._settings, self._bootstrap,
                on_progress=lambda stage, done, total: self._bar.update(
                    task, description=f"Nuclei templates: {stage}", completed=done, total=total
                ),
            )  # fmt: skip
        except (BadRecord, RetryLater, BadConfiguration) as error:
            self._bar.print(f"Nuclei templates: left out: {error}", markup=False)
            return
        self._bar.print(f"Nuclei templates: {report.published} published into topics, journal and graph")
        for number in (1, 2):
            self._let_it_be(end_ms + number * MONTH_MS)

    def wait_for_readers(self, *roles: Role) -> None:
        """Wait until roles have taken everything that is on their topics now."""
        for role in roles:
            ends = {place: end_offset(self._reader, *place) for place in places_of(TOPICS_OF[role])}
            self._wait(partial(self._has_taken, role, ends), f"the {role} role to take what is on its topics")

    def _has_taken(self, role: Role, ends: Mapping[Place, int]) -> bool:
        committed = retry(lambda: committed_offsets(self._admin, group_of(role)))
        return all(committed.get(place, 0) >= end for place, end in ends.items())

    def _read_on(self, model: str) -> State:
        for state, _ in fold_from(self._reader, self._states[model]):
            self._states[model] = state
        return self._states[model]

    def _wait(self, done: Callable[[], bool], what: str) -> None:
        """Wait, say what is decided meanwhile, and start again what ended."""
        deadline = time.monotonic() + STUCK_S
        while not done():
            for decision in self._follower.poll(int(POLL_S * 1000)):
                self._say(decision)
            for news in self._children.mend():
                self._bar.print(news, markup=False)
            if any(child.starts > MOST_RESTARTS for child in self._children.all) or time.monotonic() > deadline:
                logs = self._settings.logs_dir
                raise RetryLater(f"waited in vain for {what}: the logs in {logs} say why; `sx9 demo --continue`")

    def _say(self, decision: Decision) -> None:
        """Print a decision that people wait for, and show who trains."""
        if isinstance(decision, Trigger):
            self._training[decision.model] = decision.version
        elif isinstance(decision, VersionEvent) and decision.outcome != "trained":
            self._training.pop(decision.model, None)
        else:
            return
        self._bar.print(sentence(decision), markup=False)
        self._show(self._title)

    def _show(self, title: str) -> None:
        self._title = title
        training = ", ".join(f"{model} {version}" for model, version in sorted(self._training.items()))
        self._bar.update(self._task, description=f"{title}; training {training}" if training else title)


def _templates_source(templates: str) -> str | None:
    """The folder or URL that is meant; None where `auto` finds nothing."""
    if templates != "auto":
        return templates
    if SHARED_TEMPLATES.is_dir():
        return str(SHARED_TEMPLATES)
    url = FEEDS["nuclei-templates"].default_source
    try:
        httpx.head(url, timeout=NETWORK_S)
    except httpx.HTTPError:
        return None
    return url
