"""The OpenAI-compatible face of asking, so that OpenAI's clients work unchanged. It knows no twin's inside.

The model names a twin (`home7`) or one of its versions (`home7@3`). The question is the last user message;
most twins remember their subject, not the conversation: what was said before goes with it, for those that
listen. Sampling options are accepted and change nothing. The whole answer, with its receipts, is beside the
choices under `llmtwin`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, Field, ValidationError

from llmtwin.errors import InputError, NotFound
from llmtwin.records import Question, new_id
from llmtwin.server.access import Role
from llmtwin.server.core import Answered, Core
from llmtwin.server.guard import CallerOf, CoreOf, MetricsOf, note
from llmtwin.twins.sessions import SESSION_HEADER

router = APIRouter(prefix="/v1", tags=["openai"])

_MODEL = re.compile(r"(?P<twin>[a-z0-9][a-z0-9_-]{0,63})(?:@(?P<version>[1-9][0-9]{0,8}))?")
_ASKERS = (Role.OWNER, Role.READER)


class TextPart(BaseModel):
    """A piece of a message's text."""

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """One turn of a conversation."""

    role: str
    content: str | list[TextPart] | None = None

    def text(self) -> str:
        """What the message says."""
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""


class StreamOptions(BaseModel):
    """What a stream ends with."""

    include_usage: bool = False


class ChatRequest(BaseModel):
    """A chat completion request; what is not named here is accepted and changes nothing."""

    model: str
    messages: list[Message] = Field(min_length=1)
    n: Literal[1] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None


class Model(BaseModel):
    """A twin, or a version of it, as a model."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "llmtwin"


class ModelList(BaseModel):
    """The models a token may use."""

    object: Literal["list"] = "list"
    data: list[Model]


@router.post("/chat/completions")
def complete(
    asked: ChatRequest, request: Request, caller: CallerOf, core: CoreOf, metrics: MetricsOf
) -> Response:
    """Ask a twin in the form of a chat."""
    twin, version = _parse_model(asked.model)
    caller.require(twin, _ASKERS)
    note(request, caller, twin)
    session = request.headers.get(SESSION_HEADER) or asked.user
    question = _question(core, asked, twin, version)
    answered = core.ask(question, by_owner=caller.role is Role.OWNER, session=session)
    metrics.count_tokens(answered.tokens_prompt, answered.tokens_completion)
    head = {
        "id": f"chatcmpl-{new_id()}",
        "created": int(core.options.now().timestamp()),
        "model": asked.model,
    }
    if not asked.stream:
        return JSONResponse(_completion(head, answered))
    with_usage = asked.stream_options is not None and asked.stream_options.include_usage
    return StreamingResponse(_events(head, answered, with_usage), media_type="text/event-stream")


@router.get("/models")
def models(caller: CallerOf, core: CoreOf) -> ModelList:
    """The twins this token may ask, and the versions of them that can be asked for."""
    if caller.twin is None or caller.role not in _ASKERS:
        return ModelList(data=[])
    info = core.registry.twin(caller.twin)
    made = [Model(id=info.id, created=int(info.created_at.timestamp()))]
    for adapter in core.registry.adapters(info.id):
        if not adapter.withdrawn:
            name = f"{info.id}@{adapter.manifest.version}"
            made.append(Model(id=name, created=int(adapter.manifest.created_at.timestamp())))
    return ModelList(data=made)


@router.get("/models/{model}")
def model(model: str, caller: CallerOf, core: CoreOf) -> Model:
    """One model this token may ask."""
    caller.require(_parse_model(model)[0], _ASKERS)
    for listed in models(caller, core).data:
        if listed.id == model:
            return listed
    raise NotFound("this twin has no such version")


def _parse_model(model: str) -> tuple[str, int | None]:
    named = _MODEL.fullmatch(model)
    if not named:
        raise InputError("`model` is a twin (`home7`) or a version of one (`home7@3`)")
    version = named["version"]
    return named["twin"], int(version) if version else None


def _question(core: Core, asked: ChatRequest, twin: str, version: int | None) -> Question:
    users = [place for place, message in enumerate(asked.messages) if message.role == "user"]
    if not users:
        raise InputError("there is no user message to answer")
    turns = [(message.role, message.text()) for message in asked.messages[: users[-1]]]
    text, before = asked.messages[users[-1]].text(), tuple(turns)
    try:
        return Question(twin=twin, text=text, at=core.options.now(), version=version, before=before)
    except ValidationError as error:
        raise InputError(f"the last user message is refused: {error.errors()[0]['msg']}") from error


def _usage(answered: Answered) -> dict[str, int]:
    return {
        "prompt_tokens": answered.tokens_prompt,
        "completion_tokens": answered.tokens_completion,
        "total_tokens": answered.tokens_prompt + answered.tokens_completion,
    }


def _completion(head: dict[str, Any], answered: Answered) -> dict[str, Any]:
    message = {"role": "assistant", "content": answered.answer.text, "refusal": None}
    return {
        **head,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": _usage(answered),
        "llmtwin": answered.answer.model_dump(mode="json"),
    }


def _events(head: dict[str, Any], answered: Answered, with_usage: bool) -> Iterator[str]:
    """The answer word by word: it is whole before the first, so that an error still has its status."""

    def event(delta: dict[str, str], finish: str | None = None, **more: Any) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _event({**head, "object": "chat.completion.chunk", "choices": [choice], **more})

    yield event({"role": "assistant", "content": ""})
    for word in re.findall(r"\s*\S+|\s+$", answered.answer.text):
        yield event({"content": word})
    yield event({}, "stop", llmtwin=answered.answer.model_dump(mode="json"))
    if with_usage:
        yield _event({**head, "object": "chat.completion.chunk", "choices": [], "usage": _usage(answered)})
    yield "data: [DONE]\n\n"


def _event(chunk: dict[str, Any]) -> str:
    return f"data: {json.dumps(chunk)}\n\n"
