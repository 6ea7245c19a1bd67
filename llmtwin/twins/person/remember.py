"""A quotable passage as a prompt of the prompt database, and back. It does not know what may be quoted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from llmtwin.records import Fact, Prompt, Value, twin_id
from llmtwin.twins.person.chunks import Passage

TEXT_CHARS_MAX = 1000
"""What a prompt holds: passages to be remembered are cut to it."""
TITLE, HEADING, ADDRESS, SOURCE, AUDIENCE, DATE = "title", "heading", "address", "source", "audience", "date"

_VALUE_CHARS_MAX = 500
_ITEM_CHARS = 40
_BETWEEN_HEADINGS = " > "


@dataclass(frozen=True)
class Quote:
    """A passage as it is remembered: what a citation needs. `date` is None where the item had none."""

    id: str
    text: str
    title: str
    heading: str
    address: str
    source: str
    audience: str
    date: date | None

    @property
    def item(self) -> str:
        """The beginning of the id of the item that it is from."""
        return self.id.rsplit("-", 2)[-2]

    @property
    def titled(self) -> str:
        """The text under its title and headings, one a line: what it is about."""
        return "\n".join(filter(None, (self.title, self.heading, self.text)))


def prompt_of(passage: Passage, twin: str, collected_at: datetime) -> Prompt:
    """The passage, word for word, as a prompt; `<item>/title` is a path of every passage of its item."""
    at = min(passage.date or collected_at, collected_at)  # what is dated ahead would not be taken
    values = {
        TITLE: passage.title,
        HEADING: _BETWEEN_HEADINGS.join(passage.headings),
        ADDRESS: passage.address,
        SOURCE: passage.source,
        AUDIENCE: passage.audience,
        DATE: passage.date.date().isoformat() if passage.date else "",
    }
    facts = tuple(
        Fact(path=f"{passage.item[:_ITEM_CHARS]}/{name}", value=value[:_VALUE_CHARS_MAX], at=at)
        for name, value in values.items()
        if value or name not in (HEADING, DATE)
    )
    return Prompt(id=twin_id(twin, passage.id), twin=twin, text=passage.text, facts=facts, at=at)


def path_of(quote: Quote) -> str:
    """The path that all passages of its item have."""
    return f"{quote.item}/{TITLE}"


def quote_of(prompt: Prompt) -> Quote:
    """What `prompt_of` made, as it was."""
    values: dict[str, Value] = {fact.path.partition("/")[2]: fact.value for fact in prompt.facts}
    said = {name: str(values.get(name, "")) for name in (TITLE, HEADING, ADDRESS, SOURCE, AUDIENCE, DATE)}
    day = said.pop(DATE)
    return Quote(id=prompt.id, text=prompt.text, date=date.fromisoformat(day) if day else None, **said)
