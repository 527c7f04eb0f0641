"""A package for each model, and the interfaces that they share.

recipe       the interface of a recipe, which trains versions
predictor    the interface of a predictor, which loads a version and answers batches
distilbert   `distilbert-mitre`: tactics and severity of a text
phi3_lora    `phi3-mitre-lora`: explanations, detection and mitigation of techniques
gnn          `gnn-threat`: techniques of actors, tools and mitigations; node embeddings
"""
