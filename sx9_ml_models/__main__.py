"""`python -m sx9_ml_models`: the `sx9` command."""

from sx9_ml_models.cli.app import main

main()
