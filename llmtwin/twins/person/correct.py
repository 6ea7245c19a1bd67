"""A person's correction of what their twin wrote: the pair that it becomes. It keeps and tunes nothing."""

from __future__ import annotations

from llmtwin.errors import InputError, TooLarge
from llmtwin.records import Answer, Correction

CHARS_MAX = 4000


def correction(answer: Answer, text: str) -> Correction:
    """The text preferred to what the model said, under the very prompt that it was given.

    Raises InputError for an answer that the model did not write, TooLarge for over 4000 characters.
    """
    if "said" not in answer.plan:
        raise InputError(
            "only what the twin wrote can be corrected; what it quotes is changed where you wrote it:"
            " collect it again"
        )
    if len(text) > CHARS_MAX:
        raise TooLarge(f"a correction has at most {CHARS_MAX} characters, and this has {len(text)}")
    said, prompt = answer.plan["said"], answer.plan["prompt"]
    return Correction(prompt=prompt, chosen=text, rejected=said, paths=tuple(answer.plan["rests_on"]))
