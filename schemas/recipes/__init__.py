"""The configuration of each recipe: what of a training run decides its result is part of the policy.

    base.py        the fields that all recipes share     distilbert.py, phi3_lora.py, gnn.py    one per recipe

Policy file ──> policy record ──> trigger ──> trainer. The environment has the fields of `base.OF_THE_MACHINE` only.
"""
