"""Figures 5 to 9 and 11 of the paper: curves, and what was measured on the same axes. It writes no text.

A curve is of the paper's parameters, or of those measured here (it says which); a point was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from llmtwin.study import efficiency as model
from llmtwin.study.chart import Chart, Line
from llmtwin.study.efficiency import Parameters
from llmtwin.study.efficiency_sources import PAPER_W, Measured, N, channel, here, paper, parameters

HOURS = [float(hours) for hours in np.geomspace(0.25, 24 * 30, 12)]
ENTITIES = [1, 2, 5, 10, 20, 50, 100, 200]
ROUNDS, PERIOD = 10, 96
"""Of Fig. 9: K, and as λ a day of synchronisations, one every quarter of an hour."""
POINTS_MAX = 6
MEASURED_MODELS = ("whole", "smaller")
FL, TWIN = "FL", "LLM-Twin"

Of = Callable[[Parameters], Any]


def label(found: Measured, which: str) -> str:
    """What a measured model is called: by its parameters."""
    parameters_of = found[which]["full"]["parameters"]
    return f"{parameters_of / 1e6:.3g}M" + (", random" if which == "smaller" else "")


def figure_5(found: Measured) -> Chart:
    """Seconds of an entity's computation over the hours of history: Eq. (5) and (6)."""
    lines = _over_hours(found, {FL: model.T_u_cmp_s, TWIN: model.T_u_cmp_tilde_s})
    for which in MEASURED_MODELS:
        name, tuning = label(found, which), found[which]["tuning"]
        hours, seconds = _trained(found, which)
        if hours:
            lines.append(Line(f"{FL} {name}, one pass", hours, seconds, True))
        facts = f"{tuning['examples']:,} facts"
        lines.append(Line(f"{TWIN} {name}, {facts} (at any hour)", [HOURS[0]], [tuning["seconds"]], True))
    return Chart("hours of history", "seconds of an entity's computation", tuple(lines))


def figure_6(found: Measured) -> Chart:
    """Seconds of the server's computation over the number of entities: Eq. (5) and (6)."""
    lines = _over_entities(found, {FL: model.T_g_cmp_s, TWIN: model.T_g_cmp_tilde_s})
    for which in MEASURED_MODELS:
        name, averaging = label(found, which), found[which]["averaging"]
        lines.append(Line(f"{FL} {name}", averaging["counts"], averaging["seconds"], True))
        loaded = found[which]["loading"]["seconds"]
        lines.append(Line(f"{TWIN} {name} (for any number)", [ENTITIES[0]], [loaded], True))
    return Chart("entities", "seconds of the server's computation", tuple(lines))


def figure_7(found: Measured) -> Chart:
    """Seconds of intra- and inter-twin communication over the hours of history: Eq. (8) and (9)."""
    lines = _over_hours(
        found,
        {
            f"{FL} intra": model.T_u_intra_s,
            f"{FL} inter": model.T_g_inter_s,
            f"{TWIN} intra": model.T_u_intra_tilde_s,
            f"{TWIN} inter": model.T_g_inter_tilde_s,
        },
    )
    for which in MEASURED_MODELS:
        name = f"{TWIN} intra {label(found, which)}: bytes measured, channel modelled"
        lines.append(Line(name, HOURS, [_sent_bytes(found, which) / channel(N)] * len(HOURS)))
    searched, an_hour = found["search"], N * found["entity"]["prompts_per_h"]
    seconds = [one["queries"]["answer"]["p95_ms"] / 1000 for one in searched]
    hours = [one["prompts"] / an_hour for one in searched]
    lines.append(Line(f"{TWIN} inter: p95 measured", hours, seconds, True))
    return Chart("hours of history", "seconds of communication", tuple(lines))


def figure_8(found: Measured) -> Chart:
    """Bytes that all entities send at one synchronisation over their number: the sizes in Eq. (8) and (9)."""
    lines = _over_entities(
        found,
        {
            FL: lambda p: p.n * (model.w_bytes(p) + p.S_bytes),
            TWIN: lambda p: p.n * (model.w_tilde_bytes(p) + p.S_d_tilde_bytes),
        },
    )
    for which in MEASURED_MODELS:
        name, one = f"{TWIN} {label(found, which)}", _sent_bytes(found, which)
        lines.append(Line(f"{name}, as many times one", ENTITIES, [number * one for number in ENTITIES]))
        lines.append(Line(f"{name}: one measured", [ENTITIES[0]], [one], True))
    return Chart("entities", "bytes sent at one synchronisation", tuple(lines))


def figure_9(found: Measured) -> Chart:
    """Seconds of the whole over the hours of history, for several K and λ: Eq. (10) and (11).

    Points are K = λ = 1: what was measured of computing and searching, and sending as it is modelled.
    """
    lines = []
    for name, source in _sources(found).items():
        for K in (1, ROUNDS):
            times = [float(model.T_fl_s(parameters(source, hours, K=K))[0]) for hours in HOURS]
            lines.append(Line(f"{FL} {name}, K = {K}", HOURS, times))
        for lambda_ in (1, PERIOD):
            times = [
                float(model.T_llm_twin_s(parameters(source, hours, lambda_=lambda_))[0]) for hours in HOURS
            ]
            lines.append(Line(f"{TWIN} {name}, λ = {lambda_}", HOURS, times))
    for which in MEASURED_MODELS:
        lines += _whole_measured(found, which)
    return Chart("hours of history", "seconds of the whole", tuple(lines))


def figure_11(found: Measured) -> Chart:
    """Loss over the seconds of the real tuning run, memory beside it."""
    epochs = found["whole"]["tuning"]["epochs"]
    seconds = [one["seconds"] for one in epochs]
    loss = Line("loss", seconds, [one["loss"] for one in epochs])
    memory = Line("memory", seconds, [one["rss_bytes"] / 1e6 for one in epochs])
    return Chart(
        "seconds",
        "loss (nats a token)",
        (loss,),
        x_log=False,
        y_log=False,
        y_beside="memory (MB)",
        beside=(memory,),
    )


def _sources(found: Measured) -> dict[str, Any]:
    """The paper's two models, and ours as they were measured."""
    return {size: paper(size, found) for size in PAPER_W} | {
        f"{label(found, 'whole')} (measured parameters)": here(found)
    }


def _trained(found: Measured, which: str) -> tuple[list[float], list[float]]:
    """Hours and seconds of full training, at the hours whose H has as many bytes as were trained on."""
    none, later = (parameters(here(found), hours).H_bytes for hours in (0, 1))
    points = [((trained - none) / (later - none), spent) for trained, spent in found[which]["full"]["steps"]]
    points = [point for point in points if point[0] >= HOURS[0]]
    some = points[:: max(1, len(points) // POINTS_MAX)]
    return [hours for hours, _ in some], [seconds for _, seconds in some]


def _whole_measured(found: Measured, which: str) -> list[Line]:
    """The terms of Eq. (10) and (11) at K = λ = 1 as they were measured, but for what is sent."""
    name, of, source = label(found, which), found[which], here(found, which)
    hours, trained = _trained(found, which)
    averaged, after = of["averaging"]["seconds"][-1], [parameters(source, at) for at in hours]
    sent = [_first((2 * model.w_bytes(p) + p.H_bytes) / p.r_bytes_per_s) for p in after]
    fl = [seconds + averaged + sending for seconds, sending in zip(trained, sent, strict=True)]
    p = parameters(source, HOURS[0])
    searched = found["search"][0]["queries"]["answer"]["p95_ms"] / 1000
    twin = of["tuning"]["seconds"] + of["loading"]["seconds"] + _first(model.T_u_intra_tilde_s(p)) + searched
    lines = [Line(f"{FL} {name}, one pass", hours, fl, True)] if hours else []
    return [*lines, Line(f"{TWIN} {name}", [HOURS[0]], [twin], True)]


def _sent_bytes(found: Measured, which: str) -> float:
    """What one entity sends at one synchronisation, as it was measured: its adapter, and prompts."""
    return float(found[which]["tuning"]["adapter_bytes"] + found["entity"]["S_d_tilde_bytes"])


def _over_hours(found: Measured, times: Mapping[str, Of]) -> list[Line]:
    return [
        Line(f"{name} {size}", HOURS, [_first(of(parameters(paper(size, found), hours))) for hours in HOURS])
        for name, of in times.items()
        for size in PAPER_W
    ]


def _over_entities(found: Measured, times: Mapping[str, Of]) -> list[Line]:
    return [
        Line(
            f"{name} {size}",
            ENTITIES,
            [_first(of(parameters(paper(size, found), hours=24, n=n))) for n in ENTITIES],
        )
        for name, of in times.items()
        for size in PAPER_W
    ]


def _first(value: Any) -> float:
    return float(np.ravel(value)[0])
