"""Finds the Maven repository of the jars: the configured one, the user's mirror, or Maven Central.

    SX9_MAVEN_REPOSITORY  >  the mirror of `central` in ~/.m2/settings.xml  >  jgo.conf  >  Maven Central

The network library also uses HTTPS_PROXY, REQUESTS_CA_BUNDLE and the logins in ~/.netrc.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from urllib.parse import urlsplit

from jgo.config import GlobalSettings
from jgo.constants import MAVEN_CENTRAL_URL

from schemas.errors import BadConfiguration

MAVEN_SETTINGS = Path("~/.m2/settings.xml")


def repositories(configured: str | None, maven_settings: Path = MAVEN_SETTINGS) -> dict[str, str]:
    """The repositories to use, in order.

    Args:
        configured: Address of a Maven repository that replaces all others; None: no such repository.
        maven_settings: The user's Maven settings file; it need not exist.

    Returns:
        Name -> address; at least one.

    Raises:
        BadConfiguration: The Maven settings can't be read as XML.
    """
    if configured:
        return {"central": configured.rstrip("/")}
    mirror = central_mirror(maven_settings.expanduser())
    if mirror:
        return {"central": mirror.rstrip("/")}
    return {"central": MAVEN_CENTRAL_URL} | GlobalSettings.load().repositories


def central_mirror(settings: Path) -> str | None:
    """Address of the first mirror of Maven Central in a Maven settings file; None if there is none."""
    if not settings.is_file():
        return None
    try:
        root = ET.parse(settings).getroot()
    except ET.ParseError as error:
        raise BadConfiguration(
            f"{settings} is not XML ({error}): correct it, or set SX9_MAVEN_REPOSITORY"
        ) from error
    for mirror in root.iterfind("{*}mirrors/{*}mirror"):
        url = mirror.findtext("{*}url", "").strip()
        if url and covers_central(mirror.findtext("{*}mirrorOf", "")):
            return url
    return None


def covers_central(mirror_of: str) -> bool:
    """Whether Maven's `mirrorOf` expression includes the repository `central`.

    >>> [covers_central(x) for x in ("*", "external:*", "a,central", "*,!central", "internal")]
    [True, True, True, False, False]
    """
    names = {name.strip() for name in mirror_of.split(",")}
    return "!central" not in names and bool(names & {"*", "external:*", "central"})


def without_login(url: str) -> str:
    """The address without user and password, for messages.

    >>> without_login("https://me:secret@repo.example/maven2")
    'https://repo.example/maven2'
    """
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
