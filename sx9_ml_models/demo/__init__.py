"""The demo: seven years of ATT&CK replayed through the whole system in minutes, in a folder of its own.

run.py        starts the system, replays, prints the versions
policy.py     rules of the journals and settings of the processes
history.py    the events in the order of their creation, in chunks
templates.py  a second feed at the end: Nuclei templates
player.py     publishes a chunk, waits for its effects, advances the time
display.py    progress on the terminal
"""
