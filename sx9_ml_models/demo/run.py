"""Runs the demo: the whole system in a folder of its own, the history replayed through it, and a table and a
picture of the versions.

    Kafka, Neo4j, roles, trainers ──> player: history, then templates ──> all triggers answered ──> table, picture

A demo that is killed can be continued: every step checks what was done before.
"""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from schemas.errors import BadConfiguration
from schemas.models import MODELS
from streams.local.services import owned_services
from streams.settings import Settings
from sx9_ml_models import queries, render
from sx9_ml_models.demo.display import open_display
from sx9_ml_models.demo.history import load_history
from sx9_ml_models.demo.player import open_player
from sx9_ml_models.demo.policy import demo_settings
from sx9_ml_models.processes import running
from sx9_ml_models.system import single_instance, system_children
from trainers.core.phases import Phases
from trainers.reporting.version_history import save_version_history
from trainers.settings import load_trainer_settings
from trainers.store.registry import Registry
from trainers.store.shared_registry import open_registry
from transport.topics import create_topics


def run_demo(folder: Path, *, resume: bool, templates: str, events: int | None = None) -> None:
    """Run the demo to its end, print the versions and draw them in `output/versions.png`.

    Args:
        folder: Folder for data of the services, logs and models.
        resume: Continue with what is in the folder; otherwise the folder is emptied first.
        templates: Source of the Nuclei templates: a folder, a git URL, `auto` or `none`.
        events: Number of events to replay, the oldest; None for all.

    Raises:
        BadConfiguration: There is no demo to continue, the folder has other files, or the machine is too small.
        RetryLater: Another demo runs in the folder, or a part of the system does not work.
    """
    _check_folder(folder, resume=resume)
    started = time.monotonic()
    console = Console(stderr=True, highlight=False)
    with single_instance(folder / "state") as lock_fd:
        if not resume:
            _empty(folder, keep=folder / "state" / "run" / "up.lock")
        settings = demo_settings(folder)
        console.print(f"everything is written to {folder}; if interrupted, continue with `sx9 demo --continue`")
        _replay(settings, lock_fd, console, templates, events)
    _print_versions(folder, time.monotonic() - started)


def _check_folder(folder: Path, *, resume: bool) -> None:
    if (folder / "state").is_dir():
        return
    if resume:
        raise BadConfiguration(f"{folder} has no demo to continue: run it without --continue")
    if folder.exists() and any(folder.iterdir()):
        raise BadConfiguration(f"{folder} has files that are not a demo's: choose another folder with --folder")


def _empty(folder: Path, keep: Path) -> None:
    """Remove everything from the folder except the lock that we hold."""
    for path in sorted(folder.rglob("*"), key=lambda p: len(p.parts), reverse=True):
        if path == keep or path in keep.parents:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _replay(settings: Settings, lock_fd: int, console: Console, templates: str, events: int | None) -> None:
    """Start the system, replay the history, and wait until everything that follows from it is done."""
    with owned_services(settings) as owned:
        bootstrap = owned.endpoints.kafka_bootstrap
        create_topics(bootstrap)
        children = system_children(settings, owned.started, fetch=False, env={}, lock_fd=lock_fd)
        with (
            running(children),
            open_display(console) as display,
            open_player(bootstrap, settings, children, display) as player,
        ):
            chunks = load_history(settings, events)
            player.play(chunks)
            player.fetch_templates(templates, chunks[-1].time_ms)
            player.wait_for_answers()
            player.wait_for_roles("graph", "fold")


def _print_versions(folder: Path, seconds: float) -> None:
    trainer = load_trainer_settings()
    versions = {model: queries.versions(trainer, model) for model in MODELS}
    for model, rows in versions.items():
        print(f"\n{model}")
        render.versions(rows)
    picture = folder / "output" / "versions.png"
    registry = open_registry(trainer)
    phases = Phases()
    with phases.optional("draw", picture.name):
        save_version_history({model: registry.versions(model) for model in MODELS}, picture)
    count = sum(len(rows) for rows in versions.values())
    print(f"\n{count} versions in {seconds:.0f} s; everything is in {folder.resolve()}")
    print("\npictures:")
    of_versions = [] if phases.left_out else [picture]
    for drawn in (*of_versions, *pictures_of_champions(registry)):
        print(f"  {drawn.resolve()}")
    print("\nwhat to do next:")
    for purpose, command in next_commands(folder, [model for model in MODELS if versions[model]]):
        print(f"  {command}\n      {purpose}")


def pictures_of_champions(registry: Registry) -> list[Path]:
    """The pictures of each version that serves."""
    folders = [registry.root / model / name for model in MODELS if (name := registry.champion(model))]
    return [path for version in folders for path in sorted(version.glob("*.png"))]


def next_commands(folder: Path, trained: Sequence[str]) -> list[tuple[str, str]]:
    """Commands that work on what the demo left, without a running system: (what it shows, shell command).

    Args:
        folder: That of the demo.
        trained: The models that have versions.
    """
    program = [sys.argv[0]] if Path(sys.argv[0]).name == "sx9" else [sys.executable, "-m", "sx9_ml_models"]
    folders = ["--state-dir", str(folder / "state"), "--output-dir", str(folder / "output")]
    model = trained[0] if trained else MODELS[0]
    last = ["models", "show", "champion"] if trained else ["windows"]
    return [
        (purpose, shlex.join([*program, *folders, *words, "--model", model]))
        for purpose, words in (
            ("why each retraining happened", ["triggers"]),
            ("why others did not", ["triggers", "--declined"]),
            ("what it was trained on, and how it was compared" if trained else "what is trained together", last),
        )
    ]
