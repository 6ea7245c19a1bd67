"""How each token of a text surprises a base and adapters over it. It does not know what that is a sign of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from llmtwin.models.likelihood import Pass, Row, passes
from llmtwin.models.lora import Lora
from llmtwin.models.transformer import Transformer


@dataclass(frozen=True)
class Surprise:
    """The scored tokens of one row (T,).

    `logprobs` are in nats. `standardised` are these less the mean of the log-probabilities of all tokens at
    their place, weighted by their probabilities, in standard deviations of it. `mispredicted` is where
    another token is likelier.
    """

    logprobs: NDArray[np.float64]
    standardised: NDArray[np.float64]
    mispredicted: NDArray[np.bool_]


@torch.inference_mode()
def surprises(
    transformer: Transformer, rows: Sequence[Row], adapters: Sequence[Lora | None]
) -> list[list[Surprise]]:
    """Each row under each adapter (None is the base alone): a list an adapter, of one a row."""
    parts: list[list[list[Surprise]]] = [[[] for _ in rows] for _ in adapters]
    for one in passes(transformer, rows, adapters):
        parts[one.adapter][one.row].append(_surprise(transformer, one))
    return [[_joined(each) for each in of] for of in parts]


def _surprise(transformer: Transformer, one: Pass) -> Surprise:
    every = torch.log_softmax(transformer.logits(one.hidden), dim=-1)
    own, likely = every.gather(1, one.ids[:, None])[:, 0], every.exp()
    centre = (likely * every).sum(1)
    spread = ((likely * every.square()).sum(1) - centre.square()).clamp(min=1e-12).sqrt()
    return Surprise(
        logprobs=own.double().numpy(),
        standardised=((own - centre) / spread).double().numpy(),
        mispredicted=(own < every.amax(1)).numpy(),
    )


def _joined(parts: Sequence[Surprise]) -> Surprise:
    return Surprise(
        logprobs=np.concatenate([part.logprobs for part in parts]),
        standardised=np.concatenate([part.standardised for part in parts]),
        mispredicted=np.concatenate([part.mispredicted for part in parts]),
    )
