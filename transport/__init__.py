"""Input and output shared by all processes: Kafka, Neo4j, files, and retries.

    kafka.py           producer, consumer, read_range     partition_log.py   one partition, read by offset
    topics.py          create_topics, partitions_of       neo4j.py           neo4j_driver
    admin.py           offsets of consumer groups         records.py         the records in messages
    files.py           atomic writes, fsync, hashes, locks     retry.py      retry

Of our own packages it imports only `schemas`. It maps the errors of the client libraries to `schemas.errors`.
"""
