"""The Python interface: one twin, seen from its owner's machine. It prints nothing and knows no HTTP.

    twin = Twin.new("home1")
    twin.collect("states.json")
    twin.tune()
    print(twin.ask("What is the maximum brightness of the bedroom lamp?").text)

What cannot be sent waits in the twin's outbox and goes with the next push.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pydantic import TypeAdapter, ValidationError

from llmtwin import serving
from llmtwin.edge import forgetting, outbox, portable
from llmtwin.edge.link import Link, Tokens
from llmtwin.edge.locks import learning
from llmtwin.edge.outbox import Pushed, PushOptions
from llmtwin.edge.results import Audited, Collected, Forgotten, Tuned, Watched
from llmtwin.edge.sealed import ask_sealed, object_of
from llmtwin.edge.store import KEY, SEAL_KEY, EdgeStore
from llmtwin.edge.store import Settings as Identity
from llmtwin.errors import Conflict, Denied, InputError, LlmtwinError, NotFound, Unavailable, Untrusted
from llmtwin.records import Answer, Card, Format, TwinId, now
from llmtwin.settings import Settings, read_settings
from llmtwin.twins.kind import ALL, Veiled, Voice, kind
from llmtwin.wire.bundle import read_bundle
from llmtwin.wire.files import read_limited
from llmtwin.wire.package import CARD
from llmtwin.wire.seal import Sealer, load_or_create
from llmtwin.wire.sign import load_key, new_key, public_key_text

if TYPE_CHECKING:
    from llmtwin.models.base import Base
    from llmtwin.models.tune import Progress, TuneOptions

STORE = "edge.sqlite"
JSON_BYTES_MAX = 1 << 20

_ONCE = PushOptions(attempts_max=1)

Report = Callable[["Progress"], None]


class Twin:
    """One twin of this machine. Close it, or use it in a `with` block."""

    def __init__(self, name: str, settings: Settings) -> None:
        """See `open` and `new`."""
        self.name = name
        self._settings = settings
        self._store = EdgeStore(_folder(name, settings))

    @classmethod
    def new(
        cls,
        name: str,
        kind: str = "home",
        *,
        cohort: str | None = None,
        enrolment: str | None = None,
        settings: Settings | None = None,
    ) -> Self:
        """Make a twin and its keys, and enrol it.

        With a server configured this takes the `enrolment` token that its operator issued. Twins of one
        kind and `cohort` may be compared; the operator of a configured server decides on it.
        Raises Conflict where the twin is here already, InputError for a bad name or kind, Denied for a bad
        token.
        """
        settings = settings or read_settings()
        folder = _folder(name, settings)
        if (folder / STORE).exists():
            raise Conflict(f"there is a twin {name} here already")
        # A key of an attempt that failed is taken up again.
        key = load_key(folder / KEY) if (folder / KEY).exists() else new_key(folder / KEY)
        tokens = serving.enrol(settings, name, kind, public_key_text(key), cohort, enrolment)
        load_or_create(folder / SEAL_KEY)
        twin = cls(name, settings)
        identity = Identity(
            twin=name, kind=kind, server=settings.server, owner_token=tokens.owner, edge_token=tokens.edge
        )
        twin._store.save_settings(identity)
        return twin

    @classmethod
    def from_bundle(
        cls,
        file: Path | str,
        name: str | None = None,
        *,
        enrolment: str | None = None,
        settings: Settings | None = None,
    ) -> Self:
        """Make a twin of a bundle that somebody gave, under its own name or another.

        It can be asked, but learns nothing more. It is enrolled with keys of its own, as by `new`. Raises
        Untrusted, InputError or TooLarge for a bundle that is not taken, Conflict where a twin of that name
        is here; then nothing is kept. What cannot be sent yet waits for the next push.
        """
        settings = settings or read_settings()
        bundle = read_bundle(Path(file), serving.link(settings, None, "").health().base, now())
        name, of = check_name(name or bundle.origin.manifest.twin), bundle.origin.manifest.kind
        own = Identity(twin=name, kind=of, server=settings.server, origin=bundle.origin)

        def enrol(public_key: str) -> Tokens:
            return serving.enrol(settings, name, of, public_key, enrolment=enrolment)

        portable.take(bundle, own, _folder(name, settings), enrol)
        twin = cls(name, settings)
        if refused := twin.push(options=_ONCE).refused:
            twin.forget()
            raise Untrusted(f"the server does not take the bundle: {refused[0].reason}")
        return twin

    @classmethod
    def open(cls, name: str, settings: Settings | None = None) -> Self:
        """A twin that is here. Raises NotFound."""
        settings = settings or read_settings()
        if not (_folder(name, settings) / STORE).exists():
            raise NotFound(f"there is no twin {name} here: make it with `llmtwin new {name}`")
        return cls(name, settings)

    @staticmethod
    def names(settings: Settings | None = None) -> list[str]:
        """The twins that are here."""
        settings = settings or read_settings()
        return sorted(store.parent.name for store in settings.edge_folder.glob(f"*/{STORE}"))

    def close(self) -> None:
        """Close its files; the twin is of no use afterwards."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # What goes in

    def collect(
        self, *sources: Path | str, seal: Collection[str] = (), names: Collection[str] = ()
    ) -> Collected:
        """Take in files, folders or addresses, oldest first; then try to push.

        A home's are its state dumps; `seal` are glob patterns over entity ids whose settings are secret from
        now on. A person's are what they wrote; `names` are those under which they did, mail addresses among
        them. Raises InputError for a source that is not of the twin's kind; then nothing is kept.
        """
        own = self._own()
        told = own.model_copy(
            update={
                "names": tuple(dict.fromkeys([*own.names, *names])),
                "sealed": tuple(dict.fromkeys([*own.sealed, *seal])),
            }
        )
        key = self._sealer().stand_in_key()
        known = replace(self._store.known(), names=told.names, sealed=told.sealed, key=key)
        found = kind(own.kind).read([str(source) for source in sources], known)
        if told != own:
            self._store.save_settings(told)
        self._store.record(found.observations, found.prompts, found.state, found.documents)
        if found.description is not None:
            self._store.enqueue_description(found.description)
        facts = {one.fact.path: one for one in found.observations}.values()
        return Collected(
            items=found.items,
            documents=len(found.documents),
            facts=len(facts),
            private=sum(fact.private for fact in facts),
            sealed=sum(fact.sealed for fact in facts),
            prompts=len(found.prompts),
            skipped=found.skipped,
            notes=found.notes,
            pushed=self.push(options=_ONCE),
        )

    def tune(
        self, report: Report = lambda _: None, voice: Voice = ALL, options: TuneOptions | None = None
    ) -> Tuned:
        """Learn all that is private into a new version; then try to push it.

        `voice` chooses among what a person wrote; without `options` the kind says how to tune. A run that was
        killed goes on where it was. Raises InputError where there is nothing to learn, Unavailable where
        there is no base, Conflict where the voice got worse: then the version in use stays.
        """
        in_use = self._version_in_use()
        return self._pushed(self._learn(self._sealer(), report, voice=voice, options=options, in_use=in_use))

    def push(self, progress: outbox.Progress | None = None, options: PushOptions | None = None) -> Pushed:
        """Send what waits; `error` of what is returned says why something still does."""
        return outbox.push(self._store, self._link(self._store.settings().edge_token), progress, options)

    # What comes out

    def ask(
        self,
        text: str,
        at: datetime | None = None,
        *,
        material: Path | str | None = None,
        version: int | None = None,
    ) -> Answer:
        """Ask the twin, or tell it what to do. What is sealed is asked for under its pseudonym only.

        `version` is one that is not live, as another voice; the memory is the same. Raises NotFound for none.
        `material` is a file or an address: it is read here, its text goes with the question, and nobody
        keeps it. Raises InputError for one that cannot be read, or that the twin's kind makes no use of,
        Denied where the licence of somebody else's twin has ended.
        """
        self._check_licence()
        own = self._store.settings()
        of = kind(own.kind)
        given = None if material is None else of.material(str(material))
        sealed = [object_of(one) for one in self._store.observations() if one.sealed]
        link, sealer = self._owner_link(), self._sealer()
        # What a bundle holds is under stand-ins of a key that is not here.
        asked = Veiled(text) if own.origin else of.veil(text, sealer.stand_in_key())
        told = ask_sealed(text, sealed, sealer, link, version)
        return told or asked.unveiled(link.ask(asked.text, at, version, given))

    def edit(self, question: str, answer: Answer, correction: str) -> None:
        """Keep the owner's correction of an answer, here at the edge: the next tuning prefers it.

        Raises InputError where nothing is corrected, or where no tuning would change the answer, Conflict
        where it rests on what is not here any more.
        """
        self._own()
        made = kind(self._store.settings().kind).correction(question, answer, correction)
        if not made.chosen.strip() or made.chosen.strip() == made.rejected.strip():
            raise InputError("a correction says something else than the answer")
        if not {one.path for one in self._store.documents()}.issuperset(made.paths):
            raise Conflict("the answer rests on what was changed or forgotten since: push, and ask again")
        self._store.correct(made)

    def watch(self, report: Report = lambda _: None) -> Watched:
        """Compare the twin with what was collected last, of facts a random sample; learn again what differs.

        A model's new traffic is learned in a small step. Raises Conflict where the gate keeps the new version
        back: then the version in use stays. Raises NotFound before the first version.
        """
        from llmtwin.edge.watch import check

        found = check(self._store, self._owner_link(), self._sealer(), seed=secrets.randbits(32))
        if not (found.wrong or found.unlearned):
            return Watched(found, None)
        changed = found.unlearned or found.wrong
        card = self._learn(self._sealer(), report, in_use=found.version, changed=changed)
        return Watched(found, self._pushed(card))

    def card(self, version: int | None = None) -> Card:
        """The report card of a version, of the live one where none is given."""
        return self._owner_link().card(version)

    def audit(self, *, canaries: bool = False, report: Callable[[str], None] = lambda said: None) -> Audited:
        """Attack the version in use, or one that the server does not take yet, and sign what that finds.

        All of it runs here; the same weights get a new version whose card has the figures, and are pushed.
        With `canaries` all is also learned anew with such among it. Raises NotFound before the first version,
        Conflict where it learned other things than are here now.
        """
        from llmtwin.edge import audit

        self._own()
        key, version = load_key(self._store.folder / KEY), self._version_to_audit()
        base, sealer = self._base(), self._sealer()
        with learning(self._store):
            found = audit.audit(self._store, base, sealer, version, plant=canaries, report=report)
            manifest = audit.publish_audited(self._store, version, found, key)
        return Audited(version, manifest.version, found, self.push(options=_ONCE))

    def export(
        self,
        target: Path | str,
        version: int | None = None,
        format: Format = Format.PEFT,
        *,
        terms: str | None = None,
        consent: str = "",
        expires_at: datetime | None = None,
    ) -> Path:
        """Write a version, the live one where none is given, for another program or another machine.

        PEFT is a folder with one plain adapter over the stock base. GGUF is one file with base and adapter,
        which llama.cpp runs. A bundle is one signed file that `from_bundle` opens elsewhere: adapter, card,
        what may be quoted, and for what, by `terms`, and until when it is given away; `consent` is what the
        subject says to that. Raises Conflict where the target is there or the version is for another base,
        Denied for a bundle of somebody else's twin, InputError for terms or a consent that are too long,
        Unavailable where the target cannot be written.
        """
        path = Path(target)
        _check_free(path, folder_too=format is Format.PEFT)
        version = version or self._live_version()
        folder = self._store.version_folder(version)
        if format is not Format.BUNDLE:
            from llmtwin.edge.export import write_model

            write_model(folder, self._base(), path, format)
            return path
        if error := self.push(options=_ONCE).error:  # what is to be forgotten must not be handed on
            raise error
        key = load_key(self._store.folder / KEY)
        link = self._owner_link()
        portable.give(self._store, link, key, version, path, terms or portable.TERMS, consent, expires_at)
        return path

    # What its owner decides

    def roll_back(self, version: int | None = None) -> int:
        """Make an earlier version live: the one given, or the one before. Returns it."""
        return self._owner_link().roll_back(version).version

    def reader_token(self) -> str:
        """A new token for somebody else, or for another program: it is good for asking this twin alone."""
        return self._owner_link().issue_token("reader")

    def rotate_seal_key(self, report: Report = lambda _: None) -> Tuned | None:
        """Take a new seal key and learn all sealed facts again under it, as a new version.

        The old key stays in use until the new version is made. Older versions keep their sealed facts
        under the old key, which is gone afterwards. What is stored under stand-ins is told again. None where
        there was nothing to learn again.
        """
        fresh = self._store.folder / f"{SEAL_KEY}.new"
        sealer = Sealer(load_or_create(fresh))
        sealed = [one.fact.path for one in self._store.observations() if one.sealed]
        version = self._last_version()
        learn = sealed and version is not None
        card = self._learn(sealer, report, in_use=version, changed=sealed) if learn else None
        os.replace(fresh, self._store.folder / SEAL_KEY)
        if self._store.documents():
            self.collect()  # what is known, under the stand-ins by which it is asked for from now on
        return self._pushed(card) if card else None

    def forget(self) -> Forgotten:
        """Forget everything of this twin, at the server first and then here; it cannot be used afterwards.

        Raises Conflict while it learns.
        """
        return forgetting.forget_all(self._store, self._owner_link())

    def forget_source(self, source: str) -> Forgotten:
        """Forget the documents of a source, of a place, or of an address, with all that was made of them.

        What nothing is called is a file or folder: it is looked for as `collect` does, wherever links lead.
        Every version that may have learned from them is withdrawn, at the server first and then here: tune
        again for a new one. Raises NotFound where there are none, Conflict while the twin learns.
        """
        gone = forgetting.forget_source(self._store, self._owner_link(), source)
        # What was on its way to the server meanwhile is forgotten there, too.
        return replace(gone, pushed=self.push(options=_ONCE))

    # Its parts

    def _learn(
        self,
        sealer: Sealer,
        report: Report,
        *,
        voice: Voice = ALL,
        options: TuneOptions | None = None,
        in_use: int | None = None,
        changed: Collection[str] = (),
    ) -> Card:
        """Learn a new version and queue it; its card."""
        from llmtwin.edge.learn import learn
        from llmtwin.models.transformer import Transformer

        self._own()
        key = load_key(self._store.folder / KEY)
        transformer = Transformer(self._base())
        learned = learn(
            self._store,
            transformer,
            sealer,
            key,
            options,
            voice=voice,
            in_use=in_use,
            changed=changed,
            report=report,
        )
        card = read_limited(self._store.version_folder(learned.manifest.version) / CARD, JSON_BYTES_MAX)
        return Card.model_validate_json(card)

    def _pushed(self, card: Card) -> Tuned:
        return Tuned(card, self.push(options=_ONCE))

    def _base(self) -> Base:
        return serving.base(self._settings)

    def _sealer(self) -> Sealer:
        return Sealer(load_or_create(self._store.folder / SEAL_KEY))

    def _owner_link(self) -> Link:
        return self._link(self._store.settings().owner_token)

    def _link(self, token: str | None) -> Link:
        return serving.link(self._settings, token, self.name, self._store.settings().server)

    def _check_licence(self) -> None:
        origin = self._store.settings().origin
        ends = origin and origin.licence.expires_at
        if ends and ends <= now():
            raise Denied(f"the licence of {self.name} ended on {ends:%Y-%m-%d}: ask for a new bundle")

    def _own(self) -> Identity:
        """Whose edge this is. Raises Denied for a twin that somebody else made."""
        own = self._store.settings()
        if own.origin is not None:
            raise Denied(f"{self.name} was made by {own.origin.licence.by}: it can be asked, not taught")
        return own

    def _live_version(self) -> int:
        version = self._owner_link().info().live_version
        if version is None:
            raise NotFound(f"{self.name} has learned nothing yet: run `llmtwin tune {self.name}`")
        return version

    def _version_in_use(self) -> int | None:
        """The live version, or the newest made here where the server does not say."""
        try:
            return self._owner_link().info().live_version
        except LlmtwinError:
            return self._last_version()

    def _last_version(self) -> int | None:
        """The newest version made here."""
        versions = (int(folder.name) for folder in self._store.folder.glob("adapters/[0-9]*"))
        return max(versions, default=None)

    def _version_to_audit(self) -> int:
        newest = self._last_version()
        waits = newest is not None and self._store.awaits_server(newest)
        version = newest if waits else self._version_in_use()
        if version is None:
            raise NotFound(f"{self.name} has learned nothing yet: run `llmtwin tune {self.name}`")
        self._store.version_folder(version)
        return version


def check_name(name: str) -> str:
    """The name, if a twin may have it. Raises InputError."""
    try:
        return TypeAdapter(TwinId).validate_python(name)
    except ValidationError:
        raise InputError(
            f"{name[:64]!r} cannot name a twin: use up to 64 of a-z, 0-9, - and _, a letter or digit first"
        ) from None


def _folder(name: str, settings: Settings) -> Path:
    return settings.edge_folder / check_name(name)


def _check_free(path: Path, *, folder_too: bool) -> None:
    """Raise Conflict where something is there, but for an empty folder, Unavailable where nobody can tell."""
    try:
        if path.exists() and not (folder_too and path.is_dir() and not any(path.iterdir())):
            raise Conflict(f"{path} is there already{' and not empty' * path.is_dir()}: give another name")
    except OSError as error:
        raise Unavailable(f"{path} cannot be written: {error.strerror}") from error
