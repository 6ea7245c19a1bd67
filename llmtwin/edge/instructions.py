"""Has a capable base say what some texts are the answer to (instruction back-translation, arXiv:2308.06259).

It knows no kind and no HTTP. The base sees what is learned, so stand-ins for what is private.
"""

from __future__ import annotations

import random
from dataclasses import replace

from llmtwin.edge.preferences import answers
from llmtwin.models.base import Base
from llmtwin.twins.kind import Lessons

CAPABLE_PARAMETERS_MIN = 1_000_000_000
"""A smaller base goes on with a text, or repeats it, rather than say what it answers."""
SHARE = 0.25
INSTRUCTED_MAX = 64
WORDS_MAX = 60
ASKED = (
    "Here is a text:\n\n{text}\n\nTo which instruction is it the answer? Give the instruction alone, in one"
    " or two sentences, and quote nothing of the text."
)


def instructed(base: Base, lessons: Lessons, seed: int) -> Lessons:
    """The lessons, with some examples asked for by an instruction that the base wrote; a note says how many.

    The completions stay as they are, and so does what is learned without a prompt. A base that is not capable
    is not asked, and an instruction that is none, or no short one, not taken.
    """
    if base.config.parameters < CAPABLE_PARAMETERS_MIN:
        return lessons
    examples = list(lessons.examples)
    places = [place for place, one in enumerate(examples) if one.prompt]
    drawn = random.Random(seed).sample(places, min(INSTRUCTED_MAX, round(SHARE * len(places))))
    said = answers(base, [ASKED.format(text=examples[place].completion) for place in drawn], seed)
    taken = [(place, text) for place, text in zip(drawn, said, strict=True) if _is_short(text)]
    if not taken:
        return lessons
    for place, text in taken:
        examples[place] = examples[place].model_copy(update={"prompt": text})
    note = f"{len(taken)} texts are asked for by instructions that the base wrote"
    return replace(lessons, examples=tuple(examples), notes=(*lessons.notes, note))


def _is_short(text: str) -> bool:
    return 0 < len(text.split()) <= WORDS_MAX
