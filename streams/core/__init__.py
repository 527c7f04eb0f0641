"""Pure: values in, values out. No clock, no environment, no Kafka, Faust, Neo4j or Prometheus.

events ── examples.py ──> journal records ── fold.py ──> windows, triggers
   │                                          ├── windows.py   what the open window holds
   │                                          ├── drift.py     how far the labels have moved
   └───── graph.py ─────> rows of the graph   ├── sample.py    which older keys to rehearse or judge on
                                              └── triggers.py  which rules trip, with their numbers
"""
