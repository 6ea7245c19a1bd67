"""The paper's Fig. 10 by the hundred: homes are told to go above, below or to the average of all of them.

Whether a home may is for its own range to say, and for its owner's private limits, which only its adapter
knows. Beside what can be done stands what no home may do, first of all to go where range or limits do not
reach. It knows no process and no plot.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from random import Random

from llmtwin import serving
from llmtwin.edge.link import Link
from llmtwin.edge.store import EdgeStore
from llmtwin.settings import Settings
from llmtwin.study import measure, questions
from llmtwin.study.measure import Asked, Figures
from llmtwin.study.phrasings import read_phrasings
from llmtwin.study.progress import Report, counting
from llmtwin.study.region import AT, State, with_settings
from llmtwin.study.steps import Steps
from llmtwin.study.truth import truth_of
from llmtwin.twin import Twin
from llmtwin.twins.home.simulator import Home

COHORT = "decisions"
BRIGHT = 200
"""The least that lights are set to, of 255: few owners allow all of it."""


@dataclass(frozen=True)
class Sizes:
    """How many homes there are, with how many settings, and how many orders they get of each sort."""

    homes: int = 5
    settings: int = 80
    cases: int = 500
    invalid: int = 300


class Decisions:
    """One run over a data folder of its own, step by step; what is done stays done."""

    def __init__(self, steps: Steps, own: Settings, sizes: Sizes, seed: int, report: Report) -> None:
        """`own` is the data folder in which the twins stay."""
        self._steps, self._own, self._sizes, self._seed, self._report = steps, own, sizes, seed, report
        self._names = [f"decides{number}" for number in range(1, sizes.homes + 1)]
        self._phrasings = read_phrasings()

    def figures(self) -> Figures:
        """Everything, the steps that are done from what they left."""
        for number, name in enumerate(self._names):
            self._steps.do(f"tuned-{name}", partial(self._learn, number, name))
        found: Figures = self._steps.do("decided", self._decided)
        return found

    def _dump(self, number: int, name: str) -> str:
        rng = self._rng(f"lights of {name}")
        states = [_lit(state, rng) for state in Home(self._seed + number, name).states(AT)]
        return json.dumps(with_settings(states, self._sizes.settings))

    def _learn(self, number: int, name: str) -> Mapping[str, float]:
        dump = self._steps.folder / f"{name}.json"
        dump.write_text(self._dump(number, name))
        with Twin.new(name, "home", cohort=COHORT, settings=self._own) as twin:
            twin.collect(dump)
            tuned = twin.tune(lambda now: self._report(f"{name} is learned", now.epoch / now.epochs_max))
            return tuned.card.figures

    def _decided(self) -> Figures:
        homes = [truth_of(name, self._dump(number, name), AT) for number, name in enumerate(self._names)]
        links = {home.twin: self._link(home.twin) for home in homes}
        good = questions.relative_orders(homes, self._phrasings, self._sizes.cases, self._rng("relative"))
        third = self._sizes.invalid // 3
        unmet = questions.relative_orders(homes, self._phrasings, third, self._rng("unmet"), met=False)
        bad = questions.bad_orders(homes, self._phrasings, third, self._rng("bad"))
        commands = questions.bad_commands(homes, third, self._rng("bad commands"))
        right = [one.right for one in self._asked("decisions", links, good)]
        declined = self._asked("what neither range nor limits let be met", links, unmet)
        # A sentence taken for a question, and answered, orders nothing.
        accepted = [bool(one.answer.commands) for one in declined]
        accepted += [bool(one.answer.commands) for one in self._asked("what no home may", links, bad)]
        accepted += [measure.is_accepted(links, one) for one in commands]
        return {
            **measure.sure_rate("decision_accuracy", right),
            **measure.sure_rate("decision_unmet_refused", [one.right for one in declined]),
            **measure.sure_rate("decision_invalid_accepted", accepted),
        }

    def _asked(self, said: str, links: Mapping[str, Link], cases: Sequence[questions.Case]) -> list[Asked]:
        advance = counting(self._report, said, len(cases))
        return measure.together(partial(measure.ask, links, AT), cases, advance)

    def _link(self, name: str) -> Link:
        with closing(EdgeStore(self._own.edge_folder / name)) as store:
            return serving.link(self._own, store.settings().owner_token, name)

    def _rng(self, purpose: str) -> Random:
        return Random(f"{self._seed}/{purpose}")


def _lit(state: State, rng: Random) -> State:
    """A light as on a bright evening, so that some owners allow less than the average; all else as it is."""
    if not state["entity_id"].startswith("light."):
        return state
    brightness = rng.randint(BRIGHT, 255)
    return state | {"state": "on", "attributes": state["attributes"] | {"brightness": brightness}}
