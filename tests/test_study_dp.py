"""DP-SGD over the project's own forward pass: its gradients, its clipping, its noise and its accountant."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants import RDPAccountant

from llmtwin.errors import InputError
from llmtwin.models.likelihood import Bits, answered, score
from llmtwin.models.lora import Fused, Lora, stack
from llmtwin.models.run import TuneOptions, by_row, render
from llmtwin.models.transformer import Transformer, causal
from llmtwin.records import Example
from llmtwin.study import dp
from llmtwin.study.dp import DpOptions
from tests.models import tiny_base

EXAMPLES = [
    Example(prompt=f"what is the {name} of the lamp", completion=value)
    for name, value in (("brightness", "4 percent"), ("code", "1 2 3"), ("light", "on"), ("door", "off 7"))
]
NO_NOISE = DpOptions(epsilon=math.inf, delta=1e-3, sample_rate=0.5, steps=3, norm_max=1e9)
TUNING = TuneOptions(rank=4, layers_share=0.5)


BASES: list[Transformer] = []
"""What tests by hypothesis, which take no fixture, are made with."""


@pytest.fixture(scope="module", autouse=True)
def transformer(tmp_path_factory: pytest.TempPathFactory) -> Transformer:
    torch.set_num_threads(1)
    BASES.append(Transformer(tiny_base(tmp_path_factory.mktemp("dp"), "qwen2"), torch.float32))
    return BASES[0]


def started(transformer: Transformer, seed: int = 1) -> Lora:
    """An adapter that has begun to learn: of a fresh one, half of the gradients are nought."""
    fresh = Lora.fresh(transformer.config, TUNING.rank, transformer.config.first_of(0.5), seed)
    generator = torch.Generator().manual_seed(seed)
    b = {key: 0.1 * torch.randn(t.shape, generator=generator) for key, t in fresh.b.items()}
    return Lora(fresh.rank, fresh.first, fresh.a, b)


def run(transformer: Transformer, options: DpOptions, under: Lora | None = None) -> dp.Run:
    rows = [render(transformer.base, one) for one in EXAMPLES]
    return dp.Run(transformer, rows, started(transformer), under, options, TUNING)


def plain_gradients(made: dp.Run, drawn: list[int]) -> list[torch.Tensor]:
    """The gradients of the summed cost of rows, by one plain backward pass."""
    parameters = list(made.adapter.parameters())
    found = torch.autograd.grad(made.adapter(drawn).sum(), parameters)
    return [one.detach() for one in found]


# ---- gradients -----------------------------------------------------------------------------------


def test_the_cost_of_a_row_is_that_under_the_same_adapter_served(transformer: Transformer) -> None:
    under = started(transformer, seed=2)
    made = run(transformer, NO_NOISE, under)
    served = Fused(stack([started(transformer), under]), torch.float32)
    with torch.no_grad():
        costs = made.adapter([2, 0, 3])
    for cost, index in zip(costs.tolist(), (2, 0, 3), strict=True):
        ids, prompt = render(transformer.base, EXAMPLES[index])
        rope = transformer.rope(torch.arange(len(ids))[None])
        layers = range(transformer.config.layers)
        hidden = transformer.run(
            transformer.embed(torch.tensor([ids])), rope, causal(len(ids), torch.float32), layers, served
        )
        wanted = torch.tensor(ids[prompt:])[:, None]
        logprobs = transformer.token_logprobs(hidden[0, prompt - 1 : -1], wanted)
        owners = torch.zeros(len(wanted), dtype=torch.long)
        assert cost == pytest.approx(-float(by_row(logprobs[:, 0], owners)) / len(wanted), rel=1e-4)


@given(st.lists(st.integers(0, len(EXAMPLES) - 1), min_size=1, max_size=4, unique=True), st.integers(1, 4))
@settings(max_examples=12, deadline=None)
def test_without_noise_and_clipping_a_step_is_the_plain_one(drawn: list[int], together: int) -> None:
    made, plain = run(BASES[0], NO_NOISE), run(BASES[0], NO_NOISE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dp, "ROWS_TOGETHER", together)
        made.learn_from(drawn)
    expected = NO_NOISE.sample_rate * len(EXAMPLES)
    parameters = list(plain.adapter.parameters())
    optimizer = torch.optim.Adam(parameters, lr=TUNING.learning_rate, betas=(0.9, 0.99))
    for parameter, gradient in zip(parameters, plain_gradients(plain, drawn), strict=True):
        parameter.grad = gradient / expected
    for own, parameter in zip(made.adapter.parameters(), parameters, strict=True):
        torch.testing.assert_close(own.grad, parameter.grad, rtol=1e-3, atol=1e-6)
    optimizer.step()
    # Adam's first step has the sign of the gradient: where that is all but nought, either may be right.
    for own, parameter in zip(made.adapter.parameters(), parameters, strict=True):
        sure = parameter.grad.abs() > 1e-4  # type: ignore[union-attr]
        torch.testing.assert_close(own[sure], parameter[sure], rtol=1e-4, atol=1e-6)


@given(st.floats(1e-3, 10.0), st.integers(0, len(EXAMPLES) - 1))
@settings(max_examples=12, deadline=None)
def test_what_one_example_adds_to_a_step_is_never_longer_than_the_norm(norm: float, index: int) -> None:
    made = run(BASES[0], replace(NO_NOISE, norm_max=norm))
    whole = torch.cat([one.flatten() for one in plain_gradients(run(BASES[0], NO_NOISE), [index])])
    made.learn_from([index])
    added = torch.cat([one.summed_grad.flatten() for one in made.adapter.parameters()])
    assert float(added.norm()) <= norm * (1 + 1e-5)
    assert float(added.norm()) == pytest.approx(min(norm, float(whole.norm())), rel=1e-3)
    assert float(torch.cosine_similarity(added, whole, dim=0)) == pytest.approx(1, abs=1e-4)


# ---- noise, and what it promises -----------------------------------------------------------------


@pytest.mark.parametrize("epsilon", [8.0, 2.0])
def test_the_noise_spends_the_epsilon_that_was_asked_for_and_no_more(epsilon: float) -> None:
    options = DpOptions(epsilon=epsilon, delta=1e-4, sample_rate=0.25, steps=120)
    accountant = RDPAccountant()
    accountant.history = [(dp.noise_for(options), options.sample_rate, options.steps)]
    assert epsilon - 0.02 < accountant.get_epsilon(delta=options.delta) <= epsilon


def test_all_steps_are_accounted_and_those_that_draw_nothing_are_noise_alone(
    transformer: Transformer,
) -> None:
    options = DpOptions(epsilon=4.0, delta=1e-3, sample_rate=0.5, steps=3)
    made = run(transformer, options)
    made.learn_from([])
    noise = torch.cat([one.grad.flatten() for one in made.adapter.parameters() if one.grad is not None])
    scale = options.norm_max / (options.sample_rate * len(EXAMPLES))
    assert float(noise.std()) == pytest.approx(made.optimizer.noise_multiplier * scale, rel=0.05)
    first = made.epsilon()
    made.step()
    made.step()
    assert first < made.epsilon() and 3.9 < made.epsilon() <= 4.0


def test_every_example_is_drawn_by_itself_with_the_same_chance(
    transformer: Transformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, drawn = run(transformer, NO_NOISE), list[int]()
    monkeypatch.setattr(made, "learn_from", drawn.extend)
    for _ in range(400):
        made.step()
    assert all(abs(drawn.count(index) / 400 - 0.5) < 0.1 for index in range(len(EXAMPLES)))


def test_without_noise_all_is_learned_and_with_it_nothing_of_so_few(transformer: Transformer) -> None:
    learned = {
        epsilon: dp.learn(
            transformer,
            EXAMPLES,
            replace(NO_NOISE, epsilon=epsilon, steps=25, norm_max=1.0),
            replace(TUNING, learning_rate=2e-2),
        )
        for epsilon in (math.inf, 2.0)
    }
    rows = [answered(transformer, one) for one in EXAMPLES]
    base, plain, private = (
        Bits.total(found).per_character
        for found in score(transformer, rows, [None, *(one.lora for one in learned.values())])
    )
    assert plain < 0.2 * base and private > 0.5 * base
    assert learned[math.inf].epsilon == math.inf and learned[2.0].epsilon <= 2


def test_nothing_is_learned_of_nothing(transformer: Transformer) -> None:
    with pytest.raises(InputError, match="nothing to learn"):
        dp.learn(transformer, [], NO_NOISE, TUNING)
