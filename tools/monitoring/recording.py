"""The recording rules: what several panels and alerts share. Names have the form `sx9:what:operation`."""

from __future__ import annotations

from collections.abc import Mapping

RECORDING: Mapping[str, str] = {
    "sx9:consumer_lag_messages:sum": "max by (role) (sum by (role, instance) (sx9_consumer_lag_messages))",
    "sx9:window_fill:ratio": "sx9_open_window_examples / sx9_window_limit_examples",
    "sx9:rule:ratio": "sx9_rule_value / (sx9_rule_limit > 0)",
    "sx9:pending_age_seconds:max": "max by (model) (time() - sx9_pending_since_timestamp_seconds)",
    "sx9:champion_age_seconds:max": "max by (model) (time() - sx9_champion_promotion_timestamp_seconds)",
    "sx9:evaluation_gain:delta": "sx9_evaluation_score - sx9_parent_evaluation_score",
    "sx9:run_progress:ratio": "sx9_training_steps_done / (sx9_training_steps > 0)",
    "sx9:disk_free:ratio": "sx9_disk_free_bytes / sx9_disk_size_bytes",
}
"""Name -> expression. Gauges of one process have the same labels, so they need no `on`."""
