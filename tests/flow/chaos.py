"""Runs the whole flow release by release, while its processes are killed at random moments and started again.

    release ──fetch──> topics ──2 journal, 2 graph, 2 fold──> journals, graph, triggers ──2 trainers──> versions
                 ×                     ×   ×   ×     ×  Kafka, Neo4j                          ×

One release is processed to its end, versions included, before the next is fetched. So a run without any kill comes
to the same windows, triggers, versions and graph, and the two can be compared.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import msgspec
from neo4j.exceptions import DriverError, Neo4jError
from rich.table import Table

from schemas.codec import decode
from schemas.errors import RetryLater
from schemas.journal import Record, Source
from schemas.models import MODELS
from schemas.policy import GateLimits, Policy
from schemas.recipes.base import recipe_values
from schemas.recipes.distilbert import DistilbertConfig
from schemas.topics import JOURNAL, TRIGGERS, WINDOWS
from schemas.windows import Trigger, Window
from streams.app.wiring import ROLES
from streams.core.projections.base import project_all
from streams.local.process import Started
from streams.local.services import Owned, running, settings_of
from streams.settings import Settings
from tests.flow.graph import positions
from tests.flow.outcome import Outcome, outcome
from tests.flow.releases import FEED, Releases
from tests.flow.world import MODEL, World, effective_examples, pure_fold
from tests.forks import Fork, Forks
from trainers.store.registry import Registry

POLL_S = 0.03
SETTLE_POLL_S = 0.5
SETTLE_TIMEOUT_S = 400.0
RESTART_PAUSE_S = 0.5
STOP_TIMEOUT_S = 60.0
LONGEST_LIFE_S = 5.0
LONGEST_FETCH_S = 1.5
RESTARTED = re.compile(r"^schemas\.errors\.(RetryLater|RestartRequired): ", re.MULTILINE)
"""Errors with which a process ends so that it is started again, as `sx9 up` and Kubernetes do."""

QUICK = DistilbertConfig(
    base="tiny", epochs=12, batch_size=8, learning_rate=1e-2, head_learning_rate=5e-3, max_tokens=32,
    frozen_layers=0, threads=1,
)  # fmt: skip
POLICY = Policy(
    window_examples=20, bootstrap_examples=40, retrain_examples=30, cooldown_s=0.0, rehearsal_examples=20,
    holdout_examples=20, reservoir=64, drift_threshold=1.0, drift_rearm=1.0, taxonomy_examples=1_000,
    gate=GateLimits(margin=1.0, label_margin=1.0, min_examples=1), recipe=recipe_values(QUICK),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Kills:
    """How often each process is killed in one round; `away_s` is how long Kafka and Neo4j stay away."""

    role: int = 0
    fetcher: int = 0
    trainer: int = 0
    away_s: float = 1.0


class Tally:
    """What was killed, and what ended by itself."""

    def __init__(self, on_kill: Callable[[], object] = lambda: None) -> None:
        self.kills: Counter[str] = Counter()
        self.exits: Counter[str] = Counter()
        self.problems: list[str] = []
        self.services_killed = False
        self._on_kill = on_kill

    def killed(self, name: str) -> None:
        self.kills[name] += 1
        self._on_kill()

    def ended(self, name: str, code: int, log: str) -> None:
        """A process ended by itself; that is right only after Kafka or Neo4j was away."""
        self.exits[name] += 1
        if code == 0 or not self.services_killed or not RESTARTED.search(log):
            self.problems.append(f"{name} exited by itself with code {code}:\n{log[-3000:]}")

    def table(self) -> Table:
        """Kills and exits by process."""
        table = Table("process", "killed", "restarted after an outage")
        for name in sorted(self.kills | self.exits):
            table.add_row(name, str(self.kills[name]), str(self.exits[name]))
        table.add_row("all", str(self.kills.total()), str(self.exits.total()))
        return table


class Slot:
    """A place where a process should run: started again when it has ended, and killed when its time has come."""

    def __init__(self, name: str, start: Callable[[], tuple[Fork, Path]], random: Random, tally: Tally) -> None:
        self.name = name
        self.pending = 0
        self.wanted = False
        self._start = start
        self._random = random
        self._tally = tally
        self._running: tuple[Fork, Path] | None = None
        self._kill_s = 0.0
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"slot-{name}", daemon=True)
        self._thread.start()

    def disturb(self, kills: int) -> None:
        """Kill what runs here so many times, each at a random moment of its life."""
        self._draw()
        self.pending += kills

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._closed.wait(POLL_S):
            try:
                self._step()
            except Exception as error:  # noqa: BLE001  the test fails with it
                self._tally.problems.append(f"{self.name}: {error!r}")
                return
        self._stop()

    def _step(self) -> None:
        if not self.wanted:
            self._stop()
        elif self._running is None:
            self._running = self._start()
            self._draw()
        elif (code := self._running[0].poll()) is not None:
            self._tally.ended(self.name, code, self._running[1].read_text(encoding="utf-8"))
            self._running = None
            time.sleep(RESTART_PAUSE_S)
        elif self.pending and time.monotonic() >= self._kill_s:
            self._running[0].kill()
            self._running[0].wait()
            self._running = None
            self.pending -= 1
            self._tally.killed(self.name)

    def _draw(self) -> None:
        """Most lives are short, some are long enough to have joined the group."""
        self._kill_s = time.monotonic() + LONGEST_LIFE_S * self._random.random() ** 2

    def _stop(self) -> None:
        if self._running is not None:
            self._running[0].terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._running[0].wait(STOP_TIMEOUT_S)
            self._running[0].kill()
            self._running = None


class Flow:
    """The processes of one run, on empty topics and an empty graph.

    Args:
        world: Kafka, Neo4j and a state folder.
        owned: The same Kafka and Neo4j, to kill.
        settings: With which they were started.
        cache: Folder of base models.
        forks: Starts processes.
        workers: Of each role, and trainers.
        seed: Of the moments.
        tally: Counts.
    """

    def __init__(
        self, world: World, owned: Owned, settings: Settings, cache: Path, forks: Forks, workers: int, seed: int,
        tally: Tally,
    ) -> None:  # fmt: skip
        self._world, self._owned, self._settings, self._forks = world, owned, settings, forks
        self._cache = cache
        self._random = Random(seed)
        self._tally = tally
        self._folder = world.state_dir
        self._releases = Releases(self._folder / "releases")
        self.registry = Registry(self._folder / "output" / "models")
        (self._folder / "policy.toml").write_text(_policy_file())
        self._services: list[threading.Thread] = []
        self._roles = [self._slot(name, n, self._role) for name in ROLES for n in range(workers)]
        self._trainers = [self._slot("trainer", n, self._trainer) for n in range(workers)]

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """The roles run while the block lasts."""
        try:
            for slot in self._roles:
                slot.wanted = True
            yield
        finally:
            for one in (*self._roles, *self._trainers):
                one.close()
            for thread in self._services:
                thread.join()

    def round(self, kills: Kills, *services: str) -> None:
        """Process the next release to its end.

        Args:
            kills: While it is processed.
            services: `kafka` or `neo4j`: what is killed meanwhile, too.
        """
        for slot in self._roles:
            slot.disturb(kills.role)
        for name in services:
            self._kill_later(name, kills.away_s)
        self._fetch(self._releases.next(), kills.fetcher)
        self._until(self._is_folded, "all events in the journals, and what follows from them on the topics")
        if pure_fold(self._world.journal())[0].open_trigger:
            for slot in self._trainers:
                slot.wanted = True
                slot.disturb(kills.trainer)
            self._until(self._is_answered, "the triggers answered")
            self._until(lambda: not any(slot.pending for slot in self._trainers), "the last kill of a trainer")
            for slot in self._trainers:
                slot.wanted = False
        self._until(lambda: not any(slot.pending for slot in self._roles), "the last kill of a role")
        for thread in self._services:
            thread.join()
        self._until(self._is_drawn, "the graph at the end of the topics")

    def outcome(self) -> Outcome:
        """What has become of it."""
        return outcome(self._world, self.registry)

    def _slot(self, name: str, number: int, start: Callable[[str, str], tuple[Fork, Path]]) -> Slot:
        random = Random(self._random.random())
        return Slot(name, lambda: start(name, f"{name}-{number}"), random, self._tally)

    def _role(self, name: str, place: str) -> tuple[Fork, Path]:
        settings = {
            "state_dir": str(self._folder / place),
            "policy_file": str(self._folder / "policy.toml"),
            "tick_interval_s": 0.0,
        }
        services = settings_of(self._world.bootstrap, self._world.endpoints.neo4j_uri)
        return self._process("role", place, name=name, settings=settings | services)

    def _trainer(self, _name: str, place: str) -> tuple[Fork, Path]:
        folders = {
            "state_dir": str(self._folder / place),
            "output_dir": str(self._folder / "output"),
            "cache_dir": str(self._cache),
        }
        return self._process(
            "train", place, model=MODEL, settings=settings_of(self._world.bootstrap), folders=folders
        )

    def _process(self, target: str, place: str, **arguments: Any) -> tuple[Fork, Path]:
        log = self._folder / f"{place}.{time.monotonic_ns()}.log"
        log.touch()
        return self._forks.start(f"tests.flow.targets:{target}", log, **arguments), log

    def _fetch(self, source: str, kills: int) -> None:
        """Fetch a release until a fetch has ended well; kill the fetcher so many times before."""
        folders = {"state_dir": str(self._folder / "fetcher"), "cache_dir": str(self._cache)}
        settings = folders | settings_of(self._world.bootstrap)
        while True:
            process, log = self._process("fetch", "fetcher", feed=FEED, source=source, settings=settings)
            if kills:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(LONGEST_FETCH_S * self._random.random())
            else:
                process.wait(SETTLE_TIMEOUT_S)
            code = process.poll()
            if code is None:
                process.kill()
                process.wait()
                kills -= 1
                self._tally.killed("fetcher")
            elif code:
                self._tally.ended("fetcher", code, log.read_text(encoding="utf-8"))
                time.sleep(RESTART_PAUSE_S)
            elif not kills:
                return

    def _kill_later(self, name: str, away_s: float) -> None:
        """Kill Kafka or Neo4j at a random moment, and start it again after a while."""
        [started] = [one for one in self._owned.started if one.name == name]
        wait_s = self._random.uniform(0.5, 3.0)
        thread = threading.Thread(target=self._kill_service, args=(started, wait_s, away_s), daemon=True)
        self._services.append(thread)
        thread.start()

    def _kill_service(self, started: Started, wait_s: float, away_s: float) -> None:
        time.sleep(wait_s)
        self._tally.services_killed = True
        state = json.loads((self._settings.state_dir / "run" / f"{started.name}.json").read_text())
        os.kill(state["child"], signal.SIGKILL)
        self._tally.killed(started.name)
        assert started.watchdog is not None
        started.watchdog.wait()
        time.sleep(away_s)
        started.relaunch()
        while not running(self._settings, kafka=started.name == "kafka", neo4j=started.name == "neo4j"):
            time.sleep(SETTLE_POLL_S)

    # ---- what must become true

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        while not self._holds(condition):
            assert not self._tally.problems, "\n\n".join(self._tally.problems)
            assert time.monotonic() < deadline, f"not within {SETTLE_TIMEOUT_S:.0f} s: {what}"
            time.sleep(SETTLE_POLL_S)
        assert not self._tally.problems, "\n\n".join(self._tally.problems)

    def _holds(self, condition: Callable[[], bool]) -> bool:
        try:
            return condition()
        except (RetryLater, DriverError, Neo4jError):  # Kafka or Neo4j is away
            return False

    def _is_folded(self) -> bool:
        """Whether the journals have all events, and the topics all that the fold says."""
        wanted: dict[str, list[tuple[str, int, int]]] = {model: [] for model in MODELS}
        for message, event in self._world.events():
            source = Source(message.topic, message.partition, message.offset)
            for model in project_all(event, source, 0, MODELS):
                wanted[model].append((source.topic, source.partition, source.offset))
        records: dict[int, list[tuple[int, Record]]] = {number: [] for number in range(len(MODELS))}
        for message in self._world.messages(JOURNAL):
            records[message.partition].append((message.offset, decode(message.value, Record)))
        for number, model in enumerate(MODELS):
            found = [
                (e.source.topic, e.source.partition, e.source.offset) for e in effective_examples(records[number])
            ]
            if sorted(found) != sorted(wanted[model]):
                return False
        _, outputs = pure_fold(records[MODELS.index(MODEL)])
        return self._are_on_topics([one for one in outputs if isinstance(one, Window | Trigger)])

    def _are_on_topics(self, outputs: list[Window | Trigger]) -> bool:
        there = {one.id for topic in (WINDOWS, TRIGGERS) for one in self._world.records(topic)}
        return {one.id for one in outputs} <= there

    def _is_answered(self) -> bool:
        return self._is_folded() and pure_fold(self._world.journal())[0].open_trigger is None

    def _is_drawn(self) -> bool:
        ends = {(m.topic, m.partition): m.offset + 1 for m, _ in self._world.events()}
        return positions(self._world.driver) == ends


def _policy_file() -> str:
    """The policy, as TOML."""
    rules = {name: getattr(POLICY, name) for name in Policy.__struct_fields__}
    tables = {"": rules, ".gate": msgspec.structs.asdict(POLICY.gate), ".recipe": POLICY.recipe}
    lines = []
    for name, values in tables.items():
        lines.append(f"[{MODEL}{name}]")
        simple = {key: value for key, value in values.items() if isinstance(value, bool | int | float | str)}
        lines += [f"{key} = {json.dumps(value)}" for key, value in simple.items()]
    return "\n".join(lines) + "\n"
