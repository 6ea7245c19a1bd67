"""What is private is found as people write it in chats, and so are keys, and hidden in the same shape."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtwin.twins.person.chunks import passages
from llmtwin.twins.private.chatted import CHATTED, WRITTEN
from llmtwin.twins.private.spans import Marker
from llmtwin.twins.private.stand_ins import stand_ins
from tests.person_texts import KEY, needs_person_data, notes, peps

MARKER = Marker(also=CHATTED)


def hidden(text: str) -> str:
    return stand_ins(text, MARKER.mark(text), KEY)


def shape(text: str) -> str:
    return re.sub("[a-z]", "a", re.sub("[A-Z]", "A", re.sub(r"\d", "0", text)))


NUMBERS = [
    "4111 1111 1111 1111",
    "4111.1111.1111.1111",
    "4111 - 1111 - 1111 - 1111",
    "4111111111111111",
    "3782 822463 10005",
    "de89 3704 0044 0532 0130 00",
    "DE89-3704-0044-0532-0130-00",
    "gb29nwbk60161331926819",
    "fr14 2004 1010 0505 0001 3m02 606",
    "4155552671",
    "415.555.2671",
    "415 555 2671",
    "+1 415-555-2671",
    "07700 900123",
    "+49 151 1234 5678",
    "(415)555-2671",
    "415 - 555 - 2671",
]
MAILS = [
    "anna.k@example.org",
    "anna @ example.org",
    "anna(at)example(dot)org",
    "anna [at] example [dot] org",
    "anna at example dot com",
    "anna dot k at example dot co dot uk",
    "ANNA AT EXAMPLE DOT COM",
    "anna@example . com",
]
KEYS = [
    "sk-proj-Ab3dEf6hIj9lMn2pQr5t",
    "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "AKIAIOSFODNN7EXAMPLE",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N",
    "AIzaSyD-9tSrke72PouQMnMX-a7eZSW0jkFMBWY",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nIBAAKCAQEA7\n-----END RSA PRIVATE KEY-----",
]


@pytest.mark.parametrize("said", NUMBERS)
def test_numbers_are_found_however_they_are_typed(said: str) -> None:
    text = f"yes my number is {said} 12/27 please"
    after = hidden(text)
    assert said not in after
    assert shape(after) == shape(text)


@pytest.mark.parametrize("said", MAILS)
def test_mail_addresses_are_found_however_they_are_spelled(said: str) -> None:
    after = hidden(f"write to {said} please")
    assert "anna" not in after.lower() and "example.org" not in after.lower()
    assert after.startswith("write to ") and after.endswith(" please") and "example" in after


def test_an_address_is_the_same_other_one_however_it_is_spelled() -> None:
    typed, spelled = hidden("anna.kay@example.org"), hidden("anna dot kay at example dot org")
    assert spelled.replace(" dot ", ".").replace(" at ", "@") == typed


@pytest.mark.parametrize("said", KEYS)
def test_keys_are_found_by_their_form(said: str) -> None:
    after = hidden(f"it is {said}, why?")
    assert said not in after
    assert shape(after) == shape(f"it is {said}, why?")


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "wJalrXUtnFEMI"),
        ("my password is hunter2hunter!", "hunter2hunter"),
        ("password: letmein", "letmein"),
        ('{"api_key": "9f8e7d6c5b4a"}', "9f8e7d6c5b4a"),
        ("the token for the staging shop is Zk3-99-pQ71x.", "Zk3-99-pQ71x"),
        ("Authorization: Bearer 7Fq9vLr2Xw8Zt1Kb", "7Fq9vLr2Xw8Zt1Kb"),
        ("postgres://shop:s3cr3t!@db.internal/x", "s3cr3t!"),
        ("the pin is 4821", "4821"),
    ],
)
def test_secrets_are_found_by_their_label(text: str, secret: str) -> None:
    assert secret in text and secret not in hidden(text)


@pytest.mark.parametrize(
    "text",
    [
        "cancel order 732201349959 and purchase 00004587345 and 00123842",
        "On 01/02/2024 10:15, 01.02.2024 or 2024-05-01 at 10:15:30.",
        "I bought it at example.com, 3 pieces @ 12.50.",
        "I forgot my password, how do I reset the key question? It has a basic understanding.",
        "It is 0.255918106206011 or 1700000000; see 192.168.100.200.",
        "commit 7d6fddc5fe258d3328cd8e3d7d3e02234c5d70e0",
        "12 34 56 78 90 12 34 56 78 90",
    ],
)
def test_ordinary_chat_is_left_alone(text: str) -> None:
    assert hidden(text) == text


@pytest.mark.parametrize("said", KEYS)
def test_keys_are_found_in_writing_by_their_form(said: str) -> None:
    assert marked_in_writing(f"it is {said}, why?")


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("The wifi password is hunter2horse.", "hunter2horse."),
        ("Password: correcthorse", "correcthorse"),
        ("the token for the staging shop is Zk3-99-pQ71x and works", "Zk3-99-pQ71x"),
        ("Authorization: Bearer 7Fq9vLr2Xw8Zt1Kb", "7Fq9vLr2Xw8Zt1Kb"),
        ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfi", "wJalrXUtnFEMI/K7MDENG/bPxRfi"),
        ("the api key of the shop is Zk3-99-pQ71x now", "Zk3-99-pQ71x"),
        ("The Wi-Fi password is sunflower", "sunflower"),
        ("Password for the router: Sonnenblume", "Sonnenblume"),
        ("PIN for the card: 4321", "4321"),
        ("the PIN for the card is 4321", "4321"),
        ("the pin is 4821", "4821"),
    ],
)
def test_secrets_are_found_in_writing_where_they_are_told(text: str, secret: str) -> None:
    assert marked_in_writing(text) == [secret]


@pytest.mark.parametrize(
    "text",
    [
        "The key is the value, and a password no secret in 2024: see [1Password](https://1password.com/a1).",
        "I keep tokens in `~/.ssh/id_ed25519.pub` and ran `pip install pypi-datasette-packages` there.",
        "def sort_key(item): return item.attr1",
        "The basic idea was GPT-4-turbo, and the key change is IPv6-only.",
        "It hangs in `sk_stream_wait_memory` of the kernel.",
        "Password: never reuse it. The password is stored, was never sent, and is too short.",
    ],
)
def test_ordinary_writing_is_left_alone(text: str) -> None:
    assert not marked_in_writing(text)


@needs_person_data
def test_hardly_a_passage_of_real_writing_is_taken_for_one_with_a_key() -> None:
    """Even of notes about programs, which have examples of keys in them."""
    real = [p.text for one in [*notes(every=6), *peps(every=6)] for p in passages(one, len, 1000)]
    assert sum(map(bool, map(marked_in_writing, real))) < 0.02 * len(real)


def marked_in_writing(text: str) -> list[str]:
    return [text[span.start : span.end] for span in Marker(also=WRITTEN).mark(text) if span.kind == "key"]


@settings(deadline=None)
@given(st.lists(st.sampled_from([*NUMBERS, *MAILS, *KEYS]) | st.text(max_size=8)))
def test_a_second_pass_hides_what_is_hidden_and_does_not_fail(said: list[str]) -> None:
    text = " , ".join(said)
    once = hidden(text)
    twice = hidden(once)
    assert not any(one in after for one in said if one in NUMBERS + KEYS for after in (once, twice))


@pytest.mark.parametrize(
    "text", ["a" * 200_000, "a dot " * 20_000, "1 " * 20_000, "key " * 20_000, "ab12" * 20_000]
)
def test_long_texts_take_no_more_than_their_length(text: str) -> None:
    began = time.process_time()
    hidden(text)
    assert time.process_time() - began < 10
