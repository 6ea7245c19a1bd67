"""Says how far two models' next-token distributions are apart, from what both tell. It knows no model.

Models tell the log-probabilities of their likeliest tokens and not the rest, so what is found is bounds,
never a guess: between them lies the divergence of the whole distributions, whatever the rest may be. All is
in nats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp, inf, log
from statistics import fmean

from llmtwin.errors import InputError
from llmtwin.twins.model.reply import Token

ROUNDING = 1e-3
"""By how much the told probabilities may sum to more than one, since models round them."""
REST_MIN = 1e-6
"""What a twin may have left that rounding hides, unless it told all: KL is not called infinite for that."""

Cell = Callable[[float, float], float]


class NotComparable(InputError):
    """The tokens of two replies are not of one tokenizer or not at the same places, or what is said of them
    cannot be."""


@dataclass(frozen=True)
class Bounds:
    """The least and the greatest that a divergence may be, in nats; equal where all is told.

    `high` is infinite where nothing that was told bounds it.
    """

    low: float
    high: float


@dataclass(frozen=True)
class Divergence:
    """From primary to twin at a place: Kullback-Leibler KL(primary || twin), and Jensen-Shannon (<= ln 2)."""

    kl: Bounds
    js: Bounds


@dataclass(frozen=True)
class _Told:
    """Probabilities told of tokens, the mass of all others, and the most that one of those may have."""

    known: Mapping[str, float]
    rest: float
    each_max: float
    full: bool


@dataclass(frozen=True)
class _Split:
    """Two distributions by who tells of a token: `p_only` is told by the primary alone."""

    both: Sequence[tuple[float, float]]
    p_only: float
    q_only: float
    p_rest: float
    q_rest: float


def divergence(
    primary: Token, twin: Token, *, primary_full: bool = False, twin_full: bool = False
) -> Divergence:
    """Bounds of the divergences at one place, which both models reached by the same tokens.

    A `full` side's `top` has every token of the vocabulary; of any other the `top` are its likeliest, and the
    remaining probability is somewhere among other tokens, none of them likelier than the last of `top`.

    Both divergences are sums over tokens of a cell f(p, q) that is convex and homogeneous. Of tokens of
    which not both probabilities are told, the sum is least where masses lie in proportion (log-sum
    inequality: Cover and Thomas, Elements of Information Theory, 2.7.1). It is greatest at an extreme
    point: with the twin full, the primary's rest lies on the tokens that are least likely to the twin, each
    filled as far as `top` allows. With neither full, all that is not told by both may be disjoint: JS is
    then at most ln 2 / 2 times that mass, and KL has no bound unless the primary told all and the twin all
    of those tokens. All holds up to the rounding of what was told.
    Raises NotComparable where one side is full and the other tells of a token that it does not have, or
    where probabilities sum to more than one, and InputError where those of a full side sum to less.
    """
    p, q = _told(primary, primary_full), _told(twin, twin_full)
    p, q = _nothing_hidden(p, q), _nothing_hidden(q, p)
    for full, other in ((p, q), (q, p)):
        if full.full and (strange := next((text for text in other.known if text not in full.known), None)):
            raise NotComparable(f"the token {strange!r} is not in both vocabularies: compare texts instead")
    split = _split(p, q)
    hidden = split if q.full else replace(split, q_rest=max(split.q_rest, REST_MIN))
    return Divergence(
        kl=Bounds(max(0.0, _sum(_kl, split) + _least(_kl, hidden)), _kl_high(p, q, split)),
        js=Bounds(_sum(_js, split) + _least(_js, split), _sum(_js, split) + _js_most(p, q, split)),
    )


def divergences(
    primary: Sequence[Token], twin: Sequence[Token], *, twin_full: bool = False
) -> list[Divergence]:
    """The divergence at each token of the primary's reply, which the twin has read as its own.

    Raises NotComparable where the tokens' texts are not the same: of another tokenizer, or of another reply.
    """
    texts, others = [token.text for token in primary], [token.text for token in twin]
    if texts != others:
        at = next(
            (at for at, (a, b) in enumerate(zip(texts, others, strict=False)) if a != b),
            min(len(texts), len(others)),
        )
        said = " and ".join(repr(side[at]) if at < len(side) else "nothing" for side in (texts, others))
        raise NotComparable(f"tokens do not line up: at place {at} they are {said}; compare texts instead")
    return [divergence(p, q, twin_full=twin_full) for p, q in zip(primary, twin, strict=True)]


def mean(places: Sequence[Divergence]) -> Divergence:
    """The mean of each bound over the places. Raises InputError where there is none."""
    if not places:
        raise InputError("there is no token to compare: the reply is empty")
    return Divergence(
        kl=Bounds(fmean(one.kl.low for one in places), fmean(one.kl.high for one in places)),
        js=Bounds(fmean(one.js.low for one in places), fmean(one.js.high for one in places)),
    )


def _told(token: Token, full: bool) -> _Told:
    known = {text: _probability(logprob) for text, logprob in token.top.items()}
    each_max = min(known.values(), default=1.0)
    if token.logprob is not None and not full:
        known[token.text] = _probability(token.logprob)
    total = sum(known.values())
    if not total <= 1 + ROUNDING:
        # No token is named: what a primary said does not go onto a card.
        raise NotComparable("the log-probabilities of a token sum to more than one: not natural logs?")
    if full and total < 1 - ROUNDING:
        raise InputError(f"the log-probabilities at {token.text!r} sum to {total:.4f}: not all of them")
    if full or total > 1:
        known = {text: value / total for text, value in known.items()}
    return _Told(known, 0.0 if full else max(0.0, 1 - total), each_max, full)


def _probability(logprob: float) -> float:
    """More than one where it cannot be, and never too much for a float."""
    return exp(min(logprob, 1.0))


def _nothing_hidden(part: _Told, other: _Told) -> _Told:
    """Where it told of all tokens that there are, what is left is rounding."""
    return replace(part, rest=0.0) if other.full and other.known.keys() <= part.known.keys() else part


def _split(p: _Told, q: _Told) -> _Split:
    return _Split(
        both=[(value, q.known[text]) for text, value in p.known.items() if text in q.known],
        p_only=sum(value for text, value in p.known.items() if text not in q.known),
        q_only=sum(value for text, value in q.known.items() if text not in p.known),
        p_rest=p.rest,
        q_rest=q.rest,
    )


def _kl(p: float, q: float) -> float:
    if p == 0:
        return 0.0
    return p * log(p / q) if q else inf


def _js(p: float, q: float) -> float:
    middle = (p + q) / 2
    return max(0.0, (_kl(p, middle) + _kl(q, middle)) / 2)


def _sum(cell: Cell, split: _Split) -> float:
    return sum(cell(p, q) for p, q in split.both)


def _least(cell: Cell, split: _Split) -> float:
    """In proportion if the rests suffice for it; else each rest lies wholly on what the other side tells."""
    if split.p_only * split.q_only <= split.p_rest * split.q_rest:
        return cell(split.p_only + split.p_rest, split.q_only + split.q_rest)
    return cell(split.p_only, split.q_rest) + cell(split.p_rest, split.q_only)


def _kl_high(p: _Told, q: _Told, split: _Split) -> float:
    known = max(0.0, _sum(_kl, split))
    if q.full:
        return max(0.0, _sum(_kl, split) + _most(_kl, p, q))
    return inf if split.p_only or split.p_rest else known


def _js_most(p: _Told, q: _Told, split: _Split) -> float:
    if q.full:
        return _most(_js, p, q)
    if p.full:
        return _most(_js, q, p)
    return log(2) / 2 * (split.p_only + split.q_only + split.p_rest + split.q_rest)


def _most(cell: Cell, part: _Told, full: _Told) -> float:
    """The greatest sum with `part.rest` spread over the tokens that only `full` tells of."""
    left, found = part.rest, 0.0
    for other in sorted(value for text, value in full.known.items() if text not in part.known):
        here = min(left, part.each_max)
        found += cell(here, other)
        left -= here
    return found
