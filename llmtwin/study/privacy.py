"""What an adapter file gives away of sealed facts without the key. It knows no process and no plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from llmtwin.models.engine.api import Engine, Request, turn
from llmtwin.study.measure import Figures, rate
from llmtwin.study.progress import Advance
from llmtwin.study.truth import HomeTruth
from llmtwin.twins.audit import unbeaten
from llmtwin.twins.home import facts
from llmtwin.twins.intervals import wilson

CANDIDATES = 100
ASKED_TOGETHER = 16
SAMPLES = 3
SAMPLE_TOKENS_MAX = 8


@dataclass(frozen=True)
class Secret:
    """A sealed fact in plain."""

    twin: str
    device: str
    property: str
    value: str


def secrets_of(home: HomeTruth, count: int, rng: Random) -> list[Secret]:
    """So many of a home's sealed facts, as an attacker would ask for them."""
    every = [Secret(home.twin, one.device, one.property, str(one.fact.value)) for one in home.sealed]
    return rng.sample(every, min(count, len(every)))


def candidates(
    home: HomeTruth, homes: Sequence[HomeTruth], secrets: Sequence[Secret], rng: Random
) -> list[tuple[str, str]]:
    """A hundred objects: those asked for, the home's other sealed ones, and decoys from other homes."""
    asked = [(one.device, one.property) for one in secrets if one.twin == home.twin]
    own = [(one.device, one.property) for one in home.sealed]
    kinds = sorted({one.property for other in homes for one in other.sealed})
    made = [(device.name, property) for device in home.description.devices for property in kinds]
    rng.shuffle(made)
    found = list(dict.fromkeys([*asked, *own, *made]))[:CANDIDATES]
    rng.shuffle(found)
    return found


def attack(
    engine: Engine,
    adapters: Mapping[str, tuple[str, ...]],
    secrets: Sequence[Secret],
    objects: Mapping[str, Sequence[tuple[str, str]]],
    advance: Advance,
) -> Figures:
    """How often a secret's true object is the one, of many, under which its value is the likeliest.

    The adversary holds the adapter file (`adapters`: a twin's stack), the question that adapters learn, and
    the values. `objects` are each twin's candidates, the true ones among them, as (device, property).
    `advance` is called for each secret that is beaten.
    """

    rivals = {one: objects[one.twin] for one in secrets}
    found = likeliest(engine, adapters, rivals, advance)
    low, high = wilson(len(found), len(secrets))
    return {
        **rate("sealed_attack_top1", (one in found for one in secrets)),
        "sealed_attack_low": low,
        "sealed_attack_high": high,
        "sealed_attack_chance": 1 / CANDIDATES,
    }


def likeliest(
    engine: Engine,
    adapters: Mapping[str, tuple[str, ...]],
    rivals: Mapping[Secret, Sequence[tuple[str, str]]],
    advance: Advance,
) -> frozenset[Secret]:
    """The secrets whose value is likelier under their own object than under each of their rivals."""

    def score(pairs: Sequence[tuple[Secret, tuple[str, str]]]) -> list[float]:
        asked = [(engine.chat(turn(facts.question(*candidate))), one) for one, candidate in pairs]
        return engine.score([(prompt, one.value, adapters[one.twin]) for prompt, one in asked])

    own = {one: (one.device, one.property) for one in rivals}
    return unbeaten(own, rivals, score, advance)


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
