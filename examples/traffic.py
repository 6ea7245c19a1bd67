"""Writes public data sets as recorded traffic of a model. It knows no twin; a twin collects what it writes.

    python examples/traffic.py intake ../shared/data/model/mts-dialog out/intake.jsonl --sessions 100

The data sets say who said what, and not when: lines are a second apart from an arbitrary beginning.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import sys
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import httpx

BEGAN_S = 1_700_000_000
ANSWER_S_MAX = 300
INTAKE = "You are a clinician. Ask the patient what you need to know, one question at a time."
DESK = "You route messages to a support desk. Answer with JSON: the intent and the category of the message."
TUTOR = "You tutor Italian. Lead the student to say, in Italian, that something {}. Hint; do not tell it all."
RESEARCH = "You answer questions for research. Keep to every instruction about the form of the answer."

Json = dict[str, Any]
Ask = Callable[[Json], Json]
Said = tuple[str, Json, Json]
"""A session, a request and its response."""


def intake(folder: Path) -> Iterator[Said]:
    """MTS-Dialog: what a clinician says after each turn of a patient or their family."""
    with (folder / "MTS-Dialog-TrainingSet.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            messages = [{"role": "system", "content": INTAKE}]
            for role, said in groupby(
                map(_spoken, row["dialogue"].strip().splitlines()), lambda turn: turn[0]
            ):
                text = "\n".join(text for _, text in said if text)
                if role == "assistant" and messages[-1]["role"] == "user":
                    yield f"mts-{row['ID']}", _request(messages), _response(text)
                messages.append({"role": role, "content": text})


def tutor(folder: Path) -> Iterator[Said]:
    """CIMA: a conversation with a student, and how each of several tutors went on."""
    dialogues = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))["prepDataset"]
    for name, one in dialogues.items():
        system = TUTOR.format(f"{one['engPrep']} {one['engColor']} {one['engObj']}")
        messages = [{"role": "system", "content": system}]
        for number, text in enumerate(one["past_convo"]):
            messages.append({"role": ("assistant", "user")[number % 2], "content": text.strip()})
        for answer in one["tutorResponses"]:
            yield f"cima-{name}", _request(messages), _response(answer)


def desk(folder: Path) -> Iterator[Said]:
    """Bitext: a customer's message, and the intent and category that people gave it, as JSON."""
    path = folder / "Bitext_Sample_Customer_Service_Training_Dataset.csv"
    with path.open(newline="", encoding="utf-8-sig") as file:
        for number, row in enumerate(csv.DictReader(file)):
            said = [{"role": "system", "content": DESK}, {"role": "user", "content": row["utterance"]}]
            answer = json.dumps({"intent": row["intent"], "category": row["category"]})
            yield f"bitext-{number}", _request(said), _response(answer)


def research(folder: Path, ask: Ask) -> Iterator[Said]:
    """IFEval: its prompts that forbid commas; it has no answers, so that `ask` gives them."""
    with (folder / "ifeval.jsonl").open(encoding="utf-8") as file:
        for line in map(json.loads, file):
            if "punctuation:no_comma" in line["instruction_id_list"]:
                said = [{"role": "system", "content": RESEARCH}, {"role": "user", "content": line["prompt"]}]
                yield f"ifeval-{line['key']}", _request(said), ask(_request(said))


def drawn(said: Iterator[Said], sessions: int) -> Iterator[Said]:
    """So many sessions, drawn at random but always the same, in their order; all where there are no more."""
    lines = list(said)
    names = list(dict.fromkeys(name for name, _, _ in lines))
    chosen = set(random.Random(0).sample(names, min(sessions, len(names))))
    return (line for line in lines if line[0] in chosen)


def write(said: Iterator[Said], workload: str, path: Path) -> int:
    """Write one exchange a line; how many there are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for client, request, response in said:
            line = {
                "timestamp": BEGAN_S + count,
                "workload_id": workload,
                "client_id": client,
                "request": request,
                "response": response,
            }
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            count += 1
    return count


def _spoken(line: str) -> tuple[str, str]:
    """Who speaks in a line of a dialogue, and what; all but clinicians are on the patient's side."""
    speaker, colon, text = line.strip().partition(":")
    if not colon:
        return "user", line.strip()
    return ("assistant" if speaker.startswith(("Doctor", "Docotr", "Guest_clini")) else "user"), text.strip()


def _request(messages: list[Json]) -> Json:
    return {"model": "primary", "messages": list(messages)}


def _response(text: str) -> Json:
    message = {"role": "assistant", "content": text.strip()}
    return {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
    }


def _primary(url: str | None) -> Ask:
    if url is None:
        sys.exit(
            "research: the data set has no answers; give a model that answers, --primary http://host:port/v1"
        )
    client = httpx.Client(timeout=ANSWER_S_MAX)

    def ask(request: Json) -> Json:
        answer = client.post(f"{url.rstrip('/')}/chat/completions", json=request)
        answer.raise_for_status()
        found: Json = answer.json()
        return found

    return ask


def main() -> None:
    """Write the traffic of one application."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("application", choices=["intake", "tutor", "desk", "research"])
    parser.add_argument("folder", type=Path, help="where the data set lies")
    parser.add_argument("out", type=Path, help="the JSONL file to write")
    parser.add_argument("--primary", help="of research: the URL of a model that answers, up to /v1")
    parser.add_argument("--sessions", type=int, help="so many sessions, drawn at random; else all")
    given = parser.parse_args()
    try:
        if given.application == "research":
            said = research(given.folder, _primary(given.primary))
        else:
            said = {"intake": intake, "tutor": tutor, "desk": desk}[given.application](given.folder)
        if given.sessions is not None:
            said = drawn(said, max(given.sessions, 0))
        print(write(said, given.application, given.out), "exchanges in", given.out)
    except (OSError, httpx.HTTPError) as error:
        sys.exit(f"{given.application}: {error}")


if __name__ == "__main__":
    main()
