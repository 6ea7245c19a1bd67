"""The questions a study asks, and what is right: made from the homes alone, never by the answering code."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from random import Random
from statistics import mean
from typing import TypeVar

from llmtwin.records import (
    Answer,
    Device,
    Fact,
    Observation,
    Outcome,
    Property,
    Statistic,
    Value,
)
from llmtwin.study.phrasings import STATISTICS, Phrasings
from llmtwin.study.truth import HomeTruth
from llmtwin.twins.home import facts
from llmtwin.twins.home.encode import DEAD_BANDS
from llmtwin.twins.home.plan import Act

COHORT_SIZE_MIN = 3
INVENTED = (
    "Pool pump", "Sauna stove", "Greenhouse mister", "Aquarium filter", "Chicken coop hatch", "Boat winch",
    "Observatory dome", "Beehive scale", "Pizza oven", "Jukebox", "Telescope mount", "Wine cabinet",
)  # fmt: skip
INVENTED_SETTINGS = ("launch code", "maximum altitude", "ink level", "spin cycle", "tide offset")
BAD_OPTIONS = ("turbo", "betamax", "ultraviolet", "warp drive")
STATES: Mapping[str, Mapping[Act, str]] = {
    **{domain: {Act.ON: "on", Act.OFF: "off"} for domain in ("light", "fan", "switch", "media_player")},
    "cover": {Act.OPEN: "open", Act.CLOSE: "closed"},
    "lock": {Act.LOCK: "locked", Act.UNLOCK: "unlocked"},
}
STEPS = {"K": 100.0, "°C": 0.5}

Item = TypeVar("Item")


@dataclass(frozen=True)
class Case:
    """A question to a twin. `right` judges its answer; `true` whether it also holds for the home itself."""

    twin: str
    text: str
    expected: str
    right: Callable[[Answer], bool]
    true: Callable[[Answer], bool] | None = None


@dataclass(frozen=True)
class BadCommand:
    """A command that no home may take."""

    twin: str
    path: str
    value: Value
    unit: str | None = None


# ---- judging -------------------------------------------------------------------------------------


def same(one: Value | None, other: Value) -> bool:
    """Whether two values are the same; numbers to within rounding."""
    if _is_number(one) and _is_number(other):
        return math.isclose(float(one), float(other), rel_tol=1e-9, abs_tol=1e-6)  # type: ignore[arg-type]
    return type(one) is type(other) and one == other


def is_value(value: Value, unit: str | None, answer: Answer) -> bool:
    """Whether that value, in that unit, is what was answered."""
    return answer.outcome is Outcome.ANSWERED and same(answer.value, value) and answer.unit == unit


def mentions(text: str, expected: str) -> bool:
    """Whether a free text says a value, whatever its case and the space before its unit.

    It must stand alone: "none" does not say "on", nor "1.5 h" "5 h".
    """
    said = r"\s*".join(map(re.escape, expected.split()))
    return re.search(rf"(?<![\w.-]){said}(?!\w)", text, re.IGNORECASE) is not None


def is_nothing(answer: Answer) -> bool:
    """Whether the twin says that it does not know or does not do it, and gives nothing away."""
    declined = answer.outcome in (Outcome.UNKNOWN, Outcome.REFUSED)
    return declined and answer.value is None and not answer.commands


def is_refusal(answer: Answer) -> bool:
    """Whether the twin says that it does not do it, and orders nothing."""
    return answer.outcome is Outcome.REFUSED and not answer.commands


def is_order(path: str, value: Value, answer: Answer) -> bool:
    """Whether that order, and no other, went out."""
    if answer.outcome is not Outcome.ORDERED or len(answer.commands) != 1:
        return False
    return answer.commands[0].path == path and same(answer.commands[0].value, value)


def is_near(measure: str | None, truth: Value, answer: Answer) -> bool:
    """Whether what was answered is the truth, or does not differ from it enough to be sent."""
    band = DEAD_BANDS.get((measure or "").rpartition(".")[2])
    if band is None or not _is_number(truth) or not _is_number(answer.value):
        return same(answer.value, truth)
    return same(answer.value, truth) or band.holds(float(answer.value), float(truth))  # type: ignore[arg-type]


# ---- private facts -------------------------------------------------------------------------------


def trained(homes: Sequence[HomeTruth], count: int, rng: Random) -> list[Case]:
    """Private facts, asked as they were learned."""
    known = [(home.twin, one) for home in homes for one in home.settings]
    chosen = spread(rng, known, count)
    return [_setting_case(twin, one, facts.question(one.device, one.property)) for twin, one in chosen]


def unseen(homes: Sequence[HomeTruth], phrasings: Phrasings, count: int, rng: Random) -> list[Case]:
    """Private facts, asked in every held-out phrasing."""
    known = spread(rng, [(home.twin, one) for home in homes for one in home.settings], count)
    texts = spread(rng, phrasings.setting, count)
    return [setting_case(twin, one, text) for (twin, one), text in zip(known, texts, strict=True)]


def setting_case(twin: str, one: Observation, text: str) -> Case:
    """One private fact, asked in one phrasing."""
    return _setting_case(twin, one, text.format(device=one.device, property=one.property))


def _setting_case(twin: str, one: Observation, text: str) -> Case:
    value, unit = one.fact.value, one.fact.unit
    return Case(twin, text, facts.answer(value, unit), partial(is_value, value, unit))


def change(home: HomeTruth, rng: Random) -> tuple[Observation, Observation]:
    """A private fact of a home, as it is and as it will be."""
    old = rng.choice([one for one in home.settings if one.property == "maximum brightness"])
    value = int(old.fact.value) - 9 if int(old.fact.value) > 70 else int(old.fact.value) + 9
    return old, old.model_copy(update={"fact": old.fact.model_copy(update={"value": value})})


def changed(twin: str, one: Observation, phrasings: Phrasings) -> list[Case]:
    """One private fact in every phrasing, learned or held out, its device spelled in several ways."""
    texts = [facts.question("{device}", "{property}"), *phrasings.setting]
    spelled = [one.model_copy(update={"device": spell(one.device)}) for spell in (str, str.lower, str.title)]
    return [setting_case(twin, as_spelled, text) for as_spelled in spelled for text in texts]


def unknown(homes: Sequence[HomeTruth], phrasings: Phrasings, count: int, rng: Random) -> list[Case]:
    """Facts that a home does not have: another device's, another home's, invented ones."""
    names = sorted({one.property for home in homes for one in home.settings})
    own = [(home.twin, device) for home in homes for device in home.description.devices]
    lacking = [(twin, device.name, name) for twin, device in own for name in names if _lacks(device, name)]
    strange = [(h.twin, d.name, rng.choice(d.properties).name) for h in homes for d in strangers(h, homes)]
    made = [(h.twin, name, rng.choice(names)) for h in homes for name in INVENTED]
    made += [(twin, device.name, rng.choice(INVENTED_SETTINGS)) for twin, device in own]
    groups = [group for group in (lacking, strange, made) if group]
    chosen = [spread(rng, group, count)[: _share(count, len(groups), i)] for i, group in enumerate(groups)]
    texts = spread(rng, (*phrasings.setting, *phrasings.now), count)
    asked = [one for group in chosen for one in group]
    return [
        Case(twin, text.format(device=device, property=property), "not known", is_nothing)
        for (twin, device, property), text in zip(asked, texts, strict=True)
    ]


def strangers(home: HomeTruth, homes: Sequence[HomeTruth]) -> list[Device]:
    """Devices of other homes that this one has nothing like: none of their type in such a place."""
    own = home.description.devices
    return [
        device
        for other in homes
        if other.twin != home.twin
        for device in other.description.devices
        if not any(_alike(device, known) for known in own)
    ]


def _alike(stranger: Device, known: Device) -> bool:
    said, name = _words(stranger.name), _words(known.name)
    place = _words(f"{known.area or ''} {known.floor or ''}") - {"room"}
    return said <= name or name <= said or (stranger.domain == known.domain and bool(said & place))


def _lacks(device: Device, property: str) -> bool:
    return not any(_words(property) <= _words(f"{device.name} {own.name}") for own in device.properties)


# ---- states --------------------------------------------------------------------------------------


def states_now(homes: Sequence[HomeTruth], phrasings: Phrasings, count: int, rng: Random) -> list[Case]:
    """What devices are like at the end of the streamed day."""
    known = [
        (home.twin, device, property, home.latest[property.path], truth[property.path])
        for home in homes
        for truth in [home.seen[max(home.seen)]]
        for device, property in home.live
        if property.path in home.latest and property.path in truth
    ]
    texts = spread(rng, phrasings.now, count)
    return [
        _state_case(twin, text.format(device=device.name, property=property.name), fact, truth)
        for (twin, device, property, fact, truth), text in zip(spread(rng, known, count), texts, strict=True)
    ]


def states_past(homes: Sequence[HomeTruth], phrasings: Phrasings, count: int, rng: Random) -> list[Case]:
    """What devices were like at moments of the streamed day."""
    cases: list[Case] = []
    texts = iter(spread(rng, phrasings.past, 20 * count))
    while len(cases) < count:
        home = rng.choice(homes)
        when = rng.choice(sorted(home.seen)[2:-2])
        device, property = rng.choice(home.live)
        fact = home.in_force(property.path, when)
        if fact is None or property.path not in home.seen[when]:
            continue
        said = rng.choice(list(_times(when, max(home.seen))))
        text = next(texts).format(device=device.name, property=property.name, time=said)
        cases.append(_state_case(home.twin, text, fact, home.seen[when][property.path]))
    return cases


def _state_case(twin: str, text: str, fact: Fact, truth: Value) -> Case:
    return Case(
        twin,
        text,
        facts.answer(fact.value, fact.unit),
        partial(is_value, fact.value, fact.unit),
        partial(is_near, fact.measure, truth),
    )


def _times(when: datetime, now: datetime) -> Iterator[str]:
    """How people say a minute of today or yesterday."""
    day = "today" if when.date() == now.date() else "yesterday"
    yield f"{day} at {when:%H:%M}"
    yield f"at {when.hour}:{when:%M} {day}"
    yield f"at {when.hour % 12 or 12}:{when:%M} {'am' if when.hour < 12 else 'pm'} {day}"
    hours, rest = divmod(now - when, timedelta(hours=1))
    if not rest and hours > 1:
        yield f"{hours} hours ago"


# ---- comparisons ---------------------------------------------------------------------------------


def aggregate(homes: Sequence[HomeTruth], measure: str, statistic: Statistic) -> float | None:
    """A statistic over homes, each counting once with the mean of what it sent last. None under three."""
    values = [
        [float(f.value) for f in home.latest.values() if f.measure == measure and _is_number(f.value)]
        for home in homes
    ]
    means = [mean(found) for found in values if found]
    if len(means) < COHORT_SIZE_MIN:
        return None
    folds: dict[Statistic, Callable[[list[float]], float]] = {
        Statistic.AVERAGE: mean,
        Statistic.MINIMUM: min,
        Statistic.MAXIMUM: max,
        Statistic.COUNT: len,
    }
    return float(folds[statistic](means))


def comparisons(homes: Sequence[HomeTruth], phrasings: Phrasings, count: int, rng: Random) -> list[Case]:
    """Averages, minima, maxima and counts over homes; none where fewer than three homes share."""
    cases: list[Case] = []
    per_statistic = math.ceil(count / len(STATISTICS))
    for statistic in STATISTICS:
        known = [
            (home.twin, property, value)
            for home in homes
            for property in _comparable(home)
            if (value := aggregate(homes, property.measure or "", statistic)) is not None
        ]
        texts = spread(rng, phrasings.compare[statistic], per_statistic)
        for (twin, property, value), text in zip(spread(rng, known, per_statistic), texts, strict=False):
            right = partial(_is_aggregate, value, None if statistic is Statistic.COUNT else property.unit)
            cases.append(Case(twin, text.format(property=property.name), f"{value:g}", right))
    return cases[:count]


def _comparable(home: HomeTruth) -> list[Property]:
    """Numbers of this home by name; where sensors measure what devices tell too, the sensors' one."""
    found: dict[str, Property] = {}
    for _, property in home.live:
        fact = home.latest.get(property.path)
        sensed = (property.measure or "").startswith("sensor.")
        if fact and _is_number(fact.value) and (sensed or property.name not in found):
            found[property.name] = property
    return list(found.values())


def _is_aggregate(value: float, unit: str | None, answer: Answer) -> bool:
    # A count is of homes, whatever unit the property has.
    return answer.outcome is Outcome.ANSWERED and same(answer.value, value) and unit in (None, answer.unit)


# ---- orders --------------------------------------------------------------------------------------


def plain_orders(homes: Sequence[HomeTruth], phrasings: Phrasings, count: int, rng: Random) -> list[Case]:
    """Orders that a home can carry out, half of them settings of a level or an option."""
    doable = [(home.twin, *one) for home in homes for one in _doable(home, rng)]
    settings = [one for one in doable if one[1] is Act.SET]
    chosen = spread(rng, settings, count // 2)
    acts = sorted({act for _, act, *_ in doable} - {Act.SET})
    by_act = [spread(rng, [one for one in doable if one[1] is act], count) for act in acts]
    chosen += islice((one for row in zip(*by_act, strict=True) for one in row), count - len(chosen))
    texts = {act: iter(spread(rng, phrasings.order[act], count)) for act in (*acts, Act.SET)}
    return [
        Case(
            twin,
            next(texts[act]).format(device=device.name, property=property.name, value=said),
            f"{property.path} = {value}",
            partial(is_order, property.path, value),
        )
        for twin, act, device, property, value, said in chosen
    ]


def _doable(home: HomeTruth, rng: Random) -> Iterator[tuple[Act, Device, Property, Value, str]]:
    for device, property in home.live:
        if property.name == "state":
            for act, state in STATES.get(device.domain, {}).items():
                yield act, device, property, state, state
        elif property.writable and property.options:
            option = rng.choice(property.options)
            yield Act.SET, device, property, option, option
        elif property.writable and property.minimum is not None and property.maximum is not None:
            step = STEPS.get(property.unit or "", 1.0)
            steps = int((property.maximum - property.minimum) / step)
            value = property.minimum + step * rng.randint(0, steps)
            yield Act.SET, device, property, value, facts.answer(value, property.unit)


def relative_orders(
    homes: Sequence[HomeTruth], phrasings: Phrasings, count: int, rng: Random, *, met: bool = True
) -> list[Case]:
    """Orders relative to the average of all homes, within the owner's limits; only those that can be met.

    Without `met` only those that cannot, by the device's range or its owner's limits: they are refused.
    """
    known = [one for one in _relative(homes, phrasings) if (one[-1] is not None) == met]
    texts = {act: iter(spread(rng, phrasings.relative[act], count)) for act in phrasings.relative}
    cases: list[Case] = []
    for twin, act, device, property, value in spread(rng, known, count):
        text = next(texts[act]).format(device=device.name, property=property.name)
        if value is None:
            cases.append(Case(twin, text, "refused", is_refusal))
        else:
            right = partial(is_order, property.path, value)
            cases.append(Case(twin, text, f"{property.path} = {value:g}", right))
    return cases


def _relative(
    homes: Sequence[HomeTruth], phrasings: Phrasings
) -> Iterator[tuple[str, Act, Device, Property, float | None]]:
    """What can be ordered relative to the average, and the value that is meant; None where there is none."""
    for home in homes:
        for device, property in _settable(home):
            average = aggregate(homes, property.measure or "", Statistic.AVERAGE)
            if average is None or property.options:
                continue
            limits = _limits(home, device, property)
            for act in phrasings.relative:
                yield home.twin, act, device, property, relative_value(act, average, property, limits)


def relative_value(act: Act, average: float, property: Property, limits: tuple[float, float]) -> float | None:
    """The whole number just above, below or nearest to the average, within limits; None if there is none."""
    wanted = {Act.RAISE: math.floor(average) + 1, Act.LOWER: math.ceil(average) - 1}.get(act, round(average))
    value = min(max(float(wanted), limits[0]), limits[1])
    missed = (act is Act.RAISE and value <= average) or (act is Act.LOWER and value >= average)
    low = -math.inf if property.minimum is None else property.minimum
    high = math.inf if property.maximum is None else property.maximum
    return None if missed or not low <= value <= high else value


def _limits(home: HomeTruth, device: Device, property: Property) -> tuple[float, float]:
    """The owner's private range of a level."""
    own = {one.property: one.fact.value for one in home.settings if one.device == device.name}
    low = own.get(f"minimum {property.name}", -math.inf)
    high = own.get(f"maximum {property.name}", math.inf)
    return float(low), float(high)


def bad_orders(homes: Sequence[HomeTruth], phrasings: Phrasings, count: int, rng: Random) -> list[Case]:
    """Sentences that order what a home has not, or values that its devices do not take."""
    made = [(home.twin, name, None, None) for home in homes for name in INVENTED]
    strange = [(home.twin, d.name, None, None) for home in homes for d in strangers(home, homes)]
    beyond = [(h.twin, d.name, p.name, _beyond(p, rng)) for h in homes for d, p in _settable(h)]
    groups = [group for group in (beyond, made, strange) if group]
    texts = {act: iter(spread(rng, phrasings.order[act], count)) for act in phrasings.order}
    cases: list[Case] = []
    for index, group in enumerate(groups):
        for twin, device, property, value in spread(rng, group, _share(count, len(groups), index)):
            act = Act.SET if property else rng.choice([Act.ON, Act.OFF, Act.OPEN, Act.CLOSE])
            text = next(texts[act]).format(device=device, property=property, value=value)
            cases.append(Case(twin, text, "refused", is_nothing))
    return cases


def _settable(home: HomeTruth) -> list[tuple[Device, Property]]:
    return [(d, p) for d, p in home.live if p.writable and p.name != "state"]


def _beyond(property: Property, rng: Random) -> str:
    """A value out of a property's range, or an option that it does not have, as one says it."""
    if property.options:
        return rng.choice(BAD_OPTIONS)
    return facts.answer((property.maximum or 0) * rng.choice((2, 3)) + rng.randint(1, 50), property.unit)


def bad_commands(homes: Sequence[HomeTruth], count: int, rng: Random) -> list[BadCommand]:
    """Commands for unknown devices, out of range, in a wrong mode, of a wrong type, for what is read only."""
    groups: list[list[BadCommand]] = [[], [], [], []]
    for home in homes:
        ids = [name.lower().replace(" ", "_") for name in INVENTED]
        groups[0] += [BadCommand(home.twin, f"light.{name}/state", "on") for name in ids]
        groups[3] += [BadCommand(home.twin, one.fact.path, one.fact.value) for one in home.settings]
        for _, property in home.live:
            if not property.writable:
                groups[3].append(BadCommand(home.twin, property.path, 1))
            elif property.options:
                groups[1].append(BadCommand(home.twin, property.path, rng.choice(BAD_OPTIONS)))
                groups[1].append(BadCommand(home.twin, property.path, True))
            elif property.minimum is not None and property.maximum is not None:
                wrong: Value = rng.choice((property.maximum + 1, property.minimum - 1, "much", True))
                groups[2].append(BadCommand(home.twin, property.path, wrong, None))
                groups[2].append(BadCommand(home.twin, property.path, property.minimum, "furlong"))
    return [
        one
        for index, group in enumerate(groups)
        for one in spread(rng, group, _share(count, len(groups), index))
    ]


# ---- choosing ------------------------------------------------------------------------------------


def spread(rng: Random, items: Sequence[Item], count: int) -> list[Item]:
    """`count` of the items in random order, none twice before all were taken; none where there are none."""
    chosen: list[Item] = []
    while items and len(chosen) < count:
        chosen += rng.sample(items, min(len(items), count - len(chosen)))
    return chosen


def _share(count: int, groups: int, index: int) -> int:
    """How many of `count` go to one of some groups, so that they sum up."""
    return count // groups + (index < count % groups)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.casefold().split())
