"""The tiny base model of the trainers' tests, and their Kafka with empty topics."""

from tests.trainers.conftest import fresh_kafka, models_cache, tiny, trainer_kafka

__all__ = ["fresh_kafka", "models_cache", "tiny", "trainer_kafka"]
