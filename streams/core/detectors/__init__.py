"""Detection of drift, three kinds. Each detector has one statistic; `detector.py` says what they have in common.

    labels of each example ────────> label_drift.py         Jensen-Shannon distance from the champion's labels
    projections of its embedding ──> input_drift.py         maximum mean discrepancy from the champion's holdout
    the champion's losses ─────────> performance_drift.py   Page-Hinkley test

`corrections.py` counts what the champion learnt and no longer stands. The rules that compare a statistic with its
threshold are in `streams.core.rules`.
"""
