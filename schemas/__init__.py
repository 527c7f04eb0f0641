"""The contract: the records that cross a topic or a file, their codec, the topics, the models and the errors.

Pure, and imports nothing of ours. `streams` and `trainers` never import each other: they meet here and in topics.

    events.py       what feeds published                policy.py    the rules of retraining, a record themselves
    journal.py      what can influence a retraining     models.py    the table of models
    windows.py      windows and triggers                topics.py    the table of topics
    versions.py     versions and their manifests        codec.py     records <-> bytes
    scores.py       how well a model does its tasks     errors.py    the error tree
    taxonomy.py     where labels come from
    cloudevents.py  the headers of a message            json/        JSON Schema files, made by tools.json_schemas
    encoding.py     an event with its bytes and hash    dead_letters.py  the message of a dead letter
"""
