"""Plants what is private into exchanges with a model, and counts what of it stands in what was stored.

It knows neither how it is hidden nor where it is stored: it looks through text, as whoever finds it would.
"""

from __future__ import annotations

import json
import random
import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from stdnum import iban, luhn

from llmtwin.twins.model.redact import Json, Redactor

EACH = 20
"""Canaries of each class."""

Figures = dict[str, Any]


class Planted(StrEnum):
    """What a canary looks like. Names have no form of their own, and are counted apart."""

    MAIL = "mail"
    PHONE = "phone"
    CARD = "card"
    IBAN = "iban"
    KEY = "key"
    NAME = "name"


@dataclass(frozen=True)
class Canary:
    """Something made up and private: as it is written, and the part that nobody has by chance."""

    kind: Planted
    said: str
    secret: str


@dataclass(frozen=True)
class Spoken:
    """An exchange with a canary in it."""

    canary: Canary
    request: Json
    response: Json


_FIRST = """
    Anna Oliver Priya Mateo Chloe Kenji Fatima Lukas Ingrid Tomasz Amara Declan Sofia Hassan Mei Pedro Elena
    Nadia Gareth Yusuf
    """.split()  # noqa: SIM905 (a list of a word a line would hide the rest)
_LAST = """
    Whitfield Okafor Lindqvist Moreau Kowalski Patel Hernandez Tanaka Brennan Schneider Rossi Novak Haddad
    Bergman Castillo Fitzgerald Ivanova Nakamura Delgado Pemberton
    """.split()  # noqa: SIM905 (as above)
_HOSTS = ("example.org", "mail.example.com", "example.co.uk", "example.de")
_AREAS = ("212", "415", "312", "617", "206")
_CARDS = (("4", 16), ("51", 16), ("55", 16), ("37", 15), ("6011", 16))
_BANKS = (("DE", "", 18), ("GB", "NWBK", 14), ("NL", "ABNA", 10), ("AT", "", 16))
_SPACED = ("", " ", "-", ".", " - ")
_ASKED = {
    Planted.MAIL: (
        "please send the invoice to {} instead",
        "i cant log in, my email is {}",
        "reach me under {} ok?",
    ),
    Planted.PHONE: ("call me back, my number is {} thanks", "ring {} after 5pm", "you can text {} any time"),
    Planted.CARD: (
        "the refund should go to my card {} exp 04/29",
        "card nr {} was charged twice",
        "use {} please",
    ),
    Planted.IBAN: ("refund me to {} please", "my iban: {} and hurry", "the transfer from {} never arrived"),
    Planted.KEY: (
        "your api says 401 for my key {} why",
        "we deployed with API_KEY={} and it fails",
        "the token is {} if that helps",
    ),
    Planted.NAME: (
        "my name is {} and my parcel is lost",
        "Hi, {} here, where is my order?",
        "it was ordered by {}.",
    ),
}
_SYSTEM = "You are the support desk of a shop. Be brief and kind."


def canaries(seed: int) -> list[Canary]:
    """EACH of every class, written as people write them; the same ones for the same seed."""
    rng = random.Random(seed)
    makers = {
        Planted.MAIL: _mail,
        Planted.PHONE: _phone,
        Planted.CARD: _card,
        Planted.IBAN: _iban,
        Planted.KEY: _key,
    }
    planted = [Canary(kind, *make(rng)) for kind, make in makers.items() for _ in range(EACH)]
    names = [
        f"{first} {last}"
        for first, last in zip(rng.sample(_FIRST, EACH), rng.sample(_LAST, EACH), strict=True)
    ]
    return [*planted, *(Canary(Planted.NAME, _cased(rng, name), name) for name in names)]


def exchanges(planted: Sequence[Canary], seed: int) -> list[Spoken]:
    """One exchange a canary, in all forms in which the interfaces carry texts; the model repeats some."""
    rng = random.Random(seed)
    forms = (_chat, _parts, _tool_call, _tool_result, _completion, _responses)
    spoken = []
    for number, canary in enumerate(planted):
        asked = rng.choice(_ASKED[canary.kind]).format(canary.said)
        answer = (
            f"Thank you. I have noted {canary.said}."
            if rng.random() < 0.5
            else "Thank you, I will see to it."
        )
        spoken.append(Spoken(canary, *forms[number % len(forms)](canary, asked, answer)))
    return spoken


def standing(planted: Iterable[Canary], stored: Iterable[str]) -> list[Canary]:
    """The canaries that stand in stored texts, however those are spaced, cased or spelled."""
    told = [_plain(text) for text in stored]
    return [one for one in planted if any(_plain(one.secret) in text for text in told)]


def figures(redactor: Redactor, seed: int = 0) -> Figures:
    """How many canaries are stored with the redactor and without it: those with a form, and names apart."""
    planted = canaries(seed)
    spoken = exchanges(planted, seed)
    hidden = [redactor.exchange(one.request, one.response) for one in spoken]
    stored = Counter(one.kind for one in standing(planted, (_json(one) for one in hidden)))
    without = Counter(one.kind for one in standing(planted, (_json(one) for one in spoken)))
    formed = [kind for kind in Planted if kind is not Planted.NAME]
    return {
        "canaries": EACH * len(formed),
        "canaries_stored": sum(stored[kind] for kind in formed),
        "canaries_stored_without": sum(without[kind] for kind in formed),
        "canaries_stored_by_class": {kind.value: stored[kind] for kind in formed},
        "canaries_names": EACH,
        "canaries_names_stored": stored[Planted.NAME],
        "canaries_names_stored_without": without[Planted.NAME],
    }


def _json(exchange: Any) -> str:
    return json.dumps([exchange.request, exchange.response], ensure_ascii=False)


def _plain(text: str) -> str:
    """Nothing but letters and digits, without escapes and without `dot` as a word."""
    text = re.sub(r"\\+[nrt\"]", " ", text).casefold()
    return re.sub(r"[^a-z0-9]", "", re.sub(r"\bdot\b", "", text))


def _mail(rng: random.Random) -> tuple[str, str]:
    local = [rng.choice(_FIRST).lower(), "".join(rng.choices(string.ascii_lowercase, k=7))]
    host = rng.choice(_HOSTS)
    at, dot = rng.choice([("@", "."), ("@", "."), (" at ", " dot "), ("(at)", "(dot)"), (" @ ", ".")])
    return f"{dot.join(local)}{at}{host.replace('.', dot)}", ".".join(local)


def _phone(rng: random.Random) -> tuple[str, str]:
    """A number of the US, or a mobile one of Britain."""
    space = rng.choice(_SPACED)
    if rng.random() < 0.5:
        number = [rng.choice(_AREAS), f"{rng.randint(234, 989)}", f"{rng.randint(0, 9999):04}"]
        return rng.choice(["", "+1" + space]) + space.join(number), "".join(number)
    number = [f"{rng.randint(7400, 7499)}", f"{rng.randint(0, 999999):06}"]
    return rng.choice(["0", "+44" + (space or " ")]) + space.join(number), "".join(number)


def _card(rng: random.Random) -> tuple[str, str]:
    start, length = rng.choice(_CARDS)
    body = start + "".join(rng.choices(string.digits, k=length - len(start) - 1))
    number = body + luhn.calc_check_digit(body)
    return _grouped(number, rng.choice(_SPACED)), number


def _iban(rng: random.Random) -> tuple[str, str]:
    """One with a valid checksum, and of Germany and the Netherlands with valid account numbers."""
    while True:
        country, bank, digits = rng.choice(_BANKS)
        account = bank + "".join(rng.choices(string.digits, k=digits))
        number = country + iban.calc_check_digits(f"{country}00{account}") + account
        if iban.is_valid(number):
            break
    written = _grouped(number, rng.choice(_SPACED))
    return (written.lower() if rng.random() < 0.5 else written), account


def _key(rng: random.Random) -> tuple[str, str]:
    signs = string.ascii_letters + string.digits
    start, length = rng.choice(
        [("sk-", 40), ("ghp_", 36), ("AKIA", 16), ("eyJhbGciOiJIUzI1NiJ9.eyJ", 60), ("", 32)]
    )
    secret = "".join(rng.choices(signs.upper() if start == "AKIA" else signs, k=length))
    if start.startswith("eyJ"):
        return f"{start}{secret[:30]}.{secret[30:]}", secret
    return start + secret, secret


def _cased(rng: random.Random, name: str) -> str:
    return name.lower() if rng.random() < 0.25 else name


def _grouped(number: str, space: str) -> str:
    return space.join(number[at : at + 4] for at in range(0, len(number), 4))


def _chat(_: Canary, asked: str, answer: str) -> tuple[Json, Json]:
    messages = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": asked}]
    return {"model": "desk", "messages": messages}, _answered({"role": "assistant", "content": answer})


def _parts(_: Canary, asked: str, answer: str) -> tuple[Json, Json]:
    parts = [{"type": "text", "text": "hello"}, {"type": "text", "text": asked}]
    request = {"model": "desk", "messages": [{"role": "user", "content": parts}]}
    return request, _answered({"role": "assistant", "content": answer})


def _tool_call(canary: Canary, asked: str, _: str) -> tuple[Json, Json]:
    arguments = json.dumps({"note": asked, canary.kind.value: canary.said})
    call = {"id": "call_1", "type": "function", "function": {"name": "note", "arguments": arguments}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    return {"model": "desk", "messages": [{"role": "user", "content": asked}]}, _answered(message)


def _tool_result(canary: Canary, _: str, answer: str) -> tuple[Json, Json]:
    found = json.dumps({"customer": {canary.kind.value: canary.said}, "orders": [732201349959]})
    messages = [
        {"role": "user", "content": "what do you have on file?"},
        {"role": "tool", "tool_call_id": "call_1", "content": found},
    ]
    return {"model": "desk", "messages": messages}, _answered({"role": "assistant", "content": answer})


def _completion(_: Canary, asked: str, answer: str) -> tuple[Json, Json]:
    request = {"model": "desk", "prompt": [f"{_SYSTEM}\n\nCustomer: {asked}\nDesk:"]}
    return request, {"id": "cmpl-1", "object": "text_completion", "choices": [{"index": 0, "text": answer}]}


def _responses(_: Canary, asked: str, answer: str) -> tuple[Json, Json]:
    said = [{"role": "user", "content": [{"type": "input_text", "text": asked}]}]
    output = [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": answer}]}]
    return {"model": "desk", "instructions": _SYSTEM, "input": said}, {"id": "resp_1", "output": output}


def _answered(message: Json) -> Json:
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"id": "chatcmpl-1", "object": "chat.completion", "created": 1700000000, "choices": [choice]}
