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
        ("[gpt]\nseed = 1", "unknown model 'gpt'; known are distilbert-mitre, phi3-mitre-lora, gnn-threat"),
        ("[gnn-threat]\nsead = 1", r"\[gnn-threat\]: unknown field sead; known are window_examples"),
        ('[phi3-mitre-lora]\nseed = "x"', r"\[phi3-mitre-lora\]: Expected `int`, got `str`"),
        ("[phi3-mitre-lora]\ncooldown_s = -1", "cooldown_s=-1.0: must not be negative"),
        ("gnn-threat = 7", "must be a table"),
        ("[gnn-threat", "docs/configuration.md"),
    ],
)
def test_an_error_names_what_is_wrong(text: str, named: str, tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match=named):
        load_policies(written(tmp_path, text))
