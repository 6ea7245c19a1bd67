"""Says what was measured of efficiency beside what the paper's model makes of it. It measures nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llmtwin.study import efficiency as model
from llmtwin.study import efficiency_figures as figures
from llmtwin.study.chart import Chart
from llmtwin.study.efficiency import Parameters
from llmtwin.study.efficiency_sources import (
    PAPER_MERGE_MB,
    PAPER_TUNE_MB,
    PAPER_TUNE_S,
    PAPER_W,
    Measured,
    N,
    Source,
    equal_passes,
    growth_s,
    here,
    paper,
    parameters,
    table,
)
from llmtwin.study.paper import Part, Section, Table

HOURS = 24
"""At which the model's terms are looked at."""
HOURS_WHOLE = (1, HOURS, 7 * 24, 30 * 24)
"""At which the whole is, since FL grows with them."""
WAYS = {"derived": model.difference_s, "printed": model.difference_printed_s}


def part(found: Measured) -> Part:
    """The part of what was measured."""
    sources = {f"paper, {size}": paper(size, found) for size in PAPER_W}
    sources[f"measured, {figures.label(found, 'whole')}"] = here(found)
    at = {name: parameters(source, HOURS) for name, source in sources.items()}
    passes = found["whole"]["tuning"]["passes"]
    *papers, (name_here, measured) = sources.items()
    compared = dict(papers) | {
        f"{name_here}, FL one pass": measured,
        f"{name_here}, FL {passes:.1f} passes": equal_passes(measured, passes),
    }
    ratios = {name: _ratios(source) for name, source in compared.items()}
    _, seven, ours = at.values()
    headline = {
        **_headline(ratios),
        "model_xi_ratio": float(ours.xi_tilde_cycles_per_byte_parameter / ours.xi_cycles_per_byte_parameter),
        "adapter_bytes": found["whole"]["tuning"]["adapter_bytes"],
        "adapter_load_seconds": found["whole"]["loading"]["seconds"],
    }
    title, text = "Eq. (13) as derived and as printed", _difference(seven, sources)
    sections = [
        Section("Parameters", _parameters(found, ours), table(sources)),
        Section(title, text, _terms(at)),
        _drawn("Fig. 5: an entity's computation", _entity(found, seven), figures.figure_5(found)),
        _drawn("Fig. 6: the server's computation", _server(found), figures.figure_6(found)),
        _drawn("Fig. 7: communication", _COMMUNICATION, figures.figure_7(found)),
        _drawn("Fig. 8: bytes sent", _sent(found, ours), figures.figure_8(found)),
        _drawn("Fig. 9: the whole", _whole(passes), figures.figure_9(found), _by_hours(ratios)),
        _drawn("Fig. 11: loss and time of tuning", _tuning(found), figures.figure_11(found)),
    ]
    return Part("efficiency", "The efficiency model", headline, sections, found)


def _drawn(title: str, text: str, chart: Chart, rows: Table = ()) -> Section:
    number = title.partition(":")[0].removeprefix("Fig. ")
    return Section(title, text, rows, chart, f"figure-{number}")


def _ratios(source: Source) -> list[float]:
    """T_fl / T_LLM-Twin after each of HOURS_WHOLE."""
    at = [parameters(source, hours) for hours in HOURS_WHOLE]
    return [float(model.T_fl_s(p)[0] / model.T_llm_twin_s(p)[0]) for p in at]


def _headline(ratios: Mapping[str, Sequence[float]]) -> dict[str, float]:
    _, *named = ratios.values()
    names = ("model_ratio_7b", "model_ratio_measured_fl_one_pass", "model_ratio_measured_fl_equal_passes")
    return {
        f"{name}_after_{hours}h": ratio
        for name, of in zip(names, named, strict=True)
        for hours, ratio in zip(HOURS_WHOLE, of, strict=True)
    }


def _parameters(found: Measured, p: Parameters) -> str:
    ratio = float(p.xi_tilde_cycles_per_byte_parameter / p.xi_cycles_per_byte_parameter)
    trained = float(p.w_tilde_parameters / p.w_parameters)
    return (
        "The paper's values beside those measured on this machine. The paper leaves most of them open; "
        "what stands in their place is marked as assumed, or as derived from what it states. An entity has "
        f"{found['whole']['tuning']['examples']:,} facts, as many as the paper's smart home has records: "
        f"all its data are those of {found['entity']['houses']} simulated homes together, which have so "
        "many. H holds these facts and every change since, as the sentences that prompts have, so that it "
        "grows no faster than need be. Eq. (6) has tuning cost cycles for "
        "each parameter that is trained; but a pass over a byte goes through all of w, whatever of it is "
        f"trained. Measured, ξ̃ (all epochs) is {ratio:,.4g} times ξ (one pass): tuning takes "
        f"{ratio * trained:.3g} times as long as one full pass over the same bytes, where Eq. (6) with one "
        f"ξ would have |w̃|/|w| = {trained:.3g}."
    )


def _difference(seven: Parameters, sources: Mapping[str, Source]) -> str:
    failing = "; ".join(name for name, holds in model.constraints(seven).items() if not holds)
    held = f"these do not hold for these data: {failing}." if failing else "all hold for these data."
    ways = (model.T_fl_s, model.T_llm_twin_s)
    growing = "; ".join(
        grown(name, *(growth_s(source, way) for way in ways)) for name, source in sources.items()
    )
    return (
        f"T_LLM-Twin - T_fl at K = λ = 1 after {HOURS} hours, in seconds. What is printed is not the "
        "difference of Eq. (10) and (11): an entity trains on S where Eq. (10) has H, and tunes on S̃_d "
        "where Eq. (11) has S_s; of the transfers one |w| is dropped, and H is S. Nor need it be below 0: "
        "the search reads all prompts, which nothing in Eq. (12) bounds. But H grows with the prompts, and "
        f"federated learning with it: {growing}. Of Eq. (12) and the orders of size in Eq. (6) "
        f"and (9), with ≪ for {model.MUCH:g} times smaller, {held}"
    )


def grown(name: str, of_fl: tuple[float, float], of_twin: tuple[float, float]) -> str:
    """Which of two times is less as hours go by, and from when: each as it is at first, and its hour's."""
    (fl, fl_hour), (twin, twin_hour) = of_fl, of_twin
    winner = figures.TWIN if fl_hour > twin_hour else figures.FL
    hours = (twin - fl) / (fl_hour - twin_hour)
    since = f"after {hours:,.1f} hours" if hours > 0 else "from the start"
    return (
        f"an hour adds {fl_hour:,.3g} s to FL and {twin_hour:,.3g} s to LLM-Twin, and {winner} takes less "
        f"{since} ({name})"
    )


def _terms(at: Mapping[str, Parameters]) -> list[list[str]]:
    columns = {f"{name}: {way}": of(p) for name, p in at.items() for way, of in WAYS.items()}
    terms = ["entity", "server", "transfer", "search"]
    return [
        ["term", *columns],
        *([term, *(f"{one[term][0]:,.4g}" for one in columns.values())] for term in terms),
        ["sum", *(f"{sum(one[term][0] for term in terms):,.4g}" for one in columns.values())],
    ]


def _entity(found: Measured, p: Parameters) -> str:
    tuning, (trained_bytes, trained_s) = found["whole"]["tuning"], found["whole"]["full"]["steps"][-1]
    epochs, passes = len(tuning["epochs"]), tuning["passes"]
    a_byte = tuning["seconds"] / passes / tuning["data_bytes"] / (trained_s / trained_bytes)
    share = float(model.T_u_cmp_tilde_s(p)[0] / model.T_u_cmp_s(p)[0])
    return (
        f"The paper has 1 % of the time or less, and with its parameters (7B) it is {share:.2%} after "
        f"{HOURS} hours: it is |w̃|/|w| and less as H grows. Measured: {tuning['seconds']:,.1f} s to "
        f"tune on {tuning['data_bytes']:,} bytes in {epochs} epochs, which are {passes:.1f} passes over "
        "them, since the first have a part of the facts and what is recalled rests; "
        f"{trained_s:,.1f} s to train all parameters once on {trained_bytes:,.0f} bytes. A byte and pass of "
        f"tuning takes {a_byte:.0%} of the time of a byte of full training. That is by stock transformers, "
        "which has logits of all its places; our trainer has them of completions alone, and has cached the "
        "layers below the adapter. The text of full training is H as the model has it, so that each of its "
        "points stands at the hours whose H has as many bytes; it ended before those of later hours. "
        "Points of LLM-Twin stand at the left and hold for all hours. The smaller model is there for the "
        f"trend, and learned {found['smaller']['tuning']['examples']:,} facts."
    )


def _server(found: Measured) -> str:
    averaging, loading = found["whole"]["averaging"], found["whole"]["loading"]
    return (
        f"Averaging {averaging['counts'][-1]} models took {averaging['seconds'][-1]:,.3g} s; loading "
        f"the one adapter that is asked took {loading['seconds']:,.3g} s, however many entities there "
        "are."
    )


_COMMUNICATION = (
    "Intra-twin times are modelled: measured bytes over the modelled channel; those of inter-twin search are "
    "measured on the prompt database, an answer's three queries together. The paper's search reads "
    "all prompts and grows with them; how ours does up to a million prompts is what `llmtwin study "
    "search` measures."
)


def _sent(found: Measured, p: Parameters) -> str:
    adapter, base = found["whole"]["tuning"]["adapter_bytes"], float(model.w_bytes(p))
    return (
        f"An adapter has {adapter:,} bytes (weights and configuration), the base {base:,.0f}, "
        f"{base / adapter:,.0f} times as many. LoRA alone gives this: federated LoRA sends as little a "
        "round. What one entity sends was measured, its files and the mean of its prompts; that others "
        "send as much is modelled."
    )


def _whole(passes: float) -> str:
    return (
        "T_fl / T_LLM-Twin at K = λ = 1: it grows with H, so that it is also what the hours make it. What "
        "was measured of FL is one pass over the raw text, which is not shown to learn it, while LLM-Twin "
        f"learned its facts in {passes:.1f} passes; beside it is FL with as many passes over H, modelled "
        f"from the one. With K = {figures.ROUNDS} or λ = {figures.PERIOD} the ratio is what one chooses it "
        "to be: the paper measures neither. The drawing has FL's one pass; of its points computing and "
        f"searching were measured, for one entity of {N}, and sending is modelled."
    )


def _by_hours(ratios: Mapping[str, Sequence[float]]) -> Table:
    return [
        ["hours", *ratios],
        *(
            [str(hours), *(f"{ratio:,.2f}" for ratio in row)]
            for hours, *row in zip(HOURS_WHOLE, *ratios.values(), strict=True)
        ),
    ]


def _tuning(found: Measured) -> str:
    tuning, loading = found["whole"]["tuning"], found["whole"]["loading"]
    return (
        f"{tuning['examples']:,} facts in {tuning['seconds']:,.1f} s to {tuning['recall']:.1%} recall; "
        f"at most {tuning['peak_rss_bytes'] / 1e6:,.0f} MB (10⁶ bytes) of memory, RSS of the process. The "
        f"paper, for a 7B model: about {PAPER_TUNE_S:g} s and {PAPER_TUNE_MB:,} MB, then {PAPER_MERGE_MB:,} "
        "MB to merge the weights at the server. Ours never merges: an adapter takes "
        f"{loading['bytes'] / 1e6:,.1f} MB beside the base."
    )
