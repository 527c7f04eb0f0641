"""TAXII 2.1 collections from a real server on this machine, well-behaved and not."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.encoding import EncodedEvent
from schemas.errors import BadConfiguration, RetryLater
from streams.fetchers.base import limits
from streams.fetchers.base.feed import Batch, FeedState, no_progress
from streams.fetchers.feeds.attack import feed_of
from streams.fetchers.feeds.registry import feed_named
from streams.fetchers.sources import http
from streams.fetchers.sources.taxii import MEDIA_TYPE, objects_url
from tests.streams.fetchers.site import Site, serving
from tests.streams.fetchers.stix_bundles import ordinary, relationship, technique, thing

OBJECTS = "/api/collections/1/objects/"
LATER = "2026-01-02T00:00:00.000000Z"
MALWARE = thing("malware", 1, "Loader", description="Loads more.")


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(http.time, "sleep", lambda _: None)
    with serving() as server:
        yield server


def page(*objects: Any, added_last: str = "", **more: Any) -> tuple[int, dict[str, str], bytes]:
    headers = {"Content-Type": MEDIA_TYPE} | ({"X-TAXII-Date-Added-Last": added_last} if added_last else {})
    return 200, headers, json.dumps({"objects": objects} | more).encode()


def read(
    site: Site, root: Path, state: FeedState | None = None, *, key: str = "", feed: str = "taxii-one"
) -> Batch:
    spec = feed_named(feed)
    url = f"http://127.0.0.1:{site.server_port}/api/collections/1/"
    return (spec.with_key(key) if key else spec).read(url, state or FeedState(), root, no_progress)


def ids(batch: Batch) -> list[str]:
    return [each.event.id for each in batch.outcomes or () if isinstance(each, EncodedEvent)]


def test_all_pages_are_read_and_then_only_what_was_added_which_may_join_what_came_before(
    site: Site, tmp_path: Path
) -> None:
    edge = relationship(1, MALWARE, technique(546))
    site.pages[OBJECTS] = [page(MALWARE, more=True, next="2", added_last="2026-01-01T00:00:00Z")]
    site.pages[f"{OBJECTS}?next=2"] = [page(technique(546), added_last=LATER)]
    site.pages[f"{OBJECTS}?added_after=2026-01-02T00%3A00%3A00.000000Z"] = [page(edge, added_last="2026-01-03")]
    site.pages[f"{OBJECTS}?added_after=2026-01-03"] = [(200, {}, b"{}")]
    first = read(site, tmp_path)
    assert ids(first) == [f"taxii-one:{MALWARE['id']}"]
    second = read(site, tmp_path, first.state)
    assert ids(second) == [f"taxii-one:{MALWARE['id']}", f"taxii-one:{edge['id']}"]
    assert read(site, tmp_path, second.state).outcomes is None
    assert {asked["Accept"] for asked in site.asked} == {MEDIA_TYPE}


def test_a_page_that_says_more_without_a_next_is_followed_by_the_time_at_which_its_last_object_was_added(
    site: Site, tmp_path: Path
) -> None:
    site.pages[OBJECTS] = [page(MALWARE, more=True, added_last="2026")]
    site.pages[f"{OBJECTS}?added_after=2026"] = [page(thing("tool", 1, "Tool"), added_last="2027")]
    assert len(ids(read(site, tmp_path))) == 2


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (page(MALWARE, more=True, next="1"), "bad-page: page 2 says that the next is 'next=1', which came already"),
        (page(MALWARE, more=True), "bad-page: there is `more`, but neither `next` nor X-TAXII-Date-Added-Last"),
        (page(MALWARE, more=True, next="9" * 5_000), "bad-page: `next` has 5000 characters; the limit is 4096"),
        (page(MALWARE, more=True, next=7), r"bad-page: Expected `str \| null`, got `int`"),
        ((200, {}, b"<html>"), "bad-page: JSON is malformed"),
        ((200, {}, b'{"objects": ['), "bad-page: Input data was truncated"),
        ((200, {}, b"x" * 3_000), "too-large: .* over"),
    ],
)
def test_a_server_that_makes_no_sense_is_said_to_and_nothing_of_it_is_used(
    answer: Any, message: str, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "too-large" in message:
        monkeypatch.setattr(limits, "MAX_RESOURCE_BYTES", 1_000)
    site.pages[OBJECTS] = [answer]
    site.pages[f"{OBJECTS}?next=1"] = [answer]
    batch = read(site, tmp_path)
    assert batch.source_error is not None
    assert re.match(message, str(batch.source_error)), str(batch.source_error)
    assert ids(batch) == []


def test_a_server_that_fails_on_the_second_page_is_asked_later_from_the_same_place(
    site: Site, tmp_path: Path
) -> None:
    tool = thing("tool", 1, "Tool")
    site.pages[OBJECTS] = [page(MALWARE, more=True, next="2", added_last="2025")]
    site.pages[f"{OBJECTS}?next=2"] = [(500, {}, b"")] * 3 + [page(tool, added_last="2026")]
    with pytest.raises(RetryLater, match="status 500"):
        read(site, tmp_path)
    assert len(ids(read(site, tmp_path))) == 2


def test_a_lost_mirror_has_the_whole_collection_read_again(site: Site, tmp_path: Path) -> None:
    site.pages[OBJECTS] = [page(MALWARE, added_last="2026")]
    first = read(site, tmp_path)
    (tmp_path / "feeds/taxii-one/collection.json").write_text("{half")
    assert ids(read(site, tmp_path, FeedState(etag=first.state.etag))) == ids(first)
    assert site.paths == [OBJECTS, OBJECTS]


@pytest.mark.parametrize(
    ("key", "header"), [("me:secret", f"Basic {base64.b64encode(b'me:secret').decode()}"), ("abc", "Bearer abc")]
)
def test_a_collection_is_read_with_a_user_and_password_or_a_token(
    key: str, header: str, site: Site, tmp_path: Path
) -> None:
    site.pages[OBJECTS] = [page(MALWARE)]
    read(site, tmp_path, key=key)
    assert site.asked[0]["Authorization"] == header


def test_a_wrong_password_is_said_to_be_one(site: Site, tmp_path: Path) -> None:
    site.pages[OBJECTS] = [(401, {}, b"")]
    with pytest.raises(
        BadConfiguration, match="answered 401: check the address, and the user and password, or key"
    ):
        read(site, tmp_path, key="me:wrong")


def test_attack_can_be_read_from_a_collection(site: Site, tmp_path: Path) -> None:
    site.pages[OBJECTS] = [page(*ordinary(2), added_last="2026")]
    url = f"taxii+http://127.0.0.1:{site.server_port}/api/collections/1"
    batch = feed_of("enterprise-attack").read(url, FeedState(), tmp_path, no_progress)
    assert len(ids(batch)) == 5


@pytest.mark.parametrize("path", ["/api/", "/taxii2/", "/api/collections/", "/api/collections/1/manifest/"])
def test_an_address_that_is_no_collection_is_refused(path: str) -> None:
    with pytest.raises(BadConfiguration, match="give an address such as"):
        objects_url(f"taxii+https://me:secret@taxii.example{path}")


def test_the_query_of_an_address_is_kept() -> None:
    found = objects_url("taxii+https://taxii.example/c/collections/1/?match[type]=indicator")
    assert found == "https://taxii.example/c/collections/1/objects/?match[type]=indicator"


def test_of_two_versions_the_later_one_counts_whatever_the_precision_of_its_time(
    site: Site, tmp_path: Path
) -> None:
    early, late = "2026-01-01T00:00:00Z", "2026-01-01T00:00:00.500Z"
    first, second = (thing("tool", 1, name, modified=at) for name, at in (("Early", early), ("Late", late)))
    site.pages[OBJECTS] = [page(first, more=True, next="2")]
    site.pages[f"{OBJECTS}?next=2"] = [page(second, more=True, next="3")]
    site.pages[f"{OBJECTS}?next=3"] = [page(first)]  # the server repeats itself
    found = [each.event for each in read(site, tmp_path).outcomes or () if isinstance(each, EncodedEvent)]
    assert [getattr(event, "name", "") for event in found] == ["Late"]


def test_a_server_that_writes_null_for_what_is_not_there_is_understood(site: Site, tmp_path: Path) -> None:
    end = b'{"more": null, "next": null, "objects": null}'
    site.pages[OBJECTS] = [page(MALWARE, more=True, next="2", added_last=LATER)]
    site.pages[f"{OBJECTS}?next=2"] = [(200, {}, end)]
    site.pages[f"{OBJECTS}?added_after=2026-01-02T00%3A00%3A00.000000Z"] = [(200, {}, end)]
    first = read(site, tmp_path)
    assert len(ids(first)) == 1
    assert read(site, tmp_path, first.state).outcomes is None
