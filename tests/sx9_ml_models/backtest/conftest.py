"""The tiny base model of the trainers' tests."""

from tests.trainers.conftest import models_cache, tiny

__all__ = ["models_cache", "tiny"]
