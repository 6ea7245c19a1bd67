"""Whom a question is about stays at the edge, and the answer names them again."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from llmtwin.records import Answer, Outcome
from llmtwin.twins.person.addressed import veil
from tests.person_texts import KEY


def said(text: str) -> Answer:
    return Answer(text=text, outcome=Outcome.ANSWERED)


def test_each_word_of_a_name_has_one_stand_in_wherever_it_stands() -> None:
    veiled = veil("What did I write to Ann Lee about Ann's move?", KEY)
    found = re.fullmatch(r"What did I write to (\w+) (\w+) about (\w+)'s move\?", veiled.text)
    assert found and found[1] == found[3] != found[2] and not {"Ann", "Lee"} & set(found.groups())
    answer = veiled.unveiled(said(f"Dear {found[1]}, {found[1]} {found[2]} and {found[1]}ia."))
    assert answer.text == f"Dear Ann, Ann Lee and {found[1]}ia."


@pytest.mark.parametrize(
    "question",
    [
        "What did I write to Ann and Bob?",
        "What did I tell Ann, Bob & Eve about Bob's boat?",
        "Did I mail Ann and my sister?",
        "Write a mail to Ann Lee about the boat",
        "What did I write to ann.lee@x.org about the boat?",
    ],
)
def test_nobody_whom_a_question_is_about_is_named_and_the_answer_means_them(question: str) -> None:
    veiled = veil(question, KEY)
    assert not re.search(r"\b(?:ann|bob|eve|lee)\b", veiled.text, re.I)
    assert veiled.unveiled(said(veiled.text)).text == question


def test_a_question_about_nobody_goes_as_it_is_and_needs_no_library_of_the_extra() -> None:
    """As of an edge that asks a server and has nothing else."""
    script = (
        "import sys; from llmtwin.twins.kind import kind\n"
        "print(kind('person').veil('What of tea?', bytes(32)).text, *sys.modules)"
    )
    told, *modules = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split("?")
    assert told == "What of tea"
    assert not {"trafilatura", "snowballstemmer", "regex", "sentencex", "phonenumbers"} & set(
        " ".join(modules).split()
    )
