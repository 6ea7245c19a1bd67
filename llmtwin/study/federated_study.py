"""`llmtwin study federated`: federated learning and twins over the same homes, as a part of the paper's page.

It orchestrates: settings are tried on few homes, the best of each way goes to all sizes. Each run is a
finished step, so that a killed study goes on.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from llmtwin.errors import Unavailable
from llmtwin.models.base import Base, find_base
from llmtwin.study.federated import DIRICHLET, FFA, FULL, IID, LORA, TWIN, Job
from llmtwin.study.federated_text import part
from llmtwin.study.paper import PaperOptions, write
from llmtwin.study.progress import bars_on
from llmtwin.study.steps import Steps
from llmtwin.study.steps import write as write_json
from llmtwin.twins.home import HomeKind

FLOWER = Path("out/flower")
"""A virtual environment of its own, since Flower wants other versions than we have: `make flower`."""
OFFLINE = {"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0", "HF_HUB_OFFLINE": "1"}
ROOT = Path(__file__).parents[2]

Found = dict[str, Any]
Say = Callable[[str], None]


class Setting(NamedTuple):
    """What is chosen for a way: each is as in `Job`."""

    epochs: int
    learning_rate: float
    epochs_falling: int
    keeps_state: bool = False


def as_shipped() -> tuple[Setting, ...]:
    """How an edge learns a home's facts: nothing is tried for LLM-Twin."""
    options = HomeKind().tuning()
    return (Setting(options.epochs_max, options.learning_rate, options.epochs_falling),)


def grid(rates: Sequence[float]) -> tuple[Setting, ...]:
    """Each rate with one and with two local epochs a round."""
    return tuple(Setting(epochs, rate, 24) for epochs in (1, 2) for rate in rates)


@dataclass(frozen=True)
class Way:
    """How one method is run: the settings to try, and the sizes of the best one.

    Those of the `grid` are tried for `grid_epochs` each, then the best of them with its rate `falling` over
    so many epochs, each with optimisers that start anew in each round and that go on, for `falling_epochs`.
    Its budget is `epochs_max` local epochs at each home. Splits but the first are of the most homes alone.
    """

    grid: tuple[Setting, ...]
    epochs_max: int
    grid_epochs: int = 20
    falling: tuple[int, ...] = ()
    falling_epochs: int = 36
    homes: tuple[int, ...] = (5, 10, 20)
    splits: tuple[str, ...] = (IID, DIRICHLET)


@dataclass(frozen=True)
class Sizes:
    """How much is measured: facts of each home, homes in the trials, and the ways."""

    facts: int = 8
    grid_homes: int = 5
    target: float = 0.95
    twin: Way = field(default_factory=lambda: Way(as_shipped(), 0))
    lora: Way = Way(grid((4e-3, 1e-2, 2e-2)), 128, falling=(24, 64))
    ffa: Way = Way(grid((2e-2, 4e-2, 8e-2)), 64, falling=(24, 64))
    full: Way = Way((Setting(4, 1e-4, 0), Setting(4, 3e-4, 0)), 64, grid_epochs=8, homes=(5,), splits=(IID,))

    def way(self, method: str) -> Way:
        """That of one method."""
        return {TWIN: self.twin, LORA: self.lora, FFA: self.ffa, FULL: self.full}[method]


def run(
    paper: PaperOptions,
    sizes: Sizes | None = None,
    console: Console | None = None,
    flower: Path = FLOWER,
) -> None:
    """Measure, or go on with it, and write the part and the page. Raises Unavailable without Flower."""
    sizes = sizes or Sizes()
    base = find_base(paper.base, paper.cache.expanduser())
    # Of the ways nothing: a run is named by what it depends on, so that more can be tried later.
    identity = {"base": base.hash, "seed": paper.seed, "facts": sizes.facts, "target": sizes.target}
    steps = Steps(paper.work / "federated", identity)
    with bars_on(console or Console()) as bars:
        task = bars.add_task("homes learn, together or alone", total=1, said="")
        runs = Runs(steps, base, flower, lambda said: bars.update(task, said=said))
        found = {"sizes": asdict(sizes)} | _measured(runs, sizes, paper.seed)
        bars.update(task, completed=1)
    write(part(found), paper.out)


def _measured(runs: Runs, sizes: Sizes, seed: int) -> Found:
    """What was tried, and what the best setting of each way gave."""
    tried: dict[str, list[list[Found]]] = {}
    ran: dict[str, list[Found]] = {}
    for method in (TWIN, LORA, FFA, FULL):
        way = sizes.way(method)
        tried[method], (best, *others) = chosen(runs, sizes, method, seed)
        ran[method] = [
            one
            for homes in way.homes
            for one in runs.do("run", planned(sizes, method, way, homes, best, seed))
        ]
        most, iid = max(way.homes), replace(way, splits=(IID,))
        for other in others:
            ran[method] += runs.do("run", planned(sizes, method, iid, most, other, seed))
    return {"tried": {method: stages for method, stages in tried.items() if stages}, "ran": ran}


def chosen(runs: Runs, sizes: Sizes, method: str, seed: int) -> tuple[list[list[Found]], list[Setting]]:
    """The trials of a method, those of one choice together, and its best setting.

    Behind it is the best of each other number of local epochs, which send less or more for as much learning.
    """
    way = sizes.way(method)
    tried, order = list[list[Found]](), list(way.grid)

    def ranked(settings: Sequence[Setting], epochs: int) -> list[Setting]:
        once = replace(way, epochs_max=epochs, splits=(IID,))
        jobs = [job for one in settings for job in planned(sizes, method, once, sizes.grid_homes, one, seed)]
        found = runs.do("tried", jobs)
        tried.append(found)
        return [setting for _, setting in sorted(zip(map(worth, found), settings, strict=True))]

    if len(order) > 1:
        order = ranked(order, way.grid_epochs)
    best = order[0]
    if way.falling:
        falling = [
            best._replace(epochs_falling=over, keeps_state=keeps)
            for keeps in (False, True)
            for over in way.falling
        ]
        best = ranked(falling, way.falling_epochs)[0]
    others = {one.epochs: one for one in reversed(order) if one.epochs != best.epochs}
    return tried, [
        best,
        *(best._replace(epochs=n, learning_rate=one.learning_rate) for n, one in others.items()),
    ]


def planned(sizes: Sizes, method: str, way: Way, homes: int, setting: Setting, seed: int) -> list[Job]:
    """The runs of a method with so many homes, one for each split."""
    rounds = max(1, way.epochs_max // setting.epochs)
    return [
        Job(method, homes, split, sizes.facts, *setting, rounds, sizes.target, seed)
        for split in (way.splits if homes == max(way.homes) else way.splits[:1])
    ]


def worth(found: Mapping[str, Any]) -> tuple[float, ...]:
    """The better the less: first to the target, else nearest to it, else of the least loss."""
    spent = len(found["rounds"]) * found["job"]["epochs"]
    return (
        not found["reached"],
        spent if found["reached"] else 0,
        -found["recall"],
        found["rounds"][-1]["loss"],
    )


class Runs:
    """Runs jobs in Flower's own Python, those of one call as one simulation; what is done stays done."""

    def __init__(self, steps: Steps, base: Base, flower: Path, say: Say) -> None:
        self._steps, self._base, self._flower, self._say = steps, base, flower, say

    def do(self, kind: str, jobs: list[Job]) -> list[Found]:
        """What each job gave; all have as many homes. Raises Unavailable without Flower, or if it fails."""
        paths = [self._steps.folder / f"{kind}/{_name(job)}.json" for job in jobs]
        left = [(job, path) for job, path in zip(jobs, paths, strict=True) if not path.exists()]
        if left:
            asked = [
                {"job": asdict(job), "path": str(path.absolute()), "said": _said(job)} for job, path in left
            ]
            self._simulate(asked)
        return [self._steps.do(f"{kind}/{_name(job)}", _lost) for job in jobs]

    def _simulate(self, asked: list[dict[str, Any]]) -> None:
        python = (self._flower / "bin" / "python").absolute()
        if not python.exists():
            raise Unavailable(f"Flower is not in {self._flower}: `make flower` puts it there")
        base = {"folder": str(self._base.folder.absolute()), "hash": self._base.hash, "name": self._base.name}
        jobs, log = self._steps.folder / "asked.json", self._steps.folder / "flower.log"
        write_json(jobs, {"base": base, "jobs": asked})
        environment = (
            os.environ | OFFLINE | {"LLMTWIN_FEDERATED": str(jobs.absolute()), "PYTHONPATH": str(ROOT)}
        )
        command = [str(python), "-m", "llmtwin.study.federated_flower"]
        with (
            log.open("w") as errors,
            subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
            ) as process,
        ):
            assert process.stdout is not None
            for line in process.stdout:
                self._say(line.strip())
        if process.returncode:
            lines = log.read_text().strip().splitlines()
            raise Unavailable(
                f"the federated run failed ({lines[-1] if lines else 'it says nothing'}): see {log}"
            )


def _name(job: Job) -> str:
    rate = f"{job.learning_rate:g}-{job.epochs_falling}{'-kept' * job.keeps_state}"
    return f"{job.method}-{job.homes}-{job.split}-{job.rounds_max}x{job.epochs}-{rate}"


def _said(job: Job) -> str:
    return f"{job.method}, {job.homes} homes, {job.split}, {job.epochs} epochs at {job.learning_rate:g}"


def _lost() -> Any:
    raise Unavailable("a federated run ended without its figures: run the study again")
