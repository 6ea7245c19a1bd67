"""What the dumps of a home say, as observations and prompts. It stores nothing and sends nothing."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from pydantic import TypeAdapter

from llmtwin.twins.home.describe import Names, describe
from llmtwin.twins.home.encode import Encoder, Sent
from llmtwin.twins.home.observe import observe
from llmtwin.twins.home.sources import DUMP_BYTES_MAX, Dump, read_states
from llmtwin.twins.kind import Known, Reading
from llmtwin.wire.files import read_limited

_SENT = TypeAdapter(dict[str, Sent])


def read(files: Sequence[str], known: Known) -> Reading:
    """Read state dumps, each the whole home at one time, oldest first.

    What is sealed is named by glob patterns over entity ids. Raises InputError for a file that is no dump.
    """
    sealed, state = known.sealed, known.state
    dumps = [read_states(read_limited(Path(file), DUMP_BYTES_MAX)) for file in files]
    observations = [one for dump in dumps for one in observe(dump.entities, sealed)]
    encoder = Encoder(_SENT.validate_json(state) if state else None)
    return Reading(
        observations=tuple(observations),
        prompts=tuple(encoder.encode(known.twin, observations)),
        state=_SENT.dump_json(encoder.state).decode(),
        description=describe(dumps[-1].entities, sealed) if dumps else None,
        items=len({entity.entity_id for dump in dumps for entity in dump.entities}),
        skipped=tuple(skipped for dump in dumps for skipped in dump.skipped),
        notes=tuple(_sealing_nothing(sealed, dumps)) if sealed else (),
    )


def _sealing_nothing(patterns: Collection[str], dumps: Sequence[Dump]) -> Iterator[str]:
    """What must be said of a pattern that no setting matches: who gave it takes something for a secret."""
    settings = {
        entity.entity_id
        for dump in dumps
        for names in [Names(dump.entities)]
        for entity in dump.entities
        if names.is_setting(entity)
    }
    for pattern in patterns:
        if not fnmatch.filter(settings, pattern):
            yield (
                f"{pattern!r} seals nothing: no setting (number, text, choice, time, helper) has such an id;"
                " what a device says of its state goes to the server"
            )
