"""The part about efficiency end to end on a tiny base: what is measured, and what it becomes on the page."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from llmtwin.errors import InputError
from llmtwin.models.base import Base
from llmtwin.study import efficiency as model
from llmtwin.study import efficiency_figures as figures
from llmtwin.study import efficiency_measure as measure
from llmtwin.study import efficiency_study, efficiency_text, search
from llmtwin.study.chart import Line
from llmtwin.study.efficiency_sources import (
    BANDWIDTH_HZ,
    SNR,
    SUB_CHANNELS,
    How,
    channel,
    growth_s,
    here,
    paper,
    parameters,
    table,
)
from llmtwin.study.efficiency_study import EfficiencyOptions
from llmtwin.study.paper import PaperOptions
from llmtwin.study.search import SearchOptions
from tests.models import tiny_base

QUIET = Console(quiet=True)
LITTLE = EfficiencyOptions(
    records=6,
    records_smaller=3,
    hours=1,
    full_seconds=0.3,
    counts=(1, 3),
    search=SearchOptions(lengths=(60, 120), homes=2, steps_a_day=3, questions=5),
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    torch.set_num_threads(1)
    return tiny_base(tmp_path_factory.mktemp("base"), "llama")


@pytest.fixture(scope="module")
def options(base: Base, tmp_path_factory: pytest.TempPathFactory) -> PaperOptions:
    """Of a study that was run to its end."""
    folder = tmp_path_factory.mktemp("study")
    found = PaperOptions(folder / "cache", str(base.folder), folder / "work", folder / "out")
    efficiency_study.run(found, LITTLE, QUIET)
    return found


@pytest.fixture(scope="module")
def content(options: PaperOptions) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((options.out / "paper-efficiency.json").read_text())
    return found


# ---- what is measured ----------------------------------------------------------------------------


def test_a_region_asks_each_fact_by_its_home() -> None:
    found = measure.region(150, seed=1)
    assert len({one.prompt for one in found}) == len({one.path for one in found}) == 150
    assert "Acacia House" in found[0].prompt and "Birch House" in found[-1].prompt
    assert measure.region(20, seed=1) == found[:20]


def test_sizes_are_of_real_adapters_and_prompts(options: PaperOptions, content: Mapping[str, Any]) -> None:
    data = content["data"]
    files = list((options.work / "efficiency" / "whole" / "adapter").iterdir())
    tuning = data["whole"]["tuning"]
    assert tuning["adapter_bytes"] == sum(file.stat().st_size for file in files)
    assert tuning["adapter_bytes"] > 2 * tuning["parameters"] > 0
    # Sentences with typed facts take more than the sentences alone, and less than the whole state does.
    entity = data["entity"]
    assert 0 < entity["text_bytes_per_h"] < entity["prompt_bytes_per_h"]
    assert entity["S_d_tilde_bytes"] == pytest.approx(entity["prompt_bytes_per_h"] / 4)
    assert entity["S_d_tilde_bytes"] < entity["S_bytes"] and entity["S_d_bytes"] < entity["S_bytes"]


@pytest.mark.parametrize("records", [20, 150])
def test_an_entity_s_state_is_that_of_the_devices_whose_settings_are_tuned_on(records: int) -> None:
    entity = measure.entity(records, hours=1, seed=1)
    facts = measure.region(records, seed=1)
    houses = {one.prompt.partition(" House")[0].rpartition(" ")[2] for one in facts}
    assert entity["houses"] == len(houses)
    # The same settings, as JSON with all else that is known of a device: |S_s| < |S|.
    assert len(measure.text_of(facts).encode()) < entity["S_bytes"]
    # Nothing of another home is in its history.
    assert {line.partition(" House")[0] for line in entity["text"].splitlines()} <= houses


def test_full_training_counts_its_text_and_the_smaller_model_is_smaller(content: Mapping[str, Any]) -> None:
    whole, small = content["data"]["whole"]["full"], content["data"]["smaller"]["full"]
    assert 0 < small["parameters"] < whole["parameters"]
    for full in (whole, small):
        sizes, seconds = zip(*full["steps"], strict=True)
        assert list(sizes) == sorted(sizes) and list(seconds) == sorted(seconds) and seconds[0] > 0
        data = content["data"]
        static, changes = data["whole"]["tuning"]["data_bytes"], data["entity"]["text_bytes_per_h"]
        assert sizes[-1] <= static + changes * LITTLE.hours + 1


def test_memory_and_loss_are_told_for_each_epoch(content: Mapping[str, Any]) -> None:
    tuning = content["data"]["whole"]["tuning"]
    assert len(tuning["epochs"]) > 1
    assert tuning["epochs"][-1]["loss"] < tuning["epochs"][0]["loss"]
    assert 0 < max(one["rss_bytes"] for one in tuning["epochs"]) <= tuning["peak_rss_bytes"]
    assert tuning["seconds"] >= tuning["epochs"][-1]["seconds"]


# ---- the model with what was measured ------------------------------------------------------------


def test_the_model_gives_back_what_was_measured(content: Mapping[str, Any]) -> None:
    """Cycles and clock are of one run, so that the model's times for it are those that it took."""
    data = content["data"]
    for which in figures.MEASURED_MODELS:
        p, of = parameters(here(data, which), hours=24), data[which]
        assert model.T_u_cmp_tilde_s(p)[0] == pytest.approx(of["tuning"]["seconds"])
        assert model.T_g_cmp_tilde_s(p)[0] == pytest.approx(of["loading"]["seconds"])
        trained_bytes, trained_s = of["full"]["steps"][-1]
        assert model.T_u_cmp_s(replace(p, H_bytes=trained_bytes))[0] == pytest.approx(trained_s)
        count, seconds = of["averaging"]["counts"][-1], of["averaging"]["seconds"][-1]
        assert model.T_g_cmp_s(replace(p, n=count)) == pytest.approx(seconds)
        assert model.w_tilde_bytes(p) == pytest.approx(of["tuning"]["adapter_bytes"])


def test_the_paper_s_parameters_give_back_what_it_states(content: Mapping[str, Any]) -> None:
    source = paper("7B", content["data"])
    assert model.T_u_cmp_tilde_s(parameters(source, hours=1))[0] == pytest.approx(400)
    assert model.T_u_cmp_tilde_s(parameters(paper("3.5B", content["data"]), hours=1))[0] == pytest.approx(200)
    # "%1 of FL or even less", from the first hour on and less with each.
    shares = [
        float(model.T_u_cmp_tilde_s(p)[0] / model.T_u_cmp_s(p)[0])
        for p in (parameters(source, hours) for hours in (0, 1, 100))
    ]
    assert shares[0] == pytest.approx(0.01) and shares == sorted(shares, reverse=True)


def test_every_parameter_stands_in_the_table_with_where_it_comes_from(content: Mapping[str, Any]) -> None:
    rows = table({"paper": paper("7B", content["data"]), "here": here(content["data"])})
    assert len(rows) == 1 + len(model.Parameters.__dataclass_fields__)
    assert all(any(f"({how}: " in cell for how in How) for row in rows[1:] for cell in row[3:])
    assert all(unit for _, _, unit, *_ in rows)
    symbols = [row[0] for row in rows[1:]]
    assert len(set(symbols)) == len(symbols)


@given(n=st.integers(1, 271))
def test_more_entities_have_less_of_the_channel_each(n: int) -> None:
    whole = model.r_bytes_per_s(np.array([1]), 1, BANDWIDTH_HZ, SNR)[0]
    # Whole sub-channels: at most one more than the even share.
    assert channel(n + 1) <= channel(n) <= whole * (1 / (n + 1) + 1 / SUB_CHANNELS)


# ---- figures -------------------------------------------------------------------------------------


def lines(content: Mapping[str, Any], figure: str) -> dict[str, Line]:
    chart = next(one["chart"] for one in content["sections"] if one["name"] == f"figure-{figure}")
    return {one["label"]: Line(**one) for one in chart["lines"]}


def test_figures_say_what_the_paper_says_of_them(content: Mapping[str, Any]) -> None:
    computing = lines(content, "5")
    assert list(computing["FL 7B"].y) == sorted(set(computing["FL 7B"].y))  # grows with time
    assert len(set(computing["LLM-Twin 7B"].y)) == 1  # does not
    server = lines(content, "6")
    assert server["FL 7B"].y[-1] / server["FL 7B"].y[0] == pytest.approx(200)
    assert len(set(server["LLM-Twin 7B"].y)) == 1
    sent = lines(content, "7")
    assert len(set(sent["FL intra 7B"].y)) == len(set(sent["FL inter 7B"].y)) == 1
    assert sent["LLM-Twin inter 7B"].y[-1] > sent["LLM-Twin inter 7B"].y[0]
    whole = lines(content, "9")
    assert whole["FL 7B, K = 10"].y[0] > whole["FL 7B, K = 1"].y[0] > whole["LLM-Twin 7B, λ = 1"].y[0]
    assert whole["LLM-Twin 7B, λ = 96"].y[0] < whole["LLM-Twin 7B, λ = 1"].y[0]


def test_measured_points_are_the_measurements(content: Mapping[str, Any]) -> None:
    data, points = content["data"], lines(content, "5")
    for which, facts in (("whole", 6), ("smaller", 3)):
        name, steps = figures.label(data, which), data[which]["full"]["steps"]
        trained, tuned = (
            points[f"FL {name}, one pass"],
            points[f"LLM-Twin {name}, {facts} facts (at any hour)"],
        )
        assert trained.measured and tuned.measured
        assert list(tuned.y) == [data[which]["tuning"]["seconds"]]
        # Where H has as many bytes as were trained on by then.
        for hours, seconds in zip(trained.x, trained.y, strict=True):
            [there] = [bytes_ for bytes_, spent in steps if spent == seconds]
            assert parameters(here(data), hours).H_bytes == pytest.approx(there)
        assert trained.y[-1] <= steps[-1][1]
    # That is the curves' H too, for a study as it ships.
    tuning = {**data["whole"]["tuning"], "examples": EfficiencyOptions().records}
    as_shipped = {**data, "whole": {**data["whole"], "tuning": tuning}}
    sizes = [parameters(source, hours=5).H_bytes for source in (paper("7B", as_shipped), here(as_shipped))]
    assert sizes[0] == pytest.approx(sizes[1])
    name = figures.label(data, "whole")
    assert not points["FL 7B"].measured
    averaged = lines(content, "6")[f"FL {name}"]
    assert averaged.measured and list(averaged.y) == data["whole"]["averaging"]["seconds"]
    searched = lines(content, "7")["LLM-Twin inter: p95 measured"]
    assert list(searched.y) == [one["queries"]["answer"]["p95_ms"] / 1000 for one in data["search"]]
    an_hour = figures.N * data["entity"]["prompts_per_h"]
    assert [hours * an_hour for hours in searched.x] == pytest.approx([60, 120])


@pytest.mark.parametrize("which", figures.MEASURED_MODELS)
def test_the_whole_is_what_was_measured_and_sending_as_it_is_modelled(
    content: Mapping[str, Any], which: str
) -> None:
    data = content["data"]
    of, name, p = data[which], figures.label(data, which), parameters(here(data, which), 24)
    point = lines(content, "9")[f"LLM-Twin {name}"]
    searched = data["search"][0]["queries"]["answer"]["p95_ms"] / 1000
    measured = of["tuning"]["seconds"] + of["loading"]["seconds"] + searched
    assert point.measured and point.y[0] == pytest.approx(measured + model.T_u_intra_tilde_s(p)[0])
    fl = [line for title, line in lines(content, "9").items() if title == f"FL {name}, one pass"]
    for one in fl:
        assert one.measured and min(one.y) > of["averaging"]["seconds"][-1]


def test_passes_are_how_often_all_was_learned_from_and_fewer_than_epochs(content: Mapping[str, Any]) -> None:
    tuning = content["data"]["whole"]["tuning"]
    assert 1 <= tuning["passes"] <= len(tuning["epochs"])
    assert f"which are {tuning['passes']:.1f} passes over them" in content["sections"][2]["text"]


@pytest.mark.parametrize("which", figures.MEASURED_MODELS)
def test_what_is_multiplied_or_sent_over_the_channel_is_modelled(
    content: Mapping[str, Any], which: str
) -> None:
    data = content["data"]
    name = f"LLM-Twin {figures.label(data, which)}"
    sent, one = lines(content, "8"), lines(content, "8")[f"{name}: one measured"]
    both = data[which]["tuning"]["adapter_bytes"] + data["entity"]["S_d_tilde_bytes"]
    assert one.measured and list(one.x) == [1] and list(one.y) == [both]
    many = sent[f"{name}, as many times one"]
    assert not many.measured and many.y[-1] / many.y[0] == many.x[-1]
    intra = lines(content, "7")[
        f"LLM-Twin intra {figures.label(data, which)}: bytes measured, channel modelled"
    ]
    assert not intra.measured and set(intra.y) == {both / channel(figures.N)}


def test_the_page_has_every_figure_and_the_paper_s_numbers_beside_ours(
    options: PaperOptions, content: Mapping[str, Any]
) -> None:
    page = (options.out / "paper.md").read_text()
    for number in ("5", "6", "7", "8", "9", "11"):
        assert f"](paper-figure-{number}.svg)" in page
        ET.parse(options.out / f"paper-figure-{number}.svg")
    assert "5,878 MB, then 19,820 MB" in page and "Ours never merges" in page
    assert f"ξ̃ (all epochs) is {content['figures']['model_xi_ratio']:,.4g} times" in page
    derived, printed = page.index("paper, 7B: derived"), page.index("paper, 7B: printed")
    assert 0 < derived < printed


def test_ratios_are_of_several_hours_and_say_what_was_measured_of_fl(
    options: PaperOptions, content: Mapping[str, Any]
) -> None:
    data, found = content["data"], content["figures"]
    ours, passes = here(data), data["whole"]["tuning"]["passes"]
    names = [name for name in found if name.startswith("model_ratio_measured")]
    assert names and all("one_pass" in name or "equal_passes" in name for name in names)
    for hours in (1, 24, 168, 720):
        p = parameters(ours, hours)
        fl, twin = model.T_fl_s(p)[0], model.T_llm_twin_s(p)[0]
        assert found[f"model_ratio_measured_fl_one_pass_after_{hours}h"] == pytest.approx(fl / twin)
        # Everything but training stays as it is.
        more = fl + (passes - 1) * model.T_u_cmp_s(p)[0]
        assert found[f"model_ratio_measured_fl_equal_passes_after_{hours}h"] == pytest.approx(more / twin)
    page = (options.out / "paper.md").read_text()
    assert "| hours | paper, 3.5B | paper, 7B | " in page and "not shown to learn it" in page


def test_the_history_grows_beside_the_prompts_where_the_two_ways_are_compared(
    content: Mapping[str, Any],
) -> None:
    seven = paper("7B", content["data"])
    fl, twin = (growth_s(seven, of) for of in (model.T_fl_s, model.T_llm_twin_s))
    for hours in (0.25, 24, 10_000):
        p = parameters(seven, hours)
        assert fl[0] + hours * fl[1] == pytest.approx(model.T_fl_s(p)[0])
        assert twin[0] + hours * twin[1] == pytest.approx(model.T_llm_twin_s(p)[0])
    # Never undone: an hour adds more to FL than to the search.
    assert fl[0] > twin[0] and fl[1] > twin[1] > 0
    text = next(one["text"] for one in content["sections"] if one["title"].startswith("Eq. (13)"))
    assert "LLM-Twin takes less from the start (paper, 7B)" in text and "undo" not in text


def test_the_way_that_grows_less_wins_after_the_hours_at_which_the_two_meet() -> None:
    def times(fl_static: float, fl_hour: float, twin_hour: float) -> str:
        return efficiency_text.grown("x", (fl_static, fl_hour), (2.0, twin_hour))

    assert times(3, 5, 1).endswith("LLM-Twin takes less from the start (x)")
    assert times(1, 5, 1).endswith("LLM-Twin takes less after 0.2 hours (x)")
    assert times(3, 1, 3).endswith("FL takes less after 0.5 hours (x)")


def test_a_study_that_is_done_measures_nothing_again_and_another_one_is_refused(
    options: PaperOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {file.name: file.read_bytes() for file in options.out.iterdir()}
    monkeypatch.setattr(measure, "tuning", None)
    efficiency_study.run(options, LITTLE, QUIET)
    assert {file.name: file.read_bytes() for file in options.out.iterdir()} == before
    with pytest.raises(InputError, match="other options"):
        efficiency_study.run(options, replace(LITTLE, records=7), QUIET)


def test_all_that_is_asked_was_said_where_the_history_is_shortest(tmp_path: Path) -> None:
    of_day = search.day(LITTLE.search, seed=0)
    short = replace(LITTLE.search, lengths=(len(of_day) // 2, len(of_day)))
    said = {fact.path for prompt in of_day[: len(of_day) // 2] for fact in prompt.facts}
    asked = search.questions_of(short, of_day, seed=0)
    assert {one.path for one in asked} <= said < {fact.path for prompt in of_day for fact in prompt.facts}
    found = search.measure(tmp_path / "memory.sqlite", of_day, len(of_day) // 2, asked)
    assert found["prompts"] == len(of_day) // 2
