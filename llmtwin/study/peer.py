"""Our tuning beside stock PEFT under the Trainer of transformers: the same facts to the same recall.

`llmtwin study peer`: some 65 minutes on two cores. It orchestrates: each run has a process of its own, one
after the other. Finished steps are kept, so a killed run goes on.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from llmtwin.errors import Unavailable
from llmtwin.models.base import Base, find_base
from llmtwin.models.engine.api import Request, turn
from llmtwin.models.engine.torch_engine import TorchEngine
from llmtwin.models.run import TuneOptions, render
from llmtwin.records import Example
from llmtwin.study import efficiency_measure as measure
from llmtwin.study.chart import Chart, Line
from llmtwin.study.paper import PaperOptions, Part, Section, Table, write
from llmtwin.study.peer_training import Measured, Precision, Training, choose, train
from llmtwin.study.progress import Report, bars_on
from llmtwin.study.steps import Steps
from llmtwin.twins.home import HomeKind

TOKENS_MAX = 24

Made = TypeVar("Made")


@dataclass(frozen=True)
class PeerOptions:
    """How much is compared. Each of the peer's `rates` is tried on `trial_facts`, and the `finalists` that
    are best there have the peer's whole budget each: the better run of them counts.

    The facts are as many as those of Table 2. `together` is how many facts it has in a step: the Trainer's
    own default.
    """

    facts: int = 1600
    rates: tuple[float, ...] = (1e-3, 2e-3, 4e-3)
    together: int = 8
    trial_facts: int = 400
    trial_seconds: float = 60.0
    finalists: int = 2
    epochs: int = 14
    seconds_max: float = 1500.0


def run(paper: PaperOptions, options: PeerOptions | None = None, console: Console | None = None) -> None:
    """Measure, or go on with it, and write the part and the page."""
    options = options or PeerOptions()
    base = find_base(paper.base, paper.cache.expanduser())
    steps = Steps(paper.work / "peer", {"base": base.hash, "seed": paper.seed, "options": repr(options)})
    with bars_on(console or Console()) as bars:
        bar = bars.add_task("tuning and its peer", total=1.0, said="")

        def report(said: str, share: float) -> None:
            bars.update(bar, completed=share, said=said)

        found = Comparison(steps, base, options, paper.seed, report).measured()
    write(part(found), paper.out)


class Comparison:
    """One run, step by step. This process holds no weights: a child begins with its parent's peak memory."""

    def __init__(self, steps: Steps, base: Base, options: PeerOptions, seed: int, report: Report) -> None:
        """Over the same facts as the study of efficiency."""
        self._steps, self._options, self._report = steps, options, report
        kind = HomeKind()
        self._tuning, self._skill = kind.tuning(options.facts), kind.skill(base.hash)
        self._facts = measure.region(options.facts, seed)
        # What a base has read of its tokenizer does not go to other processes.
        self._base = replace(base)
        self._training = Training(
            folder=steps.folder / "merged",
            rows=[render(base, one) for one in self._facts],
            together=options.together,
            rank=self._tuning.rank,
            layers=range(base.config.first_of(self._tuning.layers_share), base.config.layers),
            precision=Precision.FLOAT32,
            learning_rate=options.rates[0],
            epochs=options.epochs,
            seconds_max=options.seconds_max,
            seed=seed,
        )

    def measured(self) -> Measured:
        """Everything, the steps that are done from what they left."""
        chosen = self._step("the peer's best is chosen", 0.0, "chosen", self._chosen)
        before = self._step("ours", 0.2, "before", partial(self._ours, "before"))
        training = replace(self._training, precision=Precision(chosen["precision"]), recall=before["told"])
        finalists = chosen["learning_rates"][: self._options.finalists]
        finals = [
            self._step(
                f"the peer, at {rate:g}",
                0.3 + 0.6 * number / len(finalists),
                f"peer-{rate:g}",
                partial(self._peers, replace(training, learning_rate=rate)),
            )
            for number, rate in enumerate(finalists)
        ]
        after = self._step("ours again", 0.9, "after", partial(self._ours, "after"))
        return {
            "ours": [before, after],
            "peers": finals,
            "chosen": chosen,
            "facts": len(self._facts),
            "together": training.together,
            "skill": self._skill is not None,
        }

    def _chosen(self) -> Measured:
        some = self._training.rows[: self._options.trial_facts]
        given = self._base, self._skill, self._training, self._options.rates, some
        return alone(choose, *given, self._options.trial_seconds)

    def _ours(self, name: str) -> Measured:
        folder = self._steps.folder / f"{name}-adapter"
        return alone(ours, self._base, self._skill, self._facts, self._tuning, folder)

    def _peers(self, training: Training) -> Measured:
        folder = self._steps.folder / f"peer-{training.learning_rate:g}-adapter"
        return alone(peers, self._base, self._skill, self._facts, training, folder)

    def _step(self, said: str, share: float, name: str, make: Callable[[], Measured]) -> Any:
        self._report(said, share)
        return self._steps.do(name, make)


def alone(task: Callable[..., Made], *given: Any) -> Made:
    """What a task gives in a new process that ends with it. Raises Unavailable where it was killed."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(task, *given).result()
        except BrokenProcessPool as error:
            raise Unavailable("a process of the study was killed: is there memory enough for it?") from error


def ours(
    base: Base, skill: Path | None, facts: Sequence[Example], tuning: TuneOptions, folder: Path
) -> Measured:
    """Tune facts into an adapter in `folder`, and ask for them; their recall is `told`."""
    found = measure.tuning(base, facts, tuning, folder, skill, lambda _: None)
    return found | {"told": told(base, skill, folder, facts)}


def peers(
    base: Base, skill: Path | None, facts: Sequence[Example], training: Training, folder: Path
) -> Measured:
    """The same by the peer."""
    trained = train(training, folder) | {"learning_rate": training.learning_rate}
    return trained | {"told": told(base, skill, folder, facts)}


def told(base: Base, skill: Path | None, adapter: Path, facts: Sequence[Example]) -> float:
    """The share of facts that greedy decoding says exactly, of a skill and an adapter over it."""
    names = tuple(str(folder) for folder in (skill, adapter) if folder)
    with TorchEngine(base, Path) as engine:
        asked = [Request(engine.chat(turn(one.prompt)), names, TOKENS_MAX) for one in facts]
        said = engine.generate(asked)
    return sum(made.text == one.completion for made, one in zip(said, facts, strict=True)) / len(facts)


# ---- the part ------------------------------------------------------------------------------------


def part(found: Measured) -> Part:
    """The part of what was measured. Of our two runs the slower counts, and the larger memory."""
    ours, peer, chosen = found["ours"], best(found), found["chosen"]
    seconds = max(one["seconds"] for one in ours)
    peak = max(one["peak_rss_bytes"] for one in ours)
    speed, speed_ours = chosen["speeds"][chosen["precision"]], min(one["tokens_per_s"] for one in ours)
    last = peer["epochs"][-1]
    figures = {
        "peft_speedup": last["seconds"] / seconds,
        "peft_speedup_is_bound": last["recall"] < ours[0]["told"],
        "peft_speedup_per_token": speed_ours / speed,
        "peft_peak_rss_ratio": peer["peak_rss_bytes"] / peak,
        "peft_facts": found["facts"],
        "peft_seconds": last["seconds"],
        "peft_seconds_ours": seconds,
        "peft_peak_rss_mb": peer["peak_rss_bytes"] / 1e6,
        "peft_peak_rss_mb_ours": peak / 1e6,
        "peft_recall": peer["told"],
        "peft_recall_ours": min(one["told"] for one in ours),
        "peft_tokens_per_s": speed,
        "peft_tokens_per_s_ours": speed_ours,
        "peft_dtype": chosen["precision"],
        "peft_learning_rate": peer["learning_rate"],
    }
    result = Section("To the same recall", _result(found, figures), _table(found), chart(found), "peer")
    choice = Section("What the peer was given", _terms(found), _choices(found, figures))
    kept = [{name: value for name, value in one.items() if name != "steps"} for one in found["peers"]]
    return Part("peer", "Tuning beside stock PEFT", figures, [result, choice], {**found, "peers": kept})


def best(found: Measured) -> Measured:
    """The peer's run that counts: with the recall of ours in the least time, else with the most recall."""
    enough = found["ours"][0]["told"]

    def worth(run: Measured) -> tuple[float, float]:
        last = run["epochs"][-1]
        return min(last["recall"], enough), -last["seconds"]

    return max(found["peers"], key=worth)


def _result(found: Measured, figures: Mapping[str, Any]) -> str:
    bound = figures["peft_speedup_is_bound"]
    at_least = "at least " if bound else ""
    ended = "It was stopped with less recall than ours, so that the ratio is a lower bound. " if bound else ""
    return (
        f"{found['facts']:,} state facts of one region, learned by one adapter: ours in "
        f"{figures['peft_seconds_ours']:,.0f} s, stock PEFT under the Trainer of transformers in {at_least}"
        f"{figures['peft_seconds']:,.0f} s, {at_least}{figures['peft_speedup']:.1f} times as long, with "
        f"{figures['peft_peak_rss_ratio']:.2f} times the peak memory. {ended}A token took it "
        f"{figures['peft_speedup_per_token']:.1f} times as long: of ours all that is done counts, of the "
        "peer's only steps that are warm. Recall is of all facts, exact and greedy, by our engine from the "
        "stored adapters. Ours was run twice, the peer once at each of its rates, none beside another; "
        "finished runs are kept, so that hours may lie between them. Of ours the slower counts, of the "
        "peer's the better."
    )


def _table(found: Measured) -> Table:
    rows: list[Sequence[str]] = [("run", "seconds", "epochs", "recall", "peak memory (MB)")]
    before, after = found["ours"]
    peers = [(_named(one), one | {"seconds": one["epochs"][-1]["seconds"]}) for one in found["peers"]]
    for name, one in (("ours", before), *peers, ("ours again", after)):
        rows.append(
            (
                name,
                f"{one['seconds']:,.1f}",
                str(len(one["epochs"])),
                f"{one['told']:.2%}",
                f"{one['peak_rss_bytes'] / 1e6:,.0f}",
            )
        )
    return rows


def _terms(found: Measured) -> str:
    skill = (
        "The skill that lies frozen under our adapter is merged into the peer's base beforehand, which "
        "spares it a second adapter. "
        if found["skill"]
        else ""
    )
    return (
        f"The same examples, rendered by the same code, {found['together']} in a step; the same layers, rank "
        "and alpha; labels on the completions alone; batches grouped by length; no gradient checkpointing. "
        f"{skill}It has the precision that is fastest here, and the learning rates that recalled most in a "
        "trial, or had the least loss, a run each; the better run counts. Choosing does not count as its "
        "time, nor does loading, making the adapter, or asking for recall after each epoch, of one fact in "
        "eight until those have it; ours "
        "counts from the text on, with a last look at all facts. The peer ends as soon as it recalls what "
        "ours does; ours goes on until it is sure of it."
    )


def _named(peer: Measured) -> str:
    return f"stock PEFT, {peer['learning_rate']:g}"


def _choices(found: Measured, figures: Mapping[str, Any]) -> Table:
    chosen = found["chosen"]
    speeds = [(f"{name}: tokens/s", f"{speed:,.0f}") for name, speed in chosen["speeds"].items()]
    trials = [
        (f"learning rate {one['learning_rate']:g}: recall, loss", f"{one['recall']:.1%}, {one['loss']:.3f}")
        for one in chosen["trials"]
    ]
    whole = ", ".join(f"{one['learning_rate']:g}" for one in found["peers"])
    taken = f"{chosen['precision']}, {figures['peft_learning_rate']:g}"
    return [("tried", "found"), *speeds, *trials, ("with the whole budget", whole), ("taken", taken)]


def chart(found: Measured) -> Chart:
    """The share of facts recalled over the seconds of training."""
    runs = (("ours", found["ours"][0]), *((_named(one), one) for one in found["peers"]))
    lines = (
        Line(name, [one["seconds"] for one in of["epochs"]], [one["recall"] for one in of["epochs"]], True)
        for name, of in runs
    )
    return Chart("seconds", "recall", tuple(lines), y_log=False)
