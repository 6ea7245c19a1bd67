"""Puts tokenised rows into batches of few shapes. It knows no model."""

from __future__ import annotations

from itertools import takewhile
from typing import Any

import torch
from torch import Tensor


def common_prompt(rows: list[tuple[list[int], int]]) -> int:
    """How many tokens all prompts begin with; the last one of a prompt never counts, for it predicts."""
    shortest, longest = min(ids for ids, _ in rows), max(ids for ids, _ in rows)
    limit = min(prompt for _, prompt in rows) - 1
    same = (a == b for a, b in zip(shortest[:limit], longest[:limit], strict=True))
    return sum(takewhile(bool, same))


def in_batches(rows: list[tuple[list[int], int]], batch_tokens: int, together: int = 1) -> list[list[int]]:
    """Rows in their order, `together` never parted, each batch at most `batch_tokens` when padded."""
    batches: list[list[int]] = [[]]
    for first in range(0, len(rows), together):
        group = list(range(first, first + together))
        longest = max(len(rows[index][0]) for index in batches[-1] + group)
        if batches[-1] and (len(batches[-1]) + together) * longest > batch_tokens:
            batches.append([])
        batches[-1] += group
    return batches


def rounded(length: int) -> int:
    """A length, or up to an eighth more: every new shape costs time and memory in the matrix library."""
    step = max(1, 1 << length.bit_length() >> 4)
    return -(-length // step) * step


def filled(values: list[Any], length: int) -> Tensor:
    """The values, and the first one again up to that length."""
    return torch.tensor(values + values[:1] * (length - len(values)))
