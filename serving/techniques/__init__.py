"""The techniques of a text, by the nearest examples that name techniques.

    threat.* topics ──examples──> store (SQLite) ──> index ──nearest──> techniques, each with its examples, or none

Nothing here is trained: an example that came a minute ago counts at the next catch-up.
"""
