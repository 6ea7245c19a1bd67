"""What came of the calls of a twin. It does nothing itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmtwin.edge.outbox import Pushed
from llmtwin.records import Card
from llmtwin.twins.kind import Skipped

if TYPE_CHECKING:
    from llmtwin.edge.watch import Discrepancy
    from llmtwin.twins.audit import Audit


@dataclass(frozen=True)
class Collected:
    """What one `collect` found in its sources: counts, what was left out and why, and the push after it.

    `items` are counted in the kind's own unit: a home's are entities, a person's what they wrote.
    `documents` are those that are new or changed. `private` and `sealed` count the facts that stay here;
    sealed ones are private too. `notes` are what else is to be known, a line each.
    """

    items: int
    documents: int
    facts: int
    private: int
    sealed: int
    prompts: int
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]
    pushed: Pushed


@dataclass(frozen=True)
class Tuned:
    """A new version: its card, and the push after it."""

    card: Card
    pushed: Pushed


@dataclass(frozen=True)
class Audited:
    """What the attacks on `version` found, the version whose card says so, and the push after it."""

    version: int
    signed: int
    found: Audit
    pushed: Pushed


@dataclass(frozen=True)
class Watched:
    """What a watch found; `relearned` is the new version, None where twin and subject agree."""

    discrepancy: Discrepancy
    relearned: Tuned | None


@dataclass(frozen=True)
class Forgotten:
    """A receipt: the addresses of the documents that went, how many prompts and corrections, and the versions
    withdrawn.

    Of a twin that went whole also how many facts; `pushed` is None of it, since nothing is left to send.
    """

    documents: tuple[str, ...]
    prompts: int
    corrections: int
    versions: tuple[int, ...]
    pushed: Pushed | None = None
    facts: int = 0
