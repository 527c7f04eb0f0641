"""The table of models: unique entries, and references that exist."""

from __future__ import annotations

import pytest

from schemas.errors import BadConfiguration
from schemas.models import MODEL_SPECS, MODELS, ModelSpec, load, model_spec


@pytest.mark.parametrize("reference", ["projection", "recipe", "predictor"])
@pytest.mark.parametrize("spec", MODEL_SPECS, ids=MODELS)
def test_every_reference_of_a_model_resolves(spec: ModelSpec, reference: str) -> None:
    found = load(getattr(spec, reference))
    assert callable(found.run if reference == "recipe" else found)


def test_names_partitions_and_variables_are_unique() -> None:
    for field in ("name", "partition", "variable"):
        values = [getattr(spec, field) for spec in MODEL_SPECS]
        assert len(set(values)) == len(values)


def test_a_model_is_found_by_its_name() -> None:
    assert [model_spec(name) for name in MODELS] == list(MODEL_SPECS)
    with pytest.raises(BadConfiguration, match="there is no model 'bert': choose one of distilbert-mitre, "):
        model_spec("bert")
