"""The rules and settings of the demo: small training runs, and rules that fit the pace of the history."""

from __future__ import annotations

import os
from pathlib import Path

from schemas.errors import BadConfiguration
from streams.settings import Settings, load_settings

POLICY_TOML = """# The rules of the demo. Times are those of the history, in which years pass in minutes.
[distilbert-mitre]
bootstrap_examples = 1500
retrain_examples = 20000       # staleness comes first
drift_min_support = 400
taxonomy_examples = 400        # the severities, which come with the templates
cooldown_s = 51840000          # 600 days
champion_age_s = 62208000      # 720 days
staleness_examples = 300
run_examples = 2000
backlog_cooldown_s = 60566400  # 701 days; what a run leaves waits for the next
rehearsal_examples = 300
score_every = 0                # the trainers need the two cores

[distilbert-mitre.recipe]
max_tokens = 32
epochs = 3
frozen_layers = 5              # all but the top one: three epochs take half the time of two with three frozen
pieces = 1
threads = 1                    # the trainers share two cores

[phi3-mitre-lora]
bootstrap_examples = 1000
retrain_examples = 100000      # a run is expensive: one is enough to see one
drift_threshold = 1.0
drift_rearm = 1.0
taxonomy_examples = 100000
cooldown_s = 94608000          # three years
backlog_cooldown_s = 315360000  # ten years
champion_age_s = 94608000
staleness_examples = 100000
window_examples = 40
run_examples = 40
rehearsal_examples = 16
holdout_examples = 80
score_every = 0

[phi3-mitre-lora.recipe]
max_tokens = 64
context_chars = 240
layers = 8
eval_examples = 50             # the gate needs 50
sample_answers = 3
answer_tokens = 24
threads = 1

[gnn-threat]
bootstrap_examples = 7000
retrain_examples = 10000
drift_threshold = 1.0          # objects of one kind come together, so drift is always high
drift_rearm = 1.0
taxonomy_examples = 100000
cooldown_s = 15552000          # 180 days
champion_age_s = 94608000      # three years
staleness_examples = 1000
score_every = 0

[gnn-threat.recipe]
max_tokens = 64
threads = 1
"""
ENVIRONMENT = {
    "SX9_TICK_INTERVAL_S": "0",
    "SX9_FETCH_INTERVAL_S": "0",
}
"""Settings of the demo's processes. They replace those of the environment, so that it is the same everywhere."""


def demo_settings(folder: Path) -> Settings:
    """The settings of the demo. They are put into the environment too, for the processes that it starts.

    Args:
        folder: The folder of the demo; `policy.toml` is written to it.

    Raises:
        BadConfiguration: A Kafka or Neo4j is configured, or another setting is wrong.
    """
    policy_file = folder / "policy.toml"
    policy_file.parent.mkdir(parents=True, exist_ok=True)
    policy_file.write_text(POLICY_TOML)
    os.environ |= ENVIRONMENT | {
        "SX9_STATE_DIR": str((folder / "state").resolve()),
        "SX9_OUTPUT_DIR": str((folder / "output").resolve()),
        "SX9_POLICY_FILE": str(policy_file.resolve()),
    }
    settings = load_settings()
    if settings.kafka_bootstrap or settings.neo4j_uri:
        raise BadConfiguration(
            "the demo uses a Kafka and a Neo4j of its own, which it empties: unset SX9_KAFKA_BOOTSTRAP and "
            "SX9_NEO4J_URI (`sx9 up` and `sx9 fetch` use them)"
        )
    return settings
