"""Where the answers of two versions differ, as tables."""

from __future__ import annotations

from sx9_ml_models.explain.answers import AnswerDiff, AnyDiff
from sx9_ml_models.explain.link_answers import TOP, RankDiff
from sx9_ml_models.explain.text_answers import TextDiff
from sx9_ml_models.render import lines, rows

MOST_ROWS = 20
"""Facts and techniques in a table; `--json` has all."""
TEXT_CHARS = 200


def show(diff: AnyDiff) -> None:
    """Print what differs."""
    if isinstance(diff, AnswerDiff):
        _labels(diff)
    elif isinstance(diff, TextDiff):
        _texts(diff)
    else:
        _ranks(diff)


def _labels(diff: AnswerDiff) -> None:
    lines(f"other labels for {diff.differ} of {diff.examples} held-out examples ({diff.held_out} in all)")
    if not diff.differ:
        return
    counts = [(d.label, *map(str, (d.true, d.before, d.after, d.won, d.lost))) for d in diff.labels]
    rows(("label", "have it", "before", "after", "won", "lost"), counts)
    changed = [
        (
            each.key, ", ".join(each.labels), ", ".join(each.before), ", ".join(each.after),
            f"{each.label} {each.probability_before:.2f} -> {each.probability_after:.2f}",
        )
        for each in diff.largest
    ]  # fmt: skip
    rows(("example", "has", "before", "after", "largest change"), changed)


def _texts(diff: TextDiff) -> None:
    lines(
        f"other sentences in {diff.differ} of {diff.questions} answers, other facts in {diff.facts_differ}; asked "
        f"about {diff.examples} of {diff.held_out} held-out examples"
    )
    if not diff.differ:
        return
    facts = [
        (f"{f.kind} {f.name}", *map(str, (f.given, f.before, f.after, f.gained, f.lost)))
        for f in diff.facts[:MOST_ROWS]
    ]
    if facts:
        rows(("fact", "given", "before", "after", "gained", "lost"), facts)
    changed = [
        (
            each.question, ", ".join(each.gained), ", ".join(each.lost), _cut(" ".join(each.removed)),
            _cut(" ".join(each.added)),
        )
        for each in diff.largest
    ]  # fmt: skip
    rows(("question", "gained", "lost", "only before", "only after"), changed)


def _ranks(diff: RankDiff) -> None:
    unknown = f"; {diff.unknown} of a kind that one of them does not know" if diff.unknown else ""
    lines(
        f"other techniques among the first {TOP} for {diff.differ} of {diff.sources} sources with held-out links "
        f"({diff.held_out} in all{unknown}); {diff.kept:.0%} of the first {TOP} are the same",
        f"of {diff.links} held-out links {diff.rose} rank higher and {diff.fell} lower; mean of 1 / rank "
        f"{diff.reciprocal_rank_before:.3f} -> {diff.reciprocal_rank_after:.3f}",
    )
    techniques = [
        (
            f"{t.id} {t.name}".strip(), str(t.before), str(t.after), str(t.entered), str(t.left), str(t.links),
            f"{t.rank_before:g} -> {t.rank_after:g}" if t.links else "",
        )
        for t in diff.techniques[:MOST_ROWS]
    ]  # fmt: skip
    if techniques:
        columns = (f"among the first {TOP}", "before", "after", "entered", "left", "held-out links", "median rank")
        rows(columns, techniques)
    changed = [
        (
            f"{s.name or s.id} ({s.label})", ", ".join(s.entered), ", ".join(s.left),
            f"{s.link} {s.rank_before} -> {s.rank_after}",
        )
        for s in diff.largest
    ]  # fmt: skip
    if changed:
        rows(("source", "entered", "left", "held-out link that moved most"), changed)


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_CHARS else f"{text[:TEXT_CHARS]} ..."
