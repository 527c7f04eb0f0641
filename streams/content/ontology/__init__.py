"""The ontology: terms and relations from events, in six formats.

    events ──current──> valid events ──terms──> ThreatOntology ──> .json .surql .ttl .linkml.yaml, statistics
                             └──────────────cypher───────────────> .cypher

model.py        the document: metadata, statistics, terms, relations; nodes and edges
vocabulary.py   which category and which relation a thing is: tables
terms.py        events to terms and relations
files.py        `write_ontology` and `read_ontology`
merging.py      an older ontology and a new one
cypher.py       statements for Neo4j; also the second labels and edges of other schemas
surrealql.py    statements for SurrealDB
turtle.py       RDF
linkml.py       the LinkML schema of the JSON, and five templates for extraction from text
"""
