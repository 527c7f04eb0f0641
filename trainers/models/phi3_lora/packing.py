"""Packing: several examples in one row without padding, where no example attends to another.

    position   0 1 2 3 | 4 5 6 7 8 | 4 5 6 | 4 5 6 7
    segment    shared    1st         2nd     3rd       each attends to the shared prefix and causally to itself

All prompts of a chat template begin with the same tokens (the system message, the start of the user turn), so a row
contains this prefix once. The hidden states of an example in a row are those of the example alone.

Packing without cross-contamination: Krell et al., 2021, https://arxiv.org/abs/2107.02027.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch


class PromptAnswer(NamedTuple):
    """Token ids of a prompt, and of the answer that should follow it; both have at least one token."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


class PackedRow(NamedTuple):
    """Several examples as one sequence of n tokens, k of which predict an answer token.

    Attributes:
        input_ids: (1, n), int64. The last token of an answer is predicted only, so it is not part of the input.
        position_ids: (1, n), int64: the position of each token in its own example.
        segment_sizes: Number of tokens of the shared prefix (0 if there is none), then of the rest of each example;
            they add up to n.
        answer_positions: (k,), int64: the index in the row at which each answer token is predicted.
        answer_ids: (k,), int64: the answer tokens.
        answer_lengths: Number of answer tokens of each example; they add up to k.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    segment_sizes: tuple[int, ...]
    answer_positions: torch.Tensor
    answer_ids: torch.Tensor
    answer_lengths: tuple[int, ...]


def pack(examples: Sequence[PromptAnswer], device: torch.device | str = "cpu") -> PackedRow:
    """Pack examples into one row.

    Args:
        examples: At least one.
        device: Where the tensors are created.

    >>> row = pack([PromptAnswer((7, 1, 2), (3, 4)), PromptAnswer((7, 5), (6,))])
    >>> row.input_ids.tolist(), row.position_ids.tolist(), row.segment_sizes
    ([[7, 1, 2, 3, 5]], [[0, 1, 2, 3, 1]], (1, 3, 1))
    >>> row.answer_positions.tolist(), row.answer_ids.tolist()
    ([2, 3, 4], [3, 4, 6])
    """
    shared = _shared_prefix_length([example.prompt for example in examples])
    input_ids, position_ids = list(examples[0].prompt[:shared]), list(range(shared))
    answer_positions: list[int] = []
    answer_ids: list[int] = []
    segment_sizes = [shared]
    for prompt, answer in examples:
        segment = prompt[shared:] + answer[:-1]
        first = len(input_ids) + len(prompt) - shared - 1
        answer_positions += range(first, first + len(answer))
        answer_ids += answer
        input_ids += segment
        position_ids += range(shared, shared + len(segment))
        segment_sizes.append(len(segment))

    def tensor(values: list[int]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.long, device=device)

    return PackedRow(
        input_ids=tensor(input_ids)[None],
        position_ids=tensor(position_ids)[None],
        segment_sizes=tuple(segment_sizes),
        answer_positions=tensor(answer_positions),
        answer_ids=tensor(answer_ids),
        answer_lengths=tuple(len(example.answer) for example in examples),
    )


def _shared_prefix_length(prompts: Sequence[tuple[int, ...]]) -> int:
    """Number of tokens that all prompts begin with, without the last one, which predicts the first answer token."""
    most = min(len(prompt) for prompt in prompts) - 1
    return next((i for i in range(most) if len({prompt[i] for prompt in prompts}) > 1), most)


def segment_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, segment_sizes: Sequence[int], scaling: float
) -> torch.Tensor:
    """Attention of each segment to the shared prefix and to itself.

    The work grows with the sum of the squared segment sizes, not with the square of the row.

    Args:
        query, key, value: (1, heads, n, dim).
        segment_sizes: As in `PackedRow`.
        scaling: Factor of the attention scores.

    Returns:
        (1, heads, n, dim).
    """
    prefix_query, *queries = torch.split(query * scaling, list(segment_sizes), 2)
    prefix_key, *keys = torch.split(key, list(segment_sizes), 2)
    prefix_value, *values = torch.split(value, list(segment_sizes), 2)
    out = [_causal_attention(prefix_query, prefix_key, prefix_value)] if segment_sizes[0] else []
    for q, k, v in zip(queries, keys, values, strict=True):
        out.append(_causal_attention(q, torch.cat([prefix_key, k], 2), torch.cat([prefix_value, v], 2)))
    return torch.cat(out, 2)


def _causal_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Causal attention of the last tokens to all tokens.

    Written out, because `scaled_dot_product_attention` is slower on a CPU for sequences this short.
    """
    queries, keys = query.shape[2], key.shape[2]
    future = torch.ones(queries, keys, dtype=torch.bool, device=query.device).triu(keys - queries + 1)
    scores = (query @ key.transpose(2, 3)).masked_fill(future, float("-inf"))
    return scores.softmax(-1) @ value


class GroupedQueryAttention(Protocol):
    """The attribute of an attention layer of `transformers` that is needed here."""

    num_key_value_groups: int


def packed_attention(
    module: GroupedQueryAttention,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    _attention_mask: torch.Tensor | None,
    *,
    scaling: float,
    segment_sizes: Sequence[int],
    **_: object,
) -> tuple[torch.Tensor, None]:
    """`segment_attention` with the signature of an attention function of `transformers`.

    Args:
        module: The attention layer.
        query: (1, heads, n, dim).
        key, value: (1, heads / groups, n, dim); they are repeated for each group.
        scaling: Factor of the attention scores.
        segment_sizes: As in `PackedRow`; an extra argument of the model's forward.

    Returns:
        (1, n, heads, dim), and no attention weights.
    """
    groups = module.num_key_value_groups
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    return segment_attention(query, key, value, segment_sizes, scaling).transpose(1, 2).contiguous(), None
