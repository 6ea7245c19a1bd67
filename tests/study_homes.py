"""Homes for tests of the study: a few simulated hours, encoded by the real encoder, with their truth."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from llmtwin.records import Prompt
from llmtwin.study.truth import HomeTruth
from llmtwin.twins.home.describe import describe
from llmtwin.twins.home.encode import Encoder
from llmtwin.twins.home.observe import observe
from llmtwin.twins.home.simulator import Home
from llmtwin.twins.home.sources import read_states

END = datetime(2026, 1, 20, 19, 45, tzinfo=UTC)
STEP = timedelta(minutes=30)


def simulate(name: str, seed: int = 7, steps: int = 12) -> tuple[HomeTruth, list[Prompt]]:
    """The last hours of a home before END, and the prompts that it sent."""
    home, encoder = Home(seed, name), Encoder()
    prompts: list[Prompt] = []
    seen = {}
    for step in range(steps, -1, -1):
        moment = END - step * STEP
        entities = read_states(json.dumps(home.states(moment)).encode()).entities
        observations = observe(entities)
        prompts += encoder.encode(name, observations)
        seen[moment] = {one.fact.path: one.fact.value for one in observations if not one.private}
    private = [one for one in observations if one.private]
    truth = HomeTruth(
        twin=name,
        description=describe(entities),
        settings=tuple(one for one in private if not one.sealed),
        sealed=tuple(one for one in private if one.sealed),
        sent=tuple(fact for prompt in prompts for fact in prompt.facts),
        seen=seen,
    )
    return truth, prompts
