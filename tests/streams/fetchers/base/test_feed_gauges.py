"""What the fetchers show of each feed at their start."""

from __future__ import annotations

import os
from pathlib import Path

from prometheus_client import REGISTRY

from streams import telemetry
from streams.fetchers.base.runner import show_feeds
from streams.settings import load_settings


def test_after_a_restart_the_last_success_is_that_of_the_cursor(tmp_path: Path) -> None:
    settings = load_settings(state_dir=tmp_path, feeds="cisa-kev sigma=/rules", fetch_interval_s=600.0)
    settings.cursors_dir.mkdir()
    cursor = settings.cursors_dir / "sigma.json"
    cursor.write_text("{}")
    os.utime(cursor, (1_700_000_000, 1_700_000_000))
    telemetry.FETCHED_AT.clear()  # other tests of this process fetched
    show_feeds(settings)
    last = "sx9_fetch_last_success_timestamp_seconds"
    assert REGISTRY.get_sample_value(last, {"feed": "sigma"}) == 1_700_000_000
    assert REGISTRY.get_sample_value(last, {"feed": "cisa-kev"}) is None, "it was never fetched"
    for feed in ("sigma", "cisa-kev"):
        assert REGISTRY.get_sample_value("sx9_fetch_interval_seconds", {"feed": feed}) == 600
