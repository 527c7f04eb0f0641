"""Token ids of texts, and how long texts are shortened.

text ──> tokenize ──> split_into_chunks   training: up to `max_chunks` chunks of each text
                 └──> truncate            evaluation and prediction: the first chunk
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tokenizers import Tokenizer

from trainers.bases.layout import TOKENIZER_FILES

TokenIds = list[list[int]]
"""Token ids of each text, from [CLS] to [SEP], not padded."""

MAX_CHARS_PER_TOKEN = 20
MAX_CHUNKS = 16
"""The most chunks that can be configured. A text is cut at `max_tokens * MAX_CHUNKS * MAX_CHARS_PER_TOKEN`
characters before it is tokenized, because tokenizing a very long text is slow. English prose has about 5 characters
per token."""


class Chunks(NamedTuple):
    """Texts, split into chunks.

    Attributes:
        tokens: Token ids of each chunk, in the order of the texts.
        texts: The index of the text of each chunk. Ascending; each text has at least one chunk.
    """

    tokens: TokenIds
    texts: list[int]


def load_tokenizer(folder: Path) -> Tokenizer:
    """Load the tokenizer of a base model or a version, without padding and truncation."""
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILES[0]))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def tokenize(tokenizer: Tokenizer, texts: Sequence[str], max_tokens: int) -> TokenIds:
    """Tokenize texts, as far as any chunk of them could reach.

    Args:
        tokenizer: Without padding and truncation.
        texts: May be empty strings.
        max_tokens: Length of a chunk.
    """
    max_chars = max_tokens * MAX_CHUNKS * MAX_CHARS_PER_TOKEN
    return [encoding.ids for encoding in tokenizer.encode_batch([text[:max_chars] for text in texts])]


def truncate(tokens: TokenIds, max_tokens: int) -> TokenIds:
    """Keep the beginning of each text and its [SEP].

    Args:
        tokens: From [CLS] to [SEP].
        max_tokens: Most tokens of a text, [CLS] and [SEP] included; at least 2.

    >>> truncate([[101, 7, 8, 9, 102]], 4)
    [[101, 7, 8, 102]]
    """
    return [ids if len(ids) <= max_tokens else [*ids[: max_tokens - 1], ids[-1]] for ids in tokens]


def split_into_chunks(tokens: TokenIds, max_tokens: int, max_chunks: int) -> Chunks:
    """Split each text into consecutive chunks, each with its own [CLS] and [SEP].

    A last chunk of less than a quarter of the length is dropped, and so is all text after the last chunk.

    Args:
        tokens: From [CLS] to [SEP].
        max_tokens: Most tokens of a chunk, [CLS] and [SEP] included; at least 3.
        max_chunks: Most chunks of a text, at least 1.

    >>> split_into_chunks([[101, 1, 2, 3, 4, 5, 102], [101, 102]], 4, 2)
    Chunks(tokens=[[101, 1, 2, 102], [101, 3, 4, 102], [101, 102]], texts=[0, 0, 1])
    """
    chunks = Chunks([], [])
    size = max_tokens - 2
    for text, ids in enumerate(tokens):
        cls, words, sep = ids[:1], ids[1:-1], ids[-1:]
        for start in range(0, max(1, min(len(words), max_chunks * size)), size):
            chunk = words[start : start + size]
            if start and len(chunk) < size / 4:
                continue
            chunks.tokens.append([*cls, *chunk, *sep])
            chunks.texts.append(text)
    return chunks
