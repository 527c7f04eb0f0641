"""Feeds in, events out: each fetcher is `collect -> parse -> emit`, and the runner owns the cursor.

    source ──collect──> bytes, files ──parse──> events, rejects ──plan──> what changed ──publish──> topics
    (URL, path, git,     (attack.py, nuclei.py: pure)      (changes.py: pure)              │ acknowledged
     package)                                                   ^                          v
                                              published.py: a fold over the topics ──> cursor file

What was published is known from the topics themselves: the cursor file is a snapshot of that fold, with
the offsets it has read. Losing it, or dying before it is written, costs reading and nothing else.
"""
