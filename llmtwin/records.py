"""The nouns that edge, server and kinds share. They know nothing of how they are stored or sent.

All records are frozen and refuse unknown fields, NaN and times without a zone.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from typing import Annotated, Any, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    StringConstraints,
)
from ulid import ULID

TwinId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
RecordId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Path = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Value = StrictBool | StrictInt | StrictFloat | Annotated[StrictStr, Field(max_length=500)]

BEFORE_MAX = 200
"""Turns of a conversation before a question."""
MATERIAL_CHARS_MAX = 100_000
"""What goes with a question: some 16,000 words."""
LICENCE_CHARS_MAX = 2000


def new_id() -> str:
    """A fresh id that sorts by time of making (ULID)."""
    return str(ULID())


def twin_id(twin: str, rest: str) -> str:
    """An id made of content that another twin may have, too: with the twin in it, it is this one's alone."""
    return f"{sha256(twin.encode()).hexdigest()[:12]}-{rest}"


def now() -> datetime:
    """The current time, in UTC."""
    return datetime.now(UTC)


class Record(BaseModel):
    """What all records share: frozen, closed, finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Fact(Record):
    """One typed value of one property at one time: what a database filters and aggregates.

    `path` is `<entity>/<property>`, for example `light.bedroom_lamp/brightness`. `measure` is what is
    comparable between twins, for example `light.brightness`; None where nothing is.
    """

    path: Path
    value: Value
    unit: str | None = Field(default=None, max_length=32)
    at: AwareDatetime
    measure: str | None = Field(default=None, max_length=100)
    area: str | None = Field(default=None, max_length=100)


class Observation(Record):
    """A fact as it was collected at the edge, with the names a person uses and how private it is."""

    fact: Fact
    device: str = Field(max_length=200)
    property: str = Field(max_length=200)
    private: bool = False
    sealed: bool = False


class Document(Record):
    """Something that was collected whole, in its kind's own form. It is private and stays at the edge.

    `address` says which thing it is and `id` which version of it; `body` is JSON that only the kind reads.
    `place` is the file, folder or page that it was found in, where that is known.
    """

    id: Hash
    source: str = Field(min_length=1, max_length=32)
    address: str = Field(min_length=1)
    body: str
    place: str = ""

    @property
    def path(self) -> str:
        """The path of a fact that every prompt made of this document has: it is forgotten by it."""
        return f"{self.id[:40]}/title"

    def is_of(self, source: str) -> bool:
        """Whether it is the document that is named, or of that source or place.

        A place is also what stands before `#` or `@` in an address: a chat, a repository. In a path these are
        signs like others.
        """
        ends = "/" if source.startswith("/") else "/#@"
        within = tuple(f"{source.rstrip('/')}{sign}" for sign in ends)
        places = (f"{at}/" for at in (self.address, self.place) if at)
        return bool(source) and (source == self.source or any(at.startswith(within) for at in places))


class Example(Record):
    """A `<prompt, completion>` pair that an adapter learns; `path` says which fact it teaches.

    Without a prompt the completion is learned as plain text.
    """

    prompt: str
    completion: str
    path: Path | None = None


class Preference(Record):
    """Two completions of one prompt: the one that is wanted and one that is not."""

    prompt: str
    chosen: str
    rejected: str


class Trace(Record):
    """A model's reply to a conversation, and how likely it was.

    `messages` are (role, text). Of each token of the reply `tokens` has the text, and `tops` the natural
    log-probabilities of the likeliest ones at its place, by their texts; both are empty where the model did
    not say. `ended` is whether it stopped by itself.
    """

    messages: tuple[tuple[str, str], ...] = Field(min_length=1)
    completion: str
    tokens: tuple[str, ...] = ()
    tops: tuple[dict[str, float], ...] = ()
    ended: bool = True


class Correction(Preference):
    """What the owner would have answered. `paths` are those of the documents that the answer rests on."""

    paths: tuple[Path, ...] = ()


class Prompt(Record):
    """One short sentence about a subject, with its typed facts: what travels and is remembered."""

    id: RecordId = Field(default_factory=new_id)
    twin: TwinId
    text: str = Field(min_length=1, max_length=1000)
    facts: tuple[Fact, ...] = Field(default=(), max_length=32)
    at: AwareDatetime


class State(Record):
    """A fact as the prompt database holds it: whose it is, and the prompt that brought it."""

    twin: TwinId
    fact: Fact
    prompt_id: RecordId


class Statistic(StrEnum):
    """What can be asked of a number over several twins or over a time."""

    AVERAGE = "average"
    MINIMUM = "minimum"
    MAXIMUM = "maximum"
    SUM = "sum"
    COUNT = "count"


class Aggregate(Record):
    """A statistic over several twins: each twin counts once, with the mean of its own values."""

    measure: str
    statistic: Statistic
    value: float | None
    unit: str | None
    cohort_size: int
    oldest_at: AwareDatetime | None
    newest_at: AwareDatetime | None


class Property(Record):
    """One thing a device has: its live state, or the name (never the value) of a private setting."""

    name: str = Field(max_length=200)
    path: Path
    unit: str | None = Field(default=None, max_length=32)
    measure: str | None = Field(default=None, max_length=100)
    private: bool = False
    writable: bool = False
    minimum: float | None = None
    maximum: float | None = None
    options: tuple[str, ...] = Field(default=(), max_length=256)


class Device(Record):
    """A device of a twin's subject: what it is called, where it stands, what it has."""

    id: str = Field(max_length=200)
    name: str = Field(max_length=200)
    domain: str = Field(max_length=64)
    device_class: str | None = Field(default=None, max_length=64)
    area: str | None = Field(default=None, max_length=100)
    floor: str | None = Field(default=None, max_length=100)
    properties: tuple[Property, ...] = Field(default=(), max_length=256)


class Description(Record):
    """What there is to ask of a twin and to order from it; public to those who may command it."""

    devices: tuple[Device, ...] = Field(default=(), max_length=5000)


class CommandState(StrEnum):
    """The life of a command. It is never called done before the device reported it."""

    DESIRED = "desired"
    SENT = "sent"
    REPORTED = "reported"
    EXPIRED = "expired"
    REFUSED = "refused"


class Command(Record):
    """One order to one device: set `path` to `value`."""

    id: RecordId = Field(default_factory=new_id)
    twin: TwinId
    path: Path
    value: Value
    unit: str | None = None
    state: CommandState = CommandState.DESIRED
    reason: str | None = Field(default=None, max_length=500)
    created_at: AwareDatetime
    expires_at: AwareDatetime


class Material(Record):
    """A text that is given with a question, not the twin's own, and where it is from. Nobody keeps it."""

    text: str = Field(min_length=1, max_length=MATERIAL_CHARS_MAX)
    address: str = Field(min_length=1, max_length=2000)
    title: str = Field(default="", max_length=300)


class Question(Record):
    """What somebody asks a twin, and when (for `yesterday` and `now`), perhaps about a text that is given.

    `before` is what was said before it, (role, text) each; only some kinds listen to that.
    """

    twin: TwinId
    text: str = Field(min_length=1, max_length=2000)
    at: AwareDatetime = Field(default_factory=now)
    version: int | None = Field(default=None, ge=1)
    material: Material | None = None
    before: tuple[tuple[str, str], ...] = Field(default=(), max_length=BEFORE_MAX)


class AdapterUse(Record):
    """Which adapter an answer came from; how sure the model was (0 to 1), which only its owner is told."""

    version: int
    weights: Hash
    probability: float | None


class PromptUse(Record):
    """Which prompt an answer came from."""

    id: RecordId
    at: AwareDatetime
    text: str


class CohortUse(Record):
    """What is said about the other twins behind a comparison: how many, and how old. Never who."""

    size: int
    oldest_at: AwareDatetime | None
    newest_at: AwareDatetime | None


class Receipts(Record):
    """Where an answer comes from."""

    adapter: AdapterUse | None = None
    prompts: tuple[PromptUse, ...] = ()
    cohort: CohortUse | None = None


class Outcome(StrEnum):
    """What became of a question."""

    ANSWERED = "answered"
    UNKNOWN = "unknown"
    ORDERED = "ordered"
    REFUSED = "refused"


class Answer(Record):
    """What a twin answers: a sentence, the value in it, and its receipts."""

    text: str
    outcome: Outcome
    value: Value | None = None
    unit: str | None = None
    commands: tuple[Command, ...] = ()
    receipts: Receipts = Receipts()
    plan: dict[str, Any] = Field(default_factory=dict)

    def for_others(self) -> Self:
        """The same without how sure the model was: that tells what it learned from what it did not."""
        if self.receipts.adapter is None:
            return self
        used = self.receipts.adapter.model_copy(update={"probability": None})
        return self.model_copy(update={"receipts": self.receipts.model_copy(update={"adapter": used})})


class Manifest(Record):
    """What the owner's edge signs about an adapter: what it is made of and what it belongs to."""

    twin: TwinId
    version: int = Field(ge=1)
    kind: str = Field(max_length=32)
    base: Hash
    skill: Hash | None = None
    weights: Hash
    config: Hash
    card: Hash
    data: Hash
    created_at: AwareDatetime


class Format(StrEnum):
    """What a twin can be written as for others: one adapter, one file of llama.cpp, or one signed file."""

    PEFT = "peft"
    GGUF = "gguf"
    BUNDLE = "bundle"


class Licence(Record):
    """Who gave a twin away, when, and what for; after `expires_at` it is not to be used.

    `consent` is what the subject says to it in their own words; empty where nothing is on record.
    """

    by: str = Field(min_length=1, max_length=200)
    terms: str = Field(min_length=1, max_length=LICENCE_CHARS_MAX)
    consent: str = Field(default="", max_length=LICENCE_CHARS_MAX)
    given_at: AwareDatetime
    expires_at: AwareDatetime | None = None


class Provenance(Record):
    """Where somebody else's twin comes from: what they signed, their public key, and the licence."""

    manifest: Manifest
    public_key: Hash
    licence: Licence


class Card(Record):
    """The report card of one adapter version: figures measured at the edge, before signing."""

    twin: TwinId
    version: int
    kind: str
    created_at: AwareDatetime
    figures: dict[str, float] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Adapter(Record):
    """An adapter version as the registry shows it."""

    manifest: Manifest
    adapter_bytes: int
    live: bool
    withdrawn: bool = False
