"""A support desk, the primary of a demo: llama.cpp under instructions that nobody outside sees.

python -m llmtwin.study.desk MODEL.gguf INSTRUCTIONS PORT
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

SLOTS, SLOT_TOKENS = 4, 1024
TIMEOUT_S = 300.0


def create_app(llama: str, instructions: str) -> Starlette:
    """OpenAI's chat completions, answered by llama.cpp at `llama`, with the instructions before each."""
    client = httpx.AsyncClient(base_url=llama, timeout=TIMEOUT_S)

    async def chat(request: Request) -> Response:
        asked = await request.json()
        asked["messages"] = [{"role": "system", "content": instructions}, *asked["messages"]]
        answer = await client.send(
            client.build_request("POST", "/v1/chat/completions", json=asked), stream=True
        )
        headers = {"content-type": answer.headers["content-type"]}
        return StreamingResponse(
            answer.aiter_bytes(), answer.status_code, headers, background=BackgroundTask(answer.aclose)
        )

    async def models(request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": "desk", "object": "model"}]})

    @asynccontextmanager
    async def life(app: Starlette) -> AsyncIterator[None]:
        yield
        await client.aclose()

    routes = [
        Route("/v1/chat/completions", chat, methods=["POST"]),
        Route("/v1/models", models),
    ]
    return Starlette(routes=routes, lifespan=life)


def main(model: str, instructions: str, port: int) -> None:
    """Serve until stopped."""
    import xllamacpp

    options = xllamacpp.CommonParams()
    options.model.path = model
    options.n_parallel, options.n_ctx = SLOTS, SLOTS * SLOT_TOKENS
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = os.cpu_count() or 1
    options.warmup = False
    server = xllamacpp.Server(options)
    uvicorn.run(create_app(server.listening_address, instructions), port=port, log_level="warning")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
