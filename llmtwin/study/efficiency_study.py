"""The study of efficiency, step by step. It orchestrates: others measure, model, draw and say.

`llmtwin study efficiency`: about 20 minutes on two cores. Each finished step is a file in the work folder, so
a killed run goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from llmtwin.models.base import Base, find_base
from llmtwin.study import efficiency_measure as measure
from llmtwin.study import search
from llmtwin.study.efficiency_sources import PAPER_RECORDS, Measured
from llmtwin.study.efficiency_text import part
from llmtwin.study.paper import PaperOptions, write
from llmtwin.study.progress import bars_on
from llmtwin.study.steps import Steps
from llmtwin.twins.home import HomeKind

LITTLE = search.SearchOptions(lengths=(10_000, 20_000, 40_000), questions=100)
"""Histories that are searched within minutes; the longer ones are `llmtwin study search`."""


@dataclass(frozen=True)
class EfficiencyOptions:
    """How much is measured: facts learned, hours of an entity, seconds of full training, models averaged."""

    records: int = PAPER_RECORDS
    records_smaller: int = 200
    hours: int = 24
    full_seconds: float = 240.0
    counts: tuple[int, ...] = (1, 2, 5, 10, 20)
    search: search.SearchOptions = LITTLE


def run(
    paper_options: PaperOptions, options: EfficiencyOptions | None = None, console: Console | None = None
) -> None:
    """Measure, or go on with it, and write the part and the page."""
    options = options or EfficiencyOptions()
    base = find_base(paper_options.base, paper_options.cache.expanduser())
    identity = {"base": base.hash, "seed": paper_options.seed, "options": repr(options)}
    steps = Steps(paper_options.work / "efficiency", identity)
    with bars_on(console or Console()) as bars:

        @contextmanager
        def bar(description: str) -> Iterator[Callable[[str], None]]:
            task = bars.add_task(description, total=1, said="")
            yield lambda said: bars.update(task, said=said)
            bars.update(task, completed=1)

        found = _measured(base, steps, options, paper_options.seed, bar)
    write(part(found), paper_options.out)


def _measured(base: Base, steps: Steps, options: EfficiencyOptions, seed: int, bar: Any) -> Measured:
    """All that is measured. The base's tuning is the first, so that the most memory until then is its own."""
    found: dict[str, Any] = {"clock_hz": steps.do("clock", measure.clock_hz)}
    with bar("a region is learned") as say:
        tuned = steps.do("whole/tuning", lambda: _tuned(base, steps, "whole", options.records, seed, say))
        tuned["passes"] = measure.passes(base, measure.region(options.records, seed), tuned)
    with bar("homes are looked at"):
        found["entity"] = steps.do("entity", lambda: measure.entity(options.records, options.hours, seed))
    # H as the model has it: what is static first, then every change.
    text = measure.text_of(measure.region(options.records, seed)) + found["entity"].pop("text")
    small = measure.smaller(base, steps.folder, seed)
    with bar("a smaller model learns it") as say:
        tuned_small = steps.do(
            "smaller/tuning", lambda: _tuned(small, steps, "smaller", options.records_smaller, seed, say)
        )
    for which, one, tuning in (("whole", base, tuned), ("smaller", small, tuned_small)):
        with bar(f"{which} model: all parameters learn, models are averaged, an adapter is loaded"):
            found[which] = {"tuning": tuning} | _costs(one, steps, which, options, text)
    with bar("prompts are searched"):
        found["search"] = steps.do("search", lambda: _searched(steps.folder, options.search, seed))
    return found


def _tuned(
    base: Base, steps: Steps, which: str, records: int, seed: int, say: Callable[[str], None]
) -> dict[str, Any]:
    kind, examples = HomeKind(), measure.region(records, seed)
    folder = steps.folder / which / "adapter"
    return measure.tuning(base, examples, kind.tuning(len(examples)), folder, kind.skill(base.hash), say)


def _costs(base: Base, steps: Steps, which: str, options: EfficiencyOptions, text: str) -> dict[str, Any]:
    full = steps.do(f"{which}/full", lambda: measure.full_training(base, text, options.full_seconds))
    averaging = steps.do(f"{which}/averaging", lambda: measure.averaging(full["parameters"], options.counts))
    adapter = steps.folder / which / "adapter"
    loading = steps.do(f"{which}/loading", lambda: measure.loading(adapter))
    return {"full": full, "averaging": averaging, "loading": loading}


def _searched(folder: Path, options: search.SearchOptions, seed: int) -> list[dict[str, Any]]:
    of_day = search.day(options, seed)
    asked = search.questions_of(options, of_day, seed)
    with TemporaryDirectory(dir=folder) as scratch:
        database = Path(scratch) / "memory.sqlite"
        return [search.measure(database, of_day, length, asked) for length in options.lengths]
