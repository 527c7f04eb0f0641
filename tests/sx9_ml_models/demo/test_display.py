"""The display prints the decisions that people wait for, and shows which models train."""

from __future__ import annotations

import io

from rich.console import Console

from schemas.versions import VersionEvent
from schemas.windows import Trigger
from sx9_ml_models.demo.display import open_display

TRIGGER = Trigger(model="gnn-threat", number=1, offset=9, reason="volume", at_ms=0)


def test_triggers_and_verdicts_are_printed_and_a_model_trains_between_them() -> None:
    out = io.StringIO()
    with open_display(Console(file=out, width=200)) as display:
        display.set_title("ATT&CK as of 2019-04")
        display.on_decision(TRIGGER)
        assert display.title == "ATT&CK as of 2019-04; training gnn-threat v0001"
        display.on_decision(VersionEvent(model="gnn-threat", version="v0001", outcome="trained"))
        assert display.title.endswith("training gnn-threat v0001")
        display.on_decision(VersionEvent(model="gnn-threat", version="v0001", outcome="refused", detail="worse"))
        assert display.title == "ATT&CK as of 2019-04"
    printed = out.getvalue()
    assert "trigger gnn-threat@9" in printed
    assert "gnn-threat v0001 refused: worse" in printed
    assert "v0001 trained" not in printed
