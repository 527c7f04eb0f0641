"""The `sx9` command: the streaming side and the trainers put together."""
