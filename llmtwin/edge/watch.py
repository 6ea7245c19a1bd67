"""Compares a twin with its home on private facts, and learns again what differs. It knows no HTTP.

The twin is asked what anybody with its adapter could ask; only the edge knows what would be right.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from llmtwin.edge import mirrored
from llmtwin.edge.learn import examples
from llmtwin.edge.link import Link
from llmtwin.edge.store import EdgeStore
from llmtwin.twins.kind import kind
from llmtwin.wire.seal import Sealer

SAMPLE = 256
RECALL_BATCH = 32


@dataclass(frozen=True)
class Discrepancy:
    """How many facts a twin was asked, the paths of those it has wrong, and the version that answered.

    `unlearned` are the addresses of the documents to learn from that came since the newest version was made.
    """

    asked: int
    wrong: tuple[str, ...]
    version: int
    unlearned: tuple[str, ...] = ()


def check(store: EdgeStore, link: Link, sealer: Sealer, sample: int = SAMPLE, seed: int = 0) -> Discrepancy:
    """Ask the live version about a random sample of its own facts.

    Raises NotFound where the twin has learned nothing yet, and as `Link.recall` does.
    """
    mirrored.take(store)
    of = kind(store.settings().kind)
    facts = examples(store, of, sealer)
    asked = random.Random(seed).sample(facts, min(sample, len(facts)))
    wrong: list[str] = []
    version = link.card().version
    for first in range(0, len(asked), RECALL_BATCH):
        batch = asked[first : first + RECALL_BATCH]
        recall = link.recall([fact.prompt for fact in batch])
        version = recall.version
        for fact, said in zip(batch, recall.completions, strict=True):
            if said.text.strip() != fact.completion and fact.path is not None:
                wrong.append(fact.path)
    unlearned = tuple(document.address for document in store.unlearned() if of.teaches(document))
    return Discrepancy(len(asked), tuple(wrong), version, unlearned)
