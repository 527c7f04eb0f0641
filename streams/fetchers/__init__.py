"""Fetchers read feeds and publish their events: `collect -> parse -> publish`; the runner owns the cursor.

base/      what a feed is (feed.py), one run (runner.py), what changed (diff.py, pure), what is on the topics
           (published_index.py), the state of each feed (cursor.py), sending (publish.py)
sources/   where bytes come from: HTTP, git, folders, packages; and the two kinds of collections made of them
formats/   STIX and YAML, parsed within limits
feeds/     one file per feed, and the table of feeds (registry.py)

source ──collection──> items ──parse (pure)──> encoded events ──diff──> what changed ──publish──> topics
                                                                 ^                                  │
                                          published.sqlite ──────┴────────────── read once <────────┘
"""
