"""How a home twin answers, with a real prompt database and the echo engine: questions are plans as JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from llmtwin.memory import Memory
from llmtwin.models.engine.api import Completion, Request
from llmtwin.models.engine.echo import EchoEngine
from llmtwin.records import (
    Adapter,
    Answer,
    Command,
    Description,
    Device,
    Fact,
    Manifest,
    Outcome,
    Prompt,
    Property,
    Question,
    Value,
    now,
)
from llmtwin.twins.commands import check
from llmtwin.twins.home import HomeKind
from llmtwin.twins.kind import View
from tests.home_devices import HEATING

AT = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)
LAMP = Device(
    id="light.lamp",
    name="Bedroom lamp",
    domain="light",
    area="Bedroom",
    properties=(
        Property(
            name="state", path="light.lamp/state", measure="light.state", writable=True, options=("on", "off")
        ),
        Property(
            name="brightness",
            path="light.lamp/brightness",
            unit="%",
            measure="light.brightness",
            writable=True,
            minimum=0,
            maximum=100,
        ),
        Property(name="wake-up color", path="select.lamp_color/value", private=True),
    ),
)
HALL = LAMP.model_copy(
    update={
        "id": "light.hall",
        "name": "Hall light",
        "area": "Hall",
        "properties": tuple(
            p.model_copy(update={"path": p.path.replace("lamp", "hall")}) for p in LAMP.properties[:2]
        ),
    }
)
DOOR = Device(
    id="lock.door",
    name="Front door",
    domain="lock",
    area="Hall",
    properties=(
        Property(
            name="state",
            path="lock.door/state",
            measure="lock.state",
            writable=True,
            options=("locked", "unlocked"),
        ),
    ),
)


class Says(EchoEngine):
    """An engine that takes any sentence for one plan, as a model that is mistaken does."""

    def __init__(self, plan: str) -> None:
        self._plan = plan

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """The plan, whatever was said."""
        return [replace(made, text=self._plan) for made in super().generate(requests)]


@dataclass
class Asking:
    """A home that can be asked, and the orders that came of it."""

    memory: Memory
    orders: list[Command] = field(default_factory=list)
    cohort: tuple[str, ...] = ("h1", "h2", "h3")
    description: Description = field(default_factory=lambda: Description(devices=(LAMP, HALL, DOOR)))
    adapter: Adapter | None = None

    def order(self, command: Command) -> Command:
        check(self.description, command.path, command.value, command.unit)
        self.orders.append(command)
        return command

    def ask(self, plan: str, text: str | None = None) -> Answer:
        """The answer where the model takes `text` for that plan; without a text the plan is what was said."""
        view = View(
            engine=EchoEngine() if text is None else Says(plan),
            memory=self.memory,
            description=self.description,
            adapters=("skill:home", "h1@1"),
            adapter=self.adapter,
            skill="skill:home",
            cohort=self.cohort,
            cohort_size_min=3,
            may_order=True,
            order=self.order,
        )
        return HomeKind().answer(Question(twin="h1", text=text or plan, at=AT), view)

    def tell(self, twin: str, path: str, value: Value, at: datetime = AT, measure: str | None = None) -> None:
        fact = Fact(
            path=path, value=value, at=at, measure=measure, unit="%" if "brightness" in path else None
        )
        self.memory.append([Prompt(twin=twin, text=f"{path} {value}", facts=(fact,), at=at)])


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Asking]:
    with Memory(tmp_path / "memory.sqlite") as memory:
        yield Asking(memory)


def test_the_state_now_comes_with_the_prompt_it_was_read_from(home: Asking) -> None:
    home.tell("h1", "light.lamp/brightness", 40.0)
    answer = home.ask('{"kind":"ask","property":"brightness","name":"bedroom lamp"}')
    assert (answer.outcome, answer.value, answer.unit) == (Outcome.ANSWERED, 40.0, "%")
    assert [used.text for used in answer.receipts.prompts] == ["light.lamp/brightness 40.0"]


def test_a_past_state_is_the_one_in_force_then(home: Asking) -> None:
    home.tell("h1", "light.lamp/brightness", 40.0, AT - timedelta(hours=9))
    home.tell("h1", "light.lamp/brightness", 70.0, AT - timedelta(hours=1))
    plan = '{"kind":"ask","property":"brightness","name":"bedroom lamp","time":"at 14:30 today"}'
    assert home.ask(plan).value == 40.0
    assert home.ask(plan.replace("14:30", "8:30")).outcome is Outcome.UNKNOWN
    assert home.ask(plan.replace("at 14:30 today", "at the hop")).outcome is Outcome.UNKNOWN


def test_an_average_over_a_time_weighs_by_how_long_values_stood(home: Asking) -> None:
    home.tell("h1", "light.lamp/brightness", 0.0, AT - timedelta(hours=4))
    home.tell("h1", "light.lamp/brightness", 100.0, AT - timedelta(hours=1))
    plan = '{"kind":"ask","statistic":"average","property":"brightness","name":"bedroom lamp",'
    plan += '"time":"over the last 4 hours"}'
    assert home.ask(plan).value == pytest.approx(25.0)
    assert home.ask(plan.replace("average", "maximum")).value == 100.0


def test_whether_which_and_how_many(home: Asking) -> None:
    home.tell("h1", "light.lamp/state", "on")
    home.tell("h1", "light.hall/state", "off")
    assert home.ask('{"kind":"ask","name":"bedroom lamp","value":"on"}').text.startswith("Yes")
    assert home.ask('{"kind":"ask","name":"hall light","value":"on"}').text.startswith("No")
    assert home.ask('{"kind":"ask","statistic":"count","name":"lights","value":"on"}').value == 1
    assert (
        home.ask('{"kind":"ask","statistic":"count","name":"bedroom lamp","value":"reported"}').value == "on"
    )


@pytest.mark.parametrize(
    "plan",
    [
        '{"kind":"ask","property":"brightness","name":"toaster"}',
        '{"kind":"ask","property":"wake word","name":"bedroom lamp"}',
        '{"kind":"ask","property":"wake-up color","name":"hall light"}',
        '{"kind":"ask","property":"brightness","name":"bedroom lamp"}',  # nothing was ever sent of it
        '{"kind":"other"}',
        "no plan at all",
    ],
)
def test_what_is_not_known_is_said_to_be_unknown(home: Asking, plan: str) -> None:
    answer = home.ask(plan)
    assert answer.outcome is Outcome.UNKNOWN and answer.value is None


def test_a_private_setting_is_asked_of_the_adapter_alone(home: Asking) -> None:
    plan = '{"kind":"ask","property":"wake-up color","name":"bedroom lamp"}'
    assert home.ask(plan).outcome is Outcome.UNKNOWN  # nothing was learned yet
    digest = hashlib.sha256(b"").hexdigest()
    digests = dict.fromkeys(("base", "weights", "config", "card", "data"), digest)
    manifest = Manifest(twin="h1", version=1, kind="home", created_at=now(), **digests)
    home.adapter = Adapter(manifest=manifest, adapter_bytes=1, live=True)
    answer = home.ask(plan)
    assert answer.value == "What is the wake-up color of the Bedroom lamp?"  # the echo of what it was asked
    assert answer.receipts.adapter is not None and answer.receipts.adapter.version == 1
    assert home.ask(plan.replace("}", ',"time":"yesterday"}')).outcome is Outcome.UNKNOWN


def test_a_comparison_is_exact_and_says_how_many_stand_behind_it(home: Asking) -> None:
    for twin, value in (("h1", 10.0), ("h2", 20.0), ("h3", 60.0)):
        home.tell(twin, "light.x/brightness", value, measure="light.brightness")
    plan = '{"kind":"compare","statistic":"average","property":"brightness","name":"homes"}'
    answer = home.ask(plan)
    assert answer.value == 30.0 and answer.receipts.cohort is not None and answer.receipts.cohort.size == 3
    assert not answer.receipts.prompts
    home.cohort = ("h1", "h2")
    assert home.ask(plan).outcome is Outcome.REFUSED


@pytest.mark.parametrize(
    ("plan", "value"),
    [
        ('{"kind":"order","act":"set","statistic":"average","property":"brightness","name":"homes"}', 30.0),
        ('{"kind":"compare","statistic":"count","property":"brightness","value":"reading"}', 3.0),
        ('{"kind":"compare","statistic":"count","property":"brightness","value":"20 %"}', 1.0),
    ],
)
def test_what_speaks_of_all_homes_alone_is_a_comparison(home: Asking, plan: str, value: float) -> None:
    for twin, brightness in (("h1", 10.0), ("h2", 20.0), ("h3", 60.0)):
        home.tell(twin, "light.x/brightness", brightness, measure="light.brightness")
    answer = home.ask(plan)
    assert answer.outcome is Outcome.ANSWERED and answer.value == value


def test_the_place_of_the_asker_is_not_that_of_a_device_called_by_its_name(home: Asking) -> None:
    home.tell("h1", "light.lamp/state", "on")
    plan = '{"kind":"ask","property":"state","name":"bedroom lamp","area":"sofa"}'
    assert home.ask(plan).value == "on"
    assert home.ask(plan.replace("bedroom lamp", "lamp")).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("plan", "path", "value"),
    [
        ('{"kind":"order","act":"on","name":"bedroom lamp"}', "light.lamp/state", "on"),
        ('{"kind":"order","act":"unlock","name":"front door"}', "lock.door/state", "unlocked"),
        ('{"kind":"order","act":"set","name":"bedroom lamp","value":"40 %"}', "light.lamp/brightness", 40.0),
        ('{"kind":"order","act":"set","name":"bedroom lamp","value":"on"}', "light.lamp/state", "on"),
        (
            '{"kind":"order","act":"set","name":"bedroom lamp","value":"maximum"}',
            "light.lamp/brightness",
            100.0,
        ),
    ],
)
def test_an_order_becomes_one_desired_command(home: Asking, plan: str, path: str, value: Value) -> None:
    answer = home.ask(plan)
    assert answer.outcome is Outcome.ORDERED and "Not confirmed" in answer.text
    assert [(command.path, command.value) for command in home.orders] == [(path, value)]


def test_more_of_something_starts_from_what_it_is_now(home: Asking) -> None:
    plan = '{"kind":"order","act":"raise","property":"brightness","name":"bedroom lamp"}'
    assert home.ask(plan).outcome is Outcome.REFUSED
    home.tell("h1", "light.lamp/brightness", 40.0)
    assert home.ask(plan).value == 50.0
    assert home.ask(plan.replace("}", ',"value":"315 %"}')).outcome is Outcome.REFUSED


@pytest.mark.parametrize(("act", "value"), [("raise", 31.0), ("lower", 29.0), ("set", 30.0)])
def test_an_order_relative_to_the_others(home: Asking, act: str, value: float) -> None:
    for twin, brightness in (("h1", 10.0), ("h2", 20.0), ("h3", 60.0)):
        home.tell(twin, "light.x/brightness", brightness, measure="light.brightness")
    plan = f'{{"kind":"order","act":"{act}","statistic":"average","property":"brightness","name":"lamp"}}'
    answer = home.ask(plan)
    assert answer.value == value and answer.receipts.cohort is not None


@pytest.mark.parametrize(
    "plan",
    [
        '{"kind":"order","act":"on","name":"toaster"}',
        '{"kind":"order","act":"set","name":"bedroom lamp","value":"140 %"}',
        '{"kind":"order","act":"set","name":"bedroom lamp","value":"banana"}',
        '{"kind":"order","act":"set","property":"wake-up color","name":"bedroom lamp","value":"red"}',
        '{"kind":"order","act":"open","name":"bedroom lamp"}',
    ],
)
def test_an_order_that_the_home_cannot_take_is_refused(home: Asking, plan: str) -> None:
    assert home.ask(plan).outcome is Outcome.REFUSED
    assert not home.orders


@pytest.mark.parametrize(
    ("text", "plan", "value"),
    [
        (
            "make the mode cool on hall heating",
            '{"act":"on","name":"mode cool","area":"hall heating"}',
            "cool",
        ),
        ("make the mode cool on hall heating", '{"act":"on","name":"mode","area":"hall heating"}', "cool"),
        ("make the mode betamax on hall heating", '{"act":"on","name":"mode","area":"hall heating"}', None),
        ("make the mode cool on hall toaster", '{"act":"on","name":"mode","area":"hall toaster"}', None),
        (
            "I want betamax as the mode for the hall heating",
            '{"act":"set","property":"mode","name":"hall heating","value":"mode"}',
            None,
        ),
        (
            "betamax please for mode on the hall heating, go ahead and change it",
            '{"act":"set","property":"mode","name":"hall heating","value":"mode"}',
            None,
        ),
    ],
)
def test_an_option_that_is_said_in_full_is_set_and_no_other(
    home: Asking, text: str, plan: str, value: str | None
) -> None:
    home.description = Description(devices=(LAMP, HEATING))
    home.tell("h1", "climate.hall/mode", "heat")
    answer = home.ask(f'{{"kind":"order",{plan[1:]}', text)
    assert [command.value for command in home.orders] == ([value] if value else [])
    assert answer.outcome is (Outcome.ORDERED if value else Outcome.REFUSED)


@pytest.mark.parametrize(
    ("text", "ordered"),
    [
        ("Kill the Living room hall light, will you? I want it off.", False),
        ("please turn off Living room hall light", False),
        ("turn off the guest hall light", False),
        ("Kill the hall light, will you? I want it off.", True),
        ("turn the brightness of the hall light off", True),
        ("Turn Hall light off", True),
        ("it is late, so the Hall hall light off please", True),
    ],
)
def test_a_device_with_a_longer_name_is_another_one(home: Asking, text: str, ordered: bool) -> None:
    answer = home.ask('{"kind":"order","act":"off","name":"hall light"}', text)
    assert (answer.outcome is Outcome.ORDERED) is ordered
    assert bool(home.orders) is ordered


def test_to_be_given_a_mode_is_to_ask(home: Asking) -> None:
    home.description = Description(devices=(LAMP, HEATING))
    home.tell("h1", "climate.hall/mode", "heat")
    plan = '{"kind":"order","act":"set","property":"mode","name":"hall heating","value":"mode"}'
    assert home.ask(plan, "give me the mode of the hall heating").value == "heat"


def test_a_time_that_was_taken_for_a_device_is_a_time(home: Asking) -> None:
    home.description = Description(devices=(LAMP, HEATING))
    home.tell("h1", "climate.hall/target temperature", 18.0, AT - timedelta(hours=9))
    home.tell("h1", "climate.hall/target temperature", 21.0, AT - timedelta(hours=1))
    plan = '{"kind":"ask","property":"target temperature","name":"target temperature 3 hours ago"}'
    assert home.ask(plan, "what was hall heating showing for target temperature 3 hours ago").value == 18.0
    assert (
        home.ask(plan, "what was the oven showing for target temperature 3 hours ago").outcome
        is Outcome.UNKNOWN
    )


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("for the sitter's list: what does Bedroom lamp have as its brightness", True),
        ("for the sitter's list: what does Guest bedroom lamp have as its brightness", False),
        ("for the sitter's list: what does Bedroom lamp 2 have as its brightness", False),
        ("for the sitter's list: what does Bedroom lamp have as its loudness", False),
    ],
)
def test_a_device_that_is_called_in_full_is_found_where_the_plan_lost_it(
    home: Asking, text: str, known: bool
) -> None:
    home.tell("h1", "light.lamp/brightness", 40.0)
    property = text.split()[-1]
    plan = f'{{"kind":"ask","property":"{property}","name":"list","area":"sitter"}}'
    assert (home.ask(plan, text).value == 40.0) is known
    longer = f'{{"kind":"ask","property":"{property}","name":"Guest bedroom lamp"}}'
    assert home.ask(longer, text).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Guests are coming, so I need the hall heating with its mode at cool.", "cool"),
        ("Guests are coming, so I need the hall heating with its mode at turbo.", None),
        ("the hall heating and its mode at the moment", "asked"),
        ("what is the hall heating with its mode at cool", "asked"),
        ("the mode as to the hall heating", "asked"),
    ],
)
def test_what_ends_with_a_property_and_its_value_and_asks_nothing_is_an_order(
    home: Asking, text: str, value: str | None
) -> None:
    home.description = Description(devices=(LAMP, HEATING))
    home.tell("h1", "climate.hall/mode", "heat")
    answer = home.ask('{"kind":"ask","property":"mode","name":"hall heating"}', text)
    if value == "asked":
        assert answer.value == "heat"
    else:
        assert [command.value for command in home.orders] == ([value] if value else [])
        assert answer.outcome is (Outcome.ORDERED if value else Outcome.REFUSED)


def test_everything_of_a_kind_in_a_room(home: Asking) -> None:
    home.description = Description(devices=(LAMP, replace_area(HALL, "Bedroom"), DOOR))
    answer = home.ask('{"kind":"order","act":"off","name":"lights","area":"bedroom"}')
    assert {command.path for command in answer.commands} == {"light.lamp/state", "light.hall/state"}


def replace_area(device: Device, area: str) -> Device:
    return device.model_copy(update={"area": area})


def test_without_the_skill_a_question_is_not_understood(home: Asking) -> None:
    from llmtwin.errors import Unavailable
    from llmtwin.twins.home.recall import understand

    view = View(EchoEngine(), home.memory, Description(), (), None, None, (), 3, False, home.order)
    with pytest.raises(Unavailable):
        understand("hello", view)
