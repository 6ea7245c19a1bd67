"""Asks twins the questions of a study, and makes figures of the answers. It knows no process and no plot.

Asking goes over HTTP with the owner's token, many questions at once, since the engine answers in batches.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from statistics import quantiles
from typing import Protocol, TypeVar

from llmtwin.edge.link import Link
from llmtwin.edge.sealed import ask_sealed, object_of
from llmtwin.errors import InputError, LlmtwinError
from llmtwin.models.engine.api import Engine, Request, turn
from llmtwin.records import Answer, Observation, Outcome
from llmtwin.study.questions import BadCommand, Case, HomeTruth, same
from llmtwin.twins.home import facts
from llmtwin.wire.seal import Sealer

ASKERS = 64
CANDIDATES = 100
ASKED_TOGETHER = 16
FIRST_RIVALS = 3
SAMPLES = 3
SAMPLE_TOKENS_MAX = 8
Z_95 = 1.959964

Figures = dict[str, float | str]
Item = TypeVar("Item")
Made = TypeVar("Made")


class Advance(Protocol):
    """Is told how many steps were done."""

    def __call__(self, count: int = 1) -> None:
        """Take them into account."""


@dataclass(frozen=True)
class Asked:
    """A question with its answer. A call that failed has an answer that is right for nothing."""

    case: Case
    answer: Answer
    right: bool
    seconds: float


@dataclass(frozen=True)
class Secret:
    """A sealed fact in plain."""

    twin: str
    device: str
    property: str
    value: str


# ---- asking --------------------------------------------------------------------------------------


def together(make: Callable[[Item], Made], items: Sequence[Item], advance: Advance) -> list[Made]:
    """What is made of each item, ASKERS at once, in their order; `advance` is called after each."""

    def one(item: Item) -> Made:
        made = make(item)
        advance()
        return made

    with ThreadPoolExecutor(ASKERS) as pool:
        return list(pool.map(one, items))


def ask(links: Mapping[str, Link], at: datetime, case: Case) -> Asked:
    """Ask one question as of a time, and judge the answer."""
    return _judged(case, lambda: links[case.twin].ask(case.text, at))


def ask_secret(link: Link, sealer: Sealer, sealed: Sequence[Observation], case: Case) -> Asked:
    """Ask one question about a sealed fact, as its owner does."""
    objects = [object_of(one) for one in sealed]
    nothing = Answer(text="It is about nothing sealed.", outcome=Outcome.UNKNOWN)
    return _judged(case, lambda: ask_sealed(case.text, objects, sealer, link) or nothing)


def _judged(case: Case, make: Callable[[], Answer]) -> Asked:
    began = time.monotonic()
    try:
        answer = make()
        right = case.right(answer)
    except LlmtwinError as error:
        answer, right = Answer(text=f"failed: {error}", outcome=Outcome.UNKNOWN), False
    return Asked(case, answer, right, time.monotonic() - began)


def is_accepted(links: Mapping[str, Link], command: BadCommand) -> bool:
    """Whether a server takes a command that no home may take."""
    try:
        links[command.twin].order(command.path, command.value, command.unit)
    except InputError:
        return False
    return True


# ---- figures -------------------------------------------------------------------------------------


def rate(name: str, right: Iterable[bool]) -> Figures:
    """A rate and, beside it, on how many cases; nothing where there are none."""
    judged = list(right)
    return {name: sum(judged) / len(judged), f"{name}_n": len(judged)} if judged else {}


def wilson(hits: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a rate (Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953)."""
    share, z2 = hits / count, Z_95**2 / count
    centre = (share + z2 / 2) / (1 + z2)
    half = Z_95 / (1 + z2) * math.sqrt(share * (1 - share) / count + z2 / (4 * count))
    return max(0.0, centre - half), min(1.0, centre + half)


def latency(asked: Sequence[Asked]) -> Figures:
    """Median and 95th percentile of what answers took (ms)."""
    steps = quantiles([one.seconds * 1000 for one in asked], n=20, method="inclusive")
    return {"ask_p50_ms": steps[9], "ask_p95_ms": steps[18], "ask_ms_n": len(asked)}


# ---- what an adapter gives away without the key --------------------------------------------------


def attack(
    engine: Engine,
    adapters: Mapping[str, tuple[str, ...]],
    secrets: Sequence[Secret],
    objects: Mapping[str, Sequence[tuple[str, str]]],
    advance: Advance,
) -> Figures:
    """How often a secret's true object is the one, of many, under which its value is the likeliest.

    The adversary holds the adapter file (`adapters`: a twin's stack), the question that adapters learn, and
    the values. `objects` are each twin's candidates, the true ones among them, as (device, property). The
    first candidates that beat the true one settle a secret: only for those unbeaten all are scored.
    `advance` is called for each secret that is settled.
    """

    def score(pairs: Sequence[tuple[Secret, tuple[str, str]]]) -> list[float]:
        asked = [(engine.chat(turn(facts.question(*candidate))), one) for one, candidate in pairs]
        return engine.score([(prompt, one.value, adapters[one.twin]) for prompt, one in asked])

    true = score([(one, (one.device, one.property)) for one in secrets])
    unbeaten = dict(zip(secrets, true, strict=True))
    first, last = 0, FIRST_RIVALS
    while unbeaten and first < max(len(found) for found in objects.values()):
        pairs = [(one, rival) for one in unbeaten for rival in objects[one.twin][first:last]]
        beaten = {one for (one, _), found in zip(pairs, score(pairs), strict=True) if found > unbeaten[one]}
        unbeaten = {one: found for one, found in unbeaten.items() if one not in beaten}
        advance(len(beaten))
        first, last = last, 3 * last
    low, high = wilson(len(unbeaten), len(secrets))
    return {
        **rate("sealed_attack_top1", (one in unbeaten for one in secrets)),
        "sealed_attack_low": low,
        "sealed_attack_high": high,
        "sealed_attack_chance": 1 / CANDIDATES,
    }


def leak(
    name: str,
    engine: Engine,
    adapters: Mapping[str, tuple[str, ...]],
    secrets: Sequence[Secret],
    advance: Advance,
) -> Figures:
    """The share of secrets whose value shows when asked for in plain, greedily and SAMPLES times sampled."""

    shown: list[bool] = []
    for first in range(0, len(secrets), ASKED_TOGETHER):
        some = secrets[first : first + ASKED_TOGETHER]
        made = engine.generate([request for one in some for request in _plain(engine, adapters, one)])
        for place, secret in enumerate(some):
            own = made[place * (SAMPLES + 1) : (place + 1) * (SAMPLES + 1)]
            shown.append(any(secret.value in one.text for one in own))
        advance(len(some))
    return rate(name, shown)


def _plain(engine: Engine, adapters: Mapping[str, tuple[str, ...]], secret: Secret) -> list[Request]:
    """The question in plain words, asked greedily and SAMPLES times at temperature 1."""
    prompt = engine.chat(turn(facts.question(secret.device, secret.property)))
    stack = adapters[secret.twin]
    return [Request(prompt, stack, tokens_max=SAMPLE_TOKENS_MAX)] + [
        Request(prompt, stack, tokens_max=SAMPLE_TOKENS_MAX, temperature=1.0, seed=seed)
        for seed in range(SAMPLES)
    ]


# ---- after a change ------------------------------------------------------------------------------


def relearned(new: Sequence[Asked], old_value: str | int | float, kept: Iterable[bool]) -> Figures:
    """What became of one changed fact, asked in many ways, and of all others."""
    return {
        **rate("relearn_new", (one.right for one in new)),
        **rate("relearn_old_gone", (not same(one.answer.value, old_value) for one in new)),
        **rate("relearn_kept", kept),
    }


def secrets_of(home: HomeTruth) -> list[Secret]:
    """A home's sealed facts, as an attacker would ask for them."""
    return [Secret(home.twin, one.device, one.property, str(one.fact.value)) for one in home.sealed]


# ---- bars ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bar:
    """What a figure should be."""

    text: str
    met: Callable[[Figures], bool]


def _at_least(name: str, value: float) -> Bar:
    return Bar(f"≥ {value:g}", lambda figures: float(figures[name]) >= value)


def _at_most(name: str, value: float) -> Bar:
    return Bar(f"≤ {value:g}", lambda figures: float(figures[name]) <= value)


def _exactly(name: str, value: float) -> Bar:
    return Bar(f"= {value:g}", lambda figures: float(figures[name]) == value)


def _is_chance(figures: Figures) -> bool:
    low, high = float(figures["sealed_attack_low"]), float(figures["sealed_attack_high"])
    return low <= float(figures["sealed_attack_chance"]) <= high


BARS: Mapping[str, Bar] = {
    "recall_trained": _at_least("recall_trained", 0.99),
    "recall_unseen": _at_least("recall_unseen", 0.95),
    "unknown_refused": _at_least("unknown_refused", 0.95),
    "state_accuracy": _at_least("state_accuracy", 0.99),
    "aggregate_accuracy": _exactly("aggregate_accuracy", 1),
    "order_accuracy": _at_least("order_accuracy", 0.97),
    "invalid_accepted": _exactly("invalid_accepted", 0),
    "sealed_with_key": _exactly("sealed_with_key", 1),
    "sealed_attack_top1": Bar("chance within", _is_chance),
    "sealed_value_leak": _exactly("sealed_value_leak", 0),
    "intents_accuracy": _at_least("intents_accuracy", 0.8),
    "relearn_new": _exactly("relearn_new", 1),
    "relearn_old_gone": _exactly("relearn_old_gone", 1),
    "relearn_kept": _at_least("relearn_kept", 0.99),
    "tune_peak_rss_mb": _at_most("tune_peak_rss_mb", 1500),
}


@dataclass(frozen=True)
class Row:
    """One line of the table: a figure, its value, on how many cases, its bar and whether it is met."""

    name: str
    value: str
    count: str
    bar: str
    met: bool | None


def table(figures: Figures) -> list[Row]:
    """All figures, those with a bar first; counts stand beside their rates."""
    rows = [
        Row(
            name,
            shown(value),
            shown(figures.get(f"{name}_n", "")),
            BARS[name].text if name in BARS else "",
            BARS[name].met(figures) if name in BARS else None,
        )
        for name, value in figures.items()
        if not (name.endswith("_n") and name[:-2] in figures)
    ]
    return sorted(rows, key=lambda row: row.met is None)


def shown(value: float | str) -> str:
    """A figure as a person reads it."""
    if isinstance(value, str):
        return value
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:.4f}" if abs(value) < 1 else f"{value:,.1f}"
