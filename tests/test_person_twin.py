"""The whole way of a person from sources to an answer: collected once, quoted with care, forgotten."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

from llmtwin.edge.locks import sending
from llmtwin.edge.outbox import PushOptions, push
from llmtwin.edge.store import EdgeStore
from llmtwin.errors import Conflict, InputError, NotFound
from llmtwin.memory import Memory
from llmtwin.records import Outcome, Prompt
from llmtwin.settings import Settings
from llmtwin.twin import Twin
from llmtwin.twins.kind import ALL, Voice
from llmtwin.twins.person import collect
from llmtwin.twins.person.kind import PersonKind
from llmtwin.twins.person.voices import select
from tests.models import tiny_base

SQLITE = """# Moving our tests to SQLite

We moved the whole test suite from PostgreSQL to SQLite last week. It runs in forty seconds now, and nobody
misses the containers. The one thing that broke was a trigger that nobody remembered writing.
"""
GARDEN = """# The garden in winter

The garlic went in late this year. I covered the beds with oak leaves and left the kale
standing for the birds.
"""
WORDS = ["bedroom", "lamp", "kitchen", "light", "front", "door", "code", "river", "stone", "bridge", "window"]
PRIVATE = """# Phone numbers

Call me at +44 20 7946 0958 or write to ann@example.org, and bring the spare key of the shed with you.
"""


pytestmark = pytest.mark.usefixtures("settings")


@pytest.fixture
def twin() -> Iterator[Twin]:
    with Twin.new("me", "person") as made:
        yield made


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    for name, text in (("sqlite.md", SQLITE), ("garden.md", GARDEN), ("private.md", PRIVATE)):
        (folder / name).write_text(text)
    return folder


def remembered(settings: Settings, words: str) -> list[str]:
    """The texts in the server's prompt database that share words with these."""
    with Memory(settings.server_folder / "memory.sqlite") as memory:
        return [prompt.text for prompt in memory.search("me", words)]


def test_what_may_be_quoted_is_remembered_and_what_is_private_stays(
    twin: Twin, notes: Path, settings: Settings
) -> None:
    found = twin.collect(notes)
    assert found.documents == 3 and found.pushed.left == 0 and not found.pushed.refused
    assert "forty seconds" in remembered(settings, "test suite SQLite")[0]
    assert not any("7946" in text or "example.org" in text for text in remembered(settings, "call write key"))


def test_two_twins_may_have_the_same_documents(twin: Twin, notes: Path) -> None:
    first = twin.collect(notes)
    with Twin.new("her", "person") as other:
        second = other.collect(notes)
        assert first.prompts == second.prompts == 2
        assert first.pushed.refused == second.pushed.refused == ()
        for one in (twin, other):
            assert "to SQLite last week" in one.ask("What did I write about the tests in SQLite?").text


def test_collecting_again_takes_in_only_what_is_new_or_changed(
    twin: Twin, notes: Path, settings: Settings
) -> None:
    twin.collect(notes)
    again = twin.collect(notes)
    assert (again.documents, again.prompts) == (0, 0)
    (notes / "garden.md").write_text(GARDEN.replace("garlic", "spinach"))
    (notes / "copy.md").write_text(SQLITE)
    changed = twin.collect(notes)
    assert changed.documents == 1 and changed.pushed.left == 0
    assert any("copy.md" in one.name and "repeats" in one.reason for one in changed.skipped)
    texts = remembered(settings, "garden garlic spinach beds")
    assert any("spinach" in text for text in texts) and not any("garlic" in text for text in texts)


def test_a_name_that_a_later_mail_gives_away_is_taken_back(
    twin: Twin, tmp_path: Path, settings: Settings
) -> None:
    folder = tmp_path / "words"
    folder.mkdir()
    (folder / "trip.md").write_text("# The trip\n\nWe drove up with Tovrak Ilmen and slept in the old hut.\n")
    twin.collect(folder)
    assert remembered(settings, "hut")
    mail = folder / "sent.eml"
    mail.write_text(
        "From: Ann Lee <ann@lee.org>\nTo: Tovrak Ilmen <tovrak@ilmen.org>\nSubject: The hut\n"
        "Date: Mon, 05 May 2025 10:00:00 +0000\n\nHi Tovrak Ilmen,\n\nthank you for the drive.\n\nAnn\n"
    )
    twin.collect(folder, names=["Ann Lee"])
    assert not remembered(settings, "hut drove slept")


MAIL = """From: Ann Lee <ann@lee.org>
To: list@boats.org
Subject: The hull
Message-ID: <1@lee.org>
Date: Mon, 05 May 2025 10:00:00 +0000

We sanded the hull of the boat and painted it green before the rain came.
"""
FOOTER = "\nThe list of the harbour wishes all sailors a good wind and a calm sea.\n"


def test_two_versions_of_one_thing_are_one_document_and_leave_no_prompt_behind(
    twin: Twin, tmp_path: Path, settings: Settings
) -> None:
    for folder, text in (("inbox", MAIL), ("list", MAIL + FOOTER)):
        (tmp_path / folder).mkdir()
        _file(tmp_path / folder / "hull.eml", text)
    places = [tmp_path / "inbox", tmp_path / "list"]
    found = twin.collect(*places)
    assert (found.documents, found.prompts) == (1, 1)
    assert "harbour" in remembered(settings, "hull sanded")[0]
    for order in (places, places[::-1]):
        assert twin.collect(*order).documents == 0
    assert twin.forget_source("mail").prompts == 1
    assert not remembered(settings, "hull sanded green harbour sailors")


def test_what_was_collected_is_forgotten_by_the_name_of_where_it_was(
    twin: Twin, notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _file(tmp_path / "notes#old.md", SQLITE + GARDEN)
    _file(notes / os.fsdecode(b"caf\xe9.md"), "I write best where others talk.")
    (tmp_path / "link").symlink_to(notes)
    for name, text in (("one", MAIL), ("two", MAIL.replace("1@", "2@").replace("hull", "mast"))):
        _file(tmp_path / f"{name}.mbox", f"From ann@lee.org Mon May  5 10:00:00 2025\n{text}")
    chat = "05/05/2025, 10:0{0} - Bob: Where?\n05/05/2025, 10:0{1} - Ann: By the {2}.\n"
    for name, place in (("Bob", "pier"), ("Bobby", "lock")):
        said = "".join(chat.format(2 * n, 2 * n + 1, f"{place} {n}") for n in range(3))
        _file(tmp_path / f"WhatsApp Chat with {name}.txt", said.replace("- Bob:", f"- {name}:"))
    sources = (notes, *(place for place in sorted(tmp_path.iterdir()) if place.suffix))
    assert twin.collect(*sources, names=["Ann", "ann@lee.org"]).documents == 5 + 2 + 6
    assert twin.forget_source("link/garden.md").documents == (str(notes / "garden.md"),)
    assert twin.forget_source("one.mbox").documents == ("mid:1@lee.org",)
    assert len(twin.forget_source("whatsapp:Bob").documents) == 3
    assert len(twin.forget_source("./WhatsApp Chat with Bobby.txt").documents) == 3
    assert len(twin.forget_source("./link/").documents) == 3
    assert [one.place for one in twin._store.documents()] == [
        str(tmp_path / name) for name in ("notes#old.md", "two.mbox")
    ]
    for nothing in ("", "two", "one.mbox"):
        with pytest.raises(NotFound, match="mail"):
            twin.forget_source(nothing)


def test_what_was_kept_without_a_place_is_forgotten_by_it_once_it_is_found_again(
    twin: Twin, tmp_path: Path, settings: Settings
) -> None:
    box = _file(tmp_path / "sent.mbox", f"From ann@lee.org Mon May  5 10:00:00 2025\n{MAIL}")
    twin.collect(box, names=["ann@lee.org"])
    (kept,) = collect.written(twin._store.known())
    unplaced = kept.model_copy(update={"item": kept.item.model_copy(update={"place": ""})})
    earlier = twin._store.documents()[0].model_copy(update={"place": "", "body": unplaced.model_dump_json()})
    twin._store.record((), (), "", [earlier])
    with pytest.raises(NotFound):
        twin.forget_source(str(box))
    assert twin.collect(box).documents == 1
    assert "sanded" in remembered(settings, "hull")[0] and twin.collect(box).documents == 0
    assert twin.forget_source(str(box)).documents == ("mid:1@lee.org",)
    assert not remembered(settings, "hull")


def test_a_feed_that_only_announces_a_post_does_not_take_its_place(
    twin: Twin, tmp_path: Path, settings: Settings
) -> None:
    post = f"<content:encoded><![CDATA[<p>{GARDEN.split(chr(10), 2)[2]}</p>]]></content:encoded>"
    teaser = "<description>The garlic is in, and there is more to read behind this link.</description>"
    feed = (
        '<rss version="2.0" xmlns:content="http://purl.org/rss/1.0/modules/content/"><channel><item>'
        "<title>The garden</title><link>https://blog.org/garden</link>{}</item></channel></rss>"
    )
    announced = _file(tmp_path / "new.xml", feed.format(teaser))
    assert twin.collect(announced).documents == 1
    assert twin.collect(_file(tmp_path / "old.xml", feed.format(teaser + post))).documents == 1
    again = twin.collect(announced)
    assert again.documents == 0 and any("blog.org" in one.name for one in again.skipped)
    assert ["oak leaves" in text for text in remembered(settings, "garlic read link")] == [True]


def test_ones_own_name_that_was_taken_for_anothers_is_quoted_and_learned_once_it_is_told(
    twin: Twin, tmp_path: Path, settings: Settings
) -> None:
    folder = tmp_path / "words"
    folder.mkdir()
    _file(folder / "boat.md", "# The boat\n\nThe boat is called Ann, as I am, and lies in the harbour.\n")
    for number in range(3):
        words = " ".join(random.Random(number).choices(WORDS, k=500))
        (folder / f"{number}.eml").write_text(
            f"From: Ann Lee <ann@lee.org>\nTo: bob@x.org\nSubject: Words\nMessage-ID: <{number}@lee.org>\n\n"
            f"{words}.\n\nBest,\nAnn\n"
        )
    twin.collect(folder)
    assert not remembered(settings, "harbour")
    twin.collect(folder / "boat.md", names=["Ann Lee"])
    assert any("called Ann" in text for text in remembered(settings, "harbour"))
    lessons = PersonKind().lessons(twin._store.known(), ALL, len, bytes(32))
    said = [*lessons.held_out.values(), *(one.completion for one in lessons.examples)]
    assert {text.split()[-1] for text in said if "Best,\n" in text} == {"Ann"}
    assert twin.collect(folder).documents == 0


def test_an_empty_folder_is_named_and_nothing_is_kept(twin: Twin, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty"):
        twin.collect(tmp_path / "empty")
    assert twin.collect(_file(tmp_path / "one.md", GARDEN)).documents == 1


def test_a_few_messages_are_too_few_for_a_voice_but_give_a_memory(
    twin: Twin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, text in enumerate((SQLITE, GARDEN, "# Tea\n\nI take it with milk.\n")):
        _file(tmp_path / f"{number}.md", text)
    twin.collect(*sorted(tmp_path.glob("*.md")))
    monkeypatch.setattr("llmtwin.serving.base", lambda settings: tiny_base(tmp_path / "base", "llama"))
    with pytest.raises(InputError, match=r"1000 words.*memory"):
        twin.tune()
    answer = twin.ask("How long does the test suite take with SQLite?")
    assert answer.outcome is Outcome.ANSWERED and "whole test suite from PostgreSQL to SQLite" in answer.text
    assert [use.text for use in answer.receipts.prompts if "forty seconds" in use.text]


def test_a_voice_is_learned_and_measured_and_what_was_written_since_is_noticed(
    twin: Twin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny_base(tmp_path / "base", "llama")
    monkeypatch.setattr("llmtwin.serving.base", lambda settings: base)
    rng = random.Random(0)
    for number in range(48):
        said = [" ".join(rng.choices(WORDS, k=9)).capitalize() + "." for _ in range(3)]
        _file(tmp_path / f"{number}.md", f"# About {number}\n\n" + "\n\n".join(said))
    twin.collect(*sorted(tmp_path.glob("*.md")))
    assert len(twin._store.unlearned()) == 48
    figures = twin.tune(options=replace(PersonKind().tuning(), learning_rate=5e-3)).card.figures
    assert figures["preferences"] >= 1 and figures["examples"] > 48
    assert 0 < figures["bits_per_char"] < figures["bits_per_char_base"]
    for what in ("sentence_length", "punctuation", "function_words"):
        assert 0 <= figures[f"style_{what}"] <= 1 and 0 <= figures[f"style_{what}_base"] <= 1
    assert 0 <= figures["copied_share_max"] <= 1 and figures["copied_words_max"] >= 0
    assert not twin._store.unlearned()
    twin.collect(_file(tmp_path / "new.md", GARDEN))
    assert [one.address for one in twin._store.unlearned()] == [str(tmp_path / "new.md")]


def test_a_better_voice_goes_live_and_a_worse_one_is_kept_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is learned, the newest and longest document is held out."""
    torch.set_num_threads(1)
    monkeypatch.setenv("LLMTWIN_BASE", str(tiny_base(tmp_path / "base", "llama").folder))
    monkeypatch.setenv("LLMTWIN_ENGINE", "torch")
    folder = tmp_path / "written"
    folder.mkdir()
    for number, words in enumerate((50, 50, 50, 900)):
        said = " ".join(random.Random(number).choices(WORDS, k=words))
        _file(folder / f"{number}.md", f"---\ndate: 2024-01-0{number + 1}\n---\n{said}.\n")
    with Twin.new("me", "person") as twin:
        twin.collect(folder)
        _set_rate(monkeypatch, 1e-3)
        assert twin.tune().card.notes == ("held-out text against the base: pass",)
        assert twin._store.learned(1) == {str(folder / f"{number}.md") for number in range(3)}

        _file(folder / "old.md", f"---\ndate: 2023-01-01\n---\n{GARDEN}")
        twin.collect(folder)
        _set_rate(monkeypatch, 1e-5)
        with pytest.raises(
            Conflict, match=r"bits a character more than version 1 .*: the version in use stays"
        ):
            twin.watch()
        assert twin.card().version == 1
        assert [one.address for one in twin._store.unlearned()] == [str(folder / "old.md")]
        assert twin._store.queued_count() == 0
        assert [made.name for made in (twin._store.folder / "adapters").iterdir()] == ["1"]

        _set_rate(monkeypatch, 4e-3)
        better = twin.watch().relearned
        assert better is not None and better.card.notes == ("held-out text against version 1: pass",)
        assert better.card.figures["gate_difference_low"] > 0
        assert twin.card() == better.card
        twin.roll_back()
        twin.tune()  # no better and no worse than version 2, but compared with version 1, which is live again
        assert twin.card().notes == ("held-out text against version 1: pass",)


def _set_rate(monkeypatch: pytest.MonkeyPatch, learning_rate: float) -> None:
    options = replace(PersonKind().tuning(), learning_rate=learning_rate)
    monkeypatch.setattr(PersonKind, "tuning", lambda self, count=0: options)


def test_a_voice_may_be_of_one_audience_or_time_and_nothing_is_no_voice(
    twin: Twin, notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny_base(tmp_path / "base", "llama")
    monkeypatch.setattr("llmtwin.serving.base", lambda settings: base)
    twin.collect(notes)
    with pytest.raises(InputError, match="0 documents"):
        twin.tune(voice=Voice(audience="mail"))
    with pytest.raises(InputError, match="0 documents"):
        twin.tune(voice=Voice(until=datetime(1999, 1, 1, tzinfo=UTC)))


def test_a_source_is_forgotten_with_all_that_was_made_of_it(
    twin: Twin, notes: Path, settings: Settings
) -> None:
    twin.collect(notes)
    with pytest.raises(NotFound, match="notes"):
        twin.forget_source("mail")
    gone = twin.forget_source(str(notes / "sqlite.md"))
    assert gone.prompts >= 1 and len(gone.documents) == 1
    assert not remembered(settings, "suite SQLite trigger")
    assert remembered(settings, "garlic beds")
    for file in (*settings.edge_folder.rglob("*"), *settings.server_folder.rglob("*")):
        assert not file.is_file() or b"forty seconds" not in file.read_bytes(), file
    assert twin.collect(notes).documents == 1


def test_killed_while_collecting_nothing_is_doubled(twin: Twin, notes: Path, settings: Settings) -> None:
    """Killed at many moments, and run to its end: the edge holds each document and each prompt once."""
    script = "import sys; from llmtwin.twin import Twin; Twin.open('me').collect(sys.argv[1])"
    for wait_s in (0.3, 0.9, 1.5, 2.5):
        process = subprocess.Popen([sys.executable, "-c", script, str(notes)], env={**os.environ})
        try:
            process.wait(timeout=wait_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
    twin.collect(notes)
    with sqlite3.connect(settings.edge_folder / "me" / "edge.sqlite") as database:
        assert database.execute("SELECT count(*) FROM document").fetchone() == (3,)
        assert database.execute("SELECT count(*) FROM outbox").fetchone() == (0,)
    texts = remembered(settings, "SQLite garden suite garlic")
    assert len(texts) == len(set(texts)) == 2


def test_a_password_or_key_is_neither_quoted_nor_learned(
    twin: Twin, tmp_path: Path, settings: Settings
) -> None:
    secrets = ("correcthorse", "sk-proj-Ab3dEf6hIj9lMn2pQr5t")
    told = f"At the bank, password: {secrets[0]}, and for the model I use {secrets[1]} now."
    for number in range(3):
        words = " ".join(random.Random(number).choices(WORDS, k=500))
        _file(tmp_path / f"{number}.md", f"# Logins\n\n{told}\n\n# Words\n\n{words}.\n")
    twin.collect(*sorted(tmp_path.glob("*.md")))
    assert remembered(settings, "river") and not remembered(settings, "bank password model")
    lessons = PersonKind().lessons(twin._store.known(), ALL, len, bytes(32))
    said = [*lessons.held_out.values(), *(one.prompt + one.completion for one in lessons.examples)]
    assert any("At the bank" in text for text in said)
    assert not any(secret in text for text in said for secret in secrets)


def test_a_source_is_forgotten_after_what_is_on_its_way_to_the_server_arrived(
    twin: Twin, notes: Path, settings: Settings
) -> None:
    twin.collect(notes)
    with EdgeStore(settings.edge_folder / "me") as other, ThreadPoolExecutor(1) as pool:
        with sending(other):
            forgetting = pool.submit(twin.forget_source, str(notes / "sqlite.md"))
            with pytest.raises(TimeoutError):
                forgetting.result(timeout=1)
            assert len(other.documents()) == 3 and remembered(settings, "suite SQLite trigger")
        assert len(forgetting.result().documents) == 1
        assert len(other.documents()) == 2 and not remembered(settings, "suite SQLite trigger")


def test_the_edge_forgets_at_the_server_before_it_tells_anew(notes: Path, settings: Settings) -> None:
    """Offline all the while: what is queued for a changed document still arrives in the right order."""
    with Twin.new("me", "person") as twin:
        twin.collect(notes)
        (notes / "garden.md").write_text(GARDEN.replace("late", "early"))
        found = collect.read([str(notes)], twin._store.known())
        twin._store.record((), found.prompts, found.state, found.documents)
        kinds = [item.kind.value for item in twin._store.queued(["forget", "prompt"], 10)]  # type: ignore[list-item]
        assert kinds == ["forget", "prompt"]
        done = push(twin._store, twin._link(twin._store.settings().edge_token), None, PushOptions())
        assert done.left == 0 and not done.refused
    assert any("early" in text for text in remembered(settings, "garlic year"))
    assert not any("late" in text.split() for text in remembered(settings, "garlic year"))


@pytest.fixture
def letters(notes: Path) -> Path:
    """Notes, one of a name that names somebody, beside mail and a chat with others."""
    for number, day in enumerate((5, 6)):
        (notes / f"{number}.eml").write_text(
            "From: Ann Lee <ann@lee.org>\nTo: Tovrak Ilmen <tovrak@ilmen.org>\nSubject: The hut\n"
            f"Message-ID: <{number}@host.lee.org>\nDate: Mon, 0{day} May 2025 10:00:00 +0000\n\n"
            "The roof of the hut must be mended before the winter comes.\n\n"
            + "Hi Tovrak Ilmen,\n\nthank you for the drive.\n"
            * number
        )
    (notes / "WhatsApp Chat with Bob Miller.txt").write_text(
        "05/05/25, 10:00 - Bob Miller: Where is the key?\n"
        "05/05/25, 10:01 - Ann Lee: The boat lies in the harbour.\n"
    )
    (notes / "for-tovrak-ilmen.md").write_text(
        "# Winter\n\nThe stove in the hut smokes when the wind is east.\n"
    )
    return notes


NAMES = ["Ann Lee", "ann@lee.org"]


def told(prompt: Prompt) -> list[str]:
    """All that a prompt says, in its text and in its facts."""
    return [prompt.text, *(str(fact.value) for fact in prompt.facts)]


def test_no_prompt_holds_anything_private(letters: Path, twin: Twin) -> None:
    _file(letters / "Tovrak_Ilmen_review.txt", "The anchor held all night, though the wind was strong.\n")
    twin.collect(letters, names=NAMES)
    prompts = twin._owner_link().prompts()
    marker = collect.marking(collect.others(twin._store.known()))
    said = [text for prompt in prompts for text in told(prompt)]
    assert any("roof of the hut" in text for text in said) and any("boat lies" in text for text in said)
    assert any("stove" in text for text in said)
    assert not any(marker.mark(text) for text in said)
    plain = " ".join(said).casefold()
    assert not any(
        name in plain for name in ("tovrak", "ilmen", "bob", "miller", "mid:", str(letters.parent).casefold())
    )
    values = {
        str(fact.value) for prompt in prompts for fact in prompt.facts if fact.path.endswith("/address")
    }
    assert values == {"mail", "whatsapp", "notes", "sqlite.md", "garden.md"}


def test_what_was_written_to_somebody_is_found_though_the_server_does_not_know_to_whom(
    letters: Path, twin: Twin, settings: Settings
) -> None:
    twin.collect(letters, names=NAMES)
    for whom in ("Tovrak", "Ilmen", "tovrak@ilmen.org"):
        answer = twin.ask(f"What did I write to {whom} about the roof of the hut?")
        assert "must be mended" in answer.text and "2025-05-05, The hut, mail" in answer.text, whom
    assert "harbour" in twin.ask("What did I write to Bob Miller about the boat?").text
    assert "harbour" not in twin.ask("What did I write to Tovrak about the boat?").text
    assert "must be mended" in twin.ask("What about the roof of the hut in my mails?").text
    assert "nothing to Zaphod." in twin.ask("What did I write to Zaphod about the hut?").text
    assert "harbour" in twin.ask("What did I write to Tovrak Ilmen and Bob Miller about the boat?").text
    assert "nothing to Bob and Zaphod." in twin.ask("What did I write to Bob and Zaphod?").text
    assert [
        item.audience
        for item in select([one.item for one in collect.written(twin._store.known())], "chat:Bob Miller")
    ]
    assert twin.forget_source("mail").prompts == 1
    assert not remembered(settings, "roof mended")


def test_a_card_says_for_what_a_voice_is_and_not_for_whom() -> None:
    assert str(Voice(audience="mail:tovrak@ilmen.org")) == "for mail"


def test_what_was_told_of_an_audience_is_told_again_under_another_key(letters: Path, twin: Twin) -> None:
    twin.collect(letters, names=NAMES)
    twin.rotate_seal_key()
    assert "must be mended" in twin.ask("What did I write to Tovrak about the roof of the hut?").text
    assert twin.collect(letters).documents == 0


def _file(path: Path, text: str) -> Path:
    path.write_text(text)
    return path
