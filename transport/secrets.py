"""Secrets taken out of what is logged, printed or recorded. The only place that knows what a secret is.

https://user:password@host/path  ──>  https://***@host/path        in any text
the value of a variable such as SX9_NEO4J_PASSWORD, HF_TOKEN      ──>  ***
secrets kept with `keep_secret`, such as those in files            ──>  ***
the user and password in the value of a variable with an address  ──>  ***, also where they stand alone
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from urllib.parse import quote, unquote

MASK = "***"
MIN_CHARS = 4
"""Shorter values are masked in addresses only: alone they could be any part of a word."""
MAX_CHARS = 100_000
"""Longer texts are truncated, so that masking takes a bounded time."""

_SECRET_NAME = re.compile(
    r"(?:^|_)(?:PASSWORD|PASSWD|PASSPHRASE|PASS|PWD|SECRET|TOKEN|APIKEY|API_KEY|ACCESS_KEY|SECRET_KEY|PRIVATE_KEY|"
    r"CREDENTIALS?)$",
    re.IGNORECASE,
)
_NOT_SECRET = frozenset(("PWD", "OLDPWD"))
"""Variables of the shell that only look like it: folders."""
_USER_INFO = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]{0,30}://)[^/?#\s'\"@<>]{1,1000}@")


_kept: set[str] = set()


def keep_secret(secret: str) -> None:
    """Have a secret masked from now on that is not in a variable of its own, but in a file, say."""
    if secret:
        _kept.add(secret)


def without_secrets(text: str, environment: Mapping[str, str] | None = None) -> str:
    """A text without the secrets of the environment, and without users and passwords in addresses.

    Args:
        text: Of any kind, for a person to read.
        environment: Variable -> value; None for that of this process.

    >>> without_secrets("no answer from http://me:pa55@host/x (pa55)", {"MLFLOW_TRACKING_URI": "http://me:pa55@host/x"})
    'no answer from http://***@host/x (***)'
    """
    for secret, shown in _secrets(os.environ if environment is None else environment):
        text = text.replace(secret, shown)
    if len(text) > MAX_CHARS:
        text = f"{text[:MAX_CHARS]}... ({len(text)} characters)"
    return _USER_INFO.sub(rf"\g<scheme>{MASK}@", text)


def _secrets(environment: Mapping[str, str]) -> list[tuple[str, str]]:
    """(secret, what is shown in its place), the longest first, so that none leaves a part of another."""
    found: dict[str, str] = {}
    for secret in tuple(_kept):
        found |= dict.fromkeys((secret, quote(secret, safe=""), repr(secret)[1:-1]), MASK)
    for name, value in environment.items():
        if "://" in value and "@" in value:
            found |= _in_address(value)
        if name.upper() not in _NOT_SECRET and _SECRET_NAME.search(name):
            found |= dict.fromkeys((value, quote(value, safe=""), repr(value)[1:-1]), MASK)
    secrets = ((secret, shown) for secret, shown in found.items() if len(secret) >= MIN_CHARS)
    return sorted(secrets, key=lambda pair: -len(pair[0]))


def _in_address(value: str) -> dict[str, str]:
    """The address itself, and its password; a password may have an @ or a slash in it."""
    scheme, _, rest = value.partition("://")
    user_info, _, host = rest.rpartition("@")
    user, colon, password = user_info.partition(":")
    if not colon:  # a token, or an @ in the path
        token = "" if "/" in user else user
        return dict.fromkeys((token, unquote(token)), MASK)
    return {value: f"{scheme}://{MASK}@{host}"} | dict.fromkeys((password, unquote(password)), MASK)
