"""CISA KEV: vulnerabilities that are known to be exploited, one JSON file."""

from __future__ import annotations

from schemas.events import Entity
from schemas.topics import ENTITIES
from streams.fetchers.base.feed import FeedSpec
from streams.fetchers.formats import fields, json_items
from streams.fetchers.formats.fields import Fields, as_mapping, paragraphs, required, text, texts
from streams.fetchers.sources.resource import ParsedResource, Resource, file_named

NAME = "cisa-kev"
_RANSOMWARE = "Known"


def parse(data: bytes, _file_name: str, feed: str) -> ParsedResource:
    """The vulnerabilities of the catalogue; it is complete, so what it no longer has is withdrawn.

    Raises:
        BadRecord: `bad-json`, `wrong-form`, `too-many`.
    """
    document = json_items.decode_document(data)
    items = json_items.items_at(document, "vulnerabilities")
    release = text(as_mapping(document, "the catalogue"), "catalogVersion")
    return json_items.parsed_items(
        feed, release, items, _key, lambda item: _vulnerability(item, feed, release), is_complete=True
    )


def _key(item: Fields) -> str:
    return f"{NAME}:{required(item, 'cveID', 40)}"


def _vulnerability(item: Fields, feed: str, release: str) -> Entity:
    cve = required(item, "cveID", 40)
    is_ransomware = text(item, "knownRansomwareCampaignUse") == _RANSOMWARE
    return Entity(
        id=_key(item),
        feed=feed,
        release=release,
        kind="vulnerability",
        name=text(item, "vulnerabilityName") or cve,
        text=paragraphs(text(item, "shortDescription"), text(item, "requiredAction")),
        external_id=cve,
        category=" ".join(filter(None, (text(item, "vendorProject"), text(item, "product")))),
        tags=("known-exploited", *(["ransomware"] if is_ransomware else []), *texts(item, "cwes")),
        cves=fields.cves([cve]),
        references=tuple(
            url for part in text(item, "notes").split(" ; ") if (url := part.strip()).startswith("http")
        ),
        date=text(item, "dateAdded"),
    )


FEED = FeedSpec(
    name=NAME,
    default_source="https://www.cisa.gov/sites/default/files/feeds/known_exploited_vulnerabilities.json",
    topics=(ENTITIES,),
    collection=Resource(file_in=file_named("known_exploited_vulnerabilities.json"), parse=parse),
    modules=(__name__, *json_items.MODULES),
    about="vulnerabilities known to be exploited",
)
