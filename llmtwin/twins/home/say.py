"""The common forms of an answer. It decides nothing."""

from __future__ import annotations

from llmtwin.records import Aggregate, Answer, CohortUse, Outcome, Receipts, State
from llmtwin.twins.home import facts
from llmtwin.twins.home.resolve import Match
from llmtwin.twins.home.words import words


def unknown(text: str, receipts: Receipts | None = None) -> Answer:
    """What is not known."""
    return Answer(text=text, outcome=Outcome.UNKNOWN, receipts=receipts or Receipts())


def refused(text: str, receipts: Receipts | None = None) -> Answer:
    """What is not done."""
    return Answer(text=text, outcome=Outcome.REFUSED, receipts=receipts or Receipts())


def title(match: Match) -> str:
    """ "maximum brightness of the Bedroom lamp", or the device alone for its plain state."""
    device, property = match.device.name, match.property.name
    own = words(property) <= words(device) or property in ("state", "value")
    return device if own else f"{property} of the {device}"


def reading(state: State) -> str:
    """A state's value as a person reads it."""
    return facts.answer(state.fact.value, state.fact.unit)


def cohort(found: Aggregate) -> Receipts:
    """Receipts of an aggregate."""
    return Receipts(
        cohort=CohortUse(size=found.cohort_size, oldest_at=found.oldest_at, newest_at=found.newest_at)
    )
