"""The pure core of the streams: values in, values out. No clock, environment, Kafka, Faust, Neo4j or Prometheus.

    events ─┬─ projections/ ──> journal records ── fold.py ──> windows, triggers
            ├─ graph_rows.py ─> node and edge rows for Neo4j
            └─ ontology.py ───> the whole threat graph as one document

The fold uses `state.py` (what it knows), `windows.py` (the open window), `sampling.py` (bounded samples of older
keys), `detectors/` (drift) and `rules/` (which rules trip, with their measures).
"""
