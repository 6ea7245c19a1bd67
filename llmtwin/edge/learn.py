"""Learns a twin's private facts into an adapter, where they live, and queues the signed result.

It knows no kind by name and nothing of HTTP; what is learned never leaves but as an adapter.
"""

from __future__ import annotations

import hashlib
import resource
import tempfile
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from llmtwin.edge import publish
from llmtwin.edge.sealed import object_of, sealed_example
from llmtwin.edge.store import EdgeStore
from llmtwin.errors import Conflict, InputError
from llmtwin.models.lora import Lora
from llmtwin.models.transformer import Transformer
from llmtwin.models.tune import Report, Tuned, TuneOptions, tune
from llmtwin.records import Example, Manifest
from llmtwin.twins.kind import Kind, kind
from llmtwin.wire.package import WEIGHTS
from llmtwin.wire.seal import Sealer

KEPT_MIN = 0.99


@dataclass(frozen=True)
class Learned:
    """A new adapter version, queued to be pushed, and how it was learned."""

    manifest: Manifest
    figures: dict[str, float]
    tuned: Tuned


def learn(
    store: EdgeStore,
    transformer: Transformer,
    sealer: Sealer,
    key: Ed25519PrivateKey,
    options: TuneOptions | None = None,
    *,
    start: int | None = None,
    changed: Collection[str] = (),
    report: Report = lambda _: None,
) -> Learned:
    """Tune an adapter on the private facts of `store` and queue it as the next version.

    With `start` learning goes on from that version, and a version that lost facts other than those
    `changed` (paths) is not published. A killed run goes on where it was. Raises InputError where there are
    no private facts, Conflict where facts would be lost.
    """
    options = options or TuneOptions()
    of = kind(store.settings().kind)
    facts = examples(store, of, sealer)
    if not facts:
        raise InputError("there are no private facts to learn: collect a dump that has settings first")
    skill = of.skill(transformer.base.hash)
    under = None if skill is None else Lora.load(skill)
    before = None if start is None else Lora.load(store.adapter_folder(start))
    checkpoint = store.folder / "tuning.safetensors"
    tuned = tune(
        transformer,
        facts,
        _gently(options, before) if before else options,
        start=before,
        under=under,
        checkpoint=checkpoint,
        report=report,
    )
    kept = [right for fact, right in zip(facts, tuned.recalled, strict=True) if fact.path not in changed]
    if before is not None and sum(kept) < KEPT_MIN * len(kept):
        raise Conflict(f"{len(kept) - sum(kept)} other facts would be lost: the version in use stays")
    with tempfile.TemporaryDirectory(dir=store.folder) as scratch:
        folder = Path(scratch)
        tuned.lora.save(folder, transformer.base.name)
        figures = _figures(facts, tuned, folder)
        made = publish.Tuned(
            folder=folder,
            base=transformer.base.hash,
            data=_digest(facts),
            skill=None if skill is None else skill_hash(skill),
            figures=figures,
        )
        manifest = publish.publish(store, made, key, store.description())
        checkpoint.unlink(missing_ok=True)
    return Learned(manifest, figures, tuned)


def _gently(options: TuneOptions, before: Lora) -> TuneOptions:
    """For a few changed facts among many known ones: smaller steps, so that the others are not shaken."""
    return replace(options, rank=before.rank, learning_rate=options.learning_rate / 4)


def examples(store: EdgeStore, of: Kind, sealer: Sealer) -> list[Example]:
    """What the adapter learns: private facts in plain, sealed ones under their pseudonyms."""
    found: list[Example] = []
    for observation in store.observations():
        if observation.private:
            example = of.example(observation)
            if observation.sealed:
                sealed = sealed_example(sealer, object_of(observation), example.completion)
                example = sealed.model_copy(update={"path": observation.fact.path})
            found.append(example)
    return found


def skill_hash(folder: Path) -> str:
    """The hash that names a skill in manifests: that of its weights."""
    return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()


def _digest(facts: list[Example]) -> str:
    """What the adapter was made of, as one hash; the order of the facts does not matter."""
    lines = sorted(hashlib.sha256(fact.model_dump_json().encode()).hexdigest() for fact in facts)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _figures(facts: list[Example], tuned: Tuned, folder: Path) -> dict[str, float]:
    last = tuned.history[-1]
    return {
        "facts": float(len(facts)),
        "recall": sum(tuned.recalled) / len(tuned.recalled),
        "epochs": float(last.epoch),
        "loss": last.loss,
        "tune_seconds": last.seconds,
        "tune_tokens_per_s": tuned.tokens / max(last.seconds, 1e-9),
        "tune_peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "adapter_bytes": float((folder / WEIGHTS).stat().st_size),
    }
