"""The feeds, one file each, and the table of them in `registry.py`.

A feed file says where the feed is and which files belong to it, and has a pure function from bytes to events.
"""
