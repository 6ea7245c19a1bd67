"""A model's twin for real, in small: it watches a support desk through the proxy, learns, and is gated.

It only orchestrates: the desk is llama.cpp, the proxy and the twin are the product's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from tenacity import retry, retry_if_result, stop_after_delay, wait_fixed

from llmtwin.edge.store import EdgeStore
from llmtwin.models import tune as tuning
from llmtwin.models.base import Base, find_base
from llmtwin.models.distil import distil, divergences
from llmtwin.models.gguf import write_gguf
from llmtwin.models.lora import Lora, interpolated
from llmtwin.models.transformer import Transformer
from llmtwin.primary import canary, gating, nearness, place, sampling
from llmtwin.records import Trace, now
from llmtwin.settings import Settings
from llmtwin.study import desk_case, probes
from llmtwin.study.model_report import write_report
from llmtwin.study.person_demo import make_room
from llmtwin.study.processes import COHORT, Child, free_port
from llmtwin.study.progress import bars_on
from llmtwin.study.steps import write as write_json
from llmtwin.twin import Twin
from llmtwin.twins.gate import decide_so_far
from llmtwin.twins.model.collect import lessons
from llmtwin.twins.model.drift import ProbeDrift
from llmtwin.twins.model.kind import ModelKind

TWIN = "demo-desk"
ASKERS, BURST = 4, 48
REPLY_TOKENS_MAX = 48
ANCHORS, PROBE_TOKENS_MAX = 100, 40
"""How often the desk is checked as it should be; how many probe tokens at most a changed one is asked for."""
MIRROR_S_MAX = 240.0
INTERPOLATIONS = 3
KEPT_SHARE = 0.1
"""Of the twin, at each step of the source: new = 0.9 primary + 0.1 twin."""
STEP_RATE = 1e-3

Advance = Callable[[float, str], None]


@dataclass(frozen=True)
class ModelDemoOptions:
    """What the demo works with; its twin stays in the data folder of `settings`.

    `phases` are how many questions are mirrored before each tuning, and `repeats` how many of the last ones
    are asked twice, to say how far the primary is from itself. Of all that is learned at last `own_share` are
    the twin's own answers; nothing of it for a base that writes no text.
    """

    settings: Settings
    out: Path = Path("out/demo-model")
    data: Path = Path("../shared/data/model/customer-support")
    seed: int = 7
    phases: tuple[int, ...] = (60, 90, 190)
    repeats: int = 30
    own_share: float = 0.25


def run(options: ModelDemoOptions, console: Console | None = None) -> dict[str, Any]:
    """Run the demo and write `report.html` and `result.json` to `options.out`; the figures.

    The twin of an earlier demo is forgotten first. Raises InputError where another twin has its name,
    Unavailable where llama.cpp is not installed.
    """
    console = console or Console()
    with bars_on(console) as bars, ExitStack() as life:
        demo = _Demo(options, bars, life)
        demo.run()
    _show(demo.figures, options.out, console)
    return demo.figures


@dataclass
class _Demo:
    """One run, step by step; `figures` grows."""

    options: ModelDemoOptions
    bars: Progress
    life: ExitStack
    figures: dict[str, Any] = field(default_factory=dict)

    def run(self) -> None:
        began = time.monotonic()
        options = self.options
        options.out.mkdir(parents=True, exist_ok=True)
        self._settings = options.settings.model_copy(update={"server": None})
        self._base: Base = find_base(self._settings.base, self._settings.cache_folder)
        self._model = Transformer(self._base)
        self._asked = desk_case.utterances(options.data, sum(options.phases), options.seed)
        self._house = self._trained()
        desk = self._desk("desk", self._house)
        self._watched(desk)
        self._compared()
        self._gated()
        self._drifted(desk)
        self.figures |= {
            "made_at": now().isoformat(),
            "questions": "customer-support" if options.data.is_dir() else "of the project",
            "seconds_total": time.monotonic() - began,
        }
        write_json(options.out / "result.json", self.figures)
        write_report(self.figures, options.out / "report.html")

    # The primary

    def _trained(self) -> Lora:
        """The adapter that the desk's model has and its twin has not."""
        with self._bar("the desk is trained", desk_case.HOUSE_TUNING.epochs_max) as show:
            made = tuning.tune(
                self._model,
                desk_case.HOUSE,
                desk_case.HOUSE_TUNING,
                report=lambda now: show(now.epoch - 1 + now.share, f"loss {now.loss:.3f}"),
            )
        return made.lora

    def _desk(self, name: str, adapter: Lora) -> str:
        """Start a desk with that adapter; its address."""
        file = self.options.out / f"{name}.gguf"
        file.unlink(missing_ok=True)
        with self._bar(f"{name} opens", 2) as show:
            write_gguf(self._base, adapter, file)
            show(1, "llama.cpp")
            port = free_port()
            arguments = ["llmtwin.study.desk", str(file), desk_case.INSTRUCTIONS, str(port)]
            url = f"http://127.0.0.1:{port}/v1"
            self._child(arguments, f"{name}.log", f"{url}/models")
        return url

    def _child(self, arguments: Sequence[str], log: str, healthy: str) -> None:
        own = self._settings
        child = Child(arguments, self.options.out / log, own.home, own.cache_folder, own.base)
        self.life.callback(child.close)
        child.wait(healthy)

    # The twin

    def _watched(self, desk: str) -> None:
        """The desk is asked through the proxy, and the twin learns after each phase; then its own answers."""
        make_room(TWIN, self._settings)
        Twin.new(TWIN, "model", cohort=COHORT, settings=self._settings).close()
        place.set_primary(TWIN, desk, self._settings)
        port = free_port()
        arguments = ["llmtwin", "proxy", TWIN, "--port", str(port), "--mirror", "1"]
        self._child(arguments, "proxy.log", f"http://127.0.0.1:{port}/healthz")
        proxy = f"http://127.0.0.1:{port}/v1"
        done, self._mirrored, self._versions, tunings = 0, 0, list[int](), []
        for number, count in enumerate(self.options.phases, 1):
            part = list(enumerate(self._asked))[done : done + count]
            again = part[-self.options.repeats :] if number == len(self.options.phases) else []
            self._ask(proxy, [*part, *again])
            done += count
            tunings.append({"mirrored": done, "own_answers": 0, **self._tuned(number)})
        if self.options.own_share:
            own = self._asked_about_own()
            tunings.append({"mirrored": done, "own_answers": own, **self._tuned(len(tunings) + 1)})
        self.figures["tunings"] = tunings

    def _asked_about_own(self) -> int:
        """The desk says how likely it finds the twin's own answers; of how many."""
        with self._bar("the twin's own answers", 1) as show:
            asked: list[int] = []
            found = sampling.sample(
                TWIN,
                self.options.own_share,
                self._settings,
                tell=asked.append,
                advance=lambda done: show(done / asked[0], ""),
            )
        return found.answers

    def _tuned(self, number: int) -> dict[str, float]:
        """Learn all that was mirrored so far as the next version; its card's figures."""
        epochs = ModelKind().tuning().epochs_max
        with Twin.open(TWIN, self._settings) as twin, self._bar(f"version {number}", epochs) as show:

            def report(now: tuning.Progress) -> None:
                show(now.epoch - 1 + now.share, f"loss {now.loss:.3f}")

            card = twin.tune(report).card
        self._versions.append(card.version)
        return {"version": card.version, **card.figures}

    def _ask(self, proxy: str, part: Sequence[tuple[int, str]]) -> None:
        """In bursts that the mirror's queue holds: on two cores it is slower than the desk."""
        with (
            self._bar(f"{len(part)} questions", len(part)) as show,
            httpx.Client(base_url=proxy, timeout=300) as client,
            ThreadPoolExecutor(ASKERS) as pool,
        ):
            for first in range(0, len(part), BURST):
                burst = part[first : first + BURST]
                list(pool.map(lambda one: _ask(client, one[1], session=f"customer {one[0]}"), burst))
                self._mirrored += len(burst)
                _wait_for(f"{proxy.removesuffix('/v1')}/metrics", self._mirrored)
                show(first + len(burst), "")

    def _traces(self) -> tuple[list[Trace], list[Trace]]:
        """What was learned last, and what is held out."""
        with EdgeStore(self._settings.edge_folder / TWIN) as store:
            found = lessons(store.known())
        return list(found.traces), list(found.held_traces.values())

    # What came of it

    def _compared(self) -> None:
        """Distilling and interpolating on the same held-out replies, none of them with the instructions."""
        with self._bar("held-out replies are read", 1):
            self._loras = [Lora.load(self._folder(version)) for version in self._versions]
            mixed, steps = self._untouched(), []
            for _ in range(INTERPOLATIONS):
                mixed = interpolated(self._house, mixed, KEPT_SHARE)
                steps.append(mixed)
            held_out = self._traces()[1]
            # Of a reply in which something private was hidden it is not known how likely the desk found it.
            self._held_out = [one for one in held_out if one.tokens]
            every = divergences(self._model, self._held_out, [None, *self._loras, *steps])
            base, *others = map(fmean, every)
            near = nearness.measure(TWIN, self._versions[-1], settings=self._settings)
        distilled, between = others[: len(self._loras)], others[len(self._loras) :]
        mirrored = distilled[: len(self.options.phases)]
        self.figures |= {
            "held_out": len(self._held_out),
            "held_out_untold": len(held_out) - len(self._held_out),
            "kl_base": base,
            "kl_distilled": distilled,
            "kl_interpolated": between,
            "kl_reduction": 1 - distilled[-1] / base,
            "kl_reduction_without_own": 1 - mirrored[-1] / base,
            "kl_reduction_interpolated": 1 - between[-1] / base,
            "discrepancy": near.measured.dump(),
        }

    def _untouched(self) -> Lora:
        """The twin before its first step: an adapter that changes nothing."""
        return Lora.fresh(self._model.config, 1, self._house.first, self.options.seed)

    def _folder(self, version: int) -> Path:
        return self._settings.edge_folder / TWIN / "adapters" / str(version)

    def _gated(self) -> None:
        """The last version in place of the first; and in place of the last, two that learned what is wrong.

        A doubtful one learned half of the replies, each as the answer to the next customer; a bad one took
        the customers' words for the desk's.
        """
        learned, _ = self._traces()
        moved = [
            one.model_copy(update={"messages": other.messages})
            for one, other in zip(learned, learned[1:] + learned[:1], strict=True)
        ]
        swapped = [Trace(messages=one.messages, completion=one.messages[-1][1]) for one in learned]
        options = replace(ModelKind().tuning(), epochs_max=1, epochs_falling=1)
        with self._bar("three candidates at the gate", 3) as show:
            good = canary.rule(TWIN, self._versions[-1], self._versions[0], self._settings).found
            show(1, good.verdict)
            wrong = [distil(self._model, moved[: len(moved) // 2], options).lora]
            wrong.append(distil(self._model, swapped, options).lora)
            show(2, "two that learned what is wrong")
            *scores, in_use = gating.scores(TWIN, [*wrong, self._loras[-1]], self._settings)
            doubtful, bad = (decide_so_far(each, in_use, loss_max=gating.LOSS_MAX) for each in scores)
        named = {"good": good, "doubtful": doubtful, "bad": bad}
        self.figures["gate"] = {name: gating.grounds(found) for name, found in named.items()}

    def _drifted(self, desk: str) -> None:
        """The primary is swapped for itself after one more step of training; how soon that is seen."""
        step = replace(
            desk_case.HOUSE_TUNING,
            epochs_max=1,
            epochs_falling=1,
            learning_rate=STEP_RATE,
            batch_tokens=10**6,
        )
        moved = tuning.tune(self._model, desk_case.HOUSE, step, start=self._house).lora
        changed = self._desk("changed", moved)
        with self._bar("probes", ANCHORS + PROBE_TOKENS_MAX) as show:
            tokens = {probe: said[0] for probe, said in probes.ask(desk, {}).items()}
            anchor = []
            for count in range(ANCHORS):
                anchor.append([said[1] for said in probes.ask(desk, tokens).values()])
                show(count, "as it should be")
            watch = ProbeDrift(anchor)
            while not watch.alarm and watch.observations < PROBE_TOKENS_MAX:
                watch.update([said[1] for said in probes.ask(changed, tokens).values()])
                show(ANCHORS + watch.observations, f"e-value {watch.e_value:.0f}")
        self.figures |= {
            "drift_alarm": watch.alarm,
            "probe_tokens_to_detect": watch.observations if watch.alarm else None,
            "drift_step_rate": STEP_RATE,
        }

    @contextmanager
    def _bar(self, description: str, total: float) -> Iterator[Advance]:
        task = self.bars.add_task(description, total=total, said="")
        yield lambda done, said: self.bars.update(task, completed=done, said=said)
        self.bars.update(task, completed=total)


def _ask(client: httpx.Client, question: str, session: str) -> None:
    asked = probes.request(question, REPLY_TOKENS_MAX)
    client.post("/chat/completions", json=asked, headers={"x-session-id": session}).raise_for_status()


@retry(retry=retry_if_result(bool), stop=stop_after_delay(MIRROR_S_MAX), wait=wait_fixed(0.2), reraise=True)
def _wait_for(metrics: str, calls: int) -> int:
    """Wait until the mirror is through with so many calls: it works beside. How many it is behind."""
    found = text_string_to_metric_families(httpx.get(metrics).raise_for_status().text)
    every = [one.value for family in found if family.name == "llmtwin_mirror" for one in family.samples]
    return calls - int(sum(every))


def _show(figures: dict[str, Any], out: Path, console: Console) -> None:
    table = Table(title="a support desk and its twin")
    table.add_column("figure")
    table.add_column("value", justify="right")
    rows = {
        "nats a token from the desk: base": f"{figures['kl_base']:.3f}",
        "twin, distilled": f"{figures['kl_distilled'][-1]:.3f} ({figures['kl_reduction']:.0%} less)",
        "… from the desk's replies alone": f"{figures['kl_reduction_without_own']:.0%} less",
        "twin, weights interpolated": f"{figures['kl_interpolated'][-1]:.3f}"
        f" ({figures['kl_reduction_interpolated']:.0%} less)",
        **{f"gate, a {name} candidate": found["verdict"] for name, found in figures["gate"].items()},
        "probe tokens until a changed desk is seen": str(figures["probe_tokens_to_detect"]),
        "seconds": f"{figures['seconds_total']:.0f}",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)
    console.print(f"report: {out / 'report.html'}   figures: {out / 'result.json'}")
    console.print(f'the twin stays: llmtwin ask {TWIN} "how can I cancel my order"', highlight=False)
