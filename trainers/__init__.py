"""From triggers to versions: each trigger is answered by one version, promoted or refused. Never imports `streams`.

    retrain.triggers.v1 ──> runs/ ──> core/ dataset ──> models/<recipe>/ ──> core/ gate ──> store/ registry
                             │                           bases/ base models                    │
                             └──────────> model.versions.v1, retrain.journal.v1 <──────────────┘

core        datasets, the training loop, metrics, baselines, the gate: values in, values out
models      a package for each model: its network, its recipe, its predictor
bases       base models, fetched and converted once
runs        the processes: the Kafka consumer, batch calls, checkpoints, several processes of one run
store       what is kept: the registry, the copy of the journal, node embeddings, the mirror to MLflow
reporting   what people read: model cards, plots, summaries
settings    the environment variables
telemetry   the Prometheus metrics
"""
