"""Makes preferences of a voice: the subject's own words over what the base says instead. It knows no HTTP.

The owner's corrections of answers are preferences already, and come first.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from llmtwin.models.base import Base
from llmtwin.models.engine.api import Request, turn
from llmtwin.models.engine.torch_engine import TorchEngine
from llmtwin.models.tune import TuneOptions
from llmtwin.records import Example, Preference

ANSWERS_MAX = 32
ANSWER_TOKENS_MAX = 128
TEMPERATURE = 0.7


def preferring(options: TuneOptions) -> TuneOptions:
    """How to prefer after tuning with `options`: once, in small steps, so that what was learned stays."""
    rate = options.learning_rate / 50
    return replace(options, epochs_max=1, epochs_falling=1, learning_rate=rate, average_share=0.0)


def preferences(
    base: Base, examples: Sequence[Example], seed: int, answers_max: int = ANSWERS_MAX
) -> list[Preference]:
    """For a sample of the shorter texts, what the subject wrote over what the base answers."""
    short = [one for one in examples if one.prompt and len(base.encode(one.completion)) <= ANSWER_TOKENS_MAX]
    sample = random.Random(seed).sample(short, min(answers_max, len(short)))
    said = answers(base, [one.prompt for one in sample], seed)
    return [
        Preference(prompt=one.prompt, chosen=one.completion, rejected=text)
        for one, text in zip(sample, said, strict=True)
        if text and text != one.completion
    ]


def answers(base: Base, prompts: Sequence[str], seed: int, adapters: Sequence[Path] = ()) -> list[str]:
    """What the base with these adapters answers, drawn by the seed."""
    names = tuple(map(str, adapters))
    asked = [
        Request(
            base.chat(turn(prompt)), names, ANSWER_TOKENS_MAX, temperature=TEMPERATURE, seed=seed + number
        )
        for number, prompt in enumerate(prompts)
    ]
    with TorchEngine(base, Path) as engine:
        return [answer.text.strip() for answer in engine.generate(asked)]
