"""Settings: shared names, no unknown names, and the recipe's defaults are theirs."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.errors import BadConfiguration
from streams.settings import load_settings
from trainers import distilbert
from trainers.answering import recipe_config
from trainers.settings import load_trainer_settings


def test_folders_are_shared_with_the_streaming_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SX9_OUTPUT_DIR", "/somewhere")
    monkeypatch.setenv("SX9_TRAINER_EPOCHS", "5")
    settings = load_trainer_settings()
    assert settings.models_dir == Path("/somewhere/models")
    assert settings.epochs == 5
    assert load_trainer_settings(output_dir="/else", epochs=1).models_dir == Path("/else/models")


def test_the_defaults_are_those_of_the_recipe() -> None:
    assert recipe_config(load_trainer_settings(), seed=17) == distilbert.Config()


def test_an_unknown_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SX9_TRAINER_EPOCH", "5")
    with pytest.raises(
        BadConfiguration, match=r"unknown setting SX9_TRAINER_EPOCH; known are .*SX9_TRAINER_EPOCHS"
    ):
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
    ("name", "value"), [("SX9_TRAINER_EPOCHS", "0"), ("SX9_TRAINER_THREADS", "many"), ("SX9_TRAINER_MARGIN", "2")]
)
def test_a_bad_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadConfiguration, match=f"bad setting {name}='{value}': "):
        load_trainer_settings()
