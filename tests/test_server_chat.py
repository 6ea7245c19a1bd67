"""The official `openai` client against the server, unchanged: answers, streams, models, errors."""

from __future__ import annotations

from pathlib import Path

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests.conftest import Enrol, TwinAt
from tests.packages import make_package

ASKED: list[ChatCompletionMessageParam] = [
    {"role": "system", "content": "You are a home."},
    {"role": "user", "content": "an earlier question"},
    {"role": "assistant", "content": "an earlier answer"},
    {"role": "user", "content": "What is  the\nfavourite colour? "},
]


def client(twin: TwinAt, role: str = "reader") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{twin.server.url}/v1", api_key=twin.token(role), max_retries=0)


@pytest.fixture
def versioned(twin: TwinAt, tmp_path: Path) -> TwinAt:
    """A twin with versions 1 and 2, 2 live."""
    for version in (1, 2):
        parts = make_package(tmp_path / str(version), twin.key, twin.id, version)
        files = [(name, (name, content)) for name, content in parts.items()]
        twin.edge.post(f"{twin.path}/adapters", files=files).raise_for_status()
    return twin


def test_an_answer_with_usage_and_receipts(versioned: TwinAt) -> None:
    made = client(versioned).chat.completions.create(
        model=versioned.id, messages=ASKED, temperature=0.7, max_tokens=100, user="me"
    )
    choice = made.choices[0]
    assert (choice.message.role, choice.finish_reason) == ("assistant", "stop")
    assert choice.message.content == "What is  the\nfavourite colour? "
    assert made.usage and made.usage.completion_tokens == 5
    assert made.usage.total_tokens == made.usage.prompt_tokens + 5
    assert made.model == versioned.id
    assert made.model_extra and made.model_extra["llmtwin"]["receipts"]["adapter"]["version"] == 2


def test_only_the_owner_is_told_how_sure_the_adapter_was(versioned: TwinAt) -> None:
    for role, sure in (("owner", 1.0), ("reader", None)):
        made = client(versioned, role).chat.completions.create(model=versioned.id, messages=ASKED)
        asked = {"owner": versioned.owner, "reader": versioned.reader}[role]
        said = asked.post(f"{versioned.path}/ask", json={"text": "hello"}).raise_for_status().json()
        for answer in (made.model_extra and made.model_extra["llmtwin"], said):
            assert answer["receipts"]["adapter"]["version"] == 2
            assert answer["receipts"]["adapter"]["probability"] == sure
        assert "logprobs" not in said and made.choices[0].logprobs is None


def test_a_version_can_be_asked(versioned: TwinAt) -> None:
    made = client(versioned).chat.completions.create(model=f"{versioned.id}@1", messages=ASKED)
    assert made.model_extra and made.model_extra["llmtwin"]["receipts"]["adapter"]["version"] == 1


def test_a_stream_says_the_same(versioned: TwinAt) -> None:
    stream = client(versioned).chat.completions.create(
        model=versioned.id, messages=ASKED, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(pieces) == "What is  the\nfavourite colour? "
    assert len([piece for piece in pieces if piece]) > 3
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage and chunks[-1].usage.completion_tokens == 5
    assert {chunk.id for chunk in chunks} == {chunks[0].id}


def test_text_parts_are_a_text(twin: TwinAt) -> None:
    parts: list[ChatCompletionMessageParam] = [
        {"role": "user", "content": [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]}
    ]
    made = client(twin).chat.completions.create(model=twin.id, messages=parts)
    assert made.choices[0].message.content == "one two"


def test_the_models_are_what_the_token_may_ask(versioned: TwinAt, enrol: Enrol) -> None:
    enrol()
    for role in ("owner", "reader"):
        asker = client(versioned, role)
        names = [versioned.id, f"{versioned.id}@1", f"{versioned.id}@2"]
        assert [model.id for model in asker.models.list()] == names
        assert asker.models.retrieve(f"{versioned.id}@1").id == names[1]
    assert list(client(versioned, "edge").models.list()) == []
    versioned.owner.delete(f"{versioned.path}/adapters/1").raise_for_status()
    assert [model.id for model in client(versioned).models.list()] == [names[0], names[2]]


def test_errors_are_those_that_the_client_knows(versioned: TwinAt) -> None:
    asker = client(versioned)
    stranger = openai.OpenAI(base_url=f"{versioned.server.url}/v1", api_key="wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError, match="valid token"):
        stranger.chat.completions.create(model=versioned.id, messages=ASKED)
    with pytest.raises(openai.PermissionDeniedError, match="not for this twin") as denied:
        asker.chat.completions.create(model="nobody", messages=ASKED)
    assert denied.value.code == "denied"
    with pytest.raises(openai.PermissionDeniedError, match="of the role edge"):
        client(versioned, "edge").chat.completions.create(model=versioned.id, messages=ASKED)
    with pytest.raises(openai.NotFoundError, match="no version 9"):
        asker.chat.completions.create(model=f"{versioned.id}@9", messages=ASKED, stream=True)
    with pytest.raises(openai.NotFoundError):
        asker.models.retrieve(f"{versioned.id}@9")
    for model in ("../x", f"{versioned.id}@0", "x" * 10_000, f"{versioned.id}@latest", ""):
        with pytest.raises(openai.UnprocessableEntityError, match="model"):
            asker.chat.completions.create(model=model, messages=ASKED)
    wrongs: list[list[ChatCompletionMessageParam]] = [
        [],
        ASKED[:1],
        [{"role": "user", "content": "x" * 2001}],
        [{"role": "user", "content": ""}],
    ]
    for wrong in wrongs:
        with pytest.raises(openai.UnprocessableEntityError):
            asker.chat.completions.create(model=versioned.id, messages=wrong)
    with pytest.raises(openai.UnprocessableEntityError):
        asker.chat.completions.create(model=versioned.id, messages=ASKED, n=2)


def test_a_question_in_another_kind_of_part_is_refused(twin: TwinAt) -> None:
    picture: list[ChatCompletionMessageParam] = [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,x"}}]}
    ]
    with pytest.raises(openai.UnprocessableEntityError):
        client(twin).chat.completions.create(model=twin.id, messages=picture)
