"""Results as tables and JSON on standard output. Nothing else is written there; messages go to stderr."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from schemas.scores import HOLDOUT, of_split
from schemas.versions import Manifest
from trainers.reporting.summary import number, qualified_name, values_of

if TYPE_CHECKING:
    from streams.fetchers.base.runner import FetchReport
    from sx9_ml_models.explain.diff import VersionDiff

Row = Mapping[str, Any]
WIDTH_OF_A_PIPE = 160
DAY_S = 86_400


def out() -> Console:
    """The console of standard output. Names from feeds may be in what it prints, so nothing in it is markup."""
    return Console(markup=False, width=None if sys.stdout.isatty() else WIDTH_OF_A_PIPE, highlight=False)


def as_json(value: Any) -> None:
    """One JSON document on standard output."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def facts(values: Row) -> None:
    """Names and values on one line."""
    out().print(", ".join(f"{name} {value}" for name, value in values.items()), markup=False)


def rows(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    """A table."""
    table = _table(*columns)
    for row in cells:
        _add(table, *row)
    out().print(table)


def lines(*texts: str) -> None:
    """Sentences, each on a line of its own."""
    for text in texts:
        out().print(_printable(text), markup=False, soft_wrap=True)


def windows(rows: Sequence[Row]) -> None:
    """The closed windows of a model."""
    table = _table("window", "closed by", "examples", "holdout", "retracted", "from", "to", "most frequent labels")
    for row in rows:
        _add(
            table, row["id"], row["closed_by"], row["examples"], row["holdout"], row["retracted"],
            day(row["opened_ms"]), day(row["closed_ms"]), _labels(row["labels"]),
        )  # fmt: skip
    _show(table, rows, "no window has closed yet")


def triggers(rows: Sequence[Row]) -> None:
    """The decisions to retrain."""
    table = _table("trigger", "version", "reason", "at", "examples", "measured", "answer")
    for row in rows:
        _add(
            table, row["id"], row["version"], row["reason"], day(row["at_ms"]), row["examples"], _measures(row),
            row["answer"] or "waiting",
        )  # fmt: skip
    _show(table, rows, "no trigger yet: see `sx9 triggers --declined` for the reasons")


def acls(rows: Sequence[Row]) -> None:
    """The access control lists of the roles."""
    table = _table("principal", "operation", "resource", "pattern", "name")
    for row in rows:
        _add(table, *row.values())
    _show(table, rows, "none")


def declined(rows: Sequence[Row]) -> None:
    """The decisions not to retrain."""
    table = _table("journal offset", "at", "reason", "measured")
    for row in rows:
        _add(table, row["offset"], day(row["at_ms"]), row["why"], _measures(row))
    _show(table, rows, "no decision yet: the journal is empty")


def quarantine(rows: Sequence[Row]) -> None:
    """What is set aside of the feeds."""
    table = _table("model", "feed", "waiting", "since", "reason")
    for row in rows:
        measured = f" {row['value']:.0f} of {row['limit']:.0f}" if row["limit"] else ""
        _add(table, row["model"], row["feed"], row["waiting"], day(row["since_ms"]), f"{row['reason']}{measured}")
    _show(table, rows, "nothing is set aside")


def held(found: Row, rows: Sequence[Row]) -> None:
    """The examples of a feed that are set aside, and what they have in common."""
    table = _table("entity", "labels", "text")
    for row in rows:
        labels = "retracted" if row["retracted"] else ", ".join(row["labels"])
        _add(table, row["key"], labels, row["text"][:100])
    out().print(table)
    out().print(
        f"{found['waiting']} examples of {found['entities']} entities wait; labels: {_labels(found['labels'], 5)}"
    )


def similar(rows: Sequence[Row]) -> None:
    """The most similar nodes, best first."""
    table = _table("node", "kind", "name", "similarity")
    for row in rows:
        _add(table, row["id"], row["kind"], row["name"], f"{row['score']:.3f}")
    _show(table, rows, "no other node has an embedding")


def versions(rows: Sequence[Row]) -> None:
    """The versions of a model, each with its scores and those of its parent on the same holdout."""
    columns = list(dict.fromkeys(column for row in rows for column in _metrics_on_holdout(row["evaluation"])))
    names = [qualified_name(metric, task, columns[0][0]) for task, metric in columns]
    table = _table(
        "version", "", "reason", "window", "examples", "holdout", *names, "seconds", "made", "rebuildable"
    )
    for row in rows:
        outcome = "serves" if row["serves"] else "promoted" if row["promoted"] else "refused"
        _add(
            table, row["version"], outcome, row["reason"], f"{row['start']}-{row['end']}", row["examples"],
            row["holdout_examples"], *(_before_after(row, task, metric) for task, metric in columns),
            f"{row['seconds']:.0f}", day(row["created_ms"]), row.get("rebuildable", ""),
        )  # fmt: skip
    _show(table, rows, "no version yet: the first comes with the first trigger (`sx9 status`)")


def rebuildable(until_ms: float | None, now_ms: float) -> str:
    """Until when a version can be rebuilt, in words; empty if it was not asked.

    >>> rebuildable(math.inf, 0.0), rebuildable(0.0, 0.0), rebuildable(864e5 * 2.9, 0.0), rebuildable(math.nan, 0.0)
    ('for ever', 'no', '2 days', 'unknown')
    """
    if until_ms is None:
        return ""
    if math.isnan(until_ms):
        return "unknown"
    if math.isinf(until_ms):
        return "for ever"
    return f"{max(0, int((until_ms - now_ms) / 1000 // DAY_S))} days" if until_ms else "no"


def version(manifest: Manifest, serves: bool, folder: str) -> None:
    """One version: its provenance and its scores."""
    console = out()
    state = "serves" if serves else "promoted once" if manifest.promoted else "refused"
    console.print(f"{manifest.model} {manifest.version}: {state}", style="bold")
    facts = Table.grid(padding=(0, 2))
    for name, value in (
        ("folder", folder),
        ("parent", manifest.parent or f"none; base {manifest.base}"),
        ("trigger", f"{manifest.trigger} ({manifest.reason})"),
        ("windows", ", ".join(f"{s.start}-{s.end}" for s in manifest.spans)),
        ("examples", f"{manifest.examples_trained}, {len(manifest.rehearsal)} of them rehearsed; "
                     f"{manifest.examples_left_out} left out; dropped: {manifest.examples_dropped or 'none'}"),
        ("taxonomies", ", ".join(manifest.taxonomies)),
        ("made", f"{day(manifest.created_ms)} in {manifest.seconds:.0f} s on {manifest.machine}"),
        ("phases", ", ".join(f"{name} {took.seconds:.1f} s" for name, took in manifest.phases.items())),
        ("left out", "; ".join(f"{name}: {why}" for name, why in manifest.left_out.items()) or "nothing"),
        ("libraries", ", ".join(f"{name} {version}" for name, version in manifest.libraries.items())),
        ("weights", ", ".join(sha for name, sha in manifest.files.items() if name.endswith(".safetensors"))),
    ):  # fmt: skip
        facts.add_row(Text(name, style="dim"), Text(_printable(str(value))))
    console.print(facts)
    checks = _table("check of the gate", "champion", "candidate", "margin", "examples", "")
    for c in manifest.gate:
        passed = "passed" if c.passed else "failed"
        _add(checks, c.name, f"{c.champion:.3f}", f"{c.candidate:.3f}", f"{c.margin:.3f}", c.support, passed)
    console.print(checks)
    console.print(_scores(manifest))
    labels = _table("label", "precision", "recall", "F1", "support")
    for scores in of_split(manifest.evaluation, HOLDOUT).values():
        for label, s in scores.labels.items():
            _add(labels, label, f"{s.precision:.3f}", f"{s.recall:.3f}", f"{s.f1:.3f}", s.support)
    if labels.row_count:
        console.print(labels)


def version_diff(diff: VersionDiff) -> None:
    """What differs between two versions."""
    where = "on the same examples" if diff.same_holdout else "each on the holdout of its own time"
    added, removed = (", ".join(labels) or "none" for labels in (diff.labels_added, diff.labels_removed))
    lines(
        f"{diff.model} {diff.before} -> {diff.after}, scored {where}",
        f"labels added: {added}; removed: {removed}",
    )
    for name, scores in (("metric", diff.metrics), ("F1 of a label", diff.labels)):
        if scores:
            cells = [
                (s.name, *("" if v is None else f"{v:.3f}" for v in (s.before, s.after, s.change))) for s in scores
            ]
            rows((name, diff.before, diff.after, "change"), cells)
    rows(("made from", diff.before, diff.after), diff.facts)


def fetch_report(report: FetchReport) -> None:
    """The result of one fetch."""
    counts = ", ".join(f"{count} {kind}" for kind, count in report.counts.items() if count)
    console = out()
    console.print(
        f"{report.feed} {report.release or ''} from {report.source}: {counts or 'nothing found'}; "
        f"{report.published} published in {report.seconds:.1f} s",
        markup=False,
    )
    if report.rejected:
        reasons = ", ".join(f"{count} {reason}" for reason, count in report.rejected.items())
        console.print(f"  unusable: {reasons} ({report.dead_letters} new dead letters)", markup=False)


def lookup_heading(found: Row, asked: str) -> str:
    """What a lookup found, in one line: the id as it is today, its name, and how much covers it."""
    ids = " -> ".join((asked.upper(), *found["successors"]))
    name = found["mitre"]["name"] if found["mitre"] else "not known"
    return (
        f"{ids} {name}: {len(found['covered_by'])} items cover it, {len(found['used_by'])} actors or tools use it"
    )


def status(found: Row) -> None:
    """The running processes, the topics, and each model; see `sx9_ml_models.queries.status`."""
    console = out()
    if not found["running"]:
        console.print("not running: start it with `sx9 up`")
    else:
        console.print(f"Kafka {found['kafka']}   Neo4j {found['neo4j'] or '(not running)'}", markup=False)
    if found["processes"]:
        table = _table("process", "state", "metrics", "log")
        for process in found["processes"]:
            state = "up" if process["answers"] else "down"
            url = f"http://127.0.0.1:{process['metrics_port']}/metrics"
            _add(table, process["name"], state, url, process["log"])
        console.print(table)
        for process in found["processes"]:
            if page := process.get("page"):
                console.print(f"page: {page}", markup=False)
    if found.get("feeds"):
        table = _table("feed", "last success", "new", "edited", "rejected", "failed", "next", "error")
        for feed in found["feeds"]:
            times = day(feed["last_success_ms"]) or "never", day(feed["next_ms"])
            numbers = (feed[name] for name in ("new", "edited", "rejected", "failures"))
            _add(table, feed["feed"], times[0], *numbers, times[1], feed["error"])
        console.print(table)
    if found.get("topics"):
        table = _table("topic", "messages")
        for name, messages in found["topics"].items():
            _add(table, name, messages)
        console.print(table)
        console.print("lag: " + ", ".join(f"{role} {lag}" for role, lag in found["lag"].items()))
    for reason, count in found.get("dead_letters", {}).items():
        console.print(f"dead letters: {count} {reason}")
    for model in found["models"]:
        details = ", ".join(f"{name} {value}" for name, value in model.items() if name != "model" and value != "")
        console.print(f"{model['model']}: {details}", markup=False)


def day(time_ms: int) -> str:
    """A time in UTC, to the minute; empty for 0, which stands for an unknown time.

    >>> day(1_600_000_000_000)
    '2020-09-13 12:26'
    """
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(time_ms / 1000)) if time_ms else ""


def _metrics_on_holdout(evaluation: Row) -> list[tuple[str, str]]:
    """(task, metric) of everything that the gate compares, on the whole holdout."""
    return [(task, m) for task, splits in evaluation.items() for m in splits.get(HOLDOUT, {}).get("metrics", {})]


def _before_after(row: Row, task: str, metric: str) -> str:
    after, before = (
        row[name].get(task, {}).get(HOLDOUT, {}).get("metrics", {}).get(metric)
        for name in ("evaluation", "parent_evaluation")
    )
    arrow = f"{before:.3f} -> " if before is not None else ""
    return f"{arrow}{after:.3f}" if after is not None else ""


def _scores(manifest: Manifest) -> Table:
    """All metrics on the whole holdout: of the version, of its parent and of the simple baselines."""
    others = {"parent": manifest.parent_evaluation, **manifest.baselines}
    table = _table("on the holdout", "this version", *others)
    main_task = next(iter(manifest.evaluation), "")
    for task, scores in of_split(manifest.evaluation, HOLDOUT).items():
        compared = [of_split(evaluation, HOLDOUT).get(task) for evaluation in others.values()]
        for metric, value in values_of(scores).items():
            cells = (values_of(other).get(metric) if other else None for other in compared)
            name = qualified_name(metric, task, main_task)
            _add(table, name, f"{value:.4g}", *("" if v is None else f"{v:.4g}" for v in cells))
        _add(table, f"{task} examples", scores.examples)
    return table


def _measures(row: Row) -> str:
    shown = [m for m in row["measures"] if m["tripped"]] or row["measures"]
    return ", ".join(describe_measure(m["rule"], m["value"], m["limit"]) for m in shown)


def describe_measure(rule: str, value: float, limit: float) -> str:
    """The measured value of a rule and its limit. Ages, which are measured in seconds, are shown in days.

    >>> describe_measure("volume", 3000.0, 1500.0), describe_measure("staleness", 39_920_000.0, 38_880_000.0)
    ('volume 3000 of 1500', 'staleness 462 of 450 days')
    """
    if rule == "staleness":
        return f"{rule} {number(value / DAY_S, 3)} of {number(limit / DAY_S, 3)} days"
    return f"{rule} {number(value)} of {number(limit)}"


def _labels(counts: Mapping[str, int], limit: int = 3) -> str:
    """The most frequent labels."""
    largest = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:limit]
    return ", ".join(f"{label} {count}" for label, count in largest)


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 1))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _add(table: Table, *values: object) -> None:
    table.add_row(*(Text(_printable(str(value))) for value in values))


def _printable(text: str) -> str:
    r"""A text without characters that a terminal acts on.

    >>> _printable("a\x1b[2Jb")
    'a�[2Jb'
    """
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def _show(table: Table, rows: Sequence[Row], empty: str) -> None:
    out().print(table if rows else empty)
