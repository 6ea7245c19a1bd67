"""The simulation of the gate in small, and that what it simulates is what is used."""

from __future__ import annotations

import json
from math import inf

import numpy as np
import pytest

from llmtwin.study import model_gate
from llmtwin.twins.gate import Verdict, decide_so_far
from llmtwin.twins.model.drift import Drift, ProbeDrift

STREAMS, ITEMS = 150, 240


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, float]]:
    made = model_gate.model_gate(STREAMS, ITEMS)
    json.dumps(made, allow_nan=False)
    return made


@pytest.mark.parametrize("name", ["false_promotion", "false_rejection", "false_alarm", "probe_false_alarm"])
def test_errors_are_few_however_often_one_looks(found: dict[str, dict[str, float]], name: str) -> None:
    error = 3 * np.sqrt(0.05 * 0.95 / STREAMS)
    assert found[name]["low"] <= found[name]["rate"] <= min(found[name]["high"], 0.05 + error)


@pytest.mark.parametrize(
    "name",
    [
        "false_promotion_point_estimate",
        "false_promotion_fixed_interval",
        "false_alarm_rechecked_z",
        "probe_false_alarm_token_by_token",
    ],
)
def test_naive_rules_err_more_often_than_they_say(found: dict[str, dict[str, float]], name: str) -> None:
    assert found[name]["low"] > 0.05


def test_more_items_decide_more_and_a_change_is_seen(found: dict[str, dict[str, dict[str, float]]]) -> None:
    for name in ("power_better_graded", "power_worse_graded", "power_better_task", "power_worse_task"):
        rates = [one["rate"] for one in found[name].values()]
        assert rates == sorted(rates) and rates[-1] > 0.1
    assert found["power_better_graded"][str(ITEMS)]["rate"] > 0.9
    assert found["detected"]["rate"] > 0.8 and found["probe_detected_in_10"]["rate"] > 0.85  # type: ignore[operator]
    assert found["probe_tokens_simulated"]["p90"] <= 10  # type: ignore[operator]


@pytest.mark.parametrize("form", ["task", "graded"])
def test_candidates_are_where_they_are_said_to_be(form: str) -> None:
    rng = np.random.default_rng(0)
    for mean in (0.0, -0.05, -0.1):
        drawn = model_gate.draw(rng, form, mean, (400, 500))
        assert drawn.mean() == pytest.approx(mean, abs=4 * drawn.std() / np.sqrt(drawn.size))
        assert abs(drawn).max() <= 1


def test_what_is_simulated_is_the_gate() -> None:
    differences = model_gate.draw(np.random.default_rng(1), "graded", 0.0, (4, 200))
    for stream, when in zip(differences, model_gate.decided_at(differences)[0], strict=True):
        new = np.maximum(stream, 0)
        for items in (int(when) - 1, int(when)):
            verdict = decide_so_far(
                new[:items], new[:items] - stream[:items], loss_max=model_gate.LOSS_MAX
            ).verdict
            assert (verdict is Verdict.PASS) == (items == when)


def test_what_is_simulated_is_the_watch() -> None:
    rng = np.random.default_rng(2)
    anchor, stream = rng.integers(0, 3, (1, 30)) / 2, rng.integers(1, 4, (1, 60)) / 2
    drift = Drift(list(anchor[0]), seed=5)
    alarms = [drift.update(x) >= 1 / model_gate.ALPHA for x in stream[0]]
    assert alarms == list(model_gate.watched(np.random.default_rng(5), anchor, stream)[0]) and any(alarms)
    checks, later = rng.normal(size=(1, 40, 2)), rng.normal(size=(1, 20, 2)) * 20
    probes = ProbeDrift(checks[0].tolist(), seed=6)
    alarms = [probes.update(list(check)) >= 1 / model_gate.ALPHA for check in later[0]]
    assert alarms == list(model_gate.probed(np.random.default_rng(6), checks, later)[0]) and any(alarms)


def test_what_lies_beyond_the_end_is_not_known() -> None:
    assert model_gate.quantiles(np.array([3.0, inf, 1.0])) == {"p10": 1.0, "p50": 3.0, "p90": 3.0}
    assert model_gate.quantiles(np.array([3.0, inf, inf]))["p50"] is None
    assert model_gate.quantiles(np.array([]))["p50"] is None
