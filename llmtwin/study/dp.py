"""Learns examples into an adapter by DP-SGD: what any one of them changes is bounded, and accounted.

Abadi et al. 2016 (arXiv:1607.00133): each step draws every example with the same chance, clips the gradient
of each to one norm, and adds normal noise to their sum. Gradients by example, clipping, noise and accountant
are those of Opacus (arXiv:2109.12298). It knows not what is learned. It is for studies alone: a seed repeats
its noise, and who knows the seed can take it out again.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from llmtwin.errors import InputError, Unavailable
from llmtwin.models.batches import rounded
from llmtwin.models.lora import PARTS, SCALE, Fused, Lora
from llmtwin.models.run import Row, TuneOptions, by_row, cache_trunk, render
from llmtwin.models.transformer import Transformer, causal
from llmtwin.records import Example

try:
    from opacus import GradSampleModule
    from opacus.accountants import RDPAccountant
    from opacus.accountants.utils import get_noise_multiplier
    from opacus.optimizers import DPOptimizer
except ImportError as error:
    raise Unavailable("the study needs Opacus: run `pip install 'llmtwin[study]'`") from error

ROWS_TOGETHER = 16
"""Examples whose gradients are in memory at once."""

Advance = Callable[[int, int], None]
"""Is told how many steps are done, and of how many."""


@dataclass(frozen=True)
class DpOptions:
    """How private what is learned shall be, and over how many steps.

    Two sets that differ by one example give the same adapter up to (`epsilon`, `delta`). An infinite
    `epsilon` adds no noise, and promises nothing. Each example is in a step by the chance `sample_rate`, and
    its gradient is clipped to `norm_max`.
    """

    epsilon: float
    delta: float
    sample_rate: float = 0.25
    steps: int = 160
    norm_max: float = 1.0


@dataclass(frozen=True)
class Trained:
    """The adapter, the noise in units of `norm_max`, and the epsilon that the accountant says was spent."""

    lora: Lora
    noise_multiplier: float
    epsilon: float


def noise_for(options: DpOptions) -> float:
    """The noise, in units of `norm_max`, with which all steps together spend `epsilon`, and no more."""
    if math.isinf(options.epsilon):
        return 0.0
    with _quiet():
        found: float = get_noise_multiplier(
            target_epsilon=options.epsilon,
            target_delta=options.delta,
            sample_rate=options.sample_rate,
            steps=options.steps,
            accountant=RDPAccountant.mechanism(),
        )
    return found


def learn(
    transformer: Transformer,
    examples: Sequence[Example],
    options: DpOptions,
    tuning: TuneOptions,
    *,
    under: Lora | None = None,
    advance: Advance = lambda done, steps: None,
) -> Trained:
    """Learn `examples` above `under` (a frozen skill), in the shape and at the rate that `tuning` says.

    Raises InputError where there is nothing to learn.
    """
    if not examples:
        raise InputError("there is nothing to learn: no examples")
    rows = [render(transformer.base, one) for one in examples]
    first = transformer.config.first_of(tuning.layers_share)
    start = Lora.fresh(transformer.config, tuning.rank, first, tuning.seed)
    run = Run(transformer, rows, start, under, options, tuning)
    for step in range(options.steps):
        run.step()
        advance(step + 1, options.steps)
    return Trained(run.adapter.lora(), run.optimizer.noise_multiplier, run.epsilon())


class Run:
    """The state of one run: the adapter, its optimiser, and what was spent."""

    def __init__(
        self,
        transformer: Transformer,
        rows: list[Row],
        start: Lora,
        under: Lora | None,
        options: DpOptions,
        tuning: TuneOptions,
    ) -> None:
        self._options, self._count = options, len(rows)
        self.adapter = Adapter(transformer, rows, start, under)
        self._gradients = GradSampleModule(self.adapter, loss_reduction="sum")
        self._random = torch.Generator().manual_seed(tuning.seed)
        self.optimizer = DPOptimizer(
            torch.optim.Adam(self.adapter.parameters(), lr=tuning.learning_rate, betas=(0.9, 0.99)),
            noise_multiplier=noise_for(options),
            max_grad_norm=options.norm_max,
            expected_batch_size=options.sample_rate * len(rows),
            generator=self._random,
        )
        self._accountant = RDPAccountant()
        self.optimizer.attach_step_hook(self._accountant.get_optimizer_hook_fn(options.sample_rate))

    def step(self) -> None:
        """Draw examples, each by itself (Poisson sampling, which the accountant takes for given), and learn.

        A step that draws none is one of noise alone.
        """
        drawn = torch.rand(self._count, generator=self._random) < self._options.sample_rate
        self.learn_from(drawn.nonzero().flatten().tolist())

    def learn_from(self, drawn: Sequence[int]) -> None:
        """One step over these rows."""
        parts = [drawn[at : at + ROWS_TOGETHER] for at in range(0, len(drawn), ROWS_TOGETHER)]
        for part in parts[:-1]:
            self.optimizer.signal_skip_step(do_skip=True)
            self._take(part)
        self.optimizer.signal_skip_step(do_skip=False)
        self._take(parts[-1] if parts else ())

    def _take(self, part: Sequence[int]) -> None:
        self.optimizer.zero_grad()
        if part:
            self._gradients(part).sum().backward()
        else:
            for parameter in self.optimizer.params:
                parameter.grad_sample = parameter.new_zeros(0, *parameter.shape)
        self.optimizer.step()

    def epsilon(self) -> float:
        """What the steps so far spent, at the `delta` of the options."""
        if not self.optimizer.noise_multiplier:
            return math.inf
        with _quiet():
            return float(self._accountant.get_epsilon(self._options.delta))


class Adapter(nn.Module):
    """The adapter that is learned, as linear layers over frozen rows; no row sees another."""

    def __init__(self, transformer: Transformer, rows: list[Row], start: Lora, under: Lora | None) -> None:
        super().__init__()
        self._transformer, self._rows, self._start = transformer, rows, start
        self._under = None if under is None else Fused(under, transformer.dtype)
        self._trunk = cache_trunk(transformer, rows, start.first, self._under)
        self._place = {key: place for place, key in enumerate(start.a)}
        self._down = [_linear(start.a[key]) for key in self._place]
        self._up = [_linear(start.b[key]) for key in self._place]
        self.layers = nn.ModuleList([*self._down, *self._up])

    def forward(self, drawn: Sequence[int]) -> Tensor:
        """What the completions of R of the rows cost (R,), each in nats a token."""
        model, own = self._transformer, [self._rows[index] for index in drawn]
        length = rounded(max(len(ids) for ids, _ in own))
        x = torch.zeros(len(own), length, model.config.hidden, dtype=model.dtype)
        owners, places, targets = list[int](), list[int](), list[list[int]]()
        for row, (index, (ids, prompt)) in enumerate(zip(drawn, own, strict=True)):
            x[row, : len(ids)] = self._trunk[index]
            owners += [row] * (len(ids) - prompt)
            places += range(prompt - 1, len(ids) - 1)
            targets += [[token] for token in ids[prompt:]]
        x.requires_grad_()  # else the first layers of the adapter have no gradients by example
        attend = causal(length, model.dtype)
        layers = range(self._start.first, model.config.layers)
        x = model.run(x, model.rope(torch.arange(length)[None]), attend, layers, self)
        owner = torch.tensor(owners)
        logprobs = model.token_logprobs(x[owner, torch.tensor(places)], torch.tensor(targets))[:, 0]
        return -by_row(logprobs, owner) / owner.bincount()

    def add(self, layer: int, projection: str, x: Tensor, y: Tensor) -> Tensor:
        """As a `Delta`: what is learned is float32, whatever the base is."""
        whole = x.float()
        own = [
            self._up[place](self._down[place](whole))
            for part in PARTS[projection]
            for place in [self._place[layer, part]]
        ]
        y = torch.add(y, torch.cat(own, dim=-1).to(y.dtype), alpha=SCALE)
        return y if self._under is None else self._under.add(layer, projection, x, y)

    def lora(self) -> Lora:
        """The adapter so far, as it is stored."""
        a = {key: self._down[place].weight.detach().clone() for key, place in self._place.items()}
        b = {key: self._up[place].weight.detach().clone() for key, place in self._place.items()}
        return Lora(self._start.rank, self._start.first, a, b).rounded()


def _linear(weight: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    with torch.no_grad():
        layer.weight.copy_(weight)
    return layer


def _quiet() -> warnings.catch_warnings[None]:
    """The search for a noise begins with far too much of it, of which the accountant warns."""
    return warnings.catch_warnings(action="ignore", category=UserWarning)
