"""Two processes at one registry: whatever comes between, what answers is a version that may be used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from sqlite3 import Connection

import pytest

from llmtwin.errors import NotFound
from llmtwin.server.database import Database
from llmtwin.server.registry import Registry
from llmtwin.wire.package import MANIFEST, SignedManifest
from llmtwin.wire.sign import new_key
from tests.packages import make_package

TWIN = "home1"


class Interrupted(Database):
    """Lets another process do something right before the next write."""

    before: Callable[[], object] | None = None

    @contextmanager
    def write(self) -> Iterator[Connection]:
        before, self.before = self.before, None
        if before is not None:
            before()
        with super().write() as db:
            yield db


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Interrupted]:
    with closing(Interrupted(tmp_path / "registry.sqlite")) as made:
        yield made


@pytest.fixture
def registry(database: Interrupted, tmp_path: Path) -> Registry:
    return Registry(database, tmp_path / "adapters")


@pytest.fixture
def other(registry: Registry, tmp_path: Path) -> Iterator[Registry]:
    """The registry as another process has it, with versions 1 and 2 of a twin, 2 live."""
    with closing(Database(tmp_path / "registry.sqlite")) as database:
        made = Registry(database, tmp_path / "adapters")
        made.create(TWIN, "echo", None)
        key = new_key(tmp_path / "key.pem")
        for version in (1, 2):
            parts = make_package(tmp_path / str(version), key, TWIN, version)
            made.publish(SignedManifest.model_validate_json(parts[MANIFEST]).manifest, parts)
        yield made


@pytest.mark.parametrize(
    "change",
    [
        lambda registry: registry.roll_back(TWIN),
        lambda registry: registry.roll_back(TWIN, 1),
        lambda registry: registry.set_canary(TWIN, 1, 0.5),
    ],
    ids=["before", "named", "canary"],
)
def test_a_version_that_is_withdrawn_meanwhile_does_not_answer(
    change: Callable[[Registry], object], database: Interrupted, registry: Registry, other: Registry
) -> None:
    database.before = lambda: other.withdraw(TWIN, 1)
    with pytest.raises(NotFound):
        change(registry)
    found = registry.twin(TWIN)
    assert (found.live_version, found.canary_version) == (2, None)


def test_a_version_that_goes_live_while_it_is_withdrawn_does_not_answer(
    database: Interrupted, registry: Registry, other: Registry
) -> None:
    database.before = lambda: other.roll_back(TWIN, 1)
    registry.withdraw(TWIN, 1)
    assert registry.live_adapter(TWIN) is None
    assert registry.roll_back(TWIN, 2).live
