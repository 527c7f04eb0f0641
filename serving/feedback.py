"""What people say was wrong, as an event like any other: a passage of a report, of the feed `feedback`.

A later word on the same text replaces the earlier one. As every feed, it is learnt from, explained, quarantined,
and left out by a rebuild (`sx9 rebuild --exclude`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from schemas.events import Report, ReportSpan

FEED = "feedback"


def feedback_event(text: str, tactics: Iterable[str], techniques: Iterable[str], by: str, now_ms: int) -> Report:
    """The event that says what the labels of a text are.

    Args:
        text: What was classified.
        tactics: The right tactics. None of either: what was said of the text before is taken back.
        techniques: The right techniques, by their ids.
        by: Who says so.
        now_ms: When, ms since 1970.
    """
    name = f"{FEED}:{hashlib.sha256(text.encode()).hexdigest()[:24]}"
    spans = [
        ReportSpan(start=0, end=len(text), kind="tactic", name=tactic, tactics=(tactic,))
        for tactic in sorted(set(tactics))
    ]
    spans += [
        ReportSpan(start=0, end=len(text), kind="technique", id=technique) for technique in sorted(set(techniques))
    ]
    return Report(
        id=name,
        feed=FEED,
        document=name,
        name=f"Feedback of {by}",
        text=text,
        spans=tuple(spans),
        status="active" if spans else "withdrawn",
        modified_ms=now_ms,
    )
