"""The trivariate hash is a function of the content, and is read by width."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import BadRecord
from streams.content.trivariate import ALPHABET, WIDTH, Trivariate, parse, to_digits, to_number, trivariate


@given(st.integers(0, 2**64 - 1))
def test_a_number_is_sixteen_characters_and_comes_back(number: int) -> None:
    digits = to_digits(number)
    assert (len(digits), to_number(digits)) == (WIDTH, number)
    assert digits.startswith("0" * 6)


@given(st.text(alphabet=ALPHABET, min_size=48, max_size=48))
def test_the_parts_come_back_also_if_a_separator_is_a_digit_of_them(full: str) -> None:
    triv = Trivariate(full[:16], full[16:32], full[32:])
    assert parse(str(triv)) == triv
    assert triv.full == full


@pytest.mark.parametrize(
    "wrong", ["", "triv:", "triv:" + "0" * 50, "trix:" + "_".join(["0" * 16] * 3), "triv:" + "é" * 50]
)
def test_what_is_no_hash_is_refused_with_the_form(wrong: str) -> None:
    with pytest.raises(BadRecord, match="triv:<sch>_<cuid>_<uuid>"):
        parse(wrong)


def test_the_hash_of_a_content_never_changes() -> None:
    """What is stored elsewhere under it would be lost."""
    found = trivariate("T1059PowerShellText", "technique", "attack-enterprise@17.1")
    assert str(found) == r"""triv:000000H]_P(76zK\_000000I/lZ9`r"_j_000000Rc[!9(,:51"""
    other = trivariate("T1059PowerShellText", "technique", "attack-enterprise@18.0")
    assert (other.sch == found.sch, other.cuid == found.cuid, other.uuid == found.uuid) == (True, False, False)


def test_the_alphabet_is_every_printable_character_once() -> None:
    assert sorted(ALPHABET) == [chr(code) for code in range(32, 127)]
