"""Bits of texts: each token is scored once, a zero adapter costs what the base does, one trunk serves all."""

from __future__ import annotations

from dataclasses import replace
from math import log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from llmtwin.models.base import Base
from llmtwin.models.likelihood import WINDOW_TOKENS, Bits, Row, answered, raw, score, stretches, windows
from llmtwin.models.lora import Fused, Lora
from llmtwin.models.surprise import surprises
from llmtwin.models.transformer import Transformer, causal
from llmtwin.records import Example
from tests.models import tiny_base

SHORT = ["the lamp of the bedroom is on", "what is the code?"]
LONG = " ".join(f"{place} the brightness of the kitchen light is {place % 90} percent" for place in range(60))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return tiny_base(tmp_path_factory.mktemp("base"), "llama")


@pytest.fixture(scope="module")
def transformer(base: Base) -> Transformer:
    torch.set_num_threads(1)
    return Transformer(base, torch.float32)


def adapter(base: Base, seed: int, first: int | None = None) -> Lora:
    lora = Lora.fresh(base.config, 4, base.config.boundary if first is None else first, seed)
    generator = torch.Generator().manual_seed(seed)
    return replace(
        lora, b={key: torch.randn(t.shape, generator=generator) * 0.1 for key, t in lora.b.items()}
    )


@torch.no_grad()
def plain(transformer: Transformer, ids: list[int], first: int, lora: Lora | None = None) -> float:
    """Bits by one forward pass through all layers, with nothing shared or cut."""
    rope, attend = transformer.rope(torch.arange(len(ids))[None]), causal(len(ids), transformer.dtype)
    delta = None if lora is None else Fused(lora, transformer.dtype)
    embedded = transformer.embed(torch.tensor([ids]))
    hidden = transformer.run(embedded, rope, attend, range(transformer.config.layers), delta)
    logits = transformer.logits(hidden[0, first - 1 : -1])
    return float(F.cross_entropy(logits, torch.tensor(ids[first:]), reduction="sum")) / log(2)


@given(
    length=st.integers(0, 3000),
    first=st.integers(1, 900),
    size=st.integers(2, 600),
    share=st.floats(0, 0.99),
)
def test_windows_score_each_token_once_after_enough_others(
    length: int, first: int, size: int, share: float
) -> None:
    overlap = int(size * share)
    found = windows(length, first, size, overlap)
    assert [place for one in found for place in range(one.scored, one.end)] == list(range(first, length))
    assert not found or found[0].start == 0
    assert all(one.scored - one.start == overlap and one.end - one.start <= size for one in found[1:])


def test_a_short_text_costs_what_a_plain_forward_pass_says(transformer: Transformer, base: Base) -> None:
    twin = adapter(base, 1)
    got = score(transformer, [raw(transformer, text) for text in SHORT], [None, twin])
    for bits, lora in zip(got, (None, twin), strict=True):
        wanted = [plain(transformer, base.encode(text), 1, lora) for text in SHORT]
        assert [one.bits for one in bits] == pytest.approx(wanted, rel=1e-5)


def test_a_completion_is_scored_after_its_prompt_and_without_its_end(transformer: Transformer) -> None:
    row = answered(transformer, Example(prompt="what is the code", completion="4 7 1 1 é"))
    assert transformer.base.tokenizer.decode(list(row.ids[row.first :])) == "4 7 1 1 é"
    assert row.characters == 9
    ((got,),) = score(transformer, [row], [None])
    assert got.bits == pytest.approx(plain(transformer, list(row.ids), row.first), rel=1e-5)


def test_a_zero_adapter_costs_exactly_what_the_base_does(transformer: Transformer, base: Base) -> None:
    zero = Lora.fresh(base.config, 4, base.config.boundary, 0)
    rows = [raw(transformer, text) for text in (*SHORT, LONG)]
    alone, under = score(transformer, rows, [None, zero])
    assert alone == under


def test_adapters_of_different_depths_share_a_trunk_and_cost_what_each_does_alone(
    transformer: Transformer, base: Base
) -> None:
    adapters = [None, adapter(base, 1), adapter(base, 2, base.config.layers - 1)]
    rows = [raw(transformer, text) for text in (LONG, *SHORT)]
    together = score(transformer, rows, adapters)
    for lora, bits in zip(adapters, together, strict=True):
        (alone,) = score(transformer, rows, [lora])
        assert [one.bits for one in bits] == pytest.approx([one.bits for one in alone], rel=1e-5)
    assert len({bits[0].bits for bits in together}) == 3


def test_the_trunk_runs_once_a_window_however_many_adapters(
    transformer: Transformer, base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []
    run = Transformer.run

    def counted(
        self: Transformer, x: torch.Tensor, rope: object, attend: object, layers: range, *more: object
    ):  # type: ignore[no-untyped-def]
        ran.extend(layers)
        return run(self, x, rope, attend, layers, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(Transformer, "run", counted)
    score(transformer, [raw(transformer, SHORT[0])], [None, *(adapter(base, seed) for seed in range(4))])
    below = base.config.boundary
    assert [ran.count(layer) for layer in range(base.config.layers)] == [1] * below + [5] * (
        base.config.layers - below
    )


def test_all_is_scored_of_a_long_text_and_a_text_of_one_token_costs_nothing(transformer: Transformer) -> None:
    counted: list[int] = []
    long, one = raw(transformer, LONG), raw(transformer, "4")
    assert long.characters == len(LONG) - 1
    ((much, nothing),) = score(transformer, [long, one], [None], counted.append)
    assert sum(counted) == len(long.ids) - 1
    assert much.per_character > 0
    assert nothing == Bits(0.0, 0)
    assert raw(transformer, "") == Row((), 1, 0)


@pytest.mark.parametrize("text", [SHORT[0], LONG, "灯は六十%です。" * 200, "4", ""])
def test_the_windows_of_a_text_cost_together_what_it_costs_whole(transformer: Transformer, text: str) -> None:
    parts = stretches(transformer, text)
    assert all(len(part.ids) <= WINDOW_TOKENS for part in parts)
    whole, together = (score(transformer, rows, [None])[0] for rows in ([raw(transformer, text)], parts))
    assert Bits.total(together).bits == pytest.approx(Bits.total(whole).bits, rel=1e-12)
    assert Bits.total(together).characters == Bits.total(whole).characters


def test_a_total_counts_each_text_by_its_length() -> None:
    assert Bits.total([Bits(10.0, 5), Bits(2.0, 15)]).per_character == 0.6


def test_surprises_are_what_the_bits_are_made_of_and_say_where_another_token_is_likelier(
    base: Base, transformer: Transformer
) -> None:
    rows = [raw(transformer, text) for text in (*SHORT, LONG)]
    assert len(rows[-1].ids) > WINDOW_TOKENS
    lora = adapter(base, 3)
    for bits, found in zip(
        score(transformer, rows, [None, lora]), surprises(transformer, rows, [None, lora]), strict=True
    ):
        for cost, row, one in zip(bits, rows, found, strict=True):
            assert len(one.logprobs) == len(row.ids) - 1
            assert -one.logprobs.sum() / log(2) == pytest.approx(cost.bits, rel=1e-5)
            assert (one.logprobs[one.mispredicted] < -log(2) + 1e-6).all(), "two cannot both be likelier"


def test_a_standardised_log_probability_is_that_of_the_definition(transformer: Transformer) -> None:
    row = raw(transformer, SHORT[0])
    ids = torch.tensor([row.ids])
    with torch.no_grad():
        rope, attend = transformer.rope(torch.arange(ids.shape[1])[None]), causal(ids.shape[1], torch.float32)
        layers = range(transformer.config.layers)
        hidden = transformer.run(transformer.embed(ids), rope, attend, layers)
        every = torch.log_softmax(transformer.logits(hidden[0, :-1]), -1).double()
    ((found,),) = surprises(transformer, [row], [None])
    for place, token in enumerate(row.ids[1:]):
        mean = (every[place].exp() * every[place]).sum()
        spread = (every[place].exp() * (every[place] - mean) ** 2).sum().sqrt()
        expected = float((every[place, token] - mean) / spread)
        assert found.standardised[place] == pytest.approx(expected, abs=1e-3)
        assert found.mispredicted[place] == (int(every[place].argmax()) != token)
