"""The part of a version's model card that says what it does and how to use it."""

from __future__ import annotations

from schemas.versions import Manifest
from trainers.bases.resolve import STAND_INS
from trainers.models.phi3_lora.saving import SAMPLES


def introduction(manifest: Manifest) -> str:
    """What a version does and how it is used, in Markdown."""
    base = manifest.base
    imports, folder = "", f'"{base}"'
    if base in STAND_INS:
        imports = """
from trainers.bases.resolve import resolve
from trainers.settings import load_trainer_settings
"""
        folder = f'resolve("{base}", load_trainer_settings().cache_dir, "phi3").folder'
    return f"""Explains an ATT&CK technique, how to detect it and how to mitigate it. This is a LoRA adapter: it
needs the base model `{base}`, which is not part of it.

With `transformers` and `peft`:

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
{imports}
base = {folder}
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), ".")
tokenizer = AutoTokenizer.from_pretrained(".")
messages = [{{"role": "user", "content": "How can Lua (T1059.011) be mitigated?"}}]
ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
print(tokenizer.decode(model.generate(**ids, max_new_tokens=100)[0]))
```

With this project:

```python
from schemas.journal import Instruction
from trainers.models.phi3_lora.predict import load

question = Instruction(instruction="How can Lua (T1059.011) be mitigated?", output="")
print(load(".").predict([question])[0])
```

The details of an answer are often wrong: read it as a draft. `{SAMPLES}` compares answers of the base model and of
this version with those of ATT&CK. The perplexity is per token of ATT&CK's answers; `bits saved` is
1 - log(perplexity) / log(vocabulary size). `tactic named` and `mitigation named` are the shares of generated
answers that name a right one before any other."""
