"""What a card says of texts that a voice wrote: how they read, and what of them is copied. It writes none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from llmtwin.twins.kind import Lessons
from llmtwin.twins.person.copying import copied
from llmtwin.twins.person.language import words
from llmtwin.twins.person.style import Style, divergence


def figures(said: Sequence[str], by_base: Sequence[str], lessons: Lessons) -> dict[str, float]:
    """How far the texts of a voice, and of the base, are in style from what the person wrote (0 is alike).

    The measure is held-out text. Copied is what stands word for word in a text that was learned, the most of
    any text. Empty where there is nothing to compare.
    """
    made = {
        name: Style(texts)
        for name, texts in (("", said), ("_base", by_base), ("own", lessons.held_out.values()))
        if any(map(words, texts))
    }
    if len(made) < 3:
        return {}
    own = made.pop("own")
    apart = {
        f"style_{what}{name}": value
        for name, style in made.items()
        for what, value in asdict(divergence(style, own)).items()
    }
    learned = [one.completion for one in lessons.examples]
    found = [copied(text, learned) for text in said]
    return apart | {
        "copied_share_max": max(one.share for one in found),
        "copied_words_max": float(max(one.longest_words for one in found)),
    }
