"""How the study tunes a twin of an author, and has it write. It measures nothing.

What a twin learns, and with what options, is the product's; here is only of which documents.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from llmtwin.models.engine.api import Engine, Request, turn
from llmtwin.models.transformer import Transformer
from llmtwin.models.tune import Progress, Tuned, TuneOptions, tune
from llmtwin.records import Example
from llmtwin.study.attribution import chunks
from llmtwin.study.authors import Parts
from llmtwin.twins.person.examples import Making, Shape, pairs
from llmtwin.twins.person.kind import PersonKind
from llmtwin.twins.person.lessons import COMPLETION_TOKENS_MAX, learned
from llmtwin.twins.person.pii import Marker
from llmtwin.twins.person.sources.items import Item

TUNING = PersonKind().tuning()
# The texts are public; what has the form of an address or a number gets a stand-in all the same, as at home.
KEY = b"the study is open"
MARKER = Marker()

WRITTEN_TOKENS_MAX = 320
ROUNDS_MAX = 6
TEMPERATURE, TOP_P = 0.8, 0.95


def examples(transformer: Transformer, parts: Parts) -> list[Example]:
    """What a twin learns of its documents, as the product makes it."""
    return learned(parts.learned, [item.text for item in parts.held_out], _making(transformer))


def _making(transformer: Transformer) -> Making:
    return Making(MARKER, KEY, lambda text: len(transformer.base.encode(text)), COMPLETION_TOKENS_MAX)


def learn(
    transformer: Transformer,
    parts: Parts,
    options: TuneOptions,
    folder: Path,
    report: Callable[[Progress], None],
) -> Tuned:
    """Tune a twin and put its adapter into `folder`; a killed tuning goes on where it was."""
    checkpoint = folder.with_suffix(".ckpt")
    tuned = tune(transformer, examples(transformer, parts), options, checkpoint=checkpoint, report=report)
    scratch = folder.with_suffix(".part")
    shutil.rmtree(scratch, ignore_errors=True)
    tuned.lora.save(scratch, transformer.base.name)
    shutil.rmtree(folder, ignore_errors=True)
    scratch.rename(folder)
    checkpoint.unlink()
    return tuned


def tasks(transformer: Transformer, items: Iterable[Item], count: int, seed: int) -> list[str]:
    """Prompts to write what held-out documents are about: their titles and headings, none of their text."""
    making = _making(transformer)
    found = {
        pair.prompt: None
        for item in items
        for pair in pairs(item, making)
        if pair.shape in (Shape.TITLE, Shape.HEADING)
    }
    drawn = sorted(found)
    random.Random(seed).shuffle(drawn)
    return drawn[:count]


def write(engine: Engine, prompts: Sequence[str], adapters: tuple[str, ...], count: int) -> list[str]:
    """Texts on the prompts, in turn and each time anew, until they make `count` chunks to be judged."""
    written: list[str] = []
    for seed in range(ROUNDS_MAX):
        asked = [
            Request(
                engine.chat(turn(prompts[place % len(prompts)])),
                adapters,
                tokens_max=WRITTEN_TOKENS_MAX,
                temperature=TEMPERATURE,
                top_p=TOP_P,
                seed=count * seed + place,
            )
            for place in range(count)
        ]
        written += [completion.text for completion in engine.generate(asked)]
        if len(chunks(written)) >= count:
            break
    return written
