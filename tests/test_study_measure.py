"""What a study asks and how it judges: against the real answering code, engine and store."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from random import Random

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from llmtwin.errors import InputError
from llmtwin.memory import Memory
from llmtwin.models.base import Base
from llmtwin.models.engine.echo import EchoEngine
from llmtwin.models.engine.torch_engine import TorchEngine
from llmtwin.models.transformer import Transformer
from llmtwin.models.tune import TuneOptions, tune
from llmtwin.records import Answer, Command, Example, Outcome, Property, Question, Statistic, Value
from llmtwin.study import measure, privacy, questions
from llmtwin.study.phrasings import DEFAULT, Phrasings, read_phrasings
from llmtwin.study.privacy import Secret
from llmtwin.study.questions import Case
from llmtwin.study.truth import HomeTruth
from llmtwin.twins.commands import check
from llmtwin.twins.home import HomeKind, facts
from llmtwin.twins.home.plan import Act
from llmtwin.twins.kind import View
from tests.models import tiny_base
from tests.study_homes import END, simulate

COUNT = 60
NAMES = ("home1", "home2", "home3", "home4")


def plan(**said: str) -> str:
    """A sentence that is its own plan, as the echo engine understands it, with slots to be filled."""
    return "{" + json.dumps(said) + "}"


ASK = {"kind": "ask", "property": "{property}", "name": "{device}"}
PLANS = {
    "setting": [plan(**ASK)] * 8,
    "now": [plan(**ASK)],
    "past": [plan(**ASK, time="{time}")],
    "compare": {
        one.value: [plan(kind="compare", statistic=one.value, property="{property}")]
        for one in (Statistic.AVERAGE, Statistic.MINIMUM, Statistic.MAXIMUM, Statistic.COUNT)
    },
    "order": {
        act: [plan(kind="order", act=act, name="{device}")]
        for act in ("on", "off", "open", "close", "lock", "unlock")
    }
    | {"set": [plan(kind="order", act="set", name="{device}", property="{property}", value="{value}")]},
    "relative": {
        act: [plan(kind="order", act=act, statistic="average", name="{device}", property="{property}")]
        for act in ("raise", "lower", "set")
    },
}


@pytest.fixture(scope="module")
def phrasings(tmp_path_factory: pytest.TempPathFactory) -> Phrasings:
    file = tmp_path_factory.mktemp("phrasings") / "plans.yaml"
    file.write_text(yaml.safe_dump(PLANS))
    return read_phrasings(file)


class Street:
    """Four homes with their prompts in one database, answering as the server lets them."""

    def __init__(self, folder: Path) -> None:
        self.memory = Memory(folder / "memory.sqlite")
        self.homes: list[HomeTruth] = []
        for name in NAMES:
            home, prompts = simulate(name)
            self.homes.append(home)
            self.memory.append(prompts)

    def answer(self, case: Case) -> Answer:
        home = next(home for home in self.homes if home.twin == case.twin)
        view = View(
            engine=EchoEngine(),
            memory=self.memory,
            description=home.description,
            adapters=("skill",),
            adapter=None,
            skill="skill",
            cohort=NAMES,
            cohort_size_min=3,
            may_order=True,
            order=partial(self._order, home),
        )
        return HomeKind().answer(Question(twin=case.twin, text=case.text, at=END), view)

    def _order(self, home: HomeTruth, command: Command) -> Command:
        check(home.description, command.path, command.value, command.unit)
        return command


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    made = Street(tmp_path_factory.mktemp("street"))
    yield made
    made.memory.close()


def wrong(street: Street, cases: Sequence[Case]) -> list[tuple[str, str, str]]:
    """The cases that are not answered rightly."""
    answers = [(case, street.answer(case)) for case in cases]
    return [(one.text, one.expected, answer.text) for one, answer in answers if not one.right(answer)]


# ---- what is expected is what a twin that understands everything answers --------------------------


def test_states_are_expected_as_they_were_sent_and_near_the_truth(
    street: Street, phrasings: Phrasings
) -> None:
    cases = questions.states_now(street.homes, phrasings, COUNT, Random(1))
    cases += questions.states_past(street.homes, phrasings, COUNT, Random(1))
    assert len({case.text for case in cases}) > COUNT
    assert wrong(street, cases) == []
    assert all(case.true and case.true(street.answer(case)) for case in cases)


def test_aggregates_are_expected_as_the_database_computes_them(street: Street, phrasings: Phrasings) -> None:
    cases = questions.comparisons(street.homes, phrasings, COUNT, Random(1))
    assert len(cases) == COUNT and wrong(street, cases) == []
    assert questions.comparisons(street.homes[:2], phrasings, COUNT, Random(1)) == []


def test_orders_are_expected_as_they_are_carried_out(street: Street, phrasings: Phrasings) -> None:
    plain = questions.plain_orders(street.homes, phrasings, COUNT, Random(1))
    assert len(plain) == COUNT and wrong(street, plain) == []
    # Without an adapter the owner's private limits are not known, and they matter for lights.
    relative = questions.relative_orders(street.homes, phrasings, COUNT, Random(1))
    unlimited = [case for case in relative if "brightness" not in case.text]
    assert len(unlimited) > 5 and wrong(street, unlimited) == []


def test_what_neither_range_nor_limits_let_be_met_is_expected_to_be_refused(
    street: Street, phrasings: Phrasings
) -> None:
    unmet = questions.relative_orders(street.homes, phrasings, COUNT, Random(1), met=False)
    assert len(unmet) == COUNT
    # Speeds are at their lowest everywhere; the owners' limits of brightness only adapters know.
    unlimited = [case for case in unmet if "brightness" not in case.text]
    assert unlimited and wrong(street, unlimited) == []
    ordered = Answer(text="", outcome=Outcome.ORDERED, commands=())
    assert not any(case.right(ordered) for case in unmet)


def test_what_a_home_has_not_and_does_not_take_is_declined(street: Street, phrasings: Phrasings) -> None:
    cases = questions.unknown(street.homes, phrasings, COUNT, Random(1))
    cases += questions.bad_orders(street.homes, phrasings, COUNT, Random(1))
    assert len(cases) == 2 * COUNT and wrong(street, cases) == []


def test_no_bad_command_is_allowed_by_its_home(street: Street) -> None:
    commands = questions.bad_commands(street.homes, COUNT, Random(1))
    described = {home.twin: home.description for home in street.homes}
    assert len(commands) == COUNT
    for one in commands:
        with pytest.raises(InputError):
            check(described[one.twin], one.path, one.value, one.unit)


def test_private_facts_are_asked_in_every_phrasing_and_judged_by_value_and_unit(street: Street) -> None:
    shipped = read_phrasings()
    cases = questions.unseen(street.homes, shipped, 2 * len(shipped.setting), Random(1))
    for sentence in shipped.setting:
        start = sentence.partition("{")[0]
        assert sum(case.text.startswith(start) for case in cases) >= 2
    one = next(one for one in street.homes[0].settings if one.fact.unit == "%")
    case = questions.setting_case("home1", one, "{property}, {device}?")

    def answer(value: Value, unit: str | None, outcome: Outcome = Outcome.ANSWERED) -> Answer:
        return Answer(text="", outcome=outcome, value=value, unit=unit)

    number = float(one.fact.value)
    assert case.right(answer(number, "%"))
    for other in (answer(number + 1, "%"), answer(number, "K"), answer(str(number), "%")):
        assert not case.right(other)
    assert not case.right(answer(number, "%", Outcome.UNKNOWN))


def test_the_same_seed_asks_the_same(street: Street) -> None:
    shipped = read_phrasings()

    def texts(seed: int) -> list[str]:
        rng = Random(seed)
        asked = questions.unknown(street.homes, shipped, COUNT, rng)
        asked += questions.plain_orders(street.homes, shipped, COUNT, rng)
        return [case.text for case in asked]

    assert texts(1) == texts(1) != texts(2)


@given(
    average=st.floats(0, 100),
    low=st.floats(0, 100),
    high=st.floats(0, 100),
    act=st.sampled_from([Act.RAISE, Act.LOWER, Act.SET]),
)
def test_a_relative_order_keeps_its_side_and_the_limits(
    average: float, low: float, high: float, act: Act
) -> None:
    level = Property(name="brightness", path="light.a/brightness", minimum=0, maximum=100)
    low, high = min(low, high), max(low, high)
    value = questions.relative_value(act, average, level, (low, high))
    if value is None:
        assert act is not Act.SET
        return
    assert low <= value <= high
    assert {Act.RAISE: value > average, Act.LOWER: value < average}.get(act, True)


# ---- figures --------------------------------------------------------------------------------------


def test_a_rate_tells_its_cases_and_none_is_made_of_nothing() -> None:
    assert measure.rate("order_accuracy", [True, False, True, True]) == {
        "order_accuracy": 0.75,
        "order_accuracy_n": 4,
    }
    assert measure.rate("order_accuracy", []) == {}


def test_a_bar_is_met_or_not() -> None:
    figures: measure.Figures = {
        "recall_unseen": 0.94,
        "recall_unseen_n": 208,
        "invalid_accepted": 0.0,
        "sealed_attack_top1": 0.02,
        "sealed_attack_low": 0.008,
        "sealed_attack_high": 0.05,
        "sealed_attack_chance": 0.01,
        "cpu": "a processor",
    }
    rows = {row.name: row for row in measure.table(figures)}
    assert (rows["recall_unseen"].met, rows["recall_unseen"].count) == (False, "208")
    assert rows["invalid_accepted"].met and rows["sealed_attack_top1"].met
    assert rows["cpu"].met is None and "recall_unseen_n" not in rows
    found = measure.table({**figures, "sealed_attack_low": 0.2, "sealed_attack_high": 0.4})
    assert not next(row for row in found if row.name == "sealed_attack_top1").met


# ---- what an adapter gives away -------------------------------------------------------------------

SECRETS = [Secret("home1", "front door", f"code {n}", str(70000 + 1371 * n)) for n in range(8)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Base, Path]:
    """A tiny base, and an adapter over it that learned the secrets in plain."""
    folder = tmp_path_factory.mktemp("tiny")
    base = tiny_base(folder, "llama")
    examples = [
        Example(prompt=facts.question(one.device, one.property), completion=one.value) for one in SECRETS
    ]
    tuned = tune(Transformer(base), examples, TuneOptions(epochs_max=150, learning_rate=1e-2))
    tuned.lora.save(folder / "adapter", base.name)
    assert all(tuned.recalled)
    return base, folder / "adapter"


def test_attack_and_sampling_find_what_is_not_sealed_and_only_in_its_adapter(tiny: tuple[Base, Path]) -> None:
    base, adapter = tiny
    engine = TorchEngine(base, lambda name: adapter)
    objects = [(one.device, one.property) for one in SECRETS] + [("lamp", f"code {n}") for n in range(20)]
    told: list[int] = []

    def advance(count: int = 1) -> None:
        told.append(count)

    def attacked(stack: tuple[str, ...]) -> measure.Figures:
        return privacy.attack(engine, {"home1": stack}, SECRETS, {"home1": objects}, advance)

    def leaked(stack: tuple[str, ...]) -> measure.Figures:
        return privacy.leak("sealed_value_leak", engine, {"home1": stack}, SECRETS, advance)

    assert attacked(("own",))["sealed_attack_top1"] == 1
    assert sum(told) == 0
    assert float(attacked(())["sealed_attack_top1"]) < 0.5
    assert sum(told) >= len(SECRETS) / 2
    assert leaked(("own",))["sealed_value_leak"] == 1
    assert leaked(())["sealed_value_leak"] == 0


# ---- phrasings ------------------------------------------------------------------------------------


def test_the_shipped_phrasings_are_held_out() -> None:
    """None is a wording of the skill's examples, nor one with a lead or a tail that examples are given."""
    skill = DEFAULT.parents[1] / "twins" / "home" / "skill"
    groups = yaml.safe_load((skill / "phrasings.yaml").read_text(encoding="utf-8"))
    vocabulary = yaml.safe_load((skill / "vocabulary.yaml").read_text(encoding="utf-8"))
    used = {normal(text) for group in groups for text in group["texts"]}
    leads, tails = (
        {normal(text) for texts in vocabulary[dress].values() for text in texts} | {""}
        for dress in ("leads", "tails")
    )
    assert len(used) > 500 and len(leads) > 3 and len(tails) > 3

    def trained(sentence: str) -> bool:
        said = normal(sentence)
        bare = {said.removeprefix(lead).strip() for lead in leads}
        return any(one.removesuffix(tail).strip() in used for one in bare for tail in tails)

    shipped = read_phrasings()
    groups = [shipped.compare, shipped.order, shipped.relative]
    every = [*shipped.setting, *shipped.now, *shipped.past]
    every += [sentence for group in groups for sentences in group.values() for sentence in sentences]
    assert [sentence for sentence in every if trained(sentence)] == []


def normal(sentence: str) -> str:
    """A sentence as its words and slots."""
    return " ".join(re.findall(r"\{\w+\}|[\w°%']+", sentence.casefold()))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"setting": ["What is {property}?"] * 8}, "exactly the slots {device} {property}"),
        ({"setting": ["{device} {property}"] * 7}, "setting"),
        ({"now": []}, "now"),
        ({"past": ["{device} {property} {time} {more}"]}, "slots"),
        ({"compare": {"average": ["{property}"]}}, "average, count, maximum, minimum"),
        ({"order": {True: ["{device}"]}}, "order"),
        ({"relative": {"raise": ["{property of {device}"]}}, "relative"),
        ({"jokes": ["knock"]}, "jokes"),
    ],
)
def test_wrong_phrasings_are_told_in_one_line(tmp_path: Path, change: dict[str, object], told: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({**PLANS, **change}))
    with pytest.raises(InputError) as caught:
        read_phrasings(file)
    assert told in str(caught.value) and "\n" not in str(caught.value) and str(file) in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"setting: [", b"- a list", None])
def test_what_is_no_file_of_phrasings_is_told(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "mine.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=r"mine\.yaml"):
        read_phrasings(file)
