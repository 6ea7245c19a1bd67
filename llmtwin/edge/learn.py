"""Learns a twin's private facts into an adapter, where they live, and queues the signed result.

It knows no kind by name and nothing of HTTP; what is learned never leaves but as an adapter.
"""

from __future__ import annotations

import hashlib
import random
import resource
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from llmtwin.edge import mirrored, publish
from llmtwin.edge.instructions import instructed
from llmtwin.edge.likeness import compare
from llmtwin.edge.locks import alone
from llmtwin.edge.preferences import answers, preferences, preferring
from llmtwin.edge.sealed import object_of, sealed_example
from llmtwin.edge.store import CHECKPOINTS, EdgeStore
from llmtwin.edge.voice import Heard, InUse, find, hear
from llmtwin.errors import Conflict, InputError
from llmtwin.models.base import Base
from llmtwin.models.distil import distil, fits
from llmtwin.models.lora import Lora
from llmtwin.models.transformer import Transformer
from llmtwin.models.tune import Report, Tuned, TuneOptions, prefer, tune
from llmtwin.records import Example, Manifest, Preference, Trace
from llmtwin.twins.gate import Verdict, decide
from llmtwin.twins.kind import ALL, Kind, Known, Lessons, Voice, kind
from llmtwin.wire.package import WEIGHTS, data_digest
from llmtwin.wire.seal import Sealer

NOTHING = "there is nothing private to learn: nothing is collected yet, or it is all state, not settings"
LOST_SHARE_MAX = 0.01
STEP_HELD_OUT_MAX = 128
"""A small step is judged on so many held-out replies: its time is not to grow with all that is on record."""


@dataclass(frozen=True)
class Learned:
    """A new adapter version, queued to be pushed, and how its last step was learned."""

    manifest: Manifest
    figures: dict[str, float]
    tuned: Tuned


@alone
def learn(
    store: EdgeStore,
    transformer: Transformer,
    sealer: Sealer,
    key: Ed25519PrivateKey,
    options: TuneOptions | None = None,
    *,
    voice: Voice = ALL,
    in_use: int | None = None,
    changed: Collection[str] = (),
    report: Report = lambda _: None,
) -> Learned:
    """Tune an adapter on the private facts and documents of `store` and queue it as the next version.

    Of the documents those of `voice` are learned, and preferred to what the base says; so are the owner's
    corrections. Another model's replies are distilled. With facts that `changed` (paths) learning goes on
    from the version in use. With traffic that came (addresses) it does, too, in small steps over the replies
    that this version has not learned and as many that it has, drawn by the seed so that none is forgotten:
    the time is that of what is new. It learns all anew where more is new than is known, where it is not known
    what the version learned, and where nothing `changed`. A version that lost other facts, or that is worse
    on what was held out than the one in use, or the base where there is none, is not published. A killed run
    goes on where it was. Raises InputError where there is nothing private to learn, Conflict where the gate
    keeps the new version back, or where others learn or forget meanwhile.
    """
    of = kind(store.settings().kind)
    mirrored.take(store)
    facts = examples(store, of, sealer)
    options = options or of.tuning(len(facts))
    base, known = transformer.base, store.known()
    lessons = lessons_of(of, known, voice, base, sealer)
    if not (facts or lessons.examples or lessons.traces):
        raise InputError(NOTHING)
    skill, rival = of.skill(base.hash), find(store, in_use, base)
    _need_news(store, known, lessons, rival, changed)
    asked = instructed(base, lessons, options.seed, store.folder / CHECKPOINTS[2])
    learned = [*facts, *asked.examples]
    step = _step(lessons, rival, options.seed) if changed else None
    is_kept = [fact.path not in changed for fact in facts]
    before = rival.lora if rival and (step or not all(is_kept)) else None
    preferred = _preferences(base, lessons, options)
    under = None if skill is None else Lora.load(skill)
    taught = step.traces if step else lessons.traces or learned
    runs = _tune(store, transformer, taught, preferred, options, before, under, report)
    recalled = runs[0].recalled[: len(facts)]
    if before is not None and not all(r for r, kept in zip(recalled, is_kept, strict=True) if not kept):
        # Small steps were not enough for what changed: learn all of it anew.
        runs = _tune(store, transformer, learned, preferred, options, None, under, report)
        recalled = runs[0].recalled[: len(facts)]
    if not all(is_kept):
        _keep_facts([right for right, kept in zip(recalled, is_kept, strict=True) if kept])
    heard = _heard(transformer, step or lessons, runs[-1].lora, rival)
    said = _figures(recalled, lessons, len(preferred), runs) | heard.figures
    if own := preferred[len(lessons.preferences) :]:
        said |= _written(store, base, skill, runs[-1].lora, own, of, lessons, options.seed)
    notes, data = (*_notes(voice, step, rival), *asked.notes, *heard.notes), data_hash(facts, lessons)
    manifest, figures = _publish(store, runs[-1].lora, base, skill, data, said, notes, key)
    store.note_learned(manifest.version, lessons.learned, known.documents)
    for name in CHECKPOINTS:
        (store.folder / name).unlink(missing_ok=True)
    return Learned(manifest, figures, runs[-1])


def lessons_of(of: Kind, known: Known, voice: Voice, base: Base, sealer: Sealer) -> Lessons:
    """What a kind learns of what is known, but for replies that are too long for the base; a note says so.

    Raises InputError where there is nothing to learn.
    """
    found = of.lessons(known, voice, lambda text: len(base.encode(text)), sealer.stand_in_key())
    by_address = dict(zip(found.learned, found.traces, strict=True)) if found.traces else {}
    learned = {at: trace for at, trace in by_address.items() if fits(base, trace)}
    held_out = {at: trace for at, trace in found.held_traces.items() if fits(base, trace)}
    too_long = len(by_address) + len(found.held_traces) - len(learned) - len(held_out)
    if not too_long:
        return found
    note = f"{too_long} replies were left out: with what was asked they are too long for the base"
    if not learned:
        raise InputError(f"nothing is left to learn: {note}")
    return replace(
        found,
        traces=tuple(learned.values()),
        learned=tuple(learned),
        held_traces=held_out,
        notes=(*found.notes, note),
    )


def _need_news(
    store: EdgeStore, known: Known, lessons: Lessons, rival: InUse | None, changed: Collection[str]
) -> None:
    """Raise Conflict where all traffic that came is too long to be learned; it is not looked at again."""
    if rival is None or rival.learned is None or not lessons.traces or not changed:
        return
    if not set(changed) & set(lessons.learned):
        store.note_learned(rival.version, rival.learned, known.documents)
        raise Conflict(f"what came is too long to be learned: {'; '.join(lessons.notes)}")


def _publish(
    store: EdgeStore,
    lora: Lora,
    base: Base,
    skill: Path | None,
    data: str,
    figures: dict[str, float],
    notes: tuple[str, ...],
    key: Ed25519PrivateKey,
) -> tuple[Manifest, dict[str, float]]:
    """Queue an adapter as the next version; its manifest, and its figures with how large it is."""
    with tempfile.TemporaryDirectory(dir=store.folder) as scratch:
        folder = Path(scratch)
        lora.save(folder, base.name)
        made = publish.Tuned(
            folder=folder,
            base=base.hash,
            data=data,
            skill=None if skill is None else skill_hash(skill),
            figures=figures | {"adapter_bytes": float((folder / WEIGHTS).stat().st_size)},
            notes=notes,
        )
        return publish.publish(store, made, key, store.description()), made.figures


def _step(lessons: Lessons, rival: InUse | None, seed: int) -> Lessons | None:
    """What one small step on from `rival` learns and is judged by; None where it is better to learn anew."""
    learned = rival.learned if rival else None
    if rival is None or learned is None or not lessons.traces:
        return None
    by_address = dict(zip(lessons.learned, lessons.traces, strict=True))
    new = [trace for at, trace in by_address.items() if at not in learned]
    old = [trace for at, trace in by_address.items() if at in learned]
    if not 0 < len(new) <= len(old):
        return None
    drawn = random.Random(f"{seed}/{rival.version}")
    held_out = sorted(lessons.held_traces.items())
    judged = drawn.sample(held_out, min(len(held_out), STEP_HELD_OUT_MAX))
    return Lessons(
        traces=(*new, *drawn.sample(old, len(new))),
        held_traces=dict(judged),
        held_sessions=lessons.held_sessions,
    )


def _keep_facts(kept: Sequence[bool]) -> None:
    """Have the gate decide on facts that did not change: the version in use has all of them."""
    found = decide(kept, [True] * len(kept), loss_max=LOST_SHARE_MAX, sampled=False)
    if found.verdict is Verdict.FAIL:
        raise Conflict(f"{len(kept) - sum(kept)} other facts would be lost: the version in use stays")


def _tune(
    store: EdgeStore,
    transformer: Transformer,
    learned: Sequence[Example] | Sequence[Trace],
    preferred: Sequence[Preference],
    options: TuneOptions,
    before: Lora | None,
    under: Lora | None,
    report: Report,
) -> list[Tuned]:
    """The run over examples or another model's replies, and where there are preferences the one over them."""
    checkpoints = [store.folder / name for name in CHECKPOINTS]
    teach: Callable[..., Tuned] = distil if isinstance(learned[0], Trace) else tune
    first = teach(
        transformer,
        learned,
        _gently(options, before) if before else options,
        start=before,
        under=under,
        checkpoint=checkpoints[0],
        report=report,
    )
    if not preferred:
        return [first]
    then = prefer(
        transformer,
        preferred,
        preferring(options),
        start=first.lora,
        under=under,
        checkpoint=checkpoints[1],
        report=report,
    )
    return [first, then]


def _heard(transformer: Transformer, lessons: Lessons, new: Lora, rival: InUse | None) -> Heard:
    """What the gate says of a voice, or of a twin of a model."""
    if lessons.traces:
        return compare(transformer, lessons, new, rival)
    return hear(transformer, lessons.held_out, new, rival)


def _written(
    store: EdgeStore,
    base: Base,
    skill: Path | None,
    new: Lora,
    own: Sequence[Preference],
    of: Kind,
    lessons: Lessons,
    seed: int,
) -> dict[str, float]:
    """What a card says of what a voice writes where the base wrote what its own words are preferred to."""
    with tempfile.TemporaryDirectory(dir=store.folder) as scratch:
        new.save(Path(scratch), base.name)
        adapters = [*([skill] if skill else []), Path(scratch)]
        said = answers(base, [one.prompt for one in own], seed, adapters)
    return of.written(said, [one.rejected for one in own], lessons)


def _preferences(base: Base, lessons: Lessons, options: TuneOptions) -> list[Preference]:
    """The owner's corrections, and for a voice its own words over the base's."""
    own = preferences(base, lessons.examples, options.seed) if lessons.examples else []
    return [*lessons.preferences, *own]


def _gently(options: TuneOptions, before: Lora) -> TuneOptions:
    """For a few changed facts among many known ones: smaller steps, so that the others are not shaken."""
    return replace(options, rank=before.rank, learning_rate=options.learning_rate / 4, few_epochs=0)


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


def data_hash(facts: Sequence[Example], lessons: Lessons) -> str:
    """The hash of what an adapter is made of, in any order, and whatever a base made of its prompts."""
    return data_digest([*facts, *lessons.examples, *lessons.traces, *lessons.preferences])


def _notes(voice: Voice, step: Lessons | None, rival: InUse | None) -> Iterator[str]:
    """What a card says of what was learned from."""
    if voice != ALL:
        yield f"learned from what was written {voice}"
    if step and rival:
        new = len(step.traces) // 2
        yield f"went on from version {rival.version} with {new} new replies and as many older ones"


def _figures(
    recalled: Sequence[bool], lessons: Lessons, preferred: int, runs: Sequence[Tuned]
) -> dict[str, float]:
    first, seconds = runs[0].history[-1], sum(run.history[-1].seconds for run in runs)
    facts = {"facts": float(len(recalled)), "recall": sum(recalled) / len(recalled)} if recalled else {}
    count = len(lessons.examples) + len(lessons.traces)
    voice = {"examples": float(count)} if count else {}
    return {
        **facts,
        **voice,
        **({"preferences": float(preferred)} if preferred else {}),
        "epochs": float(first.epoch),
        "loss": first.loss,
        "tune_seconds": seconds,
        "tune_tokens_per_s": sum(run.tokens for run in runs) / max(seconds, 1e-9),
        "tune_peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
    }
