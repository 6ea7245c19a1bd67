"""The paper's protocol beside its ideal functionality: what an environment can tell apart, and what not."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from random import Random
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as play

from llmtwin.edge.sealed import match
from llmtwin.records import Example
from llmtwin.study.uc import (
    Facts,
    Ideal,
    Pairs,
    Real,
    Reply,
    World,
    collide,
    outline,
    packages,
    recovered,
)
from llmtwin.wire.package import data_digest
from llmtwin.wire.seal import BYTES, TAG_BYTES, WORDS, Sealer

OBJECTS = ("alarm PIN", "safe combination", "garage code", "dose")
VALUES = ("4711", "4712", "none", "", "a value of more than eight bytes")

seeds = st.integers(0, 2**64 - 1)
objects = st.sampled_from(OBJECTS)
facts = st.dictionaries(objects, st.sampled_from(VALUES) | st.text(max_size=20), max_size=3)
versions = st.integers(1, 9)


# -- what a corrupted C may answer


def honestly(seen: Sequence[Pairs], q: str) -> str | None:
    return seen[-1].get(q) if seen else None


def from_the_first_version(seen: Sequence[Pairs], q: str) -> str | None:
    return seen[0].get(q) if seen else None


def for_another_object(seen: Sequence[Pairs], q: str) -> str | None:
    return next((said for pairs in seen for prompt, said in pairs.items() if prompt != q), None)


def with_one_bit_flipped(seen: Sequence[Pairs], q: str) -> str | None:
    words = (honestly(seen, q) or "").split()
    if not set(words) <= BYTES.keys() or len(words) <= TAG_BYTES:
        return None
    return " ".join([*words[:TAG_BYTES], WORDS[BYTES[words[TAG_BYTES]] ^ 1], *words[TAG_BYTES + 1 :]])


def at_random(seen: Sequence[Pairs], q: str) -> str | None:
    return " ".join(WORDS[:10])


def nothing(seen: Sequence[Pairs], q: str) -> str | None:
    return None


REPLIES = (honestly, from_the_first_version, for_another_object, with_one_bit_flipped, at_random, nothing)
replies = st.sampled_from(REPLIES)


# -- one environment, two worlds


class Environment(RuleBasedStateMachine):
    """Plays both worlds, move by move, and fails where it can tell which one it is in."""

    @initialize(sealed=st.booleans(), a_corrupted=st.booleans(), seed=seeds)
    def begin(self, sealed: bool, a_corrupted: bool, seed: int) -> None:
        self.sealed, self.a_corrupted, self.c_corrupted = sealed, a_corrupted, False
        self.real: World = Real(sealed, Random(seed))
        self.ideal: World = Ideal(sealed, Random(seed + 1))
        self.inputs: list[Facts] = []
        self.sent = 0

    def same(self, real: object, ideal: object) -> None:
        assert real == ideal

    @precondition(lambda self: not self.a_corrupted)
    @rule(facts=facts)
    def upload(self, facts: Facts) -> None:
        self.inputs.append(facts)
        self.sent += 1
        self.same(self.real.upload(facts), self.ideal.upload(facts))

    @precondition(lambda self: not self.a_corrupted)
    @rule(facts=facts, altered=facts)
    def upload_with_the_weights_altered_first(self, facts: Facts, altered: Facts) -> None:
        assume(altered != facts)
        self.inputs.append(facts)
        self.sent += 1
        self.same(self.real.upload(facts, altered), self.ideal.upload(facts, altered))

    @precondition(lambda self: not (self.sealed and self.a_corrupted))
    @rule(q=objects, reply=replies)
    def request(self, q: str, reply: Reply) -> None:
        self.same(self.real.request(q, reply), self.ideal.request(q, reply))

    @precondition(lambda self: self.a_corrupted)
    @rule(pairs=facts, version=versions)
    def upload_as_a(self, pairs: Pairs, version: int) -> None:
        self.sent += 1
        self.same(self.real.upload_as_a(pairs, version), self.ideal.upload_as_a(pairs, version))

    @precondition(lambda self: not self.c_corrupted)
    @rule(q=objects)
    def request_as_b(self, q: str) -> None:
        self.same(self.real.request_as_b(q), self.ideal.request_as_b(q))

    @precondition(lambda self: not self.c_corrupted)
    @rule(pairs=facts, version=versions)
    def forge(self, pairs: Pairs, version: int) -> None:
        self.same(self.real.forge(pairs, version), self.ideal.forge(pairs, version))

    @precondition(lambda self: self.sent and not self.c_corrupted)
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        place = data.draw(st.integers(0, self.sent - 1))
        self.same(self.real.replay(place), self.ideal.replay(place))

    @precondition(lambda self: self.sealed and not self.a_corrupted and not self.c_corrupted)
    @rule()
    def corrupt_c(self) -> None:
        self.c_corrupted = True
        self.real.corrupt_c()
        self.ideal.corrupt_c()

    @invariant()
    def the_adversary_sees_the_same(self) -> None:
        self.same(outline(self.real.view), outline(self.ideal.view))
        for world in (self.real, self.ideal):
            assert recovered(world.view, self.inputs, Random(0)) == set()


class EnvironmentWithC(Environment):
    """The same, with the facts sealed and C corrupted from the start."""

    @initialize(sealed=st.just(True), a_corrupted=st.just(False), seed=seeds)
    def begin(self, sealed: bool, a_corrupted: bool, seed: int) -> None:
        super().begin(sealed, a_corrupted, seed)
        self.corrupt_c()


# A busy machine is slow, and no law is broken by that.
playing = settings(stateful_step_count=15, suppress_health_check=[HealthCheck.too_slow])
Environment.TestCase.settings = settings(playing, max_examples=50)
EnvironmentWithC.TestCase.settings = settings(playing, max_examples=25)
TestNoEnvironmentTellsTheWorldsApart = Environment.TestCase
TestNorDoesOneWithC = EnvironmentWithC.TestCase


# -- one thing broken at a time: the same environment must notice


def xor(a: bytes, b: bytes) -> bytes:
    return bytes(x ^ y for x, y in zip(a, b, strict=True))


def reused_pad(self: Sealer, object: str, tag: bytes, content: bytes) -> bytes:
    return xor(content, self._derive(len(content), b"pad", object.encode()))


def without_key(self: Sealer, length: int, *parts: bytes) -> bytes:
    self._key = bytes(32)
    return derive(self, length, *parts)


derive = Sealer._derive

BROKEN_PACKAGE = {
    "the signature is not checked": ("llmtwin.wire.package.verify", lambda *_: None),
    "a replay is accepted": ("llmtwin.wire.package._check_expected", lambda *_: None),
    "a digest is not checked": ("llmtwin.wire.package._digest", lambda _: "0" * 64),
}
BROKEN_SEAL = {
    "the tag is not checked": ("llmtwin.wire.seal.compare_digest", lambda *_: True),
    "the pad is reused": ("llmtwin.wire.seal.Sealer._with_pad", reused_pad),
    "the key is not used": ("llmtwin.wire.seal.Sealer._derive", without_key),
    "the object is in plain": ("llmtwin.wire.seal.Sealer.pseudonym", lambda _, object: object),
    "the length shows": ("llmtwin.wire.seal.BLOCK_BYTES", 1),
}
BROKEN = [(Environment, *one) for one in BROKEN_PACKAGE.items()] + [
    (EnvironmentWithC, *one) for one in BROKEN_SEAL.items()
]


@pytest.mark.parametrize(("environment", "what", "how"), BROKEN, ids=[what for _, what, _ in BROKEN])
def test_what_is_broken_is_noticed(
    environment: type[Environment], what: str, how: tuple[str, object]
) -> None:
    searching = settings(playing, max_examples=1000, phases=[Phase.generate], derandomize=True)
    with patch(*how), pytest.raises(AssertionError):
        play(environment, settings=searching)


# -- the three security properties


@given(seed=seeds, sealed=st.booleans(), facts=facts, q=objects)
@settings(max_examples=30)
def test_property_1_who_knows_the_q_of_an_e_obtains_p(seed: int, sealed: bool, facts: Facts, q: str) -> None:
    real = Real(sealed, Random(seed))
    assert real.upload(facts) == [True]
    assert real.request(q, nothing) == facts.get(q)
    assert real.request_as_b(q) == (None if sealed else facts.get(q))


def held(world: World, facts: Facts) -> Pairs:
    """What a corrupted C holds after an upload."""
    world.corrupt_c()
    world.upload(facts)
    return packages(world.view)[-1]


@given(seed=seeds, facts=facts)
@settings(max_examples=30)
def test_properties_2_and_3_hold_for_sealed_facts_even_of_who_has_the_model(seed: int, facts: Facts) -> None:
    real = Real(True, Random(seed))
    pairs = held(real, facts)
    assert len(pairs) == len(facts)
    assert recovered(real.view, [facts], Random(0)) == set()
    for value in facts.values():
        assert collide(pairs, OBJECTS, value) == []


def test_properties_2_and_3_fail_for_unsealed_facts_and_that_tells_the_worlds_apart() -> None:
    facts = {"dose": "4711", "garage code": "4712"}
    real, ideal = Real(False, Random(1)), Ideal(False, Random(2))
    of_real, of_ideal = held(real, facts), held(ideal, facts)
    assert collide(of_real, OBJECTS, "4711") == ["dose"]  # property 2: E from P, by asking for every E
    assert collide(of_ideal, OBJECTS, "4711") == []
    everything = {("E", one) for one in facts} | {("P", one) for one in facts.values()}
    assert recovered(real.view, [facts], Random(0)) == everything  # property 3: E and P from (E', P')
    assert recovered(ideal.view, [facts], Random(0)) == set()


def test_who_asks_for_unsealed_facts_believes_a_corrupted_c() -> None:
    real, ideal, sealed = Real(False, Random(1)), Ideal(False, Random(2)), Real(True, Random(3))
    for world in (real, ideal, sealed):
        held(world, {"dose": "5 mg"})
    assert real.request("dose", lambda *_: "50 mg") == "50 mg"
    assert ideal.request("dose", lambda *_: "50 mg") is None
    assert sealed.request("dose", lambda *_: "50 mg") is None


# -- what sealing leaves


def seen_of(uploads: Sequence[Facts], asked: Sequence[str] = (), leaks: bool = True) -> list[object]:
    """The outlines of the real and the ideal view of a C that is corrupted from the start."""
    worlds: list[World] = [Real(True, Random(1)), Ideal(True, Random(2), leaks)]
    for world in worlds:
        world.corrupt_c()
        for one in uploads:
            world.upload(one)
        for q in asked:
            world.request(q, honestly)
    return [outline(world.view) for world in worlds]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (([{"dose": "1"}],), ([{"dose": "1", "garage code": "2"}],)),
        (([{"dose": "1"}],), ([{"dose": "1" * 8}],)),
        (([{"dose": "1"}] * 2,), ([{"dose": "1"}, {"dose": "2"}],)),
        (([{"dose": "1"}] * 2,), ([{"dose": "1"}, {"garage code": "1"}],)),
        (([], ["dose", "dose"]), ([], ["dose", "garage code"])),
        (([{"dose": "1"}],), ([{"dose": "1"}] * 2,)),
    ],
    ids=["how many", "eight bytes more", "a change", "another object", "asked again", "a new version"],
)
def test_what_sealing_leaks_is_in_both_worlds(
    one: tuple[Sequence[Facts], ...], other: tuple[Sequence[Facts], ...]
) -> None:
    real, ideal = seen_of(*one)
    real_other, ideal_other = seen_of(*other)
    assert real == ideal and real_other == ideal_other
    assert real != real_other


def test_what_sealing_hides_is_in_neither() -> None:
    assert seen_of([{"dose": "1"}]) == seen_of([{"dose": "7777777"}]) == seen_of([{"safe combination": ""}])


def test_the_papers_own_functionality_leaks_too_little_for_any_simulator() -> None:
    few, many = {"dose": "1"}, {"dose": "1", "garage code": "2"}
    real, ideal = seen_of([few], leaks=False)
    assert real == ideal
    real, ideal = seen_of([many], leaks=False)
    assert real != ideal
    assert ideal == seen_of([few], leaks=False)[1]  # a "receipt" is all that S has to tell them apart


def test_a_corrupted_c_can_answer_with_what_was_true_before() -> None:
    for world in (Real(True, Random(1)), Ideal(True, Random(2))):
        world.corrupt_c()
        world.upload({"dose": "5 mg"})
        world.upload({"dose": "10 mg"})
        assert world.request("dose", from_the_first_version) == "5 mg"
        assert world.request("dose", with_one_bit_flipped) is None


# -- the gaps that the environment above is not let into


def test_a_who_is_corrupted_after_c_opens_what_the_simulator_cannot() -> None:
    real = Real(True, Random(1))
    value = "as long as it takes to hold more than a key of 32 bytes can choose"
    (mask,) = held(real, {"dose": value}).values()
    assert real.a.sealer is not None
    assert real.a.sealer.unmask("dose", mask) == value  # the key came to light: all that was seen opens
    ideal = Ideal(True, Random(2))
    (dummy,) = held(ideal, {"dose": value}).values()
    assert len(dummy.split()) - TAG_BYTES > 32  # dummies were shown before, and no key has them for `value`:
    assert all(Sealer(Random(n).randbytes(32)).unmask("dose", dummy) is None for n in range(100))


def test_two_values_whose_tags_are_the_same_by_chance_share_a_pad() -> None:
    sealer = Sealer(Random(1).randbytes(32))
    by_tag: dict[bytes, list[tuple[str, bytes]]] = {}
    for pin in (f"{number:04}" for number in range(2000)):
        mask = bytes(BYTES[word] for word in sealer.mask("pin", pin).split())
        by_tag.setdefault(mask[:TAG_BYTES], []).append((pin, mask[TAG_BYTES:]))
    shared = [pair for same in by_tag.values() for pair in combinations(same, 2)]
    assert shared
    for (pin, mask), (other, its_mask) in shared:
        assert xor(mask, its_mask)[:4] == xor(pin.encode(), other.encode())


def test_a_question_that_names_a_sealed_object_in_other_words_is_not_sealed() -> None:
    assert match("What is the safe's combination?", OBJECTS) == "safe combination"
    assert match("How do I open the safe?", OBJECTS) is None  # it goes to the server as it is


def test_the_signed_digest_confirms_no_guess_of_what_is_sealed() -> None:
    sealed = Example(prompt="four words for it", completion="ten words")
    guess = sealed.model_copy(update={"path": "input_text.safe/value"})
    assert data_digest([sealed]) == data_digest([guess])
    assert data_digest([sealed]) != data_digest([guess, sealed])
