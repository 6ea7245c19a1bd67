"""The privacy part of the paper's study in miniature: a tiny base learns a few facts in each way."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from llmtwin.edge import attacks
from llmtwin.errors import InputError
from llmtwin.study import privacy_study
from llmtwin.study.paper import PaperOptions
from llmtwin.study.privacy_adapters import Sizes
from llmtwin.twins.home import HomeKind
from tests.models import tiny_base

QUIET = Console(quiet=True)
LITTLE = Sizes(facts=10, epsilons=(2.0,), sample_rate=0.5, steps=25)
ENOUGH = replace(HomeKind().tuning(), layers_share=0.8, rank=16, learning_rate=1e-2)


def test_each_adapter_is_learned_attacked_and_said_to_be_what_its_figures_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(HomeKind, "tuning", lambda self, count=0: ENOUGH)
    monkeypatch.setattr(attacks, "RANKED", {"rank_100": (10, 20)})
    base = str(tiny_base(tmp_path, "llama").folder)
    options = PaperOptions(cache=tmp_path, base=base, seed=1, work=tmp_path / "work", out=tmp_path / "out")
    privacy_study.run(options, LITTLE, QUIET)
    found = json.loads((options.out / "paper.json").read_text())["figures"]
    page = (options.out / "paper.md").read_text()

    assert found["privacy_plain_recall"] == found["privacy_sealed_recall"] == 1
    assert found["privacy_plain_forward"] == 1 and found["privacy_sealed_forward"] == 0
    assert found["privacy_plain_rank_100_low"] > found["privacy_base_rank_100_high"]
    assert found["privacy_sealed_rank_100_low"] < found["privacy_base_rank_100_high"]
    assert 1.9 < found["privacy_dp_2_epsilon"] <= 2
    assert found["privacy_dp_2_recall"] < 0.5 and found["privacy_dp_2_seconds"] > 0
    assert found["privacy_clipped_recall"] > 0.5, "the noise is what hides, and not the trainer"
    assert "privacy_clipped_epsilon" not in found and "privacy_clipped_forward" not in found
    assert found["privacy_plain_bits"] < 0.5 * found["privacy_plain_bits_others"]
    assert found["privacy_delta"] == 1 / 10**2

    (row,) = [line for line in page.splitlines() if line.startswith("| the learned question")]
    assert row.split("|")[2:5] == [" API text ", " 100.0% (72.2% to 100.0%) ", " 0.0% (0.0% to 27.8%) "]
    (row,) = [line for line in page.splitlines() if line.startswith("| objects ranked, up to 100 (10 facts)")]
    (row,) = [line for line in page.splitlines() if "loss beside the base's, AUC" in line]
    assert row.split("|")[-3:-1] == [" - ", " 0.50 "], "of the base itself there is nothing to measure"
    assert not any("privacy_base_membership_error_zone" in name for name in found)
    (row,) = [line for line in page.splitlines() if line.startswith("| canaries, each 16 times")]
    ET.parse(options.out / "paper-privacy.svg")
    assert "(8 codes)" in row and row.split("|")[-2] == " 1.43 "
    for repeats in (1, 4, 16):
        assert (
            found[f"privacy_sealed_canary_{repeats}_bits_low"]
            < found[f"privacy_base_canary_{repeats}_bits_high"]
        )
    assert found["privacy_plain_canary_16_bits_low"] > found["privacy_base_canary_16_bits_high"]
    assert "The unit is one fact" in page and "not accounted" in page
    assert "which allows 25.9% (the exact one-sided bound at 95 % confidence)" in page
    assert "is told 100.0%; whoever has log-probabilities" in page
    assert "takes away the" in page and "Its owner, who has the key, recalls 100.0%" in page

    written = {file.name: file.read_bytes() for file in options.out.iterdir()}
    privacy_study.run(options, LITTLE, QUIET)
    assert {file.name: file.read_bytes() for file in options.out.iterdir()} == written
    with pytest.raises(InputError, match="other options"):
        privacy_study.run(options, replace(LITTLE, steps=41), QUIET)


def test_an_attack_counts_only_where_its_interval_is_above_that_of_the_base() -> None:
    def of(low: float, base_high: float) -> dict[str, dict[str, float]]:
        return {"twin": {"value": 0.9, "low": low}, "base": {"high": base_high}}

    found = {"apart": of(0.6, 0.5), "meeting": of(0.5, 0.5), "below": of(0.1, 0.5)}
    assert privacy_study.beyond_base(found) == ["apart"]
    beside = {"base": None, "chance": 0.5}
    those = {name: {"twin": {"value": 0.9, "low": low}, **beside} for name, low in (("a", 0.6), ("b", 0.4))}
    assert privacy_study.beyond_base(those) == ["a"]
