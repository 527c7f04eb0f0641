"""The trivariate hash of RFC-9001: three parts of 16 characters, a function of the content and nothing else.

    SCH   what it says     SCH:<content>:<kind>
    CUID  where it stands  CUID:<content>:<kind>:<feed>@<release>
    UUID  both, once more  UUID:<content>:<kind>:<feed>@<release>

Each part is the lower half of MurmurHash3 x64 128, with the seed of RFC-9001, as a number in base 95.
docs/decisions/2026-11-27-one-alphabet-for-the-trivariate-hash.md says why these characters and no clock.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from schemas.errors import BadConfiguration, BadRecord

if TYPE_CHECKING:
    from types import ModuleType

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz !#$%&()*+,-./:;<=>?@[]^_{|}~`\"'\\"
"""The digits, in order of their values."""
WIDTH = 16
"""Characters of a part."""
SEEDS = {"SCH": 0xC7A50000, "CUID": 0xC7A50001, "UUID": 0xC7A50002}

_PREFIX = "triv:"
_SEPARATOR = "_"
_LOW_64 = 0xFFFF_FFFF_FFFF_FFFF


class Trivariate(msgspec.Struct, frozen=True):
    """The three parts, `WIDTH` characters each."""

    sch: str
    cuid: str
    uuid: str

    @property
    def full(self) -> str:
        """The parts without anything between them: 48 characters."""
        return self.sch + self.cuid + self.uuid

    def __str__(self) -> str:
        """The canonical form, `triv:<sch>_<cuid>_<uuid>`: 55 characters."""
        return _PREFIX + _SEPARATOR.join((self.sch, self.cuid, self.uuid))


def trivariate(content: str, kind: str, context: str) -> Trivariate:
    """The trivariate hash of a thing.

    Args:
        content: Its id, name and description, run together.
        kind: `technique`, `detection_rule`, `tool` or `exploit`.
        context: Where it is from: `feed@release`.
    """
    return Trivariate(
        sch=semantic_part(content, kind),
        cuid=_part("CUID", f"CUID:{content}:{kind}:{context}"),
        uuid=_part("UUID", f"UUID:{content}:{kind}:{context}"),
    )


def semantic_part(content: str, kind: str) -> str:
    """The SCH of a content alone; equal contents have equal ones, wherever they are from."""
    return _part("SCH", f"SCH:{content}:{kind}")


def parse(canonical: str) -> Trivariate:
    """The parts of a canonical form. `_` is also a digit, so it is read by width.

    Raises:
        BadRecord: `bad-trivariate`.

    >>> parse("triv:" + "_" * 16 + "_" + "0" * 16 + "_" + "0" * 15 + "A").uuid
    '000000000000000A'
    """
    cuts = [len(_PREFIX) + i * (WIDTH + 1) for i in range(3)]
    parts = [canonical[cut : cut + WIDTH] for cut in cuts]
    if str(Trivariate(*parts)) != canonical or any(len(p) != WIDTH or set(p) - set(ALPHABET) for p in parts):
        raise BadRecord(
            "bad-trivariate",
            f"{canonical!r:.100} is not {_PREFIX}<sch>_<cuid>_<uuid> with {WIDTH} characters of the alphabet each",
        )
    return Trivariate(*parts)


def to_number(digits: str) -> int:
    """The number that some characters write.

    >>> to_number("00Z"), to_number("10")
    (35, 95)
    """
    number = 0
    for digit in digits:
        number = number * len(ALPHABET) + ALPHABET.index(digit)
    return number


def to_digits(number: int) -> str:
    """A number below 2**64 as `WIDTH` characters, zeros first.

    >>> to_digits(95)
    '0000000000000010'
    """
    digits = ""
    while number:
        number, digit = divmod(number, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits.rjust(WIDTH, ALPHABET[0])


def sha256_part(text: str) -> str:
    """The first 32 hexadecimal digits of the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _part(name: str, text: str) -> str:
    return to_digits(_mmh3().hash128(text.encode(), SEEDS[name], signed=False) & _LOW_64)


def _mmh3() -> ModuleType:
    try:
        import mmh3
    except ImportError as error:
        raise BadConfiguration("the hashes need the package mmh3: pip install 'sx9-ml-models[content]'") from error
    return mmh3
