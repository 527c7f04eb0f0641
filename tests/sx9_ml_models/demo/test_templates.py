"""The demo takes Nuclei templates from where it is told, or from what is available."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from sx9_ml_models.demo import templates
from sx9_ml_models.demo.templates import templates_source


def test_a_folder_or_url_is_used_as_it_is_and_none_means_no_templates() -> None:
    assert templates_source("my/templates") == "my/templates"
    assert templates_source("none") is None


def test_auto_prefers_the_shared_folder_and_needs_no_network_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(templates, "SHARED_FOLDER", tmp_path)
    assert templates_source("auto") == str(tmp_path)


@pytest.mark.parametrize("online", [True, False])
def test_auto_uses_the_default_source_only_if_it_can_be_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, online: bool
) -> None:
    def head(url: str, timeout: float) -> None:
        if not online:
            raise httpx.ConnectError("no network")

    monkeypatch.setattr(templates, "SHARED_FOLDER", tmp_path / "missing")
    monkeypatch.setattr(httpx, "head", head)
    assert (templates_source("auto") is not None) == online
