"""Tuning beside stock PEFT, end to end on a tiny base: both learn the same facts, each in its process."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import Any

import pytest
import torch
from rich.console import Console

from llmtwin.errors import InputError, Unavailable
from llmtwin.models.base import Base
from llmtwin.models.lora import SCALE, Lora
from llmtwin.models.tune import TuneOptions
from llmtwin.study import peer
from llmtwin.study.paper import PaperOptions
from llmtwin.study.peer import PeerOptions
from llmtwin.twins.home import HomeKind
from tests.models import tiny_base

pytestmark = pytest.mark.slow
QUIET = Console(quiet=True)
LITTLE = PeerOptions(
    facts=6,
    rates=(1e-2, 2e-2, 3e-2),
    trial_facts=6,
    together=2,
    trial_seconds=0.1,
    epochs=60,
    seconds_max=30,
)
QUICK = TuneOptions(layers_share=0.4, learning_rate=1e-2, batch_tokens=64, epochs_max=60, epochs_falling=60)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return tiny_base(tmp_path_factory.mktemp("base"), "llama")


@pytest.fixture(scope="module")
def options(base: Base, tmp_path_factory: pytest.TempPathFactory) -> PaperOptions:
    """Of a study that was run to its end, over a skill."""
    folder = tmp_path_factory.mktemp("study")
    skill = Lora.fresh(base.config, 4, 1, seed=3)
    noise = torch.Generator().manual_seed(3)
    b = {key: torch.randn(t.shape, generator=noise) * 0.05 for key, t in skill.b.items()}
    replace(skill, b=b).save(folder / "skill", base.name)
    found = PaperOptions(folder / "cache", str(base.folder), folder / "work", folder / "out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HomeKind, "skill", lambda *_: folder / "skill")
        patch.setattr(HomeKind, "tuning", lambda *_: QUICK)
        peer.run(found, LITTLE, QUIET)
    return found


def written(options: PaperOptions) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((options.out / "paper-peer.json").read_text())
    return found


def test_both_learn_the_same_facts_over_the_same_skill(options: PaperOptions, base: Base) -> None:
    figures, data = written(options)["figures"], written(options)["data"]
    assert figures["peft_recall_ours"] == 1 and not figures["peft_speedup_is_bound"]
    counts = peer.best(data)
    assert counts["epochs"][-1]["recall"] == 1 > counts["epochs"][0]["recall"]
    # Of what is all but as likely, our engine and the peer in another precision may say either.
    assert figures["peft_recall"] >= 0.5
    # What the peer learned over its merged skill is an adapter as ours is.
    names = f"peer-{counts['learning_rate']:g}", "before"
    folder, ours = (options.work / "peer" / f"{name}-adapter" for name in names)
    one, other = Lora.load(folder), Lora.load(ours)
    assert (one.rank, one.first) == (other.rank, other.first)
    facts = peer.measure.region(LITTLE.facts, options.seed)
    assert peer.told(base, options.work.parent / "skill", folder, facts) == figures["peft_recall"]


def test_the_skill_is_in_the_weights_that_the_peer_trains_over(options: PaperOptions, base: Base) -> None:
    skill, name = Lora.load(options.work.parent / "skill"), "model.layers.2.mlp.down_proj.weight"
    merged = Base(options.work / "peer" / "merged" / "float32", "", "merged").tensors()
    wanted = base.tensors()[name].float() + SCALE * skill.b[2, "down"] @ skill.a[2, "down"]
    torch.testing.assert_close(merged[name], wanted)


def test_figures_are_of_what_was_measured(options: PaperOptions) -> None:
    content = written(options)
    figures, data = content["figures"], content["data"]
    slower = max(one["seconds"] for one in data["ours"])
    assert figures["peft_speedup"] == peer.best(data)["epochs"][-1]["seconds"] / slower > 0
    assert figures["peft_peak_rss_ratio"] > 0 and figures["peft_speedup_per_token"] > 0
    # MB are 10^6 bytes, as in all parts of the paper's study.
    peak = max(one["peak_rss_bytes"] for one in data["ours"])
    assert figures["peft_peak_rss_mb_ours"] == peak / 1e6
    assert figures["peft_peak_rss_mb"] == peer.best(data)["peak_rss_bytes"] / 1e6
    [table] = [one["table"] for one in content["sections"] if one["title"] == "To the same recall"]
    assert table[1][-1] == f"{data['ours'][0]['peak_rss_bytes'] / 1e6:,.0f}"
    speeds, trials = data["chosen"]["speeds"], data["chosen"]["trials"]
    assert figures["peft_dtype"] == max(speeds, key=speeds.__getitem__)
    assert set(speeds) == {"float32", "bfloat16", "mixed"} and min(speeds.values()) > 0
    first, second, _ = sorted(trials, key=lambda one: (-one["recall"], one["loss"]))
    assert [one["learning_rate"] for one in data["peers"]] == [
        first["learning_rate"],
        second["learning_rate"],
    ]
    page = (options.out / "paper.md").read_text()
    assert "## Tuning beside stock PEFT" in page and "at least" not in page


def test_a_peer_that_is_stopped_early_gives_a_bound_that_says_so(options: PaperOptions) -> None:
    data = written(options)["data"]
    for one in data["peers"]:
        one["epochs"][-1]["recall"] = 0.5
    part = peer.part(data)
    assert part.figures["peft_speedup_is_bound"]
    assert "at least" in part.sections[0].text and "lower bound" in part.sections[0].text


def test_of_the_peer_the_run_counts_that_recalls_as_much_soonest_else_the_most(options: PaperOptions) -> None:
    data = written(options)["data"]
    last = [one["epochs"][-1] for one in data["peers"]]
    for each, (recall, seconds) in zip(last, [(0.5, 3.0), (0.6, 4.0)], strict=True):
        each |= {"recall": recall, "seconds": seconds}
    assert peer.best(data) is data["peers"][1]
    for each, (recall, seconds) in zip(last, [(1.0, 3.0), (1.0, 2.0)], strict=True):
        each |= {"recall": recall, "seconds": seconds}
    assert peer.best(data) is data["peers"][1]
    assert peer.part(data).figures["peft_learning_rate"] == data["peers"][1]["learning_rate"]


def test_a_study_that_is_done_measures_nothing_again_and_another_one_is_refused(
    options: PaperOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {file.name: file.read_bytes() for file in options.out.iterdir()}
    monkeypatch.setattr(peer, "alone", None)
    monkeypatch.setattr(HomeKind, "skill", lambda *_: options.work.parent / "skill")
    monkeypatch.setattr(HomeKind, "tuning", lambda *_: QUICK)
    peer.run(options, LITTLE, QUIET)
    assert {file.name: file.read_bytes() for file in options.out.iterdir()} == before
    with pytest.raises(InputError, match="other options"):
        peer.run(options, replace(LITTLE, facts=5), QUIET)


def test_a_process_that_is_killed_is_said_in_one_line() -> None:
    with pytest.raises(Unavailable, match="was killed"):
        peer.alone(os._exit, 9)
