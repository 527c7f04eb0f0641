"""Which Maven repository is used: the configured one, the user's mirror, or Maven Central."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.errors import BadConfiguration
from streams.local.maven_repository import central_mirror, covers_central, repositories, without_login

CENTRAL = "https://repo.maven.apache.org/maven2"


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JGO_CONFIG_FILE", str(tmp_path / "jgo.conf"))


def settings_with(tmp_path: Path, mirrors: str, namespace: str = "") -> Path:
    path = tmp_path / "settings.xml"
    path.write_text(f"<settings {namespace}><mirrors>{mirrors}</mirrors></settings>")
    return path


def mirror(of: str, url: str) -> str:
    return f"<mirror><id>m</id><mirrorOf>{of}</mirrorOf><url>{url}</url></mirror>"


def test_maven_central_is_the_default(tmp_path: Path) -> None:
    assert repositories(None, tmp_path / "none.xml") == {"central": CENTRAL}


def test_the_setting_wins_over_a_mirror(tmp_path: Path) -> None:
    path = settings_with(tmp_path, mirror("*", "https://mirror.example/maven"))
    assert repositories("https://set.example/m2/", path) == {"central": "https://set.example/m2"}


@pytest.mark.parametrize("namespace", ["", 'xmlns="http://maven.apache.org/SETTINGS/1.2.0"'])
def test_the_first_mirror_of_central_is_used(tmp_path: Path, namespace: str) -> None:
    mirrors = (
        mirror("other", "https://a.example") + mirror("*,!own", "https://b.example/") + mirror("*", "https://c")
    )
    assert repositories(None, settings_with(tmp_path, mirrors, namespace)) == {"central": "https://b.example"}


def test_a_mirror_of_another_repository_is_not_used(tmp_path: Path) -> None:
    path = settings_with(tmp_path, mirror("external:http:*", "http://0.0.0.0/"))
    assert central_mirror(path) is None


def test_repositories_in_the_configuration_of_jgo_are_used_too(tmp_path: Path) -> None:
    (tmp_path / "jgo.conf").write_text("[repositories]\ncompany = https://company.example/m2\n")
    assert repositories(None, tmp_path / "none.xml") == {
        "central": CENTRAL,
        "company": "https://company.example/m2",
    }


def test_settings_that_are_not_xml_are_named(tmp_path: Path) -> None:
    (tmp_path / "settings.xml").write_text("<settings>")
    with pytest.raises(BadConfiguration, match=r"settings.xml is not XML .* SX9_MAVEN_REPOSITORY"):
        central_mirror(tmp_path / "settings.xml")


def test_covers_central_understands_mirror_expressions() -> None:
    assert [covers_central(x) for x in ("*", "external:*", "a, central", "*,!central", "internal", "")] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]


def test_without_login_removes_user_and_password() -> None:
    assert without_login("https://me:secret@repo.example:8443/m2") == "https://repo.example:8443/m2"
