"""Asking: a question to a twin, and raw recall from its adapter for those who hold its keys."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header
from pydantic import AwareDatetime, Field

from llmtwin.records import Answer, Hash, Material, Question, Record, TwinId
from llmtwin.server.access import Role
from llmtwin.server.guard import Asker, CoreOf, MetricsOf, Pusher
from llmtwin.twins.sessions import SESSION_HEADER

router = APIRouter(prefix="/v1/twins/{twin}", tags=["asking"])


class Ask(Record):
    """A question; `at` is the time it is asked, now where it is not given. `material` is not remembered."""

    text: str = Field(min_length=1, max_length=2000)
    at: AwareDatetime | None = None
    version: int | None = Field(default=None, ge=1)
    material: Material | None = None


class Recall(Record):
    """Prompts to put to the adapter as they are."""

    prompts: list[Annotated[str, Field(min_length=1, max_length=2000)]]
    version: int | None = Field(default=None, ge=1)


class Recalled(Record):
    """What the adapter said to one prompt, and how sure it was (0 to 1)."""

    text: str
    probability: float


class Recollection(Record):
    """What the adapter said, and which adapter it was."""

    completions: list[Recalled]
    version: int
    weights: Hash


@router.post("/ask")
def ask(
    twin: TwinId,
    asked: Ask,
    caller: Asker,
    core: CoreOf,
    metrics: MetricsOf,
    session: Annotated[str | None, Header(alias=SESSION_HEADER)] = None,
) -> Answer:
    """Ask the twin. An owner's question may be an order; a reader's order is refused."""
    at = asked.at or core.options.now()
    question = Question(twin=twin, text=asked.text, at=at, version=asked.version, material=asked.material)
    answered = core.ask(question, by_owner=caller.role is Role.OWNER, session=session)
    metrics.count_tokens(answered.tokens_prompt, answered.tokens_completion)
    return answered.answer


@router.post("/recall")
def recall(twin: TwinId, asked: Recall, caller: Pusher, core: CoreOf, metrics: MetricsOf) -> Recollection:
    """What the adapter completes each prompt with, greedily; for sealed facts and for the watch."""
    adapter, made = core.recall(twin, asked.prompts, asked.version)
    metrics.count_tokens(sum(m.tokens_prompt for m in made), sum(m.tokens_completion for m in made))
    return Recollection(
        completions=[Recalled(text=m.text, probability=m.probability) for m in made],
        version=adapter.manifest.version,
        weights=adapter.manifest.weights,
    )
