"""Says what was measured of efficiency beside what the paper's model makes of it. It measures nothing."""

from __future__ import annotations

from collections.abc import Mapping

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
    here,
    paper,
    parameters,
    table,
)
from llmtwin.study.paper import Part, Section

HOURS = 24
"""At which the model's sums are looked at."""
WAYS = {"derived": model.difference_s, "printed": model.difference_printed_s}


def part(found: Measured) -> Part:
    """The part of what was measured."""
    sources = {f"paper, {size}": paper(size, found) for size in PAPER_W}
    sources[f"measured, {figures.label(found, 'whole')}"] = here(found)
    at = {name: parameters(source, HOURS) for name, source in sources.items()}
    ratios = {name: float(model.T_fl_s(p)[0] / model.T_llm_twin_s(p)[0]) for name, p in at.items()}
    _, seven, ours = at.values()
    headline = {
        "model_ratio_7b": list(ratios.values())[1],
        "model_ratio_measured": list(ratios.values())[2],
        "model_xi_ratio": float(ours.xi_tilde_cycles_per_byte_parameter / ours.xi_cycles_per_byte_parameter),
        "adapter_bytes": found["whole"]["tuning"]["adapter_bytes"],
        "adapter_load_seconds": found["whole"]["loading"]["seconds"],
    }
    title, text = "Eq. (13) as derived and as printed", _difference(seven, ours)
    sections = [
        Section("Parameters", _parameters(found, ours), table(sources)),
        Section(title, text, _terms(at)),
        _drawn("Fig. 5: an entity's computation", _entity(found, seven), figures.figure_5(found)),
        _drawn("Fig. 6: the server's computation", _server(found), figures.figure_6(found)),
        _drawn("Fig. 7: communication", _COMMUNICATION, figures.figure_7(found)),
        _drawn("Fig. 8: bytes sent", _sent(found, ours), figures.figure_8(found)),
        _drawn("Fig. 9: the whole", _whole(ratios), figures.figure_9(found)),
        _drawn("Fig. 11: loss and time of tuning", _tuning(found), figures.figure_11(found)),
    ]
    return Part("efficiency", "The efficiency model", headline, sections, found)


def _drawn(title: str, text: str, chart: Chart) -> Section:
    number = title.partition(":")[0].removeprefix("Fig. ")
    return Section(title, text, chart=chart, name=f"figure-{number}")


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


def _difference(seven: Parameters, ours: Parameters) -> str:
    failing = "; ".join(name for name, holds in model.constraints(seven).items() if not holds)
    held = f"these do not hold for these data: {failing}." if failing else "all hold for these data."
    hours, hours_here = (
        float(model.H_tilde_even_bytes(p)[0]) / p.H_tilde_bytes * HOURS for p in (seven, ours)
    )
    here = (
        f"with the parameters measured here of {hours_here:,.0f}"
        if hours_here > 0
        else "with the parameters measured here there is none to undo"
    )
    return (
        f"T_LLM-Twin - T_fl at K = λ = 1 after {HOURS} hours, in seconds. What is printed is not the "
        "difference of Eq. (10) and (11): an entity trains on S where Eq. (10) has H, and tunes on S̃_d "
        "where Eq. (11) has S_s; of the transfers one |w| is dropped, and H is S. Nor need it be below 0: "
        "the search reads all prompts, which nothing in Eq. (12) bounds. At the paper's rate (7B) it "
        f"undoes the gain once there are the prompts of {hours:,.0f} hours; {here}. Of Eq. (12) and the "
        f"orders of size in Eq. (9) {held}"
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
    epochs = len(tuning["epochs"])
    a_byte = tuning["seconds"] / epochs / tuning["data_bytes"] / (trained_s / trained_bytes)
    share = float(model.T_u_cmp_tilde_s(p)[0] / model.T_u_cmp_s(p)[0])
    return (
        f"The paper has 1 % of the time or less, and with its parameters (7B) it is {share:.2%} after "
        f"{HOURS} hours: it is |w̃|/|w| and less as H grows. Measured: {tuning['seconds']:,.1f} s to "
        f"tune on {tuning['data_bytes']:,} bytes in {epochs} epochs; {trained_s:,.1f} s to train all "
        f"parameters once on {trained_bytes:,.0f} bytes. A byte and epoch of tuning takes {a_byte:.0%} "
        "of the time of a byte of full training. Points of LLM-Twin stand at the first hour and hold "
        "for all."
    )


def _server(found: Measured) -> str:
    averaging, loading = found["whole"]["averaging"], found["whole"]["loading"]
    return (
        f"Averaging {averaging['counts'][-1]} models took {averaging['seconds'][-1]:,.3g} s; loading "
        f"the one adapter that is asked took {loading['seconds']:,.3g} s, however many entities there "
        "are."
    )


_COMMUNICATION = (
    "Intra-twin times are measured bytes over the modelled channel; those of inter-twin search are "
    "measured on the prompt database, an answer's three queries together. The paper's search reads "
    "all prompts and grows with them; how ours does up to a million prompts is what `llmtwin study "
    "search` measures."
)


def _sent(found: Measured, p: Parameters) -> str:
    adapter, base = found["whole"]["tuning"]["adapter_bytes"], float(model.w_bytes(p))
    return (
        f"An adapter has {adapter:,} bytes (weights and configuration), the base {base:,.0f}, "
        f"{base / adapter:,.0f} times as many. LoRA alone gives this: federated LoRA sends as little a "
        "round."
    )


def _whole(ratios: Mapping[str, float]) -> str:
    said = ", ".join(f"{ratio:,.1f} ({name})" for name, ratio in ratios.items())
    return (
        f"T_fl / T_LLM-Twin at K = λ = 1 after {HOURS} hours: {said}. With K = {figures.ROUNDS} or λ = "
        f"{figures.PERIOD} the ratio is what one chooses it to be: the paper measures neither."
    )


def _tuning(found: Measured) -> str:
    tuning, loading = found["whole"]["tuning"], found["whole"]["loading"]
    return (
        f"{tuning['examples']:,} facts in {tuning['seconds']:,.1f} s to {tuning['recall']:.1%} recall; "
        f"at most {tuning['peak_rss_bytes'] / 1e6:,.0f} MB of memory (RSS of the process). The paper, "
        f"for a 7B model: about {PAPER_TUNE_S:g} s and {PAPER_TUNE_MB:,} MB, then {PAPER_MERGE_MB:,} "
        "MB to merge the weights at the server. Ours never merges: an adapter takes "
        f"{loading['bytes'] / 1e6:,.1f} MB beside the base."
    )
