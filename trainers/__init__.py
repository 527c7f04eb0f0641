"""From triggers to versions: each trigger is answered by one version, promoted or refused. Never imports `streams`.

retrain.triggers.v1 ──> consumer.py ──> dataset ──> recipe, gate (versions.py) ──> registry.py
                            │ journal_store.py,     │ distilbert.py                  │
                            │ base_models.py        │ phi3_lora.py                   │
                            │                       │ gnn.py                         │
                            └───────────────> model.versions.v1, retrain.journal.v1 <┘
"""
