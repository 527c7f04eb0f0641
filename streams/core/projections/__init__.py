"""What each model can learn from an event: one module per model, named in `schemas.models.MODEL_SPECS`.

    event ──┬── tactics.py        text with tactics or severity    distilbert-mitre ──┐
            ├── instructions.py   questions and their answers      phi3-mitre-lora  ──┼── base.py ──> Example
            └── graph.py          nodes and links                  gnn-threat       ──┘

`text.py` removes the markup from the texts of a feed, once per event.
"""
