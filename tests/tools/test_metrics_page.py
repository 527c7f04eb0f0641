"""`docs/metrics.md` has every metric of the code, named by the conventions of Prometheus."""

from __future__ import annotations

import ast
import re

import pytest

from tests.contracts.test_structure import modules, tree
from tools.metrics_page import LABELS, PAGE, all_metrics, page


def test_the_page_is_what_its_command_writes() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `python -m tools.metrics_page`"


def test_every_metric_that_any_module_makes_is_on_the_page() -> None:
    made = {
        node.args[0].value
        for name in modules()
        if name.partition(".")[0] != "benchmarks"
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("Counter", "Gauge", "Histogram", "Summary", "Info", "Enum")
        and node.args
        and isinstance(node.args[0], ast.Constant)
    }
    assert {name for name in made if f"`{name}`" not in page()} == set()
    assert len(made) > 40


@pytest.mark.parametrize("name", all_metrics())
def test_names_and_labels_follow_the_conventions(name: str) -> None:
    assert re.fullmatch(r"sx9_[a-z0-9_]+", name)
    for label in all_metrics()[name]:
        assert label == "le" or label in LABELS
        assert label not in ("id", "key", "trigger", "offset")
