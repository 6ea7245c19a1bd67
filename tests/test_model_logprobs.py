"""Divergences from top-k log-probabilities: bounds against whole distributions; what cannot be compared."""

from __future__ import annotations

from math import exp, inf, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import rel_entr

from llmtwin.errors import InputError
from llmtwin.twins.model.logprobs import Bounds, Divergence, NotComparable, divergence, divergences, mean
from llmtwin.twins.model.reply import Token

Array = NDArray[np.float64]
ULPS = 1e-9


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Array, Array]:
    """Two distributions over one vocabulary, of any peakedness."""
    size = draw(st.integers(2, 12))
    logits = st.lists(st.floats(-12, 12), min_size=size, max_size=size)
    first, second = (np.exp(np.array(draw(logits))) for _ in "pq")
    return first / first.sum(), second / second.sum()


def token(distribution: Array, count: int, said: int = 0) -> Token:
    """What a model tells of a distribution: its `count` likeliest, and the one that it said."""
    order = np.argsort(-distribution)[:count]
    top = {str(at): log(distribution[at]) for at in order}
    return Token(str(said), top.get(str(said)), top)


def kl(p: Array, q: Array) -> float:
    return float(rel_entr(p, q).sum())


def js(p: Array, q: Array) -> float:
    return (kl(p, (p + q) / 2) + kl(q, (p + q) / 2)) / 2


def holds(found: Bounds, true: float) -> bool:
    return found.low <= true + ULPS and true <= found.high + ULPS


@given(pairs(), st.data())
def test_what_is_not_told_lies_within_the_bounds(pair: tuple[Array, Array], data: st.DataObject) -> None:
    p, q = pair
    some, other = (data.draw(st.integers(0, len(p))) for _ in "pq")
    said = data.draw(st.integers(0, len(p) - 1))
    primary = Token(str(said), log(p[said]), token(p, some).top)
    for full in (False, True):
        twin = token(q, len(q) if full else other)
        found = divergence(primary, twin, twin_full=full)
        assert holds(found.kl, kl(p, q)) and holds(found.js, js(p, q))
        assert min(found.kl.low, found.js.low) >= 0 and found.js.high <= log(2) + ULPS
    back = divergence(token(q, other), token(p, len(p)), twin_full=True).js
    there = divergence(token(p, len(p)), token(q, other), primary_full=True).js
    assert (back.low, back.high) == pytest.approx((there.low, there.high), abs=ULPS)


@given(pairs())
def test_all_told_is_a_point(pair: tuple[Array, Array]) -> None:
    p, q = pair
    found = divergence(token(p, len(p)), token(q, len(q)), primary_full=True, twin_full=True)
    assert found.kl.low == found.kl.high == pytest.approx(kl(p, q), abs=ULPS)
    assert found.js.low == found.js.high == pytest.approx(js(p, q), abs=ULPS)


@given(pairs(), st.data())
def test_more_told_is_never_less_known(pair: tuple[Array, Array], data: st.DataObject) -> None:
    p, q = pair
    count = data.draw(st.integers(1, len(p) - 1))
    whole = token(q, len(q))
    less, more = (divergence(token(p, k), whole, twin_full=True) for k in (count, count + 1))
    for few, many in ((less.kl, more.kl), (less.js, more.js)):
        assert few.low <= many.low + ULPS and many.high <= few.high + ULPS


@given(pairs(), st.data())
def test_the_bounds_are_reached(pair: tuple[Array, Array], data: st.DataObject) -> None:
    """With the twin full: a rest in proportion gives the least, one piled on its unlikeliest the most."""
    p, q = pair
    count = data.draw(st.integers(1, len(p)))
    found = divergence(token(p, count), token(q, len(q)), twin_full=True)
    hidden = np.argsort(-p)[count:]
    if not len(hidden):
        return
    least, most = p.copy(), p.copy()
    least[hidden] = q[hidden] / q[hidden].sum() * p[hidden].sum()
    assert found.kl.low == pytest.approx(kl(least, q), abs=1e-7)
    assert found.js.low == pytest.approx(js(least, q), abs=1e-7)
    left = p[hidden].sum()
    for at in sorted(hidden, key=lambda at: float(q[at])):
        most[at] = min(left, np.sort(p)[-count])
        left -= most[at]
    assert found.kl.high == pytest.approx(kl(most, q), abs=1e-7)
    assert found.js.high == pytest.approx(js(most, q), abs=1e-7)


@given(pairs(), st.integers(1, 12))
def test_what_is_told_alike_may_be_identical(pair: tuple[Array, Array], count: int) -> None:
    told = token(pair[0], count)
    found = divergence(told, told)
    assert found.kl.low == pytest.approx(0, abs=ULPS) and found.js.low == pytest.approx(0, abs=ULPS)


def test_disjoint_and_endless() -> None:
    one, other = Token("a", 0.0, {"a": 0.0}), Token("b", 0.0, {"b": 0.0})
    found = divergence(one, other)
    assert 10 < found.kl.low < found.kl.high == inf
    full = divergence(one, Token("b", None, {"a": -inf, "b": 0.0}), twin_full=True)
    assert full.kl == Bounds(inf, inf)
    assert found.js.low == found.js.high == pytest.approx(log(2))
    half = Token("a", log(0.5), {"a": log(0.5)})
    assert divergence(half, half).kl == Bounds(0.0, inf)
    assert divergence(half, half).js.high == pytest.approx(log(2) / 2)
    # All of the primary told, and all of those told by the twin: a point although the twin has a rest.
    assert divergence(one, half).kl == Bounds(pytest.approx(log(2)), pytest.approx(log(2)))


def test_a_censored_token_is_no_zero() -> None:
    top = {"a": log(0.6), "b": log(0.3)}
    censored, told = Token("c", None, top), Token("c", log(0.08), top)
    assert divergence(censored, censored).kl.low == 0
    assert divergence(told, told).js.high < divergence(censored, censored).js.high < inf


def test_tokens_that_do_not_line_up_are_named() -> None:
    said = [Token("Hel", -0.1), Token("lo", -0.1)]
    for other, place in (([Token("Hello", -0.1)], "place 0"), (said[:1], "place 1")):
        with pytest.raises(NotComparable, match=place):
            divergences(said, other)
    with pytest.raises(NotComparable, match="'lo' is not in both"):
        divergence(said[1], Token("a", 0.0, {"a": 0.0}), twin_full=True)


def test_what_is_no_distribution_is_refused() -> None:
    whole = Token("a", 0.0, {"a": 0.0})
    with pytest.raises(InputError, match="more than one"):
        divergence(Token("a", 0.3, {}), whole)
    with pytest.raises(InputError, match="not all of them"):
        divergence(whole, Token("a", log(0.5), {"a": log(0.5)}), twin_full=True)
    with pytest.raises(InputError, match="empty"):
        mean([])


def test_the_mean_is_of_each_bound() -> None:
    sure, half = Token("a", 0.0, {"a": 0.0}), Token("a", log(0.5), {"a": log(0.5)})
    places = divergences([sure, sure], [sure, half])
    assert mean(places).kl == Bounds(pytest.approx(log(2) / 2), pytest.approx(log(2) / 2))
    assert mean(places[:1]) == Divergence(Bounds(0.0, 0.0), Bounds(0.0, 0.0))
    assert exp(-mean(places).kl.low * 2) == pytest.approx(0.5)
