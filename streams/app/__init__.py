"""The Faust app. It has three roles, each a process of its own, so that one that stops does not hold up the others.

    threat.* ──> journal role (journal_sink.py) ──> retrain.journal.v1 ──> fold role (fold_sink.py) ──> triggers
        └──────> graph role (graph_sink.py) ──> Neo4j

`wiring.py` builds the clients of a role and runs it in the Faust worker of `worker.py`. `ownership.py` follows
which partitions Kafka assigns to this worker: `catch_up.py` first reads their backlog in bulk, then the agent of
`agents.py` runs. Both give messages to the same sink (`sink.py`).
`replay.py` reads a journal again, `policy_file.py` the configured policies; `dead_letters.py` handles bad messages.
"""
