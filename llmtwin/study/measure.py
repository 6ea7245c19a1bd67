"""Asks twins the questions of a study, and makes figures of the answers. It knows no process and no plot.

Asking goes over HTTP with the owner's token, many questions at once, since the engine answers in batches.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from statistics import quantiles
from typing import TypeVar

from llmtwin.edge.link import Link
from llmtwin.edge.sealed import ask_sealed, object_of
from llmtwin.errors import InputError, LlmtwinError
from llmtwin.records import Answer, Observation, Outcome, Value
from llmtwin.study.progress import Advance
from llmtwin.study.questions import BadCommand, Case, same
from llmtwin.twins.intervals import wilson
from llmtwin.wire.seal import Sealer

ASKERS = 64

Figures = dict[str, float | str]
Item = TypeVar("Item")
Made = TypeVar("Made")


@dataclass(frozen=True)
class Asked:
    """A question with its answer. A call that failed has an answer that is right for nothing."""

    case: Case
    answer: Answer
    right: bool
    seconds: float


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


def sure_rate(name: str, right: Iterable[bool]) -> Figures:
    """The same with its 95 % interval (Wilson's)."""
    judged = list(right)
    if not judged:
        return {}
    low, high = wilson(sum(judged), len(judged))
    return {**rate(name, judged), f"{name}_low": low, f"{name}_high": high}


def latency(asked: Sequence[Asked]) -> Figures:
    """Median and 95th percentile of what answers took (ms)."""
    steps = quantiles([one.seconds * 1000 for one in asked], n=20, method="inclusive")
    return {"ask_p50_ms": steps[9], "ask_p95_ms": steps[18], "ask_ms_n": len(asked)}


# ---- after a change ------------------------------------------------------------------------------


def relearned(new: Sequence[Asked], old: Sequence[Value], kept: Iterable[bool]) -> Figures:
    """What became of changed facts, asked in many ways, each with its old value, and of all others."""
    gone = (not same(one.answer.value, value) for one, value in zip(new, old, strict=True))
    return {
        **rate("relearn_new", (one.right for one in new)),
        **rate("relearn_old_gone", gone),
        **rate("relearn_kept", kept),
    }


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
