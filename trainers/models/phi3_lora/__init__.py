"""`phi3-mitre-lora`: a LoRA adapter for Phi-3 that answers questions about ATT&CK techniques.

instructions ──> contexts ──> chat ──> packing ──> adapter ──> scorer ──> loss ──> saving, card
                 (what was    (token   (rows)      (base and   (answer    │
                  known)       ids)                 LoRA)       loss)     └──> generation, generation_evaluation

recipe                  trains one version, from examples to a folder
predict                 loads a version's folder and answers questions
config                  the configuration of a run
sampling                the examples that are rehearsed and evaluated
"""
