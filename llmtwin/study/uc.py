"""The paper's service protocol and its ideal functionality F_DATA, as small state machines side by side.

Source: Hong, Wu and Morello, LLM-Twin, "Security analysis of LLM-Twin". What this shows, and what not, is in
docs/security.md. The real world signs, packs, checks and seals with `llmtwin.wire`. It knows no model: a
look-up that holds every learned pair, and answers nothing else, stands for the adapter. For what an adapter
gives away that is the worst case; what a tuned one does give away is measured by `study/privacy`.

The adversary is the dummy one: it does what the environment says and shows it all that it sees. So both
worlds have the same methods, and the environment compares what these return and what is in `view`.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Protocol

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from safetensors.numpy import load, save

from llmtwin.edge.sealed import sealed_example
from llmtwin.errors import LlmtwinError
from llmtwin.records import Card, Example, now
from llmtwin.wire.package import (
    CARD,
    CONFIG,
    WEIGHTS,
    Expect,
    Origin,
    check_package,
    data_digest,
    read_package,
    seal_package,
)
from llmtwin.wire.seal import BLOCK_BYTES, BYTES, KEY_BYTES, PSEUDONYM_BYTES, TAG_BYTES, WORDS, Sealer
from llmtwin.wire.sign import canonical, public_key_text

TWIN, KIND, BASE = "a", "home", "0" * 64

Facts = Mapping[str, str]
"""(E, P): values by what is asked for."""
Pairs = Mapping[str, str]
"""(E', P'): completions by prompts, as an adapter learns them."""
Seen = Pairs | str
"""What a corrupted C sees: a package's pairs, or a request."""
Reply = Callable[[Sequence[Pairs], str], str | None]
"""What a corrupted C answers to a request, by the packages that it has seen."""
Shape = Mapping[int, tuple[int, int]]
"""What sealing leaks of an upload: names without a meaning for its objects, and for each of these one for the
value and the words of the completion. The same object, or value of it, has the same name in every upload."""


class World(Protocol):
    """What the environment can do, and see, in either world.

    A is corrupted from the start or never, and not in one run with C.
    """

    @property
    def view(self) -> Sequence[Seen]:
        """What the adversary has seen: nothing while C is honest."""

    def upload(self, facts: Facts, altered: Pairs | None = None) -> list[bool]:
        """A's input. For each package that reaches an honest C, whether C says `receipt`; the first is one
        whose weights are `altered` on the way. An upload replaces the one before."""

    def request(self, q: str, reply: Reply) -> str | None:
        """An honest B's input, and its output P; None where there is none. Only a corrupted C uses `reply`.

        Where facts are sealed B has A's key: it is the owner's client.
        """

    def corrupt_c(self) -> None:
        """From now on the adversary is C, and has what C has stored."""

    def upload_as_a(self, pairs: Pairs, version: int) -> bool:
        """A corrupted A signs what it likes; whether C says `receipt`."""

    def request_as_b(self, q: str) -> str | None:
        """A corrupted B, which never has the key of sealed facts, sends q to an honest C; C's answer."""

    def forge(self, pairs: Pairs, version: int) -> bool:
        """Somebody else signs a package; whether C says `receipt`."""

    def replay(self, place: int) -> bool:
        """A package that A has sent reaches C once more; whether C says `receipt`."""


# -- the real world

_CONFIG = '{"peft_type": "LORA", "r": 1, "lora_alpha": 2.0, "layers_to_transform": [0]}'


def package(pairs: Pairs, version: int, key: Ed25519PrivateKey) -> dict[str, bytes]:
    """A signed package whose adapter is the look-up of these pairs."""
    made_at = now()
    card = Card(twin=TWIN, version=version, kind=KIND, created_at=made_at)
    learned = [Example(prompt=prompt, completion=completion) for prompt, completion in pairs.items()]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / CONFIG).write_text(_CONFIG)
        (folder / WEIGHTS).write_bytes(weights(pairs))
        (folder / CARD).write_text(card.model_dump_json())
        seal_package(folder, Origin(TWIN, version, KIND, BASE, data_digest(learned), created_at=made_at), key)
        return read_package(folder)


def weights(pairs: Pairs) -> bytes:
    """The look-up as a tensor, a number a byte. It has no order but that of the prompts themselves."""
    content = np.frombuffer(canonical(dict(pairs)), np.uint8)
    return save({"pairs": content.astype(np.float32)})


def learned(parts: Mapping[str, bytes]) -> dict[str, str]:
    """The pairs that a package's look-up holds."""
    found: dict[str, str] = json.loads(load(parts[WEIGHTS])["pairs"].astype(np.uint8).tobytes())
    return found


class A:
    """Data provider A: the edge. It has the signing key and, where facts are sealed, the seal key."""

    def __init__(self, sealed: bool, rng: Random) -> None:
        self.key = Ed25519PrivateKey.from_private_bytes(rng.randbytes(32))
        self.sealer = Sealer(rng.randbytes(KEY_BYTES)) if sealed else None
        self._version = 0

    def upload(self, facts: Facts) -> dict[str, bytes]:
        """Data Upload, steps 1 to 3: (E, P) becomes (E', P') and is uploaded."""
        self._version += 1
        return package(dict(self._transform(*fact) for fact in facts.items()), self._version, self.key)

    def query(self, object: str) -> str:
        """Data Retrieval, step 1: the request q."""
        return self.sealer.pseudonym(object) if self.sealer else object

    def read(self, object: str, said: str | None) -> str | None:
        """Data Retrieval, step 2, as B ends it: P out of what C sent."""
        return self.sealer.unmask(object, said) if self.sealer and said is not None else said

    def _transform(self, object: str, value: str) -> tuple[str, str]:
        if self.sealer is None:
            return object, value
        example = sealed_example(self.sealer, object, value)
        return example.prompt, example.completion


class C:
    """Third party C: the server. It takes what A signed, after what it has, and answers from the newest."""

    def __init__(self, public_key: str) -> None:
        self.packages: list[Pairs] = []
        self._public_key = public_key
        self._version = 0

    def take(self, parts: Mapping[str, bytes]) -> bool:
        """Service Function Computation, step 1: F(E, P), if the package is what it must be."""
        expect = Expect(TWIN, BASE, skill=None, version_after=self._version)
        try:
            self._version = check_package(parts, self._public_key, expect).version
        except LlmtwinError:
            return False
        self.packages.append(learned(parts))
        return True

    def answer(self, q: str) -> str | None:
        """Data Retrieval, step 2: L(q, F(E, P))."""
        return self.packages[-1].get(q) if self.packages else None


class Real:
    """The protocol over our wire. See `World`."""

    def __init__(self, sealed: bool, rng: Random) -> None:
        self.a = A(sealed, rng)
        self.c = C(public_key_text(self.a.key))
        self.view: list[Seen] = []
        self._stranger = Ed25519PrivateKey.from_private_bytes(rng.randbytes(32))
        self._sent: list[dict[str, bytes]] = []
        self._c_corrupted = False

    def upload(self, facts: Facts, altered: Pairs | None = None) -> list[bool]:
        """See `World`."""
        parts = self.a.upload(facts)
        self._sent.append(parts)
        if self._c_corrupted:
            self.view.append(learned(parts))
            return []
        spoilt = [] if altered is None else [parts | {WEIGHTS: weights(altered)}]
        return [self.c.take(one) for one in [*spoilt, parts]]

    def request(self, q: str, reply: Reply) -> str | None:
        """See `World`."""
        asked = self.a.query(q)
        if not self._c_corrupted:
            return self.a.read(q, self.c.answer(asked))
        said = reply(packages(self.view), asked)
        self.view.append(asked)
        return self.a.read(q, said)

    def corrupt_c(self) -> None:
        """See `World`."""
        self._c_corrupted = True
        self.view += self.c.packages

    def upload_as_a(self, pairs: Pairs, version: int) -> bool:
        """See `World`."""
        self._sent.append(package(pairs, version, self.a.key))
        return self.c.take(self._sent[-1])

    def request_as_b(self, q: str) -> str | None:
        """See `World`."""
        return self.c.answer(q)

    def forge(self, pairs: Pairs, version: int) -> bool:
        """See `World`."""
        return self.c.take(package(pairs, version, self._stranger))

    def replay(self, place: int) -> bool:
        """See `World`."""
        return self.c.take(self._sent[place])


# -- the ideal world


class FData:
    """F_DATA. What the paper's has not is marked "ours": without it no simulator can be written.

    With `leaks=False` it tells of an upload no more than the paper's does: that there was one.
    """

    def __init__(self, sealed: bool, rng: Random, leaks: bool = True) -> None:
        self._sealed, self._leaks = sealed, leaks
        self._stored: list[Facts] = []
        self._names: defaultdict[tuple[str, ...], int] = defaultdict(lambda: rng.getrandbits(64))

    def upload(self, facts: Facts) -> None:
        """("upload", A, C, E, P): "Store (E, P) internally"; the "receipt" to C is the return."""
        self._stored.append(dict(facts))

    def request(self, q: str, has_key: bool) -> str | None:
        """("request", B, C, q): "Compute P using E". Ours: of sealed facts only for who has A's key."""
        return self._stored[-1].get(q) if self._stored and (has_key or not self._sealed) else None

    def corrupt_a(self) -> None:
        """Ours: ("corrupt", A). What A sealed is sealed no more."""
        self._sealed = False

    def shapes(self) -> list[Shape | None]:
        """Ours, to a corrupted C, with each "receipt": what sealing leaks of it."""
        return [self._shape(facts) if self._leaks else None for facts in self._stored]

    def name(self, q: str) -> int:
        """Ours, to a corrupted C, with each request: which object it is for, by its name."""
        return self._names[q,]

    def deliver(self, q: str, value: int | None) -> str | None:
        """Ours: a corrupted C chooses whether B gets P, and may choose one that was uploaded for E before."""
        uploaded = (facts[q] for facts in self._stored if q in facts)
        return next((one for one in uploaded if self._names[q, one] == value), None)

    def _shape(self, facts: Facts) -> Shape:
        return {
            self.name(object): (self._names[object, value], TAG_BYTES + len(_padded(value)))
            for object, value in facts.items()
        }


class Simulator:
    """S: plays the protocol for the adversary with no more than F_DATA tells it."""

    def __init__(self, f: FData, rng: Random) -> None:
        self.view: list[Seen] = []
        self._f, self._rng = f, rng
        self._version = 0
        self._pseudonyms: defaultdict[int, str] = defaultdict(lambda: self._words(PSEUDONYM_BYTES))
        self._masks: dict[tuple[int, int], str] = {}

    # "Simulator S when corrupting A"

    def upload_as_a(self, pairs: Pairs, version: int) -> bool:
        """1. S "follows the honest protocol on behalf of A"; an honest C takes what is new."""
        self._f.corrupt_a()
        if version <= self._version:
            return False
        self._version = version
        self._f.upload(pairs)
        return True

    # "Simulator S when corrupting C"

    def receive(self, shape: Shape | None) -> None:
        """1. (dummy_E, dummy_P) in the place of each (E', P')."""
        if shape is None:
            shape = {self._rng.getrandbits(64): (0, TAG_BYTES + BLOCK_BYTES)}
        dummies: dict[str, str] = {}
        for object, (value, words) in shape.items():
            mask = self._masks.setdefault((object, value), self._words(words))
            dummies[self._pseudonyms[object]] = mask
        self.view.append(dummies)

    def reply(self, object: int, reply: Reply) -> int | None:
        """2. "When A processes a request from B": the name of the value that its answer stands for."""
        asked = self._pseudonyms[object]
        said = reply(packages(self.view), asked)
        self.view.append(asked)
        values = (value for (of, value), mask in self._masks.items() if (of, mask) == (object, said))
        return next(values, None)

    # "Simulator S when corrupting B"

    def request_as_b(self, q: str) -> str | None:
        """1. to 4. Intercepts q, sends it to F_DATA as B, relays P. What to alter is for the adversary.

        F_DATA need not hear ("corrupt", B): it keeps nothing for B, and tells it from the owner by the key.
        """
        return self._f.request(q, has_key=False)

    def _words(self, count: int) -> str:
        return " ".join(self._rng.choices(WORDS, k=count))


class Ideal:
    """F_DATA with honest parties that pass everything on to it, and S for the others. See `World`."""

    def __init__(self, sealed: bool, rng: Random, leaks: bool = True) -> None:
        self._f = FData(sealed, rng, leaks)
        self._s = Simulator(self._f, rng)
        self._c_corrupted = False

    @property
    def view(self) -> Sequence[Seen]:
        """See `World`."""
        return self._s.view

    def upload(self, facts: Facts, altered: Pairs | None = None) -> list[bool]:
        """See `World`."""
        self._f.upload(facts)
        if self._c_corrupted:
            self._s.receive(self._f.shapes()[-1])
            return []
        return [True] if altered is None else [False, True]

    def request(self, q: str, reply: Reply) -> str | None:
        """See `World`."""
        if not self._c_corrupted:
            return self._f.request(q, has_key=True)
        return self._f.deliver(q, self._s.reply(self._f.name(q), reply))

    def corrupt_c(self) -> None:
        """See `World`."""
        self._c_corrupted = True
        for shape in self._f.shapes():
            self._s.receive(shape)

    def upload_as_a(self, pairs: Pairs, version: int) -> bool:
        """See `World`."""
        return self._s.upload_as_a(pairs, version)

    def request_as_b(self, q: str) -> str | None:
        """See `World`."""
        return self._s.request_as_b(q)

    def forge(self, pairs: Pairs, version: int) -> bool:
        """See `World`."""
        return False

    def replay(self, place: int) -> bool:
        """See `World`."""
        return False


# -- what the environment makes of a view


def packages(view: Sequence[Seen]) -> list[Pairs]:
    """The packages in a view, in the order in which they came."""
    return [seen for seen in view if not isinstance(seen, str)]


def outline(view: Sequence[Seen]) -> Counter[object]:
    """A view but for the words in it: two have the same if and only if one becomes the other by renaming.

    One entry a prompt: its words, when it came, and each time which of its completions, of how many words.
    One more counts the completions that two prompts share.
    """
    histories: defaultdict[str, list[tuple[int, ...]]] = defaultdict(list)
    completions: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for place, seen in enumerate(view):
        if isinstance(seen, str):
            histories[seen].append((place,))
            continue
        for prompt, said in seen.items():
            number = completions[prompt].setdefault(said, len(completions[prompt]))
            histories[prompt].append((place, number, len(said.split())))
    every = Counter(said for own in completions.values() for said in own)
    shared: object = ("shared", sum(every.values()) - len(every))
    return Counter([shared, *((len(one.split()), tuple(history)) for one, history in histories.items())])


def recovered(view: Sequence[Seen], given: Collection[Facts], rng: Random) -> set[tuple[str, str]]:
    """What the environment, which chose A's inputs, finds of them in a view.

    It knows the code, not the key: it looks for each E in plain and as a key of its own would seal it, for
    each P in plain, and for two completions whose difference is that of two values (a pad used twice).
    """
    own = Sealer(rng.randbytes(KEY_BYTES))
    prompts = {one for seen in view for one in ([seen] if isinstance(seen, str) else seen)}
    completions = {said for pairs in packages(view) for said in pairs.values()}
    found = {("E", one) for facts in given for one in facts if {one, own.pseudonym(one)} & prompts}
    found |= {("P", one) for facts in given for one in facts.values() if one in completions}
    values = {_padded(one) for facts in given for one in facts.values()}
    differences = set(_differences(values))
    return found | {("pad", one) for one, own in _masked(view).items() if differences & own}


def collide(pairs: Pairs, objects: Collection[str], value: str) -> list[str]:
    """Who holds the model and a P asks it for every E that there may be: those whose answer is P."""
    return [one for one in objects if pairs.get(one) == value]


def _masked(view: Sequence[Seen]) -> dict[str, set[bytes]]:
    """Of each prompt, the differences between its masked values whose tags are not the same."""
    masks: defaultdict[str, dict[bytes, bytes]] = defaultdict(dict)
    for pairs in packages(view):
        for prompt, said in pairs.items():
            if set(said.split()) <= BYTES.keys():
                mask = bytes(BYTES[word] for word in said.split())
                masks[prompt][mask[:TAG_BYTES]] = mask[TAG_BYTES:]
    return {prompt: set(_differences(own.values())) for prompt, own in masks.items()}


def _differences(texts: Collection[bytes]) -> Iterator[bytes]:
    for a, b in combinations(texts, 2):
        if len(a) == len(b):
            yield bytes(x ^ y for x, y in zip(a, b, strict=True))


def _padded(value: str) -> bytes:
    """PKCS7 (RFC 5652, 6.3)."""
    content = value.encode()
    missing = BLOCK_BYTES - len(content) % BLOCK_BYTES
    return content + bytes([missing]) * missing
