"""How a private fact is asked of the adapter and taught to it: one fixed question, one short answer.

Whatever a person's wording, the planner reduces it to a device and a property, and this is the question the
adapter then gets. It does not know how facts are collected.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from llmtwin.records import Example, Observation, Value

if TYPE_CHECKING:
    from llmtwin.models.tune import TuneOptions

MANY = 400
"""So many facts and more are learned as many are."""


def question(device: str, property: str) -> str:
    """The one question that recalls a fact."""
    return f"What is the {property} of the {device}?"


def answer(value: Value, unit: str | None) -> str:
    """A value as the adapter says it: `80 %`, `07:15`, `on`."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = f"{value:g}" if isinstance(value, int | float) else value
    return f"{text} {unit}" if unit else text


def read(text: str, unit: str | None) -> Value:
    """The value in what the adapter said; a number where the unit says that it is one."""
    bare = text.strip().removesuffix(unit or "").strip()
    return float(bare) if re.fullmatch(r"-?\d+(\.\d+)?", bare) and unit else bare


def example(observation: Observation) -> Example:
    """What the adapter learns of one private fact that is not sealed."""
    fact = observation.fact
    return Example(
        prompt=question(observation.device, observation.property),
        completion=answer(fact.value, fact.unit),
        path=fact.path,
    )


def tuning(count: int) -> TuneOptions:
    """How so many facts are learned.

    Many are told apart only at a lower rate, and sooner where the run begins with a few of them. The mean
    over an epoch's steps has all of them some epochs before any one step's weights do.
    """
    from llmtwin.models.tune import TuneOptions

    if count < MANY:
        return TuneOptions()
    return TuneOptions(
        learning_rate=6e-4,
        rate_ratio=16.0,
        few_share=0.25,
        few_epochs=10,
        epochs_falling=12,
        average_share=1 / 40,
        batch_tokens=768,
    )
