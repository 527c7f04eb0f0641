"""Runs the `sx9` command: `python -m sx9_ml_models`."""

from sx9_ml_models.cli.app import main

main()
