"""Detection of drift: how far the labels of recent examples are from those of the champion.

    labels of each example ── label_window.py ──> counts ── jensen_shannon.py ──> distance

The rule that compares the distance with a threshold is `streams.core.rules.drift`.
"""
