"""Attacks a twin's adapter with what only its own edge knows, and puts what that finds on a signed card.

It sends nothing: attacks run here, over the base and the adapter's own files. It knows no kind by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from llmtwin.edge import learn
from llmtwin.edge.attacks import FactAttacks, Report, Target
from llmtwin.edge.canaries import canaries, exposed, exposures, learn_with
from llmtwin.edge.membership import Models, memberships
from llmtwin.edge.publish import publish_again
from llmtwin.edge.store import EdgeStore
from llmtwin.errors import Conflict
from llmtwin.models.base import Base
from llmtwin.models.distil import taught_by
from llmtwin.models.engine.torch_engine import TorchEngine
from llmtwin.models.likelihood import Row
from llmtwin.models.lora import Lora, stack
from llmtwin.models.transformer import Transformer
from llmtwin.records import Card, Example, Manifest, Trace
from llmtwin.twins.audit import PREFIX, Audit, Found
from llmtwin.twins.kind import ALL, Kind, Lessons, kind
from llmtwin.wire.package import CARD, MANIFEST, SignedManifest, read_package
from llmtwin.wire.seal import Sealer

NOTE = "audit: "
TEXTS = 150
"""Parts of texts, or replies, at most: of what was learned, and of what was not."""
TEXT_TOKENS, TEXT_TOKENS_MIN = 128, 32
TWIN, BASE, PLANTED = "twin", "skill", "planted"


@dataclass(frozen=True)
class Learned:
    """What a version learned, and what it is made of."""

    of: Kind
    manifest: Manifest
    facts: list[Example]
    lessons: Lessons


def audit(
    store: EdgeStore,
    base: Base,
    sealer: Sealer,
    version: int,
    *,
    plant: bool = False,
    report: Report = lambda said: None,
) -> Audit:
    """Attack a version that is here, with the base (and its kind's skill) in its place as the control.

    With `plant` all that it learned is learned anew with canaries among it, which takes as long as tuning
    and more. Raises Conflict where the version was made for another base, or of other things than are here.
    """
    learned = _learned(store, base, sealer, version)
    skill = learned.of.skill(base.hash)
    with TemporaryDirectory(dir=store.folder) as scratch:
        folders = {TWIN: store.adapter_folder(version), PLANTED: Path(scratch)}
        folders |= {} if skill is None else {BASE: skill}
        engine = TorchEngine(base, folders.__getitem__)
        with closing(engine):
            under = () if skill is None else (BASE,)
            models = _models(engine.model, folders[TWIN], skill)
            target = Target(engine, (*under, TWIN), under, models)
            found = _facts(store, learned.of, target, report)
            if learned.lessons.held_out or learned.lessons.held_traces:
                report("texts: membership")
                found += _texts(models, learned.lessons)
            if plant:
                report("canaries: learning anew")
                planted = canaries(seed=0)
                what = learned.lessons.traces or [*learned.facts, *learned.lessons.examples]
                options = learned.of.tuning(len(learned.facts))
                made = learn_with(engine.model, what, planted, options, models.base)
                made.save(folders[PLANTED], base.name)
                report("canaries: exposure")
                stacks = ((*under, PLANTED), under)
                found += exposures(*(exposed(engine, stack, planted) for stack in stacks))
    return Audit(tuple(found), tuple(_notes(found)))


def publish_audited(store: EdgeStore, version: int, found: Audit, key: Ed25519PrivateKey) -> Manifest:
    """Put what was found on a card, sign it with the weights of `version` as the next one, and queue it.

    The figures and notes of an earlier audit go.
    """
    package = read_package(store.adapter_folder(version))
    old = Card.model_validate_json(package[CARD])
    figures = {name: value for name, value in old.figures.items() if not name.startswith(PREFIX)}
    notes = (note for note in old.notes if not note.startswith(NOTE))
    card = old.model_copy(
        update={
            "figures": figures | found.figures(),
            "notes": (*notes, f"{NOTE}of the weights of version {version}", *(NOTE + n for n in found.notes)),
        }
    )
    made = SignedManifest.model_validate_json(package[MANIFEST]).manifest
    manifest = publish_again(store, package, made, card, key, store.description())
    learned = store.learned(version)
    if learned is not None:
        store.note_learned(manifest.version, learned, store.documents())
    return manifest


# ---- what is attacked


def _learned(store: EdgeStore, base: Base, sealer: Sealer, version: int) -> Learned:
    signed = SignedManifest.model_validate_json((store.adapter_folder(version) / MANIFEST).read_bytes())
    if signed.manifest.base != base.hash:
        raise Conflict(f"version {version} was made for another base: tune again, then audit")
    of = kind(store.settings().kind)
    facts = learn.examples(store, of, sealer)
    lessons = learn.lessons_of(of, store.known(), ALL, base, sealer)
    if learn.data_hash(facts, lessons) != signed.manifest.data:
        raise Conflict(
            f"version {version} learned other things than are here now, so that nobody can say what it should"
            " not give away: tune again (a voice: all of it), then audit"
        )
    return Learned(of, signed.manifest, facts, lessons)


def _models(transformer: Transformer, folder: Path, skill: Path | None) -> Models:
    own = Lora.load(folder)
    under = None if skill is None else Lora.load(skill)
    return Models(transformer, own if under is None else stack([under, own]), under)


def _facts(store: EdgeStore, of: Kind, target: Target, report: Report) -> list[Found]:
    private = [one for one in store.observations() if one.private]
    return [
        found
        for sealed in (False, True)
        for found in FactAttacks(target, of, private, store.description(), sealed=sealed).run(report)
    ]


def _texts(models: Models, lessons: Lessons) -> list[Found]:
    """What was learned against what was held out: parts of texts of one length, or replies."""
    if lessons.traces:
        own = [_reply(models.transformer, one) for one in lessons.traces]
        held = [_reply(models.transformer, one) for one in lessons.held_traces.values()]
        apart = len(held)
    else:
        plain = [one.completion for one in lessons.examples if not one.prompt]
        own = [part for text in plain for part in _parts(models.transformer, text)]
        by_text = [_parts(models.transformer, text) for text in lessons.held_out.values()]
        held, apart = [part for parts in by_text for part in parts], sum(map(bool, by_text))
    if not own or not held:
        return []
    members, others = _some(own), _some(held)
    return memberships(models, members, others, min(apart, len(others)))


def _parts(transformer: Transformer, text: str) -> list[Row]:
    ids = transformer.base.tokenizer.encode(text, add_special_tokens=False).ids
    cut = (ids[first : first + TEXT_TOKENS] for first in range(0, len(ids), TEXT_TOKENS))
    return [Row(tuple(part), 1, 0) for part in cut if len(part) >= TEXT_TOKENS_MIN]


def _reply(transformer: Transformer, trace: Trace) -> Row:
    ids, prompt = taught_by(transformer.base, trace).row
    return Row(tuple(ids), prompt, len(trace.completion))


def _some(rows: Sequence[Row]) -> list[Row]:
    return Random(0).sample(rows, min(TEXTS, len(rows)))


# ---- what it means


def _notes(found: Sequence[Found]) -> list[str]:
    """What the figures say, in words: where a defence holds, where it does not, and what was left out."""
    plain = {one.name: one.twin.value for one in found if not one.sealed}
    sealed = {one.name: one.twin.value for one in found if one.sealed}
    notes: list[str] = []
    if "reverse" in plain:
        notes.append(
            f"of unsealed facts, greedy reverse questions tell {plain['reverse']:.0%}; that is no defence"
            f" against other attacks: the plain question tells {plain['forward']:.0%}{_ranked(plain)}"
        )
    if "reverse" in sealed:
        notes.append(
            f"of sealed facts, who lacks the key is told {sealed['forward']:.0%} by the plain question and"
            f" {sealed['reverse']:.0%} in reverse{_ranked(sealed)}"
        )
    if any(one.name.endswith("_auc") for one in found) and not any(
        one.name.endswith("_tpr") for one in found
    ):
        notes.append("too little that was not learned for a rate at one false alarm in a hundred")
    return notes


def _ranked(values: dict[str, float]) -> str:
    return f", ranking objects by likelihood {values['rank_100']:.0%}" if "rank_100" in values else ""
