"""What must be shown beside what was measured: verdicts follow the figures, and so do the sentences."""

from __future__ import annotations

from typing import Any

import pytest

from llmtwin.study import paper_claims

FIGURES: dict[str, Any] = {
    "table2_normal": {"100": 99, "1000": 995},
    **{"recall_unseen": 0.97, "recall_unseen_n": 200},
    "table2_reverse": {"500": 0, "1000": 0},
    **{"attack_plain": 0.9, "attack_plain_low": 0.8, "attack_plain_high": 0.95, "attack_plain_chance": 0.01},
    **{"attack_sealed": 0.02, "attack_sealed_low": 0.0, "attack_sealed_high": 0.07},
    **{"attack_sealed_chance": 0.01, "attack_sealed_base": 0.03, "attack_sealed_base_high": 0.06},
    "attack_plain_base": 0.0,
    **{"tune_1600_seconds": 399.0, "tune_1600_recall": 0.99},
    **{"peft_speedup": 4.2, "peft_speedup_is_bound": True, "peft_peak_rss_ratio": 1.1},
    **{"ratio_full_mark": "estimated, lower bound", "ratio_lora_mark": "", "ratio_ffa_mark": ""},
    **{"bytes_ratio_full": 4000.0, "bytes_ratio_lora": 63.0, "time_ratio_full": 44.0, "time_ratio_lora": 2.9},
    **{"bytes_ratio_ffa": 28.0, "time_ratio_ffa": 1.5},
    **{"decision_accuracy": 1.0, "decision_invalid_accepted": 0.0},
    **{"search_ratio": 1.4, "search_ratio_low": 0.9, "search_ratio_high": 1.7, "search_rounds": 5},
}


def verdicts(**changed: Any) -> dict[str, str]:
    """The verdict by the first of a row's figures."""
    rows = paper_claims.shown(FIGURES | changed)[1:]
    return {row[1].split("`")[1]: row[-1] for row in rows}


def test_each_figure_has_its_verdict() -> None:
    assert verdicts() == {
        "table2_normal": "met",
        "recall_unseen": "met",
        "table2_reverse": "met",
        "attack_plain": "reported",
        "attack_sealed": "met",
        "tune_1600_seconds": "met",
        "peft_speedup": "met",
        "bytes_ratio_full": "met, estimated",
        "bytes_ratio_lora": "met",
        "bytes_ratio_ffa": "reported",
        "time_ratio_full": "bound: not known",
        "time_ratio_lora": "not met",
        "time_ratio_ffa": "reported",
        "decision_accuracy": "met",
        "search_ratio": "met",
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("table2_normal", {"100": 98, "1000": 995}),
        ("recall_unseen", 0.94),
        ("table2_reverse", {"500": 0, "1000": 1}),
        ("attack_sealed", {"attack_sealed_low": 0.02}),
        ("tune_1600_seconds", 401.0),
        ("tune_1600_seconds", {"tune_1600_recall": 0.98}),
        ("peft_speedup", {"peft_speedup": 3.9, "peft_speedup_is_bound": False}),
        ("peft_speedup", {"peft_peak_rss_ratio": 0.99}),
        ("bytes_ratio_lora", 19.0),
        ("decision_accuracy", 0.97),
        ("decision_accuracy", {"decision_invalid_accepted": 0.01}),
        ("search_ratio", 1.6),
    ],
)
def test_what_misses_its_bar_is_not_met(name: str, value: Any) -> None:
    changed = value if isinstance(value, dict) and name not in ("table2_normal", "table2_reverse") else {}
    missed = {one for one, said in verdicts(**(changed or {name: value})).items() if said == "not met"}
    assert missed == {name, "time_ratio_lora"}


def test_what_was_not_measured_yet_is_said_to_be_so() -> None:
    some = {name: value for name, value in FIGURES.items() if name != "search_ratio"}
    rows = paper_claims.shown(some)
    assert [row[-2:] for row in rows if "`search_ratio`" in row] == [("not measured", "-")]
    assert len({len(row) for row in paper_claims.shown({})}) == 1
    assert all(claim.endswith(" Not measured.") for claim in paper_claims.claims({}))


def test_a_ratio_to_a_twin_that_missed_its_target_is_not_measured() -> None:
    none = FIGURES | {name: None for name in FIGURES if name.startswith(("bytes_ratio", "time_ratio"))}
    said = {row[1].split("`")[1]: row[-2:] for row in paper_claims.shown(none)[1:]}
    assert said["time_ratio_lora"] == ("not measured", "-")
    assert said["recall_unseen"] == ("97.0% of 200", "met")
    assert paper_claims.claims(none)[0].endswith(" Not measured.")


def test_sentences_follow_from_the_figures() -> None:
    efficient, accurate, defended = paper_claims.claims(FIGURES)
    bound = "times (estimated, lower bound) against FedAvg, all parameters: it"
    assert f"4,000.0 {bound} holds by estimate" in efficient
    assert "63.0 times against FedAvg-LoRA: it does not hold; 28.0 times against FFA-LoRA" in efficient
    assert f"44.0 {bound} is not shown" in efficient
    assert "It holds: of prompts as learned 99.0%" in accurate
    assert "greedy reverse prompts it holds, 0 of 500, 0 of 1,000: at most 0.6%, 0.3%" in defended
    assert (
        "it fails: 90.0% (80.0% to 95.0%; chance 1.0%; of the base alone 0.0%)" in defended
        and "as by chance" in defended
    )
    _, worse, told = paper_claims.claims(
        FIGURES
        | {"recall_unseen": 0.8, "table2_reverse": {"500": 2}, "attack_plain_low": 0.005}
        | {"attack_sealed_low": 0.05}
    )
    assert "It does not hold" in worse and "does not even hold, 2 of 500" in told
    assert "is not seen to fail" in told and "not as by chance, and not surely more than of the base" in told
    *_, told = paper_claims.claims(FIGURES | {"attack_sealed_low": 0.07})
    assert "not as by chance, and more than of the base" in told
