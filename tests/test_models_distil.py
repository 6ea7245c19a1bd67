"""Distilling: the divergence is what it says, and a twin comes nearer to its primary."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llmtwin.errors import InputError
from llmtwin.models.distil import CHOICES, distil, divergence, divergences, fits, taught_by, tops
from llmtwin.models.likelihood import hidden_under
from llmtwin.models.lora import Fused, Lora, interpolated, stack
from llmtwin.models.run import TuneOptions
from llmtwin.models.transformer import Transformer, causal
from llmtwin.records import Trace
from tests.models import tiny_base

OPTIONS = TuneOptions(
    rank=4, layers_share=1.0, epochs_max=16, epochs_falling=16, learning_rate=5e-3, stop_when_complete=False
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Transformer:
    return Transformer(tiny_base(tmp_path_factory.mktemp("base"), "llama"), torch.float32)


def logprobs(places: int, tokens: int, seed: int) -> torch.Tensor:
    return torch.randn(places, tokens, generator=torch.Generator().manual_seed(seed)).mul(2).log_softmax(-1)


def whole(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    return (p.exp() * (p - q)).sum(-1)


def named(p: torch.Tensor, count: int) -> torch.Tensor:
    """The log-probabilities of the likeliest, minus infinity for the others."""
    least = p.topk(count, dim=-1).values[:, -1:]
    return torch.where(p >= least, p, -inf)


def test_a_trace_fits_up_to_the_positions_of_the_base(
    model: Transformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = Trace(messages=(("user", "on"),), completion="on " * 700, ended=False)
    assert len(taught_by(model.base, long).row[0]) > model.config.positions
    assert not fits(model.base, long)
    said = Trace(messages=(("user", "on"),), completion="on off", ended=False)
    most = len(taught_by(model.base, said).row[0])
    assert fits(model.base, said)
    for tokens_max in (most, most - 1):
        monkeypatch.setattr("llmtwin.models.distil.TOKENS_MAX", tokens_max)
        assert fits(model.base, said) is (tokens_max == most)
    assert not fits(model.base, said.model_copy(update={"tokens": ("o",) * 700, "tops": ({"o": 0.0},) * 700}))


@given(count=st.integers(1, 8), seed=st.integers(0, 999))
def test_what_is_unknown_only_lessens_the_divergence(count: int, seed: int) -> None:
    p, q = logprobs(5, 8, seed), logprobs(5, 8, seed + 1000)
    found = divergence(named(p, count), q, 0.0)
    assert (found <= whole(p, q) + 1e-4).all()
    assert (found >= -1e-4).all()
    assert (divergence(named(p, count), p, 0.5).abs() < 1e-4).all()


@given(seed=st.integers(0, 999), share=st.floats(0, 1))
def test_where_all_is_known_it_is_the_divergence_both_ways(seed: int, share: float) -> None:
    p, q = logprobs(5, 8, seed), logprobs(5, 8, seed + 1000)
    expected = (1 - share) * whole(p, q) + share * whole(q, p)
    # What is left for no token at all is taken to be a millionth.
    torch.testing.assert_close(divergence(p, q, share), expected, atol=1e-3, rtol=1e-3)


def other(model: Transformer, seed: int, first: int = 0) -> Lora:
    """An adapter that changes much, from layer `first` on."""
    lora = Lora.fresh(model.config, 4, first, seed)
    generator = torch.Generator().manual_seed(seed)
    return replace(lora, b={key: torch.randn(t.shape, generator=generator) for key, t in lora.b.items()})


@torch.no_grad()
def replies(model: Transformer, lora: Lora, count: int, tops: int = 5) -> list[Trace]:
    """What a primary, the base with an adapter, says in whole signs, and how likely it finds that."""
    found, fused = [], Fused(lora, model.dtype)
    texts = [model.base.tokenizer.decode([t], skip_special_tokens=False) for t in range(400)]
    parts = torch.tensor([token for token, text in enumerate(texts) if "\ufffd" in text])
    for index in range(count):
        empty = Trace(messages=(("user", f"question {index} about lamp {index % 7}"),), completion="x")
        ids = taught_by(model.base, empty).row[0][:-2]
        tokens, likely = [], []
        for _ in range(6):
            rope = model.rope(torch.arange(len(ids))[None])
            layers = range(model.config.layers)
            hidden = model.run(
                model.embed(torch.tensor([ids])), rope, causal(len(ids), model.dtype), layers, fused
            )
            said = model.logits(hidden[0, -1]).log_softmax(-1).index_fill(0, parts, -inf)[:400].topk(tops)
            tokens.append(texts[said.indices[0]])
            likely.append({texts[t]: float(p) for t, p in zip(said.indices, said.values, strict=True)})
            ids.append(int(said.indices[0]))
        found.append(
            empty.model_copy(
                update={
                    "completion": "".join(tokens),
                    "tokens": tuple(tokens),
                    "tops": tuple(likely),
                    "ended": False,
                }
            )
        )
    return found


@pytest.mark.parametrize("reverse_share", [0.0, 0.5])
def test_a_twin_comes_nearer_to_its_primary_on_what_it_never_saw(
    model: Transformer, reverse_share: float
) -> None:
    primary = other(model, 1)
    traces = replies(model, primary, 24)
    learned, held_out = traces[:16], traces[16:]
    found = distil(model, learned, replace(OPTIONS, reverse_share=reverse_share))
    before, after, itself = map(torch.tensor, divergences(model, held_out, [None, found.lora, primary]))
    assert itself.mean() < 0.02
    assert after.mean() < before.mean() / 2


def alone(model: Transformer, trace: Trace, lora: Lora | None) -> float:
    """What one trace costs, by itself and through all layers."""
    taught = taught_by(model.base, trace)
    ids, prompt = taught.row
    rope, attend = model.rope(torch.arange(len(ids))[None]), causal(len(ids), model.dtype)
    delta = None if lora is None else Fused(lora, model.dtype)
    hidden = model.run(model.embed(torch.tensor([ids])), rope, attend, range(model.config.layers), delta)
    found = model.token_logprobs(hidden[0, prompt - 1 : -1], torch.tensor(taught.ids))
    return float(divergence(torch.tensor(taught.logprobs), found, 0.0).mean())


def test_replies_of_all_lengths_cost_together_what_each_does_alone(model: Transformer) -> None:
    said = [
        trace.model_copy(update={"messages": (("user", "the lamp " * (7 * place % 60)),)})
        for place, trace in enumerate(replies(model, other(model, 1), 16))
    ]
    written = [Trace(messages=(("user", "x"),), completion="the lamp " * count) for count in (1, 40)]
    traces = [*said, *written]
    whole, upper = other(model, 2), other(model, 3, first=3)
    for adapters in ([None, whole, upper], [None, upper]):  # over a shared trunk, and over none
        together = divergences(model, traces, adapters)
        for lora, costs in zip(adapters, together, strict=True):
            assert costs == pytest.approx([alone(model, trace, lora) for trace in traces], rel=1e-4)
    assert divergences(model, [], [None]) == [[]]


def test_a_reply_without_log_probabilities_is_learned_as_it_is_written(model: Transformer) -> None:
    trace = Trace(messages=(("user", "what is it"),), completion="the lamp is on")
    taught = taught_by(model.base, trace)
    assert not taught.soft
    assert taught.logprobs[0][:2] == [0.0, -inf]
    assert taught.row[0][taught.row[1] :] == [ids[0] for ids in taught.ids]
    found = distil(model, [trace], OPTIONS)
    before, after = divergences(model, [trace], [None, found.lora])
    assert after[0] < before[0] / 4


@pytest.mark.parametrize("named", ["", "<|im_end|>"])
def test_the_end_is_learned_as_likely_as_the_primary_found_it(model: Transformer, named: str) -> None:
    end = model.base.encode(model.base.end)
    told = Trace(
        messages=(("user", "x"),),
        completion="a",
        tokens=("a", named),
        tops=({"a": -0.1, named: -2.0}, {named: -0.5, "a": -1.0}),
    )
    taught = taught_by(model.base, told)
    assert taught.soft
    assert [ids[0] for ids in taught.ids] == [model.base.encode("a")[0], *end]
    assert taught.logprobs[1][:2] == [-0.5, -1.0]
    assert (end[0], -2.0) in zip(taught.ids[0], taught.logprobs[0], strict=True)
    untold = told.model_copy(update={"tokens": ("a",), "tops": ({"a": -0.1, named: -2.0},)})
    assert taught_by(model.base, untold).logprobs[1][:2] == [0.0, -inf]
    assert [ids[0] for ids in taught_by(model.base, untold).ids] == [model.base.encode("a")[0], *end]


def test_tokens_that_the_twin_does_not_have_are_no_ground(model: Transformer) -> None:
    trace = Trace(
        messages=(("user", "what is it"),),
        completion="the lamp is on",
        tokens=("the lampisimo", " is on"),
        tops=({"the lampisimo": -0.1}, {" is on": -0.1}),
    )
    assert not taught_by(model.base, trace).soft


def test_more_tokens_than_can_be_known_are_the_least_likely_ones_left_out(model: Transformer) -> None:
    texts = [model.base.tokenizer.decode([token]) for token in range(40, 80)]
    top = {text: -3.0 - index for index, text in enumerate(dict.fromkeys(texts)) if text.strip()}
    first = next(iter(top))
    trace = Trace(messages=(("user", "x"),), completion=first, tokens=(first,), tops=(top,), ended=False)
    taught = taught_by(model.base, trace)
    assert len(taught.ids[0]) == len(taught.logprobs[0]) == CHOICES
    assert taught.logprobs[0][0] == top[first]
    ((own,),) = tops(model, [trace], None)
    assert first in own and len(own) == CHOICES and own.keys() <= top.keys()


def test_a_twin_says_how_likely_it_finds_what_the_primary_named(model: Transformer) -> None:
    told = Trace(
        messages=(("user", "x"),),
        completion="on",
        tokens=(" on", ""),
        tops=({" off": -0.1, "strange to it": -2.5}, {"": -0.5, " on": -1.0}),
    )
    own, none = tops(model, [told, told.model_copy(update={"tokens": (), "tops": ()})], None)
    assert [set(place) for place in own] == [{" on", " off"}, {"", " on"}] and none == []
    ids, prompt = taught_by(model.base, told).row
    hidden = next(iter(hidden_under(model, [ids], [None])))[0, prompt - 1 : len(ids) - 1]
    whole = torch.log_softmax(model.logits(hidden), -1)
    named = {text: model.base.encode(text or model.base.end)[0] for text in (" on", " off", "")}
    for place, said in enumerate(own):
        for text, logprob in said.items():
            assert logprob == pytest.approx(float(whole[place, named[text]]), abs=1e-3)


def test_no_traffic_is_said(model: Transformer) -> None:
    with pytest.raises(InputError, match="no traffic"):
        distil(model, [], OPTIONS)


def test_between_two_adapters_the_weights_are_the_mean(model: Transformer) -> None:
    one, two = other(model, 1), other(model, 2)
    key = next(iter(one.a))
    for share in (0.0, 0.1, 1.0):
        mixed = interpolated(one, two, share)
        expected = (1 - share) * one.b[key] @ one.a[key] + share * two.b[key] @ two.a[key]
        torch.testing.assert_close(mixed.b[key] @ mixed.a[key], expected)
    assert stack([one, two]).rank == interpolated(one, two, 0.5).rank
    with pytest.raises(InputError, match="between 0 and 1"):
        interpolated(one, two, 1.5)
