"""The introduction of the model card."""

from __future__ import annotations

import pytest

from schemas.versions import Manifest
from trainers.models.phi3_lora.card import introduction


@pytest.mark.parametrize(
    ("base", "line"),
    [
        ("smollm2", 'base = resolve("smollm2", load_trainer_settings().cache_dir, "phi3").folder'),
        ("microsoft/Phi-3-mini-4k-instruct", 'base = "microsoft/Phi-3-mini-4k-instruct"'),
    ],
)
def test_the_card_shows_how_to_load_the_adapter_on_its_base(base: str, line: str) -> None:
    manifest = Manifest(model="phi3-mitre-lora", version="v0001", trigger="t", reason="volume", base=base)
    assert f"\n{line}\n" in introduction(manifest)
