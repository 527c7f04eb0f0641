"""The processes that train.

    consumer ──> trigger_handler ──┐
    batch ─────────────────────────┴──> train_version ──> a version in the registry

consumer          a Kafka consumer that takes the triggers of one model
trigger_handler   one trigger: dataset, training, promotion, records
batch             one training call on given examples, without Kafka
train_version     what both share: recipe, gate, card, manifest
checkpoints       the checkpoint of a run, in a folder
distributed       several processes of one run
progress          progress bars, and cancellation
"""
