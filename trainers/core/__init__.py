"""What trainers compute, without input or output: no file, network, environment, terminal or clock.

    trigger, journal records ──> dataset ──> training set, holdout
    training set ──> batching ──> loop ──> fitted weights, history
    predictions ──> metrics/ ──> scores ──> gate ──> checks
    the same texts ──> baselines/ ──> the predictions of simple models, to compare with

config     the fields that the configurations of all recipes share
progress   the callback that reports each step and can cancel a run
report     what a run of a recipe returns
"""
