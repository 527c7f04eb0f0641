"""The rules that decide when a model is retrained, one module per rule.

    RuleInputs, Policy ──> manual, taxonomy, three of drift, volume, ... ──> Measure of each ──> Decision

`inputs.py` has the inputs, `evaluate.py` the table of rules and the decision.
"""
