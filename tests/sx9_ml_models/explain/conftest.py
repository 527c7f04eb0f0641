"""A Kafka with empty topics."""

from tests.trainers.conftest import fresh_kafka, trainer_kafka

__all__ = ["fresh_kafka", "trainer_kafka"]
