"""Everything that an installation has of others, as CycloneDX 1.6: from the lock files, with hashes.

    requirements/run.txt, base-models.txt, deploy/local/*.lock ──> components ──> output/sbom.cdx.json

`python -m tools.bill_of_materials [FILE]` writes it. The same locks give the same bytes: there is no time in it,
and its serial number is made from the components. A package has the hashes of all its files that the lock accepts.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from streams.local.jars import LISTS, lock_file, read_lock

ROOT = Path(__file__).parents[1]
LOCKS = ("run.txt", "base-models.txt")
"""The lists that `pip install` of this project and of its base models is locked to."""
OUTPUT = Path("output") / "sbom.cdx.json"
_NAMESPACE = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")
"""The namespace of addresses in RFC 9562."""
_PIN = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;\\]+)(?: ; (?P<marker>[^\\]+))?")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


class Component(NamedTuple):
    """One package or jar of one version.

    Attributes:
        purl: Its package URL, which identifies it: `pkg:pypi/torch@2.15.0`.
        name, version: Of it.
        group: Of a jar; empty for a package.
        hashes: SHA-256 of the files that may be installed.
        marker: The environments that it is for; empty: all.
        needed_by: Names of the packages that need it.
    """

    purl: str
    name: str
    version: str
    group: str
    hashes: tuple[str, ...]
    marker: str = ""
    needed_by: tuple[str, ...] = ()


def components() -> list[Component]:
    """All components of the lock files, by their package URL."""
    found = {each.purl: each for lock in LOCKS for each in _packages(ROOT / "requirements" / lock)}
    found |= {each.purl: each for name in LISTS for each in _jars(name)}
    return [found[purl] for purl in sorted(found)]


def _packages(lock: Path) -> Iterator[Component]:
    """The packages of a list that `uv pip compile --generate-hashes` wrote."""
    for block in re.split(r"\n(?=[A-Za-z0-9])", lock.read_text(encoding="utf-8")):
        pin = _PIN.match(block)
        if pin is None:
            continue
        name, version = re.sub(r"[-_.]+", "-", pin["name"]).lower(), pin["version"]
        via = block.partition("# via")[2].replace("#", " ").split()
        needed_by = tuple(sorted({word for word in via if re.fullmatch(r"[a-z0-9][a-z0-9.-]*", word)} - {"via"}))
        purl = f"pkg:pypi/{name}@{version}"
        yield Component(
            purl, name, version, "", tuple(_HASH.findall(block)), (pin["marker"] or "").strip(), needed_by
        )


def _jars(name: str) -> Iterator[Component]:
    for jar in read_lock(lock_file(name)):
        qualifier = f"?classifier={jar.classifier}" if jar.classifier else ""
        purl = f"pkg:maven/{jar.group}/{jar.artifact}@{jar.version}{qualifier}"
        yield Component(purl, jar.artifact, jar.version, jar.group, (jar.sha256,))


def document() -> dict[str, Any]:
    """The bill of materials."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    own = f"pkg:pypi/{project['name']}@{project['version']}"
    found = components()
    by_name: dict[str, list[str]] = {project["name"]: [own]}
    for each in found:
        if not each.group:
            by_name.setdefault(each.name, []).append(each.purl)
    needs: dict[str, list[str]] = {own: [], **{each.purl: [] for each in found}}
    for each in found:
        parents = [parent for name in each.needed_by for parent in by_name.get(name, ())]
        for parent in parents or [own]:
            needs[parent].append(each.purl)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, ' '.join([own, *(each.purl for each in found)]))}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": own,
                "name": project["name"],
                "version": project["version"],
                "purl": own,
            }
        },
        "components": [_as_json(each) for each in found],
        "dependencies": [{"ref": ref, "dependsOn": sorted(on)} for ref, on in needs.items()],
    }


def _as_json(each: Component) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "library", "bom-ref": each.purl, "name": each.name, "version": each.version}
    if each.group:
        found["group"] = each.group
    found |= {"purl": each.purl, "hashes": [{"alg": "SHA-256", "content": content} for content in each.hashes]}
    if each.marker:
        found["properties"] = [{"name": "python:marker", "value": each.marker}]
    return found


def main() -> None:
    """Write the file that the command line names, or `OUTPUT`."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT
    made = document()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    print(f"{path}: {len(made['components'])} components")


if __name__ == "__main__":
    main()
