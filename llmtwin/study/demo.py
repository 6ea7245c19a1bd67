"""The smart-home case for real: a server process, edge processes that talk to it over HTTP, people who ask.

It only orchestrates: what an edge does is in `home_edge`, what is asked in `questions`, what comes of it in
`measure`.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from statistics import median
from typing import IO, Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from llmtwin.edge.link import Link
from llmtwin.edge.store import EdgeStore
from llmtwin.errors import InputError, Unavailable
from llmtwin.records import Command, CommandState, Fact, Observation, now
from llmtwin.study import measure, questions
from llmtwin.study.measure import Advance, Asked, Figures
from llmtwin.study.phrasings import DEFAULT, Phrasings, read_phrasings
from llmtwin.study.questions import Case, HomeTruth
from llmtwin.study.report import Report, Shown, write_report
from llmtwin.twins.home import facts
from llmtwin.twins.home.describe import describe
from llmtwin.twins.home.observe import observe
from llmtwin.twins.home.simulator import Home
from llmtwin.twins.home.sources import read_states
from llmtwin.twins.kind import kind
from llmtwin.wire.seal import Sealer, load_or_create

COHORT = MARK = "demo"
SKILL = "skill:home"
DAY, STEPS_A_DAY = timedelta(days=1), 96
SERVER_START_S_MAX = 240.0
REPORTED_S_MAX = 60.0
TIMEOUT_S = 240.0  # for an answer that waits behind many others
SECRETS = 200
LATENCY_CASES = 42
FINAL = frozenset({CommandState.REPORTED, CommandState.REFUSED, CommandState.EXPIRED})


@dataclass(frozen=True)
class DemoOptions:
    """What a demo works with: `home` is the data folder, in which its twins stay.

    `cases` is how many questions each rate is measured on.
    """

    home: Path
    cache: Path
    base: str | None = None
    out: Path = Path("out/demo")
    homes: int = 4
    seed: int = 7
    phrasings: Path = DEFAULT
    intents: Path = Path("../shared/data/home/intents")
    cases: int = 200

    @property
    def names(self) -> list[str]:
        """What the homes are called."""
        return [f"home{number}" for number in range(1, self.homes + 1)]

    def folder(self, name: str) -> Path:
        """Where everything private of a home lies."""
        return self.home / "edge" / name


def run(options: DemoOptions, console: Console | None = None) -> Figures:
    """Run the whole case and write `report.html`, `result.json` and `wrong.jsonl` to `options.out`.

    Twins of an earlier demo are forgotten first. Raises InputError where another twin has a home's name,
    Unavailable where a process does not come up.
    """
    console = console or Console()
    phrasings = read_phrasings(options.phrasings)
    with (
        Progress(
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            TextColumn("{task.fields[said]}"),
            TimeElapsedColumn(),
            console=console,
        ) as bars,
        ExitStack() as life,
    ):
        demo = _Demo(options, phrasings, bars, life)
        demo.run()
    console.print(_table(demo.figures))
    console.print(f"report: {options.out / 'report.html'}   figures: {options.out / 'result.json'}")
    console.print(f'the twins stay: llmtwin ask {options.names[0]} "{demo.example()}"', highlight=False)
    return demo.figures


# ---- the processes -------------------------------------------------------------------------------


class Server:
    """A server process on a free port of this machine, over the data folder."""

    def __init__(self, options: DemoOptions) -> None:
        """Start it; `wait` says when it is there."""
        self._log = options.out / "server.log"
        self._admin = options.home / "server" / "admin.token"
        self.url = f"http://127.0.0.1:{_free_port()}"
        port = self.url.rpartition(":")[2]
        command = [sys.executable, "-m", "llmtwin", "serve", "--host", "127.0.0.1", "--port", port]
        environment = {
            **os.environ,
            "LLMTWIN_HOME": str(options.home.resolve()),
            "LLMTWIN_CACHE": str(options.cache.resolve()),
            "LLMTWIN_ENGINE": "torch",
            **({"LLMTWIN_BASE": options.base} if options.base else {}),
        }
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    @retry(
        retry=retry_if_exception_type(httpx.TransportError),
        stop=stop_after_delay(SERVER_START_S_MAX),
        wait=wait_fixed(0.2),
        reraise=True,
    )
    def _healthy(self) -> None:
        if self._process.poll() is not None:
            last = self._log.read_text(errors="replace").strip().rpartition("\n")[2]
            raise Unavailable(f"the server process ended: {last} (all of it is in {self._log})")
        httpx.get(f"{self.url}/healthz", timeout=TIMEOUT_S).raise_for_status()

    def wait(self) -> None:
        """Wait until it answers. Raises Unavailable."""
        try:
            self._healthy()
        except httpx.HTTPError as error:
            raise Unavailable(f"the server process does not answer: {error}; see {self._log}") from error

    def link(self, twin: str, token: str | None = None) -> Link:
        """A link with that token, or the administrator's."""
        token = token or self._admin.read_text(encoding="ascii").strip()
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=measure.ASKERS)
        headers = {"authorization": f"Bearer {token}"}
        client = httpx.Client(base_url=self.url, headers=headers, timeout=TIMEOUT_S, limits=limits)
        return Link(client, twin)

    def close(self) -> None:
        """Stop it."""
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Edge:
    """The edge process of one home, and the pipe on which it takes its tasks."""

    def __init__(self, name: str, options: DemoOptions, server: str) -> None:
        """Start it."""
        self.name = name
        self.journal = options.out / f"{name}.jsonl"
        self.journal.unlink(missing_ok=True)
        self._log = options.out / f"{name}.log"
        given: Mapping[str, object] = {
            "name": name,
            "seed": options.seed,
            "server": server,
            "folder": options.folder(name),
            "cache": options.cache,
            "journal": self.journal,
        }
        arguments = [part for option, value in given.items() for part in (f"--{option}", str(value))]
        arguments += ["--base", options.base] if options.base else []
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "llmtwin.study.home_edge", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding="utf-8",
            )
        assert self._process.stdin and self._process.stdout
        self._stdin: IO[str] = self._process.stdin
        self._stdout: IO[str] = self._process.stdout

    def do(
        self, task: str, report: Callable[[Mapping[str, Any]], None] = lambda _: None, **given: object
    ) -> dict[str, Any]:
        """Have a task done and wait for it; what it gives. Raises Unavailable where it fails."""
        try:
            self._stdin.write(json.dumps({"task": task, **given}) + "\n")
            self._stdin.flush()
        except OSError as error:
            raise self._ended() from error
        for line in self._stdout:
            message: dict[str, Any] = json.loads(line)
            if "progress" in message:
                report(message["progress"])
            elif "error" in message:
                raise Unavailable(f"{self.name} cannot {task}: {message['error']}")
            else:
                done: dict[str, Any] = message["done"]
                return done
        raise self._ended()

    def close(self) -> None:
        """Let it end: it does when there are no more tasks."""
        self._stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stdout.close()

    def _ended(self) -> Unavailable:
        return Unavailable(f"the edge process of {self.name} ended; see {self._log}")


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
        self.figures |= _machine() | {"seconds_total": time.monotonic() - began}
        self._write()

    # -- homes become twins

    def _start(self) -> None:
        names = self.options.names
        with self._bar("starting server and homes", 1 + len(names)) as advance:
            _check_free(self.options)
            self._server = self.life.enter_context(closing(Server(self.options)))
            self._server.wait()
            advance()
            _make_room(self.options, self._server)
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
        """As many homes at once as there are cores: short rows keep one core busy, and not two."""
        cores = os.cpu_count() or 1
        lanes = min(cores, len(self._edges))

        def tune(edge: Edge) -> dict[str, Any]:
            make = partial(edge.do, "tune", threads=cores // lanes)
            return self._with_tuning_bar(f"{edge.name} learns", make)

        with ThreadPoolExecutor(lanes) as pool:
            found = pool.map(tune, self._edges.values())
            self._tunings = dict(zip(self._edges, found, strict=True))
        tunings = self._tunings.values()
        self.figures |= {
            "tune_threads": cores // lanes,
            "tune_seconds": median(one["seconds"] for one in tunings),
            "tune_tokens_per_s": median(one["figures"]["tune_tokens_per_s"] for one in tunings),
            "tune_peak_rss_mb": max(one["peak_rss_mb"] for one in tunings),
            "adapter_bytes": max(one["figures"]["adapter_bytes"] for one in tunings),
        }

    def _with_tuning_bar(self, title: str, make: Callable[..., dict[str, Any]]) -> dict[str, Any]:
        task = self.bars.add_task(title, total=None, said="")

        def report(progress: Mapping[str, Any]) -> None:
            said = f"{progress['recall']:4.0%}, loss {progress['loss']:.3f}"
            said += f", {progress['tokens_per_s']:,.0f} tokens/s"
            epochs = progress["epoch"] - 1 + progress["share"]
            self.bars.update(task, completed=epochs, total=progress["epochs_max"], said=said)

        done = make(report)
        self.bars.update(task, completed=1, total=1)
        return done

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
        self._truths = [read_truth(self.options.seed, edge, end) for edge in self._edges.values()]
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
        cases = {
            home.twin: [
                questions.setting_case(home.twin, one, text)
                for one, text in zip(home.sealed, self._spread(home.sealed), strict=True)
            ]
            for home in self._truths
        }
        asked: list[Asked] = []
        with self._bar("sealed_with_key", sum(map(len, cases.values()))) as advance:
            for home in self._truths:
                asked += self._ask_sealed(home, cases[home.twin], advance)
        self._topics["sealed_with_key"] = asked
        self.figures |= measure.rate("sealed_with_key", (one.right for one in asked))

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
        """One private fact changes at the first home; its watch notices, and the twin learns it anew."""
        home = self._truths[0]
        edge, link = self._edges[home.twin], self._links[home.twin]
        numbers = [one for one in home.settings if one.property == "maximum brightness"]
        old = self._rng("change").choice(numbers)
        value = int(old.fact.value) - 9 if int(old.fact.value) > 70 else int(old.fact.value) + 9
        edge.do("change", entity=old.fact.path.partition("/")[0], value=value)
        try:
            watch = partial(edge.do, "watch", threads=os.cpu_count() or 1)
            done = self._with_tuning_bar(f"{home.twin} learns again", watch)
            self.figures["relearn_seconds"] = done.get("seconds", 0.0)
        except Unavailable as error:  # the figures below tell how bad that is
            self.bars.console.print(f"[red]{error}")
        new = old.model_copy(update={"fact": old.fact.model_copy(update={"value": value})})
        others = [one for one in home.settings if one is not old]
        texts = [facts.question(old.device, old.property), *self.phrasings.setting]
        changed = [questions.setting_case(home.twin, new, text) for text in texts]
        kept = [
            questions.setting_case(home.twin, one, facts.question("{device}", "{property}")) for one in others
        ]
        secret = [
            questions.setting_case(home.twin, one, text)
            for one, text in zip(home.sealed, self._spread(home.sealed), strict=True)
        ]
        with self._bar("relearn_kept", len(changed) + len(kept) + len(secret)) as advance:
            ask = partial(measure.ask, self._links, now())
            asked = measure.together(ask, changed, advance)
            still = measure.together(ask, kept, advance) + self._ask_sealed(home, secret, advance)
        raw = [
            said.text.strip() == facts.answer(one.fact.value, one.fact.unit)
            for one, said in zip(
                others, link.recall([_question(one) for one in others]).completions, strict=True
            )
        ]
        self._topics["relearn_new"], self._topics["relearn_kept"] = asked, still
        self.figures |= measure.relearned(asked, old.fact.value, [*(one.right for one in still), *raw])

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
        secrets = [one for home in self._truths for one in _sample(rng, measure.secrets_of(home), per_home)]
        stacks = {name: (SKILL, f"{name}@{self._tunings[name]['version']}") for name in self.options.names}
        objects = {home.twin: self._candidates(home, secrets, rng) for home in self._truths}
        with self._bar("sealed_attack_top1", len(secrets)) as advance:
            self.figures |= measure.attack(engine, stacks, secrets, objects, advance)
        bare: dict[str, tuple[str, ...]] = dict.fromkeys(stacks, ())
        for name, adapters in (("sealed_value_leak", stacks), ("sealed_value_leak_base", bare)):
            with self._bar(name, len(secrets)) as advance:
                self.figures |= measure.leak(name, engine, adapters, secrets, advance)
        if self.options.intents.is_dir():
            from llmtwin.study.intents import evaluate

            with self._bar("intents_accuracy", None):
                right, count = evaluate(engine, SKILL, self.options.intents)
            self.figures |= {"intents_accuracy": right / count, "intents_n": count}

    def _adapter_folder(self, base: str, name: str) -> Path:
        if name == SKILL:
            folder = kind("home").skill(base)
            if folder is None:
                raise Unavailable("the home skill does not fit this base: run `make skill`")
            return folder
        twin, _, version = name.partition("@")
        return self.options.home / "server" / "adapters" / twin / version

    def _candidates(
        self, home: HomeTruth, secrets: Sequence[measure.Secret], rng: Random
    ) -> list[tuple[str, str]]:
        """A hundred objects: those asked for, the home's other sealed ones, and decoys from other homes."""
        asked = [(one.device, one.property) for one in secrets if one.twin == home.twin]
        own = [(one.device, one.property) for one in home.sealed]
        kinds = sorted({property for other in self._truths for property in _properties(other.sealed)})
        made = [(device.name, property) for device in home.description.devices for property in kinds]
        rng.shuffle(made)
        found = list(dict.fromkeys([*asked, *own, *made]))[: measure.CANDIDATES]
        rng.shuffle(found)
        return found

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


# ---- the homes of a demo -------------------------------------------------------------------------


def _check_free(options: DemoOptions) -> None:
    for name in options.names:
        folder = options.folder(name)
        if folder.exists() and not (folder / MARK).exists():
            raise InputError(
                f"there is a twin {name} of yours in {options.home}: set LLMTWIN_HOME to another folder"
            )


def _make_room(options: DemoOptions, server: Server) -> None:
    """Forget the twins of an earlier demo, and mark the folders of the new ones as the demo's."""
    for info in server.link(options.names[0]).twins():
        if info.cohort == COHORT:
            server.link(info.id).forget()
        elif info.id in options.names:
            raise InputError(f"the server has a twin {info.id} of yours: set LLMTWIN_HOME to another folder")
    for mark in options.home.glob(f"edge/*/{MARK}"):
        shutil.rmtree(mark.parent)
    for name in options.names:
        options.folder(name).mkdir(mode=0o700, parents=True)
        (options.folder(name) / MARK).touch()


def read_truth(seed: int, edge: Edge, end: datetime) -> HomeTruth:
    """What is true of a home: from the simulator, and from the journal of what was seen and sent."""
    dump = json.dumps(Home(seed, edge.name).states(end)).encode()
    entities = read_states(dump).entities
    private = [one for one in observe(entities) if one.private]
    entries = [json.loads(line) for line in edge.journal.read_text(encoding="utf-8").splitlines()]
    return HomeTruth(
        twin=edge.name,
        description=describe(entities),
        settings=tuple(one for one in private if not one.sealed),
        sealed=tuple(one for one in private if one.sealed),
        sent=tuple(Fact.model_validate_json(json.dumps(fact)) for entry in entries for fact in entry["sent"]),
        seen={datetime.fromisoformat(entry["at"]): entry["seen"] for entry in entries},
    )


def _with_ends(one: Asked, ended: Mapping[str, Command]) -> Asked:
    """An answer with its commands as they ended."""
    commands = tuple(ended.get(order.id, order) for order in one.answer.commands)
    return replace(one, answer=one.answer.model_copy(update={"commands": commands}))


def _sample(rng: Random, secrets: Sequence[measure.Secret], count: int) -> list[measure.Secret]:
    return rng.sample(secrets, min(count, len(secrets)))


def _properties(sealed: Sequence[Observation]) -> set[str]:
    return {one.property for one in sealed}


def _question(one: Observation) -> str:
    return facts.question(one.device, one.property)


def _machine() -> Figures:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cpu = names[0] if names else platform.processor() or platform.machine()
    return {"cpu": cpu, "cores": os.cpu_count() or 1, "python": platform.python_version()}


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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
