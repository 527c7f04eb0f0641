"""The rule `taxonomy`: the feeds use a label that the champion does not know."""

from __future__ import annotations

from schemas.policy import Policy
from schemas.windows import Measure
from streams.core.rules.inputs import RuleInputs


def taxonomy(inputs: RuleInputs, policy: Policy) -> Measure:
    """Trips if there is a champion and the most frequent new label has `policy.taxonomy_examples` examples.

    Pending examples count. The detail is the label, the last in alphabetical order of several with the same count.
    Without new labels the value is 0.
    """
    label, examples = max(inputs.new_labels.items(), key=lambda item: (item[1], item[0]), default=("", 0))
    tripped = bool(inputs.champion) and examples >= policy.taxonomy_examples
    return Measure("taxonomy", float(examples), float(policy.taxonomy_examples), tripped, label)
