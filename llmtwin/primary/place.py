"""Where a model's twin keeps its things on this machine, and where its primary answers. It asks nobody."""

from __future__ import annotations

from llmtwin import serving
from llmtwin.edge.link import Link
from llmtwin.edge.store import EdgeStore
from llmtwin.errors import InputError
from llmtwin.settings import Settings, read_settings


def is_of_model(name: str, settings: Settings | None = None) -> bool:
    """Whether the twin of that name is one of a model. Raises NotFound."""
    from llmtwin.twin import Twin

    settings = settings or read_settings()
    with Twin.open(name, settings), EdgeStore(settings.edge_folder / name) as store:
        return store.settings().kind == "model"


def set_primary(name: str, url: str, settings: Settings | None = None) -> None:
    """Keep where the primary of a twin answers, up to and with `/v1`. Raises as `checked_address`."""
    from llmtwin.twins.model.address import checked_address

    address = checked_address(url)
    with open_store(name, settings) as store:
        store.save_settings(store.settings().model_copy(update={"primary": address}))


def open_link(store: EdgeStore, settings: Settings) -> Link:
    """The owner's line to the server of a twin."""
    own = store.settings()
    return serving.link(settings, own.owner_token, own.twin, own.server)


def open_store(name: str, settings: Settings | None) -> EdgeStore:
    """The store of a twin of a model. Raises NotFound, or InputError for a twin of another kind."""
    settings = settings or read_settings()
    if not is_of_model(name, settings):
        raise InputError(f"{name} is no twin of a model: make one with `llmtwin new NAME --kind model`")
    return EdgeStore(settings.edge_folder / name)
