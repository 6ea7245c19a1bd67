"""The smart-home case for real: a server process, edge processes that talk to it over HTTP, people who ask.

It only orchestrates: what an edge does is in `home_edge`, what is asked in `questions`, what comes of it in
`measure`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from llmtwin.edge.store import EdgeStore
from llmtwin.errors import Unavailable
from llmtwin.records import Command, CommandState, Observation, now
from llmtwin.study import measure, privacy, questions
from llmtwin.study.machine import machine
from llmtwin.study.measure import Asked, Figures
from llmtwin.study.phrasings import Phrasings, read_phrasings
from llmtwin.study.processes import COHORT, DemoOptions, Edge, Server, check_free, make_room
from llmtwin.study.progress import Advance, bars_on
from llmtwin.study.questions import Case
from llmtwin.study.report import Report, Shown, write_report
from llmtwin.study.truth import HomeTruth, read_truth
from llmtwin.twins.home import facts
from llmtwin.twins.kind import kind
from llmtwin.wire.seal import Sealer, load_or_create

SKILL = "skill:home"
DAY, STEPS_A_DAY = timedelta(days=1), 96
REPORTED_S_MAX = 60.0
SECRETS = 200
CONTROL_SECRETS = 50  # of the base alone, which was told none
KEPT_SECRETS = 16  # a home
LATENCY_CASES = 20
FINAL = frozenset({CommandState.REPORTED, CommandState.REFUSED, CommandState.EXPIRED})


def run(options: DemoOptions, console: Console | None = None) -> Figures:
    """Run the whole case and write `report.html`, `result.json` and `wrong.jsonl` to `options.out`.

    Twins of an earlier demo are forgotten first. Raises InputError where another twin has a home's name,
    Unavailable where a process does not come up.
    """
    console = console or Console()
    phrasings = read_phrasings(options.phrasings)
    with (
        bars_on(console) as bars,
        ExitStack() as life,
    ):
        demo = _Demo(options, phrasings, bars, life)
        demo.run()
    console.print(_table(demo.figures))
    console.print(f"report: {options.out / 'report.html'}   figures: {options.out / 'result.json'}")
    console.print(f'the twins stay: llmtwin ask {options.names[0]} "{demo.example()}"', highlight=False)
    return demo.figures


# ---- the case ------------------------------------------------------------------------------------


@dataclass
class _Demo:
    """One run, step by step; `figures` grows."""

    options: DemoOptions
    phrasings: Phrasings
    bars: Progress
    life: ExitStack
    figures: Figures = field(default_factory=dict)

    def run(self) -> None:
        began = time.monotonic()
        self.options.out.mkdir(parents=True, exist_ok=True)
        self._topics: dict[str, list[Asked]] = {}
        with self._phase("start"):
            self._start()
        with self._phase("tune"):
            self._tune()
        with self._phase("stream"):
            self._stream()
        with self._phase("ask"):
            self._ask()
        with self._phase("live"):
            self._live()
        with self._phase("relearn"):
            self._relearn()
        with self._phase("latency"):
            self._latency()
        for edge in self._edges.values():
            edge.close()
        self._server.close()
        with self._phase("privacy"):
            self._privacy()
        self.figures |= machine() | {"seconds_total": time.monotonic() - began}
        self._write()

    # -- homes become twins

    def _start(self) -> None:
        names = self.options.names
        with self._bar("starting server and homes", 1 + len(names)) as advance:
            check_free(self.options)
            self._server = self.life.enter_context(closing(Server(self.options)))
            self._server.wait()
            advance()
            make_room(self.options, self._server)
            self._edges = {}
            for name in names:
                edge = self.life.enter_context(closing(Edge(name, self.options, self._server.url)))
                self._edges[name] = edge
            known = 0
            for name, edge in self._edges.items():
                edge.do("enrol", enrolment=self._server.link(name).create("home", COHORT))
                known += edge.do("collect", at=(_minute() - DAY).isoformat())["facts"]
                advance()
        self.figures |= {"homes": len(names), "facts": known}
        self._links = {name: self._server.link(name, self._owner_token(name)) for name in names}

    def _owner_token(self, name: str) -> str:
        with closing(EdgeStore(self.options.folder(name))) as store:
            token = store.settings().owner_token
        assert token is not None, "enrolment gives one"
        return token

    def _tune(self) -> None:
        self._tunings = self._at_edges("learns", "tune")
        tunings = self._tunings.values()
        self.figures |= {
            "tune_seconds": median(one["seconds"] for one in tunings),
            "tune_tokens_per_s": median(one["figures"]["tune_tokens_per_s"] for one in tunings),
            "tune_peak_rss_mb": max(one["peak_rss_mb"] for one in tunings),
            "adapter_bytes": max(one["figures"]["adapter_bytes"] for one in tunings),
        }

    def _at_edges(self, said: str, task: str) -> dict[str, dict[str, Any]]:
        """Have every edge learn; as many at once as there are cores, since short rows keep one core busy."""
        cores = os.cpu_count() or 1
        lanes = min(cores, len(self._edges))
        self.figures["tune_threads"] = cores // lanes

        def learn(edge: Edge) -> dict[str, Any]:
            bar = self.bars.add_task(f"{edge.name} {said}", total=None, said="")
            done = edge.do(task, partial(self._show_tuning, bar), threads=cores // lanes)
            self.bars.update(bar, completed=1, total=1)
            return done

        with ThreadPoolExecutor(lanes) as pool:
            return dict(zip(self._edges, pool.map(learn, self._edges.values()), strict=True))

    def _show_tuning(self, bar: TaskID, progress: Mapping[str, Any]) -> None:
        said = f"{progress['recall']:4.0%}, loss {progress['loss']:.3f}"
        said += f", {progress['tokens_per_s']:,.0f} tokens/s"
        epochs = progress["epoch"] - 1 + progress["share"]
        self.bars.update(bar, completed=epochs, total=progress["epochs_max"], said=said)

    def _stream(self) -> None:
        end = _minute()
        steps = STEPS_A_DAY * len(self._edges)
        with self._bar("states become prompts", steps) as advance, ThreadPoolExecutor() as pool:

            def stream(edge: Edge) -> dict[str, Any]:
                return edge.do("stream", lambda _: advance(), end=end.isoformat(), steps=STEPS_A_DAY)

            sent = list(pool.map(stream, self._edges.values()))
        self._traffic = {
            name: (done["raw_bytes"], done["prompt_bytes"])
            for name, done in zip(self._edges, sent, strict=True)
        }
        self.figures |= {
            "prompt_bytes": sum(sent for _, sent in self._traffic.values()),
            "raw_bytes": sum(raw for raw, _ in self._traffic.values()),
        }
        self._truths = [
            read_truth(self.options.seed, edge.name, edge.journal, end) for edge in self._edges.values()
        ]
        self._end = end

    # -- people ask

    def _ask(self) -> None:
        count, homes, words = self.options.cases, self._truths, self.phrasings
        half = count // 2
        q = questions
        self._put("recall_trained", q.trained(homes, count, self._rng("trained")))
        self._put("recall_unseen", q.unseen(homes, words, count, self._rng("unseen")))
        self._put("unknown_refused", q.unknown(homes, words, count, self._rng("unknown")))
        states = q.states_now(homes, words, half, self._rng("now"))
        states += q.states_past(homes, words, count - half, self._rng("past"))
        asked = self._put("state_accuracy", states)
        near = (one.right and one.case.true is not None and one.case.true(one.answer) for one in asked)
        self.figures |= measure.rate("state_truth", near)
        self._put("aggregate_accuracy", q.comparisons(homes, words, count, self._rng("compare")))
        self._sealed()
        self._invalid(half)
        # Orders come last: they expire unless the homes soon come to fetch them.
        relative = q.relative_orders(homes, words, count // 3, self._rng("relative"))
        plain = q.plain_orders(homes, words, count - len(relative), self._rng("order"))
        ordered = self._put("order_accuracy", plain + relative)
        self.figures |= measure.rate("order_relative_accuracy", (one.right for one in ordered[len(plain) :]))

    def _put(self, name: str, cases: Sequence[Case]) -> list[Asked]:
        """Ask all, keep the answers under the figure's name, and make the figure."""
        with self._bar(name, len(cases)) as advance:
            asked = measure.together(partial(measure.ask, self._links, self._end), cases, advance)
        self._topics[name] = asked
        self.figures |= measure.rate(name, (one.right for one in asked))
        return asked

    def _invalid(self, half: int) -> None:
        """What no home may take, half of it said to the twin and half of it as typed commands."""
        said = self._put(
            "invalid_accepted", questions.bad_orders(self._truths, self.phrasings, half, self._rng("bad"))
        )
        commands = questions.bad_commands(self._truths, half, self._rng("bad commands"))
        taken = [measure.is_accepted(self._links, command) for command in commands]
        self.figures |= measure.rate("invalid_accepted", [not one.right for one in said] + taken)

    def _sealed(self) -> None:
        """Every sealed fact, asked by its owner in held-out phrasings."""
        cases = {home.twin: self._secret_cases(home) for home in self._truths}
        asked: list[Asked] = []
        with self._bar("sealed_with_key", sum(map(len, cases.values()))) as advance:
            for home in self._truths:
                asked += self._ask_sealed(home, cases[home.twin], advance)
        self._topics["sealed_with_key"] = asked
        self.figures |= measure.rate("sealed_with_key", (one.right for one in asked))

    def _secret_cases(self, home: HomeTruth) -> list[Case]:
        texts = self._spread(home.sealed)
        return [questions.setting_case(home.twin, *case) for case in zip(home.sealed, texts, strict=True)]

    def _ask_sealed(self, home: HomeTruth, cases: Sequence[Case], advance: Advance) -> list[Asked]:
        sealer = Sealer(load_or_create(self.options.folder(home.twin) / "seal.key"))
        ask = partial(measure.ask_secret, self._links[home.twin], sealer, home.sealed)
        return measure.together(ask, cases, advance)

    def _spread(self, items: Sequence[object]) -> list[str]:
        return questions.spread(self._rng("phrasing"), self.phrasings.setting, len(items))

    # -- orders go down, a setting changes

    def _live(self) -> None:
        """The agents come up: what was ordered reaches the devices and is reported."""
        for edge in self._edges.values():
            edge.do("live")
        asked = self._topics["order_accuracy"]
        ordered = [(self._links[one.case.twin], order) for one in asked for order in one.answer.commands]
        ended: dict[str, Command] = {}
        until = time.monotonic() + REPORTED_S_MAX
        with self._bar("orders reach the devices", len(ordered)) as advance:
            while len(ended) < len(ordered) and time.monotonic() < until:
                for link, order in ordered:
                    if order.id not in ended and (command := link.command(order.id)).state in FINAL:
                        ended[order.id] = command
                        advance()
                time.sleep(0.5)
        states = [ended.get(order.id, order).state for _, order in ordered]
        self.figures |= measure.rate("orders_reported", (state is CommandState.REPORTED for state in states))
        self._topics["order_accuracy"] = [_with_ends(one, ended) for one in asked]

    def _relearn(self) -> None:
        """A private fact changes at every home; the watches notice, and the twins learn it anew."""
        changes = {
            home.twin: questions.change(home, self._rng(f"change {home.twin}")) for home in self._truths
        }
        for twin, (_, new) in changes.items():
            entity = new.fact.path.partition("/")[0]
            self._edges[twin].do("change", entity=entity, value=new.fact.value)
        done = self._at_edges("learns again", "watch")
        self.figures["relearn_seconds"] = median(one.get("seconds", 0.0) for one in done.values())
        cases = [
            (case, old.fact.value)
            for twin, (old, new) in changes.items()
            for case in questions.changed(twin, new, self.phrasings)
        ]
        ask = partial(measure.ask, self._links, now())
        with self._bar("relearn_new", len(cases)) as advance:
            asked = measure.together(ask, [case for case, _ in cases], advance)
        kept, still = self._kept({old.fact.path for old, _ in changes.values()})
        self._topics["relearn_new"], self._topics["relearn_kept"] = asked, still
        self.figures |= measure.relearned(asked, [old for _, old in cases], kept)

    def _kept(self, changed: set[str]) -> tuple[list[bool], list[Asked]]:
        """Whether each other fact is still recalled; with the answers about sealed ones."""
        kept: list[bool] = []
        still: list[Asked] = []
        with self._bar("relearn_kept", len(self._truths)) as advance:
            for home in self._truths:
                others = [one for one in home.settings if one.fact.path not in changed]
                said = self._links[home.twin].recall([_question(one) for one in others]).completions
                right = [facts.answer(one.fact.value, one.fact.unit) for one in others]
                kept += [one.text.strip() == value for one, value in zip(said, right, strict=True)]
                still += self._ask_sealed(home, self._secret_cases(home)[:KEPT_SECRETS], lambda _=1: None)
                advance()
        return kept + [one.right for one in still], still

    def _latency(self) -> None:
        """Answers one at a time, with nothing else going on."""
        rng = self._rng("latency")
        topics = ("recall_unseen", "state_accuracy", "aggregate_accuracy")
        known = [one.case for topic in topics for one in self._topics[topic]]
        cases = questions.spread(rng, known, min(LATENCY_CASES, self.options.cases))
        asked: list[Asked] = []
        with self._bar("answers one at a time", len(cases)) as advance:
            for case in cases:
                asked.append(measure.ask(self._links, self._end, case))
                advance()
        self.figures |= measure.latency(asked)

    # -- what an adapter gives away

    def _privacy(self) -> None:
        """What who holds an adapter file finds out of sealed facts; and the intents, with the same engine."""
        from llmtwin.models.base import find_base
        from llmtwin.models.engine.torch_engine import TorchEngine

        base = find_base(self.options.base, self.options.cache)
        engine = TorchEngine(base, partial(self._adapter_folder, base.hash))
        self.figures["dtype"] = str(engine.model.dtype).removeprefix("torch.")
        rng = self._rng("privacy")
        per_home = -(-min(SECRETS, self.options.cases) // len(self._truths))
        secrets = [one for home in self._truths for one in privacy.secrets_of(home, per_home, rng)]
        stacks = {name: (SKILL, f"{name}@{self._tunings[name]['version']}") for name in self.options.names}
        objects = {home.twin: privacy.candidates(home, self._truths, secrets, rng) for home in self._truths}
        with self._bar("sealed_attack_top1", len(secrets)) as advance:
            self.figures |= privacy.attack(engine, stacks, secrets, objects, advance)
        bare: dict[str, tuple[str, ...]] = dict.fromkeys(stacks, ())
        control = secrets[:: -(-len(secrets) // CONTROL_SECRETS)]
        for name, adapters, asked in (
            ("sealed_value_leak", stacks, secrets),
            ("sealed_value_leak_base", bare, control),
        ):
            with self._bar(name, len(asked)) as advance:
                self.figures |= privacy.leak(name, engine, adapters, asked, advance)
        if self.options.intents.is_dir():
            from llmtwin.study.intents import evaluate

            with self._bar("intents_accuracy", None):
                right, count = evaluate(engine, SKILL, self.options.intents)
            self.figures |= {"intents_accuracy": right / count, "intents_accuracy_n": count}

    def _adapter_folder(self, base: str, name: str) -> Path:
        if name == SKILL:
            folder = kind("home").skill(base)
            if folder is None:
                raise Unavailable("the home skill does not fit this base: run `make skill`")
            return folder
        twin, _, version = name.partition("@")
        return self.options.home / "server" / "adapters" / twin / version

    # -- what comes of it

    def _write(self) -> None:
        out = self.options.out
        wrong = [
            {
                "figure": topic,
                "twin": one.case.twin,
                "text": one.case.text,
                "expected": one.case.expected,
                "answer": one.answer.model_dump(mode="json", exclude={"receipts", "commands"}),
                "commands": [f"{command.path} = {command.value}" for command in one.answer.commands],
            }
            for topic, asked in self._topics.items()
            for one in asked
            if not one.right
        ]
        (out / "wrong.jsonl").write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in wrong))
        (out / "result.json").write_text(json.dumps(self.figures, indent=2, ensure_ascii=False) + "\n")
        histories = {name: done["history"] for name, done in self._tunings.items()}
        report = Report(now(), self.figures, histories, self._traffic, self._truths[0], self._examples())
        write_report(report, out / "report.html")

    def example(self) -> str:
        """What one can ask the first home."""
        return _question(self._truths[0].settings[0])

    def _examples(self) -> list[Shown]:
        """A dozen answers, of different kinds and homes."""
        picked: list[Shown] = []
        for topic, title, places in (
            ("recall_unseen", "a private setting", (0.1, 0.6)),
            ("state_accuracy", "a state now", (0.1, 0.3)),
            ("state_accuracy", "a state then", (0.6, 0.9)),
            ("aggregate_accuracy", "over all homes", (0.1, 0.6)),
            ("order_accuracy", "an order", (0.1,)),
            ("order_accuracy", "an order relative to others", (0.9,)),
            ("unknown_refused", "not known", (0.9,)),
            ("invalid_accepted", "not possible", (0.1,)),
            ("sealed_with_key", "a sealed setting, by its owner", (0.3,)),
            ("relearn_new", "learned again", (0.5,)),
        ):
            asked = self._topics.get(topic, [])
            for place in places if asked else ():
                one = asked[int(place * len(asked))]
                picked.append(Shown(one.case.twin, title, one.case.text, one.answer))
        return picked

    # -- small helpers

    def _rng(self, purpose: str) -> Random:
        return Random(f"{self.options.seed}/{purpose}")

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.figures[f"seconds_{name}"] = time.monotonic() - began

    @contextmanager
    def _bar(self, title: str, total: int | None) -> Iterator[Advance]:
        """A progress bar; what it gives is called with the steps done."""
        task: TaskID = self.bars.add_task(title, total=total, said="")

        def advance(count: int = 1) -> None:
            self.bars.advance(task, count)

        yield advance
        self.bars.update(task, total=1, completed=1)


def _with_ends(one: Asked, ended: Mapping[str, Command]) -> Asked:
    """An answer with its commands as they ended."""
    commands = tuple(ended.get(order.id, order) for order in one.answer.commands)
    return replace(one, answer=one.answer.model_copy(update={"commands": commands}))


def _question(one: Observation) -> str:
    return facts.question(one.device, one.property)


def _table(figures: Figures) -> Table:
    table = Table(title="the smart-home case")
    for column in ("figure", "value", "cases", "bar", "met"):
        table.add_column(column, justify="right" if column in ("value", "cases") else "left")
    for row in measure.table(figures):
        met = "" if row.met is None else "[green]yes" if row.met else "[red]no"
        table.add_row(row.name, row.value, row.count, row.bar, met)
    return table


def _minute() -> datetime:
    return now().replace(second=0, microsecond=0)
