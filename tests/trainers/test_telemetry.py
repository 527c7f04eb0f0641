"""The gauges of the gate stay few, and those of other models stay as they are."""

from __future__ import annotations

from prometheus_client import REGISTRY

from schemas.versions import GateCheck
from trainers import telemetry


def test_the_largest_shortfalls_of_the_latest_version_are_shown_by_name() -> None:
    checks = [GateCheck(f"tactics/recent/label-{n}", 0.5, 0.4 - n / 1000, 0.05, 30, False) for n in range(100)]
    passed = GateCheck("tactics/recent/micro_f1", 0.5, 0.6, 0.02, 500, True)
    telemetry.show_gate("gnn-threat", checks[:1])
    telemetry.show_gate("distilbert-mitre", [*checks, passed])
    assert REGISTRY.get_sample_value("sx9_gate_checks_failed", {"model": "distilbert-mitre"}) == 100
    shown = {
        (sample.labels["model"], sample.labels["check"]): sample.value
        for sample in next(iter(telemetry.GATE_SHORTFALL.collect())).samples
    }
    assert len(shown) == telemetry.MAX_SHORTFALLS + 1
    assert abs(shown["distilbert-mitre", "tactics/recent/label-99"] - 0.149) < 1e-9
    assert ("gnn-threat", "tactics/recent/label-0") in shown
    telemetry.show_gate("distilbert-mitre", [passed])
    assert REGISTRY.get_sample_value("sx9_gate_checks_failed", {"model": "distilbert-mitre"}) == 0
    assert (
        REGISTRY.get_sample_value(
            "sx9_gate_check_shortfall", {"model": "distilbert-mitre", "check": "tactics/recent/label-99"}
        )
        is None
    )
