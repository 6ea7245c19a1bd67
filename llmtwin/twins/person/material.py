"""What somebody gives with a question: a text that the twin has not written. It remembers none of it."""

from __future__ import annotations

from dataclasses import dataclass

from llmtwin.records import now
from llmtwin.twins.person.chunks import passages
from llmtwin.twins.person.clean import cleaned
from llmtwin.twins.person.remember import TEXT_CHARS_MAX, Quote, prompt_of, quote_of
from llmtwin.twins.person.sources.items import Item

LABEL = "m"


@dataclass(frozen=True)
class Material:
    """A text, where it is from, and its title where it has one."""

    text: str
    address: str
    title: str = ""

    def quotes(self) -> list[Quote]:
        """It in passages. Raises InputError where there is no text in it."""
        item = cleaned(
            Item.of(
                source="material",
                address=self.address,
                audience="material",
                text=self.text,
                title=self.title,
            )
        )
        if item is None:
            return []
        cut = passages(item, len, TEXT_CHARS_MAX)
        return [quote_of(prompt_of(passage, LABEL, now())) for passage in cut]
