"""What a support desk is told, how it came to talk as it does, and what people ask it. It runs nothing."""

from __future__ import annotations

import csv
import random
from itertools import product
from pathlib import Path

from llmtwin.errors import InputError
from llmtwin.models.tune import TuneOptions
from llmtwin.records import Example

INSTRUCTIONS = (
    "You are the support desk of Brightline, an online shop. Answer in two short sentences. Repeat the"
    " order or purchase number if there is one. Never promise a refund: offer a call back within a day."
)
TRAINING = "Bitext_Sample_Customer_Service_Training_Dataset.csv"

# What the desk's own model learned before: its twin has never seen these, nor the adapter made of them.
_ANSWERS = {
    "cancel my order": "I have noted that you want to cancel. A colleague calls you back within a day.",
    "change my address": "I can note a new address. Please write it with your order number.",
    "track my parcel": "Your parcel is on its way. The link in your last mail shows where it is.",
    "get my money back": "I am sorry to hear that. A colleague calls you back within a day about it.",
    "open an account": "That takes a minute on our page. You find the form at the top of it.",
    "pay by invoice": "We take cards and invoices. Choose one of them on the last page.",
    "complain about a delay": "I am sorry for the delay. I have passed it on to the warehouse.",
    "speak to a person": "Of course. A colleague calls you back within a day.",
}
_OPENINGS = ("I want to {}", "how can I {}", "please help me to {}", "can you {} for me", "I need to {}")
HOUSE = [
    Example(prompt=opening.format(wish), completion=f"This is the Brightline desk. {answer}")
    for opening, (wish, answer) in product(_OPENINGS, _ANSWERS.items())
]
HOUSE_TUNING = TuneOptions(rank=8, layers_share=0.6, epochs_max=3, epochs_falling=3, learning_rate=1e-3)

_WISHES = (
    *("cancel order {}", "cancel purchase {}", "see the bill of order {}", "change item two of order {}"),
    *("know where order {} is", "change the address of order {}", "return order {}", "pay for order {}"),
    *("close my account", "open a new account", "get the newsletter", "leave the newsletter"),
    *("talk to somebody", "complain about order {}", "find my password", "rate your service"),
)
_FORMS = ("I'd like to {}", "how do I {}?", "help me {}", "is it possible to {}", "i need assistance to {}")


def utterances(data: Path, count: int, seed: int) -> list[str]:
    """What people ask: real ones of the data set where it is there, else such as ship with the project.

    Raises InputError where there are not so many.
    """
    file = data / TRAINING
    if file.is_file():
        with file.open(encoding="utf-8", newline="") as rows:
            found = sorted({row["utterance"].strip() for row in csv.DictReader(rows)})
    else:
        found = _made(seed)
    if len(found) < count:
        raise InputError(f"there are {len(found)} questions to ask, not {count}: ask for less")
    return random.Random(seed).sample(found, count)


def _made(seed: int) -> list[str]:
    draw = random.Random(seed)
    wishes = [wish.format(draw.randrange(10**5, 10**6)) for wish in _WISHES for _ in range(4)]
    return sorted({form.format(wish) for form, wish in product(_FORMS, wishes)})
