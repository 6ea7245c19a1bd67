"""What a plan means in one home, where the model took a span for the wrong thing. It answers nothing."""

from __future__ import annotations

from collections.abc import Sequence

from llmtwin.records import Device
from llmtwin.twins.home import orders
from llmtwin.twins.home.plan import Act, Plan, PlanKind
from llmtwin.twins.home.resolve import Home, Match
from llmtwin.twins.home.words import (
    Mood,
    may_be_time,
    may_order,
    mood,
    said_after,
    says_now,
    stands_alone,
    words,
)


def about_a_property(plan: Plan, text: str, home: Home) -> Plan:
    """A plan that asks; what was taken for a state may be the name of a property, or a time."""
    if plan.value is not None and says_now(plan.value):
        plan = plan.model_copy(update={"value": None})
    if plan.property is None and plan.value is not None:
        named = home.properties(plan.name, plan.area, plan.value, text)
        if named and words(named[0].property.name) <= words(plan.value):
            return plan.model_copy(update={"property": plan.value, "value": None})
    elif plan.kind == PlanKind.ORDER:
        time = plan.time or (plan.value if plan.value and may_be_time(plan.value) else None)
        return plan.model_copy(update={"value": None, "time": time})
    return plan


def asks_for_a_setting(plan: Plan, text: str, home: Home, devices: Sequence[Device]) -> bool:
    """Whether what was taken for an order names a private setting, and nothing to set it to."""
    if plan.act != Act.SET or plan.statistic or len(devices) != 1 or mood(text) is Mood.SETS:
        return False
    meant = home.properties(plan.name, plan.area, plan.property, text)
    private = bool(meant) and all(match.property.private for match in meant)
    return private and not orders.is_value(devices[0], plan.value or "")


def sets_an_option(plan: Plan, text: str, home: Home) -> bool:
    """Whether an option is to be set, by a sentence that neither asks nor is understood to say which."""
    if words(plan.value or "") != words(plan.property or "") or not may_order(text):
        return False
    matches = home.properties(plan.name, plan.area, plan.property, text)
    return len(matches) == 1 and matches[0].property.writable and bool(matches[0].property.options)


def option_said(plan: Plan, text: str, home: Home) -> tuple[Plan, list[Device]] | None:
    """To set the one option that was said, where the plan has nothing but it, its property and device."""
    matches = [match for match in home.named(text) if match.property.writable and match.property.options]
    if len(matches) != 1:
        return None
    device, property = matches[0].device, matches[0].property
    named = words(device.name) | words(property.name)
    heard = words(text) - named
    options = [option for option in property.options if words(option) and words(option) <= heard]
    said = words(" ".join(filter(None, (plan.name, plan.area, plan.property, plan.value))))
    if len(options) != 1 or not said <= named | words(options[0]):
        return None
    meant = {"act": Act.SET, "name": device.name, "area": None, "property": property.name}
    return plan.model_copy(update={**meant, "value": options[0]}), [device]


def called(plan: Plan, text: str, home: Home) -> Match | None:
    """The property that a text names in full of a device that it calls by its full name, if that is the one.

    It is not where the plan has another property, or text or plan a longer name: that is another device.
    """
    matches = home.named(text)
    if len(matches) != 1 or not stands_alone(text, matches[0].device.name):
        return None
    device, property = words(matches[0].device.name), words(matches[0].property.name)
    said = words(" ".join(filter(None, (plan.name, plan.area))))
    return matches[0] if words(plan.property or "") <= property and not device < said else None


def set_to(plan: Plan, text: str, home: Home) -> Plan | None:
    """The order in what was taken for a question: it asks nothing, and ends with a property and its value."""
    if plan.kind != PlanKind.ASK or plan.time or not plan.property:
        return None
    value = said_after(text, plan.property)
    matches = home.properties(plan.name, plan.area, plan.property, text)
    if value is None or len(matches) != 1 or not matches[0].property.writable:
        return None
    if words(value) <= words(" ".join(filter(None, (plan.name, plan.area, matches[0].device.name)))):
        return None
    return plan.model_copy(update={"kind": PlanKind.ORDER, "act": Act.SET, "value": value})
