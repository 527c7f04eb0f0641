"""Policies that are backtested with training lead to the versions of a system that really had these policies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas.codec import decode
from schemas.journal import PolicyChange, Record, Tick
from schemas.policy import GateLimits, Policy
from schemas.recipes.base import recipe_values
from schemas.windows import Trigger
from streams.app.policy_file import load_policies
from streams.core.fold import initial, step
from streams.settings import load_settings
from sx9_ml_models.backtest import report
from sx9_ml_models.backtest.command import trained_backtest
from sx9_ml_models.backtest.compare import RECORDED_RULES, Comparison, as_plain
from sx9_ml_models.backtest.trained import Served, Trained
from tests.sx9_ml_models.rebuild.runs import dying
from tests.sx9_ml_models.rebuild.test_rebuild import RULES, TICK
from tests.trainers.runs.test_trigger_handler import QUICK, World
from tests.trainers.samples import MODEL, MemoryLog, examples
from trainers.bases.resolve import Base
from trainers.runs import execute_evaluation
from trainers.runs.execute_run import execute
from trainers.runs.run_process import Run
from transport.partition_file import write_partition

RECIPE, GATE = recipe_values(QUICK), GateLimits(min_examples=10)  # as the trainer of a `World` has them
RECORDED_POLICY = msgspec.structs.replace(RULES, recipe=RECIPE, gate=GATE)
HALVED_TOML = f"""[{MODEL}]
window_examples = 50
bootstrap_examples = 75
retrain_examples = 50
cooldown_s = 0
rehearsal_examples = 40
holdout_examples = 60
drift_threshold = 1.0
drift_rearm = 1.0
taxonomy_examples = 1000

[{MODEL}.gate]
min_examples = 10

[{MODEL}.recipe]
""" + "\n".join(f"{name} = {msgspec.json.encode(value).decode()}" for name, value in RECIPE.items())


def outside() -> list[Record]:
    """What comes from outside: examples, and a tick after every ten."""
    records: list[Record] = [TICK]
    for at, each in enumerate(examples(190), 1):
        records.append(each)
        if at % 10 == 0:
            records.append(Tick(TICK.time_ms + at * 60_000))
    return records


def really_run(world: World, policy: Policy) -> list[Trigger]:
    """A system with a policy, whose trainer answers before the next tick. Returns its triggers."""
    state, triggers = initial(MODEL), list[Trigger]()

    def fold() -> None:
        nonlocal state
        while state.next_offset < world.journal.end():
            at = state.next_offset
            state, outputs = step(state, at, decode(world.journal.messages[at].value, Record))
            triggers.extend(output for output in outputs if isinstance(output, Trigger))

    for record in (PolicyChange(policy), *outside()):
        if isinstance(record, Tick) and state.open_trigger:
            world.answer(state.open_trigger)
            fold()
        world.journal.append(record)
        fold()
    return triggers


def test_halved_thresholds_backtested_and_really_run_lead_to_the_same_triggers_and_weights(
    tmp_path: Path, tiny: Base
) -> None:
    (tmp_path / "half.toml").write_text(HALVED_TOML)
    halved = load_policies(tmp_path / "half.toml")[MODEL]
    real = World(tmp_path / "real", tiny, [])
    triggers = really_run(real, halved)

    world = World(tmp_path / "recorded", tiny, [])
    write_partition(tmp_path / "journal.jsonl", MemoryLog([PolicyChange(RECORDED_POLICY), *outside()]), Record)
    settings = load_settings(state_dir=tmp_path / "state", output_dir=tmp_path / "output")

    def backtest(run: Run) -> Comparison:
        return trained_backtest(
            MODEL, [tmp_path / "half.toml"], tmp_path / "journal.jsonl", tmp_path / "backtest", settings,
            world.settings(), answer_after_s=0.0, holdout=100, run=run, evaluate=execute_evaluation.execute,
        )  # fmt: skip

    with pytest.raises(KeyboardInterrupt):
        backtest(dying(run=3, step=20))
    found = backtest(execute)
    outcome = next(each for each in found.outcomes if each.name == "half")
    assert outcome.trained
    versions = outcome.trained.versions
    answered = [event for event in real.events() if event.outcome != "trained"]
    assert len(versions) >= 2
    assert [each.version for each in versions] == [event.version for event in answered]
    assert [each.promoted for each in versions] == [event.outcome == "promoted" for event in answered]
    for each in versions:
        files = real.manifest(each.version).files
        assert each.weights == {name: files[name] for name in each.weights}
    assert [(r.reason, r.at_ms, r.examples) for r in outcome.retrains] == [
        (trigger.reason, trigger.at_ms, trigger.examples) for trigger in triggers
    ]

    # the score over time is in the table, the pictures and the page
    recorded = next(each for each in found.outcomes if each.name == RECORDED_RULES)
    assert recorded.trained
    assert 0 < len(recorded.retrains) < len(outcome.retrains)
    assert found.holdout > 10
    for each in (outcome, recorded):
        assert each.trained.served[-1].scores["tactics"].examples == found.holdout  # type: ignore[union-attr]
    columns, rows = report.columns(found), report.summary(found)
    assert all(len(row) == len(columns) for row in rows)
    assert "mean micro f1 over time" in [name.lower() for name in columns]
    written = report.write_report(found, tmp_path / "report")
    assert [path.name for path in written] == [f"{MODEL}.png", f"{MODEL}-scores.png", f"{MODEL}.html"]
    page = written[-1].read_text()
    assert page.count("base64,") == 2
    assert "What served" in page
    assert not list((world.path / "output").rglob("*.safetensors")), "what serves is not touched"
    plain: Any = as_plain(found)
    mean = plain["outcomes"][-1]["trained"]["mean"]["tactics"]["micro_f1"]
    assert 0 < mean < 1

    def none(*_: Any) -> None:
        raise AssertionError("a run")

    assert as_plain(backtest(none))["outcomes"][-1]["trained"]["mean"] == plain["outcomes"][-1]["trained"]["mean"]


def test_the_mean_over_time_counts_nothing_as_long_as_nothing_serves() -> None:
    def served(version: str, from_ms: int, value: float) -> Served:
        scores = msgspec.convert({"tactics": {"examples": 5, "metrics": {"micro_f1": value}}}, dict[str, Any])
        return msgspec.convert({"version": version, "from_ms": from_ms, "scores": scores}, Served)

    trained = Trained(
        folder="", versions=(), served=(served("v1", 50, 0.4), served("v2", 75, 0.8)), start_ms=0, end_ms=100,
        processor_s=0.0,
    )  # fmt: skip
    assert trained.mean("tactics", "micro_f1") == pytest.approx((25 * 0.4 + 25 * 0.8) / 100)
    assert trained.last("tactics", "micro_f1") == 0.8
    assert trained.mean("severity", "micro_f1") == 0.0
