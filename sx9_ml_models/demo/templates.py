"""Where the Nuclei templates of the demo come from."""

from __future__ import annotations

from pathlib import Path

import httpx

from streams.fetchers.feeds.registry import FEEDS

FEED = "nuclei-templates"
SHARED_FOLDER = Path("../shared/feeds") / FEED
NETWORK_TIMEOUT_S = 3.0


def templates_source(option: str) -> str | None:
    """The source of the templates.

    Args:
        option: A folder, a git URL, `none`, or `auto`: a shared folder if it exists, else the feed's default
            source if it can be reached.

    Returns:
        A folder or a URL; None for `none`, and for `auto` if there is neither folder nor network.
    """
    if option == "none":
        return None
    if option != "auto":
        return option
    if SHARED_FOLDER.is_dir():
        return str(SHARED_FOLDER)
    url = FEEDS[FEED].default_source
    try:
        httpx.head(url, timeout=NETWORK_TIMEOUT_S)
    except httpx.HTTPError:
        return None
    return url
