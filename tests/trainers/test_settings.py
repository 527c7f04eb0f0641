"""Settings: shared names, no unknown names, and the recipe's defaults are theirs."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.errors import BadConfiguration
from schemas.models import MODELS
from streams.settings import load_settings
from trainers.settings import (
    config_class,
    load_recipe_config,
    load_trainer_settings,
    recipe_variables,
    variable_prefix,
)


def test_folders_are_shared_with_the_streaming_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SX9_OUTPUT_DIR", "/somewhere")
    assert load_trainer_settings().models_dir == Path("/somewhere/models")
    assert load_trainer_settings(output_dir="/else").models_dir == Path("/else/models")


@pytest.mark.parametrize("model", MODELS)
def test_each_recipe_has_variables_of_its_own(monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    assert load_recipe_config(model) == config_class(model)()
    monkeypatch.setenv(f"{variable_prefix(model)}EPOCHS", "5")
    monkeypatch.setenv(f"{variable_prefix(model)}device".lower(), "cpu")
    changed = {name: load_recipe_config(name) == config_class(name)() for name in MODELS}
    assert changed == {name: name != model for name in MODELS}
    assert (load_recipe_config(model).epochs, load_recipe_config(model).device) == (5, "cpu")
    load_trainer_settings()


def test_an_unknown_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SX9_TRAINER_EPOCH", "5")
    known = r"unknown setting SX9_TRAINER_EPOCH; known are .*SX9_TRAINER_GNN_EPOCHS, .*SX9_TRAINER_MARGIN"
    with pytest.raises(BadConfiguration, match=known):
        load_trainer_settings()


def test_an_unknown_name_is_refused_in_lower_case_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("sx9_trainer_epoch", "5")
    with pytest.raises(BadConfiguration, match=r"unknown setting sx9_trainer_epoch; known are"):
        load_trainer_settings()
    monkeypatch.delenv("sx9_trainer_epoch")
    monkeypatch.setenv("sx9_kafka_bootstap", "broker:9092")
    with pytest.raises(BadConfiguration, match=r"unknown setting sx9_kafka_bootstap; known are"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [("SX9_TRAINER_MAX_ATTEMPTS", "0"), ("SX9_TRAINER_MIN_HOLDOUT", "x"), ("SX9_TRAINER_MARGIN", "2")],
)
def test_a_bad_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadConfiguration, match=f"bad setting {name}='{value}': "):
        load_trainer_settings()


@pytest.mark.parametrize(("field", "value"), [("EPOCHS", "0"), ("THREADS", "many"), ("WARMUP", "1.5")])
def test_a_bad_value_of_a_recipe_is_named(monkeypatch: pytest.MonkeyPatch, field: str, value: str) -> None:
    monkeypatch.setenv(f"SX9_TRAINER_DISTILBERT_{field}", value)
    with pytest.raises(BadConfiguration, match=f"SX9_TRAINER_DISTILBERT_{field}='{value}': Expected"):
        load_recipe_config("distilbert-mitre")


@pytest.mark.parametrize("model", MODELS)
def test_every_field_of_a_recipe_can_be_said(monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    for variable, name in recipe_variables(model).items():
        monkeypatch.setenv(variable, str(getattr(config_class(model)(), name)))
    assert load_recipe_config(model) == config_class(model)()
