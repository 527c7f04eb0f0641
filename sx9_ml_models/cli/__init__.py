"""The `sx9` command line: one module per command.

app.py       the list of commands, global options, exit codes
options.py   options that several commands share
<command>.py reads the settings, calls one function of `sx9_ml_models`, and renders the result
"""
