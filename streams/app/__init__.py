"""The Faust app, in three roles that run as processes of their own: one that stops never holds up another.

    threat.* ──> journal role (journaling.py) ──> retrain.journal.v1 ──> fold role (folding.py) ──> triggers
        └──────> graph role (graphing.py) ──> Neo4j

`agents.py` holds the thin Faust agents, `catch_up.py` the bulk path that reads a backlog before the agents
start, `wiring.py` builds every client and starts a role.
"""
