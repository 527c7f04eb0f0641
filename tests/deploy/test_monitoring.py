"""Every query of the dashboards and rules parses, and every metric and label in it exists in the code."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from schemas.models import MODELS
from tests.deploy.queries import all_queries, concrete, grouping, known_series, selectors
from tools.monitoring.alerts import ALERTS, RUNBOOK
from tools.monitoring.dashboards import dashboards
from tools.monitoring.files import DEPLOY, files
from tools.monitoring.panels import DATASOURCE, WIDTH

ROOT = DEPLOY.parent
BOARDS = dashboards()
UNITS = {"short", "s", "ops", "percentunit", "bytes"}


@pytest.mark.parametrize("path", files(), ids=lambda path: path.name)
def test_the_files_are_what_their_command_writes(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == files()[path], "run `python -m tools.monitoring`"


def test_there_are_no_other_files() -> None:
    made = {path for folder in ("prometheus", "grafana") for path in (DEPLOY / folder).rglob("*.*")}
    assert {path for path in made if path.suffix in (".json", ".yml")} == set(files())


@pytest.mark.parametrize("where", all_queries())
def test_a_query_parses_and_names_only_metrics_and_labels_that_exist(where: str) -> None:
    known = known_series()
    parsed = promql_parser.parse(all_queries()[where])
    used = list(selectors(parsed))
    assert used
    assert [one.name for one in used if one.name not in known] == []
    for one in used:
        assert {matcher.name for matcher in one.matchers.matchers} <= set(known[one.name])
    assert set(grouping(parsed)) <= {label for one in used for label in known[one.name]}


def test_a_metric_that_does_not_exist_is_seen() -> None:
    parsed = promql_parser.parse('rate(sx9_nothing_total{model="x"}[5m]) / on (model) sx9_rule_limit')
    assert [one.name for one in selectors(parsed) if one.name not in known_series()] == ["sx9_nothing_total"]


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_a_dashboard_has_a_fixed_uid_panels_with_ids_and_one_data_source(board: dict[str, Any]) -> None:
    assert re.fullmatch(r"sx9-[a-z]{1,36}", board["uid"])
    ids = [panel["id"] for panel in board["panels"]]
    assert ids == list(range(1, len(ids) + 1))
    for panel in board["panels"]:
        assert panel["datasource"] == DATASOURCE
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
        assert panel["description"].endswith(".")
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= WIDTH
        assert all(target["datasource"] == DATASOURCE for target in panel["targets"])
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_the_labels_of_a_legend_are_those_of_its_query(board: dict[str, Any]) -> None:
    known = known_series()
    for panel in board["panels"]:
        for target in panel["targets"]:
            parsed = promql_parser.parse(concrete(target["expr"]))
            labels = {label for one in selectors(parsed) for label in known[one.name]}
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= (set(grouping(parsed)) or labels)


def test_a_panel_that_counts_shows_also_the_first_value_of_a_series() -> None:
    """`increase` alone does not: a counter with labels has no series before its first value."""
    targets = [target for board in BOARDS.values() for panel in board["panels"] for target in panel["targets"]]
    shown = [target["expr"] for target in targets]
    alone = [each for each in shown if re.match(r"sum by \(.+?\) \(increase\(", each) and " / " not in each]
    assert alone == []
    assert sum("unless" in each for each in shown) > 10


def test_panels_do_not_overlap() -> None:
    for board in BOARDS.values():
        cells = [
            (x, y)
            for place in (panel["gridPos"] for panel in board["panels"])
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        ]
        assert len(cells) == len(set(cells))


def test_uids_and_alert_names_are_unique() -> None:
    assert len({board["uid"] for board in BOARDS.values()}) == len(BOARDS) == 6
    assert len({alert.name for alert in ALERTS}) == len(ALERTS)


def test_variables_are_defined_where_they_are_used() -> None:
    for board in BOARDS.values():
        defined = {variable["name"] for variable in board["templating"]["list"]}
        used = set(re.findall(r"\$(?:\{(\w+)\}|(model|feed)\b)", json.dumps(board)))
        assert {a or b for a, b in used} <= defined


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_has_a_section_in_the_runbook_with_something_to_type(alert: Any) -> None:
    text = (ROOT / RUNBOOK).read_text(encoding="utf-8")
    (section,) = re.findall(rf"^### {alert.name}\n(.*?)(?=^##|\Z)", text, re.DOTALL | re.MULTILINE)
    for part in ("**It means**", "**Look at**", "**Type**"):
        assert part in section


def test_the_runbook_has_no_alert_that_does_not_exist() -> None:
    alerts = (ROOT / RUNBOOK).read_text(encoding="utf-8").partition("\n## Alerts\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^### (\w+)$", alerts, re.MULTILINE)) == {alert.name for alert in ALERTS}


def test_each_alert_is_tested_firing_and_not_firing() -> None:
    tests = yaml.safe_load((Path(__file__).parent / "alerts.test.yml").read_text(encoding="utf-8"))["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    for alert in ALERTS:
        of_alert = [bool(case.get("exp_alerts")) for case in cases if case["alertname"] == alert.name]
        assert sorted(set(of_alert)) == [False, True], alert.name


def test_every_process_of_a_system_has_a_target_in_compose() -> None:
    targets = json.loads((DEPLOY / "prometheus/targets/compose.json").read_text(encoding="utf-8"))
    names = {target["labels"]["process"] for target in targets}
    assert names == {"journal", "graph", "fold", "fetch", *(f"train-{model}" for model in MODELS)}
