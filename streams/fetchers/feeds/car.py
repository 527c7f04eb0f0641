"""MITRE CAR: analytics with pseudocode and queries, one YAML file each."""

from __future__ import annotations

from schemas.events import Template
from schemas.topics import TEMPLATES
from streams.fetchers.base.feed import FeedSpec
from streams.fetchers.formats import fields
from streams.fetchers.formats.fields import mappings, paragraphs, required, text, texts
from streams.fetchers.sources.file_tree import FileTree

NAME = "car"


def is_analytic_path(path: str) -> bool:
    """Whether a path of the repository is an analytic.

    >>> is_analytic_path("analytics/CAR-2014-11-008.yaml"), is_analytic_path("docs/data/analytics.yaml")
    (True, False)
    """
    return path.rpartition("/")[2].startswith("CAR-") and path.endswith((".yaml", ".yml"))


def parse_analytic(data: bytes, path: str, release: str) -> Template:
    """The analytic in a file.

    Raises:
        BadRecord: `bad-yaml`, `not-an-object`, `empty`, `no-id`, `no-title`, or a limit of `schemas.limits`.
    """
    analytic = fields.yaml_mapping(data)
    coverage = mappings(analytic, "coverage")
    named = (name for each in coverage for name in (text(each, "technique"), *texts(each, "subtechniques")))
    return Template(
        id=f"{NAME}:{required(analytic, 'id')}",
        feed=NAME,
        release=release,
        name=required(analytic, "title", 500),
        text=text(analytic, "description"),
        tags=(*texts(analytic, "subtypes"), *texts(analytic, "analytic_types")),
        techniques=fields.techniques(named),
        path=path,
        rule_type=NAME,
        detection=paragraphs(*(text(each, "code") for each in mappings(analytic, "implementations"))),
        author=", ".join(texts(analytic, "contributors")),
        date=text(analytic, "submission_date").replace("/", "-"),
        platforms=texts(analytic, "platforms"),
    )


FEED = FeedSpec(
    name=NAME,
    default_source="https://github.com/mitre-attack/car.git",
    topics=(TEMPLATES,),
    collection=FileTree(includes=is_analytic_path, parse=parse_analytic),
    modules=(__name__, *fields.MODULES),
    about="analytics with pseudocode",
    teaches=("distilbert-mitre",),
    labels_by_technique=True,
)
