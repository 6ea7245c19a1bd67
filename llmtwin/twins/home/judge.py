"""What follows from a plan and from values over a time, for an answer. It knows no home and no storage."""

from __future__ import annotations

from collections.abc import Sequence

from llmtwin.records import Property, State, Statistic, Value
from llmtwin.twins.home import facts
from llmtwin.twins.home.plan import Act, Plan, PlanKind
from llmtwin.twins.home.words import (
    Amount,
    Mood,
    Span,
    amount,
    done_to,
    mood,
    must_be_time,
    state_asked,
    words,
)

OPPOSITES = {Act.OPEN: Act.CLOSE, Act.CLOSE: Act.OPEN, Act.LOCK: Act.UNLOCK, Act.UNLOCK: Act.LOCK}


def completed(plan: Plan, text: str) -> Plan:
    """The plan with what the sentence says outright: the state asked about, or the verb that was mistaken."""
    if plan.kind == PlanKind.ORDER and plan.act in OPPOSITES:
        meant = OPPOSITES[plan.act] in [done_to(text, name) for name in (plan.name, plan.area) if name]
        return plan.model_copy(update={"act": OPPOSITES[plan.act]}) if meant else plan
    if plan.kind != PlanKind.ASK or plan.property or plan.value or plan.time:
        return plan
    return plan.model_copy(update={"value": state_asked(text)})


def orders_nothing(plan: Plan, text: str) -> bool:
    """Whether what was taken for an order is a question: it asks, is about the past, or sets no value."""
    if plan.statistic is not None:
        return False
    value, property = plan.value or "", plan.property or ""
    if mood(text) is Mood.ASKS or must_be_time(f"{value} {plan.time or ''}"):
        return True
    extreme = (amount(value) or Amount()).extreme is not None
    own = words(value) <= words(property) if extreme else words(value) == words(property)
    # "on" says nothing in a name, but is a state.
    says_nothing = not words(value) and value.casefold() != "on"
    return plan.act == Act.SET and (says_nothing or (bool(property) and own))


def orders_a_value(plan: Plan, text: str) -> bool:
    """Whether what was taken for a question orders: it says what to set to, and shows no sign of asking."""
    if plan.kind != PlanKind.ASK or plan.statistic or plan.time or plan.value is None:
        return False
    if mood(text) in (Mood.ASKS, Mood.MAY_ASK):
        return False
    read = amount(plan.value)
    named = bool(plan.property) and f" to {plan.value.casefold()}" in text.casefold()
    return named or (read is not None and read.number is not None)


def is_in(value: Value, wanted: str) -> bool:
    """Whether a state is what a person calls it; `opened` is `open`."""
    said = wanted.casefold().strip()
    same = {
        "opened": "open",
        "shut": "closed",
        "close": "closed",
        "running": "on",
        "active": "on",
        "occupied": "detected",
    }
    state = facts.answer(value, None).casefold()
    return state in (said, same.get(said, said))


def can_be_in(property: Property, said: str) -> bool:
    """Whether a property with options can be in the state that was said; others may be in any."""
    return not property.options or any(is_in(option, said) for option in property.options)


def held(states: Sequence[State], span: Span) -> list[tuple[Value, float]]:
    """Each state's value, and for how many seconds of the span it stood."""
    starts = [max(state.fact.at, span.since) for state in states]
    ends = [*starts[1:], span.until]
    return [
        (state.fact.value, max((end - start).total_seconds(), 0.0))
        for state, start, end in zip(states, starts, ends, strict=True)
    ]


def fold(statistic: Statistic, spans: Sequence[tuple[float, float]]) -> float:
    """A statistic of values with the seconds for which each stood; an average weighs by them."""
    values = [value for value, _ in spans]
    seconds = sum(s for _, s in spans)
    if statistic == Statistic.AVERAGE:
        return sum(v * s for v, s in spans) / seconds if seconds else sum(values) / len(values)
    reduce = {Statistic.MINIMUM: min, Statistic.MAXIMUM: max, Statistic.SUM: sum, Statistic.COUNT: len}
    return float(reduce[statistic](values))  # type: ignore[operator]
