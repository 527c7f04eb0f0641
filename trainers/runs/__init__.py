"""The processes that train.

    consumer ──> trigger_handler ──> run_process ──a process──> execute_run ──┐
    batch ────────────────────────────────────────────────────────────────────┴──> train_version ──> a version

consumer          a Kafka consumer that takes the triggers of one model; this side imports no torch
assignment        asks Kafka whether a partition is still ours
trigger_handler   one trigger: run, promotion, records
attempts          the failed attempts at the trigger in work, on disk
failures          what a failed run means for its trigger
embeddings        node embeddings of the champion, to Neo4j
run_process       starts, follows and ends the process of a run
execute_run       the process of a run: dataset, base model, training
scoring           the champion scores new examples, for the journal
execute_scores    the process that does
child             what both processes have in common
batch             one training call on given examples, without Kafka
train_version     what both share: recipe, gate, card, manifest
checkpoints       the checkpoint of a run, in a folder
distributed       several processes of one run
progress          progress bars, and cancellation
"""
