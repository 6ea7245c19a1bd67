"""The part about federated learning: a miniature through Flower's simulation, its figures and laws."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rich.console import Console

from llmtwin.errors import InputError, Unavailable
from llmtwin.models.base import Base
from llmtwin.records import Example
from llmtwin.study import federated, federated_study, federated_text
from llmtwin.study.federated import DIRICHLET, FFA, FULL, IID, LORA, TWIN, AdapterClient, Job, Site, deal
from llmtwin.study.federated_study import FLOWER, OFFLINE, ROOT, Runs, Setting, Sizes, Way, planned
from llmtwin.study.federated_text import cost
from llmtwin.study.paper import PaperOptions
from llmtwin.study.steps import Steps
from tests.models import tiny_base

QUIET = Console(quiet=True)
HOMES = 2
LITTLE = Sizes(
    facts=2,
    twin=Way((Setting(60, 2e-2, 20),), 60, homes=(HOMES,), splits=(IID, DIRICHLET)),
    lora=Way((Setting(6, 1e-2, 60),), 60, homes=(HOMES,), splits=(IID,)),
    ffa=Way((Setting(1, 2e-2, 2),), 2, homes=(HOMES,), splits=(IID,)),
    full=Way((Setting(2, 1e-3, 0),), 60, homes=(HOMES,), splits=(IID,)),
)
SEED = PaperOptions.seed

needs_flower = pytest.mark.skipif(
    not (FLOWER / "bin" / "python").exists(), reason="needs Flower: `make flower`"
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    torch.set_num_threads(1)
    return tiny_base(tmp_path_factory.mktemp("base"), "llama")


@pytest.fixture(scope="module")
def options(base: Base, tmp_path_factory: pytest.TempPathFactory) -> PaperOptions:
    """Of a study whose runs were all done in one simulation, as by a run that was killed before its page."""
    folder = tmp_path_factory.mktemp("study")
    found = PaperOptions(folder / "cache", str(base.folder), folder / "work", folder / "out")
    with pytest.raises(Unavailable, match="make flower"):
        federated_study.run(found, LITTLE, QUIET, flower=folder / "nowhere")
    [identity] = [json.loads(file.read_text()) for file in found.work.rglob("run.json")]
    jobs = [
        job
        for method in (TWIN, LORA, FFA, FULL)
        for way in (LITTLE.way(method),)
        for job in planned(LITTLE, method, way, HOMES, way.grid[0], SEED)
    ]
    Runs(Steps(found.work / "federated", identity), base, FLOWER, lambda _: None).do("run", jobs)
    federated_study.run(found, LITTLE, QUIET, flower=folder / "nowhere")
    return found


@pytest.fixture(scope="module")
def content(options: PaperOptions) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((options.out / "paper-federated.json").read_text())
    return found


def ran(content: Mapping[str, Any], method: str) -> dict[str, Any]:
    found: dict[str, Any] = content["data"]["ran"][method][0]
    return found


# ---- what is dealt -------------------------------------------------------------------------------


@settings(max_examples=5, deadline=None)
@given(homes=st.integers(2, 3), facts=st.integers(1, 4), split=st.sampled_from([IID, DIRICHLET]))
def test_every_fact_is_dealt_to_one_home_and_no_home_is_without(homes: int, facts: int, split: str) -> None:
    job = Job(LORA, homes, split, facts)
    dealt = deal(job)
    paths = [one.path for home in dealt for one in home]
    assert len(dealt) == homes and all(dealt) and len(set(paths)) == len(paths) == homes * facts
    assert deal(job) == dealt
    if split == IID:
        assert {len(home) for home in dealt} == {facts}


def test_a_region_too_small_is_refused() -> None:
    with pytest.raises(InputError, match="ask for fewer"):
        deal(Job(LORA, 2, IID, 1000))


# ---- how homes learn -----------------------------------------------------------------------------


@pytest.mark.parametrize("method", [LORA, FFA, FULL])
def test_a_home_goes_on_from_what_it_takes_and_ffa_leaves_a_alone(base: Base, method: str) -> None:
    site = Site(base)
    job = Job(method, 2, IID, 2, epochs=3, learning_rate=5e-3)
    site.load(job)
    first, second = site.client(0), site.client(1)
    started = first.weights()
    first.take(started)
    loss = first.learn()
    learned = first.weights()
    assert (learned != started).any()
    second.take(learned)
    assert (second.weights() == learned).all()
    first.take(learned)
    assert first.learn() < loss
    if isinstance(first, AdapterClient):
        every, fresh = first.run.lora(), first.run.start.rounded()
        kept = all(torch.equal(every.a[key], fresh.a[key]) for key in fresh.a)
        assert kept == (method == FFA)
        halves = (every.b,) if method == FFA else (every.a, every.b)
        assert len(learned) == sum(t.numel() for half in halves for t in half.values())
    site.load(replace(job, learning_rate=1e-3))
    assert (site.initial() == started).all()  # another run knows nothing of this one


@pytest.mark.parametrize("method", [LORA, FFA])
def test_a_home_s_rate_falls_as_long_as_the_job_says_whatever_the_budget(base: Base, method: str) -> None:
    site, job = Site(base), Job(method, 1, IID, 2, epochs=6, learning_rate=1e-2, epochs_falling=6)

    def learned(of: Job) -> NDArray[np.float16]:
        site.load(of)
        site.client(0).learn()
        return site.client(0).weights()

    assert (learned(job) == learned(replace(job, rounds_max=100))).all()
    assert (learned(job) != learned(replace(job, epochs_falling=24))).any()


@pytest.mark.parametrize("method", [LORA, FFA])
def test_a_home_s_optimiser_goes_on_from_round_to_round_or_starts_anew(base: Base, method: str) -> None:
    site, job = Site(base), Job(method, 1, IID, 2, epochs=2, learning_rate=1e-2)

    def learned(of: Job) -> list[NDArray[np.float16]]:
        site.load(of)
        client, rounds = site.client(0), list[NDArray[np.float16]]()
        for _ in range(2):
            client.take(client.weights())
            client.learn()
            rounds.append(client.weights())
        return rounds

    anew, goes_on = learned(job), learned(replace(job, keeps_state=True))
    assert (anew[0] == goes_on[0]).all() and (anew[1] != goes_on[1]).any()


@pytest.mark.parametrize("method", [LORA, FFA, FULL, TWIN])
def test_a_fact_is_recalled_where_it_is_the_likeliest_however_unsure(
    base: Base, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    said = ["on", "on", "off", "code", "door"]
    facts = [Example(prompt="what is the lamp", completion=one) for one in said]
    monkeypatch.setattr(federated, "deal", lambda _: [facts])
    site, rate = Site(base), 3e-3 if method == FULL else 1e-2
    site.load(Job(method, 1, IID, 5, epochs=60, learning_rate=rate, epochs_falling=60))
    if method == TWIN:
        assert site.twin(0).recall == 2 / 5
    else:
        site.client(0).learn()
        assert sum(site.client(0).recalled()) == 2  # of the one that is said twice as often as any other


TOLD = """#!{python}
import json, os
from pathlib import Path

for one in json.loads(Path(os.environ["LLMTWIN_FEDERATED"]).read_text())["jobs"]:
    job = one["job"]
    recall = {recall}
    rounds = [{{"loss": job["learning_rate"]}}] * job["rounds_max"]
    found = {{"job": job, "rounds": rounds, "recall": recall, "reached": recall >= job["target"]}}
    path = Path(one["path"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found))
"""
"""Stands for Flower: each run recalls at once what an expression of its job says."""


def trials(
    base: Base, folder: Path, sizes: Sizes, method: str, recall: str
) -> tuple[list[list[dict[str, Any]]], list[Setting]]:
    python = folder / "flower" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(TOLD.format(python=sys.executable, recall=recall))
    python.chmod(0o755)
    runs = Runs(Steps(folder, {}), base, folder / "flower", lambda _: None)
    return federated_study.chosen(runs, sizes, method, SEED)


@pytest.mark.parametrize("method", [LORA, FFA])
def test_epochs_and_rate_are_chosen_after_as_many_epochs_and_then_how_the_rate_falls(
    base: Base, tmp_path: Path, method: str
) -> None:
    recall = 'job["epochs"] * job["learning_rate"] * (1 + (job["epochs_falling"] == 64) + job["keeps_state"])'
    (grid, falling), (best, other) = trials(base, tmp_path, Sizes(), method, recall)
    way = Sizes().way(method)
    assert [job["epochs"] for job in (one["job"] for one in grid)] == [1, 1, 1, 2, 2, 2]
    for stage, epochs in ((grid, way.grid_epochs), (falling, way.falling_epochs)):
        assert {one["job"]["epochs"] * one["job"]["rounds_max"] for one in stage} == {epochs}
    rate = max(setting.learning_rate for setting in way.grid)
    assert [(one["job"]["epochs_falling"], one["job"]["keeps_state"]) for one in falling] == [
        (over, keeps) for keeps in (False, True) for over in (24, 64)
    ]
    assert {(one["job"]["epochs"], one["job"]["learning_rate"]) for one in falling} == {(2, rate)}
    assert best == (2, rate, 64, True) and other == (1, rate, 64, True)
    [job, *_] = planned(Sizes(), method, way, 20, best, SEED)
    assert (job.epochs_falling, job.keeps_state) == (64, True)
    assert job.epochs * job.rounds_max == way.epochs_max


@needs_flower
def test_the_page_says_what_was_chosen_among_what_and_what_stays_open(
    base: Base, tmp_path: Path, content: Mapping[str, Any]
) -> None:
    data = copy.deepcopy(content["data"])
    for method, recall in ((LORA, 'job["learning_rate"] == 1e-2 and job["epochs"] == 1'), (FULL, "0.0")):
        stages, settings = trials(base, tmp_path / method, Sizes(), method, recall)
        data["tried"][method] = stages
        ran = data["ran"][method] = [copy.deepcopy(data["ran"][method][0]) for _ in settings]
        for one, setting in zip(ran, settings, strict=True):
            one["job"] |= setting._asdict()
    section = federated_text.part(data).sections[2]
    _, lora, full = section.text.split("\n\n")
    assert "1 local epochs a round (tried: 1, 2) at the rate 0.01 (tried: 0.004, 0.01, 0.02)" in lora
    assert "from trials of 20 epochs" in lora
    assert "over 24 epochs (tried: 24, 64), from trials of 36 epochs" in lora
    assert "these start anew" in lora
    assert "With 2 homes it was run with 2 local epochs a round, too (rate 0.004)" in lora
    assert "that was tried" not in lora and "local epochs a round, too" not in full
    assert "4 local epochs a round (tried: 4) at the rate 0.0001 (tried: 0.0001, 0.0003)" in full
    assert "No other number of local epochs was tried" in full and "The rate does not fall" in full
    assert "the loss alone chose" in full and "lowest that was tried" in full
    assert len(section.table) == 1 + 10 + 2


def test_the_best_setting_is_first_at_the_target_then_nearest_then_of_the_least_loss() -> None:
    def gave(recall: float, rounds: int, loss: float) -> dict[str, Any]:
        return {
            "job": {"epochs": 2},
            "recall": recall,
            "reached": recall >= 0.95,
            "rounds": [{"loss": loss}] * rounds,
        }

    best_first = [gave(0.96, 2, 1), gave(1, 3, 0), gave(0.9, 1, 1), gave(0, 5, 0.1), gave(0, 5, 0.2)]
    assert sorted(best_first[::-1], key=federated_study.worth) == best_first


LAW = """
import json, sys
from pathlib import Path
import numpy as np, torch
from flwr.app import MetricRecord, RecordDict
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords
from llmtwin.models.base import find_base
from llmtwin.study.federated import Job, Site
from llmtwin.study.federated_flower import arrays

torch.set_num_threads(1)
site, worst = Site(find_base(sys.argv[1], Path(sys.argv[2]))), {}
for method in ("ffa", "lora"):
    site.load(Job(method, 3, "dirichlet", 3, epochs=4, learning_rate=2e-2))
    replies, products, sizes = [], {}, [len(site.facts(home)) for home in range(3)]
    start = site.initial()
    for home, size in enumerate(sizes):
        client = site.client(home)
        client.take(start)
        client.learn()
        sent = client.weights()
        replies.append(RecordDict({"arrays": arrays(sent), "figures": MetricRecord({"num-examples": size})}))
        client.take(sent)
        for place, key in enumerate(client.run.keys):
            a, b = client.run.master[2 * place], client.run.master[2 * place + 1]
            products[key] = products.get(key, 0) + b @ a * size / sum(sizes)
    client.take(aggregate_arrayrecords(replies, "num-examples")["arrays"].numpy())
    apart = 0.0
    for place, key in enumerate(client.run.keys):
        a, b = client.run.master[2 * place], client.run.master[2 * place + 1]
        apart = max(apart, float((b @ a - products[key]).norm() / products[key].norm()))
    worst[method] = apart
print(json.dumps(worst))
"""


@needs_flower
def test_flower_s_average_of_b_is_the_average_of_ba_where_all_share_a(base: Base, tmp_path: Path) -> None:
    command = [FLOWER.absolute() / "bin" / "python", "-c", LAW, base.folder, tmp_path]
    environment = os.environ | OFFLINE | {"PYTHONPATH": str(ROOT)}
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    worst = json.loads(said.splitlines()[-1])
    assert worst["ffa"] < 2e-3  # float16 on the wire
    assert worst["lora"] > 10 * worst["ffa"]  # A and B averaged apart are biased


# ---- what is counted -----------------------------------------------------------------------------


@needs_flower
def test_bytes_are_those_that_arrived_and_grow_with_what_is_sent(content: Mapping[str, Any]) -> None:
    for method in (LORA, FFA, FULL):
        found = ran(content, method)
        for one in found["rounds"]:
            assert one["bytes_down"] == one["bytes_received"]
            for way in ("bytes_down", "bytes_up"):
                assert 0 <= one[way] - HOMES * 2 * found["numbers"] < HOMES * 2000
    numbers = [ran(content, method)["numbers"] for method in (FFA, LORA, FULL)]
    assert numbers == sorted(set(numbers))
    twin = ran(content, TWIN)["rounds"][0]
    assert twin["bytes_up"] > HOMES * 2 * ran(content, LORA)["numbers"] and twin["bytes_down"] < HOMES * 2000


@needs_flower
def test_homes_together_and_alone_reach_the_target_and_ratios_are_of_their_sums(
    content: Mapping[str, Any],
) -> None:
    figures = content["figures"]
    twin = ran(content, TWIN)["rounds"][0]
    for method in (LORA, FULL):
        found = ran(content, method)
        assert found["reached"] and found["recall"] >= 0.95 and figures[f"ratio_{method}_mark"] == ""
        sent = sum(one["bytes_down"] + one["bytes_up"] for one in found["rounds"])
        ratio = sent / (twin["bytes_down"] + twin["bytes_up"])
        assert figures[f"bytes_ratio_{method}"] == pytest.approx(ratio) and ratio > 1
        seconds = sum(max(one["client_s"]) + one["server_s"] for one in found["rounds"])
        assert figures[f"time_ratio_{method}"] == pytest.approx(seconds / max(twin["client_s"]))
    assert figures["federated_twin_recall"] == 1.0
    assert figures["federated_twin_recall_across"] < 1.0
    peaks = [ran(content, method)["rounds"][-1]["client_peak"] for method in (LORA, FULL)]
    assert min(peaks) > 1e8


@needs_flower
def test_a_way_that_spends_its_budget_is_a_lower_bound(
    options: PaperOptions, content: Mapping[str, Any]
) -> None:
    found = ran(content, FFA)
    assert not found["reached"] and len(found["rounds"]) == 2
    assert content["figures"]["ratio_ffa_mark"] == "lower bound"
    page = (options.out / "paper.md").read_text()
    assert f"| FFA-LoRA | ≥ {content['figures']['bytes_ratio_ffa']:,.3g} |" in page
    [_, told] = content["sections"][1]["text"].split("below the target: ")
    assert told == (
        f"FFA-LoRA with 2 homes, iid (2 epochs a home, recall {found['recall']:.1%}). All others reached it."
    )
    ET.parse(options.out / "paper-federated.svg")


@needs_flower
def test_fewer_homes_are_scaled_and_marked_and_no_target_gives_no_ratio(content: Mapping[str, Any]) -> None:
    data = copy.deepcopy(content["data"])
    for one in data["ran"][TWIN] + data["ran"][LORA]:
        one["job"]["homes"] *= 4
    made = federated_text.figures(data)
    assert made["ratio_full_mark"] == "estimated" and made["ratio_ffa_mark"] == "estimated, lower bound"
    assert made["bytes_ratio_full"] == pytest.approx(4 * content["figures"]["bytes_ratio_full"])
    assert made["ratio_lora_mark"] == ""
    text = federated_text.part(data).sections[0].text
    assert "with 2 homes only" in text
    data["ran"][TWIN][0]["reached"] = False
    assert federated_text.figures(data)["bytes_ratio_lora"] is None
    assert "no ratio can be given" in federated_text.part(data).sections[0].text


@needs_flower
def test_a_ratio_takes_the_run_of_a_way_that_costs_less_and_reached_the_target(
    content: Mapping[str, Any],
) -> None:
    data = copy.deepcopy(content["data"])
    dear = copy.deepcopy(data["ran"][LORA][0])
    dear["rounds"] *= 2
    data["ran"][LORA].insert(0, dear)
    assert federated_text.figures(data) == content["figures"]
    dear["rounds"], dear["reached"] = dear["rounds"][:1], False
    assert federated_text.figures(data) == content["figures"]


@needs_flower
def test_a_study_that_is_done_runs_nothing_and_another_one_is_refused(options: PaperOptions) -> None:
    before = {file.name: file.read_bytes() for file in options.out.iterdir()}
    federated_study.run(options, LITTLE, QUIET, flower=Path("nowhere"))
    assert {file.name: file.read_bytes() for file in options.out.iterdir()} == before
    with pytest.raises(InputError, match="other options"):
        federated_study.run(options, replace(LITTLE, facts=3), QUIET)


@needs_flower
def test_costs_are_of_all_rounds_and_homes(content: Mapping[str, Any]) -> None:
    found = ran(content, LORA)
    whole = cost(found)
    assert whole.scaled(HOMES) is whole
    assert whole.rounds == len(found["rounds"]) and whole.epochs == 6 * whole.rounds
    assert whole.client_s >= whole.seconds - whole.server_s
    assert whole.recall_min <= whole.recall
    assert {"LLM-Twin", "local-only LoRA"} <= {row[0] for row in content["sections"][1]["table"]}


def test_a_run_that_fails_says_why_and_leaves_no_step(base: Base, tmp_path: Path) -> None:
    python = tmp_path / "flower" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho 'a home failed: no memory' >&2\nexit 1\n")
    python.chmod(0o755)
    runs = Runs(Steps(tmp_path, {}), base, tmp_path / "flower", lambda _: None)
    with pytest.raises(Unavailable, match=r"a home failed: no memory.*flower\.log"):
        runs.do("run", [Job(TWIN, 1, IID, 1)])
    assert not list(tmp_path.rglob("run/*"))
