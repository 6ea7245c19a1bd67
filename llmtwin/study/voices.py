"""How the study tunes a twin of an author, and has it write. It measures nothing.

What a twin learns, and with what options, is the product's; here is only of which documents.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from llmtwin.edge import preferences
from llmtwin.memory import Memory
from llmtwin.memory.embed import Embedder
from llmtwin.models.engine.api import Engine, Request, turn
from llmtwin.models.transformer import Transformer
from llmtwin.models.tune import Progress, Tuned, TuneOptions, prefer, tune
from llmtwin.records import Example, Question, now
from llmtwin.study.attribution import chunks
from llmtwin.study.authors import Parts
from llmtwin.twins.person.chunks import passages
from llmtwin.twins.person.examples import Making, Shape, pairs
from llmtwin.twins.person.kind import PersonKind
from llmtwin.twins.person.lessons import COMPLETION_TOKENS_MAX, learned
from llmtwin.twins.person.remember import TEXT_CHARS_MAX, prompt_of
from llmtwin.twins.person.retrieve import retrieve
from llmtwin.twins.person.sources.items import Item
from llmtwin.twins.person.wording import task_of
from llmtwin.twins.person.writing import PASSAGES_MAX, with_memory
from llmtwin.twins.private.spans import Marker

TUNING = PersonKind().tuning()
# The texts are public; what has the form of an address or a number gets a stand-in all the same, as at home.
KEY = b"the study is open"
MARKER = Marker()

TWIN = "author"
WRITTEN_TOKENS_MAX = 320
ROUNDS_MAX = 6
TEMPERATURE, TOP_P = 0.8, 0.95


def examples(transformer: Transformer, parts: Parts) -> list[Example]:
    """What a twin learns of its documents, as the product makes it."""
    return learned(parts.learned, [item.text for item in parts.held_out], _making(transformer))


def _making(transformer: Transformer) -> Making:
    return Making(MARKER, KEY, lambda text: len(transformer.base.encode(text)), COMPLETION_TOKENS_MAX)


@dataclass(frozen=True)
class Learned:
    """A twin's adapter before its preferences and with them, how long both took, and over how many tokens."""

    taught: Tuned
    preferring: Tuned

    @property
    def seconds(self) -> float:
        """Of tuning, both steps."""
        return sum(run.history[-1].seconds for run in (self.taught, self.preferring))

    @property
    def tokens(self) -> int:
        """That were learned from, in both steps."""
        return self.taught.tokens + self.preferring.tokens


def learn(
    transformer: Transformer,
    parts: Parts,
    options: TuneOptions,
    folder: Path,
    report: Callable[[Progress], None],
    answers_max: int = preferences.ANSWERS_MAX,
) -> Learned:
    """Tune a twin as the product does and put its adapter into `folder`; a killed tuning goes on.

    At most `answers_max` answers of the base are what its own words are preferred to.
    """
    checkpoints = [folder.with_suffix(suffix) for suffix in (".ckpt", ".preferring.ckpt")]
    folder.parent.mkdir(parents=True, exist_ok=True)
    lessons = examples(transformer, parts)
    taught = tune(transformer, lessons, options, checkpoint=checkpoints[0], report=report)
    preferring = prefer(
        transformer,
        preferences.preferences(transformer.base, lessons, options.seed, answers_max),
        preferences.preferring(options),
        start=taught.lora,
        checkpoint=checkpoints[1],
        report=report,
    )
    scratch = folder.with_suffix(".part")
    shutil.rmtree(scratch, ignore_errors=True)
    preferring.lora.save(scratch, transformer.base.name)
    shutil.rmtree(folder, ignore_errors=True)
    scratch.rename(folder)
    for checkpoint in checkpoints:
        checkpoint.unlink()
    return Learned(taught, preferring)


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


def remembering(prompts: Sequence[str], items: Iterable[Item], embedder: Embedder | None) -> list[str]:
    """The prompts as a twin that remembers these items puts them: with what its passages say on them."""
    with tempfile.TemporaryDirectory() as folder, Memory(Path(folder) / "memory.sqlite") as memory:
        at = now()
        memory.append(
            [prompt_of(one, TWIN, at) for item in items for one in passages(item, len, TEXT_CHARS_MAX)]
        )
        found = []
        for prompt in prompts:
            task = task_of(prompt)
            about = task.about if task and task.about else prompt
            hits = retrieve(Question(twin=TWIN, text=about), memory, embedder, PASSAGES_MAX)
            found.append(with_memory(prompt, hits.hits if hits.known else ()))
        return found


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
