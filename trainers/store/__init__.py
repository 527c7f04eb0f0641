"""What trainers keep.

registry          the versions of each model as folders, and the champion
manifest          `manifest.json` of a version: provenance, scores, file hashes
journal_copy      a local copy of the journal of a model, in SQLite
version_log       what `model.versions.v1` already holds
node_embeddings   the node embeddings of the champion, in Neo4j
mlflow_mirror     a mirror of the registry in MLflow
"""
