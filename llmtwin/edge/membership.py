"""Tells what an adapter learned from what it did not, by four scores. It knows not where either is from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llmtwin.models.likelihood import Row
from llmtwin.models.lora import Lora
from llmtwin.models.surprise import Surprise, surprises
from llmtwin.models.transformer import Transformer
from llmtwin.twins.audit import Adversary, Found, error_zone, least_likely, loss, membership, ratio

Score = Callable[[Surprise, Surprise], float]


@dataclass(frozen=True)
class Models:
    """A twin's adapters as one, and what all twins of its kind have under theirs; None is the bare base."""

    transformer: Transformer
    twin: Lora
    base: Lora | None


SCORES: dict[str, tuple[Adversary, Score]] = {
    "loss": (Adversary.LOGPROBS, lambda own, base: loss(own.logprobs)),
    "loss_ratio": (Adversary.LOGPROBS, lambda own, base: ratio(own.logprobs, base.logprobs)),
    "min_k": (Adversary.FILE, lambda own, base: least_likely(own.standardised)),
    "error_zone": (
        Adversary.LOGPROBS,
        lambda own, base: error_zone(own.logprobs, base.logprobs, own.mispredicted),
    ),
}
"""By name: who can make it, and the score of one row under the twin, beside the base. Min-K%++ takes the
whole vocabulary, which no interface gives."""
BESIDE = frozenset({"loss_ratio", "error_zone"})
"""Those made beside the base: of the base itself they are 0, whatever it knows, and no control."""


def memberships(
    models: Models,
    members: Sequence[Row],
    others: Sequence[Row],
    others_apart: int,
    sealed: bool = False,
) -> list[Found]:
    """What each score finds. `others_apart` is how many of the others do not hang together.

    The control is the base in the twin's place: where it finds members, the two are not of one kind. Those
    BESIDE it have none.
    """
    base, twin = surprises(models.transformer, [*members, *others], [models.base, models.twin])
    found: list[Found] = []
    for name, (adversary, score) in SCORES.items():
        own = [score(one, beside) for one, beside in zip(twin, base, strict=True)]
        first = len(members)
        control = None
        if name not in BESIDE:
            alone = [score(one, one) for one in base]
            control = (alone[:first], alone[first:])
        found += membership(
            f"membership_{name}",
            adversary,
            (own[:first], own[first:]),
            control,
            others_apart,
            sealed,
        )
    return found
