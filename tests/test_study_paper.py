"""The page about the paper and its part about search: real databases that grow, a page of parts alone."""

from __future__ import annotations

import csv
import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from llmtwin.cli import app
from llmtwin.errors import InputError, Unavailable
from llmtwin.memory import Memory
from llmtwin.records import Prompt
from llmtwin.study import (
    efficiency_study,
    federated_study,
    paper,
    peer,
    privacy_study,
    search,
    table2_study,
)
from llmtwin.study.chart import Chart, Line
from llmtwin.study.paper import PaperOptions, Part, Section
from llmtwin.study.search import SearchOptions

COMMITTED = Path(__file__).parent.parent / "docs/study"
QUIET = Console(quiet=True)
LITTLE = SearchOptions(lengths=(200, 400, 800), homes=2, steps_a_day=4, questions=20)


@pytest.fixture(scope="module")
def of_day() -> list[Prompt]:
    return search.day(LITTLE, seed=1)


# ---- histories -----------------------------------------------------------------------------------


def test_days_go_on_for_ever_with_their_own_ids_and_times(of_day: list[Prompt]) -> None:
    lived = list(islice(search.history(of_day, 0), 3 * len(of_day)))
    assert len({prompt.id for prompt in lived}) == len(lived)
    assert [prompt.at for prompt in lived] == sorted(prompt.at for prompt in lived)
    first, second = of_day[-1], lived[2 * len(of_day) - 1]
    assert (second.twin, second.text) == (first.twin, first.text)
    assert second.at - first.at == second.facts[0].at - first.facts[0].at == search.DAY
    assert list(islice(search.history(of_day, 7), 5)) == lived[7:12]
    assert [Prompt.model_validate_json(prompt.model_dump_json()) for prompt in lived[-3:]] == lived[-3:]


def test_a_history_that_was_interrupted_grows_on_to_the_same(of_day: list[Prompt], tmp_path: Path) -> None:
    with Memory(tmp_path / "whole") as whole, Memory(tmp_path / "parts") as parts:
        search.grow(whole, of_day, 700)
        for length in (300, 301, 700, 700):
            search.grow(parts, of_day, length)
            assert sum(parts.count(f"home{number}") for number in (1, 2)) == length
        assert parts.prompts("home2") == whole.prompts("home2")
        with pytest.raises(InputError, match="700 prompts, not 699"):
            search.grow(parts, of_day, 699)


def test_what_is_asked_is_found_and_a_lost_fact_is_no_fast_answer(
    of_day: list[Prompt], tmp_path: Path
) -> None:
    asked = search.questions(of_day, 30, seed=2)
    assert asked == search.questions(of_day, 30, seed=2) != search.questions(of_day, 30, seed=3)
    twins = ["home1", "home2"]
    with Memory(tmp_path / "memory") as memory:
        search.grow(memory, of_day, len(of_day))
        found = search.timed(memory, asked, twins)
        assert all(0 < one["p50_ms"] <= one["p95_ms"] for one in found.values())
        assert found["answer"]["p50_ms"] > max(found[name]["p50_ms"] for name in search.QUERIES) * 0.99
        memory.forget(asked[0].twin)
        with pytest.raises(Unavailable, match="lost"):
            search.timed(memory, asked, twins)


def test_the_index_has_a_size_that_grows(of_day: list[Prompt], tmp_path: Path) -> None:
    with Memory(tmp_path / "memory") as memory:
        try:
            before = memory.sizes()
        except Unavailable:
            pytest.skip("SQLite was built without dbstat here")
        search.grow(memory, of_day, 1000)
        after = memory.sizes()
    assert after["words_in_prompts"] > before["words_in_prompts"] and after["facts"] > before["facts"]
    assert sum(after.values()) >= 1000 * 100


# ---- the part ------------------------------------------------------------------------------------


def test_a_killed_run_of_the_search_part_goes_on_to_its_end_and_then_measures_no_more(
    of_day: list[Prompt], tmp_path: Path
) -> None:
    options = PaperOptions(cache=tmp_path, seed=1, work=tmp_path / "work", out=tmp_path / "out")
    with Memory(options.work / "search" / "memory.sqlite") as memory:
        search.grow(memory, of_day, 123)  # as one that was killed on its way to 200
    search.run(options, LITTLE, QUIET)
    written = {file.name: file.read_bytes() for file in options.out.iterdir()}
    assert set(written) == {"paper-search.json", "paper-search.csv", "paper-search.svg", *PAGES}
    figures = json.loads(written["paper.json"])["figures"]
    one = json.loads(written["paper-search.json"])
    assert [found["prompts"] for found in one["data"]["lengths"]] == [200, 400, 800]
    first, last = (one["data"]["lengths"][place]["queries"]["answer"]["p95_ms"] for place in (0, -1))
    assert figures["search_ratio"] == last / first > 0
    assert figures["search_prompts"] == 800 and figures["search_bytes_per_prompt"] > 100
    assert not list(options.work.rglob("*.sqlite*"))
    ET.fromstring(written["paper-search.svg"])
    search.run(options, LITTLE, QUIET)
    assert {file.name: file.read_bytes() for file in options.out.iterdir()} == written
    with pytest.raises(InputError, match="other options"):
        search.run(options, replace(LITTLE, questions=21), QUIET)


def found_at(prompts: int, ms: float) -> dict[str, Any]:
    return {"prompts": prompts, "queries": {name: {"p95_ms": ms} for name in search.SAID}}


def test_modelled_lines_are_fitted_to_all_that_was_measured_and_never_fall() -> None:
    # Ten times as long took twice the time, at all lengths: so it goes on.
    rising = search.chart([found_at(10_000, 1.0), found_at(100_000, 2.0), found_at(1_000_000, 4.0)])
    modelled = next(line for line in rising.lines if not line.measured)
    assert list(modelled.x) == [1e4, 1e7] and list(modelled.y) == pytest.approx([1, 8])
    # One length that fell at the end does not hide that all rose: logs of 1, 2, 4, 2 have the slope 0.4.
    late = [*zip((10**4, 10**5, 10**6), (1.0, 2.0, 4.0), strict=True), (10**7, 2.0)]
    bent = next(line for line in search.chart([found_at(*one) for one in late]).lines if not line.measured)
    assert bent.y[1] / bent.y[0] == pytest.approx(2 ** (3 * 0.4))
    falling = search.chart([found_at(10_000, 4.0), found_at(1_000_000, 1.0)])
    assert next(line for line in falling.lines if not line.measured).y == pytest.approx([2, 2])
    # Eq. (9): a thousand times the prompts, a thousand times the time.
    assert list(rising.lines[-1].y) == pytest.approx([1, 1000])


def test_how_much_an_answer_grew_is_said_with_what_the_rounds_disagree_by(
    of_day: list[Prompt], tmp_path: Path
) -> None:
    asked = search.questions(of_day, 20, seed=2)
    found = [search.measure(tmp_path / "memory", of_day, length, asked) for length in (200, 400)]
    assert all(len(one["rounds"]) == search.ROUNDS for one in found)
    for one in found:
        times = sorted(of["answer"]["p95_ms"] for of in one["rounds"])
        assert one["queries"]["answer"]["p95_ms"] == times[search.ROUNDS // 2]
    figures = search.part(found, LITTLE).figures
    first, last = ([of["answer"]["p95_ms"] for of in one["rounds"]] for one in found)
    assert figures["search_ratio_low"] == min(last) / max(first) <= figures["search_ratio"]
    assert figures["search_ratio_high"] == max(last) / min(first) >= figures["search_ratio"]
    assert figures["search_answers"] == 20 and figures["search_rounds"] == search.ROUNDS


# ---- the commands --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("search", search),
        ("efficiency", efficiency_study),
        ("table2", table2_study),
        ("peer", peer),
        ("federated", federated_study),
        ("privacy", privacy_study),
    ],
)
def test_a_part_is_run_by_its_name(name: str, module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[PaperOptions] = []
    monkeypatch.setattr(module, "run", ran.append)
    monkeypatch.setenv("LLMTWIN_BASE", "some-base")
    assert CliRunner().invoke(app, ["study", name]).exit_code == 0
    assert [one.base for one in ran] == ["some-base"] and ran[0].out == Path("docs/study")
    refused = CliRunner().invoke(app, ["study", name, "--mini"])
    assert isinstance(refused.exception, InputError) and len(ran) == 1


# ---- the page ------------------------------------------------------------------------------------

PAGES = {"paper.json", "paper.md"}
CHART = Chart("hours", "seconds", (Line("a", [1, 2], [3, 4]), Line("b", [1], [5], measured=True)))


def part(name: str, **figures: float) -> Part:
    section = Section("Of it", "A text.", [("size", "value"), ("|w|", "3")], CHART, f"{name}-fig")
    return Part(name, f"Part {name}", figures, [section])


def test_parts_in_any_order_make_one_page(tmp_path: Path) -> None:
    for folder, names in (("one", paper.ORDER), ("two", paper.ORDER[::-1])):
        for name in names:
            paper.write(part(name, **{f"{name}_figure": 0.5}), tmp_path / folder)
    pages = [(tmp_path / folder / "paper.md").read_text() for folder in ("one", "two")]
    assert pages[0] == pages[1]
    places = [pages[0].index(f"## Part {name}") for name in paper.ORDER]
    assert places == sorted(places)
    assert "| \\|w\\| | 3 |" in pages[0]
    figures = json.loads((tmp_path / "one" / "paper.json").read_text())["figures"]
    assert figures == {f"{name}_figure": 0.5 for name in paper.ORDER}
    for name in paper.ORDER:
        assert f"](paper-{name}-fig.svg)" in pages[0]
        ET.parse(tmp_path / "one" / f"paper-{name}-fig.svg")
        rows = list(csv.reader((tmp_path / "one" / f"paper-{name}-fig.csv").read_text().splitlines()))
        assert rows[1] == ["a", "modelled", "1", "3", "seconds"]
        assert rows[3] == ["b", "measured", "1", "5", "seconds"]


def test_one_name_is_one_figure(tmp_path: Path) -> None:
    for name in paper.ORDER[:2]:
        one = {"title": name, "machine": {}, "figures": {"same": 1}, "sections": []}
        (tmp_path / f"paper-{name}.json").write_text(json.dumps(one))
    with pytest.raises(InputError, match="same"):
        paper.collect(tmp_path)


def test_the_committed_page_is_that_of_the_committed_parts(tmp_path: Path) -> None:
    parts = [file for name in paper.ORDER if (file := COMMITTED / f"paper-{name}.json").exists()]
    if not parts:
        pytest.skip(f"no part on record in {COMMITTED}")
    for file in parts:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    paper.collect(tmp_path)
    for name in PAGES:
        assert (tmp_path / name).read_text() == (COMMITTED / name).read_text()
