"""The part about federated learning: costs, ratios with their marks, what they say. It measures nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from statistics import fmean
from typing import Any

from llmtwin.study.chart import Chart, Line
from llmtwin.study.federated import ALPHA, DIRICHLET, FFA, FULL, IID, LORA, TWIN
from llmtwin.study.paper import Part, Section, Table

Found = Mapping[str, Any]
LOCAL = "local"
SAID = {
    FULL: "FedAvg, all parameters",
    LORA: "FedAvg-LoRA",
    FFA: "FFA-LoRA",
    LOCAL: "local-only LoRA",
    TWIN: "LLM-Twin",
}


@dataclass(frozen=True)
class Cost:
    """What one run took up to its end: all bytes, and seconds as though homes ran side by side."""

    homes: int
    rounds: int
    epochs: float
    sent_bytes: float
    seconds: float
    client_s: float
    server_s: float
    client_peak: int
    server_peak: int
    recall: float
    recall_min: float
    across: float
    reached: bool
    estimated: bool = False

    @property
    def mark(self) -> str:
        """What a ratio to it must say beside it."""
        marks = ["estimated"] * self.estimated + ["lower bound"] * (not self.reached)
        return ", ".join(marks)

    def scaled(self, homes: int) -> Cost:
        """As it would be with more homes, were its rounds as many: an estimate."""
        if homes == self.homes:
            return self
        factor = homes / self.homes
        return replace(
            self,
            homes=homes,
            sent_bytes=self.sent_bytes * factor,
            seconds=self.seconds + self.server_s * (factor - 1),
            client_s=self.client_s * factor,
            server_s=self.server_s * factor,
            estimated=True,
        )


def cost(found: Found) -> Cost:
    """The cost of a run from its rounds."""
    rounds, job = found["rounds"], found["job"]
    server_s = sum(one["server_s"] for one in rounds)
    epochs = found.get("epochs")
    return Cost(
        homes=job["homes"],
        rounds=len(rounds),
        epochs=fmean(epochs) if epochs else len(rounds) * job["epochs"],
        sent_bytes=sum(one["bytes_down"] + one["bytes_up"] for one in rounds),
        seconds=sum(max(one["client_s"]) for one in rounds) + server_s,
        client_s=sum(sum(one["client_s"]) for one in rounds),
        server_s=server_s,
        client_peak=max(one["client_peak"] for one in rounds),
        server_peak=found["server_peak"],
        recall=found["recall"],
        recall_min=min(rounds[-1]["recall"]),
        across=fmean(found["recall_next"]) if "recall_next" in found else found["recall"],
        reached=found["reached"],
    )


def figures(found: Found) -> dict[str, Any]:
    """The ratios to LLM-Twin with the most homes, IID, and what must be said beside them.

    A ratio is None where LLM-Twin itself misses the target: nothing can be said then.
    """
    twin = cost(_best(found, TWIN))
    made: dict[str, Any] = {"federated_homes": twin.homes, "federated_target": found["sizes"]["target"]}
    for method in (FULL, LORA, FFA):
        for what, of in (("bytes", "sent_bytes"), ("time", "seconds")):
            whole = cost(_best(found, method, of)).scaled(twin.homes)
            ratio = getattr(whole, of) / getattr(twin, of) if twin.reached else None
            made[f"{what}_ratio_{method}"] = ratio
            made[f"ratio_{method}_mark"] = whole.mark
        own = cost(_best(found, method))
        made[f"federated_{method}_rounds"] = own.rounds
        made[f"federated_{method}_homes"] = own.homes
    made["federated_twin_recall"], made["federated_twin_recall_across"] = twin.recall, twin.across
    return made


def _best(found: Found, method: str, of: str = "sent_bytes") -> Found:
    """The run with the most homes, IID, that took the least of those that reached the target, if any did."""
    most = max(one["job"]["homes"] for one in _iid(found, method))
    largest = [one for one in _iid(found, method) if one["job"]["homes"] == most]
    reached = [one for one in largest if one["reached"]]
    best: Found = min(reached or largest, key=lambda one: getattr(cost(one), of))
    return best


def part(found: Found) -> Part:
    """The part of what was measured."""
    made = figures(found)
    return Part(
        name="federated",
        title="Federated learning, and what a twin adds to LoRA",
        figures=made,
        sections=(
            Section("To the same recall", _ratios_text(found, made), _ratios(made)),
            Section("All runs", _runs_text(found), _runs(found), _chart(found), "federated"),
            Section("Settings that were tried", _tried_text(found), _tried(found)),
        ),
        data=found,
    )


def _ratios_text(found: Found, made: Found) -> str:
    homes, target = made["federated_homes"], made["federated_target"]
    said = [
        f"How much more a way takes than LLM-Twin until {target:.0%} of all facts are recalled, with {homes} "
        "homes, IID. Bytes are those of every message's content as Flower serialises it, both ways; numbers "
        "have two bytes (float16; in LLM-Twin's signed package bf16). Time is as though homes ran side by "
        "side: the slowest home of each round, and the server's averaging; the network's time is not in it. "
        "LLM-Twin's is the slowest home's, until it recalls everything with a margin, which is longer than "
        "to the target. The paper says that LLM-Twin is over 100 times as efficient."
        f"{_attributed(found, made)}",
        *_marked(found, made),
        "The goals differ. Federated learning gives one model that holds all homes' facts, and every home "
        "gets it; an adapter of LLM-Twin holds one home's: asked for the next home's facts it recalls "
        f"{made['federated_twin_recall_across']:.1%}, by design, and the server, which holds all adapters, "
        "picks by name. Who needs one shared model has no use for this saving. Local-only LoRA is LLM-Twin "
        "without its upload: as right at home, free on the wire, and nobody else can ask it.",
    ]
    return "\n\n".join(said)


def _attributed(found: Found, made: Found) -> str:
    """How much of the gain LoRA alone gives, and how much the twin's way of sending once adds."""
    full, lora = made["bytes_ratio_full"], made["bytes_ratio_lora"]
    if full is None or lora is None:
        return " Here LLM-Twin itself missed the target, so that no ratio can be given."
    own, twin = cost(_best(found, LORA)), cost(_best(found, TWIN))
    quickest = cost(_best(found, LORA, "seconds"))
    cached = made["time_ratio_full"] / made["time_ratio_lora"]
    share = (
        f" ({math.log(full / lora) / math.log(full):.0%} of it on a logarithmic scale)" if full > 1 else ""
    )
    unsure = any("lower bound" in made[f"ratio_{method}_mark"] for method in (FULL, LORA))
    return (
        f" Here it is {_times(made, 'bytes', FULL)} in bytes against all parameters. LoRA alone gives "
        f"{_three(full / lora)} times{share}, since fewer numbers travel; the twin adds "
        f"{_times(made, 'bytes', LORA)}, since each home sends once where FedAvg-LoRA sends both ways in "
        f"{own.rounds} rounds. In time it is {_times(made, 'time', FULL)} against all parameters; LoRA over "
        f"a cached trunk gives {_three(cached)} times, and the twin "
        f"{_times(made, 'time', LORA)}: a home of FedAvg-LoRA learned for {quickest.epochs:.0f} epochs, a "
        f"twin for {twin.epochs:.0f}."
        + " Where a ratio is a lower bound, how the gain parts in two is not exactly known."
        * unsure
    )


def _three(number: float) -> str:
    """With three figures that count, and none as a power of ten."""
    return f"{float(f'{number:.3g}'):,.12g}"


def _times(made: Found, what: str, method: str) -> str:
    mark = made[f"ratio_{method}_mark"]
    return f"{_three(made[f'{what}_ratio_{method}'])} times" + (f" ({mark})" if mark else "")


def _marked(found: Found, made: Found) -> list[str]:
    """What is not measured, and how it came by."""
    said = []
    for method in (FULL, LORA, FFA):
        own, homes = cost(_best(found, method)), made["federated_homes"]
        if own.homes != homes:
            of_lora = {one["job"]["homes"]: len(one["rounds"]) for one in reversed(_iid(found, LORA))}
            rounds = ", ".join(f"{number}: {of_lora[number]}" for number in sorted(of_lora))
            said.append(
                f"Estimated: {SAID[method]} was run with {own.homes} homes only. For {homes} its bytes and "
                f"the server's seconds are multiplied; its rounds are taken to be the {own.rounds} of "
                f"{own.homes} homes, which is not measured (rounds of FedAvg-LoRA by homes: {rounds})."
            )
        if not own.reached:
            said.append(
                f"Lower bound: {SAID[method]} stopped after {own.rounds} rounds, its budget, at a recall of "
                f"{own.recall:.0%}."
            )
    return said


def _iid(found: Found, method: str) -> list[Found]:
    return [one for one in found["ran"][method] if one["job"]["split"] == IID]


def _ratios(made: Found) -> Table:
    rows: list[tuple[str, ...]] = [("way", "bytes", "time", "mark")]
    for method in (FULL, LORA, FFA):
        ratios = (made[f"{what}_ratio_{method}"] for what in ("bytes", "time"))
        at_least = "≥ " if "lower bound" in made[f"ratio_{method}_mark"] else ""
        shown = ("-" if ratio is None else f"{at_least}{_three(ratio)}" for ratio in ratios)
        rows.append((SAID[method], *shown, made[f"ratio_{method}_mark"]))
    return rows


def _runs_text(found: Found) -> str:
    facts = found["sizes"]["facts"]
    return (
        f"Each home has {facts} private facts of its house. {IID.upper()}: all are dealt out evenly; "
        f"{DIRICHLET}, of the most homes alone: each house's facts are spread over homes by a "
        f"Dirichlet({ALPHA}) draw. All ways have "
        "the same base; those with LoRA the same rank, layers, skill below and trainer, with its cached "
        "trunk; with so few facts an epoch is a few steps at most. All parameters are trained by AdamW from "
        "the bare base, in float32 with products in bfloat16. Homes run in one process of Flower's "
        "simulation engine, one at a time with all cores, and "
        "the most memory is that of the whole process, libraries included. A fact is recalled where each "
        "token of its answer is the likeliest at its place, however unsure: what greedy decoding says. "
        "`others` is the recall of facts that are not the home's own: of one shared model all, of an adapter "
        "the next home's. What all start from is "
        "counted as sent in the first round, as Flower sends it."
        f"{_below(found)}"
    )


def _below(found: Found) -> str:
    """Which runs their budget ended below the target."""
    short = [
        f"{SAID[method]} with {own.homes} homes, {one['job']['split']} ({own.epochs:.0f} epochs a home, "
        f"recall {own.recall:.1%})"
        for method in (FULL, LORA, FFA, TWIN)
        for one in found["ran"][method]
        if not (own := cost(one)).reached
    ]
    if not short:
        return " All runs reached the target."
    return f" Their budget of epochs ended these below the target: {'; '.join(short)}. All others reached it."


def _runs(found: Found) -> Table:
    rows: list[tuple[str, ...]] = [
        (
            *("way", "homes", "split", "rounds", "epochs", "MB", "seconds", "all homes' s", "server s"),
            *("a home's MB", "server's MB", "recall", "worst home", "others"),
        )
    ]
    for method in (FULL, LORA, FFA, TWIN):
        for one in found["ran"][method]:
            rows.append(_row(SAID[method], one["job"]["split"], cost(one)))
    for one in found["ran"][TWIN]:
        rows.append(_row(SAID[LOCAL], one["job"]["split"], replace(cost(one), sent_bytes=0)))
    return rows


def _row(said: str, split: str, of: Cost) -> tuple[str, ...]:
    return (
        said,
        str(of.homes),
        split,
        str(of.rounds),
        f"{of.epochs:.0f}",
        f"{of.sent_bytes / 1e6:,.1f}",
        f"{of.seconds:,.1f}",
        f"{of.client_s:,.1f}",
        f"{of.server_s:,.2f}",
        f"{of.client_peak / 1e6:,.0f}",
        f"{of.server_peak / 1e6:,.0f}" if of.server_peak else "-",
        f"{of.recall:.1%}",
        f"{of.recall_min:.1%}",
        f"{of.across:.1%}",
    )


def _tried_text(found: Found) -> str:
    said = [
        f"Trials are with {found['sizes']['grid_homes']} homes, IID; those of one choice run for as many "
        "local epochs. The best is the first to reach the target, else the nearest to it, and among equals "
        "the one with the least loss at home. LLM-Twin learns as it ships; nothing was tried for it."
    ]
    for method, stages in found["tried"].items():
        said.append(_choice(method, stages, [one["job"] for one in found["ran"][method]]))
    return "\n\n".join(said)


def _choice(method: str, stages: Sequence[Sequence[Found]], ran: Sequence[Found]) -> str:
    """What was chosen for a way among what, by what, and what that leaves open."""
    taken = ran[0]
    local, rates = (_values(stages[0], key) for key in ("epochs", "learning_rate"))
    epochs, rate, falling = (taken[key] for key in ("epochs", "learning_rate", "epochs_falling"))
    said = [
        f"{SAID[method]}: {epochs} local epochs a round (tried: {_listed(local)}) at the rate {rate:g} "
        f"(tried: {_listed(rates)}), from trials of {_budget(stages[0][0]['job'])} epochs."
    ]
    if not any(one["recall"] for one in stages[0]):
        said.append("Nothing was recalled in any of them: the loss alone chose.")
    for stage in stages[1:]:
        over = _listed(_values(stage, "epochs_falling"))
        said.append(
            f"The rate falls to a tenth over {falling} epochs (tried: {over}), from trials of "
            f"{_budget(stage[0]['job'])} epochs; both were tried with optimisers that start anew in each "
            f"round and with such that go on, and these {'go on' if taken['keeps_state'] else 'start anew'}."
        )
    if method == FULL:
        said.append(
            "The rate does not fall, and optimisers start anew in each round: they know twice the model."
        )
    if len(local) == 1:
        said.append("No other number of local epochs was tried.")
    for edge, most, beyond in ((rates[0], "lowest", "lower"), (rates[-1], "highest", "higher")):
        if rate == edge:
            said.append(f"The rate is the {most} that was tried: a {beyond} one may be better.")
    for other in (job for job in ran if job["epochs"] != epochs):
        said.append(
            f"With {other['homes']} homes it was run with {other['epochs']} local epochs a round, too (rate "
            f"{other['learning_rate']:g}): each ratio takes the run that cost less."
        )
    return " ".join(said)


def _values(stage: Sequence[Found], key: str) -> list[Any]:
    return sorted({one["job"][key] for one in stage})


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{one:g}" for one in values)


def _budget(job: Found) -> int:
    """The epochs at each home that a run may take."""
    return int(job["rounds_max"] * job["epochs"])


def _tried(found: Found) -> Table:
    head = ("way", "epochs a round", "rate", "falls over", "optimiser", "rounds", "recall", "loss")
    rows: list[tuple[str, ...]] = [head]
    for method, stages in found["tried"].items():
        for one in chain.from_iterable(stages):
            job, rounds = one["job"], one["rounds"]
            falls = "-" if method == FULL else str(job["epochs_falling"])
            state = "goes on" if job["keeps_state"] else "anew"
            setting = (str(job["epochs"]), f"{job['learning_rate']:g}", falls, state)
            got = (str(len(rounds)), f"{one['recall']:.1%}", f"{rounds[-1]['loss']:.2f}")
            rows.append((SAID[method], *setting, *got))
    return rows


def _chart(found: Found) -> Chart:
    """Recall over bytes, with the most homes that each way was measured with."""
    lines = []
    for method in (FULL, LORA, FFA, TWIN):
        one = _best(found, method)
        x, y = _grown(one)
        lines.append(Line(f"{SAID[method]}, {one['job']['homes']} homes", x, y, measured=True))
    return Chart("megabytes on the wire", "recall of all facts", tuple(lines), y_log=False)


def _grown(one: Found) -> tuple[Sequence[float], Sequence[float]]:
    sent, x, y = 0.0, list[float](), list[float]()
    for turn in one["rounds"]:
        sent += (turn["bytes_down"] + turn["bytes_up"]) / 1e6
        x.append(sent)
        y.append(fmean(turn["recall"]))
    return x, y
