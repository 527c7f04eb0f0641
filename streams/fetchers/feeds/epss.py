"""FIRST EPSS: the probability that a vulnerability is exploited within 30 days, a CSV file for all of them.

The scores of all 300,000 move a little every day. Only those from `MIN_SCORE` on are published, with two digits, so
that a day brings hundreds of events, not hundreds of thousands. One that falls below is withdrawn.
"""

from __future__ import annotations

from schemas.errors import BadRecord
from schemas.events import Entity
from schemas.topics import ENTITIES
from streams.fetchers.base.feed import FeedSpec
from streams.fetchers.formats import fields, json_items, table
from streams.fetchers.formats.fields import Fields, number, required, text
from streams.fetchers.sources.resource import ParsedResource, Resource, file_named

NAME = "epss"
MIN_SCORE = 0.1
"""Lowest probability that is published."""


def parse(data: bytes, _file_name: str, feed: str) -> ParsedResource:
    """The scores that are high enough.

    Raises:
        BadRecord: `bad-gzip`, `not-text`, `bad-csv`, `too-many`; `wrong-form`: there are no scores.
    """
    comment, _, rest = table.plain_text(data).partition("\n")
    release = comment.partition("score_date:")[2].strip()[:10] if comment.startswith("#") else ""
    found = table.rows(rest if comment.startswith("#") else f"{comment}\n{rest}")
    items = [row for row in found if not _is_low(row)]
    if not any("epss" in row for row in items):
        raise BadRecord(
            "wrong-form", f"no row has a score from {MIN_SCORE} on in a column `epss`: check the source"
        )
    return json_items.parsed_items(
        feed, release, items, _key, lambda row: _score(row, feed, release), is_complete=True
    )


def _is_low(row: Fields) -> bool:
    """Whether a score is too low to be published; what is no score is not low."""
    try:
        return float(text(row, "epss")) < MIN_SCORE
    except ValueError:
        return False


def _key(row: Fields) -> str:
    return f"{NAME}:{required(row, 'cve', 40)}"


def _score(row: Fields, feed: str, release: str) -> Entity:
    cve, score = required(row, "cve", 40), number(row, "epss")
    if not 0.0 < score <= 1.0:
        raise BadRecord("bad-epss", f"{cve}: `epss` is {row.get('epss')!r:.50}, not a probability")
    return Entity(
        id=_key(row),
        feed=feed,
        release=release,
        kind="vulnerability",
        name=cve,
        external_id=cve,
        tags=("epss",),
        cves=fields.cves([cve]),
        score=round(score, 2),
    )


FEED = FeedSpec(
    name=NAME,
    default_source="https://epss.empiricalsecurity.com/epss_scores-current.csv.gz",
    topics=(ENTITIES,),
    collection=Resource(file_in=file_named("epss_scores-current.csv.gz", "epss_scores-current.csv"), parse=parse),
    modules=(__name__, *json_items.MODULES, *table.MODULES),
    about="probability of exploitation",
)
