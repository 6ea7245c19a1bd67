"""What somebody gives with a question: a text that the twin has not written. It remembers none of it."""

from __future__ import annotations

from llmtwin.errors import InputError, LlmtwinError, TooLarge
from llmtwin.records import MATERIAL_CHARS_MAX, Material, now
from llmtwin.twins.person.chunks import passages
from llmtwin.twins.person.clean import cleaned
from llmtwin.twins.person.outward import place
from llmtwin.twins.person.remember import TEXT_CHARS_MAX, Quote, prompt_of, quote_of
from llmtwin.twins.person.sources.items import Item
from llmtwin.twins.person.sources.read import read_alone

LABEL = "m"
AUDIENCE = "material"


def read(source: str) -> Material:
    """The text of a document or page, as it goes with a question.

    Raises InputError where it cannot be read or holds no text, TooLarge for more than 100,000 characters,
    Unavailable where an address does not answer.
    """
    try:
        document, address = read_alone(source)
        item = cleaned(_item(document.text, address, document.title))
        if item is None:
            raise InputError("there is no text in it")
        if len(item.text) > MATERIAL_CHARS_MAX:
            raise TooLarge(
                f"it has {len(item.text):,} characters, and at most {MATERIAL_CHARS_MAX:,} go with a"
                " question: give the part that matters"
            )
    except LlmtwinError as error:
        raise type(error)(f"{source} cannot be given: {error}") from error
    return Material(text=item.text, address=place(item.address), title=item.title)


def passages_of(material: Material | None) -> list[Quote]:
    """It in passages, as those of the person are; none without it. Raises InputError for blank text."""
    if material is None:
        return []
    cut = passages(_item(material.text, material.address, material.title), len, TEXT_CHARS_MAX)
    return [quote_of(prompt_of(passage, LABEL, now())) for passage in cut]


def _item(text: str, address: str, title: str) -> Item:
    return Item.of(source="material", address=address, audience=AUDIENCE, text=text, title=title)
