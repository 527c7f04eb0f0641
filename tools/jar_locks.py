"""Makes the lists of jars again: `python -m tools.jar_locks`, the one thing here that needs Maven.

    deploy/local/kafka.pom.xml ──mvn dependency:list──> group artifact version classifier sha256 ──> kafka.lock

Every jar is fetched anew into an empty repository, so that a hash never comes from a damaged local one.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from schemas.errors import BadConfiguration, RetryLater, Sx9Error
from streams.local.jars import LISTS, Jar, lock_file, write_lock
from transport.files import sha256_of

PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.9.0:list"


def resolve(pom: Path, work: Path) -> list[Jar]:
    """The jars that Maven resolves for a pom, each with the sha256 of the file it fetched.

    Args:
        pom: The project whose runtime dependencies are wanted.
        work: An empty folder, for Maven's repository and its answer.

    Returns:
        The jars, sorted.

    Raises:
        BadConfiguration: Maven is not installed.
        RetryLater: Maven failed (a version that doesn't exist, no network); its output is in the message.
    """
    answer = work / "list.txt"
    command = ["mvn", "--batch-mode", "--quiet", "--file", str(pom), f"-Dmaven.repo.local={work / 'repository'}"]
    options = ["-DincludeScope=runtime", "-DoutputAbsoluteArtifactFilename=true", f"-DoutputFile={answer}"]
    try:
        ran = subprocess.run([*command, PLUGIN, *options], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise BadConfiguration("`mvn` is not on the path: install Maven 3.8 or later") from error
    if ran.returncode != 0:
        raise RetryLater(f"mvn failed on {pom} with exit code {ran.returncode}:\n{ran.stdout}{ran.stderr}")
    return sorted(jar_of(line) for line in answer.read_text().splitlines() if line.startswith("   "))


def jar_of(line: str) -> Jar:
    """One line of `dependency:list`: group:artifact:jar[:classifier]:version:scope:path -- module ..."""
    group, artifact, _, *classifier, version, _, path = line.strip().split(" -- ")[0].split(":")
    return Jar(group, artifact, version, classifier[0] if classifier else "", sha256_of(Path(path)))


def main() -> int:
    """Write every list again and say how long each is; 1 with the reason if Maven could not."""
    for name in LISTS:
        lock = lock_file(name)
        try:
            with tempfile.TemporaryDirectory() as work:
                jars = resolve(lock.with_suffix(".pom.xml"), Path(work))
        except Sx9Error as error:
            print(error, file=sys.stderr)
            return 1
        write_lock(lock, jars)
        print(f"{lock}: {len(jars)} jars")
    return 0


if __name__ == "__main__":
    sys.exit(main())
