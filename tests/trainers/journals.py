"""Small journals for each of the three models, out of one little world of tactics, techniques and groups."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from schemas.journal import Example, Instruction, Link, Node, Source, held_out
from schemas.recipes.base import RecipeConfig
from schemas.recipes.distilbert import DistilbertConfig
from schemas.recipes.gnn import GnnConfig
from schemas.recipes.phi3_lora import Phi3LoraConfig
from tests.trainers.samples import LABELS, WORDS, examples
from trainers.core.dataset import Dataset, OffsetExample, split

CONFIGS: Mapping[str, RecipeConfig] = {
    "distilbert-mitre": DistilbertConfig(
        base="tiny", epochs=2, batch_size=8, max_tokens=32, frozen_layers=0, threads=1, save_steps=3, device="cpu"
    ),
    "phi3-mitre-lora": Phi3LoraConfig(
        base="tiny-phi3",
        epochs=1,
        batch_size=4,
        threads=1,
        save_steps=3,
        device="cpu",
        max_tokens=96,
        eval_examples=16,
        sample_answers=4,
        answer_tokens=8,
    ),
    "gnn-threat": GnnConfig(base="tiny", epochs=2, batch_size=16, threads=1, save_steps=3, device="cpu"),
}


def _example(number: int, key: str, **fields: Any) -> Example:
    said = repr((key, fields)).encode()
    return Example(
        source=Source("threat.techniques.v1", 0, number, 1_700_000_000_000 + number),
        key=key,
        hash=hashlib.blake2b(said, digest_size=8).hexdigest(),
        taxonomy="enterprise-attack/15.1",
        **fields,
    )


def answers(number: int, first: int = 0) -> list[Example]:
    """What `phi3-mitre-lora` learns: explanations and mitigations, of techniques whose tactics take turns."""
    out = []
    for n in range(first, first + number):
        tactic = LABELS[n % len(LABELS)]
        words = WORDS[tactic]
        text = f"T{1000 + n // 2} belongs to {tactic}: the attacker uses {words[n % 4]} and {words[(n + 1) % 4]}."
        task = ("Explain", "Mitigate")[n % 2]
        instruction = Instruction(instruction=f"{task} the technique.", input=f"T{1000 + n // 2}", output=text)
        group = f"technique:T{1000 + n // 2}"
        key = group if task == "Explain" else f"relationship:{n}"
        out.append(_example(n, key, group=group, instructions=(instruction,), labels=(tactic,)))
    return out


def graph(number: int, first: int = 0) -> list[Example]:
    """What `gnn-threat` learns: at the beginning nodes, then so many links of groups that prefer a tactic."""
    techniques = [f"T{1000 + n}" for n in range(24)]
    nodes = [
        _example(
            n, f"node:{name}", labels=(LABELS[n % 4],),
            node=Node(id=name, kind="technique", name=name, text=f"{name} {' '.join(WORDS[LABELS[n % 4]])}"),
        )
        for n, name in enumerate(techniques)
    ]  # fmt: skip
    nodes += [
        _example(24 + n, f"node:G{n}", node=Node(id=f"G{n}", kind="group", name=f"group {n}", text=f"group {n}"))
        for n in range(40)
    ]
    links = []
    for n in range(first, first + number):
        group, technique = n % 40, ((n % 4) + 4 * (n // 40)) % 24
        link = Link(
            source=f"G{group}", source_kind="group", relation="uses", target=techniques[technique],
            target_kind="technique",
        )  # fmt: skip
        links.append(_example(100 + n, f"link:{n}", link=link, labels=("uses:group",)))
    return [*(nodes if not first else []), *links]


def texts(number: int, first: int = 0) -> list[Example]:
    """What `distilbert-mitre` learns."""
    return examples(number, first=first)


JOURNALS: Mapping[str, Callable[..., list[Example]]] = {
    "distilbert-mitre": texts,
    "phi3-mitre-lora": answers,
    "gnn-threat": graph,
}


def labels_of(journal: Sequence[Example]) -> tuple[str, ...]:
    """What a trigger would name."""
    return tuple(sorted({label for one in journal if not held_out(one) for label in one.labels}))


def later(before: Sequence[Example], window: Sequence[Example]) -> Dataset:
    """The data of a run on a window that comes after another journal, ten of whose examples are rehearsed."""
    placed: list[OffsetExample] = list(enumerate(window, len(before)))
    everything = split([*before, *window], 10_000, 17)
    return Dataset(
        fresh=tuple(at for at in placed if not held_out(at[1])),
        rehearsal=tuple(at for at in enumerate(before) if not held_out(at[1]))[-10:],
        old=tuple(at for at in enumerate(before) if held_out(at[1])),
        recent=tuple(at for at in placed if held_out(at[1])),
        context=everything.context,
    )


def reworded(one: Example, text: str) -> Example:
    """The example with another text, where its model has texts."""
    if one.instructions:
        changed = tuple(msgspec.structs.replace(i, output=text) for i in one.instructions)
        return msgspec.structs.replace(one, instructions=changed, hash="")
    if one.node:
        return msgspec.structs.replace(one, node=msgspec.structs.replace(one.node, text=text), hash="")
    return msgspec.structs.replace(one, text=text if one.text else "", hash="")
