"""The rule `taxonomy`: labels appeared that the champion does not know, or labels vanished that it knows."""

from __future__ import annotations

from schemas.policy import Policy
from schemas.windows import Measure
from streams.core.rules.inputs import RuleInputs

VANISHED = "no longer in use: "
"""Before the name of a label that vanished, in the detail of the measure."""


def taxonomy(inputs: RuleInputs, policy: Policy) -> Measure:
    """Trips if there is a champion and one label with `policy.taxonomy_examples` examples appeared or vanished.

    Pending examples of a new label count, and of a vanished one those that there were. The detail is the
    label with most of them; of several with the same number a new one, the last in alphabetical order. Without such
    labels the value is 0.
    """
    found = [(examples, True, label) for label, examples in inputs.new_labels.items()]
    found += [(examples, False, label) for label, examples in inputs.vanished_labels.items()]
    examples, is_new, label = max(found, default=(0, True, ""))
    tripped = bool(inputs.champion) and examples >= policy.taxonomy_examples
    detail = label if is_new else VANISHED + label
    return Measure("taxonomy", float(examples), float(policy.taxonomy_examples), tripped, detail)
