"""The SX9 DSL: every technique, detection rule, offensive tool and exploit as one entity, in YAML, JSON and TOML.

    events ──current──> valid events ──validation──> validation_errors.json, ..._report.json
                             └────────entities────> Sx9Entity ──> sx9_entities.yaml|json|toml, dsl_artifacts.json

hd4.py          tactic -> phase of HD4: a table
ptcc.py         what a thing does -> primitive of PTCC: tables
model.py        the records
entities.py     events to entities
validation.py   what is wrong with an event
files.py        `write_dsl`
"""
