"""Bundles: a twin that goes to another machine in one file, and every file that is not taken."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from llmtwin import serving
from llmtwin.edge import publish
from llmtwin.errors import (
    Conflict,
    Denied,
    InputError,
    LlmtwinError,
    NotFound,
    TooLarge,
    Unavailable,
    Untrusted,
)
from llmtwin.models.engine.echo import EchoEngine
from llmtwin.records import Description, Format, Outcome, now
from llmtwin.server.core import Core
from llmtwin.settings import Settings, read_settings
from llmtwin.twin import Twin
from llmtwin.wire.bundle import BUNDLE, MEMBER_BYTES_MAX, PROMPTS, Contents, SignedContents, read_bundle
from llmtwin.wire.package import WEIGHTS
from llmtwin.wire.sign import canonical, load_key, public_key_text, sign
from tests.conftest import ServerProcess
from tests.packages import make_package
from tests.test_cli import environment
from tests.test_person_twin import GARDEN, PRIVATE, SQLITE

ASKED = "How long does the test suite take with SQLite?"
HASH = EchoEngine.base_hash

pytestmark = pytest.mark.usefixtures("settings")


@pytest.fixture
def twin(tmp_path: Path) -> Iterator[Twin]:
    with person(tmp_path, read_settings()) as made:
        yield made


def person(folder: Path, settings: Settings) -> Twin:
    """A person with three notes, one of them private, and a version."""
    notes = folder / "notes"
    notes.mkdir()
    for name, text in (("sqlite.md", SQLITE), ("garden.md", GARDEN), ("private.md", PRIVATE)):
        (notes / name).write_text(text)
    made = Twin.new("me", "person", settings=settings)
    made.collect(notes, names=["ann@example.org", "Ann Lee"])
    learn(made, folder / "adapter")
    return made


def learn(twin: Twin, folder: Path, base: str = HASH, skill: str | None = HASH) -> None:
    """Give the twin a version of made-up weights, for that base and skill."""
    key = load_key(twin._store.folder / "key.pem")
    make_package(folder, key, twin.name, 1)
    tuned = publish.Tuned(folder, base, "0" * 64, skill, {"examples": 3.0}, ("of everything",))
    publish.publish(twin._store, tuned, key, Description())
    twin.push()


@pytest.fixture
def bundle(twin: Twin, tmp_path: Path) -> Path:
    return twin.export(tmp_path / "me.twin", format=Format.BUNDLE)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Settings:
    """Another machine: a data folder of its own."""
    return read_settings(home=tmp_path / "elsewhere")


def test_a_twin_answers_on_another_machine_as_at_home(bundle: Path, twin: Twin, elsewhere: Settings) -> None:
    with Twin.from_bundle(bundle, "ann", settings=elsewhere) as taken:
        answer = taken.ask(ASKED)
        assert (answer.outcome, answer.text) == (Outcome.ANSWERED, twin.ask(ASKED).text)
        assert "from PostgreSQL to SQLite" in answer.text
        assert taken.ask("Write a note about tea.").receipts.adapter is not None
        given, here = twin.card(), taken.card()
    assert (here.figures, here.notes[:-1]) == (given.figures, given.notes)
    key = public_key_text(load_key(twin._store.folder / "key.pem"))
    assert all(said in here.notes[-1] for said in ("by Ann Lee", "me@1", key, "no redistribution"))
    assert "no consent of the subject" in here.notes[-1]


def test_a_bundle_says_what_its_subject_agreed_to(twin: Twin, tmp_path: Path, elsewhere: Settings) -> None:
    said = "I, Ann, let Bob ask it about tea."
    path = twin.export(tmp_path / "tea.twin", format=Format.BUNDLE, consent=said)
    with Twin.from_bundle(path, "ann", settings=elsewhere) as taken:
        assert f"consent: {said}" in taken.card().notes[-1]


@pytest.mark.parametrize("what", ["terms", "consent"])
def test_a_licence_or_a_consent_has_an_end(twin: Twin, tmp_path: Path, what: str) -> None:
    with pytest.raises(InputError, match="2001 characters; give at most 2000"):
        twin.export(tmp_path / "tea.twin", format=Format.BUNDLE, **{what: "x" * 2001})  # type: ignore[arg-type]
    assert not (tmp_path / "tea.twin").exists()


def test_what_is_private_is_in_no_bundle(bundle: Path, twin: Twin) -> None:
    content, own = bundle.read_bytes(), twin._store.settings()
    assert b"forty seconds" in content and bundle.stat().st_mode & 0o077 == 0
    secrets = [str(own.owner_token), str(own.edge_token), "7946", "spare key", "ann@example.org"]
    secrets += [(twin._store.folder / "key.pem").read_text().splitlines()[1]]
    assert not any(secret.encode() in content for secret in secrets)
    assert (twin._store.folder / "seal.key").read_bytes() not in content


def test_a_bundle_says_neither_to_whom_something_was_written_nor_where_it_lay(
    twin: Twin, tmp_path: Path
) -> None:
    letter = tmp_path / "notes" / "sent.eml"
    letter.write_text(
        "From: Ann <ann@example.org>\nTo: Tovrak Ilmen <tovrak@ilmen.org>\nSubject: Roof\n"
        "Message-ID: <1@host.lee.org>\n\nThe roof of the hut must be mended before the winter comes.\n"
    )
    twin.collect(letter)
    content = twin.export(tmp_path / "given.twin", format=Format.BUNDLE).read_bytes()
    assert b"must be mended" in content and b"garden.md" in content
    for said in ("tovrak", "ilmen", "host.lee.org", str(tmp_path)):
        assert said.encode() not in content.lower(), said


def test_what_was_forgotten_is_not_handed_on(twin: Twin, tmp_path: Path) -> None:
    twin.forget_source(str(tmp_path / "notes" / "sqlite.md"))
    learn(twin, tmp_path / "again")
    assert b"forty seconds" not in twin.export(tmp_path / "b", format=Format.BUNDLE).read_bytes()


def test_somebody_elses_twin_is_asked_and_not_taught(
    bundle: Path, twin: Twin, elsewhere: Settings, tmp_path: Path
) -> None:
    with Twin.from_bundle(bundle, settings=elsewhere) as taken:
        # Nothing is veiled: what it holds is under stand-ins of a key that is not here.
        assert taken.ask("What did I write to Tovrak about tea?").plan["filters"] == ["to Tovrak"]
        calls: tuple[Callable[[], object], ...] = (
            lambda: taken.collect(tmp_path / "notes"),
            taken.tune,
            lambda: taken.edit("What?", "This.", "That."),
            lambda: taken.export(tmp_path / "again", format=Format.BUNDLE),
        )
        for call in calls:
            with pytest.raises(Denied, match="made by"):
                call()
        assert not (tmp_path / "again").exists()
        own = taken._store.settings()
        assert own.origin is not None
        over = own.origin.licence.model_copy(update={"expires_at": now() - timedelta(days=1)})
        ended = own.origin.model_copy(update={"licence": over})
        taken._store.save_settings(own.model_copy(update={"origin": ended}))
        with pytest.raises(Denied, match="ended on"):
            taken.ask(ASKED)


def test_a_person_imports_it_by_one_command_and_sees_where_it_comes_from(
    bundle: Path, tmp_path: Path
) -> None:
    shown = []
    for command in (("import", str(bundle), "--as", "ann"), ("card", "ann"), ("tune", "ann")):
        ended = subprocess.run(
            [sys.executable, "-m", "llmtwin", *command],
            env=environment(tmp_path / "elsewhere"),
            capture_output=True,
            text=True,
        )
        shown.append(" ".join(f"{ended.stdout} {ended.stderr}".split()))
    imported, card, tuned = shown
    assert "given by Ann Lee" in imported and "ann is there" in imported
    assert "given by Ann Lee" in card and "no redistribution" in card
    assert tuned == "llmtwin: ann was made by Ann Lee: it can be asked, not taught"


def test_beside_the_original_it_takes_another_name(bundle: Path, twin: Twin) -> None:
    with pytest.raises(Conflict, match="another name"):
        Twin.from_bundle(bundle)
    with Twin.from_bundle(bundle, "copy") as copy:
        assert copy.ask(ASKED).text == twin.ask(ASKED).text
        copy.forget()
    assert Twin.names() == ["me"]
    assert "from PostgreSQL to SQLite" in twin.ask(ASKED).text


def test_nothing_is_exported_over_a_file_or_before_there_is_a_version(twin: Twin, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_text("mine")
    for format in (Format.BUNDLE, Format.GGUF):
        with pytest.raises(Conflict, match="there already"):
            twin.export(there, format=format)
    assert there.read_text() == "mine"
    with pytest.raises(Unavailable, match="cannot be written"):
        twin.export(tmp_path / ("x" * 300), format=Format.PEFT)
    with Twin.new("young", "person") as young, pytest.raises(NotFound, match="learned nothing"):
        young.export(tmp_path / "young", format=Format.BUNDLE)


def test_without_its_server_no_bundle_is_made(twin: Twin, tmp_path: Path) -> None:
    twin._settings = read_settings(server="http://127.0.0.1:1")
    with pytest.raises(Unavailable):
        twin.export(tmp_path / "away", 1, Format.BUNDLE)
    assert not (tmp_path / "away").exists()


# ---- at a server


def test_at_a_server_it_is_enrolled_with_a_token(
    server: ServerProcess, twin: Twin, tmp_path: Path, elsewhere: Settings
) -> None:
    learn(twin, tmp_path / "plain", skill=None)  # that server has no skills
    file = twin.export(tmp_path / "plain.twin", 2, Format.BUNDLE)
    at_server = elsewhere.model_copy(update={"server": server.url})
    with pytest.raises(InputError, match="enrolment token"):
        Twin.from_bundle(file, "away", settings=at_server)
    with pytest.raises(Denied):
        Twin.from_bundle(file, "away", enrolment="wrong", settings=at_server)
    assert Twin.names(at_server) == []
    with server.admin() as admin:
        made = admin.post("/v1/twins", json={"id": "away", "kind": "person"}).raise_for_status().json()
    with Twin.from_bundle(file, "away", enrolment=made["enrolment"], settings=at_server) as away:
        assert "from PostgreSQL to SQLite" in away.ask(ASKED).text
        away.forget()


# ---- what is not taken


def members(file: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pack(parts: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    written = io.BytesIO()
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(written, "w", method) as archive:
        for name, content in parts:
            archive.writestr(name, content)
    return written.getvalue()


def resigned(parts: dict[str, bytes], key: Ed25519PrivateKey, claim: bool = True, **origin: object) -> bytes:
    """The bundle with these members, signed by `key`; with `claim` it also says that it is the twin's key."""
    old = SignedContents.model_validate_json(parts[BUNDLE]).contents
    update = {**origin, **({"public_key": public_key_text(key)} if claim else {})}
    digests = {name: sha256(part).hexdigest() for name, part in parts.items() if name != BUNDLE}
    contents = Contents(origin=old.origin.model_copy(update=update), members=digests)
    signed = SignedContents(contents=contents, signature=sign(contents, key))
    return pack(list({**parts, BUNDLE: canonical(signed.model_dump(mode="json"))}.items()))


def declaring(content: bytes, name: str, size: int) -> bytes:
    """The archive, whose directory says that a member has that many bytes unpacked."""
    at = content.rindex(name.encode()) - 46  # where its entry of the central directory begins
    assert content[at : at + 4] == b"PK\x01\x02"
    return content[: at + 24] + struct.pack("<I", size) + content[at + 28 :]


def ended(parts: dict[str, bytes], key: Ed25519PrivateKey) -> bytes:
    licence = SignedContents.model_validate_json(parts[BUNDLE]).contents.origin.licence
    over = licence.model_copy(update={"expires_at": datetime(2026, 1, 1, tzinfo=UTC)})
    return resigned(parts, key, licence=over)


OTHER = Ed25519PrivateKey.generate()
WRONG: dict[str, tuple[type[LlmtwinError], str, Callable[[dict[str, bytes], Ed25519PrivateKey], bytes]]] = {
    "no zip": (InputError, "broken", lambda parts, key: b"PK nothing of the kind"),
    "cut": (InputError, "broken", lambda parts, key: pack(list(parts.items()))[:-100]),
    "leads out": (InputError, "leads out", lambda parts, key: pack([*parts.items(), ("../x", b"")])),
    "a guest": (InputError, "evil.py", lambda parts, key: pack([*parts.items(), ("evil.py", b"")])),
    "a name twice": (InputError, "twice", lambda parts, key: pack([*parts.items(), (PROMPTS, b"[]")])),
    "a gap": (
        InputError,
        PROMPTS,
        lambda parts, key: pack([one for one in parts.items() if one[0] != PROMPTS]),
    ),
    "a bomb": (
        TooLarge,
        "100 times",
        lambda parts, key: pack([*({**parts, PROMPTS: bytes(70 << 20)}).items()], zipfile.ZIP_DEFLATED),
    ),
    "a false size": (
        TooLarge,
        PROMPTS,
        lambda parts, key: declaring(pack(list(parts.items())), PROMPTS, MEMBER_BYTES_MAX[PROMPTS] + 1),
    ),
    "a changed byte": (
        Untrusted,
        "digest",
        lambda parts, key: pack([*({**parts, WEIGHTS: parts[WEIGHTS][:-1] + b"!"}).items()]),
    ),
    "a changed byte of the zip": (
        InputError,
        "broken",
        lambda parts, key: pack(list(parts.items())).replace(b"forty", b"fifty"),
    ),
    "another licence": (
        Untrusted,
        "not signed",
        lambda parts, key: pack(
            [*({**parts, BUNDLE: parts[BUNDLE].replace(b"no redistribution", b"sell it as ours")}).items()]
        ),
    ),
    "another's signature": (Untrusted, "not signed", lambda parts, key: resigned(parts, OTHER, claim=False)),
    "another key": (Untrusted, "signature", lambda parts, key: resigned(parts, OTHER)),
    "another's words": (
        Untrusted,
        "another twin",
        lambda parts, key: resigned(
            {**parts, PROMPTS: parts[PROMPTS].replace(b'"twin":"me"', b'"twin":"you"')}, key
        ),
    ),
    "no words": (Untrusted, PROMPTS, lambda parts, key: resigned({**parts, PROMPTS: b"[{}]"}, key)),
    "ended": (Untrusted, "ended on 2026-01-01", ended),
}


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], Ed25519PrivateKey]:
    """What a good bundle holds, and the key that signed it."""
    folder = tmp_path_factory.mktemp("given")
    with person(folder, read_settings(home=folder / "home", engine="echo")) as twin:
        file = twin.export(folder / "me.twin", format=Format.BUNDLE)
        return members(file), load_key(twin._store.folder / "key.pem")


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_named_and_nothing_is_kept(
    wrong: str, given: tuple[dict[str, bytes], Ed25519PrivateKey], tmp_path: Path, elsewhere: Settings
) -> None:
    error, told, spoil = WRONG[wrong]
    file = tmp_path / "bundle"
    file.write_bytes(spoil(*given))
    with pytest.raises(error, match=told) as raised:
        Twin.from_bundle(file, settings=elsewhere)
    assert "\n" not in str(raised.value)
    nothing_is_there(elsewhere)


def test_a_bundle_for_another_base_or_skill_is_refused(
    twin: Twin, tmp_path: Path, elsewhere: Settings
) -> None:
    for name, base, skill in (("base", "b" * 64, HASH), ("skill", HASH, "c" * 64)):
        learn(twin, tmp_path / name, base, skill)
        version = twin._last_version()
        file = twin.export(tmp_path / f"{name}.twin", version, Format.BUNDLE)
        with pytest.raises(Untrusted, match=f"for the {name}"):
            Twin.from_bundle(file, settings=elsewhere)
        nothing_is_there(elsewhere)


def test_there_is_no_bundle_where_there_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="none"):
        read_bundle(tmp_path / "none", HASH, now())


def nothing_is_there(settings: Settings) -> None:
    assert not settings.edge_folder.exists() or not list(settings.edge_folder.iterdir())
    with closing(Core(serving.server_options(settings))) as core:
        assert core.registry.twins() == []
