"""The efficiency model: its equations by hand, against each other, and their laws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtwin.errors import InputError
from llmtwin.study import efficiency as model
from llmtwin.study.efficiency import Parameters

# Numbers that a person can multiply: two entities, the second with twice the history and half the clock.
BY_HAND = Parameters(
    n=2,
    K_rounds=3,
    lambda_syncs=4,
    w_parameters=1000,
    w_tilde_parameters=10,
    b_bytes_per_parameter=4,
    b_tilde_bytes_per_parameter=2,
    xi_cycles_per_byte_parameter=5,
    xi_tilde_cycles_per_byte_parameter=8,
    alpha_cycles_per_parameter=2,
    alpha_tilde_cycles_per_parameter=1,
    f_u_hz=np.array([1000.0, 500.0]),
    f_g_hz=4000,
    H_bytes=np.array([200.0, 400.0]),
    S_bytes=100,
    S_s_bytes=50,
    S_d_bytes=10,
    S_d_tilde_bytes=1,
    H_tilde_bytes=600,
    r_bytes_per_s=100,
    r_N_bytes_per_s=2000,
)


# ---- by hand -------------------------------------------------------------------------------------


def test_sizes_of_twins_add_up() -> None:
    assert model.M_tilde_bytes(700, 20, 3) == 723
    # (5 + 1 + 2) + (6 + 0 + 3)
    assert model.H_tilde_bytes(np.array([5.0, 6.0]), np.array([1.0, 0.0]), np.array([2.0, 3.0])) == 17


def test_losses_and_steps() -> None:
    assert model.L_i(np.array([1.0, 2.0, 6.0])) == 3
    # (1 * 3 + 3 * 7) / 4
    assert model.L_g(np.array([3.0, 7.0]), np.array([1.0, 3.0])) == 6
    assert model.w_i(np.array([1.0, 2.0]), np.array([10.0, -10.0]), 0.1).tolist() == [0, 3]
    # 1/4 of (0, 4) and 3/4 of (8, 0)
    assert model.w_next([np.array([0.0, 4.0]), np.array([8.0, 0.0])], [1, 3]).tolist() == [6, 1]
    assert model.log_likelihood([np.array([-1.0, -2.0]), np.array([-0.5])]) == -3.5
    with pytest.raises(InputError, match="no models"):
        model.w_next([], [])


def test_an_average_leaves_the_models_as_they_are_and_keeps_their_type() -> None:
    models = [np.ones(3, np.float32), np.zeros(3, np.float32)]
    found = model.w_next(models, [1, 1])
    assert found.dtype == np.float32 and found.tolist() == [0.5] * 3
    assert models[0].tolist() == [1] * 3 and models[1].tolist() == [0] * 3


def test_computation() -> None:
    # 5 * 200 * 1000 / 1000, and 5 * 400 * 1000 / 500
    assert model.T_u_cmp_s(BY_HAND).tolist() == [1000, 4000]
    # 2 * (1000 + 1000) / 4000
    assert model.T_g_cmp_s(BY_HAND) == model.T_g_inter_s(BY_HAND) == 1
    # 8 * 50 * 10 / 1000, and over 500
    assert model.T_u_cmp_tilde_s(BY_HAND).tolist() == [4, 8]
    # 1 * 10 / 4000, whatever n is
    assert model.T_g_cmp_tilde_s(BY_HAND).tolist() == [0.0025, 0.0025]


def test_communication() -> None:
    # (1000 * 4 + 100) / 100
    assert model.T_u_intra_s(BY_HAND).tolist() == [41, 41]
    # (10 * 2 + 1) / 100
    assert model.T_u_intra_tilde_s(BY_HAND).tolist() == pytest.approx([0.21, 0.21])
    # 600 / 2000
    assert model.T_g_inter_tilde_s(BY_HAND) == 0.3


def test_the_channel() -> None:
    # Three of eight sub-channels of 16 MHz at a signal 15 times the noise: 3/8 * 16e6 * log2(16) / 8 bits
    found = model.r_bytes_per_s(np.array([3]), 8, 16e6, 15.0)
    assert found.tolist() == [3e6]
    # One each of 10 first; the 7 others as 1.75, 1.75, 3.5: 1 + 1 + 3, and two to the largest remainders.
    assert model.sub_channels(10, [1, 1, 2]).tolist() == [3, 3, 4]


@pytest.mark.parametrize("weights", [[], [1, 1, 1], [1, 0], [1, -1]])
def test_sub_channels_that_cannot_be_dealt_out_are_refused(weights: list[float]) -> None:
    with pytest.raises(InputError, match="2 sub-channels cannot"):
        model.sub_channels(2, weights)


def test_the_whole() -> None:
    # 3 * (4000 + 1 + 2 * 4000 / 100) + 200 / 100, and + 400 / 100
    assert model.T_fl_s(BY_HAND).tolist() == [12245, 12247]
    # (4 + 0.0025 + 20 / 100) / 4 + 1 / 100 + 0.3, and with 8 for 4
    assert model.T_llm_twin_s(BY_HAND).tolist() == pytest.approx([1.360625, 2.360625])


def test_constraints() -> None:
    held = model.constraints(replace(BY_HAND, S_s_bytes=20))
    assert len(held) == 10 and all(held.values())
    many = replace(BY_HAND, S_s_bytes=100, r_N_bytes_per_s=999, w_tilde_parameters=np.array([10.0, 101.0]))
    assert [name for name, holds in model.constraints(many).items() if not holds] == [
        "|S_s| ≪ |H|",
        "|S_s| < |S|",
        "|w̃| ≪ |w|",
        "r_N ≫ r",
    ]


# ---- against each other --------------------------------------------------------------------------

ONCE = replace(BY_HAND, K_rounds=1, lambda_syncs=1)


def test_the_difference_is_that_of_the_two_equations_term_by_term() -> None:
    terms = model.difference_s(ONCE)
    assert terms["entity"].tolist() == [4 - 4000, 8 - 4000]
    assert terms["server"].tolist() == pytest.approx([0.0025 - 1] * 2)
    # (20 + 1 - 2 * 4000 - 200) / 100, and - 400
    assert terms["transfer"].tolist() == pytest.approx([-81.79, -83.79])
    assert terms["search"].tolist() == [0.3, 0.3]
    assert sum(terms.values()) == pytest.approx(model.T_llm_twin_s(ONCE) - model.T_fl_s(ONCE))


def test_the_printed_difference_is_another_one() -> None:
    printed, derived = model.difference_printed_s(ONCE), model.difference_s(ONCE)
    # Trains on S, not H, and tunes on S̃_d, not S_s: 5 * (1 * 10 - 100 * 1000) / 1000
    assert printed["entity"].tolist() == [-499.95, -999.9]
    # One α for both: 2 * (10 - 2000) / 4000
    assert printed["server"].tolist() == [-0.995, -0.995]
    # (20 + 1 - 4000 - 100) / 100: without w(t+1), and with S for H
    assert printed["transfer"].tolist() == pytest.approx([-40.79, -40.79])
    dropped = (model.w_bytes(ONCE) + (ONCE.H_bytes - ONCE.S_bytes)) / ONCE.r_bytes_per_s
    assert printed["transfer"] - derived["transfer"] == pytest.approx(dropped)
    assert printed["search"].tolist() == derived["search"].tolist()
    assert sum(printed.values()) != pytest.approx(sum(derived.values()))


def test_with_equal_data_clocks_and_costs_only_the_dropped_transfer_is_left_between_them() -> None:
    alike = replace(
        ONCE,
        H_bytes=ONCE.S_bytes,
        S_s_bytes=ONCE.S_d_tilde_bytes,
        f_u_hz=1000,
        xi_tilde_cycles_per_byte_parameter=ONCE.xi_cycles_per_byte_parameter,
        alpha_tilde_cycles_per_parameter=ONCE.alpha_cycles_per_parameter,
    )
    derived, printed = model.difference_s(alike), model.difference_printed_s(alike)
    assert sum(printed.values()) - sum(derived.values()) == pytest.approx([4000 / 100] * 2)


def test_the_paper_s_inequality_fails_for_a_history_that_is_long_enough_and_read_whole() -> None:
    # Nothing in Eq. (12) bounds |H̃| while |H| stays.
    gain = -sum(model.difference_s(ONCE).values())[0]
    even = ONCE.H_tilde_bytes + gain * ONCE.r_N_bytes_per_s
    for share, sign in ((0.99, -1), (1.01, 1)):
        p = replace(ONCE, H_tilde_bytes=share * even)
        assert [name for name, holds in model.constraints(p).items() if not holds] == ["|S_s| ≪ |H|"]
        assert np.sign(sum(model.difference_s(p).values())[0]) == sign


# ---- laws ----------------------------------------------------------------------------------------

positive = st.floats(1e-3, 1e9)


def numbers(draw: Any, n: int) -> Any:
    return draw(st.one_of(positive, st.lists(positive, min_size=n, max_size=n).map(np.array)))


@st.composite
def parameters(draw: Any) -> Parameters:
    n = draw(st.integers(1, 5))
    found: dict[str, Any] = {
        one.name: numbers(draw, n) if "Numbers" in str(one.type) else draw(positive)
        for one in fields(Parameters)
    }
    return Parameters(**found | {"n": n})


Of = Callable[[Parameters], Any]
TIMES: dict[str, Of] = {
    name: getattr(model, name) for name in dir(model) if name.startswith("T_") and name.endswith("_s")
}
GROWS = tuple(
    one.name
    for one in fields(Parameters)
    if one.name not in {"n", "lambda_syncs", "f_u_hz", "f_g_hz", "r_bytes_per_s", "r_N_bytes_per_s"}
)
FALLS = ("lambda_syncs", "f_u_hz", "f_g_hz", "r_bytes_per_s", "r_N_bytes_per_s")
LINEAR: dict[str, tuple[str, ...]] = {
    "T_u_cmp_s": ("xi_cycles_per_byte_parameter", "H_bytes", "w_parameters"),
    "T_g_cmp_s": ("alpha_cycles_per_parameter", "w_parameters"),
    "T_u_cmp_tilde_s": ("xi_tilde_cycles_per_byte_parameter", "S_s_bytes", "w_tilde_parameters"),
    "T_g_cmp_tilde_s": ("alpha_tilde_cycles_per_parameter", "w_tilde_parameters"),
    "T_g_inter_tilde_s": ("H_tilde_bytes",),
}


def scaled(p: Parameters, factor: float, *names: str) -> Parameters:
    changed: dict[str, Any] = {name: getattr(p, name) * factor for name in names}
    return replace(p, **changed)


def test_every_time_of_the_model_is_looked_at() -> None:
    assert len(TIMES) == 10 and set(LINEAR) < set(TIMES)


@settings(max_examples=40, deadline=None)
@given(p=parameters(), factor=st.floats(1, 1e3))
def test_no_time_falls_with_data_parameters_or_costs_and_none_grows_with_rates(
    p: Parameters, factor: float
) -> None:
    slack = 1 + 1e-9
    for time in TIMES.values():
        for name in GROWS:
            assert np.all(time(scaled(p, factor, name)) * slack >= time(p))
        for name in FALLS:
            assert np.all(time(scaled(p, factor, name)) <= time(p) * slack)


@settings(max_examples=40, deadline=None)
@given(p=parameters(), factor=st.floats(1e-3, 1e3))
def test_times_are_linear_in_data_parameters_and_costs(p: Parameters, factor: float) -> None:
    for name, factors in LINEAR.items():
        for one in factors:
            assert np.allclose(TIMES[name](scaled(p, factor, one)), TIMES[name](p) * factor, atol=0)
    # Affine in K: each round more costs the same.
    first, second, third = (model.T_fl_s(replace(p, K_rounds=rounds)) for rounds in (1, 2, 3))
    assert np.allclose(third - second, second - first, rtol=1e-6, atol=1e-9 * third.max())


@settings(max_examples=40, deadline=None)
@given(p=parameters(), factor=st.floats(1e-3, 1e3))
def test_times_do_not_depend_on_the_unit_of_data_of_parameters_or_of_time(
    p: Parameters, factor: float
) -> None:
    """Bytes as another unit, parameters in thousands, seconds as minutes: the times stay the same times."""
    amounts = [one.name for one in fields(Parameters) if one.name.endswith(("_bytes", "_bytes_per_s"))]
    data = scaled(p, factor, *amounts, "b_bytes_per_parameter", "b_tilde_bytes_per_parameter")
    data = scaled(data, 1 / factor, *(name for name in GROWS if "byte_parameter" in name))
    models = scaled(p, factor, "w_parameters", "w_tilde_parameters")
    models = scaled(models, 1 / factor, *(name for name in GROWS if "per_" in name and "parameter" in name))
    rates = scaled(p, factor, "f_u_hz", "f_g_hz", "r_bytes_per_s", "r_N_bytes_per_s")
    for time in TIMES.values():
        for same in (time(data), time(models), time(rates) * factor):
            assert np.allclose(same, time(p), atol=0)


@settings(max_examples=40, deadline=None)
@given(p=parameters())
def test_the_difference_always_adds_up(p: Parameters) -> None:
    once = replace(p, K_rounds=1, lambda_syncs=1)
    whole = model.T_llm_twin_s(once) - model.T_fl_s(once)
    largest = max(model.T_llm_twin_s(once).max(), model.T_fl_s(once).max())
    assert np.allclose(sum(model.difference_s(once).values()), whole, atol=1e-9 * largest)


@given(weights=st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=40), more=st.integers(0, 300))
def test_sub_channels_are_dealt_out_to_the_last_and_in_order_of_weight(
    weights: list[float], more: int
) -> None:
    C_0 = len(weights) + more
    dealt = model.sub_channels(C_0, weights)
    assert dealt.sum() == C_0 and dealt.min() >= 1
    assert all(
        one <= other
        for one, a in zip(dealt, weights, strict=True)
        for other, b in zip(dealt, weights, strict=True)
        if a < b
    )
    whole = model.r_bytes_per_s(np.array([C_0]), C_0, 1e8, 100.0)
    assert np.allclose(model.r_bytes_per_s(dealt, C_0, 1e8, 100.0).sum(), whole)
