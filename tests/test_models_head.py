"""The lean head against autograd through plain log-softmax."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from llmtwin.models.head import CHUNK, token_logprobs


@given(
    count=st.integers(0, 2 * CHUNK + 3),
    choices=st.integers(1, 4),
    vocabulary=st.integers(1, 50),
    seed=st.integers(0, 999),
)
def test_values_and_gradients_are_those_of_log_softmax(
    count: int, choices: int, vocabulary: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(count, 8, generator=generator, requires_grad=True)
    weight = torch.randn(vocabulary, 8, generator=generator)
    targets = torch.randint(vocabulary, (count, choices), generator=generator)
    factors = torch.randn(count, choices, generator=generator)
    found = token_logprobs(hidden, weight, targets)
    plain = torch.log_softmax(hidden @ weight.T, dim=-1).gather(1, targets)
    torch.testing.assert_close(found, plain)
    (grad,) = torch.autograd.grad((found * factors).sum(), hidden)
    (expected,) = torch.autograd.grad((plain * factors).sum(), hidden)
    torch.testing.assert_close(grad, expected, atol=1e-5, rtol=1e-4)


def test_in_bf16_only_the_logits_are_rounded() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(100, 64, generator=generator).bfloat16()
    weight = torch.randn(300, 64, generator=generator).bfloat16()
    targets = torch.randint(300, (100, 1), generator=generator)
    found = token_logprobs(hidden, weight, targets)
    logits = torch.nn.functional.linear(hidden, weight).float()
    assert found.dtype == torch.float32
    expected = torch.log_softmax(logits, dim=-1).gather(1, targets)
    torch.testing.assert_close(found, expected)


def test_the_head_gets_no_gradient() -> None:
    weight = torch.randn(5, 4, requires_grad=True)
    token_logprobs(
        torch.randn(3, 4, requires_grad=True), weight, torch.tensor([[0], [1], [2]])
    ).sum().backward()
    assert weight.grad is None
