"""How a person twin answers: a question with the person's own sentences, a task with a text in their voice.

A quoted sentence stands in its passage word for word. What memory does not have is said to be unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmtwin.memory.embed import Embedder
from llmtwin.records import Answer, Outcome, Question, Receipts
from llmtwin.twins.kind import View
from llmtwin.twins.person.cite import Citations
from llmtwin.twins.person.material import passages_of
from llmtwin.twins.person.retrieve import Found, retrieve
from llmtwin.twins.person.score import Hit, Sentence
from llmtwin.twins.person.wording import task_of
from llmtwin.twins.person.writing import BOTH, Use, write

UNKNOWN = "I haven't written about that."
PASSAGES_MAX = 5
SENTENCES_MAX = 4
# A sentence that fits much worse than the best one says something else.
SHARE_OF_BEST_MIN = 0.7


def answer(question: Question, view: View, embedder: Embedder | None, use: Use = BOTH) -> Answer:
    """Answer a question by quoting, or write what is asked for.

    `use` says what a text is written from; quoting needs neither engine nor adapter. Raises InputError for
    material without text.
    """
    task = task_of(question.text)
    if task is not None:
        return write(question, task, view, embedder, use)
    return _quoted(question, view, embedder)


def _quoted(question: Question, view: View, embedder: Embedder | None) -> Answer:
    """From the person's passages, and beside them from what was given, each where it says something."""
    found = retrieve(question, view.memory, embedder, PASSAGES_MAX)
    scorer = found.scorer
    sources = (found.hits, scorer.best(passages_of(question.material)))
    plan: dict[str, Any] = {
        "filters": list(found.filters),
        "score": max((hit.score for hits in sources for hit in hits), default=0.0),
        **({"note": found.note} if found.note else {}),
    }
    chosen = [pair for hits in sources if scorer.is_known(hits) for pair in chosen_sentences(hits)]
    if not chosen:
        return Answer(text=_unknown(found), outcome=Outcome.UNKNOWN, plan=plan)
    citations = Citations()
    said = "\n".join(f"{sentence.text} {citations.cite(hit.quote)}" for hit, sentence in chosen)
    return Answer(
        text=f"{said}\n\n{citations.lines()}",
        outcome=Outcome.ANSWERED,
        receipts=Receipts(prompts=citations.uses(view.memory)),
        plan=plan,
    )


def chosen_sentences(hits: Sequence[Hit]) -> list[tuple[Hit, Sentence]]:
    """The best few sentences, those of a passage together and in its order, the best passage first."""
    every = [(hit, sentence) for hit in hits for sentence in hit.sentences]
    ranked = sorted(every, key=lambda pair: -pair[1].score)
    best: dict[str, tuple[Hit, Sentence]] = {}
    for hit, sentence in ranked:
        if sentence.score >= SHARE_OF_BEST_MIN * ranked[0][1].score and len(best) < SENTENCES_MAX:
            best.setdefault(" ".join(sentence.text.split()).casefold(), (hit, sentence))
    passages = list(dict.fromkeys(hit.quote.id for hit, _ in best.values()))
    return sorted(best.values(), key=lambda pair: (passages.index(pair[0].quote.id), pair[1].start))


def _unknown(found: Found) -> str:
    """The fixed sentence, and the filters if no passage fits them."""
    return f"{UNKNOWN} I have written nothing {found.nothing}." if found.nothing else UNKNOWN
