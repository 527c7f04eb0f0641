"""What the command line of `threat_content_fetcher.py` asks for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import BadConfiguration
from streams.content.source_names import source_name
from streams.fetchers.feeds.registry import FEEDS, feed_named

GROUPS = {"mitre": ("attack-enterprise", "attack-ics", "attack-mobile")}
"""Flag -> the feeds that it selects."""
SHORT_FLAGS = {"atomic-red-team": "atomic", "nuclei-templates": "nuclei"}
"""Feed -> its flag, where that is not its name."""

EPILOG = """\
Without any flag everything is done, as with --all: fetch, indexes, ontology, DSL, training. A source that fails is
reported, and the rest goes on.

exit codes: 0 all went well, 2 wrong usage or settings; otherwise the first stage that failed: 3 fetch, 4 publish,
5 indexes, 6 ontology, 7 DSL, 8 training, 9 clean-up, 10 lookup (no source knows the id)

examples:
  python threat_content_fetcher.py --all --no-training
  python threat_content_fetcher.py --mitre --sigma --source sigma=/mirrors/sigma --no-training
  python threat_content_fetcher.py --ontology-only --free-text my-reports
  python threat_content_fetcher.py --lookup T1059
"""


@dataclass(frozen=True)
class Request:
    """What to do, in this order.

    Attributes:
        feeds: Feed -> its source, None for the default; empty: nothing is fetched.
        indexes, ontology, dsl, training: Which stages follow.
        cleanup: Whether the mirrors are removed then.
        free_text: A report, or a folder of reports, whose statements are part of the ontology; None: none.
        lookup: An id to look up at the end; empty: none.
        output: The folder of all output; None: that of the settings.
    """

    feeds: dict[str, str | None]
    indexes: bool
    ontology: bool
    dsl: bool
    training: bool
    cleanup: bool
    free_text: Path | None
    lookup: str
    output: Path | None


def parse_request(arguments: Sequence[str]) -> Request:
    """What a command line asks for.

    Raises:
        BadConfiguration: Flags contradict each other, or a source is unknown or has no place of its own.
        SystemExit: The usage is wrong, or help was asked for.
    """
    found = _parser().parse_args(arguments)
    sources = _sources(found.source)
    own = [feed for feed in sources if feed not in FEEDS]  # stix-NAME, reports-NAME, ...
    flagged = [feed for feed in FEEDS if feed in sources or any(getattr(found, flag) for flag in _flags_of(feed))]
    chosen = flagged + own
    if found.train_only and found.no_training:
        raise BadConfiguration("--train-only and --no-training contradict each other: leave one out")
    only = found.train_only or found.ontology_only
    is_all = found.all or not (chosen or only or found.lookup or found.cleanup_repos)
    if only and (found.all or chosen):
        raise BadConfiguration("--train-only and --ontology-only fetch nothing: leave the flags of sources out")
    if is_all:
        chosen = [feed for feed, spec in FEEDS.items() if spec.default_source or feed in sources] + own
    if placeless := [feed for feed in chosen if not feed_named(feed).default_source and not sources.get(feed)]:
        raise BadConfiguration(f"{placeless[0]} has no place of its own: give --source {placeless[0]}=PATH_OR_URL")
    fetches = bool(chosen)
    if found.free_text and not (found.ontology_only or (fetches and not found.no_ontology)):
        raise BadConfiguration("--free-text is for the ontology, which is not made: add --ontology-only")
    return Request(
        feeds={feed: sources.get(feed) for feed in chosen},
        indexes=fetches or found.ontology_only,
        ontology=found.ontology_only or (fetches and not found.no_ontology),
        dsl=fetches and not found.no_dsl,
        training=found.train_only or (fetches and not found.no_training),
        cleanup=found.cleanup_repos,
        free_text=found.free_text,
        lookup=found.lookup,
        output=found.output,
    )


def _flags_of(feed: str) -> list[str]:
    """The attributes of the parsed flags that select a feed."""
    groups = [group for group, feeds in GROUPS.items() if feed in feeds]
    return [name.replace("-", "_") for name in (SHORT_FLAGS.get(feed, feed), *groups)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="threat_content_fetcher.py",
        description="Fetch threat content, and make indexes, an ontology, DSL files and trained models of it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--all", action="store_true", help="every source, then all stages; the default without any flag")
    add("--mitre", action="store_true", help="MITRE ATT&CK: Enterprise, ICS and Mobile")
    for feed, spec in FEEDS.items():
        add(f"--{SHORT_FLAGS.get(feed, feed)}", action="store_true", help=spec.about.replace("%", "%%") or feed)
    add(
        "--lookup",
        metavar="ID",
        default="",
        help="print what covers a technique, an actor or a CVE; writes nothing",
    )
    add("--no-ontology", action="store_true", help="no ontology")
    add("--no-dsl", action="store_true", help="no DSL files")
    add("--no-training", action="store_true", help="no training")
    add("--train-only", action="store_true", help="train on what was fetched before, nothing else")
    add(
        "--ontology-only", action="store_true", help="indexes and ontology of what was fetched before, nothing else"
    )
    add("--cleanup-repos", action="store_true", help="remove the mirrors at the end, and keep the JSON")
    add(
        "--source",
        metavar="NAME=PATH_OR_URL",
        action="append",
        default=[],
        help="read a source from here; by itself it selects the source. May be repeated",
    )
    add(
        "--free-text",
        type=Path,
        metavar="PATH",
        help="a TXT, HTML or PDF report, or a folder of them: what they say becomes part of the ontology",
    )
    add(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="the folder of all output (default: SX9_OUTPUT_DIR, or output)",
    )
    return parser


def _sources(arguments: Sequence[str]) -> dict[str, str]:
    by_source_name = {source_name(feed): feed for feed in FEEDS}
    sources: dict[str, str] = {}
    for argument in arguments:
        name, _, place = argument.partition("=")
        if not place:
            raise BadConfiguration(f"--source {argument!r:.200}: give NAME=PATH_OR_URL, as in sigma=/mirrors/sigma")
        feed = feed_named(by_source_name.get(name, name)).name
        if feed in sources:
            raise BadConfiguration(f"--source names {feed} twice: give each source one place")
        sources[feed] = place
    return sources
