"""The examples that are rehearsed and the instructions that are scored."""

from __future__ import annotations

from msgspec.structs import replace

from tests.trainers.models.phi3_lora.material import (
    TINY,
    data,
    example_of,
)
from trainers.core.dataset import Dataset
from trainers.models.phi3_lora.sampling import sample_holdout, sample_rehearsal


def test_the_rehearsal_sample_is_a_share_of_the_new_examples() -> None:
    some = data(range(20), rehearsal=range(30, 60))
    assert len(sample_rehearsal(some, replace(TINY, rehearsal=0.5))) == 10
    assert sample_rehearsal(some, replace(TINY, rehearsal=0.0)) == ()
    assert len(sample_rehearsal(data(range(1), rehearsal=range(30, 60)), TINY)) == 8, (
        "a small window has at least eight"
    )


def test_the_holdout_sample_is_half_old_and_half_recent_or_what_is_available() -> None:
    def numbers(old: int, recent: int) -> tuple[int, ...]:
        examples = [(n, example_of(n)) for n in range(old + recent)]
        found = sample_holdout(Dataset(old=tuple(examples[:old]), recent=tuple(examples[old:])), 10)
        return tuple(map(len, found))

    assert [numbers(20, 20), numbers(0, 20), numbers(2, 20), numbers(20, 3), numbers(2, 3)] == [
        (5, 5), (0, 10), (2, 8), (7, 3), (2, 3),
    ]  # fmt: skip
