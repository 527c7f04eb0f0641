"""The `sx9` command and the training calls: the streaming side and the trainers put together.

cli/            the commands                       training.py   the training calls, without Kafka
queries.py      what the commands show             render.py     tables and JSON
fetching.py     exports.py     retrain.py          what single commands do
system.py       processes.py   roles.py            `sx9 up` and its processes
decisions.py    follows windows, triggers, versions
connections.py  the Kafka of a command             logs.py       the log format
demo/           the history of ATT&CK, replayed
"""
