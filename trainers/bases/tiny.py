"""`tiny` and `tiny-phi3`: models with seeded random weights, for tests."""

from __future__ import annotations

from pathlib import Path

from trainers.bases.conversion_cache import cached_folder

TINY_WORDS = """
    access account admin archive attacker beacon certificate cloud command control credential data delete disk
    domain download email encrypt execute exfiltrate file hash hide inject kernel key lateral log memory network
    password persist phish powershell process proxy query registry remote scan schedule script service shell
    steal system task token traffic upload user wipe
""".split()  # noqa: SIM905  a list of 53 lines is no clearer


def tiny(cache_dir: Path) -> Path:
    """The folder of a DistilBERT of two layers and 32 dimensions; its tokenizer has some words and all letters."""
    return cached_folder(cache_dir, "tiny", _make_tiny)


def _make_tiny(folder: Path) -> None:
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


def tiny_phi3(cache_dir: Path) -> Path:
    """The folder of a Phi-3 of two layers and 32 dimensions, whose tokens are bytes.

    Its output layer shares the frozen token embeddings, so these are initialized widely enough to differ.
    """
    return cached_folder(cache_dir, "tiny-phi3", _make_tiny_phi3)


def _make_tiny_phi3(folder: Path) -> None:
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
        model = Phi3ForCausalLM(settings)  # type: ignore[no-untyped-call]
        model.save_pretrained(folder)
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        eos_token="<|end|>",
        pad_token="<|end|>",
        additional_special_tokens=special[1:],
        chat_template=TINY_CHAT,
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    ).save_pretrained(folder)
