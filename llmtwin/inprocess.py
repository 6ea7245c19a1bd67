"""A server's app within this process, as a transport of `httpx.Client`. It knows nothing of what is sent."""

from __future__ import annotations

from contextlib import ExitStack

import httpx
from anyio.from_thread import start_blocking_portal
from starlette.applications import Starlette


class InProcessTransport(httpx.BaseTransport):
    """Hands each request to the app, whose event loop runs in a thread of its own until `close`.

    The app's lifespan starts and ends with it. Safe to use from many threads.
    """

    def __init__(self, app: Starlette) -> None:
        self._life = ExitStack()
        self._portal = self._life.enter_context(start_blocking_portal())
        lifespan = app.router.lifespan_context(app)
        self._life.enter_context(self._portal.wrap_async_context_manager(lifespan))
        self._transport = httpx.ASGITransport(app, raise_app_exceptions=False)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Wait for the app's whole answer."""
        return self._portal.call(self._handle, request)

    async def _handle(self, request: httpx.Request) -> httpx.Response:
        response = await self._transport.handle_async_request(request)
        return httpx.Response(response.status_code, headers=response.headers, content=await response.aread())

    def close(self) -> None:
        """End the app's life."""
        self._life.close()
