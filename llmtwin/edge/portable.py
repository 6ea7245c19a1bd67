"""A twin given away as a bundle, and a twin made of one. It knows nothing of how a twin is enrolled."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from llmtwin.edge import publish
from llmtwin.edge.link import Link, Tokens
from llmtwin.edge.store import KEY, SEAL_KEY, EdgeStore, Settings
from llmtwin.errors import Conflict, Denied, InputError, Unavailable
from llmtwin.records import LICENCE_CHARS_MAX, Licence, Prompt, Provenance, now, twin_id
from llmtwin.wire.bundle import Bundle, write_bundle
from llmtwin.wire.package import MANIFEST, SignedManifest, read_package
from llmtwin.wire.seal import load_or_create
from llmtwin.wire.sign import new_key, public_key_text

TERMS = "personal use by the recipient; no redistribution"


def give(
    store: EdgeStore,
    link: Link,
    key: Ed25519PrivateKey,
    version: int,
    target: Path,
    terms: str,
    consent: str,
    expires_at: datetime | None,
) -> None:
    """Write a version, with what the server holds that may be quoted, as a bundle signed with the twin's key.

    Raises Denied for a twin that somebody else made, InputError for terms or a consent that are too long.
    """
    own = store.settings()
    if own.origin is not None:
        raise Denied(f"{own.twin} was made by somebody else: its bundle is theirs to give")
    for what, text in (("licence", terms), ("consent", consent)):
        if len(text) > LICENCE_CHARS_MAX:
            raise InputError(f"the {what} has {len(text)} characters; give at most {LICENCE_CHARS_MAX}")
    named = next((name for name in own.names if "@" not in name), own.twin)
    package = read_package(store.adapter_folder(version))
    origin = Provenance(
        manifest=SignedManifest.model_validate_json(package[MANIFEST]).manifest,
        public_key=public_key_text(key),
        licence=Licence(by=named, terms=terms, consent=consent, given_at=now(), expires_at=expires_at),
    )
    write_bundle(target, Bundle(origin, package, tuple(link.prompts()), store.description()), key)


def take(bundle: Bundle, own: Settings, folder: Path, enrol: Callable[[str], Tokens]) -> None:
    """Make a twin of a checked bundle in `folder`, which is there whole or not at all.

    It has keys of its own: with them the version is signed anew, and queued. `enrol` brings the public one
    to the server. Raises Conflict where the folder is there.
    """
    if folder.exists():
        raise Conflict(f"there is a twin {own.twin} here already: take another name")
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".incoming-", dir=folder.parent) as scratch:
            staged = Path(scratch) / own.twin
            key = new_key(staged / KEY)
            load_or_create(staged / SEAL_KEY)
            with EdgeStore(staged) as store:
                store.save_settings(own)
                _fill(store, bundle, key)
                tokens = enrol(public_key_text(key))
                known = {"owner_token": tokens.owner, "edge_token": tokens.edge}
                store.save_settings(own.model_copy(update=known))
            staged.rename(folder)
    except OSError as error:
        raise Unavailable(f"{folder} cannot be written: {error.strerror}") from error


def _fill(store: EdgeStore, bundle: Bundle, key: Ed25519PrivateKey) -> None:
    """Queue what the bundle holds as the first version and the prompts of this store's own twin."""
    made = bundle.origin.manifest
    card = bundle.card.model_copy(update={"notes": (*bundle.card.notes, said(bundle.origin))})
    publish.publish_again(store, bundle.package, made, card, key, bundle.description)
    store.record((), [_of(prompt, store.settings().twin) for prompt in bundle.prompts], "")


def said(origin: Provenance) -> str:
    """Where a twin comes from and what is allowed with it, in one line."""
    made, licence = origin.manifest, origin.licence
    until = f", until {licence.expires_at:%Y-%m-%d}" if licence.expires_at else ""
    consent = f"consent: {licence.consent}" if licence.consent else "no consent of the subject is on record"
    return (
        f"given by {licence.by} on {licence.given_at:%Y-%m-%d} as {made.twin}@{made.version}, "
        f"key {origin.public_key}; {licence.terms}{until}; {consent}"
    )


def _of(prompt: Prompt, twin: str) -> Prompt:
    """The prompt as another twin's: a server that has the original, too, tells them apart by their ids."""
    content = prompt.id.removeprefix(twin_id(prompt.twin, ""))
    return prompt.model_copy(update={"twin": twin, "id": twin_id(twin, content)})
