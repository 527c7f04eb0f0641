"""The command `threat_content_fetcher.py`: fetch, indexes, ontology, DSL, training, a summary, a lookup."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from schemas.errors import BadConfiguration, RetryLater
from schemas.events import Event
from streams.content.crosswalk import Crosswalk
from streams.fetchers.base.feed_folder import OWN
from streams.settings import Settings, load_settings
from sx9_ml_models import logs, render
from sx9_ml_models.content import stages
from sx9_ml_models.content.request import Request, parse_request
from sx9_ml_models.content.stages import EXIT_CODES, StageResult, attempt
from transport.files import lock, remove_unfinished
from transport.secrets import without_secrets

WRONG_USE = 2
_LOCK_TIMEOUT_S = 1.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Those after the name of the program; None: of this process.

    Returns:
        The exit code: see `--help`.
    """
    try:
        request = parse_request(sys.argv[1:] if arguments is None else arguments)
        logs.set_up("INFO")
        settings = load_settings()
        return _run(request, settings)
    except (BadConfiguration, RetryLater) as error:
        print(f"threat_content_fetcher.py: {without_secrets(str(error))}", file=sys.stderr)
        return WRONG_USE
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(request: Request, settings: Settings) -> int:
    output = request.output or settings.output_dir
    content = output / "threat_content"
    results: list[StageResult] = []
    if request.indexes or request.training or request.cleanup:
        with lock(content / OWN / "lock", "fetching threat content", timeout_s=_LOCK_TIMEOUT_S):
            remove_unfinished(output)
            results += _stages(request, settings, content, output)
        _show(results)
    failed = next((EXIT_CODES[result.stage] for result in results if result.failed), 0)
    if request.lookup and not _look_up(request.lookup, content):
        failed = failed or EXIT_CODES["lookup"]
    return failed


def _stages(request: Request, settings: Settings, content: Path, output: Path) -> Iterator[StageResult]:
    if request.feeds:
        yield from stages.prepare_topics(settings)
        yield from stages.fetch_all(request.feeds, content, settings)
    if request.indexes:
        yield from _from_events(request, content, output, settings)
    if request.training:
        yield from stages.train_models(content, output)
    if request.cleanup:
        yield attempt("clean-up", "", lambda: stages.clean_up(content))


def _from_events(request: Request, content: Path, output: Path, settings: Settings) -> Iterator[StageResult]:
    """The stages that need all events, which are read once."""
    events: list[Event] = []

    def indexes() -> str:
        events.extend(stages.events_of(content))
        return stages.make_indexes(content, events)

    made = attempt("indexes", "", indexes)
    yield made
    makers: dict[str, Callable[[], str]] = {}
    if request.ontology:
        makers["ontology"] = lambda: stages.make_ontology(output, events, settings, request.free_text)
    if request.dsl:
        makers["DSL"] = lambda: stages.make_dsl(output / "sx9_dsl", events, content)
    if events:
        yield from (attempt(stage, "", make) for stage, make in makers.items())


def _show(results: Sequence[StageResult]) -> None:
    """The summary at the end, on standard output."""
    rows = [(each.stage, each.of, each.result, each.detail, f"{each.seconds:.1f}") for each in results]
    render.rows(("stage", "of", "result", "what", "seconds"), rows)


def _look_up(asked: str, content: Path) -> bool:
    """Print what covers an id; whether any source knows it."""
    found = Crosswalk(stages.events_of(content)).lookup(asked)
    render.lines(render.lookup_heading(found, asked))
    render.as_json(found)
    if found["mitre"] is not None or found["covered_by"]:
        return True
    print(f"no source has {asked!r:.100}: check the id, or fetch the source that has it", file=sys.stderr)
    return False


if __name__ == "__main__":
    sys.exit(main())
