"""Citations: which passages a text rests on, each with its number. It chooses none and judges none."""

from __future__ import annotations

from llmtwin.memory import Memory
from llmtwin.records import PromptUse
from llmtwin.twins.person.material import AUDIENCE, LABEL
from llmtwin.twins.person.remember import Quote


class Citations:
    """The passages cited so far, numbered in the order of their first use; material is always [m]."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._cited: dict[str, tuple[str, Quote]] = {}

    def cite(self, quote: Quote) -> str:
        """The mark of a passage, as it stands behind a sentence."""
        if quote.audience == AUDIENCE:
            mark = LABEL
        else:
            mark = str(self._numbers.setdefault(quote.id, len(self._numbers) + 1))
        self._cited.setdefault(mark, (mark, quote))
        return f"[{mark}]"

    def lines(self) -> str:
        """A line for each citation: when it was written, its title, and where it is."""
        return "\n".join(f"[{mark}] {_line(quote)}" for mark, quote in self._cited.values())

    def uses(self, memory: Memory) -> tuple[PromptUse, ...]:
        """The prompts cited, for the receipts; material is none."""
        prompts = (memory.prompt(one) for one in self._numbers)
        return tuple(PromptUse(id=one.id, at=one.at, text=one.text) for one in prompts if one is not None)


def _line(quote: Quote) -> str:
    day = quote.date.isoformat() if quote.date else "undated"
    return ", ".join(filter(None, (day, quote.title, quote.address)))
