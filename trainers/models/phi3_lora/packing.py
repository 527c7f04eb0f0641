"""Questions and answers as tokens, many in one row without padding, none of which sees another.

    position   0 1 2 3 | 4 5 6 7 8 | 4 5 6 | 4 5 6 7
               shared    1st         2nd     3rd        each sees what all begin with, and itself up to there

Every question of a chat template begins with the same tokens (the system's message, the user's turn): a row has
them once. What a model computes in a row is what it computes of each example alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch


class Piece(NamedTuple):
    """Token ids of what a model is given, and of what it shall say next; both have at least one."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


class Row(NamedTuple):
    """Several pieces as one sequence of n tokens with k answer tokens.

    Attributes:
        ids, positions: (1, n), int64; the last token of an answer is no input.
        sizes: Tokens of the shared beginning (perhaps 0), then of the rest of each piece; their sum is n.
        asked: (k,), int64: where in the row each answer token is predicted.
        answers: (k,), int64: the answer tokens.
        lengths: Answer tokens of each piece; their sum is k.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    sizes: tuple[int, ...]
    asked: torch.Tensor
    answers: torch.Tensor
    lengths: tuple[int, ...]


def pack(pieces: Sequence[Piece], device: torch.device | str = "cpu") -> Row:
    """At least one piece as a row.

    >>> row = pack([Piece((7, 1, 2), (3, 4)), Piece((7, 5), (6,))])
    >>> row.ids.tolist(), row.positions.tolist(), row.sizes
    ([[7, 1, 2, 3, 5]], [[0, 1, 2, 3, 1]], (1, 3, 1))
    >>> row.asked.tolist(), row.answers.tolist()
    ([2, 3, 4], [3, 4, 6])
    """
    shared = _shared([piece.prompt for piece in pieces])
    ids, positions = list(pieces[0].prompt[:shared]), list(range(shared))
    asked: list[int] = []
    answers: list[int] = []
    sizes = [shared]
    for prompt, answer in pieces:
        own = prompt[shared:] + answer[:-1]
        first = len(ids) + len(prompt) - shared - 1
        asked += range(first, first + len(answer))
        answers += answer
        ids += own
        positions += range(shared, shared + len(own))
        sizes.append(len(own))

    def tensor(values: list[int]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.long, device=device)

    lengths = tuple(len(piece.answer) for piece in pieces)
    return Row(tensor(ids)[None], tensor(positions)[None], tuple(sizes), tensor(asked), tensor(answers), lengths)


def _shared(prompts: Sequence[tuple[int, ...]]) -> int:
    """How many tokens all prompts begin with; the last of each, where its answer begins, is not one of them."""
    most = min(len(prompt) for prompt in prompts) - 1
    return next((i for i in range(most) if len({prompt[i] for prompt in prompts}) > 1), most)


def visible(sizes: Sequence[int], device: torch.device | str = "cpu") -> torch.Tensor:
    """Which token sees which, for attention over a whole row.

    >>> visible((1, 2, 1)).int().tolist()
    [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 0, 1]]

    Returns:
        (n, n), boolean; row i is what token i sees.
    """
    piece = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)).to(device)  # 0: the beginning
    same = piece[:, None] == piece[None]
    return (same | (piece == 0)[None]).tril()


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, sizes: Sequence[int], scaling: float
) -> torch.Tensor:
    """Attention within each piece of a row; work grows with the pieces, not with the square of the row.

    Args:
        query, key, value: (1, heads, n, dim).
        sizes: As in `Row`.
        scaling: Of the scores.

    Returns:
        (1, heads, n, dim).
    """
    first, *queries = torch.split(query * scaling, list(sizes), 2)
    shared_key, *keys = torch.split(key, list(sizes), 2)
    shared_value, *values = torch.split(value, list(sizes), 2)
    out = [_attend(first, shared_key, shared_value)] if sizes[0] else []
    for q, k, v in zip(queries, keys, values, strict=True):
        out.append(_attend(q, torch.cat([shared_key, k], 2), torch.cat([shared_value, v], 2)))
    return torch.cat(out, 2)


def _attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Causal attention of the last tokens to all. By hand: torch's own is slower on a CPU for so few."""
    number, seen = query.shape[2], key.shape[2]
    hidden = torch.ones(number, seen, dtype=torch.bool, device=query.device).triu(seen - number + 1)
    scores = (query @ key.transpose(2, 3)).masked_fill(hidden, float("-inf"))
    return scores.softmax(-1) @ value


def packed_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    _mask: torch.Tensor | None,
    *,
    scaling: float,
    sizes: Sequence[int],
    **_: object,
) -> tuple[torch.Tensor, None]:
    """`attend` as `transformers` calls an attention: heads of keys repeated, (1, n, heads, dim) returned."""
    groups = module.num_key_value_groups
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    return attend(query, key, value, sizes, scaling).transpose(1, 2).contiguous(), None
