"""The proxy before a twin's primary, as the twin's settings have it. It passes nothing on itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmtwin.edge import mirrored
from llmtwin.edge.store import SEAL_KEY, EdgeStore
from llmtwin.errors import InputError, Unavailable
from llmtwin.primary.place import open_store
from llmtwin.settings import Settings
from llmtwin.wire.seal import Sealer, load_or_create

if TYPE_CHECKING:
    from llmtwin.proxy.app import ProxyOptions
    from llmtwin.twins.model.collect import Hide


def proxy_options(
    name: str,
    host: str,
    port: int,
    mirror: float = 0.0,
    twin: str | None = None,
    settings: Settings | None = None,
) -> ProxyOptions:
    """A proxy before a twin's primary, which records the share `mirror` (0 to 1) of the sessions.

    What is recorded is also asked of the twin, where `twin` is the address of the server that serves it.
    Raises InputError where no primary is known, the share cannot be, or nothing is recorded to ask of it, and
    Unavailable where what finds private things in texts is not installed.
    """
    from llmtwin.primary.nearness import measures
    from llmtwin.proxy.app import ProxyOptions
    from llmtwin.proxy.mirror import MirrorOptions
    from llmtwin.proxy.shadow import TwinOptions
    from llmtwin.twins.model.address import checked_address

    with open_store(name, settings) as store:
        own = store.settings()
        if own.primary is None:
            raise InputError(f"{name} has no primary: give it as `llmtwin proxy {name} --primary URL`")
        asked = None
        if twin is not None:
            address = checked_address(twin).removesuffix("/v1")
            asked = TwinOptions(f"{address}/v1", name, own.owner_token)
        if not mirror:
            if asked is not None:
                raise InputError("the twin is asked what is recorded, and nothing is: add --mirror 0.1")
            return ProxyOptions(own.primary, host, port)
        recorded = MirrorOptions(mirrored.folder(store), name, _hide(store), mirror, asked, measures())
        return ProxyOptions(own.primary, host, port, mirror=recorded)


def _hide(store: EdgeStore) -> Hide:
    """What puts stand-ins in place of what is private, under the owner's key."""
    try:
        from llmtwin.twins.model.collect import Hide
    except ImportError as error:
        raise Unavailable(f"a mirror needs {error.name}: pip install 'llmtwin[model]'") from error
    return Hide(Sealer(load_or_create(store.folder / SEAL_KEY)).stand_in_key())
