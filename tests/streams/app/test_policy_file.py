"""Policies from a file; fields that it leaves out keep the model's defaults."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from schemas.errors import BadConfiguration
from schemas.models import MODELS, model_spec
from streams.app.policy_file import load_policies
from streams.core.fold import fold, initial
from tests.streams.core.records import training


def written(folder: Path, text: str) -> Path:
    path = folder / "policy.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("model", MODELS)
def test_a_table_changes_its_fields_and_keeps_the_defaults_of_the_others(model: str, tmp_path: Path) -> None:
    (found,) = load_policies(written(tmp_path, f"[{model}]\nseed = 3\ncooldown_s = 60")).items()
    assert found == (model, msgspec.structs.replace(model_spec(model).policy, seed=3, cooldown_s=60.0))


def test_the_gate_the_quarantine_and_the_recipe_have_tables_of_their_own(tmp_path: Path) -> None:
    text = "[gnn-threat.gate]\nmargin = 0.1\n[gnn-threat.recipe]\nepochs = 3\n"
    text += "[gnn-threat.quarantine]\nburst_factor = 0"
    (found,) = load_policies(written(tmp_path, text)).values()
    default = model_spec("gnn-threat").policy
    gate = msgspec.structs.replace(default.gate, margin=0.1)
    quarantine = msgspec.structs.replace(default.quarantine, burst_factor=0.0)
    recipe = default.recipe | {"epochs": 3}
    assert found == msgspec.structs.replace(default, gate=gate, quarantine=quarantine, recipe=recipe)


@pytest.mark.parametrize("model", MODELS)
def test_defaults_are_valid_and_apply_to_a_journal_without_a_policy(model: str) -> None:
    assert model_spec(model).policy.checked() is model_spec(model).policy
    state = initial(model)
    assert (state.policy, state.has_policy) == (model_spec(model).policy, False)
    assert state.train_sample.size == state.holdout_sample.size == model_spec(model).policy.reservoir


def test_the_graph_model_is_not_trained_before_it_has_links() -> None:
    nodes = training(2_000, "execution")
    _, outputs = fold(initial("gnn-threat"), list(enumerate(nodes)))
    assert {type(output).__name__ for output in outputs} == {"Window", "Declined"}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[gpt]\nseed = 1", ":1: unknown model 'gpt'; known are distilbert-mitre, phi3-mitre-lora, gnn-threat"),
        ("\n[gnn-threat]\nsead = 1", r":3: \[gnn-threat\] unknown field sead; did you mean seed"),
        ("[gnn-threat]\nx = 1", r":2: \[gnn-threat\] unknown field x; known are window_examples"),
        ("[gnn-threat]\ncooldown_hours = 1", ":2: .*unknown field cooldown_hours; did you mean cooldown_s"),
        ('[gnn-threat]\nseed = 1\ncooldown_s = "1h"', ":3: .*cooldown_s = '1h': Expected `float`, got `str`"),
        ('[phi3-mitre-lora]\nseed = "x"', r":2: \[phi3-mitre-lora\] seed = 'x': Expected `int`, got `str`"),
        ("[phi3-mitre-lora]\ncooldown_s = -1", ":2: .*cooldown_s=-1.0: must not be negative"),
        ("[gnn-threat]\nepochs = 3", r":2: .*unknown field epochs; it belongs into \[gnn-threat.recipe\]"),
        (
            "[gnn-threat]\n[gnn-threat.recipe]\n\nepochs = 0",
            r":4: \[gnn-threat.recipe\] epochs = 0: Expected `int` >= 1",
        ),
        ("[gnn-threat.recipe]\nepoch = 1", ":2: .*unknown field epoch; did you mean epochs"),
        ("[gnn-threat.recipe]\ndevice = 'cpu'", ":2: .*device; it belongs to the machine"),
        ("[gnn-threat.recipe]\nseed = 1", r":2: .*seed; the seed of a run is `seed` in \[gnn-threat\]"),
        ("[gnn-threat.gate]\nmargin = 2", r":2: \[gnn-threat.gate\] margin = 2: Expected `float` <= 1"),
        ("[gnn-threat.quarantine]\nburst_fetches = 21", r":2: .*burst_fetches = 21: Expected `int` <= 20"),
        ("[gnn-threat.quarantine]\nburst_factr = 3", r":2: .*unknown field burst_factr; did you mean burst_factor"),
        ("[gnn-threat]\nalike_share = 1", r":2: .*alike_share; it belongs into \[gnn-threat.quarantine\]"),
        ("[gnn-threat]\ngate = 1", r":2: .*gate = 1: must be a table, \[gnn-threat.gate\]"),
        ("[gnn-threat]\nrecipe.epochs = 'x'", r":2: .*epochs = 'x': Expected `int`"),
        (
            "[gnn-threat]\nseed = 1\ndrift_min_support = 9000",
            ":3: .*drift_min_support=9000, drift_window=2000: these contradict each other",
        ),
        ("gnn-threat = 7", "must be a table"),
        ("[gnn-threat", "docs/configuration.md"),
    ],
)
def test_an_error_names_what_is_wrong(text: str, named: str, tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match=named):
        load_policies(written(tmp_path, text))
