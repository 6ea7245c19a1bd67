"""Federated runs in Flower's simulation engine, as a process of its own. It knows neither page nor settings.

Flower wants other versions of some packages than the project has, so it has a Python of its own
(`make flower`), which sees the project's packages behind its own. It is told jobs in a file, and writes what
each gave as a finished step. All homes are in one process, one at a time with all cores.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MessageType, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.serverapp.strategy.strategy_utils import sample_nodes
from flwr.simulation import run_simulation
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

from llmtwin.errors import Unavailable
from llmtwin.models.base import Base
from llmtwin.study.federated import TWIN, Job, Site
from llmtwin.study.steps import write

ASKED = "LLMTWIN_FEDERATED"
"""The environment variable with the file that says what to run; the clients' process inherits it."""
WEIGHTS, CONFIG, FIGURES, PACKAGE = "arrays", "config", "figures", "package"
TIMEOUT_S = 3600.0

client_app = ClientApp()
server_app = ServerApp()


@cache
def _asked() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(os.environ[ASKED]).read_text())
    return found


@cache
def _site() -> Site:
    base = _asked()["base"]
    return Site(Base(Path(base["folder"]), base["hash"], base["name"]))


def _loaded(number: int) -> Site:
    site = _site()
    site.load(Job(**_asked()["jobs"][number]["job"]))
    return site


def arrays(weights: Any) -> ArrayRecord:
    """Weights as Flower sends them."""
    return ArrayRecord({WEIGHTS: Array(weights)})


def sent_bytes(content: RecordDict) -> int:
    """What a message's content is on Flower's wire: each of its objects, serialised."""
    return sum(len(one.deflate()) for one in get_all_nested_objects(content).values())


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# ---- homes ---------------------------------------------------------------------------------------


def train(message: Message, context: Context) -> Message:
    """A home's round: take the weights, learn, send; or, as a twin, learn for itself and send the package."""
    received = sent_bytes(message.content)
    site, home = _loaded(message.content[CONFIG]["job"]), int(context.node_config["partition-id"])
    figures: dict[str, float] = {"home": home, "received": received, "num-examples": len(site.facts(home))}
    if WEIGHTS not in message.content:
        alone = site.twin(home)
        figures |= {name: value for name, value in asdict(alone).items() if name != PACKAGE}
        content = RecordDict({PACKAGE: ConfigRecord(alone.package)})
    else:
        began = time.perf_counter()
        client = site.client(home)
        client.take(message.content[WEIGHTS][WEIGHTS].numpy())
        figures["loss"] = client.learn()
        content = RecordDict({WEIGHTS: arrays(client.weights())})
        figures["seconds"] = time.perf_counter() - began
    content[FIGURES] = MetricRecord(figures | {"peak": _peak_bytes()})
    return Message(content=content, reply_to=message)


def evaluate(message: Message, context: Context) -> Message:
    """What each home recalls under these weights. No method sends it: its bytes do not count."""
    site = _loaded(message.content[CONFIG]["job"])
    found = list[float]()
    for home in range(int(context.node_config["num-partitions"])):
        client = site.client(home)
        client.take(message.content[WEIGHTS][WEIGHTS].numpy())
        recalled = client.recalled()
        found.append(sum(recalled) / len(recalled))
    figures = MetricRecord({"recall": found, "num-examples": 1})
    return Message(content=RecordDict({FIGURES: figures}), reply_to=message)


def begin(message: Message, context: Context) -> Message:
    """How many facts each home has, and what all start from, which is in the base, or in a seed."""
    site = _loaded(message.content[CONFIG]["job"])
    sizes = [len(site.facts(home)) for home in range(int(context.node_config["num-partitions"]))]
    content = RecordDict({WEIGHTS: arrays(site.initial()), FIGURES: MetricRecord({"sizes": sizes})})
    return Message(content=content, reply_to=message)


# ---- the server ----------------------------------------------------------------------------------


def serve(grid: Grid, context: Context) -> None:
    """All jobs, one after another, each a finished step."""
    for number, one in enumerate(_asked()["jobs"]):
        job = Job(**one["job"])
        found = (_twins if job.method == TWIN else _federated)(grid, number, job, one["said"])
        write(Path(one["path"]), found)


def _federated(grid: Grid, number: int, job: Job, said: str) -> dict[str, Any]:
    """Rounds of FedAvg until all facts together are recalled as wanted, or the budget is spent."""
    strategy = FedAvg(
        min_train_nodes=job.homes, min_evaluate_nodes=1, min_available_nodes=job.homes, fraction_evaluate=0.0
    )
    sizes, initial = _start(grid, number)
    now, rounds, recall = initial, list[dict[str, Any]](), 0.0
    while recall < job.target and len(rounds) < job.rounds_max:
        config = ConfigRecord({"job": number})
        began = time.perf_counter()
        messages = list(strategy.configure_train(len(rounds) + 1, now, config, grid))
        server_s = time.perf_counter() - began
        replies = _exchange(grid, messages)
        began = time.perf_counter()
        averaged, figures = strategy.aggregate_train(len(rounds) + 1, replies)
        server_s += time.perf_counter() - began
        if averaged is None or figures is None:
            raise Unavailable(f"Flower averaged nothing in round {len(rounds) + 1} of {said}: see its log")
        now = averaged
        found = _evaluated(grid, number, now)
        recall = float(np.average(found, weights=sizes))
        one = {"server_s": server_s, "recall": found, "loss": figures["loss"]}
        rounds.append(_round(messages, replies) | one)
        _tell(f"{said}: round {len(rounds)}, recall {recall:.0%}")
    return {
        "job": asdict(job),
        "rounds": rounds,
        "recall": recall,
        "reached": recall >= job.target,
        "numbers": int(initial[WEIGHTS].shape[0]),
        "server_peak": _peak_bytes(),
    }


def _start(grid: Grid, number: int) -> tuple[list[int], ArrayRecord]:
    """How many facts each home has, and what all start from, as any home tells: the server has no model."""
    content = _of_any(grid, number, MessageType.QUERY, RecordDict())
    sizes: list[int] = content[FIGURES]["sizes"]
    return sizes, content[WEIGHTS]


def _evaluated(grid: Grid, number: int, now: ArrayRecord) -> list[float]:
    """The share of facts that each home gets from the weights as they are now."""
    content = _of_any(grid, number, MessageType.EVALUATE, RecordDict({WEIGHTS: now}))
    found: list[float] = content[FIGURES]["recall"]
    return found


def _of_any(grid: Grid, number: int, what: str, content: RecordDict) -> RecordDict:
    """What any one home replies: all are one process."""
    nodes, _ = sample_nodes(grid, 1, 1)
    content[CONFIG] = ConfigRecord({"job": number})
    [reply] = _exchange(grid, [Message(content=content, message_type=what, dst_node_id=nodes[0])])
    return reply.content


def _twins(grid: Grid, number: int, job: Job, said: str) -> dict[str, Any]:
    """Every home learns for itself and sends its package; nothing comes back, nothing is averaged."""
    nodes, _ = sample_nodes(grid, job.homes, job.homes)
    record = RecordDict({CONFIG: ConfigRecord({"job": number})})
    messages = [Message(content=record, message_type=MessageType.TRAIN, dst_node_id=node) for node in nodes]
    replies = _exchange(grid, messages)
    figures = _figures(replies)
    sizes = [one["num-examples"] for one in figures]
    recall = float(np.average([one["recall"] for one in figures], weights=sizes))
    _tell(f"{said}: recall {recall:.0%}")
    one = _round(messages, replies) | {"server_s": 0.0, "recall": [one["recall"] for one in figures]}
    return {
        "job": asdict(job),
        "rounds": [one],
        "recall": recall,
        "recall_next": [one["recall_next"] for one in figures],
        "epochs": [one["epochs"] for one in figures],
        "reached": recall >= job.target,
        "numbers": 0,
        "server_peak": 0,
    }


def _exchange(grid: Grid, messages: Sequence[Message]) -> list[Message]:
    """The replies. Raises Unavailable where a home failed."""
    replies = list(grid.send_and_receive(messages, timeout=TIMEOUT_S))
    failed = [reply.error.reason for reply in replies if reply.has_error()]
    if failed or len(replies) < len(messages):
        raise Unavailable(f"a home failed: {failed[0] if failed else 'no reply'}; see Flower's log")
    return replies


def _figures(replies: Iterable[Message]) -> list[dict[str, Any]]:
    """What homes say of their training, in their order."""
    return sorted((dict(reply.content[FIGURES]) for reply in replies), key=lambda one: int(one["home"]))


def _round(messages: Iterable[Message], replies: Sequence[Message]) -> dict[str, Any]:
    figures = _figures(replies)
    return {
        "bytes_down": sum(sent_bytes(message.content) for message in messages),
        "bytes_received": sum(one["received"] for one in figures),
        "bytes_up": sum(sent_bytes(reply.content) for reply in replies),
        "client_s": [one["seconds"] for one in figures],
        "client_peak": max(one["peak"] for one in figures),
    }


def _tell(said: str) -> None:
    sys.stdout.write(f"{said}\n")
    sys.stdout.flush()


client_app.train()(train)
client_app.evaluate()(evaluate)
client_app.query()(begin)
server_app.main()(serve)


# ---- the process ---------------------------------------------------------------------------------


def main() -> None:
    """Run the jobs of the file that ASKED names, all of as many homes."""
    jobs = _asked()["jobs"]
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as scratch:
        run_simulation(
            server_app,
            client_app,
            num_supernodes=jobs[0]["job"]["homes"],
            backend_config={
                "init_args": {"num_cpus": cores, "_temp_dir": scratch, "log_to_driver": False},
                "client_resources": {"num_cpus": cores, "num_gpus": 0.0},
            },
        )


if __name__ == "__main__":
    # Under its own name: what is of `__main__` goes to the clients by value, and keeps nothing there.
    from llmtwin.study import federated_flower

    federated_flower.main()
