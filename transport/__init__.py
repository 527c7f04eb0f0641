"""How bytes enter and leave a process: Kafka, Neo4j, files, and calls that are tried again.

    kafka.py           clients, RecordProducer, read_range        files.py   atomic writes, fsync, hashes, locks
    partition_log.py   a partition that is read by offset         neo4j.py   driver
    topics.py          creates the topics                         retry.py   calls that may fail at first

Imports `schemas` and nothing else of ours. Errors of the client libraries are mapped to `schemas.errors` here.
"""
