"""Fetch every source of threat content, make indexes, ontology and DSL files of it, and train the models.

    python threat_content_fetcher.py --help

The same command is `threat_content_fetcher` after `pip install`.
"""

import sys

from sx9_ml_models.content.command import main

if __name__ == "__main__":
    sys.exit(main())
