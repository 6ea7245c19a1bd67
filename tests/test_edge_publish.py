"""Publishing: a tuned folder becomes the next signed version, and the server shows it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from llmtwin.edge.link import Link
from llmtwin.edge.outbox import push
from llmtwin.edge.publish import Tuned, publish
from llmtwin.edge.store import EdgeStore, ItemKind, Settings
from llmtwin.errors import NotFound
from llmtwin.records import Description, Device
from llmtwin.wire.sign import new_key
from tests.conftest import TwinAt

DESCRIPTION = Description(devices=(Device(id="lamp", name="Lamp", domain="light"),))


@pytest.fixture
def store(tmp_path: Path, twin: TwinAt) -> Iterator[EdgeStore]:
    with EdgeStore(tmp_path / "edge") as opened:
        opened.save_settings(Settings(twin=twin.id, kind="echo"))
        yield opened


def tuned(folder: Path, link: Link, weight: float) -> Tuned:
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(
        '{"peft_type": "LORA", "r": 2, "lora_alpha": 4.0, "layers_to_transform": [0]}'
    )
    tensors = {"base_model.model.q.lora_A.weight": np.full((2, 4), weight, dtype=np.float32)}
    save_file(tensors, folder / "adapter_model.safetensors")
    return Tuned(folder, base=link.health().base, data="d" * 64, figures={"recall_trained": weight})


def test_each_published_folder_is_the_next_version_and_goes_live(
    twin: TwinAt, store: EdgeStore, tmp_path: Path
) -> None:
    link = Link(twin.edge, twin.id)
    work = tmp_path / "work"
    first = publish(store, tuned(work, link, 0.5), twin.key, DESCRIPTION)
    second = publish(store, tuned(work, link, 0.75), twin.key, DESCRIPTION)
    assert (first.version, second.version) == (1, 2)
    pushed = push(store, link)
    assert (pushed.sent, pushed.refused, pushed.left) == (3, (), 0)  # one description: the newer one
    assert [(one.manifest, one.live) for one in link.adapters()] == [(first, False), (second, True)]
    assert link.card().figures == {"recall_trained": 0.75}
    assert link.card(version=1).figures == {"recall_trained": 0.5}
    assert link.description() == DESCRIPTION
    assert link.info().live_version == 2

    before = link.adapters()
    store.enqueue_adapter(1)
    store.enqueue_adapter(2)
    again = push(store, link)
    assert (again.sent, again.refused) == (2, ())
    assert link.adapters() == before

    owner = Link(twin.owner, twin.id)
    assert owner.roll_back().version == 1
    owner.withdraw(2)
    assert [one.withdrawn for one in link.adapters()] == [False, True]
    recalled = link.recall(["apple bar"])
    assert (recalled.completions[0].text, recalled.version) == ("apple bar", 1)
    assert recalled.weights == first.weights


def test_what_is_signed_with_another_key_is_refused_and_blocks_nothing(
    twin: TwinAt, store: EdgeStore, tmp_path: Path
) -> None:
    link = Link(twin.edge, twin.id)
    publish(store, tuned(tmp_path / "work", link, 0.5), new_key(tmp_path / "other.pem"), DESCRIPTION)
    good = publish(store, tuned(tmp_path / "work", link, 0.75), twin.key, DESCRIPTION)
    pushed = push(store, link)
    (refusal,) = pushed.refused
    assert (refusal.kind, refusal.id) == (ItemKind.ADAPTER, "adapter-1")
    assert "signature" in refusal.reason
    assert [one.manifest for one in link.adapters()] == [good]


def test_a_folder_without_weights_queues_nothing(twin: TwinAt, store: EdgeStore, tmp_path: Path) -> None:
    made = tuned(tmp_path / "work", Link(twin.edge, twin.id), 0.5)
    (made.folder / "adapter_model.safetensors").unlink()
    with pytest.raises(NotFound, match="safetensors"):
        publish(store, made, twin.key, DESCRIPTION)
    assert store.queued_count() == 0
