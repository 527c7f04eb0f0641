"""What a feed is worth: sides that differ by the feed alone, one holdout, an error; what serves stays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas.errors import BadConfiguration
from schemas.journal import Example, PolicyChange, Record, Source, held_out
from schemas.policy import GateLimits
from schemas.recipes.base import recipe_values
from schemas.scores import TaskScores
from streams.settings import load_settings
from sx9_ml_models.rebuild.holdout import GROUPS, group_of, standard_error, with_each_group_left_out
from sx9_ml_models.worth import report
from sx9_ml_models.worth.measure import Difference, FeedWorth, Worth, differences, feeds_worth
from tests.sx9_ml_models.rebuild.runs import dying
from tests.sx9_ml_models.rebuild.test_rebuild import RULES, TICK
from tests.trainers.runs.test_trigger_handler import QUICK
from tests.trainers.samples import LABELS, MODEL, MemoryLog, example, examples
from trainers.bases.resolve import Base
from trainers.core.dataset import text_hash
from trainers.core.progress import ProgressCallback
from trainers.runs import execute_evaluation
from trainers.runs.evaluation import EvaluationRequest
from trainers.runs.execute_run import execute
from trainers.runs.run_process import Run
from trainers.settings import load_trainer_settings
from transport.partition_file import write_partition

REPORTS, NOISE = "reports", "noise"
POLICY = msgspec.structs.replace(
    RULES,
    bootstrap_examples=120,
    retrain_examples=1_000,
    recipe=recipe_values(QUICK),
    gate=GateLimits(min_examples=12),
)


def of_feeds(how_many: int) -> list[Example]:
    """Examples of two feeds, every third of one whose labels are wrong. The last has a text that was trained on."""
    found = []
    for at, each in enumerate(examples(how_many)):
        feed = NOISE if at % 3 == 2 else REPORTS
        labels = each.labels
        if feed == NOISE:
            labels = tuple(sorted(LABELS[(LABELS.index(label) + 1) % len(LABELS)] for label in labels))
        source = msgspec.structs.replace(each.source, feed=feed)
        found.append(msgspec.structs.replace(each, source=source, labels=labels))
    trained = next(each for each in found if not held_out(each))
    number = next(n for n in range(how_many, 2 * how_many) if held_out(example(n, LABELS[:1])))
    again = example(number, trained.labels, text=trained.text)
    return [*found, msgspec.structs.replace(again, source=Source("t", 0, number, feed=REPORTS))]


class Lab:
    """A journal in a file, and what was scored."""

    def __init__(self, path: Path, tiny: Base) -> None:
        self.path = path
        self.given = of_feeds(270)
        self.records: list[Record] = [PolicyChange(POLICY), TICK, *self.given, TICK]
        write_partition(path / "journal.jsonl", MemoryLog(self.records), Record)
        self.settings = load_settings(state_dir=path / "state", output_dir=path / "output")
        self.trainer = load_trainer_settings(
            state_dir=path / "state", output_dir=path / "output", cache_dir=tiny.folder.parents[1]
        )
        self.asked: list[EvaluationRequest] = []

    def worth(self, folder: str, feeds: Sequence[str] = (), run: Run = execute) -> Worth:
        """Of the feeds of the journal."""

        def evaluate(request: EvaluationRequest, on_progress: ProgressCallback) -> None:
            self.asked.append(request)
            execute_evaluation.execute(request, on_progress)

        return feeds_worth(
            MODEL, feeds, self.path / "journal.jsonl", self.path / folder, self.settings, self.trainer,
            holdout=1_000, run=run, evaluate=evaluate,
        )  # fmt: skip


@pytest.fixture
def lab(tmp_path: Path, tiny: Base) -> Lab:
    return Lab(tmp_path, tiny)


def test_a_feed_of_wrong_labels_is_worth_less_than_nothing_on_what_the_others_say(lab: Lab) -> None:
    with pytest.raises(KeyboardInterrupt):
        lab.worth("worth", run=dying(run=2, step=20))
    found = lab.worth("worth")
    noise = next(each for each in found.feeds if each.feed == NOISE)
    others = {each.metric: each for each in noise.differences if each.scored_on == "the other feeds"}
    assert others["micro_f1"].worth < -2 * (others["micro_f1"].error or math.inf)
    own = next(each for each in noise.differences if each.scored_on == "its own")
    assert own.worth > 0, "on its own examples even a wrong feed is worth something"
    assert others["micro_f1"].examples + own.examples == found.holdout

    # all sides had the same holdout, and nobody was trained on a text of it
    holdouts = {request.offsets for request in lab.asked}
    assert len(holdouts) == 1
    texts = {text_hash(lab.records[at].text) for at in holdouts.pop()}  # type: ignore[union-attr]
    assert texts.isdisjoint(text_hash(each.text) for each in lab.given if not held_out(each))
    assert len(texts) == sum(map(held_out, lab.given)) - 1

    # without the only right feed the gate promotes nothing, and the table says so
    reports = next(each for each in found.feeds if each.feed == REPORTS)
    assert (reports.champion, reports.differences) == ("", ())
    rows = {row[0]: row for row in report.table(found)}
    assert rows[REPORTS][3:6] == ("", "", "no version")
    assert f"Without {REPORTS} the gate promotes no version." in report.conclusions(found, lab.path)
    assert any(line.startswith(f"{NOISE} harms") for line in report.conclusions(found, lab.path))
    report.write_plot(found, lab.path / "worth.png")
    assert (lab.path / "worth.png").read_bytes().startswith(b"\x89PNG")
    assert not (lab.path / "output").exists(), "nothing that serves is touched"

    # what is there is not made again, and another folder leads to the same weights as the one that was interrupted
    def none(*_: Any) -> None:
        raise AssertionError("a run")

    scored = len(lab.asked)
    again = lab.worth("worth", run=none)
    assert again.feeds[0].differences == found.feeds[0].differences
    assert len(lab.asked) == scored
    straight = lab.worth("straight", [NOISE])
    assert [each.weights for each in straight.versions] == [each.weights for each in found.versions]
    (alone,) = straight.feeds
    assert [each.weights for each in alone.versions] == [each.weights for each in noise.versions]
    assert alone.differences == noise.differences


def test_a_feed_that_the_journal_does_not_have_is_an_error_before_anything_is_trained(lab: Lab) -> None:
    with pytest.raises(BadConfiguration, match="no training examples of the feed 'sigma': it has reports, noise"):
        lab.worth("worth", ["sigma"])
    assert not list((lab.path / "worth").rglob("*.safetensors"))


def test_the_error_of_a_difference_is_that_of_the_pairs() -> None:
    def scores(values: Sequence[float]) -> list[dict[str, TaskScores]]:
        return [{"tactics": TaskScores(examples=9, metrics={"micro_f1": value})} for value in values]

    before, after = [0.8, 0.6, 0.9, 0.7], [0.7, 0.5, 0.8, 0.6]
    (found,) = differences("its own", scores(before), scores(after))
    assert found.worth == pytest.approx(0.1)
    assert found.error == pytest.approx(0.0, abs=1e-12), "both sides vary alike"
    (found,) = differences("its own", scores(before), [{} for _ in after])
    assert (found.without_feed, found.worth) == (0.0, 0.8), "who does not have the task answers none of it"
    assert standard_error([0.5]) is None


def test_the_jackknife_has_the_error_of_a_mean() -> None:
    values = [0.1, 0.4, 0.4, 0.9, 0.2, 0.7]
    left_out = [(sum(values) - value) / 5 for value in values]
    mean = sum(values) / 6
    expected = math.sqrt(sum((value - mean) ** 2 for value in values) / 5 / 6)
    assert standard_error(left_out) == pytest.approx(expected)


def test_what_belongs_together_is_left_out_together() -> None:
    found = [
        (at, msgspec.structs.replace(each, group=f"technique:{at // 4}")) for at, each in enumerate(examples(120))
    ]
    whole, *without = with_each_group_left_out(found, range(120))
    assert whole == tuple(range(120))
    assert 2 <= len(without) <= GROUPS
    for part in without:
        left = {found[i][1].group for i in set(whole) - set(part)}
        assert left
        assert left.isdisjoint(found[i][1].group for i in part)
        assert len({group_of(found[i][1]) for i in set(whole) - set(part)}) == 1


def test_a_task_that_one_side_has_not_learnt_is_no_worth_of_the_feed(tmp_path: Path) -> None:
    difference = Difference(
        scored_on="the other feeds",
        task="severity",
        metric="micro_f1",
        examples=300,
        with_feed=0.0,
        without_feed=0.8,
        worth=-0.8,
        error=0.02,
    )
    of_feed = FeedWorth(feed="attack", examples=9, champion="v1002", versions=(), differences=(difference,))
    worth = Worth(
        model="distilbert-mitre", end=9, examples=9, holdout=300, champion="v1005", versions=(), feeds=(of_feed,)
    )
    said = " ".join(report.conclusions(worth, tmp_path))
    assert "Only the last version without attack has learnt severity" in said
    assert "harms" not in said
