"""Writes a version's model card, in the form that Hugging Face reads, from what is on record of it.

It asks the primary nothing, quotes no text, and knows no time of writing: the same record gives the same
bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtwin.edge import mirrored
from llmtwin.edge.store import EdgeStore
from llmtwin.errors import NotFound
from llmtwin.primary import gating
from llmtwin.primary.nearness import Nearness, measure
from llmtwin.primary.place import open_link, open_store
from llmtwin.records import Card
from llmtwin.settings import Settings, read_settings
from llmtwin.twins.audit import on_card
from llmtwin.wire.files import write_durably
from llmtwin.wire.package import CARD, CONFIG, MANIFEST, SignedManifest

if TYPE_CHECKING:
    from llmtwin.twins.model.exchange import Exchange

FILE = "README.md"
"""The name under which Hugging Face looks for a card, beside the weights."""
TEMPLATE = "card.md.jinja"
FARTHEST = 5


@dataclass(frozen=True)
class Traffic:
    """Replies on record: how many, of how many sessions, and the days (UTC) of the first and the last."""

    replies: int
    sessions: int
    first_day: str
    last_day: str


def write(
    name: str, version: int | None = None, path: Path | None = None, settings: Settings | None = None
) -> Path:
    """Write the model card of a version, the live one where none is given; where it is written to.

    Without a `path` that is beside the version. Raises NotFound for a version that is not here, InputError
    where nothing is held out yet, Untrusted for a log that does not hold together.
    """
    settings = settings or read_settings()
    with open_store(name, settings) as store:
        version = version or open_link(store, settings).info().live_version
        if version is None:
            raise NotFound(f"{name} has learned nothing yet: run `llmtwin tune {name}`")
        path = path or store.version_folder(version) / FILE
        text = _card(store, version, measure(name, version, settings=settings))
    write_durably(path, text.encode())
    return path


def _card(store: EdgeStore, version: int, near: Nearness) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from llmtwin.twins.private.spans import SpanKind

    folder = store.version_folder(version)
    signed = SignedManifest.model_validate_json((folder / MANIFEST).read_bytes())
    learned, own, held_out, measured = _traffic(store, version, near)
    log = gating.decisions(store).read()
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["figure"] = _figure
    base = json.loads((folder / CONFIG).read_bytes())["base_model_name_or_path"]
    card = Card.model_validate_json((folder / CARD).read_bytes())
    return environment.get_template(TEMPLATE).render(
        head=_head(base),
        base=base,
        manifest=signed.manifest,
        card=card,
        audited=on_card(card),
        learned=learned,
        own=own,
        held_out=held_out,
        measured=measured,
        near=near,
        farthest=sorted(near.kl_of.items(), key=lambda one: (-one[1], one[0]))[:FARTHEST],
        decisions=[_decision(entry) for entry in log.entries if entry.get("candidate") == version],
        log=log,
        private=[str(kind) for kind in SpanKind],
    )


def _head(base: str) -> str:
    """What Hugging Face reads of a card, as YAML."""
    from huggingface_hub import ModelCardData

    head = ModelCardData(
        base_model=base,
        library_name="peft",
        pipeline_tag="text-generation",
        tags=["lora", "distillation", "digital-twin", "llmtwin"],
    )
    return head.to_yaml()


def _traffic(store: EdgeStore, version: int, near: Nearness) -> tuple[Traffic | None, int, Traffic, Traffic]:
    """What a version learned, where that is known, answers of its own too, what is held out, and measured."""
    from llmtwin.twins.model import beside
    from llmtwin.twins.model.collect import OWN, exchanges

    mirrored.take(store)
    known, addresses = store.known(), store.learned(version)
    held_out = beside.held_out(known)
    measured = [line for line in held_out if line.id in near.kl_of]
    learned, own = None, 0
    if addresses is not None:
        own = sum(address in addresses for address, _ in exchanges(known, OWN))
        learned = _counted([line for address, line in exchanges(known) if address in addresses])
    return learned, own, _counted(held_out), _counted(measured)


def _counted(lines: Sequence[Exchange]) -> Traffic:
    days = [f"{datetime.fromtimestamp(line.timestamp, UTC):%Y-%m-%d}" for line in lines]
    sessions = {line.session for line in lines}
    return Traffic(len(lines), len(sessions), min(days, default="none"), max(days, default="none"))


def _figure(value: float | None) -> str:
    """A figure; one that is infinite, or for that left out of the log, has no end."""
    return f"{value:.4f}" if value is not None and isfinite(value) else "no end"


def _decision(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the log with all that a card names; what it does not have is None."""
    return dict.fromkeys(("action", "share", "low", "high")) | dict(entry)
