"""The table of feeds, and the kinds of which there may be several: `reports-NAME`, `stix-NAME` and so on."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial

from schemas.errors import BadConfiguration
from streams.fetchers.base.feed import FeedSpec
from streams.fetchers.feeds import (
    abuse_ch,
    atlas,
    atomic,
    attack,
    caldera,
    car,
    cisa_kev,
    d3fend,
    engage,
    epss,
    exploitdb,
    gtfobins,
    hijacklibs,
    lolbas,
    loldrivers,
    misp,
    nmap,
    nuclei,
    nvd,
    osint,
    otx,
    reports,
    sigma,
    stix_feeds,
    tools,
    wadcoms,
    wazuh,
    yara,
)

_SPECS = (
    *attack.FEEDS, nuclei.FEED, sigma.FEED, cisa_kev.FEED, epss.FEED, exploitdb.FEED, atomic.FEED, caldera.FEED,
    car.FEED, lolbas.FEED, gtfobins.FEED, loldrivers.FEED, hijacklibs.FEED, wadcoms.FEED, d3fend.FEED, engage.FEED,
    atlas.FEED, *abuse_ch.FEEDS, yara.FEED, wazuh.FEED, nmap.FEED, *osint.FEEDS, *tools.FEEDS, reports.ANNOCTR_FEED,
    nvd.FEED, otx.FEED,
)  # fmt: skip

KINDS: Mapping[str, Callable[[str], FeedSpec]] = {
    reports.REPORTS_OF_YOURS: reports.feed_of,
    stix_feeds.STIX: partial(stix_feeds.feed_of, stix_feeds.STIX),
    stix_feeds.TAXII: partial(stix_feeds.feed_of, stix_feeds.TAXII),
    misp.MISP: misp.feed_of,
}
"""Kind of a source of yours -> the feed of a name: the kind itself, or `<kind>-NAME`."""

FEEDS: dict[str, FeedSpec] = {spec.name: spec for spec in (*_SPECS, *(make(kind) for kind, make in KINDS.items()))}
"""The feeds by name."""

_OWN_NAME = re.compile(r"(?P<kind>[a-z]+)-[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")


def feed_named(name: str) -> FeedSpec:
    """The feed of a name.

    Raises:
        BadConfiguration: There is none.
    """
    if name in FEEDS:
        return FEEDS[name]
    own = _OWN_NAME.fullmatch(name)
    if own is not None and own["kind"] in KINDS:
        return KINDS[own["kind"]](name)
    more = ", ".join(f"{kind}-NAME" for kind in KINDS)
    raise BadConfiguration(
        f"no feed {name!r}: there are {', '.join(FEEDS)}; and {more}, with small letters, digits and -, at most 40"
    )
