"""The training loop: resumed runs, memory that runs out, processes that share a batch."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch import nn

from schemas.errors import BadConfiguration
from schemas.recipes.base import RecipeConfig
from schemas.scores import TaskScores
from trainers.core import loop
from trainers.core.history import History
from trainers.core.loop import fit, learning_rate_share
from trainers.core.progress import ProgressCallback, RunProgress, no_progress
from trainers.models.deterministic import make_deterministic
from trainers.runs.checkpoints import FolderCheckpointer

CONFIG = RecipeConfig(learning_rate=0.05, threads=1, save_steps=4, eval_steps=5, warmup=0.2, device="cpu")
PLAN = [[[(8 * batch + i) * 7 % 48 for i in range(8)] for batch in range(6)] for _ in range(3)]
"""Three epochs of six batches of eight."""


class Stop(BaseException):
    """The process is gone."""


class Line:
    """A network with dropout that learns a line, and the loss of examples by index."""

    def __init__(self) -> None:
        make_deterministic(CONFIG)
        generator = torch.Generator().manual_seed(1)
        self.x = torch.randn(48, 4, generator=generator)
        self.y = self.x.sum(1, keepdim=True)
        self.model = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.2), nn.ReLU(), nn.Linear(16, 1))

    def loss(self, model: nn.Module, indices: Sequence[int]) -> torch.Tensor:
        """Sum of the squared errors."""
        some = list(indices)
        loss: torch.Tensor = (model(self.x[some]) - self.y[some]).square().sum()
        return loss

    def fit(
        self, config: RecipeConfig = CONFIG, on_progress: ProgressCallback = no_progress, **more: Any
    ) -> History:
        """Train it."""
        groups = [{"params": list(self.model.parameters()), "lr": config.learning_rate}]
        return fit(self.model, PLAN, more.pop("loss", self.loss), groups, config, on_progress, **more)

    def weights(self) -> list[torch.Tensor]:
        """What it learnt."""
        return [p.detach().clone() for p in self.model.parameters()]


def losses(history: History) -> list[float]:
    return [point.loss for point in history.points]


def equal(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(map(torch.equal, a, b))


def dies_at(number: int) -> ProgressCallback:
    def on_progress(step: RunProgress) -> None:
        if step.step == number:
            raise Stop

    return on_progress


def test_it_learns_and_reports_every_step() -> None:
    line, seen = Line(), []
    history = line.fit(on_progress=seen.append)
    assert [(s.step, s.steps, s.epoch) for s in seen] == [(n, 18, (n - 1) // 6 + 1) for n in range(1, 19)]
    assert losses(history)[-1] < losses(history)[0] / 2
    assert [s.loss for s in seen] == losses(history)


@pytest.mark.parametrize("killed_at", [3, 4, 9, 17])
def test_a_killed_run_resumes_with_the_same_losses_and_weights(tmp_path: Path, killed_at: int) -> None:
    straight = Line()
    expected = straight.fit()
    with pytest.raises(Stop):
        Line().fit(on_progress=dies_at(killed_at), checkpointer=FolderCheckpointer(tmp_path / "c", "it"))
    again, seen = Line(), []
    if killed_at >= CONFIG.save_steps:
        torch.manual_seed(99)  # what the random state is then comes from the checkpoint
    history = again.fit(on_progress=seen.append, checkpointer=FolderCheckpointer(tmp_path / "c", "it"))
    assert losses(history) == losses(expected)
    assert equal(again.weights(), straight.weights())
    assert seen[0].step == (killed_at // 4 * 4 + 1 if killed_at >= 4 else 1), "it goes on where the checkpoint is"


def test_a_checkpoint_of_another_run_is_passed_over(tmp_path: Path) -> None:
    with pytest.raises(Stop):
        Line().fit(on_progress=dies_at(9), checkpointer=FolderCheckpointer(tmp_path / "c", "another"))
    line, seen = Line(), []
    line.fit(on_progress=seen.append, checkpointer=FolderCheckpointer(tmp_path / "c", "it"))
    assert len(seen) == 18


def change_the_end(path: Path) -> None:
    """Replace the last four bytes, which are one number."""
    content = path.read_bytes()
    path.write_bytes(content[:-4] + bytes(255 - byte for byte in content[-4:]))


def zero_half(path: Path) -> None:
    """Replace the second half by zeros."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2].ljust(len(content), b"\0"))


@pytest.mark.parametrize(
    "damage",
    [lambda p: p.write_bytes(b"x" * 50), Path.unlink, change_the_end, zero_half],
    ids=["other bytes", "missing", "one number", "half is zeros"],
)
@pytest.mark.parametrize("name", ["state.safetensors", "state.json"])
def test_a_damaged_checkpoint_only_costs_time(tmp_path: Path, name: str, damage: Callable[[Path], Any]) -> None:
    straight = Line()
    straight.fit()
    with pytest.raises(Stop):
        Line().fit(on_progress=dies_at(9), checkpointer=FolderCheckpointer(tmp_path / "c", "it"))
    damage(tmp_path / "c" / name)
    again, seen = Line(), []
    checkpointer = FolderCheckpointer(tmp_path / "c", "it")
    again.fit(on_progress=lambda step: seen.append((step, (tmp_path / "c").exists())), checkpointer=checkpointer)
    assert len(seen) == 18
    assert not seen[0][1], "the damaged checkpoint is gone"
    assert equal(again.weights(), straight.weights())


def test_scores_are_recorded_at_intervals_and_at_the_end() -> None:
    line = Line()
    modes = []

    def evaluate() -> dict[str, TaskScores]:
        modes.append(line.model.training)
        return {"line": TaskScores(examples=1, metrics={"score": 0.5})}

    history = line.fit(evaluate=evaluate)
    assert history.scores == {step: {"line": {"score": 0.5}} for step in (5, 10, 15, 18)}
    assert not any(modes)


def test_accumulated_batches_are_one_larger_batch() -> None:
    config = msgspec.structs.replace(CONFIG, gradient_accumulation_steps=2)
    halves, whole = Line(), Line()
    for line in (halves, whole):
        line.model[1] = nn.Identity()  # dropout would draw other numbers
    history = halves.fit(config)
    groups = [{"params": list(whole.model.parameters()), "lr": config.learning_rate}]
    twice = [[epoch[i] + epoch[i + 1] for i in range(0, 6, 2)] for epoch in PLAN]
    expected = fit(whole.model, twice, whole.loss, groups, CONFIG, no_progress)
    assert losses(history) == pytest.approx(losses(expected), rel=1e-5)


def test_log_lines_are_written_at_intervals(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "trainers.core.loop"):
        Line().fit(msgspec.structs.replace(CONFIG, logging_steps=6))
    assert [r.getMessage().split(":")[0] for r in caplog.records] == [
        "step 6 of 18, epoch 1", "step 12 of 18, epoch 2", "step 18 of 18, epoch 3",
    ]  # fmt: skip


def short_of_memory(line: Line, most: int) -> Callable[[nn.Module, Sequence[int]], torch.Tensor]:
    """The loss on a machine whose memory is enough for so many examples."""

    def loss(model: nn.Module, indices: Sequence[int]) -> torch.Tensor:
        if len(indices) > most:
            raise torch.OutOfMemoryError(f"tried to allocate {len(indices)} examples")
        return line.loss(model, indices)

    return loss


def test_what_a_failed_batch_computed_is_freed_before_a_smaller_one_is_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    line, computed, still_there = Line(), [], []

    def loss(model: nn.Module, indices: Sequence[int]) -> torch.Tensor:
        activations = torch.zeros(1_000)
        if len(indices) > 4:
            computed.append(weakref.ref(activations))
            raise torch.OutOfMemoryError("tried to allocate")
        return line.loss(model, indices)

    monkeypatch.setattr(loop.log, "warning", lambda *_: still_there.append([r() for r in computed]))
    line.fit(loss=loss)
    assert still_there == [[None]]


def test_out_of_memory_halves_the_micro_batches_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    line, plenty = Line(), Line()
    for each in (line, plenty):
        each.model[1] = nn.Identity()
    history = line.fit(loss=short_of_memory(line, 2))
    assert history.micro_batch_size == 2
    said = [r.getMessage() for r in caplog.records]
    assert said == [f"out of memory: continuing with micro-batches of {n} examples" for n in (4, 2)]
    assert losses(history) == pytest.approx(losses(plenty.fit()), rel=1e-4), "the step is the same"


def test_too_little_memory_for_one_example_is_a_clear_error() -> None:
    line = Line()
    with pytest.raises(
        BadConfiguration, match="out of memory with a single example: lower the maximum number of tokens"
    ):
        line.fit(loss=short_of_memory(line, 0))


def test_another_error_is_raised_unchanged() -> None:
    def wrong(_model: nn.Module, _indices: Sequence[int]) -> torch.Tensor:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        Line().fit(loss=wrong)


def test_a_loss_that_is_not_finite_ends_the_run() -> None:
    def wrong(model: nn.Module, indices: Sequence[int]) -> torch.Tensor:
        return Line().loss(model, indices) * float("nan")

    with pytest.raises(ArithmeticError, match="loss is nan at step 1 of 18: lower the learning rate"):
        Line().fit(loss=wrong)


def test_the_learning_rate_rises_and_falls_linearly() -> None:
    shares = [learning_rate_share(step, 10, 0.2) for step in range(10)]
    assert shares == pytest.approx([0.5, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])


SHARED = """
import json, sys
import msgspec
from torch import nn
from tests.trainers.core.test_loop import CONFIG, Line, losses
from trainers.core.loop import is_main_process
from trainers.runs.distributed import join

join(CONFIG)
line = Line()
line.model[1] = nn.Identity()
history = line.fit()
if is_main_process():
    print(json.dumps({"losses": losses(history), "weights": [w.tolist() for w in line.weights()]}))
"""


def test_two_processes_share_every_batch_and_give_the_result_of_one(tmp_path: Path) -> None:
    (tmp_path / "shared.py").write_text(SHARED)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    done = subprocess.run(
        [*command, str(tmp_path / "shared.py")], cwd=Path(__file__).parents[3], capture_output=True, text=True,
        timeout=90, check=False, env={**_environment(), "ACCELERATE_USE_CPU": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (said,) = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    line = Line()
    line.model[1] = nn.Identity()
    assert said["losses"] == pytest.approx(losses(line.fit()), rel=1e-4)
    for theirs, ours in zip(said["weights"], line.weights(), strict=True):
        assert torch.allclose(torch.tensor(theirs), ours, atol=1e-4)


def _environment() -> dict[str, str]:
    import os

    return os.environ | {"PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}
