"""What the paper claims and what the study must show, beside what was measured. It measures nothing itself.

It knows the names of figures (rates from 0 to 1) and no part: what was not measured yet is said to be so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmtwin.twins.intervals import at_most

Figures = Mapping[str, Any]

MET, MISSED, BOUND, REPORTED = "met", "not met", "bound: not known", "reported"
UNMEASURED = "not measured"
HEAD = ("what", "figures", "the paper", "bar", "measured", "verdict")


@dataclass(frozen=True)
class Bar:
    """A row of what must be shown: the figures it takes, what they say, and whether that is enough."""

    what: str
    figures: tuple[str, ...]
    paper: str
    bar: str
    said: Callable[[Figures], str]
    verdict: Callable[[Figures], str]

    def row(self, found: Figures) -> tuple[str, ...]:
        """It as a line of the table."""
        names = ", ".join(f"`{name}`" for name in self.figures)
        known = _known(found, self.figures)
        measured = (self.said(found), self.verdict(found)) if known else (UNMEASURED, "-")
        return (self.what, names, self.paper, self.bar, *measured)


def shown(found: Figures) -> list[tuple[str, ...]]:
    """All that must be shown as a table, the first row its head."""
    return [HEAD, *(bar.row(found) for bar in BARS)]


def claims(found: Figures) -> list[str]:
    """A sentence for each of the paper's three claims, and what it rests on."""
    said: list[str] = []
    for claim, needs, says in CLAIMS:
        known = _known(found, needs)
        said.append(f"**{claim}** {says(found) if known else f'{UNMEASURED.capitalize()}.'}")
    return said


def _known(found: Figures, names: Sequence[str]) -> bool:
    """Whether all were measured: a ratio to what missed its target is None."""
    return all(found.get(name) is not None for name in names)


# ---- verdicts ------------------------------------------------------------------------------------


def _judged(met: bool) -> str:
    return MET if met else MISSED


def _above(value: float, least: float, mark: str) -> str:
    """Whether a ratio is enough. A lower bound that is too low leaves it open; what is estimated says so."""
    if value < least:
        return BOUND if "lower bound" in mark else MISSED
    return f"{MET}, estimated" if "estimated" in mark else MET


def _speedup_mark(found: Figures) -> str:
    return "lower bound" if found["peft_speedup_is_bound"] else ""


def _tuned(found: Figures) -> str:
    return _judged(found["tune_1600_seconds"] <= 400 and found["tune_1600_recall"] >= 0.99)


def _beside_peft(found: Figures) -> str:
    if found["peft_peak_rss_ratio"] <= 1:
        return MISSED
    return _above(found["peft_speedup"], 4, _speedup_mark(found))


def _is_chance(found: Figures) -> bool:
    low, high = found["attack_sealed_low"], found["attack_sealed_high"]
    return bool(low <= found["attack_sealed_chance"] <= high)


def _decided(found: Figures) -> str:
    return _judged(found["decision_accuracy"] >= 0.98 and found["decision_invalid_accepted"] == 0)


# ---- what is said --------------------------------------------------------------------------------


def _times(value: float, mark: str) -> str:
    return f"{value:,.1f} times" + (f" ({mark})" if mark else "")


def _counts(found: Mapping[str, int]) -> str:
    return ", ".join(f"{right:,} of {int(count):,}" for count, right in found.items())


def _shares(found: Mapping[str, int]) -> list[float]:
    return [right / int(count) for count, right in found.items()]


def _told(found: Figures) -> str:
    told = found["table2_reverse"]
    bounds = ", ".join(f"{at_most(right, int(count)):.1%}" for count, right in told.items())
    return f"{_counts(told)}: at most {bounds} (exact one-sided bounds at 95 %)"


def _ranked(found: Figures, name: str) -> str:
    interval = f"{found[f'{name}_low']:.1%} to {found[f'{name}_high']:.1%}"
    chance, base = found[f"{name}_chance"], found[f"{name}_base"]
    return f"{found[name]:.1%} ({interval}; chance {chance:.1%}; of the base alone {base:.1%})"


FEDERATED = {"full": "FedAvg, all parameters", "lora": "FedAvg-LoRA", "ffa": "FFA-LoRA"}


def _ratio(what: str, over: str, least: float | None = None) -> Bar:
    """A row for LLM-Twin beside a federated way; without an aim it is reported."""
    name, mark = f"{what}_ratio_{over}", f"ratio_{over}_mark"
    return Bar(
        {"bytes": "wire bytes", "time": "total time"}[what]
        + " to 95 % recall, 20 homes, over LLM-Twin: "
        + FEDERATED[over],
        (name,),
        "over 100 times",
        "reported" if least is None else f"aim: ≥ {least:,g} times",
        lambda found: _times(found[name], found.get(mark, "")),
        lambda found: REPORTED if least is None else _above(found[name], least, found.get(mark, "")),
    )


BARS = (
    Bar(
        "normal prompts, right",
        ("table2_normal",),
        "94 of 100, 485 of 500, 912 of 1,000",
        "≥ 99 % at each",
        lambda found: _counts(found["table2_normal"]),
        lambda found: _judged(min(_shares(found["table2_normal"])) >= 0.99),
    ),
    Bar(
        "phrasings never trained, right",
        ("recall_unseen",),
        "not tested",
        "≥ 95 %",
        lambda found: f"{found['recall_unseen']:.1%} of {found['recall_unseen_n']:,}",
        lambda found: _judged(found["recall_unseen"] >= 0.95),
    ),
    Bar(
        "reverse prompts, greedy, told",
        ("table2_reverse",),
        "0 of 500, 0 of 1,000",
        "0 at each",
        _told,
        lambda found: _judged(not any(found["table2_reverse"].values())),
    ),
    Bar(
        "forward-likelihood, top-1 of 100: plain",
        ("attack_plain",),
        "not tested",
        "reported",
        lambda found: _ranked(found, "attack_plain"),
        lambda found: REPORTED,
    ),
    Bar(
        "forward-likelihood, top-1 of 100: sealed",
        ("attack_sealed",),
        "not tested",
        "chance within the interval",
        lambda found: _ranked(found, "attack_sealed"),
        lambda found: _judged(_is_chance(found)),
    ),
    Bar(
        "tuning 1,600 facts, the adapter of this table, on 2 cores",
        ("tune_1600_seconds", "tune_1600_recall"),
        "400 s (7B, their server)",
        "≤ 400 s, to ≥ 99 % recall",
        lambda found: f"{found['tune_1600_seconds']:,.0f} s, to {found['tune_1600_recall']:.1%}",
        _tuned,
    ),
    Bar(
        "stock PEFT to the same recall, over ours: time, peak memory",
        ("peft_speedup", "peft_peak_rss_ratio"),
        "not tested",
        "≥ 4 times; more memory than ours",
        lambda found: (
            f"{_times(found['peft_speedup'], _speedup_mark(found))}; {found['peft_peak_rss_ratio']:.2f} times"
        ),
        _beside_peft,
    ),
    _ratio("bytes", "full", 1000),
    _ratio("bytes", "lora", 20),
    _ratio("bytes", "ffa"),
    _ratio("time", "full", 100),
    _ratio("time", "lora", 3),
    _ratio("time", "ffa"),
    Bar(
        "decisions: right; invalid ones accepted",
        ("decision_accuracy", "decision_invalid_accepted"),
        "not tested",
        "≥ 98 %; 0",
        lambda found: f"{found['decision_accuracy']:.1%}; {found['decision_invalid_accepted']:.1%}",
        _decided,
    ),
    Bar(
        "search: p95 at 1 million prompts over p95 at 10 thousand",
        ("search_ratio",),
        "grows",
        "≤ 1.5 times",
        lambda found: (
            f"{found['search_ratio']:.2f} times (median of {found['search_rounds']} rounds;"
            f" {found['search_ratio_low']:.2f} to {found['search_ratio_high']:.2f})"
        ),
        lambda found: _judged(found["search_ratio"] <= 1.5),
    ),
)


# ---- the three claims ----------------------------------------------------------------------------


def _efficient(found: Figures) -> str:
    def part(what: str, over: str) -> str:
        value, mark = found[f"{what}_ratio_{over}"], found.get(f"ratio_{over}_mark", "")
        holds = {MET: "holds", f"{MET}, estimated": "holds by estimate", BOUND: "is not shown"}
        said = holds.get(_above(value, 100, mark), "does not hold")
        return f"{_times(value, mark)} against {FEDERATED[over]}: it {said}"

    in_bytes, in_time = ("; ".join(part(what, over) for over in FEDERATED) for what in ("bytes", "time"))
    return (
        f"In bytes, {in_bytes}. In time, {in_time}. What all parameters cost over LoRA, low rank saves"
        " whoever uses it: only what is left against the better of both LoRA ways is the twin's."
    )


def _accurate(found: Figures) -> str:
    least = min(_shares(found["table2_normal"]))
    holds = "holds" if min(least, found["recall_unseen"]) > 0.9 else "does not hold"
    return (
        f"It {holds}: of prompts as learned {least:.1%} are right at least, of phrasings that were never"
        f" trained {found['recall_unseen']:.1%}."
    )


def _defended(found: Figures) -> str:
    greedy = "holds" if not any(found["table2_reverse"].values()) else "does not even hold"
    ranked = "fails" if found["attack_plain_low"] > found["attack_plain_chance"] else "is not seen to fail"
    more = "more" if found["attack_sealed_low"] > found["attack_sealed_base_high"] else "not surely more"
    sealed = "as by chance" if _is_chance(found) else f"not as by chance, and {more} than of the base"
    return (
        f"Against greedy reverse prompts it {greedy}, {_told(found)}. Against who ranks objects by how likely"
        f" they make a value it {ranked}: {_ranked(found, 'attack_plain')} of plain facts are found out. Of"
        f" sealed ones, which the paper does not have, it is {_ranked(found, 'attack_sealed')}, {sealed}."
    )


CLAIMS: tuple[tuple[str, tuple[str, ...], Callable[[Figures], str]], ...] = (
    (
        "Over 100 times more efficient than federated learning.",
        tuple(f"{what}_ratio_{over}" for what in ("bytes", "time") for over in FEDERATED),
        _efficient,
    ),
    ("Over 90 % accuracy.", ("table2_normal", "recall_unseen"), _accurate),
    (
        "100 % defence against reverse attacks.",
        ("table2_reverse", "attack_plain", "attack_sealed"),
        _defended,
    ),
)
"""What is claimed, the figures that its sentence takes, and the sentence."""
