"""A comparison of policies as a table, a picture, and one HTML file that needs no other."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from pathlib import Path

from schemas.windows import Reason
from streams.core.backtest import Retrain
from sx9_ml_models.backtest.compare import RECORDED, Comparison, Outcome
from sx9_ml_models.rebuild.holdout import value_of
from sx9_ml_models.render import day, describe_measure
from trainers.reporting.plots import picture, plot_label
from trainers.reporting.summary import number, qualified_name
from transport.files import write_atomically

DAY_S, HOUR_S, MINUTE_S = 86_400.0, 3_600.0, 60.0
COLORS: dict[Reason, str] = {
    "volume": "tab:blue", "drift": "tab:orange", "taxonomy": "tab:green", "staleness": "tab:gray",
    "manual": "tab:red", "backlog": "tab:purple", "input_drift": "tab:olive", "performance_drift": "tab:brown",
}  # fmt: skip
COLUMNS = (
    "policy", "retrains", "reasons", "new examples", "processor time", "median wait", "95 % waited less than",
    "not learnt yet", "oldest of these",
)  # fmt: skip
RETRAIN_COLUMNS = (
    "policy",
    "retrain",
    "at",
    "journal offset",
    "reason",
    "measured",
    "new",
    "rehearsed",
    "promoted",
)
SCORE_COLUMNS = ("policy", "version", "served from", "scores")
PROMOTED = "promoted"
_ALTS = ("When each policy retrains, and how long examples wait", "How good what served was over time")
_STYLE = (
    "body{font:15px system-ui,sans-serif;margin:2rem;max-width:75rem}table{border-collapse:collapse;margin:1rem 0}"
    "td,th{border-bottom:1px solid #ddd;padding:.3rem .7rem;text-align:left;vertical-align:top}img{max-width:100%}"
)


def columns(comparison: Comparison) -> tuple[str, ...]:
    """The columns of `summary`."""
    scores = (qualified_name(metric, task, _main_task(comparison)) for task, metric in comparison.main_metrics)
    added = [column for name in scores for column in (f"{name} at the end", f"mean {name} over time")]
    return (*COLUMNS, *([PROMOTED, *added] if _is_trained(comparison) else []))


def summary(comparison: Comparison) -> list[tuple[str, ...]]:
    """The rows of `columns`, one of each policy."""
    return [
        _summary_row(outcome) + (_score_cells(comparison, outcome) if _is_trained(comparison) else ())
        for outcome in comparison.outcomes
    ]


def score_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """The rows of `SCORE_COLUMNS`: every version that served under a trained policy, and since when."""
    main_task = _main_task(comparison)
    return [
        (
            outcome.name,
            each.version,
            day(each.from_ms),
            ", ".join(
                f"{qualified_name(metric, task, main_task)} {value_of(each.scores, task, metric):.3f}"
                for task, metric in comparison.main_metrics
            ),
        )
        for outcome in comparison.outcomes
        if outcome.trained
        for each in outcome.trained.served
    ]


def retrains(outcome: Outcome) -> list[tuple[str, ...]]:
    """The rows of `RETRAIN_COLUMNS`, one of each retrain of a policy."""
    return [_retrain_row(outcome.name, each) for each in outcome.retrains]


def assumptions(comparison: Comparison) -> str:
    """What the numbers rest on, in sentences."""
    if comparison.example_processor_s is None:
        cost = "No version in the registry says what an example costs, so no processor time is estimated."
    else:
        cost = (
            f"The processor time is {comparison.example_processor_s:.3g} s for each new or rehearsed example, the "
            f"mean of {comparison.versions} versions in the registry."
        )
    after = duration(comparison.answer_after_s)
    answers = f"each retrain is assumed to be promoted {after} after its trigger. {cost}"
    if trained := [each.trained for each in comparison.outcomes if each.trained]:
        answers = (
            f"each retrain was trained, and the gate answered {after} after its trigger. All versions are scored "
            f"on the same {comparison.holdout} examples, which none is trained on: those held out at the end of "
            "the journal. The mean over time counts 0 as long as nothing served. The versions are in "
            f"{Path(trained[0].folder).parent}; delete it to begin anew with what came since."
        )
    return (
        f"{comparison.records} records of the journal of {comparison.model}. '{RECORDED}' has the recorded "
        f"answers; elsewhere {answers}"
    )


def write_report(comparison: Comparison, folder: Path) -> list[Path]:
    """Write `<model>.png`, `<model>-scores.png` if policies were trained, and `<model>.html`. Returns the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    image, page = folder / f"{comparison.model}.png", folder / f"{comparison.model}.html"
    _draw(comparison, image)
    images = [image]
    if comparison.main_metrics:
        images.append(folder / f"{comparison.model}-scores.png")
        _draw_scores(comparison, images[-1])
    write_atomically(page, _page(comparison, [each.read_bytes() for each in images]).encode())
    return [*images, page]


def duration(seconds: float) -> str:
    """A duration in the unit that reads best.

    >>> duration(30), duration(5400), duration(864_000), duration(98_496_000)
    ('30 s', '1.5 h', '10 days', '1140 days')
    """
    for unit, size in (("days", DAY_S), ("h", HOUR_S), ("min", MINUTE_S)):
        if seconds >= size * (2 if unit == "days" else 1):
            return f"{number(seconds / size, 3)} {unit}"
    return f"{number(seconds, 3)} s"


def _summary_row(outcome: Outcome) -> tuple[str, ...]:
    return (
        outcome.name,
        str(len(outcome.retrains)),
        ", ".join(f"{count} {reason}" for reason, count in outcome.reasons.items()),
        str(outcome.examples),
        "unknown" if outcome.processor_s is None else duration(outcome.processor_s),
        duration(outcome.median_wait_s) if outcome.learnt else "",
        duration(outcome.p95_wait_s) if outcome.learnt else "",
        str(outcome.waiting),
        duration(outcome.oldest_waiting_s) if outcome.waiting else "",
    )


def _score_cells(comparison: Comparison, outcome: Outcome) -> tuple[str, ...]:
    """How many versions were promoted, and of each task the score at the end and over time."""
    trained = outcome.trained
    if trained is None:
        return ("",) * (1 + 2 * len(comparison.main_metrics))
    scores = (
        f"{value:.3f}"
        for task, metric in comparison.main_metrics
        for value in (trained.last(task, metric), trained.mean(task, metric))
    )
    return (f"{len(trained.served)} of {len(trained.versions)}", *scores)


def _is_trained(comparison: Comparison) -> bool:
    return any(outcome.trained for outcome in comparison.outcomes)


def _main_task(comparison: Comparison) -> str:
    return next((task for task, _ in comparison.main_metrics), "")


def _retrain_row(name: str, retrain: Retrain) -> tuple[str, ...]:
    return (
        name,
        str(retrain.number),
        day(retrain.at_ms),
        str(retrain.offset),
        retrain.reason,
        describe_measure(retrain.reason, retrain.value, retrain.limit),
        str(retrain.examples),
        str(retrain.rehearsal),
        day(retrain.promoted_ms) or "no",
    )


def _draw(comparison: Comparison, path: Path) -> None:
    """When each policy retrains, and how long examples wait under it."""
    outcomes = comparison.outcomes
    with picture(path, width=11.0, height=2.2 + 0.6 * len(outcomes)) as figure:
        times, waits = figure.subplots(1, 2, sharey=True, width_ratios=[3, 1])
        largest = max((r.examples for outcome in outcomes for r in outcome.retrains), default=1) or 1
        for reason, color in COLORS.items():
            points = [
                (retrain.at_ms / 1000 / DAY_S, lane, 20 + 180 * retrain.examples / largest)
                for lane, outcome in enumerate(outcomes)
                for retrain in outcome.retrains
                if retrain.reason == reason
            ]
            if points:
                days, lanes, sizes = zip(*points, strict=True)
                times.scatter(days, lanes, s=sizes, color=color, alpha=0.7, label=reason)
        times.xaxis_date()
        times.set(title=f"{comparison.model}: retrains", xlabel="time of the ticks (size: new examples)")
        times.set_yticks(range(len(outcomes)), [plot_label(outcome.name) for outcome in outcomes])
        times.set_ylim(len(outcomes) - 0.5, -0.5)
        times.grid(axis="x", alpha=0.3)
        if times.get_legend_handles_labels()[0]:
            figure.legend(*times.get_legend_handles_labels(), loc="outside lower left", ncols=5, fontsize="small")
        waits.barh(range(len(outcomes)), [o.p95_wait_s / DAY_S for o in outcomes], color="lightgray", label="95 %")
        waits.barh(range(len(outcomes)), [o.median_wait_s / DAY_S for o in outcomes], height=0.4, label="median")
        waits.set(title="wait of an example", xlabel="days")
        figure.legend(*waits.get_legend_handles_labels(), loc="outside lower right", ncols=2, fontsize="small")


def _draw_scores(comparison: Comparison, path: Path) -> None:
    """How good what served was over time, under each policy that was trained."""
    metrics, main_task = comparison.main_metrics, _main_task(comparison)
    with picture(path, width=11.0, height=0.8 + 3.2 * len(metrics)) as figure:
        panels = figure.subplots(len(metrics), 1, sharex=True, squeeze=False)[:, 0]
        for panel, (task, metric) in zip(panels, metrics, strict=True):
            for outcome in comparison.outcomes:
                if not outcome.trained or not outcome.trained.served:
                    continue
                served = outcome.trained.served
                days = [each.from_ms / 1000 / DAY_S for each in served] + [outcome.trained.end_ms / 1000 / DAY_S]
                values = [value_of(each.scores, task, metric) for each in served]
                panel.step(days, [*values, values[-1]], where="post", label=plot_label(outcome.name))
                panel.plot(days[:-1], values, ".", color=panel.lines[-1].get_color())
            panel.xaxis_date()
            panel.set(ylabel=qualified_name(metric, task, main_task))
            panel.grid(alpha=0.3)
        figure.suptitle(f"{comparison.model}: what served, on the same {comparison.holdout} held-out examples")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize="small")


def _page(comparison: Comparison, images: Sequence[bytes]) -> str:
    rows = [row for outcome in comparison.outcomes for row in retrains(outcome)]
    title = html.escape(f"Backtest of {comparison.model}")
    shown = "".join(
        f'<img alt="{alt}" src="data:image/png;base64,{base64.b64encode(image).decode()}">'
        for alt, image in zip(_ALTS, images, strict=False)
    )
    scores = score_rows(comparison)
    served = f"<h2>What served</h2>{_table(SCORE_COLUMNS, scores)}" if scores else ""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"<h1>{title}</h1><p>{html.escape(assumptions(comparison))}</p>"
        f"{_table(columns(comparison), summary(comparison))}{shown}{served}"
        f"<h2>Retrains</h2>{_table(RETRAIN_COLUMNS, rows)}</html>\n"
    )


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"
