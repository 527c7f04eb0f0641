"""STIX, MISP and OTX: what becomes an event, what is left out, and what is asked of a server."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from schemas.encoding import EncodedEvent
from schemas.errors import BadConfiguration
from schemas.events import Relationship
from streams.fetchers.base.feed import Batch, FeedState, LeftOut, RejectedItem, no_progress
from streams.fetchers.base.runner import missing_key, parse_events
from streams.fetchers.feeds import nvd, otx, stix_feeds
from streams.fetchers.feeds.registry import FEEDS, feed_named
from streams.settings import load_settings
from tests.streams.fetchers.feeds.samples import SAMPLES, cve, put
from tests.streams.fetchers.site import Site, serving
from tests.streams.fetchers.stix_bundles import bundle, reference, relationship, technique, thing

NOW = datetime(2026, 11, 27, tzinfo=UTC)


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as server:
        yield server


def address(site: Site, path: str) -> str:
    return f"http://127.0.0.1:{site.server_port}{path}"


def answer(document: Any) -> list[tuple[int, dict[str, str], bytes]]:
    return [(200, {}, json.dumps(document).encode())]


def events(batch: Batch) -> list[Any]:
    return [each.event for each in batch.outcomes or () if isinstance(each, EncodedEvent)]


def test_no_stix_feed_can_say_anything_under_the_id_of_another_feeds_entity() -> None:
    """What calls itself one of ATT&CK's is only joined, and everything else has the feed in its id."""
    own_group = thing("intrusion-set", 1, "Forged", external_references=reference("G0016"))
    flaw = thing("vulnerability", 1, "CVE-2021-44228")
    data = bundle(technique(59), own_group, flaw, relationship(1, own_group, technique(59)))
    outcomes = stix_feeds.parse(data, "", "stix-evil").outcomes
    made = [each.event for each in outcomes if isinstance(each, EncodedEvent)]
    assert {event.id.partition(":")[0] for event in made} == {"stix-evil"}
    assert Counter(each.reason for each in outcomes if isinstance(each, LeftOut)) == {"of-attack": 2}
    edge = next(event for event in made if isinstance(event, Relationship))
    assert (edge.source.id, edge.target.id, edge.target.kind) == (own_group["id"], "T1059", "technique")


def test_what_is_no_event_is_counted_by_its_type_and_is_no_dead_letter() -> None:
    data = bundle(
        thing("identity", 1, "A"), thing("ipv4-addr", 1), thing("x-own", 1), thing("note", 1),
        thing("indicator", 1, pattern="[url:value = 'x']"), relationship(1, thing("note", 1), thing("tool", 9)),
    )  # fmt: skip
    outcomes = stix_feeds.parse(data, "", "stix").outcomes
    assert not [each for each in outcomes if isinstance(each, RejectedItem)]
    reasons = Counter(each.reason for each in outcomes if isinstance(each, LeftOut))
    assert reasons == {"identity": 1, "observable": 1, "custom-type": 1, "note": 1, "missing-end": 1}


def test_an_indicator_says_what_it_looks_for_and_a_report_what_techniques_it_has() -> None:
    found = technique(59)
    report = thing("report", 1, "A wave", object_refs=[found["id"]], published="2026-01-01T00:00:00Z")
    indicator = thing("indicator", 1, pattern="[url:value = 'x']", labels=["malicious-activity"])
    outcomes = stix_feeds.parse(bundle(found, report, indicator), "", "stix").outcomes
    made = {each.kind: each for each in events(Batch("", outcomes, FeedState()))}
    assert made["report"].techniques == ("T1059",)
    assert (made["indicator"].name, made["indicator"].tags) == ("[url:value = 'x']", ("malicious-activity",))


def test_a_broken_bundle_of_a_folder_is_a_dead_letter_and_while_it_is_there_nothing_is_gone(tmp_path: Path) -> None:
    put(tmp_path, SAMPLES["stix"].files, {"three.json": "{half"})
    batch = feed_named("stix").read(str(tmp_path), FeedState(), tmp_path, no_progress)
    rejected = [each.origin for each in batch.outcomes or () if isinstance(each, RejectedItem)]
    assert (rejected, len(events(batch)), batch.is_complete) == (["stix:three.json"], 6, False)


def misp_site(site: Site, tmp_path: Path) -> None:
    for path in put(tmp_path / "misp", SAMPLES["misp"].files).glob("*.json"):
        site.pages[f"/feed/{path.name}"] = [(200, {}, path.read_bytes())]


def test_only_events_of_a_misp_feed_that_changed_are_downloaded(site: Site, tmp_path: Path) -> None:
    misp_site(site, tmp_path)
    spec, url = feed_named("misp-circl"), address(site, "/feed")
    first = spec.read(url, FeedState(), tmp_path, no_progress)
    assert (len(events(first)), len(site.paths)) == (4, 3)
    assert {event.id.partition(":")[0] for event in events(first)} == {"misp-circl"}
    manifest = json.loads(site.pages["/feed/manifest.json"][0][2])
    changed = sorted(manifest)[0]
    manifest[changed]["timestamp"] = "2"
    site.pages["/feed/manifest.json"] = answer(manifest)
    site.paths.clear()
    second = spec.read(url, first.state, tmp_path, no_progress)
    assert site.paths == ["/feed/manifest.json", f"/feed/{changed}.json"]
    assert len(events(second)) == 3
    site.paths.clear()
    again = spec.read(url, FeedState(), tmp_path, no_progress)  # as after a fetch that was cut off
    assert (len(events(again)), site.paths) == (4, ["/feed/manifest.json"])


def test_an_event_of_a_misp_feed_that_is_not_there_is_a_dead_letter_and_asked_for_again(
    site: Site, tmp_path: Path
) -> None:
    misp_site(site, tmp_path)
    missing = sorted(path for path in site.pages if "manifest" not in path)[0]
    kept = site.pages.pop(missing)
    spec, url = feed_named("misp"), address(site, "/feed/manifest.json")
    first = spec.read(url, FeedState(), tmp_path, no_progress)
    assert [str(each.error) for each in first.outcomes or () if isinstance(each, RejectedItem)] == [
        f"unreadable: {address(site, missing)} answered 404: check the address"
    ]
    site.pages[missing] = kept
    assert len(events(spec.read(url, first.state, tmp_path, no_progress))) == 3


@pytest.mark.parametrize("name", ["../x", "a", "55555555-0000-4000-8000-00000000000A"])
def test_a_manifest_that_names_anything_but_events_is_refused(name: str, site: Site, tmp_path: Path) -> None:
    site.pages["/feed/manifest.json"] = answer({name: {}})
    batch = feed_named("misp").read(address(site, "/feed/"), FeedState(), tmp_path, no_progress)
    assert batch.source_error is not None
    assert batch.source_error.reason == "bad-uuid"


def test_otx_is_asked_with_the_key_for_what_was_modified_since_the_last_time(site: Site, tmp_path: Path) -> None:
    [first_page] = (json.loads(text or "") for text in SAMPLES["otx"].files.values())
    begin = "/p?modified_since=2026-10-28T00%3A00%3A00%2B00%3A00&limit=50&page="
    site.pages[f"{begin}1"] = answer(first_page | {"next": "more"})
    site.pages[f"{begin}2"] = answer({"results": [], "next": None})
    site.pages["/p?modified_since=2026-11-26T23%3A00%3A00%2B00%3A00&limit=50&page=1"] = answer({"results": []})
    pulses = otx.OtxPulses(key="k3y", now=lambda: NOW)
    first = pulses.read("otx", address(site, "/p"), FeedState(), tmp_path, no_progress)
    assert (len(events(first)), first.is_complete) == (3, False)
    assert events(first)[0].techniques == ("T1566",)
    second = pulses.read("otx", address(site, "/p"), first.state, tmp_path, no_progress)
    assert second.outcomes == []
    assert {asked["X-OTX-API-KEY"] for asked in site.asked} == {"k3y"}
    assert "k3y" not in repr(pulses)


def test_a_feed_that_needs_a_key_says_so(tmp_path: Path) -> None:
    without = load_settings(state_dir=tmp_path)
    with pytest.raises(
        BadConfiguration, match=r"otx needs a key: get one from https://otx.* put otx=KEY into SX9_FEED_KEYS"
    ):
        list(parse_events("otx", None, without))
    assert missing_key(FEEDS["otx"], load_settings(state_dir=tmp_path, feed_keys="otx=k3y")) == ""


def test_a_key_for_a_feed_that_takes_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match="sigma takes no key"):
        list(parse_events("sigma", None, load_settings(state_dir=tmp_path, feed_keys="sigma=abcd")))


def test_a_key_without_a_feed_is_refused_and_not_shown() -> None:
    with pytest.raises(BadConfiguration, match="word 2 is not FEED=KEY") as raised:
        load_settings(feed_keys="otx=k3y s3cr3t")
    assert "s3cr3t" not in str(raised.value)


@pytest.mark.parametrize("name", ["stix-", "stix-A", "sigma-mine", "taxii_x", "misp-" + "x" * 41])
def test_a_name_that_is_no_feed_is_refused_with_those_that_there_are(name: str) -> None:
    with pytest.raises(BadConfiguration, match=r"there are attack-enterprise.* stix-NAME"):
        feed_named(name)


def test_nvd_pauses_between_its_windows_too(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(nvd.time, "sleep", pauses.append)
    site.pages["/c?*"] = answer({"totalResults": 1, "vulnerabilities": [cve(0)]})
    state = FeedState(release="2026-01-01T00:00:00+00:00")
    nvd.NvdPages(key="k3y", now=lambda: NOW).read("cve-nvd", address(site, "/c"), state, tmp_path, no_progress)
    assert (len(site.asked), pauses) == (3, [nvd.PAUSE_WITH_KEY_S] * 2)
    assert site.asked[0]["apiKey"] == "k3y"


def misp_event(number: int, *attributes: Any) -> Any:
    """A MISP event with some attributes."""
    attribute = {"type": "ip-dst", "category": "Network activity", "value": "192.0.2.1"}
    uuid = f"00000000-0000-4000-8000-{number:012}"
    made = [attribute | {"uuid": f"{uuid[:-4]}9{n:03}"} | each for n, each in enumerate(attributes)]
    return {"Event": {"uuid": uuid, "info": "Odd", "Orgc": [], "Galaxy": [], "Attribute": made}}


def test_a_misp_feed_of_another_server_is_read_whatever_it_writes_for_no_and_for_numbers(tmp_path: Path) -> None:
    odd = misp_event(1, {"deleted": "0"}, {"deleted": "1"}, {"type": "port", "value": 4444, "deleted": 0})
    with_mark = "\ufeff" + json.dumps(odd)  # a byte order mark
    put(tmp_path / "misp", {f"{odd['Event']['uuid']}.json": with_mark})
    batch = feed_named("misp").read(str(tmp_path / "misp"), FeedState(), tmp_path, no_progress)
    assert [str(each.error) for each in batch.outcomes or () if isinstance(each, RejectedItem)] == []
    assert sorted(event.name for event in events(batch)) == ["192.0.2.1", "4444", "Odd"]


def test_a_misp_feed_whose_last_event_was_deleted_is_empty_and_no_error(site: Site, tmp_path: Path) -> None:
    misp_site(site, tmp_path)
    spec, url = feed_named("misp"), address(site, "/feed")
    first = spec.read(url, FeedState(), tmp_path, no_progress)
    site.pages["/feed/manifest.json"] = answer([])  # as PHP writes an empty mapping
    second = spec.read(url, first.state, tmp_path, no_progress)
    assert (second.source_error, second.outcomes, second.is_complete) == (None, [], True)


def test_a_stix_bundle_with_a_byte_order_mark_is_read() -> None:
    data = b"\xef\xbb\xbf" + bundle(thing("tool", 1, "Tool"))
    assert len(events(Batch("", stix_feeds.parse(data, "", "stix").outcomes, FeedState()))) == 1
