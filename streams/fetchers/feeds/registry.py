"""The table of feeds."""

from __future__ import annotations

from schemas.errors import BadConfiguration
from streams.fetchers.base.feed import FeedSpec
from streams.fetchers.feeds import (
    atomic,
    attack,
    caldera,
    car,
    cisa_kev,
    gtfobins,
    hijacklibs,
    lolbas,
    loldrivers,
    nuclei,
    sigma,
    wadcoms,
)

_MODULES = (
    nuclei, sigma, cisa_kev, atomic, caldera, car, lolbas, gtfobins, loldrivers, hijacklibs, wadcoms,
)  # fmt: skip

FEEDS: dict[str, FeedSpec] = {spec.name: spec for spec in (*attack.FEEDS, *(each.FEED for each in _MODULES))}
"""The feeds by name."""


def feed_named(name: str) -> FeedSpec:
    """The feed of a name.

    Raises:
        BadConfiguration: There is none.
    """
    if name not in FEEDS:
        raise BadConfiguration(f"no feed {name!r}: there are {', '.join(FEEDS)}")
    return FEEDS[name]
