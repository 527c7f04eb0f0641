"""LOLDrivers: Windows drivers that attackers load, one YAML file each."""

from __future__ import annotations

from schemas.events import Entity
from schemas.topics import ENTITIES
from streams.fetchers.base.feed import FeedSpec
from streams.fetchers.formats import fields
from streams.fetchers.formats.fields import mapping, mappings, paragraphs, required, text, texts, words
from streams.fetchers.sources.file_tree import FileTree, files_below

NAME = "loldrivers"
_HASHES = ("SHA256", "SHA1", "MD5")
_MAX_HASHES = 256


def parse_driver(data: bytes, path: str, release: str) -> Entity:
    """The driver in a file. Its names are its tags, the hashes of its samples its aliases.

    Raises:
        BadRecord: `bad-yaml`, `not-an-object`, `empty`, `no-id`, or a limit of `schemas.limits`.
    """
    driver = fields.yaml_mapping(data)
    key, command = required(driver, "Id"), mapping(driver, "Commands")
    samples = mappings(driver, "KnownVulnerableSamples")
    names = texts(driver, "Tags") or tuple(text(each, "Filename") for each in samples if text(each, "Filename"))
    hashes = (text(each, kind).lower() for kind in _HASHES for each in samples)
    return Entity(
        id=f"{NAME}:{key}",
        feed=NAME,
        release=release,
        kind="vulnerable-driver",
        name=names[0] if names else key,
        text=paragraphs(text(command, "Description"), text(command, "Usecase"), text(command, "Command")),
        external_id=key,
        aliases=tuple(dict.fromkeys(filter(None, hashes)))[:_MAX_HASHES],
        category=text(driver, "Category"),
        tags=names,
        techniques=fields.techniques(texts(driver, "MitreID")),
        cves=fields.cves((*texts(driver, "CVE"), text(command, "Description"))),
        platforms=words(command, "OperatingSystem"),
        references=texts(driver, "Resources"),
        path=path,
        author=text(driver, "Author"),
        date=text(driver, "Created"),
    )


FEED = FeedSpec(
    name=NAME,
    default_source="https://github.com/magicsword-io/LOLDrivers.git",
    topics=(ENTITIES,),
    collection=FileTree(includes=files_below("yaml", ".yaml"), parse=parse_driver),
    modules=(__name__, *fields.MODULES),
    about="Windows drivers that attackers load",
    labels_by_technique=True,
)
