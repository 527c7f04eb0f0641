"""The command line: the flags mean what they have always meant, and what contradicts itself is refused."""

from __future__ import annotations

import pytest

from schemas.errors import BadConfiguration
from streams.fetchers.feeds.registry import FEEDS
from sx9_ml_models.content.request import parse_request

ATTACK = ["attack-enterprise", "attack-ics", "attack-mobile"]


def stages(*arguments: str) -> tuple[list[str], str]:
    """The feeds, and the first letters of the stages that follow."""
    found = parse_request(arguments)
    flags = {"i": found.indexes, "o": found.ontology, "d": found.dsl, "t": found.training, "c": found.cleanup}
    return list(found.feeds), "".join(letter for letter, is_on in flags.items() if is_on)


@pytest.mark.parametrize("arguments", [[], ["--all"], ["--output", "x"], ["--no-dsl"]])
def test_no_flag_of_a_source_means_all(arguments: list[str]) -> None:
    feeds, made = stages(*arguments)
    assert feeds == [feed for feed, spec in FEEDS.items() if spec.default_source]
    assert made == ("iot" if arguments == ["--no-dsl"] else "iodt")


@pytest.mark.parametrize(
    ("arguments", "feeds", "made"),
    [
        (["--mitre"], ATTACK, "iodt"),
        (["--atomic", "--sigma", "--no-training"], ["sigma", "atomic-red-team"], "iod"),
        (["--nuclei", "--no-ontology", "--no-dsl"], ["nuclei-templates"], "it"),
        (["--cisa-kev", "--cleanup-repos"], ["cisa-kev"], "iodtc"),
        (["--source", "sigma_rules=/x", "--no-training"], ["sigma"], "iod"),
        (["--source", "stix-isac=https://x/y.json", "--no-training"], ["stix-isac"], "iod"),
        (["--train-only"], [], "t"),
        (["--ontology-only"], [], "io"),
        (["--cleanup-repos"], [], "c"),
        (["--lookup", "T1059"], [], ""),
    ],
)
def test_flags_select_sources_and_stages(arguments: list[str], feeds: list[str], made: str) -> None:
    assert stages(*arguments) == (feeds, made)


def test_a_source_of_either_name_is_read_from_another_place_and_the_others_from_their_own() -> None:
    found = parse_request(["--all", "--source", "mitre_attack=/a=b", "--source", "sigma=https://x/y.git"])
    assert (found.feeds["attack-enterprise"], found.feeds["sigma"]) == ("/a=b", "https://x/y.git")
    assert found.feeds["attack-ics"] is None


@pytest.mark.parametrize("feed", FEEDS)
def test_every_feed_has_a_flag(feed: str) -> None:
    flag = {"nuclei-templates": "nuclei", "atomic-red-team": "atomic"}.get(feed, feed)
    assert stages(f"--{flag}", "--source", f"{feed}=/x")[0] == [feed]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--source", "nix=a"], "nix"),
        (["--source", "sigma"], "NAME=PATH_OR_URL"),
        (["--source", "sigma=a", "--source", "sigma_rules=b"], "twice"),
        (["--train-only", "--mitre"], "fetch nothing"),
        (["--train-only", "--no-training"], "contradict"),
        (["--reports"], "--source reports="),
    ],
)
def test_what_can_not_be_meant_is_refused_and_named(arguments: list[str], named: str) -> None:
    with pytest.raises(BadConfiguration, match=named):
        parse_request(arguments)
