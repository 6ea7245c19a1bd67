"""Tunes adapters on examples, and on preferences. It knows nothing of what they are about.

The frozen layers below the adapters run once per example; each epoch touches only the layers above, and the
vocabulary head only the positions whose next token is learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from llmtwin.errors import InputError
from llmtwin.models.batches import in_batches
from llmtwin.models.lora import Lora
from llmtwin.models.run import (
    Progress,
    Report,
    Row,
    Run,
    Tuned,
    TuneOptions,
    by_row,
    digest_of,
    render,
    tuned,
)
from llmtwin.models.transformer import Transformer
from llmtwin.records import Example, Preference

__all__ = ["Progress", "Report", "TuneOptions", "Tuned", "prefer", "render", "tune"]


def tune(
    transformer: Transformer,
    examples: Sequence[Example] | Sequence[Row],
    options: TuneOptions,
    *,
    start: Lora | None = None,
    under: Lora | None = None,
    checkpoint: Path | None = None,
    report: Report = lambda _: None,
) -> Tuned:
    """Learn `examples` into an adapter above `under` (a frozen skill), from `start` or from nothing.

    Examples are records, or already tokenised as (ids, prompt length). With `checkpoint` a killed run goes
    on from its last saved epoch; the file is the caller's to remove once the result is safe. Raises
    InputError when there is nothing to learn.
    """
    rows = [render(transformer.base, e) if isinstance(e, Example) else e for e in examples]
    if not rows:
        raise InputError("there is nothing to learn: no examples")
    by_length = sorted(rows, key=lambda row: len(row[0]))
    first = start.first if start else transformer.config.first_of(options.layers_share)
    fresh = Lora.fresh(transformer.config, options.rank, first, options.seed)
    batches = in_batches(by_length, options.batch_tokens)
    run = Run(transformer, by_length, batches, options, start or fresh, under)
    digest = digest_of(transformer, rows, options, start, under)
    return tuned(run, rows, digest, checkpoint, report)


def prefer(
    transformer: Transformer,
    preferences: Sequence[Preference],
    options: TuneOptions,
    *,
    start: Lora,
    under: Lora | None = None,
    checkpoint: Path | None = None,
    report: Report = lambda _: None,
) -> Tuned:
    """Tune an adapter on from `start` so that it prefers what was chosen (DPO, arXiv:2305.18290, Eq. 7).

    `start` is the reference. The likelihood of what was chosen is kept up by its own loss beside it, as in
    arXiv:2404.19733. `recalled` speaks of chosen and rejected ones in turn. Otherwise as `tune`.
    """
    if not preferences:
        raise InputError("there is nothing to prefer: no preferences")
    pairs = [
        [
            render(transformer.base, Example(prompt=one.prompt, completion=said))
            for said in (one.chosen, one.rejected)
        ]
        for one in preferences
    ]
    by_length = sorted(pairs, key=lambda pair: max(len(ids) for ids, _ in pair))
    rows = [row for pair in by_length for row in pair]
    batches = in_batches(rows, options.batch_tokens, together=2)
    run = Run(transformer, rows, batches, options, start, under)
    run.loss = _Preferring(run.sums(), options.preference_beta)
    digest = digest_of(transformer, rows, options, start, under)
    return tuned(run, [row for pair in pairs for row in pair], digest, checkpoint, report)


class _Preferring:
    """The loss of a batch in which chosen and rejected rows alternate; `reference` is by row, in nats."""

    def __init__(self, reference: list[float], beta: float) -> None:
        self._reference, self._beta = torch.tensor(reference), beta

    def __call__(self, batch: list[int], logprobs: Tensor, owners: Tensor) -> Tensor:
        own = logprobs[:, 0]
        gained = by_row(own, owners) - self._reference[batch]
        preferred = F.logsigmoid(self._beta * (gained[0::2] - gained[1::2]))
        return -preferred.mean() - own[owners % 2 == 0].mean()
