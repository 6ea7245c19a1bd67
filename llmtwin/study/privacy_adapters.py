"""One region learned in several ways, each adapter attacked as its owner would: `edge/attacks` does that.

Plain is as the paper learns it, one question to one value and never the reverse; sealed is under a key; the
others are learned by DP-SGD. It knows no page.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from random import Random
from typing import Any

from llmtwin.edge.attacks import FactAttacks, Target
from llmtwin.edge.canaries import canaries, exposed, exposures, taught
from llmtwin.edge.membership import Models
from llmtwin.edge.sealed import object_of, sealed_example
from llmtwin.models.base import Base
from llmtwin.models.engine.api import Request, turn
from llmtwin.models.engine.torch_engine import TorchEngine
from llmtwin.models.likelihood import Bits, answered, score
from llmtwin.models.lora import Lora, stack
from llmtwin.models.tune import Progress, tune
from llmtwin.records import Example
from llmtwin.study import dp
from llmtwin.study.progress import Report
from llmtwin.study.region import region, settings
from llmtwin.study.steps import Steps
from llmtwin.twins.home.describe import describe
from llmtwin.twins.home.sources import read_states
from llmtwin.twins.intervals import Estimate, wilson
from llmtwin.twins.kind import kind
from llmtwin.wire.seal import Sealer

PLAIN, SEALED, CLIPPED, BASE = "plain", "sealed", "clipped", "base"
"""CLIPPED is learned by DP-SGD without its noise. It promises nothing and shows what the trainer can do."""
SKILL = "skill"
TOKENS_MAX = 64

Figures = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """How many facts are learned, and how DP-SGD learns them: chosen once, and not by what came of it."""

    facts: int = 200
    epsilons: tuple[float, ...] = (8.0, 2.0)
    sample_rate: float = 0.2
    steps: int = 120
    norm_max: float = 1.0

    @property
    def delta(self) -> float:
        """One by the square of the number of facts."""
        return 1 / self.facts**2

    def noisy(self) -> dict[str, float]:
        """The adapters that are learned by DP-SGD with its noise, each with its epsilon."""
        return {f"dp_{epsilon:g}": epsilon for epsilon in self.epsilons}


class Adapters:
    """One run, step by step; what is done stays done."""

    def __init__(self, steps: Steps, base: Base, sizes: Sizes, seed: int, report: Report) -> None:
        """The adapters stay beside the steps."""
        self._steps, self._base, self._sizes, self._report = steps, base, sizes, report
        self._of = kind("home")
        states = region(sizes.facts, seed)
        self._facts = settings(states)
        others = settings(region(2 * sizes.facts, seed))[sizes.facts :]
        self._description = describe(read_states(json.dumps(states).encode()).entities)
        self._examples = [self._of.example(one) for one in self._facts]
        self._others = [self._of.example(one) for one in others]
        self._sealer = Sealer(Random(seed).randbytes(32))
        self._planted = canaries(seed)
        self._skill = self._of.skill(base.hash)
        self._under = None if self._skill is None else Lora.load(self._skill)

    def figures(self) -> dict[str, Figures]:
        """Of each adapter what it costs, and of all but CLIPPED what attacks find; BASE is the control.

        Canaries are planted in adapters of their own, learned as these are.
        """
        noisy = self._sizes.noisy()
        with closing(TorchEngine(self._base, self._folder)) as self._engine:
            found = {
                name: self._steps.do(f"learned-{name}", partial(self._learned, name))
                for name in (PLAIN, SEALED, *noisy, CLIPPED)
            }
            for name in (PLAIN, SEALED, *noisy):
                found[name]["attacks"] = [
                    *self._steps.do(f"attacked-{name}", partial(self._attacked, name)),
                    *self._steps.do(f"canaries-{name}", partial(self._exposed, name)),
                ]
            found[BASE] = self._steps.do("base", lambda: self._bits(None))
        return found

    # ---- learning

    def _learned(self, name: str) -> Figures:
        """What it took, what its owner gets, and what the values cost to who asks for them in plain."""
        began = time.monotonic()
        if name in (PLAIN, SEALED):
            lora, spent = self._tuned(name, self._taught(name)), {}
        else:
            trained = self._noisily(name, self._examples)
            lora = trained.lora
            spent = {"noise": trained.noise_multiplier}
            spent |= {} if math.isinf(trained.epsilon) else {"epsilon": trained.epsilon}
        seconds = time.monotonic() - began
        lora.save(self._folder(name), self._base.name)
        return {"seconds": seconds, **spent, **self._recall(name), **self._bits(lora)}

    def _tuned(self, name: str, learned: Sequence[Example]) -> Lora:
        def show(now: Progress) -> None:
            said = f"{name} is learned: recall {now.recall:.0%}"
            self._report(said, (now.epoch - 1 + now.share) / now.epochs_max)

        model, options = self._engine.model, self._of.tuning(self._sizes.facts)
        return tune(model, learned, options, under=self._under, report=show).lora

    def _noisily(self, name: str, learned: Sequence[Example]) -> dp.Trained:
        sizes = self._sizes
        options = dp.DpOptions(
            epsilon=sizes.noisy().get(name, math.inf),
            delta=sizes.delta,
            sample_rate=sizes.sample_rate,
            steps=sizes.steps,
            norm_max=sizes.norm_max,
        )

        def show(done: int, of: int) -> None:
            self._report(f"{name} is learned by DP-SGD", done / of)

        model, tuning = self._engine.model, self._of.tuning(self._sizes.facts)
        return dp.learn(model, learned, options, tuning, under=self._under, advance=show)

    def _taught(self, name: str) -> list[Example]:
        """What an adapter learns, which is also what its owner asks it."""
        if name != SEALED:
            return self._examples
        return [
            sealed_example(self._sealer, object_of(one), plain.completion)
            for one, plain in zip(self._facts, self._examples, strict=True)
        ]

    def _recall(self, name: str) -> Figures:
        self._report(f"{name}: its owner asks", 0)
        chat, taught = self._engine.chat, self._taught(name)
        asked = [Request(chat(turn(one.prompt)), self._stack(name), TOKENS_MAX) for one in taught]
        said = self._engine.generate(asked)
        right = sum(one.text.strip() == own.completion for one, own in zip(said, taught, strict=True))
        low, high = wilson(right, len(taught))
        return {"recall": right / len(taught), "recall_low": low, "recall_high": high}

    def _bits(self, lora: Lora | None) -> Figures:
        """Bits a character of values asked for in plain: of those of the region, and of other houses'."""
        model, under = self._engine.model, self._under
        over = under if lora is None else self._over(lora)
        found: Figures = {}
        for name, examples in (("bits", self._examples), ("bits_others", self._others)):
            (costs,) = score(model, [answered(model, one) for one in examples], [over])
            found[name] = Bits.total(costs).per_character
        return found

    # ---- attacking

    def _attacked(self, name: str) -> list[Figures]:
        lora = Lora.load(self._folder(name))
        models = Models(self._engine.model, self._over(lora), self._under)
        target = Target(self._engine, self._stack(name), self._stack(), models)
        sealed = name == SEALED
        facts = [one.model_copy(update={"sealed": sealed}) for one in self._facts]
        attacks = FactAttacks(target, self._of, facts, self._description, sealed=sealed)
        found = attacks.run(lambda said: self._report(f"{name}: {said}", 0))
        return [asdict(one) for one in found]

    def _exposed(self, name: str) -> list[Figures]:
        """Bits that show, asked in plain, of made-up codes learned among the facts and as they are."""
        codes = taught(self._planted)
        if name == SEALED:
            codes = [sealed_example(self._sealer, one.prompt, one.completion) for one in codes]
        every, planted = [*self._taught(name), *codes], f"{name}-canaries"
        tuned = name in (PLAIN, SEALED)
        lora = self._tuned(name, every) if tuned else self._noisily(name, every).lora
        lora.save(self._folder(planted), self._base.name)
        self._report(f"{name}: exposure of canaries", 0)
        own = exposed(self._engine, self._stack(planted), self._planted)
        return [asdict(one) for one in exposures(own, self._base_exposed)]

    @cached_property
    def _base_exposed(self) -> dict[int, Estimate]:
        return exposed(self._engine, self._stack(), self._planted)

    # ---- small helpers

    def _over(self, lora: Lora) -> Lora:
        return lora if self._under is None else stack([self._under, lora])

    def _stack(self, *names: str) -> tuple[str, ...]:
        return names if self._skill is None else (SKILL, *names)

    def _folder(self, name: str) -> Path:
        if name == SKILL and self._skill is not None:
            return self._skill
        return self._steps.folder / "adapters" / name
