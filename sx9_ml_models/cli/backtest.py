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
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to write to (default: output/backtest).")
    ] = None,
    json: Json = False,
) -> None:
    """Try other rules of retraining on the journal.

    Shows for each policy, beside the recorded rules, how often and why it would have retrained, on how many
    examples, at what cost, and how long examples waited. Nothing is trained. Also written as a picture and an HTML
    file.
    """
    from streams.settings import load_settings
    from sx9_ml_models import render
    from sx9_ml_models.backtest import compare, report
    from sx9_ml_models.fetching import progress_bars
    from sx9_ml_models.journals import open_journal
    from trainers.settings import load_trainer_settings
    from trainers.store.shared_registry import open_registry

    settings = load_settings()
    policies = compare.policies_of(policy, model)
    manifests = open_registry(load_trainer_settings()).versions(model)
    with open_journal(model, journal, settings) as log, progress_bars("backtest") as on_progress:
        found = compare.compare(
            model, log, policies, manifests, answer_after_s=answer_after * 60,
            on_progress=lambda done, total: on_progress(model, done, total),
        )  # fmt: skip
    written = [str(path) for path in report.write_report(found, output or settings.output_dir / "backtest")]
    if json:
        render.as_json(compare.as_plain(found) | {"written": written})
        return
    render.rows(report.COLUMNS, report.summary(found))
    for outcome in found.outcomes:
        render.rows(report.RETRAIN_COLUMNS, report.retrains(outcome))
    render.lines(report.assumptions(found), *(f"written: {path}" for path in written))
