"""The proxy before a twin's primary, as the twin's settings have it. It passes nothing on itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmtwin.edge import mirrored
from llmtwin.edge.store import SEAL_KEY
from llmtwin.errors import InputError
from llmtwin.primary.place import open_store
from llmtwin.settings import Settings
from llmtwin.wire.seal import Sealer, load_or_create

if TYPE_CHECKING:
    from llmtwin.proxy.app import ProxyOptions


def proxy_options(
    name: str,
    host: str,
    port: int,
    mirror: float = 0.0,
    settings: Settings | None = None,
) -> ProxyOptions:
    """A proxy before a twin's primary, which records the share `mirror` (0 to 1) of the sessions.

    Raises InputError where no primary is known, or the share cannot be.
    """
    from llmtwin.proxy.app import ProxyOptions
    from llmtwin.proxy.mirror import MirrorOptions
    from llmtwin.twins.model.collect import Hide

    with open_store(name, settings) as store:
        own = store.settings()
        if own.primary is None:
            raise InputError(f"{name} has no primary: give its address with `llmtwin new … --primary URL`")
        key = Sealer(load_or_create(store.folder / SEAL_KEY)).stand_in_key()
        recorded = MirrorOptions(mirrored.folder(store), name, Hide(key), mirror) if mirror else None
        return ProxyOptions(own.primary, host, port, mirror=recorded)
