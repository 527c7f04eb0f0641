"""Threat content as files: `events_folder.py` reads and writes events, `graph_export.py` the ontology."""
