"""Has a capable base say what some texts are the answer to (instruction back-translation, arXiv:2308.06259).

It knows no kind and no HTTP. The base sees what is learned, so stand-ins for what is private. Preferences and
the canaries of an audit are learned with the prompts as they were.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from llmtwin.edge.preferences import answers
from llmtwin.models.base import Base
from llmtwin.records import Example
from llmtwin.twins.kind import Lessons
from llmtwin.wire.files import write_durably

CAPABLE_PARAMETERS_MIN = 1_000_000_000
"""A smaller base goes on with a text, or repeats it, rather than say what it answers."""
SHARE = 0.25
INSTRUCTED_MAX = 64
CHARACTERS_MAX = 400
RUN_CHARACTERS = 40
"""What has so many in a row of the text, blanks aside, repeats it."""
ASKED = (
    "Here is a text:\n\n{text}\n\nTo which instruction is it the answer? Give the instruction alone, in one"
    " or two sentences, and quote nothing of the text."
)


def instructed(base: Base, lessons: Lessons, seed: int, kept: Path) -> Lessons:
    """The lessons, with some tasks asked by an instruction that the base wrote; a note says how many.

    The completions stay as they are. A base that is not capable is not asked, and an instruction that is
    none, is long or repeats the text, not taken. What it said is `kept` in a file, so that a run that was
    killed goes on with the same.
    """
    if base.config.parameters < CAPABLE_PARAMETERS_MIN:
        return lessons
    count = min(INSTRUCTED_MAX, round(SHARE * len(lessons.tasks)))
    drawn = random.Random(seed).sample(lessons.tasks, count)
    said = _said(base, [ASKED.format(text=one.completion) for one in drawn], seed, kept) if drawn else []
    worded = {
        one: one.model_copy(update={"prompt": text})
        for one, text in zip(drawn, said, strict=True)
        if _is_instruction(text, one.completion)
    }
    if not worded:
        return lessons
    examples: list[Example] = [worded.get(one, one) for one in lessons.examples]
    note = f"{len(worded)} texts are asked for by instructions that the base wrote"
    return replace(lessons, examples=tuple(examples), notes=(*lessons.notes, note))


def _said(base: Base, prompts: Sequence[str], seed: int, kept: Path) -> list[str]:
    """What the base answers, from the file if it has that already."""
    key = hashlib.sha256(json.dumps([base.hash, seed, prompts]).encode()).hexdigest()
    try:
        found = json.loads(kept.read_bytes())
        if found["of"] == key:
            return [str(text) for text in found["said"]]
    except (OSError, ValueError, KeyError, TypeError):
        pass  # there is none, or half of one
    said = answers(base, prompts, seed)
    write_durably(kept, json.dumps({"of": key, "said": said}).encode())
    return said


def _is_instruction(text: str, completion: str) -> bool:
    if not 0 < len(text) <= CHARACTERS_MAX:
        return False
    said, known = ("".join(each.casefold().split()) for each in (text, completion))
    runs = (said[at : at + RUN_CHARACTERS] for at in range(max(1, len(said) - RUN_CHARACTERS + 1)))
    return known not in said and not any(run in known for run in runs)
