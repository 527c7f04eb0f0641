"""Base models: the pretrained model that a first version starts from, as a folder of one fixed layout.

    name in the configuration ── resolve.py ──┬─> minilm.py, smollm2.py ─┐ converted or made once,
                                              ├─> tiny.py ───────────────┴─ conversion_cache.py
                                              ├─> a folder, used as it is
                                              └─> hub.py
                                                      └──> layout.py: checked ──> Base

kinds.py              what each architecture's settings, stand-in and example are called
text_embedding.py     texts as vectors, by a DistilBERT that is not trained
quiet.py              transformers without its progress bars and reports
"""
