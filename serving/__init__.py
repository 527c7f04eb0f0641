"""Serving: versions in memory that answer, and the HTTP server around them.

    request ──> limits, keys ──> route ──> Batcher (one thread a model) ──> LoadedVersion.predict ──> answer
                                             │
    model.versions.v1 ──> follower ──> ServedModel: loads, tests, swaps

predictors.py   loads a version from its folder, and nothing else
self_test.py    the questions that a version must answer before it serves
served.py       the version of each model that serves, and those that requests pin
follower.py     which version should serve: from the log, or from the champion links
batching.py     the queries of many requests in one batch
passages.py     sentences joined to passages that a model reads whole
classification.py, threat_graph.py, inference.py   what the routes answer
app.py, routes/ the HTTP interface; middleware.py: limits, keys, times
keys.py         API keys; shadow.py: a candidate that answers unseen
settings.py     settings; telemetry.py: metrics
answers/        answers with evidence; reports/: texts of files; techniques/: techniques of a text
"""
