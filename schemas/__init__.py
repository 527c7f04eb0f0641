"""The contract: every record that crosses a topic or a file, its codec, its topic, and the errors.

Imports nothing of ours. `streams` and `trainers` never import each other: they meet here and in topics.

    events.py    what feeds said            policy.py    the rules of retraining, themselves a record
    journal.py   what can influence a model models.py    versions and their manifests
    windows.py   windows and triggers       topics.py    the table of topics
    taxonomy.py  names of label versions    codec.py     bytes <-> records, JSON Schema
"""
