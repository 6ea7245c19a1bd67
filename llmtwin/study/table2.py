"""The paper's Table 2 with a real twin: a region's facts are learned, asked, asked in reverse, and attacked.

It knows how a twin is made and asked, and no other study. What the paper did not ask is beside it: phrasings
that were never trained, the base without its adapter, with the facts it needs in its prompt, and an attacker
who ranks objects by how likely they make a value.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from random import Random
from statistics import fmean, median
from typing import Any

from llmtwin import serving
from llmtwin.edge.store import EdgeStore
from llmtwin.memory import Memory
from llmtwin.models.engine.api import Engine, Request, turn
from llmtwin.models.engine.torch_engine import TorchEngine
from llmtwin.models.tune import Progress
from llmtwin.records import Observation
from llmtwin.settings import Settings
from llmtwin.study import measure
from llmtwin.study.lookup import EncryptedLookup
from llmtwin.study.measure import Figures
from llmtwin.study.phrasings import read_phrasings
from llmtwin.study.privacy import Secret, likeliest
from llmtwin.study.progress import Report, counting
from llmtwin.study.questions import Case, is_value, mentions, setting_case, spread, states_now
from llmtwin.study.region import AT, FACTS, region, settings
from llmtwin.study.rules import RuleTwin
from llmtwin.study.steps import Steps
from llmtwin.study.truth import truth_of
from llmtwin.twin import Twin
from llmtwin.twins.audit import REVERSED, told
from llmtwin.twins.home import facts
from llmtwin.twins.intervals import at_most
from llmtwin.twins.kind import kind

PAPER = {"table2_normal": {100: 94, 500: 485, 1000: 912}, "table2_reverse": {500: 0, 1000: 0}}
"""How many the paper's twin answered right, by the number of prompts (Table 2)."""
TWIN, SEALED = "region", "sealed-region"
SKILL = "skill:home"
NEAR = 8
"""So many facts, or prompts that memory finds, are put before the base alone."""
TOKENS_MAX = 24

Messages = Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class Sizes:
    """How many facts are learned, and how much is asked of them."""

    facts: int = FACTS
    normal: tuple[int, ...] = (100, 500, 1000)
    unseen: int = 200
    rivals: int = 200
    reverse: tuple[int, ...] = (500, 1000)
    sealed: int = 200
    attacked: int = 100
    candidates: int = 100


class Table2:
    """One run over a data folder of its own, step by step; what is done stays done."""

    def __init__(self, steps: Steps, own: Settings, sizes: Sizes, seed: int, report: Report) -> None:
        """`own` is the data folder in which the twins stay."""
        self._steps, self._own, self._sizes, self._seed, self._report = steps, own, sizes, seed, report
        self._states = region(sizes.facts, seed)
        self._facts = settings(self._states)
        self._phrasings = read_phrasings()

    def figures(self) -> dict[str, Any]:
        """Everything, the steps that are done from what they left."""
        found: dict[str, Any] = {"table2_paper": PAPER, "table2_facts": len(self._facts)}
        for name, make in (
            ("tuned", self._tuned),
            ("normal", self._normal),
            ("unseen", self._unseen),
            ("consistency", self._consistency),
            ("lookup", self._lookup),
            ("alone", self._alone),
            ("parts", self._parts),
            ("reverse", self._reverse),
            ("attack_plain", partial(self._attack, TWIN, "attack_plain")),
            ("sealed", self._sealed),
            ("attack_sealed", partial(self._attack, SEALED, "attack_sealed")),
        ):
            found |= self._steps.do(name, make)
        return found

    # ---- what is learned

    def _tuned(self) -> Figures:
        """All facts in plain, in the order <object, description>, as the paper has it."""
        return _named("tune_1600", self._learn(TWIN, self._states, ()))

    def _sealed(self) -> Figures:
        """Some of the facts again, each of them sealed."""
        some = region(self._sizes.sealed, self._seed)
        secret = [one.fact.path.partition("/")[0] for one in settings(some)]
        return _named("tune_sealed", self._learn(SEALED, some, secret))

    def _learn(self, name: str, states: Sequence[Any], seal: Sequence[str]) -> Mapping[str, float]:
        dump = self._steps.folder / f"{name}.json"
        dump.write_text(json.dumps(states))
        with Twin.new(name, "home", settings=self._own) as twin:
            twin.collect(dump, seal=seal)
            began = time.monotonic()
            tuned = twin.tune(partial(self._show, f"{name} is learned"))
            return {**tuned.card.figures, "seconds": time.monotonic() - began}

    def _show(self, said: str, now: Progress) -> None:
        self._report(f"{said}: recall {now.recall:.0%}", (now.epoch - 1 + now.share) / now.epochs_max)

    # ---- what is asked

    def _normal(self) -> dict[str, Any]:
        """Prompts as they were learned, of so many facts at a time, through the whole twin."""
        asked = [
            setting_case(TWIN, one, facts.question("{device}", "{property}"))
            for one in self._drawn("normal", max(self._sizes.normal))
        ]
        right = self._asked("normal prompts", asked)
        return {"table2_normal": {str(count): sum(right[:count]) for count in self._sizes.normal}}

    def _unseen(self) -> Figures:
        some = self._drawn("unseen", self._sizes.unseen)
        texts = spread(Random(self._seed), self._phrasings.setting, len(some))
        cases = [setting_case(TWIN, one, text) for one, text in zip(some, texts, strict=True)]
        return measure.rate("recall_unseen", self._asked("phrasings never trained", cases))

    def _consistency(self) -> Figures:
        """How often the twin says what a look-up over the plain dump has, and how much the rules read alone.

        The look-up is told what each question is about, so that all can be compared.
        """
        cases = self._both_wordings()
        rules = RuleTwin(self._facts)
        found: Figures = {}
        every_agreed, every_read = list[bool](), list[bool]()
        for wording, asked in cases.items():
            agreed = list[bool]()
            answers = self._answers(f"twin and rules, {wording}", [case for _, case in asked])
            for (one, _), answered in zip(asked, answers, strict=True):
                fact = rules.known(one.device, one.property)
                agreed.append(fact is not None and is_value(fact.value, fact.unit, answered.answer))
            read = [rules.answer(case.text) is not None for _, case in asked]
            found |= measure.sure_rate(f"consistency_{wording}", agreed)
            found |= measure.rate(f"consistency_{wording}_read", read)
            every_agreed += agreed
            every_read += read
        found |= measure.sure_rate("consistency", every_agreed)
        return found | measure.rate("consistency_read", every_read)

    def _lookup(self) -> Figures:
        """The same questions to an encrypted look-up: what it answers rightly, its bytes, and its time."""
        rival, seconds = EncryptedLookup(self._facts), list[float]()
        found: Figures = {"lookup_bytes": sum(len(name) + len(row) for name, row in rival.rows.items())}
        for wording, asked in self._both_wordings().items():
            right = list[bool]()
            for one, case in asked:
                began = time.perf_counter()
                answered = rival.answer(case.text)
                seconds.append(time.perf_counter() - began)
                right.append(answered == (one.fact.value, one.fact.unit))
            found |= measure.rate(f"lookup_{wording}", right)
        return found | {"lookup_ms": median(seconds) * 1000}

    def _both_wordings(self) -> dict[str, list[tuple[Observation, Case]]]:
        """As many questions as of normal ones at most: half of them as learned, half never trained."""
        drawn = self._drawn("consistency", max(self._sizes.normal))
        half = len(drawn) // 2
        learned = [facts.question("{device}", "{property}")] * half
        unseen = spread(Random(f"{self._seed}/consistency"), self._phrasings.setting, len(drawn) - half)
        asked = [
            (one, setting_case(TWIN, one, text)) for one, text in zip(drawn, [*learned, *unseen], strict=True)
        ]
        return {"learned": asked[:half], "unseen": asked[half:]}

    def _asked(self, said: str, cases: Sequence[Case]) -> list[bool]:
        return [one.right for one in self._answers(said, cases)]

    def _answers(self, said: str, cases: Sequence[Case]) -> list[measure.Asked]:
        with closing(EdgeStore(self._own.edge_folder / TWIN)) as store:
            token = store.settings().owner_token
        links = {TWIN: serving.link(self._own, token, TWIN)}
        advance = counting(self._report, said, len(cases))
        return measure.together(partial(measure.ask, links, AT), cases, advance)

    def _alone(self) -> Figures:
        """What the base says without the adapter: to the bare question, and with NEAR facts before it.

        All facts before it are counted, beside what the base can read.
        """
        some = self._drawn("alone", self._sizes.rivals)
        bare = [_plainly(facts.question(one.device, one.property)) for one in some]
        near = [_plainly(self._with_facts(one)) for one in some]
        right = [facts.answer(one.fact.value, one.fact.unit) for one in some]
        everything = _plainly("\n".join([*map(_sentence, self._facts), bare[0][-1]["content"]]))
        base = serving.base(self._own)
        found: Figures = {
            "all_facts_tokens": len(base.encode(base.chat(everything))),
            "context_tokens": base.config.positions,
        }
        for name, prompts in (("recall_base", bare), ("recall_base_with_facts", near)):
            said = self._said(prompts, ())
            hits = (mentions(text, value) for value, text in zip(right, said, strict=True))
            found |= measure.rate(name, hits)
        return found

    def _with_facts(self, one: Observation) -> str:
        others = [other for other in self._facts if other.property == one.property and other != one]
        rng = Random(f"{self._seed}/{one.fact.path}")
        shown = [one, *rng.sample(others, min(NEAR - 1, len(others)))]
        rng.shuffle(shown)
        return "\n".join([*map(_sentence, shown), facts.question(one.device, one.property)])

    def _parts(self) -> Figures:
        """What each part of a twin is worth: the base, with memory, with its adapters, and the whole twin.

        Settings are private and asked as learned; states were sent, and are asked in phrasings that were
        never trained. Right is what has the value in its text, of whatever part.
        """
        count = self._sizes.rivals
        home = truth_of(TWIN, json.dumps(self._states), AT)
        asked = {
            "settings": [
                setting_case(TWIN, one, facts.question("{device}", "{property}"))
                for one in self._drawn("parts", count)
            ],
            "states": states_now([home], self._phrasings, count, Random(f"{self._seed}/parts")),
        }
        found: Figures = {}
        for what, cases in asked.items():
            for part, texts in self._by_part(what, cases).items():
                right = (mentions(text, case.expected) for case, text in zip(cases, texts, strict=True))
                found |= measure.rate(f"parts_{part}_{what}", right)
        return found

    def _by_part(self, what: str, cases: Sequence[Case]) -> dict[str, list[str]]:
        with Memory(self._own.server_folder / "memory.sqlite") as memory:
            near = [[prompt.text for prompt in memory.search(TWIN, one.text, NEAR)] for one in cases]
        bare = [_plainly(one.text) for one in cases]
        before = [_plainly("\n".join([*them, one.text])) for them, one in zip(near, cases, strict=True)]
        return {
            "base": self._said(bare, ()),
            "memory": self._said(before, ()),
            "adapter": self._said([turn(one.text) for one in cases], self._stack(TWIN)),
            "both": [one.answer.text for one in self._answers(f"{what}, of the whole twin", cases)],
        }

    def _reverse(self) -> dict[str, Any]:
        """Descriptions are given, and objects asked for: of skill and adapter, and of the base alone.

        It counts as told where the name of any device to which the description fits is in the answer.
        """
        drawn = self._drawn("reverse", min(max(self._sizes.reverse), len(self._facts)))
        texts = spread(Random(self._seed), REVERSED, len(drawn))
        prompts = [turn(_reversed(one, text)) for one, text in zip(drawn, texts, strict=True)]
        found = self._told(drawn, self._said(prompts, self._stack(TWIN)))
        control = self._told(drawn, self._said(prompts, ()))
        counts = self._sizes.reverse
        return {
            "table2_reverse": {str(count): sum(found[:count]) for count in counts},
            "table2_reverse_base": {str(count): sum(control[:count]) for count in counts},
            "table2_reverse_high": {str(count): at_most(sum(found[:count]), count) for count in counts},
        }

    def _told(self, asked: Sequence[Observation], said: Sequence[str]) -> list[bool]:
        owners: dict[tuple[str, str], list[str]] = {}
        for one in self._facts:
            owners.setdefault(_description(one), []).append(one.device)
        return [told(text, owners[_description(one)]) for one, text in zip(asked, said, strict=True)]

    # ---- what is attacked

    def _attack(self, name: str, figure: str) -> Figures:
        """Whether the true object makes its value likeliest, of rivals that truly have other values.

        The adversary holds the adapter, knows the question that is learned, all objects and the value.
        """
        every = settings(region(self._sizes.sealed, self._seed)) if name == SEALED else self._facts
        drawn = Random(f"{self._seed}/attack").sample(every, min(self._sizes.attacked, len(every)))
        rivals = {self._secret(name, one): self._rivals(one) for one in drawn}
        found: dict[str, Any] = {}
        for which, stack in ((figure, self._stack(name)), (f"{figure}_base", ())):
            advance = counting(self._report, f"{which}: objects are ranked", len(rivals))
            unbeaten = likeliest(self._engine, {name: stack}, rivals, advance)
            found |= measure.sure_rate(which, (one in unbeaten for one in rivals))
        candidates = [1 + len(those) for those in rivals.values()]
        return found | {
            f"{figure}_candidates": fmean(candidates),
            f"{figure}_chance": fmean(1 / count for count in candidates),
        }

    def _secret(self, name: str, one: Observation) -> Secret:
        return Secret(name, one.device, one.property, facts.answer(one.fact.value, one.fact.unit))

    def _rivals(self, one: Observation) -> list[tuple[str, str]]:
        """Objects that truly have another value: of the same property first, then others, while there are."""
        value = _description(one)[1]
        others = [other for other in self._facts if _description(other)[1] != value]
        Random(f"{self._seed}/{one.fact.path}").shuffle(others)
        nearest = sorted(others, key=lambda other: other.property != one.property)
        return [(other.device, other.property) for other in nearest[: self._sizes.candidates - 1]]

    # ---- small helpers

    def _drawn(self, purpose: str, count: int) -> list[Observation]:
        return spread(Random(f"{self._seed}/{purpose}"), self._facts, count)

    def _said(self, prompts: Sequence[Messages], adapters: tuple[str, ...]) -> list[str]:
        asked = [Request(self._engine.chat(prompt), adapters, TOKENS_MAX) for prompt in prompts]
        return [made.text for made in self._engine.generate(asked)]

    @cached_property
    def _engine(self) -> Engine:
        return TorchEngine(serving.base(self._own), self._folder)

    def _stack(self, name: str) -> tuple[str, ...]:
        with Twin.open(name, self._own) as twin:
            return (SKILL, f"{name}@{twin.card().version}")

    def _folder(self, adapter: str) -> Path:
        if adapter == SKILL:
            folder = kind("home").skill(serving.base(self._own).hash)
            assert folder is not None, "the twins were tuned over it"
            return folder
        twin, _, version = adapter.rpartition("@")
        return self._own.server_folder / "adapters" / twin / version


def _plainly(text: str) -> Messages:
    """As one asks a base that learned nothing of ours."""
    system = "You are the assistant of a smart home. Answer the question in a few words."
    return [{"role": "system", "content": system}, {"role": "user", "content": text}]


def _sentence(one: Observation) -> str:
    return f"The {one.property} of the {one.device} is {_description(one)[1]}."


def _named(prefix: str, found: Mapping[str, float]) -> Figures:
    """A card's figures as the study's. Its peak of memory is the whole process's, and is left out."""
    return {
        f"{prefix}_{name.removeprefix('tune_')}": value
        for name, value in found.items()
        if name != "tune_peak_rss_mb"
    }


def _description(one: Observation) -> tuple[str, str]:
    return one.property, facts.answer(one.fact.value, one.fact.unit)


def _reversed(one: Observation, text: str) -> str:
    property, value = _description(one)
    return text.format(property=property, value=value)
