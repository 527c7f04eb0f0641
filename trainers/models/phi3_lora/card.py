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
    return f"""Explains an ATT&CK technique, how to detect it and how to mitigate it, from what it is given with the
question; where that does not have the answer, it says so. The question comes last. This is a LoRA adapter: it needs
the base model `{base}`, which is not part of it.

With `transformers` and `peft`:

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
{imports}
base = {folder}
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), ".")
tokenizer = AutoTokenizer.from_pretrained(".")
question = '''Lua (T1059.011)
Tactics: execution
Mitigation: Audit (M1047): Inventory systems for unauthorized Lua installations.

How can Lua (T1059.011) be mitigated?'''
messages = [{{"role": "user", "content": question}}]
ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
print(tokenizer.decode(model.generate(**ids, max_new_tokens=100)[0]))
```

With this project:

```python
from schemas.journal import Instruction
from trainers.models.phi3_lora.predict import load

known = '''Lua (T1059.011)
Tactics: execution
Mitigation: Audit (M1047): Inventory systems for unauthorized Lua installations.'''
question = Instruction(instruction="How can Lua (T1059.011) be mitigated?", input=known, output="")
print(load(".").predict([question])[0])
```

`schemas.context` writes what is known in this form. Check an answer against it, as `sx9 ask --generate` does: it
can still say more. `{SAMPLES}` compares answers of the base model and of this version with what the context says.
The perplexity is per token of those answers; `bits saved` is 1 - log(perplexity) / log(vocabulary size).

Of generated answers, `tactic named` and `mitigation named` are the shares that name a right one before any other.
Of the ids that they cite, `citation precision` are those of the technique and of what is listed for it, and
`invented ids` those that are not in the question. `grounded` are the answers in which no id, tactic or name is new.
`no answer recall` is the share of the questions without an answer in their context for which the version says so,
`false no answer` that of the other questions."""
