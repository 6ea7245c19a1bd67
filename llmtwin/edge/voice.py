"""Measures a voice on held-out texts, and lets the gate compare it with the one in use. It never tunes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from llmtwin.edge.store import EdgeStore
from llmtwin.errors import Conflict
from llmtwin.models.base import Base
from llmtwin.models.likelihood import Bits, score, stretches
from llmtwin.models.lora import Lora
from llmtwin.models.transformer import Transformer
from llmtwin.twins.gate import Decision, Verdict, decide
from llmtwin.wire.package import MANIFEST, SignedManifest


@dataclass(frozen=True)
class InUse:
    """The version in use, and the addresses of what it learned; None where that is not known."""

    version: int
    lora: Lora
    learned: frozenset[str] | None


@dataclass(frozen=True)
class Heard:
    """What a card says of a voice: figures of held-out texts, and against what the gate compared it."""

    figures: dict[str, float]
    notes: tuple[str, ...]


def find(store: EdgeStore, version: int | None, base: Base) -> InUse | None:
    """A version as it is here; None where there is none, or it is for another base."""
    folder = store.adapter_folder(version or 0)
    if version is None or not folder.exists():
        return None
    signed = SignedManifest.model_validate_json((folder / MANIFEST).read_bytes())
    if signed.manifest.base != base.hash:
        return None
    return InUse(version, Lora.load(folder), store.learned(version))


def hear(transformer: Transformer, held_out: Mapping[str, str], new: Lora, rival: InUse | None) -> Heard:
    """Measure the voice `new` on held-out texts (by address), and compare it with its rival, else the base.

    The items are the windows of the texts, since a person may have written few texts; the score is bits a
    character, less being better. Texts that the rival learned are no ground to compare on: what was held out
    from one version may be learned by the next. Raises Conflict where the voice is worse beyond chance.
    """
    if not held_out:
        return Heard({}, ())
    parts = [(at, row) for at, text in held_out.items() for row in stretches(transformer, text)]
    loras = [None, new, *([rival.lora] if rival else [])]
    base, own, *others = score(transformer, [row for _, row in parts], loras)
    pairs = [
        (-mine.per_character, -other.per_character)
        for (at, _), mine, other in zip(parts, own, others[0] if rival else base, strict=True)
        if mine.characters and _is_fair(at, rival)
    ]
    decision = decide([mine for mine, _ in pairs], [other for _, other in pairs])
    if decision.verdict is Verdict.FAIL:
        raise Conflict(_worse(decision, rival))
    figures = _figures(Bits.total(base), Bits.total(own)) | decision.figures()
    return Heard(figures, (f"held-out text against {_name(rival)}: {decision.verdict}",))


def _worse(found: Decision, rival: InUse | None) -> str:
    what = f"costs {-found.difference:.3f} ({-found.high:.3f} to {-found.low:.3f}) bits a character more"
    end = "the version in use stays" if rival else "it is not published"
    return f"the new voice {what} than {_name(rival)} on {found.items} passages that it never saw: {end}"


def _name(rival: InUse | None) -> str:
    return f"version {rival.version}" if rival else "the base"


def _figures(base: Bits, own: Bits) -> dict[str, float]:
    if not own.characters:
        return {}
    return {
        "bits_per_char_base": base.per_character,
        "bits_per_char": own.per_character,
        "bits_per_char_gain": 1 - own.bits / base.bits,
    }


def _is_fair(address: str, rival: InUse | None) -> bool:
    return rival is None or (rival.learned is not None and address not in rival.learned)
