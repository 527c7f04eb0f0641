"""`sx9 backtest`: other rules of retraining, tried on the journal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sx9_ml_models.cli.options import DEFAULT_MODEL, JournalFile, Json, Model, example, new_app

app = new_app()


@app.command(epilog=example("sx9 backtest eager.toml lazy.toml --answer-after 30"))
def backtest(
    policy: Annotated[
        list[Path], typer.Argument(metavar="POLICY.toml...", help="Policy files, as for SX9_POLICY_FILE.")
    ],
    model: Model = DEFAULT_MODEL,
    journal: JournalFile = None,
    answer_after: Annotated[
        float, typer.Option(min=0, metavar="MINUTES", help="How long a run is assumed to take.")
    ] = 10.0,
    train: Annotated[
        bool, typer.Option("--train", help="Really train the versions that each policy would have made.")
    ] = False,
    holdout: Annotated[
        int, typer.Option(min=1, metavar="N", help="With --train: score on so many examples, at most.")
    ] = 1_000,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to write to (default: output/backtest).")
    ] = None,
    json: Json = False,
) -> None:
    """Try other rules of retraining on the journal.

    Shows for each policy, beside the recorded rules, how often and why it would have retrained, on how many
    examples, at what cost, and how long examples waited. Also written as a picture and an HTML file. With --train,
    the versions are trained in a folder of their own and the gate answers, and the score of what served over time
    is added; what serves now is not touched. If it is interrupted, the same call continues.
    """
    from streams.settings import load_settings
    from sx9_ml_models import render
    from sx9_ml_models.backtest import command, report
    from sx9_ml_models.backtest.compare import as_plain
    from sx9_ml_models.stage_bars import stage_bars
    from trainers.settings import load_trainer_settings

    settings, trainer = load_settings(), load_trainer_settings()
    folder, seconds = output or settings.output_dir / "backtest", answer_after * 60
    if train:
        found = command.trained_backtest(
            model, policy, journal, folder, settings, trainer, answer_after_s=seconds, holdout=holdout
        )
    else:
        with stage_bars("backtest") as on_progress:
            found = command.backtest(
                model, policy, journal, settings, trainer, answer_after_s=seconds,
                on_progress=lambda done, total: on_progress(model, done, total),
            )  # fmt: skip
    written = [str(path) for path in report.write_report(found, folder)]
    if json:
        render.as_json(as_plain(found) | {"written": written})
        return
    render.rows(report.columns(found), report.summary(found))
    for outcome in found.outcomes:
        render.rows(report.RETRAIN_COLUMNS, report.retrains(outcome))
    if train:
        render.rows(report.SCORE_COLUMNS, report.score_rows(found))
    render.lines(report.assumptions(found), *(f"written: {path}" for path in written))
