"""Writes a text in the person's voice, and says what of it their passages bear out and what is copied.

It knows the engine's interface, not what an adapter has learned.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llmtwin.memory import Memory
from llmtwin.memory.embed import Embedder
from llmtwin.models.engine.api import Completion, Request, turn
from llmtwin.records import AdapterUse, Answer, Material, Outcome, Question, Receipts
from llmtwin.twins.kind import View
from llmtwin.twins.person import wording
from llmtwin.twins.person.chunks import sentences
from llmtwin.twins.person.copying import copied
from llmtwin.twins.person.material import passages_of
from llmtwin.twins.person.remember import AUDIENCE, path_of
from llmtwin.twins.person.retrieve import Found, retrieve
from llmtwin.twins.person.score import Hit
from llmtwin.twins.person.support import checked
from llmtwin.twins.person.voices import tag

TOKENS_MAX = 256
TEMPERATURE = 0.7
COPIED_SHARE_MAX = 0.3
TRIES_MAX = 3
POINTS_MAX = 3
ABOUT_CHARS_MAX = 2000
PASSAGES_MAX = 5
LIKE_MAX = 5
LIKE_RANKED_MAX = 50  # a search ranks more passages where more are wanted, and a copied one may be old


@dataclass(frozen=True)
class Use:
    """What a text is written from, beside the base: the four ablations."""

    memory: bool = True
    adapter: bool = True


BOTH = Use()


def write(
    question: Question,
    task: wording.Task,
    view: View,
    embedder: Embedder | None,
    use: Use,
) -> Answer:
    """The text asked for, with marks, citations, and how much of it is copied."""
    if question.material is not None and not task.about:
        task = replace(task, about=_about(task, question.material))
    subject = question.model_copy(update={"text": task.about or question.text})
    found = retrieve(subject, view.memory, embedder, PASSAGES_MAX)
    passages = passages_of(question.material)
    given = found.scorer.best(passages)
    quotes = [*(hit.quote for hit in found.hits), *passages]
    prompt = _prompt(task, found, given, view.memory, question.twin, use)
    done, text, tries = _original(prompt, [quote.text for quote in passages], question, view, use)
    if not text:
        return Answer(text="I could not write that in words of my own.", outcome=Outcome.UNKNOWN)
    marked, citations = checked(text, quotes, question.text, view.memory, question.twin)
    copy = copied(text, [*like(text, view.memory, question.twin), *(quote.text for quote in passages)])
    plan: dict[str, Any] = {
        "prompt": prompt,
        "said": text,
        "rests_on": sorted({path_of(hit.quote) for hit in found.hits}),
        "tries": tries,
        "copied_share": copy.share,
        "copied_words_longest": copy.longest_words,
        "copied_longest": copy.longest,
    }
    lines = citations.lines()
    return Answer(
        text=f"{marked}\n\n{lines}" if lines else marked,
        outcome=Outcome.ANSWERED,
        receipts=Receipts(adapter=_adapter(view, done, use), prompts=citations.uses(view.memory)),
        plan=plan if found.note is None else {**plan, "note": found.note},
    )


def like(text: str, memory: Memory, twin: str) -> list[str]:
    """The passages of the person that share the most words with a sentence of the text."""
    found = (
        memory.search(twin, text[start:end], LIKE_RANKED_MAX)[:LIKE_MAX] for start, end in sentences(text)
    )
    return list(dict.fromkeys(prompt.text for some in found for prompt in some))


def without_copies(text: str, passages: Sequence[str]) -> str:
    """The text without its most copied sentences, until at most 30 % of it is copied."""
    kept = [text[start:end] for start, end in sentences(text)]
    while kept and copied(" ".join(kept), passages).share > COPIED_SHARE_MAX:
        kept.remove(max(kept, key=lambda sentence: copied(sentence, passages).share))
    return " ".join(kept)


def _original(
    prompt: str, given: Sequence[str], question: Question, view: View, use: Use
) -> tuple[Completion, str, int]:
    """A completion that copies little, out of a few with other seeds; else what is left of the last one.

    It may copy from what it was `given`, and from any passage of the person's: an adapter knows more of them
    than were found for the prompt.
    """
    seed = int.from_bytes(hashlib.sha256(question.text.encode()).digest()[:4])
    chat = view.engine.chat(turn(prompt))
    adapters = view.adapters if use.adapter else ()
    for number in range(1, TRIES_MAX + 1):
        request = Request(chat, adapters, TOKENS_MAX, TEMPERATURE, seed=seed + number)
        (done,) = view.engine.generate([request])
        text = _whole(done)
        passages = [*like(text, view.memory, question.twin), *given]
        if copied(text, passages).share <= COPIED_SHARE_MAX:
            break
    else:
        text = without_copies(text, passages)
    return done, text, number


def with_memory(prompt: str, hits: Iterable[Hit]) -> str:
    """A prompt with the sentences of passages that fit it best, as the points of an outline."""
    every = sorted(((one.score, one.text) for hit in hits for one in hit.sentences), reverse=True)
    points = dict.fromkeys(" ".join(text.split()) for _, text in every[:POINTS_MAX])
    return wording.with_points(prompt, points) if points else prompt


def _about(task: wording.Task, material: Material) -> str:
    """The title of what is given, or as much of its end as a question holds."""
    if task.kind == "task":
        return material.title
    end = material.text[-ABOUT_CHARS_MAX:]
    return end if end == material.text else end.partition(" ")[2]


def _prompt(
    task: wording.Task, found: Found, given: Sequence[Hit], memory: Memory, twin: str, use: Use
) -> str:
    """As the adapter learned it; what is to be said goes in as the points of an outline."""
    prompt = task.prompt(_genre(task, memory, twin))
    return with_memory(prompt, [*(found.hits if use.memory and found.known else ()), *given])


def _genre(task: wording.Task, memory: Memory, twin: str) -> str:
    """The genre that was named, if the person writes it; else one that the adapter knows."""
    own = [wording.genre(tag(str(audience))) for audience in memory.values(twin, AUDIENCE)]
    if not own or task.genre in own:
        return task.genre or "text"
    # A post is first of all one on a blog.
    longer = [genre for genre in own if task.genre and genre.endswith(task.genre)]
    return (longer or own)[0]


def _whole(done: Completion) -> str:
    """The completion without signs that came out half, and without a last sentence that was cut off."""
    text = done.text.replace("\ufffd", "").strip()
    spans = sentences(text)
    return text[: spans[-2][1]] if done.finish == "length" and len(spans) > 1 else text


def _adapter(view: View, done: Completion, use: Use) -> AdapterUse | None:
    if not use.adapter or view.adapter is None:
        return None
    manifest = view.adapter.manifest
    return AdapterUse(version=manifest.version, weights=manifest.weights, probability=done.probability)
