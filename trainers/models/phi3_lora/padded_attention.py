"""The attention of a packed row on a GPU: all segments at once, each after the shared prefix, padded to one length.

    row        p p a a a b b          p: shared prefix, a and b: segments
    padded     p p a a a
               p p b b .              padding is at the end: with causal attention, no token attends to it

So no mask is needed, and `scaled_dot_product_attention` uses its fastest kernel, FlashAttention (Dao 2023,
https://arxiv.org/abs/2307.08691). The work grows with the sum of the squared segments, not with the square of the
row. The batches of a recipe have similar lengths, so little is padded. Both directions only read by index, because
deterministic additions by index are slow on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from trainers.models.phi3_lora.packing import GroupedQueryAttention


class PaddedSegments(NamedTuple):
    """Where the tokens of a packed row are in its padded form, of s segments and m places each.

    Attributes:
        token: (s, m), int64: the token of the row at each place; any for padding.
        place: (n,), int64: the place of each token, counted through all segments; of the prefix, in the first one.
        is_source: (s, m, 1, 1), bool: whether the place is the one that `place` has for its token.
        prefix: Number of tokens of the shared prefix.
    """

    token: torch.Tensor
    place: torch.Tensor
    is_source: torch.Tensor
    prefix: int


def pad_segments(segment_sizes: Sequence[int], device: torch.device | str = "cpu") -> PaddedSegments:
    """The padded form of a packed row.

    Args:
        segment_sizes: As in `trainers.models.phi3_lora.packing.PackedRow`; at least one segment after the prefix.
        device: Where the tensors are created.

    >>> padded = pad_segments((1, 2, 1))
    >>> padded.token.tolist(), padded.place.tolist()
    ([[0, 1, 2], [0, 3, 0]], [0, 1, 2, 4])
    """
    prefix, *own = segment_sizes
    longest = prefix + max(own)
    token: list[list[int]] = []
    place = list(range(prefix))
    start = prefix
    for number, size in enumerate(own):
        padding = [0] * (longest - prefix - size)
        token.append([*range(prefix), *range(start, start + size), *padding])
        place += range(number * longest + prefix, number * longest + prefix + size)
        start += size
    is_source = torch.zeros(len(own) * longest, dtype=torch.bool)
    is_source[place] = True
    return PaddedSegments(
        token=torch.tensor(token, device=device),
        place=torch.tensor(place, device=device),
        is_source=is_source.view(len(own), longest, 1, 1).to(device),
        prefix=prefix,
    )


class _Pad(torch.autograd.Function):
    """(n, heads, dim) to (s, m, heads, dim). The gradient of a token of the prefix is the sum over the segments."""

    @staticmethod
    def forward(ctx: Any, row: torch.Tensor, segments: PaddedSegments) -> torch.Tensor:
        ctx.segments = segments
        return row[segments.token]

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor, None]:
        segments: PaddedSegments = ctx.segments
        gradient = outer[0].flatten(0, 1)[segments.place]
        if segments.prefix:
            gradient[: segments.prefix] = outer[0][:, : segments.prefix].sum(0)
        return gradient, None


class _Unpad(torch.autograd.Function):
    """(s, m, heads, dim) to (n, heads, dim)."""

    @staticmethod
    def forward(ctx: Any, padded: torch.Tensor, segments: PaddedSegments) -> torch.Tensor:
        ctx.segments = segments
        return padded.flatten(0, 1)[segments.place]

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor, None]:
        segments: PaddedSegments = ctx.segments
        return outer[0][segments.token] * segments.is_source, None


def padded_attention(
    module: GroupedQueryAttention,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    _attention_mask: torch.Tensor | None,
    *,
    scaling: float,
    segments: PaddedSegments,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each segment and to the prefix, as an attention function of `transformers`.

    Args:
        module: The attention layer.
        query: (1, heads, n, dim).
        key, value: (1, heads / groups, n, dim); they are repeated for each group.
        scaling: Factor of the attention scores.
        segments: Of the row; an extra argument of the model's forward.

    Returns:
        (1, n, heads, dim), and no attention weights.
    """
    query, key, value = (_Pad.apply(x[0].transpose(0, 1), segments).transpose(1, 2) for x in (query, key, value))
    if module.num_key_value_groups > 1:
        key = key.repeat_interleave(module.num_key_value_groups, 1)
        value = value.repeat_interleave(module.num_key_value_groups, 1)
    padded = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling)
    return _Unpad.apply(padded.transpose(1, 2), segments)[None], None
