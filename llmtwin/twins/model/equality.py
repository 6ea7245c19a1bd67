"""Tests whether two models write the same, from texts of both for the same prompts. It knows no model.

Gao, Liang and Guestrin 2024 (arXiv:2410.20247): the maximum mean discrepancy with a Hamming kernel on the
beginnings of the texts, its p-value by permutation within each prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmtwin.errors import InputError

Texts = Mapping[str, Sequence[str | tuple[str, ...]]]
"""By prompt, what a model wrote: each as text, whose places are characters, or as its tokens."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Equality:
    """The squared discrepancy, about 0 of equals and at most 2, and how often chance makes it so large."""

    discrepancy: float
    p_value: float
    prompts: int
    texts: int


def equality(
    some: Texts, other: Texts, *, places: int = 50, permutations: int = 999, seed: int = 0
) -> Equality:
    """Compare two sets of texts for the same prompts, of each by its first `places` tokens or characters.

    The kernel of two texts of one prompt is the share of places at which they agree, one that has ended
    being at its end; of two prompts it is 0. The estimate is the unbiased one, its mean over prompts. Under
    equality all ways to share each prompt's texts out are as likely, so that p <= alpha in at most a share
    alpha of cases, the observed way counting as one of them (Phipson and Smyth 2010, arXiv:1603.05766).
    Raises InputError where prompts differ, or one has less than two texts of either.
    """
    if some.keys() != other.keys() or not some:
        raise InputError(
            "both sides must answer the same prompts, at least one: only then can texts be compared"
        )
    rng = np.random.default_rng(seed)
    found: Array = np.zeros(permutations + 1)
    for prompt in sorted(some):
        counts = len(some[prompt]), len(other[prompt])
        if min(counts) < 2:
            raise InputError(f"give at least two texts of each side for the prompt {prompt[:60]!r}")
        kernel = _kernel([*some[prompt], *other[prompt]], places)
        found += _discrepancies(kernel, _shares(counts, permutations, rng)) / len(some)
    # What is as large but for rounding is as large.
    as_large = int((found[1:] >= found[0] - 1e-12).sum())
    texts = sum(len(side[prompt]) for side in (some, other) for prompt in side)
    return Equality(float(found[0]), (1 + as_large) / (1 + permutations), len(some), texts)


def _kernel(texts: Sequence[str | tuple[str, ...]], places: int) -> Array:
    """Shares of places that agree (N, N); the diagonal is 0, since the estimate leaves it out."""
    codes: dict[str, int] = {}
    table = np.full((len(texts), places), -1)
    for row, text in enumerate(texts):
        begun = [codes.setdefault(unit, len(codes)) for unit in text[:places]]
        table[row, : len(begun)] = begun
    kernel: Array = (table[:, None, :] == table[None, :, :]).mean(axis=2)
    np.fill_diagonal(kernel, 0)
    return kernel


def _shares(counts: tuple[int, int], permutations: int, rng: np.random.Generator) -> Array:
    """Rows (permutations + 1, N) of 1 for a text of the first side, else 0; the first row is as observed."""
    observed = np.repeat([1.0, 0.0], counts)
    drawn: Array = np.vstack([observed, rng.permuted(np.tile(observed, (permutations, 1)), axis=1)])
    return drawn


def _discrepancies(kernel: Array, first: Array) -> Array:
    """The unbiased estimate for each row of `first` (Gretton et al. 2012, equation 3)."""
    second = 1 - first
    n, m = first[0].sum(), second[0].sum()
    within = [np.einsum("pi,pi->p", side @ kernel, side) for side in (first, second)]
    between = np.einsum("pi,pi->p", first @ kernel, second)
    found: Array = within[0] / (n * (n - 1)) + within[1] / (m * (m - 1)) - 2 * between / (n * m)
    return found
