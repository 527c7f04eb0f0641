"""The table of feeds."""

from __future__ import annotations

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
    nmap,
    nuclei,
    nvd,
    osint,
    reports,
    sigma,
    tools,
    wadcoms,
    wazuh,
    yara,
)

_SPECS = (
    *attack.FEEDS, nuclei.FEED, sigma.FEED, cisa_kev.FEED, epss.FEED, exploitdb.FEED, atomic.FEED, caldera.FEED,
    car.FEED, lolbas.FEED, gtfobins.FEED, loldrivers.FEED, hijacklibs.FEED, wadcoms.FEED, d3fend.FEED, engage.FEED,
    atlas.FEED, *abuse_ch.FEEDS, yara.FEED, wazuh.FEED, nmap.FEED, *osint.FEEDS, *tools.FEEDS, *reports.FEEDS,
    nvd.FEED,
)  # fmt: skip

FEEDS: dict[str, FeedSpec] = {spec.name: spec for spec in _SPECS}
"""The feeds by name."""


def feed_named(name: str) -> FeedSpec:
    """The feed of a name.

    Raises:
        BadConfiguration: There is none.
    """
    if name not in FEEDS:
        raise BadConfiguration(f"no feed {name!r}: there are {', '.join(FEEDS)}")
    return FEEDS[name]
