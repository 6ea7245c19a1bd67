"""Discrepancy over its noise floor: by hand, how often its intervals hold, and what cannot be told."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import inf, log

import numpy as np
import pytest

from llmtwin.errors import InputError
from llmtwin.twins.model.discrepancy import NO_FLOOR, NO_REPEAT, NOTHING, Exchange, Measured, discrepancy
from llmtwin.twins.model.measures import Better, ExactMatch, LengthRatio, TokenDivergence
from llmtwin.twins.model.reply import Reply, Token


@dataclass(frozen=True)
class Apart:
    """Of replies that are numbers: how far the second is from the first."""

    name: str = "apart"
    better: Better = Better.LOWER

    def score(self, primary: Reply, twin: Reply) -> float | None:
        return None if twin.text == "?" else float(twin.text) - float(primary.text)


def exchanges(twin: list[float], repeat: list[float], sessions: int | None = None) -> list[Exchange]:
    return [
        Exchange(Reply("0"), Reply(str(a)), Reply(str(b)), None if sessions is None else f"s{at % sessions}")
        for at, (a, b) in enumerate(zip(twin, repeat, strict=True))
    ]


def only(found: list[Exchange]) -> Measured:
    return discrepancy(found, [Apart()]).measures[0]


def test_means_and_their_ratio_by_hand() -> None:
    found = only(exchanges([1, 2, 3] * 4, [1, 0, 2] * 4))
    assert found.discrepancy and found.floor and found.ratio
    assert (found.discrepancy.value, found.floor.value, found.ratio.value) == (2, 1, 2)
    assert found.ratio.low < 2 < found.ratio.high and found.ratio.items == 12
    assert found.note is None


def test_a_match_is_taken_from_one() -> None:
    found = discrepancy([Exchange(Reply("a"), Reply(said)) for said in "aab"], [ExactMatch()]).measures[0]
    assert found.discrepancy and found.discrepancy.value == pytest.approx(1 / 3)


def test_sessions_count_as_one_draw_each() -> None:
    rng = np.random.default_rng(0)
    twin, repeat = (list(rng.random(60).round(3)) for _ in "ab")
    alone, few, fewer = (only(exchanges(twin, repeat, count)).ratio for count in (None, 60, 5))
    assert alone == few and alone and fewer
    assert alone.value == pytest.approx(fewer.value)
    assert (fewer.low, fewer.high) == (-inf, inf)


def test_what_is_not_known_is_said_and_what_is_is_given() -> None:
    never = only(exchanges([1.0] * 8, [0.0] * 8))
    assert never.floor and never.floor.value == 0 and never.ratio is None and never.note == NO_FLOOR
    once = discrepancy([Exchange(Reply("a"), Reply("b"))], [ExactMatch()]).measures[0]
    assert once.discrepancy and once.floor is None and once.note == NO_REPEAT
    # What it did where the twin was not measured is no floor of what the twin did elsewhere.
    elsewhere = [*exchanges([1.0] * 8, [0.0] * 8), Exchange(Reply("0"), Reply("?"), Reply("1"))]
    assert only(elsewhere).ratio is None
    nothing = only([Exchange(Reply("0"), Reply("?"))])
    assert nothing.discrepancy is None and nothing.note == NOTHING
    with pytest.raises(InputError, match="no exchanges"):
        discrepancy([], [Apart()])
    with pytest.raises(InputError, match="two measures are called apart"):
        discrepancy([Exchange(Reply("0"), Reply("0"))], [Apart(), Apart()])


def test_another_tokenizer_stops_no_other_measure() -> None:
    said = Reply("Hello", (Token("Hello", -0.1, {"Hello": -0.1}),))
    other = Reply("Hello", (Token("Hel", -0.1), Token("lo", -0.1)))
    pairs = [Exchange(said, other), Exchange(said, said)]
    tokens, length = discrepancy(pairs, [TokenDivergence(), LengthRatio()]).measures
    assert tokens.note and tokens.note.startswith("not comparable token by token in 1 of 2 pairs: tokens do")
    assert tokens.discrepancy and tokens.discrepancy.items == 1
    assert length.discrepancy and length.discrepancy.items == 2


def test_a_primary_that_samples_is_compared_with_itself_until_its_replies_part() -> None:
    """Two places are shared: one told alike, one where half of the mass has moved. The third says nothing."""
    sure, even = {"a": log(0.9), "b": log(0.1)}, {"a": log(0.4), "b": log(0.6)}
    primary = Reply(
        "aaa", (Token("a", sure["a"], sure), Token("a", sure["a"], sure), Token("a", sure["a"], sure))
    )
    repeat = Reply(
        "aba", (Token("a", sure["a"], sure), Token("b", even["b"], even), Token("a", even["a"], even))
    )
    pairs = [Exchange(primary, primary, repeat)]
    tokens, length = discrepancy(pairs, [TokenDivergence("kl"), LengthRatio("tokens")]).measures
    assert tokens.floor and tokens.note is None
    moved = 0.9 * log(0.9 / 0.4) + 0.1 * log(0.1 / 0.6)
    assert tokens.floor.value == pytest.approx(moved / 2)
    assert length.floor and length.floor.value == 0


def test_it_dumps_to_json() -> None:
    found = discrepancy(exchanges([1, 2], [1, 1]), [Apart()])
    dumped = json.loads(json.dumps(found.dump(), allow_nan=False))
    assert dumped["exchanges"] == 2
    assert dumped["measures"][0]["ratio"] == {"value": 1.5, "low": None, "high": None, "items": 2}


def test_the_interval_of_the_ratio_holds_it_as_often_as_it_says() -> None:
    """Of shares that differ, where noise and twin hang together: 80 exchanges, 30 % and 15 % differing."""
    rng = np.random.default_rng(1)
    runs, held = 300, 0
    for _ in range(runs):
        hard = rng.random(80)
        twin, repeat = ((hard + rng.random(80) < share).astype(float) for share in (0.775, 0.5477))
        ratio = only(exchanges(list(twin), list(repeat))).ratio
        assert ratio
        held += ratio.low <= (0.775 / 0.5477) ** 2 <= ratio.high
    assert held / runs == pytest.approx(0.95, abs=3 * np.sqrt(0.95 * 0.05 / runs))


def test_what_a_primary_says_of_its_tokens_that_cannot_be_is_left_out_and_told() -> None:
    def said(first: float) -> Reply:
        return Reply("a", (Token("a", log(first), {"a": log(first), "secret": log(0.5)}),))

    huge = Reply("a", (Token("a", 1000.0, {"a": 1000.0}),))
    found = discrepancy(
        [
            Exchange(said(0.9), said(0.4), said(0.9)),
            Exchange(said(0.4), said(0.2), said(0.5)),
            Exchange(huge, said(0.4), huge),
        ],
        [TokenDivergence("kl", "low")],
    ).measures[0]
    assert found.discrepancy is not None and found.discrepancy.items == 1
    assert found.floor is not None and found.floor.items == 1
    assert found.note is not None and "2 of 3 pairs" in found.note and "more than one" in found.note
    assert "secret" not in found.note  # notes go onto cards
