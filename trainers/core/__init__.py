"""Pure: values in, values out. Torch yes; no Kafka, no Prometheus, no environment, no clock.

trigger, journal records ── dataset.py ──> training set, holdout
what a recipe computes ── loop.py, checkpoint.py ──> fitted weights, history.py
predictions ── evaluate.py ──> scores ── gate.py ──> checks
a version's folder ── manifest.py ──> hashes, verified
"""
