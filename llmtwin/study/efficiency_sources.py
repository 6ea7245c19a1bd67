"""Parameters of the efficiency model: the paper's, and those measured here, side by side. It draws nothing.

The paper leaves most of them open; what is put in their place says so (`Value.how`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, get_type_hints

from llmtwin.study.efficiency import Array, Parameters, Symbol, r_bytes_per_s, sub_channels

Measured = Mapping[str, Any]

N = 20
SUB_CHANNELS, BANDWIDTH_HZ, SNR = 273, 100e6, 100.0
PAPER_W = {"3.5B": 3.5e9, "7B": 7e9}
PAPER_TILDE_SHARE = 0.01
PAPER_HZ = 3.9e9
PAPER_RECORDS, PAPER_TUNE_S = 1600, 400.0
PAPER_TUNED = "7B"
PAPER_TUNE_MB, PAPER_MERGE_MB = 5878, 19820


class How(StrEnum):
    """Where a value comes from."""

    STATED = "stated"
    DERIVED = "derived"
    ASSUMED = "assumed"
    MEASURED = "measured"


@dataclass(frozen=True)
class Value:
    """A parameter's value, and where it comes from."""

    value: float
    how: How
    why: str


Source = Mapping[str, Value]
"""Values by the name of their parameter; H_bytes and H_tilde_bytes are of one entity's hour."""


def channel(n: int) -> float:
    """Bytes a second of one of n alike entities, the server having as many sub-channels as each of them."""
    return float(
        r_bytes_per_s(sub_channels(SUB_CHANNELS, [1.0] * (n + 1)), SUB_CHANNELS, BANDWIDTH_HZ, SNR)[0]
    )


def _open() -> dict[str, Value]:
    """What neither source has."""
    why = f"{BANDWIDTH_HZ / 1e6:g} MHz, {SUB_CHANNELS} sub-channels shared alike, signal to noise {SNR:g}"
    return {
        "n": Value(N, How.ASSUMED, "chosen here"),
        "K_rounds": Value(1, How.STATED, "the paper's comparison, Eq. (13)"),
        "lambda_syncs": Value(1, How.STATED, "the paper's comparison, Eq. (13)"),
        "r_bytes_per_s": Value(channel(N), How.ASSUMED, why),
    }


def _entity(found: Measured, how: How, why: str) -> dict[str, Value]:
    """Sizes of the data of an entity that has the facts of the whole base's tuning."""
    of = found["entity"]
    values = {
        "H_bytes": of["text_bytes_per_h"],
        "S_bytes": of["S_bytes"],
        "S_d_bytes": of["S_d_bytes"],
        "S_d_tilde_bytes": of["S_d_tilde_bytes"],
        "H_tilde_bytes": of["prompt_bytes_per_h"],
    }
    return {name: Value(value, how, why) for name, value in values.items()}


def paper(size: str, found: Measured) -> Source:
    """The paper's parameters for a model of `size` (of PAPER_W); sizes of data are those measured here."""
    record_bytes = found["whole"]["tuning"]["data_bytes"] / found["whole"]["tuning"]["examples"]
    static_bytes = PAPER_RECORDS * record_bytes
    xi = PAPER_TUNE_S * PAPER_HZ / (static_bytes * PAPER_TILDE_SHARE * PAPER_W[PAPER_TUNED])
    clock = Value(PAPER_HZ, How.STATED, "its server, entities too")
    trained = Value(xi, How.DERIVED, f"from about {PAPER_TUNE_S:g} s for {PAPER_RECORDS} records, Fig. 11")
    averaged = Value(4.0, How.ASSUMED, "a multiplication and an addition that wait for memory")
    half = Value(2.0, How.ASSUMED, "16 bits")
    return {
        **_open(),
        **_entity(found, How.ASSUMED, "as measured here"),
        "w_parameters": Value(PAPER_W[size], How.STATED, "Fig. 5"),
        "w_tilde_parameters": Value(PAPER_TILDE_SHARE * PAPER_W[size], How.STATED, '"1 % or less"'),
        "b_bytes_per_parameter": half,
        "b_tilde_bytes_per_parameter": half,
        "xi_cycles_per_byte_parameter": trained,
        "xi_tilde_cycles_per_byte_parameter": Value(xi, How.DERIVED, "the same ξ, as in Eq. (13)"),
        "alpha_cycles_per_parameter": averaged,
        "alpha_tilde_cycles_per_parameter": Value(4.0, How.ASSUMED, "the same α, as in Eq. (6)"),
        "f_u_hz": clock,
        "f_g_hz": clock,
        "S_s_bytes": Value(static_bytes, How.ASSUMED, f"{PAPER_RECORDS} records (stated) as long as ours"),
        "r_N_bytes_per_s": Value(
            PAPER_HZ / averaged.value * half.value, How.DERIVED, '"parameter aggregation computation rate"'
        ),
    }


def here(found: Measured, which: str = "whole") -> Source:
    """The parameters measured on this machine, of the `whole` base or of the `smaller` model."""
    of, hz = found[which], found["clock_hz"]
    tuning, full, averaging, loading = of["tuning"], of["full"], of["averaging"], of["loading"]
    w, w_tilde = full["parameters"], tuning["parameters"]
    trained_bytes, trained_s = full["steps"][-1]
    searched = found["search"][-1]
    prompt_bytes = found["entity"]["prompt_bytes_per_h"] / found["entity"]["prompts_per_h"]
    searched_s = searched["queries"]["answer"]["p95_ms"] / 1000
    values = {
        "w_parameters": (w, "all of the base"),
        "w_tilde_parameters": (w_tilde, "the adapter"),
        "b_tilde_bytes_per_parameter": (tuning["adapter_bytes"] / w_tilde, "the adapter's files"),
        "xi_cycles_per_byte_parameter": (
            trained_s * hz / (trained_bytes * w),
            "one pass over the raw text, not shown to learn it",
        ),
        "xi_tilde_cycles_per_byte_parameter": (
            tuning["seconds"] * hz / (tuning["data_bytes"] * w_tilde),
            f"{len(tuning['epochs'])} epochs, to {tuning['recall']:.1%} recall",
        ),
        "alpha_cycles_per_parameter": (
            averaging["seconds"][-1] * hz / (averaging["counts"][-1] * w),
            f"Eq. (3) over {averaging['counts'][-1]} models",
        ),
        "alpha_tilde_cycles_per_parameter": (
            loading["seconds"] * hz / w_tilde,
            "into the engine, not merged",
        ),
        "f_u_hz": (hz, "the clock"),
        "f_g_hz": (hz, "the clock"),
        "S_s_bytes": (tuning["data_bytes"], f"{tuning['examples']} facts"),
        "r_N_bytes_per_s": (
            searched["prompts"] * prompt_bytes / searched_s,
            f"an answer's p95 over {searched['prompts']:,} prompts",
        ),
    }
    return {
        **_open(),
        **_entity(found, How.MEASURED, f"{found['entity']['houses']} simulated homes"),
        **{name: Value(value, How.MEASURED, why) for name, (value, why) in values.items()},
        "b_bytes_per_parameter": Value(2.0, How.ASSUMED, "16 bits, as our adapters"),
    }


def parameters(source: Source, hours: float, n: int = N, K: float = 1, lambda_: float = 1) -> Parameters:
    """The model's parameters after so many hours, of n homes; H is what is static, and every change since."""
    values: dict[str, Any] = {name: one.value for name, one in source.items()}
    values |= {
        "n": n,
        "K_rounds": K,
        "lambda_syncs": lambda_,
        "H_bytes": values["S_s_bytes"] + hours * values["H_bytes"],
        "H_tilde_bytes": n * hours * values["H_tilde_bytes"],
        "r_bytes_per_s": channel(n),
    }
    return Parameters(**values)


def equal_passes(source: Source, passes: float) -> Source:
    """The source with as many passes over its history as tuning made over the static state."""
    once = source["xi_cycles_per_byte_parameter"]
    why = f"{passes:.1f} passes, as many as of tuning"
    return {**source, "xi_cycles_per_byte_parameter": Value(passes * once.value, How.DERIVED, why)}


def growth_s(source: Source, time_s: Callable[[Parameters], Array]) -> tuple[float, float]:
    """A time at no hours, and what each hour adds: the model's times are lines over the hours."""
    start, later = (float(time_s(parameters(source, hours))[0]) for hours in (0, 1))
    return start, later - start


def table(sources: Mapping[str, Source]) -> list[list[str]]:
    """Table 1 with the values of several sources side by side, and where each is from."""
    symbols = get_type_hints(Parameters, include_extras=True)
    head = ["symbol", "what", "unit", *sources]
    rows = [head]
    for one in fields(Parameters):
        symbol: Symbol = symbols[one.name].__metadata__[0]
        meaning = {"H_bytes": f"{symbol.meaning}, an hour", "H_tilde_bytes": "prompts of an entity, an hour"}
        values = [
            f"{source[one.name].value:.4g} ({source[one.name].how}: {source[one.name].why})"
            for source in sources.values()
        ]
        rows.append([symbol.symbol, meaning.get(one.name, symbol.meaning), symbol.unit, *values])
    return rows
