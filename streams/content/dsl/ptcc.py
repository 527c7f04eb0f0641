"""The PTCC primitive of a thing: tables (docs/decisions/2026-11-27-the-tables-of-the-dsl.md)."""

from __future__ import annotations

from collections.abc import Iterable

PRIMITIVES = (
    "CREATE", "READ", "UPDATE", "DELETE", "ALLOCATE", "DEALLOCATE", "CLONE", "MERGE",
    "SEND", "RECEIVE", "BROADCAST", "SUBSCRIBE", "SIGNAL", "WAIT", "ACKNOWLEDGE", "REJECT",
    "TRANSFORM", "FILTER", "VALIDATE", "ENCRYPT", "AUTHENTICATE", "CONNECT", "DISCONNECT", "ROUTE",
    "COORDINATE", "SYNCHRONIZE", "CHECKPOINT", "ROLLBACK", "BRANCH", "CALL", "RETURN", "LOCK_UNLOCK",
)  # fmt: skip
"""The 32 primitives; the place of one is its code, 0x00 to 0x1F."""

WORDS = (
    (("credential", "password", "auth", "login"), "AUTHENTICATE"),
    (("create", "install", "deploy"), "CREATE"),
    (("read", "query", "discover", "enum"), "READ"),
    (("modify", "change", "alter"), "UPDATE"),
    (("delete", "remove", "clear"), "DELETE"),
    (("encrypt", "obfuscate"), "ENCRYPT"),
    (("connect", "tunnel", "proxy"), "CONNECT"),
    (("exfil", "transfer", "send"), "SEND"),
    (("receive", "download", "fetch"), "RECEIVE"),
    (("inject", "transform"), "TRANSFORM"),
    (("validate", "check", "verify"), "VALIDATE"),
    (("signal", "beacon"), "SIGNAL"),
    (("route", "redirect"), "ROUTE"),
)
"""Parts of the name of a technique, and its primitive; the first that fits counts."""
PRIMITIVE_OF_OTHERS = "READ"
PRIMITIVE_OF_RULE = "VALIDATE"
PRIMITIVE_OF_EXPLOIT = "AUTHENTICATE"

PRIMITIVE_OF_CATEGORY = {
    "exploitation": "AUTHENTICATE",
    "password-cracking": "AUTHENTICATE",
    "information-gathering": "READ",
    "sniffing-spoofing": "RECEIVE",
    "wireless-attacks": "CONNECT",
    "web-application-attacks": "VALIDATE",
    "vulnerability-analysis": "READ",
    "reverse-engineering": "TRANSFORM",
    "forensics": "READ",
    "maintaining-access": "CREATE",
    "reporting-tools": "SEND",
}
"""Category of a tool, as Kali has them -> primitive."""


def code(primitive: str) -> str:
    """The code of a primitive.

    >>> code("AUTHENTICATE"), code("CREATE")
    ('0x14', '0x00')
    """
    return f"0x{PRIMITIVES.index(primitive):02X}"


def primitive_of_technique(name: str) -> str:
    """The primitive of a technique by its name.

    >>> primitive_of_technique("OS Credential Dumping"), primitive_of_technique("Rundll32")
    ('AUTHENTICATE', 'READ')
    """
    lower = name.lower()
    return next((primitive for words, primitive in WORDS if any(w in lower for w in words)), PRIMITIVE_OF_OTHERS)


def primitive_of_tool(categories: Iterable[str]) -> str:
    """The primitive of a tool by its first known category.

    >>> primitive_of_tool(["Download", "Sniffing Spoofing"]), primitive_of_tool([])
    ('RECEIVE', 'READ')
    """
    names = (category.lower().replace(" ", "-") for category in categories)
    return next(
        (PRIMITIVE_OF_CATEGORY[name] for name in names if name in PRIMITIVE_OF_CATEGORY), PRIMITIVE_OF_OTHERS
    )
