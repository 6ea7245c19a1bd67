"""The echo engine: the last user message comes back, and the counts are words."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llmtwin.models.engine.api import Engine, Request
from llmtwin.models.engine.echo import EchoEngine

ENGINE: Engine = EchoEngine()
texts = st.text().filter(lambda text: "<|" not in text)


@given(first=texts, last=texts)
def test_the_last_user_message_comes_back(first: str, last: str) -> None:
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": first},
        {"role": "assistant", "content": "so it is"},
        {"role": "user", "content": last},
    ]
    prompt = ENGINE.chat(messages)
    words = len(last.split())
    made = ENGINE.generate([Request(prompt, tokens_max=words)])[0]
    assert (made.text, made.finish, made.tokens_completion) == (last, "stop", words)
    assert ENGINE.score([(prompt, last, ()), (prompt, last + " more", ())]) == [0.0, -(words + 1.0)]


def test_a_long_message_is_cut_between_words() -> None:
    prompt = ENGINE.chat([{"role": "user", "content": "one  two three"}])
    made = ENGINE.generate([Request(prompt, tokens_max=2)])[0]
    assert (made.text, made.finish, len(made.logprobs), len(made.token_ids)) == ("one  two", "length", 2, 2)
