"""Threat content as files: events, the ontology and the DSL.

events_folder.py   a folder of events and of files of the feeds
current.py         what is valid after a sequence of events
identity.py        what of an event is hashed
trivariate.py      the hash
ontology/          terms, relations and the graph, for other tools
dsl/               every technique, rule, tool and exploit as an SX9 entity
"""
