"""A poisoned burst is set aside before any model learns from it, and only what a person releases is learnt."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from schemas.errors import BadConfiguration
from schemas.journal import Example
from schemas.topics import JOURNAL
from streams.fetchers.base.runner import fetch
from streams.local.services import environment_of
from streams.settings import load_settings
from sx9_ml_models import quarantine
from sx9_ml_models.cli.quarantine import app
from tests.flow.roles import Role, role
from tests.flow.world import MODEL, PARTITION, World, effective_examples, pure_fold
from trainers.store.journal_copy import JournalCopy
from transport.partition_log import KafkaPartitionLog

POLICY = f"[{MODEL}.quarantine]\nalike_events = 20\nalike_share = 0.5\n"
POISON = 40
ANIMALS = ["adder", "badger", "cobra", "dingo", "eagle", "ferret", "gecko", "heron", "ibis", "jackal", "koala"]


def write_rule(folder: Path, name: str, text: str) -> None:
    rule = f"title: {name}\nid: {name}\nlevel: high\ndescription: {text}\ndetection: {{a: b}}\n"
    (folder / f"{name}.yml").write_text(rule)


@contextlib.contextmanager
def journal_role(world: World) -> Iterator[Role]:
    file = world.state_dir / "policy.toml"
    file.write_text(POLICY)
    with role("journal", world.endpoints, world.state_dir, policy_file=str(file)) as one:
        one.live()
        yield one


def rows(world: World) -> dict[str, int]:
    """Reason -> examples that wait for the model."""
    snapshots = load_settings(state_dir=world.state_dir).snapshots_dir
    return {row["reason"]: row["waiting"] for row in quarantine.holds(world.reader, snapshots, [MODEL])}


def learnt(world: World) -> list[str]:
    """The rules of which a trainer has an example, in the order of the journal."""
    log = KafkaPartitionLog(world.reader, JOURNAL, PARTITION)
    copy = JournalCopy(world.state_dir / "copy.sqlite", log)
    end = log.end()  # the journal may grow while it is read
    copy.catch_up()
    found = [example.key.rpartition(":")[2] for _, example in copy.examples_between(0, end)]
    copy.close()
    journal = [(offset, record) for offset, record in world.journal() if offset < end]
    assert found == [example.key.rpartition(":")[2] for example in effective_examples(journal)]
    return found


def env_of(world: World) -> dict[str, str]:
    return {"SX9_STATE_DIR": str(world.state_dir)} | environment_of(world.bootstrap)


def sx9(world: World, *arguments: str) -> str:
    """What `sx9 quarantine ...` prints."""
    done = CliRunner().invoke(app, arguments, env=env_of(world))
    assert done.exit_code == 0, done.exception
    return done.output


def decide(world: World, action: str, *names: str) -> str:
    entities = [word for name in names for word in ("--entity", f"template:sigma:{name}")]
    return sx9(world, action, "sigma", "--why", "looked at it", *entities)


def test_a_poisoned_burst_is_held_and_only_what_a_person_releases_is_learnt(world: World, tmp_path: Path) -> None:
    settings, feed = load_settings(state_dir=tmp_path / "fetch"), tmp_path / "rules"
    feed.mkdir()

    def fetched() -> None:
        fetch("sigma", str(feed), settings, world.bootstrap)

    for number, animal in enumerate(ANIMALS):
        write_rule(feed, f"usual-{animal}", " ".join(ANIMALS[number:] + ANIMALS[:number]))
    usual = sorted(f"usual-{animal}" for animal in ANIMALS)
    with journal_role(world) as one:
        fetched()
        one.until(lambda: sorted(learnt(world)) == usual, "the first fetch, which is alike too, is learnt")
        for number in range(POISON):
            write_rule(
                feed, f"poison-{number}", f"A harmless administrator starts the usual backup number {number}"
            )
        fetched()
        one.until(lambda: rows(world) == {"near-duplicates": POISON}, "all of the burst is held")
        write_rule(feed, "later", "What the feed says afterwards waits too so that it stays in order")
        fetched()
        one.until(lambda: rows(world) == {"near-duplicates": POISON + 1}, "and what comes after it")
        assert sorted(learnt(world)) == usual
        one.kill()
    assert "near-duplicates 40 of 20" in sx9(world, "list")
    shown = json.loads(sx9(world, "show", "sigma", "--last", "50", "--json"))
    assert (shown["waiting"], len(shown["examples"]), shown["labels"]) == (41, 41, {"severity:high": 41})
    with pytest.raises(BadConfiguration, match=r"nothing of 'nuclei' waits .* is of: sigma"):
        raise CliRunner().invoke(app, ["purge", "nuclei", "--why", "w"], env=env_of(world)).exception
    assert "release 3 entities of sigma" in decide(world, "release", "poison-3", "poison-30", "later")
    with journal_role(world) as one:
        one.until(lambda: rows(world) == {"near-duplicates": POISON - 2}, "a part is released")
        released = learnt(world)[len(usual) :]
        assert sorted(released) == ["later", "poison-3", "poison-30"]
        decide(world, "purge")
        one.until(lambda: rows(world) == {}, "the rest is purged")
        write_rule(feed, "last", "The feed is trusted again and what it says is learnt at once")
        fetched()
        one.until(lambda: learnt(world)[-1:] == ["last"], "the next fetch")
        metrics = one.metrics(MODEL)
    assert sorted(learnt(world)) == sorted([*usual, "later", "poison-3", "poison-30", "last"])
    assert metrics["sx9_quarantine_purged_total"] == POISON - 2
    state, _ = pure_fold(world.journal())
    assert (state.quarantine.released, state.quarantine.purged) == (3, POISON - 2)
    texts = [record.text for _, record in world.journal() if isinstance(record, Example)]
    assert sum("harmless administrator" in text for text in texts) == 2
