"""How long a search of the prompt database takes as its history grows. It knows no model and no server.

`llmtwin study search`: a day of simulated homes, as the real encoder says it, is lived again and again in a
real `Memory`; at each length of the history the three queries of an answer are timed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from math import exp, log
from pathlib import Path
from random import Random
from statistics import fmean, linear_regression, median, quantiles
from typing import Any

from rich.console import Console

from llmtwin.errors import InputError, Unavailable
from llmtwin.memory import Memory
from llmtwin.memory.words import CANDIDATES_MIN
from llmtwin.records import Fact, Prompt, Statistic
from llmtwin.study.chart import Chart, Line
from llmtwin.study.measure import shown
from llmtwin.study.paper import PaperOptions, Part, Section, write
from llmtwin.study.progress import bars_on
from llmtwin.study.steps import Steps
from llmtwin.twins.home.encode import Encoder
from llmtwin.twins.home.facts import question
from llmtwin.twins.home.observe import observe
from llmtwin.twins.home.simulator import Home
from llmtwin.twins.home.sources import read_states

MIDNIGHT = datetime(2026, 1, 20, tzinfo=UTC)
STEP = timedelta(minutes=15)
DAY = timedelta(days=1)
BATCH = 1000
WARM_UP = 20
ROUNDS = 5
"""How often all is asked at each length; the median round counts, and the others say how sure it is."""
LENGTH_MODELLED = 10_000_000
SEARCH_LIMIT = 10
QUERIES = ("latest", "aggregate", "search")
SAID = {
    "latest": "latest state by path",
    "aggregate": "aggregate over all homes",
    "search": f"text search, top {SEARCH_LIMIT}",
    "answer": "all three: one answer",
}


@dataclass(frozen=True)
class SearchOptions:
    """How long the histories are that are searched, of how many homes, and how often each is asked."""

    lengths: Sequence[int] = (10_000, 30_000, 100_000, 300_000, 1_000_000)
    homes: int = 20
    steps_a_day: int = DAY // STEP
    questions: int = 300


@dataclass(frozen=True)
class Asked:
    """What one answer looks up: a state, the mean of a measure over all homes, and words."""

    twin: str
    path: str
    measure: str
    text: str


# ---- a history -----------------------------------------------------------------------------------


def day(options: SearchOptions, seed: int) -> list[Prompt]:
    """What the homes say in one day, in the order in which they say it."""
    said: list[Prompt] = []
    for number in range(1, options.homes + 1):
        name = f"home{number}"
        home, encoder = Home(seed, name), Encoder()
        for step in range(options.steps_a_day):
            states = json.dumps(home.states(MIDNIGHT + step * STEP)).encode()
            said += encoder.encode(name, observe(read_states(states).entities))
    # The first look also tells what changed on days before.
    return sorted((one for one in said if one.at >= MIDNIGHT), key=lambda one: one.at)


def history(of_day: Sequence[Prompt], first: int) -> Iterator[Prompt]:
    """The day lived for ever, from the prompt `first` on: each day with its own ids and times."""
    number = first
    while True:
        days, place = divmod(number, len(of_day))
        one, later = of_day[place], days * DAY
        facts = tuple(fact.model_copy(update={"at": fact.at + later}) for fact in one.facts)
        yield one.model_copy(update={"id": f"{days:06}-{place:06}", "at": one.at + later, "facts": facts})
        number += 1


def grow(memory: Memory, of_day: Sequence[Prompt], length: int) -> None:
    """Append to what is there until the database holds `length` prompts, in batches as a server would.

    Raises InputError where it holds more.
    """
    there = sum(memory.count(twin) for twin in {prompt.twin for prompt in of_day})
    if there > length:
        raise InputError(f"the database of an earlier run has {there:,} prompts, not {length:,}: remove it")
    coming = history(of_day, there)
    while there < length:
        there += memory.append(list(islice(coming, min(BATCH, length - there))))


# ---- queries -------------------------------------------------------------------------------------


def questions(of_day: Sequence[Prompt], count: int, seed: int) -> list[Asked]:
    """What is asked: of facts drawn by how often they are said, of numbers only, which have a mean."""
    numbers = [(prompt, fact) for prompt in of_day for fact in prompt.facts if _is_number(fact)]
    return [
        Asked(prompt.twin, fact.path, fact.measure or "", _wording(prompt, fact))
        for prompt, fact in Random(seed).choices(numbers, k=count)
    ]


def questions_of(options: SearchOptions, of_day: Sequence[Prompt], seed: int) -> list[Asked]:
    """Those of a whole study: of what was said already where the history is shortest."""
    return questions(of_day[: min(options.lengths)], options.questions, seed)


def _is_number(fact: Fact) -> bool:
    return (
        fact.measure is not None and isinstance(fact.value, int | float) and not isinstance(fact.value, bool)
    )


def _wording(prompt: Prompt, fact: Fact) -> str:
    return question(prompt.text.partition(":")[0], fact.path.rpartition("/")[2])


def timed(memory: Memory, asked: Sequence[Asked], twins: Sequence[str]) -> dict[str, dict[str, float]]:
    """Median and 95th percentile (ms) of each query, and of all three as one answer needs them."""
    spent: dict[str, list[float]] = {name: [] for name in QUERIES}
    for one in asked:
        began = time.perf_counter()
        state = memory.latest(one.twin, one.path)
        looked_up = time.perf_counter()
        mean = memory.aggregate(one.measure, Statistic.AVERAGE, twins)
        averaged = time.perf_counter()
        found = memory.search(one.twin, one.text, SEARCH_LIMIT)
        searched = time.perf_counter()
        if state is None or mean.value is None or not found:
            raise Unavailable(f"the prompt database lost what was said of {one.path} of {one.twin}")
        for name, seconds in zip(
            QUERIES, (looked_up - began, averaged - looked_up, searched - averaged), strict=True
        ):
            spent[name].append(1000 * seconds)
    spent["answer"] = [sum(parts) for parts in zip(*spent.values(), strict=True)]
    found_of = {name: quantiles(times, n=20, method="inclusive") for name, times in spent.items()}
    return {name: {"p50_ms": steps[9], "p95_ms": steps[18]} for name, steps in found_of.items()}


def measure(path: Path, of_day: Sequence[Prompt], length: int, asked: Sequence[Asked]) -> dict[str, Any]:
    """Let the database at `path` grow to `length` prompts, and time answers to what is `asked`."""
    twins = sorted({prompt.twin for prompt in of_day})
    with Memory(path) as memory:
        began = time.perf_counter()
        grow(memory, of_day, length)
        grown_s = time.perf_counter() - began
        timed(memory, asked[:WARM_UP], twins)  # the first to read a file pays for the others
        rounds = [timed(memory, asked, twins) for _ in range(ROUNDS)]
        return {
            "prompts": length,
            "grown_s": grown_s,
            "queries": {
                name: {of: median(one[name][of] for one in rounds) for of in first}
                for name, first in rounds[0].items()
            },
            "rounds": rounds,
            "bytes": _sizes(memory, path),
        }


def _sizes(memory: Memory, path: Path) -> dict[str, int]:
    """Bytes of the file, and within it of the index of words and of what stands beside it."""
    try:
        sizes = memory.sizes()
    except Unavailable:
        return {"file": path.stat().st_size}
    words = sum(size for name, size in sizes.items() if name.startswith("words"))
    return {"file": sum(sizes.values()), "words": words, "latest": sizes["latest"]}


# ---- the part ------------------------------------------------------------------------------------


def run(paper: PaperOptions, options: SearchOptions | None = None, console: Console | None = None) -> None:
    """Measure, or go on with it, and write the part and the page."""
    options = options or SearchOptions()
    history = {"seed": paper.seed, "homes": options.homes, "steps": options.steps_a_day}
    steps = Steps(paper.work / "search", history | {"questions": options.questions, "rounds": ROUNDS})
    database = steps.folder / "memory.sqlite"
    with bars_on(console or Console()) as bars:
        bar = bars.add_task("homes live", total=len(options.lengths) + 1, said="")
        said = steps.do("day", lambda: [one.model_dump(mode="json") for one in day(options, paper.seed)])
        of_day = [Prompt.model_validate(one) for one in said]
        asked, found = questions_of(options, of_day, paper.seed), []
        for length in options.lengths:
            bars.update(bar, advance=1, said=f"{length:,} prompts", description="prompts are searched")
            make = partial(measure, database, of_day, length, asked)
            found.append(steps.do(str(length), make))
        bars.update(bar, advance=1)
    write(part(found, options), paper.out)
    for file in steps.folder.glob("memory.sqlite*"):
        file.unlink()


def part(found: Sequence[dict[str, Any]], options: SearchOptions) -> Part:
    """The part of what was measured at each length."""
    first, last = found[0], found[-1]
    ratios = {name: last["queries"][name]["p95_ms"] / first["queries"][name]["p95_ms"] for name in SAID}
    low, high = _bounds(found)
    figures = {
        "search_ratio": ratios["answer"],
        "search_ratio_low": low,
        "search_ratio_high": high,
        "search_answers": options.questions,
        "search_rounds": ROUNDS,
        **{f"search_ratio_{name}": ratios[name] for name in QUERIES},
        "search_p95_ms": last["queries"]["answer"]["p95_ms"],
        "search_prompts": last["prompts"],
        "search_bytes_per_prompt": last["bytes"]["file"] / last["prompts"],
        "search_append_per_s": (last["prompts"] - found[-2]["prompts"]) / last["grown_s"],
    }
    if "words" in last["bytes"]:
        figures["search_words_index_bytes"] = last["bytes"]["words"]
    head = ("prompts", *(f"{one}: p50, p95 (ms)" for one in SAID.values()), "file (MB)")
    body = [
        (
            f"{one['prompts']:,}",
            *(f"{one['queries'][n]['p50_ms']:.2f}, {one['queries'][n]['p95_ms']:.2f}" for n in SAID),
            f"{one['bytes']['file'] / 1e6:,.1f}",
        )
        for one in found
    ]
    section = Section(
        "Search and the length of the history",
        _text(found, ratios, options),
        (head, *body),
        chart(found),
        "search",
    )
    return Part("search", "Inter-twin search", figures, [section], {"lengths": list(found)})


def _bounds(found: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """The least and the most that an answer's 95th percentile grew, whichever rounds are compared."""
    first, last = ([one["answer"]["p95_ms"] for one in end["rounds"]] for end in (found[0], found[-1]))
    return min(last) / max(first), max(last) / min(first)


def _text(found: Sequence[dict[str, Any]], ratios: Mapping[str, float], options: SearchOptions) -> str:
    first, last = found[0]["prompts"], found[-1]["prompts"]
    size = found[-1]["bytes"]
    low, high = _bounds(found)
    power, level = _power_law(found, "answer")
    far = level * LENGTH_MODELLED**power
    end = f", the index of words {shown(size['words'] / 1e6)} MB." if "words" in size else "."
    return (
        f"Prompts of {options.homes} homes in one database, from {first:,} to {last:,}: a simulated day, "
        "lived again and again. An answer looks up the latest state of a path, a mean over all homes, and "
        f"words (the best {SEARCH_LIMIT}, by BM25 among the newest {CANDIDATES_MIN} of the rarest: that "
        f"bounds the time, and gives up older ones); {options.questions} answers at each length, warm, "
        f"asked in {ROUNDS} rounds; the median of the rounds counts. Its 95th percentile grew "
        f"{ratios['answer']:.2f} times ({low:.2f} to {high:.2f} between single rounds): the state's "
        f"{ratios['latest']:.2f}, the mean's {ratios['aggregate']:.2f}, that of the words "
        f"{ratios['search']:.2f} times. The paper's Eq. (9) "
        f"reads all prompts and would have grown {last / first:.0f} times. Lines up to "
        f"{LENGTH_MODELLED:,} prompts are modelled: a power law of each 95th percentile, fitted to all "
        f"{len(found)} lengths by least squares on logarithms, and never falling. An answer's is the number "
        f"of prompts to the power of {power:.3f}, {far:.2f} ms at {LENGTH_MODELLED:,}. The file has "
        f"{shown(size['file'] / 1e6)} MB at {last:,} prompts{end}"
    )


def chart(found: Sequence[dict[str, Any]]) -> Chart:
    """The 95th percentiles over the length, with the power laws fitted to them and the paper's search."""
    lengths = [float(one["prompts"]) for one in found]
    far = [lengths[0], float(LENGTH_MODELLED)]
    lines = []
    for name, said in SAID.items():
        times = [one["queries"][name]["p95_ms"] for one in found]
        lines.append(Line(said, lengths, times, measured=True))
        power, level = _power_law(found, name)
        lines.append(Line(f"{said}, modelled", far, [level * length**power for length in far]))
    start = found[0]["queries"]["answer"]["p95_ms"]
    lines.append(Line("a search that reads all, Eq. (9)", far, [start * one / lengths[0] for one in far]))
    return Chart("prompts in the database", "95th percentile (ms)", tuple(lines))


def _power_law(found: Sequence[Mapping[str, Any]], name: str) -> tuple[float, float]:
    """Power and level of the 95th percentile (ms) over the length: least squares on logs, never falling."""
    lengths = [log(one["prompts"]) for one in found]
    times = [log(one["queries"][name]["p95_ms"]) for one in found]
    power = max(0.0, linear_regression(lengths, times).slope)
    return power, exp(fmean(times) - power * fmean(lengths))
