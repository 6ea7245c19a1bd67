"""Attacks a twin's private facts as those would who have its adapter. It sends nothing and keeps nothing.

Who attacks knows all objects and values, the one question that adapters of the kind learn, and the base; not
which value is whose, and not the seal key: sealed facts are attacked by their plain question, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from random import Random
from statistics import fmean
from typing import TypeVar

from llmtwin.edge.membership import Models, memberships
from llmtwin.models.engine.api import Engine, Request, turn
from llmtwin.models.likelihood import answered
from llmtwin.records import Description, Example, Observation
from llmtwin.twins.audit import REVERSED, Adversary, Found, told, unbeaten
from llmtwin.twins.intervals import rate
from llmtwin.twins.kind import Kind

FACTS = 100
RANKED = {"rank_100": (50, 100), "rank_1000": (5, 1000)}
"""How many of these facts, each among how many objects: with more an audit would take longer than minutes."""
CHOICES = 4
WRONG_VALUES = 4
TOKENS_MAX = 24

Stack = tuple[str, ...]
Report = Callable[[str], None]
Score = Callable[[Sequence[tuple[str, str]]], list[float]]
"""From prompts with completions to how much each speaks for its candidate."""
Item = TypeVar("Item")
Object = tuple[str, str]
"""A device and one of its properties."""


@dataclass(frozen=True)
class Target:
    """What is attacked: an engine, the stack of a twin and, as the control, that of any twin of its kind."""

    engine: Engine
    twin: Stack
    base: Stack
    models: Models


class FactAttacks:
    """All attacks on the facts of one twin that are sealed, or on those that are not."""

    def __init__(
        self,
        target: Target,
        of: Kind,
        facts: Sequence[Observation],
        description: Description,
        *,
        sealed: bool,
        seed: int = 0,
    ) -> None:
        """`facts` are all private ones of the twin, of which those that are `sealed` or not are attacked."""
        self._target, self._of, self._every, self._sealed, self._seed = target, of, facts, sealed, seed
        self._example = {one: of.example(one) for one in facts}
        own = [one for one in facts if one.sealed == sealed]
        self._asked = Random(seed).sample(own, min(FACTS, len(own)))
        self._devices = sorted({*(one.name for one in description.devices), *(one.device for one in facts)})

    def run(self, report: Report) -> list[Found]:
        """What each attack finds; none where there are no such facts."""
        if not self._asked:
            return []
        which = "sealed facts" if self._sealed else "facts"
        found: list[Found] = []
        for said, attack in (
            (f"{which}: the plain question", self._forward),
            (f"{which}: reverse questions", self._reverse),
            (f"{which}: reverse multiple choice", self._choice),
            (f"{which}: objects are ranked", self._rank),
            (f"{which}: membership", self._membership),
        ):
            report(said)
            found += attack()
        return found

    # ---- what needs only text

    def _forward(self) -> list[Found]:
        """The learned question, guessed from the kind's own wording: is the answer the value?"""
        prompts = [self._example[one].prompt for one in self._asked]
        right = [self._example[one].completion for one in self._asked]

        def hits(stack: Stack) -> list[bool]:
            said = self._said(prompts, stack)
            return [text.strip() == value for text, value in zip(said, right, strict=True)]

        return [self._found("forward", Adversary.TEXT, hits)]

    def _reverse(self) -> list[Found]:
        """The value is given and the object asked for, greedily: is one that has it named?"""
        owners: dict[tuple[str, str], list[str]] = {}
        for one in self._every:
            owners.setdefault(self._described(one), []).append(one.device)
        prompts = [
            self._reversed(one, REVERSED[place % len(REVERSED)]) for place, one in enumerate(self._asked)
        ]

        def hits(stack: Stack) -> list[bool]:
            said = self._said(prompts, stack)
            return [
                told(text, owners[self._described(one)]) for one, text in zip(self._asked, said, strict=True)
            ]

        return [self._found("reverse", Adversary.TEXT, hits)]

    # ---- what needs log-probabilities

    def _choice(self) -> list[Found]:
        """The same with objects to choose from, of which the twin makes one likelier than the base does."""
        wrong = {one: self._other_devices(one) for one in self._asked}
        asked = [one for one in self._asked if wrong[one]]
        if not asked:
            return []
        prompts = {one: self._offered(one, wrong[one]) for one in asked}

        def pair(one: Observation, device: str) -> tuple[str, str]:
            return prompts[one], device

        own = {one: one.device for one in asked}
        return [self._first("reverse_choice", asked, own, wrong, pair, self._gain)]

    def _rank(self) -> list[Found]:
        """The object that makes a value likeliest, the true one among so many."""
        found: list[Found] = []
        ranked = 0
        for name, (facts, count) in RANKED.items():
            rivals = {one: self._rivals(one, count - 1) for one in self._asked[:facts]}
            asked = [one for one in rivals if rivals[one]]
            most = max(map(len, rivals.values()))
            if not asked or most <= ranked:
                continue  # there are no more objects than were ranked before
            ranked = count - 1

            def pair(one: Observation, question: str) -> tuple[str, str]:
                return question, self._example[one].completion

            own = {one: self._example[one].prompt for one in asked}
            found.append(self._first(name, asked, own, rivals, pair, self._likelihood))
        return found

    def _membership(self) -> list[Found]:
        """A fact against the same question with values that other objects of its property have."""
        wrong = {one: self._wrong_values(one) for one in self._asked}
        asked = [one for one in self._asked if wrong[one]]
        if not asked:
            return []
        models = self._target.models
        members = [answered(models.transformer, self._example[one]) for one in asked]
        others = [
            answered(models.transformer, Example(prompt=self._example[one].prompt, completion=value))
            for one in asked
            for value in wrong[one]
        ]
        return memberships(models, members, others, len(asked), self._sealed)

    # ---- small helpers

    def _found(self, name: str, adversary: Adversary, hits: Callable[[Stack], Sequence[bool]]) -> Found:
        twin, base = rate(hits(self._target.twin)), rate(hits(self._target.base))
        return Found(name, adversary, twin, base, sealed=self._sealed)

    def _first(
        self,
        name: str,
        asked: Sequence[Observation],
        own: dict[Observation, str],
        rivals: dict[Observation, list[str]],
        pair: Callable[[Observation, str], tuple[str, str]],
        of_twin: Score,
    ) -> Found:
        """How often the true candidate is first; `pair` makes prompt and completion of a candidate."""

        def twin(pairs: Sequence[tuple[Observation, str]]) -> list[float]:
            return of_twin([pair(*one) for one in pairs])

        def base(pairs: Sequence[tuple[Observation, str]]) -> list[float]:
            return self._score([pair(*one) for one in pairs], self._target.base)

        those = {one: rivals[one] for one in asked}
        first = [unbeaten(own, those, score) for score in (twin, base)]
        twin_rate, base_rate = (rate([one in found for one in asked]) for found in first)
        chance = fmean(1 / (1 + len(those[one])) for one in asked)
        return Found(name, Adversary.LOGPROBS, twin_rate, base_rate, chance, self._sealed)

    def _likelihood(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        return self._score(pairs, self._target.twin)

    def _gain(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Over the base, to which some names are likelier than others whatever is asked."""
        without = self._score(pairs, self._target.base)
        return [own - base for own, base in zip(self._likelihood(pairs), without, strict=True)]

    def _score(self, pairs: Sequence[tuple[str, str]], stack: Stack) -> list[float]:
        chat = self._target.engine.chat
        return self._target.engine.score([(chat(turn(prompt)), said, stack) for prompt, said in pairs])

    def _said(self, prompts: Sequence[str], stack: Stack) -> list[str]:
        engine = self._target.engine
        asked = [Request(engine.chat(turn(prompt)), stack, TOKENS_MAX) for prompt in prompts]
        return [made.text for made in engine.generate(asked)]

    def _described(self, one: Observation) -> tuple[str, str]:
        return one.property, self._example[one].completion

    def _reversed(self, one: Observation, text: str) -> str:
        property, value = self._described(one)
        return text.format(property=property, value=value)

    def _offered(self, one: Observation, wrong: Sequence[str]) -> str:
        names = [one.device, *wrong]
        self._random(one).shuffle(names)
        return f"{self._reversed(one, REVERSED[0])} {', '.join(names[:-1])} or {names[-1]}?"

    def _other_devices(self, one: Observation) -> list[str]:
        """Devices whose value of that property is another, first such that have one."""
        right = {other.device for other in self._every if self._described(other) == self._described(one)}
        having = {other.device for other in self._every if other.property == one.property} - right
        rest = set(self._devices) - having - right
        return shuffled(self._random(one), having, rest)[: CHOICES - 1]

    def _wrong_values(self, one: Observation) -> list[str]:
        values = {self._example[other].completion for other in self._every if other.property == one.property}
        return shuffled(self._random(one), values - {self._example[one].completion})[:WRONG_VALUES]

    def _rivals(self, one: Observation, count: int) -> list[str]:
        """Questions about other objects that do not have that value: those of the same property first."""
        value = self._example[one].completion
        others = (object for object in self._objects if self._known.get(object) != value)
        nearest = sorted(others, key=lambda object: (object[1] != one.property, object not in self._known))
        return [self._question(one, *object) for object in nearest[:count]]

    @cached_property
    def _objects(self) -> list[Object]:
        """All objects, known or not, in one order, so that facts have most of their rivals in common."""
        return shuffled(Random(self._seed), set(product(self._devices, self._properties)))

    @cached_property
    def _known(self) -> dict[Object, str]:
        return {(one.device, one.property): self._example[one].completion for one in self._every}

    @cached_property
    def _properties(self) -> list[str]:
        return sorted({one.property for one in self._every})

    def _question(self, like: Observation, device: str, property: str) -> str:
        other = like.model_copy(update={"device": device, "property": property})
        return self._of.example(other).prompt

    def _random(self, one: Observation) -> Random:
        return Random(f"{self._seed}/{one.fact.path}")


def shuffled(random: Random, *tiers: Set[Item]) -> list[Item]:
    """Tier after tier, each in an order of its own that the seed repeats."""
    found = list[Item]()
    for tier in tiers:
        ordered = sorted(tier, key=str)
        random.shuffle(ordered)
        found += ordered
    return found
