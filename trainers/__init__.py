"""From triggers to versions: each trigger is answered by one version, promoted or refused. Never imports `streams`.

retrain.triggers.v1 ──> consumer.py ──> dataset ──> recipe (distilbert.py) ──> gate ──> registry.py
                            │ journal_store.py, base_models.py                            │
                            └────────────────> model.versions.v1, retrain.journal.v1 <────┘
"""
