"""Log-probabilities of tokens from hidden states, with a lean gradient. It knows no layers and no loss.

Logits of a large vocabulary are most of the memory that tuning touches. They are kept once, as the model
computes them, and made float32 only a few positions at a time; the gradient is written over them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK = 8
"""How many positions are float32 at a time: what fits into a cache is fastest."""


def token_logprobs(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Natural logarithms (N, K) of the probability of each of the K target ids (N, K) of a place.

    `hidden` (N, hidden) is normed, `weight` (vocab, hidden) is frozen: it gets no gradient.
    """
    found: Tensor = _TokenLogprobs.apply(hidden, weight, targets)  # type: ignore[no-untyped-call]
    return found


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        logits = F.linear(hidden, weight)
        whole = torch.cat([part.float().logsumexp(-1) for part in torch.split(logits, CHUNK)])
        ctx.save_for_backward(logits, weight, targets, whole)
        return logits.gather(1, targets).float() - whole[:, None]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        """d log p(target) / d logits is one at the target, less the probabilities everywhere."""
        logits, weight, targets, whole = ctx.saved_tensors
        (grad,) = grads
        for first in range(0, len(targets), CHUNK):
            part = slice(first, first + CHUNK)
            change = (logits[part].float() - whole[part, None]).exp_().mul_(-grad[part].sum(1, keepdim=True))
            change.scatter_add_(1, targets[part], grad[part])
            logits[part] = change
        return logits @ weight, None, None
