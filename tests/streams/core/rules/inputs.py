"""Rule inputs made by hand."""

from __future__ import annotations

from typing import Any

import msgspec

from streams.core.rules.inputs import RuleInputs

DAY_MS = 86_400_000

QUIET = RuleInputs(
    now_ms=100 * DAY_MS,
    last_trigger_ms=99 * DAY_MS,
    champion="v0001",
    fresh_examples=1,
    backlog_examples=0,
    triggers_today=0,
    refusals=0,
    corrections=0,
    attempted_corrections=0,
    pending_examples=1,
    drift=0.0,
    drift_examples=1,
    drift_armed=True,
    drift_in_a_row=1,
    input_drift=0.0,
    input_drift_examples=0,
    input_drift_in_a_row=0,
    input_drift_armed=True,
    performance_drift=0.0,
    performance_drift_examples=0,
    performance_drift_in_a_row=0,
    new_labels={},
    vanished_labels={},
    open_trigger="",
    manual_request="",
)
"""With the default policy, no rule trips and nothing blocks a retrain."""


def inputs(**fields: Any) -> RuleInputs:
    """`QUIET`, with other fields where they are given."""
    return msgspec.structs.replace(QUIET, **fields)
