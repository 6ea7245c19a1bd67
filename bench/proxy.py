"""What the proxy adds to a call of a stub, mirroring or not, and what LiteLLM's adds. It judges nothing."""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import uvloop

from llmtwin.proxy.app import ProxyOptions, serve
from llmtwin.proxy.mirror import MirrorOptions
from llmtwin.proxy.shadow import TwinOptions
from llmtwin.study.processes import free_port
from llmtwin.twins.model.exchange import Exchange

CONCURRENT = (1, 10, 50)
HOST = "127.0.0.1"
LITELLM = Path("out/bench-litellm")
START_S = 120

ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "stub",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Your order is on its way. " * 20},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 200, "completion_tokens": 120, "total_tokens": 320},
    }
).encode()
ASKED = json.dumps(
    {"model": "stub", "messages": [{"role": "user", "content": "Where is my order? " * 50}]}
).encode()

Latencies = list[float]
"""In milliseconds."""


class Stub(asyncio.Protocol):
    """Answers every request at once, and always the same."""

    def __init__(self) -> None:
        self._left = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the line."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer what is whole."""
        self._left += data
        while (parted := self._left.partition(b"\r\n\r\n"))[1]:
            size = content_length(parted[0])
            if len(parted[2]) < size:
                return
            self._left = parted[2][size:]
            head = (
                f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(ANSWER)}\r\n\r\n"
            )
            self._transport.write(head.encode() + ANSWER)  # type: ignore[attr-defined]


def content_length(head: bytes) -> int:
    """What a head says of its body, in bytes."""
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    return 0


def serve_stub(port: int) -> None:
    """Run a stub until killed."""

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Stub, HOST, port)
        await server.serve_forever()

    uvloop.run(run())


async def client(port: int, calls: int) -> Latencies:
    """So many calls, one after the other over one connection."""
    reader, writer = await asyncio.open_connection(HOST, port)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {HOST}\r\nauthorization: Bearer sk-bench-0000\r\n"
    request = f"{head}content-type: application/json\r\ncontent-length: {len(ASKED)}\r\n\r\n".encode() + ASKED
    took: Latencies = []
    for _ in range(calls):
        began = time.perf_counter()
        writer.write(request)
        answered = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(content_length(answered))
        took.append((time.perf_counter() - began) * 1000)
        if b" 200 " not in answered.split(b"\r\n")[0]:
            raise RuntimeError(f"port {port} answered {answered!r}")
    writer.close()
    return took


def load(port: int, concurrent: int, calls: int) -> tuple[float, float]:
    """Median and 99th percentile of so many calls over `concurrent` connections, in milliseconds."""

    async def run() -> list[Latencies]:
        each = max(1, calls // concurrent)
        return await asyncio.gather(*(client(port, each) for _ in range(concurrent)))

    took = sorted(one for latencies in uvloop.run(run()) for one in latencies)
    return statistics.median(took), took[min(len(took) - 1, int(len(took) * 0.99))]


def wait_for(port: int) -> None:
    """Until something listens there."""
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"nothing listens at port {port}")


@contextmanager
def running(target: object, *args: object) -> Iterator[None]:
    """A process of its own for the time being."""
    process = multiprocessing.get_context("spawn").Process(target=target, args=args)  # type: ignore[arg-type]
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join()


def unredacted(exchange: Exchange) -> Exchange:
    """The stub's traffic has nothing personal."""
    return exchange


@contextmanager
def stub() -> Iterator[int]:
    """A stub's port."""
    port = free_port()
    with running(serve_stub, port):
        wait_for(port)
        yield port


@contextmanager
def proxy(primary: int, mirror: MirrorOptions | None = None) -> Iterator[int]:
    """A proxy's port."""
    port = free_port()
    with running(serve, ProxyOptions(primary=url(primary), port=port, mirror=mirror)):
        wait_for(port)
        yield port


@contextmanager
def litellm(primary: int) -> Iterator[int]:
    """The port of LiteLLM's proxy, from a virtual environment that is made where it is not there."""
    program = (LITELLM / "bin" / "litellm").absolute()
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", LITELLM], check=True)
        subprocess.run([LITELLM / "bin" / "pip", "install", "-q", "litellm[proxy]"], check=True)
    port = free_port()
    config = LITELLM / "config.yaml"
    to_stub = {"model": "openai/stub", "api_base": url(primary), "api_key": "none"}
    config.write_text(json.dumps({"model_list": [{"model_name": "stub", "litellm_params": to_stub}]}))
    environment = {
        **os.environ,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",
        # It is at loopback, and checks no key: our proxy has none to check either.
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
    }
    environment.pop("PYTHONPATH", None)
    command = [program, "--config", config, "--host", HOST, "--port", str(port), "--num_workers", "1"]
    with (LITELLM / "litellm.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        wait_for(port)
        yield port
    finally:
        process.terminate()
        process.wait()


def url(port: int) -> str:
    """The address of what listens there, as clients of OpenAI have it."""
    return f"http://{HOST}:{port}/v1"


def litellm_version() -> str:
    """The installed one."""
    command = [LITELLM / "bin" / "pip", "show", "litellm"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return next(line.partition(": ")[2] for line in shown.splitlines() if line.startswith("Version"))


def measure(
    targets: dict[str, int], rounds: int, calls: int
) -> dict[int, dict[str, list[tuple[float, float]]]]:
    """By concurrency and target, p50 and p99 of each round; the targets take turns, and turns to begin."""
    for port in targets.values():
        load(port, 1, 20)
    names = list(targets)
    found: dict[int, dict[str, list[tuple[float, float]]]] = {}
    for concurrent in CONCURRENT:
        of = found[concurrent] = {name: [] for name in names}
        for turn in range(rounds):
            at = turn % len(names)
            for name in names[at:] + names[:at]:
                of[name].append(load(targets[name], concurrent, calls))
    return found


def differences(of: dict[str, list[tuple[float, float]]], one: str, other: str, which: int) -> list[float]:
    """By round, what `one` takes longer than `other`: at the median (0) or the 99th percentile (1)."""
    return [round(a[which] - b[which], 3) for a, b in zip(of[one], of[other], strict=True)]


def figures(measured: dict[int, dict[str, list[tuple[float, float]]]], peer: bool) -> dict[str, object]:
    """The figures as they go on record: medians over the rounds, in milliseconds."""
    found: dict[str, object] = {}
    for which, name in enumerate(("p50", "p99")):
        for target, prefix in (("off", ""), *((("litellm", "litellm_"),) if peer else ())):
            by = {
                n: statistics.median(differences(of, target, "direct", which)) for n, of in measured.items()
            }
            found[f"{prefix}overhead_{name}_ms"] = by[1]
            found[f"{prefix}overhead_{name}_ms_by_clients"] = by
    for n, of in measured.items():
        found[f"mirror_p99_ms_{n}"] = {
            "on_less_off": differences(of, "on", "off", 1),
            "off_less_off": differences(of, "again off", "off", 1),
            "on": statistics.median(p99 for _, p99 in of["on"]),
            "off": statistics.median(p99 for _, p99 in of["off"]),
        }
    return found


def outcomes(port: int) -> dict[str, int]:
    """What became of the calls in a proxy's mirror."""
    lines = httpx.get(f"http://{HOST}:{port}/metrics", trust_env=False).text.splitlines()
    counted = [line.split() for line in lines if line.startswith("llmtwin_mirror_total{")]
    return {name.split('"')[1]: int(float(value)) for name, value in counted}


def main() -> None:
    """Measure, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=500, help="of each target in each round")
    parser.add_argument("--without-litellm", action="store_true")
    given = parser.parse_args()
    with ExitStack() as stack:
        enter = stack.enter_context
        primary, twin = enter(stub()), enter(stub())
        folder = Path(enter(tempfile.TemporaryDirectory()))
        asked = TwinOptions(url(twin), "twin", requests_per_s_max=1000.0, tokens_per_day_max=10**12)
        mirror = MirrorOptions(folder, "bench", unredacted, twin=asked)
        targets = {
            "direct": primary,
            "off": enter(proxy(primary)),
            "again off": enter(proxy(primary)),
            "on": enter(proxy(primary, mirror)),
        }
        if not given.without_litellm:
            targets["litellm"] = enter(litellm(primary))
        measured = measure(targets, given.rounds, given.calls)
        found = figures(measured, peer="litellm" in targets)
        found |= {"mirror_outcomes": outcomes(targets["on"]), "rounds": given.rounds, "calls": given.calls}
        found["machine"] = {"cores": os.cpu_count(), "python": platform.python_version()}
        if "litellm" in targets:
            found["litellm_version"] = litellm_version()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
