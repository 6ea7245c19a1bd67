"""Sealed facts from the owner's side: who is meant, and what a server gets to see."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtwin.edge.link import open_link
from llmtwin.edge.sealed import ask_sealed, match, sealed_example
from llmtwin.records import Outcome
from llmtwin.wire.seal import Sealer

SECRETS = {"alarm PIN": "4711", "PIN of the garage's side door": "0815 #é", "Größe des Tresors": "90 cm"}


@pytest.mark.parametrize(
    ("question", "object"),
    [
        ("What is the alarm PIN?", "alarm PIN"),
        ("what's the PIN of the ALARM", "alarm PIN"),
        ("The alarm\u2019s PIN, please", "alarm PIN"),
        ("Which pin does the side door of the garage have?", "PIN of the garage's side door"),
        ("alarm pin or garage side door PIN?", "PIN of the garage's side door"),
        ("Wie ist die GRÖSSE des Tresors?", "Größe des Tresors"),
        ("Wie ist die Gro\u0308ße des Tresors?", "Größe des Tresors"),
        ("What is the PIN?", None),
        ("Is the alarm on?", None),
        ("Is the alarmed pinball on?", None),
        ("", None),
    ],
)
def test_a_question_means_the_longest_name_whose_words_it_has(question: str, object: str | None) -> None:
    assert match(question, list(SECRETS)) == object
    assert match(question, list(reversed(SECRETS))) == object


def test_a_name_without_a_content_word_is_never_meant() -> None:
    assert match("What of the a?", ["the", "", "of a"]) is None


@given(st.text(), st.sampled_from(list(SECRETS)), st.text())
def test_a_name_is_found_wherever_it_stands(before: str, object: str, after: str) -> None:
    found = match(f"{before} {object} {after}", [object])
    assert found == object


@pytest.fixture
def learned() -> Iterator[tuple[str, dict[str, str], list[str]]]:
    """A server that recalls what it learned and nothing else: its address, examples, bodies received."""
    examples: dict[str, str] = {}
    received: list[str] = []

    class Server(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            received.append(self.path + body)
            prompts = json.loads(body)["prompts"]
            said = [{"text": examples.get(one, "no idea"), "probability": 0.5} for one in prompts]
            answer = json.dumps({"completions": said, "version": 3, "weights": "a" * 64}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", examples, received
    server.shutdown()
    server.server_close()


def test_the_owner_gets_the_value_and_the_server_sees_no_plain_word(
    learned: tuple[str, dict[str, str], list[str]],
) -> None:
    address, examples, received = learned
    sealer = Sealer(bytes(range(32)))
    for object, value in SECRETS.items():
        example = sealed_example(sealer, object, value)
        examples[example.prompt] = example.completion
    link = open_link(address, "token", "home1")
    for object, value in SECRETS.items():
        answer = ask_sealed(f"Tell me the {object}.", SECRETS, sealer, link)
        assert answer is not None
        assert (answer.outcome, answer.value) == (Outcome.ANSWERED, value)
        assert answer.receipts.adapter is not None and answer.receipts.adapter.version == 3
    assert len(received) == len(SECRETS)
    seen = " ".join([*received, *examples, *examples.values()]).casefold()
    for plain in ("alarm", "garage", "tresor", "4711", "0815", "90 cm"):
        assert plain not in seen


def test_another_key_a_wrong_completion_and_a_fact_not_learned_are_not_known(
    learned: tuple[str, dict[str, str], list[str]],
) -> None:
    address, examples, _ = learned
    sealer, other = Sealer(bytes(32)), Sealer(b"k" * 32)
    link = open_link(address, "token", "home1")
    pin, door = list(SECRETS)[:2]
    examples[other.pseudonym(pin)] = sealer.mask(pin, "4711")  # masked under a key that is not the asker's
    examples[sealer.pseudonym(door)] = sealer.mask(pin, "4711")  # what belongs to another object
    for key, question in [(sealer, f"{pin}?"), (other, f"{pin}?"), (sealer, f"{door}?")]:
        answer = ask_sealed(question, SECRETS, key, link)
        assert answer is not None
        assert (answer.outcome, answer.value) == (Outcome.UNKNOWN, None)


def test_a_question_about_nothing_sealed_is_left_to_others(
    learned: tuple[str, dict[str, str], list[str]],
) -> None:
    address, _, received = learned
    assert (
        ask_sealed("Is the light on?", SECRETS, Sealer(bytes(32)), open_link(address, "t", "home1")) is None
    )
    assert received == []
