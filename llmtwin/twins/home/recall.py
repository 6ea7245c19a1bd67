"""The two things a home twin asks of the language model: a plan of what was said, and a private fact.

It knows the engine's interface, not what is done with the plan or the fact.
"""

from __future__ import annotations

from dataclasses import dataclass

from llmtwin.errors import NotFound, Unavailable
from llmtwin.models.engine.api import Request, turn
from llmtwin.records import AdapterUse, Value
from llmtwin.twins.home import facts
from llmtwin.twins.home.judge import completed
from llmtwin.twins.home.plan import Plan, grammar
from llmtwin.twins.home.resolve import Match
from llmtwin.twins.kind import View

PLAN_TOKENS_MAX, FACT_TOKENS_MAX = 96, 32
PROBABILITY_MIN = 0.5
"""Below this the adapter is guessing: the fact was not in what it learned."""


@dataclass(frozen=True)
class Recalled:
    """A private fact out of the adapter; `value` is None where the adapter was not sure."""

    value: Value | None
    use: AdapterUse


def understand(text: str, view: View) -> Plan:
    """What was said, as a plan. Raises Unavailable without the home skill, InputError if it is none."""
    if view.skill is None:
        raise Unavailable(
            "the home skill does not fit this base model: run `make skill`, or use the bundled base"
        )
    prompt = view.engine.chat(turn(text))
    request = Request(prompt, (view.skill,), tokens_max=PLAN_TOKENS_MAX, grammar=grammar(text))
    return completed(Plan.from_json(view.engine.generate([request])[0].text), text)


def recall(match: Match, view: View) -> Recalled:
    """A private setting, asked of the twin's own adapter. Raises NotFound while it has none."""
    if view.adapter is None:
        raise NotFound("this twin has learned nothing yet: run `llmtwin tune` and `llmtwin push`")
    prompt = view.engine.chat(turn(facts.question(match.device.name, match.property.name)))
    (done,) = view.engine.generate([Request(prompt, view.adapters, tokens_max=FACT_TOKENS_MAX)])
    manifest = view.adapter.manifest
    use = AdapterUse(version=manifest.version, weights=manifest.weights, probability=done.probability)
    sure = done.finish == "stop" and done.probability >= PROBABILITY_MIN
    return Recalled(facts.read(done.text, match.property.unit) if sure else None, use)
