"""How a home twin answers: plan, find what was meant, ask the adapter or the prompt database, say where from.

It knows no HTTP and no storage: everything it may use is in the View.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import timedelta

from llmtwin.errors import Denied, InputError, LlmtwinError, NotFound
from llmtwin.records import (
    Aggregate,
    Answer,
    Command,
    Device,
    Outcome,
    PromptUse,
    Property,
    Question,
    Receipts,
    State,
    Statistic,
    Value,
    now,
)
from llmtwin.twins.home import facts, mend, orders, say
from llmtwin.twins.home.judge import (
    can_be_in,
    fold,
    held,
    is_in,
    orders_a_value,
    orders_nothing,
)
from llmtwin.twins.home.plan import Act, Plan, PlanKind
from llmtwin.twins.home.recall import recall, understand
from llmtwin.twins.home.resolve import Home, Match, names
from llmtwin.twins.home.words import (
    COHORT,
    Span,
    moment_around,
    must_be_time,
    says_now,
    statistics_said,
    when,
    words,
)
from llmtwin.twins.kind import View

ORDER_LIFETIME = timedelta(minutes=5)
LISTED_MAX = 20


def answer(question: Question, view: View) -> Answer:
    """Answer one question or take one order."""
    try:
        plan = understand(question.text, view)
    except InputError as error:
        return say.unknown(str(error))
    made = _Answering(question, view, plan).answer()
    return made.model_copy(update={"plan": plan.model_dump(mode="json", exclude_none=True)})


class _Answering:
    """One question on its way to an answer."""

    def __init__(self, question: Question, view: View, plan: Plan) -> None:
        self.question, self.view, self.plan = question, view, plan
        self.home = Home(view.description)

    def answer(self) -> Answer:
        kinds = {PlanKind.ASK: self._ask, PlanKind.COMPARE: self._compare, PlanKind.ORDER: self._order}
        text = self.question.text
        if self.plan.kind == PlanKind.ORDER and orders_nothing(self.plan, text):
            return self._order() if mend.sets_an_option(self.plan, text, self.home) else self._ask()
        if orders_a_value(self.plan, text):
            self.plan = self.plan.model_copy(update={"kind": PlanKind.ORDER, "act": Act.SET})
            return self._order()
        if set_to := mend.set_to(self.plan, text, self.home):
            self.plan = set_to
            return self._order()
        return kinds.get(self.plan.kind, self._other)()

    def _other(self) -> Answer:
        """What is about nothing here, unless it names one of the home's own properties in full."""
        matches = self.home.named(self.question.text)
        if len(matches) == 1:
            return self._of(matches, self._span())
        return say.unknown("I only know about this home: ask me about it, or tell it what to do.")

    # ---- questions about this home

    def _ask(self) -> Answer:
        plan = self.plan = mend.about_a_property(self.plan, self.question.text, self.home)
        span = self._span()
        matches = self.home.properties(plan.name, plan.area, plan.property, self.question.text)
        if plan.property is None and plan.name is not None:
            group = [self._main(device) for device in self._devices()]
            matches = [match for match in group if match is not None] or matches
        if not matches and plan.area and self.home.calls(plan.name, self.question.text):
            # What was taken for the device's place was the asker's.
            matches = self.home.properties(plan.name, None, plan.property, self.question.text)
        if not matches and plan.property is None:
            # What was taken for a device may be the property, and its place the device.
            matches = self.home.properties(None, plan.area, plan.name, self.question.text)
        if not matches and (called := mend.called(plan, self.question.text, self.home)):
            matches = [called]
            if must_be_time(plan.name or ""):
                span = moment_around(self.question.text, "", self.question.at)
        if not matches:
            return say.unknown(f"This home has no {self._said()} that I know of.")
        return self._of(matches, span)

    def _of(self, matches: Sequence[Match], span: Span | None) -> Answer:
        """What is known of these properties, now or at that time."""
        time = self.plan.time
        if len(matches) == 1 and matches[0].property.private:
            return self._setting(matches[0], span)
        if time is not None and span is None and not says_now(time):
            return say.unknown(f"I do not understand the time {time!r}.")
        live = [match for match in matches if not match.property.private][:LISTED_MAX]
        if not live:
            return say.unknown(f"Which do you mean: {names(match.device for match in matches)}?")
        if span is not None and not span.moment:
            return self._over(live[0], span)
        return self._states(live, span)

    def _span(self) -> Span | None:
        """The time that was said: None for now, and where it is not understood."""
        said = self.plan.time
        if said is None or says_now(said):
            return None
        span = when(said, self.question.at)
        if span is None:
            return moment_around(self.question.text, "", self.question.at)
        return span if span.moment else moment_around(self.question.text, said, self.question.at) or span

    def _devices(self) -> list[Device]:
        return self.home.devices(self.plan.name, self.plan.area, self.question.text)

    def _said(self) -> str:
        plan = self.plan
        thing = " of ".join(filter(None, (plan.property, plan.name))) or "such thing"
        return f"{thing} in {plan.area}" if plan.area else thing

    def _main(self, device: Device) -> Match | None:
        found = self.home.properties(device.name, None, None, device.name)
        return next((match for match in found if match.device.id == device.id), None)

    def _setting(self, match: Match, span: Span | None) -> Answer:
        title = say.title(match)
        if span is not None:
            return say.unknown(f"The {title} is a private setting: I know what it is, not what it was.")
        try:
            found = recall(match, self.view)
        except NotFound as error:
            return say.unknown(str(error))
        receipts = Receipts(adapter=found.use)
        if found.value is None:
            return say.unknown(f"I am not sure of the {title}.", receipts)
        unit = match.property.unit
        text = f"The {title} is {facts.answer(found.value, unit)}."
        return Answer(text=text, outcome=Outcome.ANSWERED, value=found.value, unit=unit, receipts=receipts)

    def _states(self, matches: Sequence[Match], span: Span | None) -> Answer:
        """The state of one or several devices, now or at a moment."""
        found = [(match, state) for match in matches if (state := self._state(match.property, span))]
        if not found:
            when_text = "yet" if span is None else "for that time"
            return say.unknown(f"I have no reading of the {say.title(matches[0])} {when_text}.")
        receipts = self._receipts([state for _, state in found])
        if self.plan.value is not None and any(can_be_in(m.property, self.plan.value) for m, _ in found):
            return self._whether(found, receipts)
        if len(found) == 1:
            match, state = found[0]
            verb = "is" if span is None else "was"
            text = f"The {say.title(match)} {verb} {say.reading(state)}."
            return Answer(
                text=text,
                outcome=Outcome.ANSWERED,
                value=state.fact.value,
                unit=state.fact.unit,
                receipts=receipts,
            )
        text = "; ".join(f"{match.device.name}: {say.reading(state)}" for match, state in found)
        return Answer(text=f"{text}.", outcome=Outcome.ANSWERED, receipts=receipts)

    def _whether(self, found: Sequence[tuple[Match, State]], receipts: Receipts) -> Answer:
        """Whether, which or how many of some devices are in a state."""
        wanted = self.plan.value or ""
        those = [match.device for match, state in found if is_in(state.fact.value, wanted)]
        if self.plan.statistic == Statistic.COUNT:
            text = f"{len(those)} of {len(found)}: {names(those)}." if those else f"None of {len(found)}."
            return Answer(text=text, outcome=Outcome.ANSWERED, value=len(those), receipts=receipts)
        if len(found) == 1:
            match, state = found[0]
            text = f"{'Yes' if those else 'No'}, the {match.device.name} is {say.reading(state)}."
            return Answer(text=text, outcome=Outcome.ANSWERED, value=state.fact.value, receipts=receipts)
        text = f"Yes, {wanted}: {names(those)}." if those else f"No, none of {len(found)} is {wanted}."
        return Answer(text=text, outcome=Outcome.ANSWERED, value=bool(those), receipts=receipts)

    def _state(self, property: Property, span: Span | None) -> State | None:
        memory, twin = self.view.memory, self.question.twin
        if span is None:
            return memory.latest(twin, property.path)
        return memory.as_of(twin, property.path, span.since)

    def _over(self, match: Match, span: Span) -> Answer:
        """A statistic of one property over a stretch of time; values count for as long as they stood."""
        states = self.view.memory.history(self.question.twin, match.property.path, span.since, span.until)
        if not states:
            return say.unknown(f"I have no reading of the {say.title(match)} for that time.")
        receipts = self._receipts(states[-LISTED_MAX:])
        if self.plan.value is not None:
            return self._how_long(match, states, span, receipts)
        stood = held(states, span)
        numbers = [(value, seconds) for value, seconds in stood if isinstance(value, int | float)]
        if not numbers:
            seen = dict.fromkeys(str(value) for value, _ in stood)
            text = f"The {say.title(match)} was {', then '.join(list(seen)[:LISTED_MAX])}."
            return Answer(text=text, outcome=Outcome.ANSWERED, value=states[-1].fact.value, receipts=receipts)
        statistic = self.plan.statistic or Statistic.AVERAGE
        value = fold(statistic, numbers)
        unit = match.property.unit
        text = f"The {statistic.value} {say.title(match)} was {facts.answer(round(value, 2), unit)}."
        return Answer(text=text, outcome=Outcome.ANSWERED, value=value, unit=unit, receipts=receipts)

    def _how_long(self, match: Match, states: Sequence[State], span: Span, receipts: Receipts) -> Answer:
        """How long, how often or whether a device was in a state within a stretch of time."""
        wanted = self.plan.value or ""
        stood = [(is_in(value, wanted), seconds) for value, seconds in held(states, span)]
        minutes = sum(seconds for inside, seconds in stood if inside) / 60
        times = sum(inside and (not i or not stood[i - 1][0]) for i, (inside, _) in enumerate(stood))
        name = match.device.name
        if self.plan.statistic == Statistic.COUNT:
            return Answer(
                text=f"The {name} was {wanted} {times} times.",
                outcome=Outcome.ANSWERED,
                value=times,
                receipts=receipts,
            )
        text = (
            f"The {name} was {wanted} for {minutes:.0f} minutes."
            if minutes
            else f"No, the {name} was not {wanted}."
        )
        value: Value = minutes if self.plan.statistic == Statistic.SUM else minutes > 0
        unit = "min" if self.plan.statistic == Statistic.SUM else None
        return Answer(text=text, outcome=Outcome.ANSWERED, value=value, unit=unit, receipts=receipts)

    def _receipts(self, states: Sequence[State]) -> Receipts:
        used: dict[str, PromptUse] = {}
        for state in states:
            prompt = self.view.memory.prompt(state.prompt_id)
            if prompt is not None:
                used[prompt.id] = PromptUse(id=prompt.id, at=prompt.at, text=prompt.text)
        return Receipts(prompts=tuple(used.values()))

    # ---- comparisons

    def _compare(self) -> Answer:
        plan = self.plan
        fits = self.home.measures(plan.name, plan.property)
        if not fits and len(self.home.named(self.question.text)) == 1:
            return self._other()
        if not fits:
            return say.unknown(
                f"I cannot compare {self._said()} between homes: this home has none, or it is private."
            )
        outright = statistics_said(self.question.text)
        statistic = Statistic(outright.pop()) if len(outright) == 1 else plan.statistic or Statistic.AVERAGE
        counted = plan.value if statistic == Statistic.COUNT and orders.can_be(fits[0], plan.value) else None
        found = self._aggregate(fits[0], statistic, counted)
        if isinstance(found, Answer):
            return found
        receipts = say.cohort(found)
        if found.value is None:
            return say.unknown(f"No home has a {fits[0].name} to compare.", receipts)
        if statistic == Statistic.COUNT:
            text = f"{found.value:g} of the homes that share their data have it."
        else:
            said = facts.answer(round(found.value, 2), found.unit)
            text = f"The {statistic.value} {fits[0].name} over {found.cohort_size} homes is {said}."
        return Answer(
            text=text, outcome=Outcome.ANSWERED, value=found.value, unit=found.unit, receipts=receipts
        )

    def _aggregate(self, property: Property, statistic: Statistic, said: str | None) -> Aggregate | Answer:
        """The statistic over the cohort, or the refusal where too few homes would stand behind it."""
        area = (
            self.plan.area.strip().capitalize()
            if self.plan.area and self.plan.kind == PlanKind.COMPARE
            else None
        )
        equals = orders.as_value(property, said) if said else None
        view, measure = self.view, property.measure or ""
        found = view.memory.aggregate(measure, statistic, view.cohort, area, equals)
        behind = found.cohort_size
        if behind < view.cohort_size_min:
            return say.refused(
                f"Only {behind} homes share that; I compare no fewer than {view.cohort_size_min}, "
                "so that none stands out."
            )
        return found

    # ---- orders

    def _order(self) -> Answer:
        plan = self.plan
        devices = self._devices()
        if plan.property and plan.area and plan.name is None:
            devices = [device for device in devices if orders.can_set(device, plan.property)]
        if plan.name is None and plan.area is None and plan.property:
            devices = [
                device for device in self.view.description.devices if orders.can_set(device, plan.property)
            ]
        if not devices and plan.statistic and words(plan.name or "") - COHORT <= words(plan.property or ""):
            return self._compare()
        if not devices and (meant := mend.option_said(plan, self.question.text, self.home)):
            self.plan, devices = meant
        if not devices:
            return say.refused(f"This home has no {self._said()} that I know of.")
        if other := self.home.another(self.plan.name, devices, self.question.text):
            return say.refused(f"This home has no {other} that I know of.")
        if mend.asks_for_a_setting(self.plan, self.question.text, self.home, devices):
            return self._ask()
        if len(devices) > LISTED_MAX:
            return say.refused(f"That would be {len(devices)} devices: name a room or a kind of device.")
        commands: list[Command] = []
        receipts, problems = Receipts(), []
        for device in devices:
            try:
                property, value, used = self._meant(device)
                receipts = Receipts(
                    adapter=used.adapter or receipts.adapter, cohort=used.cohort or receipts.cohort
                )
                commands.append(self.view.order(self._command(property, value)))
            except (InputError, Denied) as error:
                problems.append(str(error))
        if not commands:
            return say.refused("; ".join(dict.fromkeys(problems)), receipts)
        listed = "; ".join(f"{c.path} to {facts.answer(c.value, c.unit)}" for c in commands)
        text = f"Ordered: {listed}. Not confirmed by the home yet."
        return Answer(
            text=text,
            outcome=Outcome.ORDERED,
            value=commands[0].value,
            unit=commands[0].unit,
            commands=tuple(commands),
            receipts=receipts,
        )

    def _command(self, property: Property, value: Value) -> Command:
        created = now()
        return Command(
            twin=self.question.twin,
            path=property.path,
            value=value,
            unit=property.unit,
            created_at=created,
            expires_at=created + ORDER_LIFETIME,
        )

    def _meant(self, device: Device) -> tuple[Property, Value, Receipts]:
        """What an order means for one device. InputError where it means nothing for it."""
        plan, act = self.plan, self.plan.act or Act.SET
        if plan.statistic is not None:
            return self._relative(device, act, plan.statistic)
        if act in orders.STATES:
            return *orders.state(device, act), Receipts()
        if act == Act.SET:
            return *orders.setting(device, plan.property, plan.value or "", self.question.text), Receipts()
        property = orders.level(device, plan.property, self.question.text)
        state = self.view.memory.latest(self.question.twin, property.path)
        if state is None or not isinstance(state.fact.value, int | float):
            raise InputError(
                f"I do not know what the {property.name} of the {device.name} is now: say a value"
            )
        change = orders.step(property, plan.value) * (1 if act == Act.RAISE else -1)
        return property, orders.within(property, state.fact.value + change), self._receipts([state])

    def _relative(self, device: Device, act: Act, statistic: Statistic) -> tuple[Property, Value, Receipts]:
        """An order relative to other homes, within the owner's own private range (the paper's Fig. 10)."""
        property = orders.level(device, self.plan.property, self.question.text)
        found = self._aggregate(property, statistic, None)
        if isinstance(found, Answer):
            raise InputError(found.text)
        if found.value is None:
            raise InputError(f"no home has a {property.name} to compare with")
        value = {
            Act.RAISE: math.floor(found.value) + 1.0,
            Act.LOWER: math.ceil(found.value) - 1.0,
        }.get(act, float(round(found.value)))
        receipts = say.cohort(found)
        for bound in ("minimum", "maximum"):
            limit, used = self._own_limit(device, f"{bound} {property.name}")
            if limit is not None:
                value = max(value, limit) if bound == "minimum" else min(value, limit)
                receipts = Receipts(adapter=used.adapter, cohort=receipts.cohort)
        if (act == Act.RAISE and value <= found.value) or (act == Act.LOWER and value >= found.value):
            raise InputError(
                f"the {statistic.value} is {found.value:.4g} {property.unit or ''}, "
                f"and your own limit for the {device.name} does not reach beyond it"
            )
        return property, value, receipts

    def _own_limit(self, device: Device, name: str) -> tuple[float | None, Receipts]:
        """A private limit of the owner's, from the adapter; None where there is none."""
        for property in device.properties:
            if property.private and words(property.name) == words(name):
                try:
                    found = recall(Match(device, property), self.view)
                except LlmtwinError:
                    return None, Receipts()
                value = found.value if isinstance(found.value, int | float) else None
                return value, Receipts(adapter=found.use)
        return None, Receipts()
