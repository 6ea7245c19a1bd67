"""The edge process of one simulated home. It talks to its server over HTTP alone.

`python -m llmtwin.study.home_edge` reads tasks as JSON lines from stdin and answers on stdout, also in JSON
lines: any number of `{"progress": …}`, then `{"done": …}` or `{"error": one line}`. It ends with its stdin.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import torch
from pydantic import TypeAdapter

from llmtwin.edge import agent
from llmtwin.edge.agent import AgentOptions, Senses
from llmtwin.edge.learn import learn
from llmtwin.edge.link import Link
from llmtwin.edge.outbox import push
from llmtwin.edge.store import EdgeStore, Settings
from llmtwin.edge.watch import check
from llmtwin.errors import Conflict, LlmtwinError, Unavailable
from llmtwin.models.base import find_base
from llmtwin.models.transformer import Transformer
from llmtwin.models.tune import Progress
from llmtwin.records import Observation, Prompt, Value, now
from llmtwin.twins.home.describe import describe
from llmtwin.twins.home.encode import Encoder, Sent
from llmtwin.twins.home.observe import observe
from llmtwin.twins.home.simulator import Home
from llmtwin.twins.home.sources import read_states
from llmtwin.wire import seal
from llmtwin.wire.sign import load_key, new_key, public_key_text

STEP = timedelta(minutes=15)
STEPS_A_PUSH = 8
TIMEOUT_S = 120.0
PROGRESS_EVERY_S = 0.2
SETTLE_S_MAX = 30.0

Done = dict[str, Any]
Tell = Callable[[Mapping[str, Any]], None]

_SENT = TypeAdapter(dict[str, Sent])


@dataclass(frozen=True)
class EdgeOptions:
    """Whose edge it is: `folder` is the twin's private one, `journal` a file for the study's use."""

    name: str
    seed: int
    folder: Path
    server: str
    cache: Path
    base: str | None
    journal: Path


@dataclass
class Traffic:
    """Bytes of request bodies that left, by what they carried."""

    prompts: int = 0
    adapters: int = 0
    other: int = 0

    def count(self, request: httpx.Request) -> None:
        """Take one request into account."""
        size = int(request.headers.get("content-length", 0))
        what = request.url.path.rpartition("/")[2]
        if what not in ("prompts", "adapters"):
            what = "other"
        setattr(self, what, getattr(self, what) + size)


@dataclass
class Devices:
    """The simulated home as devices: what it is like now, and how to set it."""

    home: Home
    lock: threading.Lock = field(default_factory=threading.Lock)

    def states_at(self, at: datetime) -> bytes:
        """All states at a time, as the home's own system gives them."""
        with self.lock:
            return json.dumps(self.home.states(at), ensure_ascii=False).encode()

    def states(self) -> bytes:
        """All states now."""
        return self.states_at(_minute())

    def apply(self, path: str, value: Value) -> None:
        """Set a value."""
        with self.lock:
            self.home.apply(path, value)


class HomeEdge:
    """The tasks of one home's edge; each gives what the study wants to know of it."""

    def __init__(self, options: EdgeOptions, tell: Tell) -> None:
        self._options, self._tell = options, tell
        self._store = EdgeStore(options.folder)
        self._devices = Devices(Home(options.seed, options.name))
        self._traffic = Traffic()
        self._link = self._open_link(None)
        self._raw_bytes = 0
        self._stop = threading.Event()
        self._agent: threading.Thread | None = None

    def enrol(self, enrolment: str) -> Done:
        """Make the keys and enrol. The address of the server is not kept: the twin outlives it."""
        key = new_key(self._options.folder / "key.pem")
        seal.load_or_create(self._options.folder / "seal.key")
        tokens = self._link.enrol(enrolment, "home", public_key_text(key))
        name = self._options.name
        self._store.save_settings(
            Settings(twin=name, kind="home", owner_token=tokens.owner, edge_token=tokens.edge)
        )
        self._link = self._open_link(tokens.edge)
        return {}

    def collect(self, at: str) -> Done:
        """Read the home as it was at a time: what is private stays, what is new in its states is queued."""
        moment = datetime.fromisoformat(at)
        states = self._devices.states_at(moment)
        self._store.enqueue_description(describe(read_states(states).entities))
        self._look(moment, states)
        private = [one for one in self._store.observations() if one.private]
        return {"facts": len(private), "sealed": sum(one.sealed for one in private)}

    def tune(self, threads: int) -> Done:
        """Learn the private facts on so many cores, sign the adapter and push it."""
        torch.set_num_threads(threads)
        return self._learn()

    def stream(self, end: str, steps: int) -> Done:
        """Send so many quarters of an hour of the simulated home up to a time, in batches."""
        until = datetime.fromisoformat(end)
        for step in range(1, steps + 1):
            moment = until - (steps - step) * STEP
            self._look(moment, self._devices.states_at(moment))
            if step % STEPS_A_PUSH == 0 or step == steps:
                self._push()
            self._tell({"step": step})
        return {"raw_bytes": self._raw_bytes, "prompt_bytes": self._traffic.prompts}

    def live(self) -> Done:
        """Run the agent's loop from now on, so that orders reach the devices."""
        self._agent = threading.Thread(target=self._run_agent, name="agent", daemon=True)
        self._agent.start()
        return {}

    def change(self, entity: str, value: str | int | float) -> Done:
        """Change a setting at the home, and wait until the agent has seen it."""
        with self._devices.lock:
            self._devices.home.change_setting(entity, value)
        until = time.monotonic() + SETTLE_S_MAX
        while time.monotonic() < until:
            for one in self._store.observations():
                if one.fact.path == f"{entity}/value" and one.fact.value == value:
                    return {}
            time.sleep(0.1)
        raise Unavailable(f"the agent did not see that {entity} changed")

    def watch(self, threads: int) -> Done:
        """Compare twin and home, and learn again, on so many cores, what differs."""
        torch.set_num_threads(threads)
        found = check(self._store, self._link, self._sealer())
        done: Done = {"asked": found.asked, "wrong": list(found.wrong)}
        if found.wrong:
            try:
                done |= self._learn(in_use=found.version, changed=found.wrong)
            except (
                Conflict
            ) as error:  # the version in use stays, and the study's figures tell how bad that is
                logging.warning("%s", error)
        return done

    def close(self) -> None:
        """End the agent and close the store."""
        self._stop.set()
        if self._agent is not None:
            self._agent.join()
        self._store.close()

    def _open_link(self, token: str | None) -> Link:
        client = httpx.Client(
            base_url=self._options.server,
            headers={"authorization": f"Bearer {token}"} if token else {},
            timeout=TIMEOUT_S,
            event_hooks={"request": [self._traffic.count]},
        )
        return Link(client, self._options.name)

    def _sealer(self) -> seal.Sealer:
        return seal.Sealer(seal.load_or_create(self._options.folder / "seal.key"))

    def _senses(self, journal: Callable[[Sequence[Observation], Sequence[Prompt]], None]) -> Senses:
        def look(states: bytes) -> list[Observation]:
            return observe(read_states(states).entities)

        def encode(found: Sequence[Observation], state: str | None) -> tuple[list[Prompt], str]:
            encoder = Encoder(_SENT.validate_json(state) if state else None)
            prompts = encoder.encode(self._options.name, found)
            journal(found, prompts)
            return prompts, _SENT.dump_json(encoder.state).decode()

        return Senses(look, encode)

    def _look(self, moment: datetime, states: bytes) -> None:
        """Collect once, and note in the journal what was seen and what of it is sent."""
        self._raw_bytes += len(states)

        def journal(found: Sequence[Observation], prompts: Sequence[Prompt]) -> None:
            entry = {
                "at": moment.isoformat(),
                "seen": {one.fact.path: one.fact.value for one in found},
                "sent": [fact.model_dump(mode="json") for prompt in prompts for fact in prompt.facts],
            }
            with self._options.journal.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")

        agent.collect(self._store, states, self._senses(journal))

    def _learn(self, in_use: int | None = None, changed: Sequence[str] = ()) -> Done:
        """Learn a version and push it; how that went, and the seconds it took with loading the base."""
        began = time.monotonic()
        transformer = Transformer(find_base(self._options.base, self._options.cache))
        key = load_key(self._options.folder / "key.pem")
        learned = learn(
            self._store,
            transformer,
            self._sealer(),
            key,
            in_use=in_use,
            changed=changed,
            report=self._report(),
        )
        self._push()
        return {
            "version": learned.manifest.version,
            "figures": learned.figures,
            "history": [asdict(progress) for progress in learned.tuned.history],
            "seconds": time.monotonic() - began,
            "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
        }

    def _report(self) -> Callable[[Progress], None]:
        """Tells how tuning goes, a few times a second."""
        told = 0.0

        def report(progress: Progress) -> None:
            nonlocal told
            if time.monotonic() - told > PROGRESS_EVERY_S:
                told = time.monotonic()
                self._tell(asdict(progress))

        return report

    def _push(self) -> None:
        pushed = push(self._store, self._link)
        if pushed.error is not None:
            raise pushed.error
        if pushed.refused:
            raise Unavailable(f"the server refused {pushed.refused[0].kind}: {pushed.refused[0].reason}")

    def _run_agent(self) -> None:
        options = AgentOptions(collect_every_s=2.0, poll_wait_s=2.0)
        senses = self._senses(lambda found, prompts: None)
        agent.run(self._store, self._link, self._devices, senses, self._stop, options)


def main() -> None:
    """Carry out tasks until there are no more."""
    parser = argparse.ArgumentParser(prog="python -m llmtwin.study.home_edge", description=__doc__)
    for name, kind in (("name", str), ("seed", int), ("server", str)):
        parser.add_argument(f"--{name}", type=kind, required=True)
    for name in ("folder", "cache", "journal"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--base")
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    edge = HomeEdge(EdgeOptions(**vars(parser.parse_args())), lambda progress: _say({"progress": progress}))
    tasks: Mapping[str, Callable[..., Done]] = {
        task.__name__: task
        for task in (
            edge.enrol,
            edge.collect,
            edge.tune,
            edge.stream,
            edge.live,
            edge.change,
            edge.watch,
        )
    }
    for line in sys.stdin:
        task = json.loads(line)
        try:
            _say({"done": tasks[task.pop("task")](**task)})
        except LlmtwinError as error:
            _say({"error": str(error)})
    edge.close()


def _say(message: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _minute() -> datetime:
    return now().astimezone(UTC).replace(second=0, microsecond=0)


if __name__ == "__main__":
    main()
