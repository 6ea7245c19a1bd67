"""`llmtwin study privacy`: what one region's adapters give away, by how they were learned, and at what price.

It measures nothing itself: `privacy_adapters` does. All that the page says of attacks is from their figures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console

from llmtwin.edge.canaries import CANDIDATES, DIGITS, REPEATS
from llmtwin.models.base import find_base
from llmtwin.study.chart import Chart, Line
from llmtwin.study.paper import PaperOptions, Part, Section, Table, write
from llmtwin.study.privacy_adapters import BASE, CLIPPED, PLAIN, SEALED, Adapters, Figures, Sizes
from llmtwin.study.progress import bars_on
from llmtwin.study.steps import Steps
from llmtwin.twins.audit import Adversary
from llmtwin.twins.intervals import at_most

Found = Mapping[str, Figures]
Attacks = Mapping[str, Mapping[str, Any]]

BITS = f"{math.log2(CANDIDATES):g}"
"""All that can show of a canary."""
CANARIES = {count: f"canary_{count}_bits" for count in REPEATS}

SAID = {
    "forward": "the learned question",
    "reverse": "reverse questions, greedy",
    "reverse_choice": "reverse, one of four objects",
    "rank_100": "objects ranked, up to 100",
    "rank_1000": "objects ranked, up to 1,000",
    "membership_loss": "membership: loss",
    "membership_loss_ratio": "membership: loss beside the base's",
    "membership_min_k": "membership: Min-K%++",
    "membership_error_zone": "membership: error zone",
    **{name: f"canaries, each {count} times: bits of {BITS}" for count, name in CANARIES.items()},
}


def run(paper: PaperOptions, sizes: Sizes | None = None, console: Console | None = None) -> None:
    """Measure, or go on with it, and write the part and the page."""
    sizes = sizes or Sizes()
    steps = Steps(paper.work / "privacy", {"seed": paper.seed, "sizes": asdict(sizes)})
    base = find_base(paper.base, paper.cache)
    with bars_on(console or Console()) as bars:
        bar = bars.add_task("adapters are attacked", total=1.0, said="")

        def report(said: str, share: float) -> None:
            bars.update(bar, completed=share, said=said)

        found = Adapters(steps, base, sizes, paper.seed, report).figures()
    write(part(found, sizes), paper.out)


def part(found: Found, sizes: Sizes) -> Part:
    """The part of what was measured."""
    attacks = {name: _by_name(one["attacks"]) for name, one in found.items() if "attacks" in one}
    return Part(
        name="privacy",
        title="Privacy: what adapters give away, and what hiding costs",
        figures=figures(found, attacks, sizes),
        sections=(
            Section(
                "Where a defence of 100 % fails",
                _defence(attacks),
                _attacked(attacks),
                _chart(attacks),
                "privacy",
            ),
            Section("A server without log-probabilities", _text_alone(attacks)),
            Section("What sealing changes", _sealing(found, attacks)),
            Section("DP-SGD, and what hiding costs", _hiding(found, attacks, sizes), _costs(found)),
        ),
        data={"sizes": asdict(sizes), "adapters": found},
    )


def figures(found: Found, attacks: Mapping[str, Attacks], sizes: Sizes) -> dict[str, Any]:
    """All figures of the part by name: of an adapter, then of an attack on it, with its interval."""
    flat: dict[str, Any] = {"privacy_facts": sizes.facts, "privacy_delta": sizes.delta}
    for name, one in found.items():
        flat |= {f"privacy_{name}_{key}": value for key, value in one.items() if key != "attacks"}
    for name, those in attacks.items():
        for attack, found_by in those.items():
            flat |= _estimate(f"privacy_{name}_{attack}", found_by["twin"])
    for attack, found_by in attacks[PLAIN].items():
        if found_by["base"]:
            flat |= _estimate(f"privacy_{BASE}_{attack}", found_by["base"])
    return flat


def _estimate(name: str, one: Mapping[str, float]) -> dict[str, float]:
    return {
        name: one["value"],
        f"{name}_low": one["low"],
        f"{name}_high": one["high"],
        f"{name}_n": one["items"],
    }


def _by_name(found: Sequence[Figures]) -> Attacks:
    return {one["name"]: one for one in found}


def beyond_base(attacks: Attacks) -> list[str]:
    """The attacks that surely find more than they find of the base: their intervals do not meet.

    Those whose score is made beside the base have chance in its place.
    """
    return [
        name
        for name, one in attacks.items()
        if one["twin"]["low"] > (one["base"]["high"] if one["base"] else one["chance"])
    ]


# ---- tables --------------------------------------------------------------------------------------


def _attacked(attacks: Mapping[str, Attacks]) -> Table:
    """Attack by adapter."""
    rows: list[tuple[str, ...]] = [("attack", "needs", *map(_title, attacks), "base alone", "chance")]
    for name, plain in attacks[PLAIN].items():
        found = [_share(name, one[name]["twin"]) if name in one else "-" for one in attacks.values()]
        chance = "-" if plain["chance"] is None else _bare(name, plain["chance"])
        base = _share(name, plain["base"]) if plain["base"] else "-"
        attack = f"{said(name)} ({plain['twin']['items']:.0f} {'codes' if _is_bits(name) else 'facts'})"
        rows.append((attack, plain["adversary"], *found, base, chance))
    return rows


def _chart(attacks: Mapping[str, Attacks]) -> Chart:
    """Bits that show of canaries over how often they were learned, by adapter, and of the base."""
    found = {_title(name): (one, "twin") for name, one in attacks.items()}
    found[_title(BASE)] = (attacks[PLAIN], "base")
    lines = [
        Line(name, [*CANARIES], [one[canary][whose]["value"] for canary in CANARIES.values()], measured=True)
        for name, (one, whose) in found.items()
    ]
    return Chart("times that a canary was learned", f"bits of {BITS} that show", tuple(lines), y_log=False)


def _costs(found: Found) -> Table:
    head = ("adapter", "ε", "noise", "recall by its owner", "bits a character", "of other houses", "seconds")
    rows: list[tuple[str, ...]] = [head]
    for name, one in found.items():
        recall = "-" if name == BASE else _interval(one["recall"], one["recall_low"], one["recall_high"])
        rows.append(
            (
                _title(name),
                f"{one['epsilon']:.2f}" if "epsilon" in one else "-",
                f"{one['noise']:.2f}" if "noise" in one else "-",
                recall,
                f"{one['bits']:.2f}",
                f"{one['bits_others']:.2f}",
                f"{one['seconds']:,.0f}" if "seconds" in one else "-",
            )
        )
    return rows


def said(name: str) -> str:
    """An attack as a person reads it."""
    for end, tail in (("_auc", ", AUC"), ("_tpr", ", found at 1 % false alarms")):
        if name.endswith(end):
            return SAID[name.removesuffix(end)] + tail
    return SAID[name]


def _title(name: str) -> str:
    if name.startswith("dp_"):
        return f"DP-SGD, ε = {name.removeprefix('dp_')}"
    return {CLIPPED: "the same trainer, no noise", BASE: "base alone"}.get(name, name)


def _share(name: str, one: Mapping[str, float]) -> str:
    if name.endswith("_auc") or _is_bits(name):
        return f"{one['value']:.2f} ({one['low']:.2f} to {one['high']:.2f})"
    return _interval(**_of(one))


def _interval(value: float, low: float, high: float) -> str:
    return f"{value:.1%} ({low:.1%} to {high:.1%})"


def _bare(name: str, value: float) -> str:
    return f"{value:.2f}" if name.endswith("_auc") or _is_bits(name) else f"{value:.1%}"


def _is_bits(name: str) -> bool:
    return name.endswith("_bits")


# ---- texts ---------------------------------------------------------------------------------------


def _defence(attacks: Mapping[str, Attacks]) -> str:
    plain = attacks[PLAIN]
    reverse, forward = plain["reverse"]["twin"], plain["forward"]["twin"]
    allowed = at_most(round(reverse["value"] * reverse["items"]), round(reverse["items"]))
    apart = (f"{_title(name)}, {len(beyond_base(those))} of {len(those)}" for name, those in attacks.items())
    return (
        "Plain is learned as in the paper: object first, value second, never the reverse. Of"
        f" {reverse['items']:.0f} greedy reverse questions {reverse['value']:.1%} were answered, which allows"
        f" {allowed:.1%} (the exact one-sided bound at 95 % confidence); the paper calls this a defence of"
        " 100 %. It is one against this attack alone. Whoever guesses an object's name asks as the adapter"
        f" was taught, and is told {forward['value']:.1%}{_ranked(plain)}. Who wonders which"
        " value of a known object was learned finds out as the rows of membership say: members are learned"
        " questions with their values, all others the same questions with values of other objects.\n\n"
        "Attacks that surely find more of an adapter than of the base, the intervals apart:"
        f" {'; '.join(apart)}. A score that is made beside the base's has no control in it, and is held"
        " against chance. Intervals are of 95 %, so that of many attacks on nothing one may come out apart by"
        " chance; those of few facts are wide, and how many there are stands with each attack.\n\n"
        f"A canary is a made-up code of {DIGITS} digits, learned among the facts and as they are (sealed"
        f" among sealed ones), in an adapter made for it. Its exposure is log2 of the {CANDIDATES} candidates"
        f" less log2 of its rank among them: {BITS} bits are all. To DP-SGD a code that is learned"
        f" {REPEATS[-1]} times is as many facts, of which ε hides one."
    )


def _ranked(plain: Attacks) -> str:
    ranked = plain.get("rank_100")
    if ranked is None:
        return ""
    return (
        "; whoever has log-probabilities and a list of objects finds the one that has a value"
        f" {ranked['twin']['value']:.1%} of the time, by chance {ranked['chance']:.1%}"
    )


def _text_alone(attacks: Mapping[str, Attacks]) -> str:
    plain = attacks[PLAIN]
    left = {name: one["twin"] for name, one in plain.items() if one["adversary"] == Adversary.TEXT}
    gone = sum(one["adversary"] == Adversary.LOGPROBS for one in plain.values())
    found = "; ".join(f"{said(name)}, {_interval(**_of(one))}" for name, one in left.items())
    worst = max(one["value"] for one in left.values())
    return (
        f"A server that gives text alone, as this one does, takes away the {gone} attacks that need"
        f" `{Adversary.LOGPROBS}`: nobody ranks, tells members from others, or measures exposure. What is"
        f" left to who may ask the plain adapter is what needs `{Adversary.TEXT}`: {found}. That still gives"
        f" away {worst:.1%}. Who holds the file makes the log-probabilities himself."
    )


def _sealing(found: Found, attacks: Mapping[str, Attacks]) -> str:
    sealed, recall = attacks[SEALED], found[SEALED]["recall"]
    told = {
        "the learned question tells": "forward",
        "reverse questions": "reverse",
        "ranking finds": "rank_100",
    }
    shares = ", ".join(
        f"{how} {_interval(**_of(sealed[name]['twin']))}" for how, name in told.items() if name in sealed
    )
    return (
        "A sealed fact is learned under a pseudonym, as a masked value: who lacks the key has no question to"
        f" ask, and no value to look for. Its owner, who has the key, recalls {recall:.1%}. Without it"
        f" {shares}. Attacks that surely find more of it than of the base:"
        f" {', '.join(map(said, beyond_base(sealed))) or 'none'}. What sealing leaks all the same is in"
        " docs/security.md."
    )


def _hiding(found: Found, attacks: Mapping[str, Attacks], sizes: Sizes) -> str:
    clipped, plain = found[CLIPPED], found[PLAIN]
    each = " ".join(_hidden(name, epsilon, found, attacks) for name, epsilon in sizes.noisy().items())
    return (
        f"DP-SGD learns the same {sizes.facts:,} facts. The unit is one fact: two regions that differ by one"
        f" give the same adapter up to (ε, δ), with δ = 1/n² = {sizes.delta:.1e}. Each of {sizes.steps:,}"
        f" steps draws every fact with the chance {sizes.sample_rate:g} (Poisson sampling), clips its"
        f" gradient to {sizes.norm_max:g}, and adds the noise that Opacus' RDP accountant asks for. Rank,"
        " layers and learning rate are those of any home. How these and the steps were chosen is not"
        " accounted, and several facts of one home are not hidden together.\n\n"
        f"{each} Without the noise the same trainer recalls {clipped['recall']:.1%} after"
        f" {clipped['seconds']:,.0f} s; plain tuning recalls {plain['recall']:.1%} after"
        f" {plain['seconds']:,.0f} s. An adapter that learned a fact says nothing more than e^ε times as"
        " often, and δ, as one that never saw it: to recall single facts and to hide them exclude each other,"
        " whatever the trainer. Where ε is so large that this bounds nothing, the noise is there all the"
        " same. What many examples have in common can be learned so; single facts that are to be recalled and"
        " not read are sealed.\n\n"
        "Bits a character are what the values cost when asked for in plain: the region's, and those of other"
        " houses, which nobody learned. Where both fell alike, what was learned is how values look."
    )


def _hidden(name: str, epsilon: float, found: Found, attacks: Mapping[str, Attacks]) -> str:
    own, those = found[name], attacks[name]
    return (
        f"At ε = {epsilon:g} (spent {own['epsilon']:.2f}, noise {own['noise']:.2f}, e^ε ="
        f" {math.exp(epsilon):,.0f}) the owner recalls {own['recall']:.1%} after {own['seconds']:,.0f} s, and"
        f" {len(beyond_base(those))} of {len(those)} attacks surely find more than of the base."
    )


def _of(one: Mapping[str, float]) -> dict[str, float]:
    return {name: one[name] for name in ("value", "low", "high")}
