"""How much of a request is read. It knows paths by their end, and nothing of what a body holds."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class BodyLimit:
    """ASGI middleware: a body over the limit is refused (413) before, or as soon as, that much has come."""

    def __init__(self, app: ASGIApp, bytes_max: int, bytes_max_by_end: Mapping[str, int]) -> None:
        self._app = app
        self._bytes_max = bytes_max
        self._by_end = bytes_max_by_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a `receive` that counts."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._by_end.get(scope["path"].rpartition("/")[2], self._bytes_max)
        declared = int(dict(scope["headers"]).get(b"content-length", b"0"))
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive() if declared <= limit else {}
            received += len(message.get("body", b""))
            if max(declared, received) > limit:
                raise HTTPException(413, f"the body is larger than {limit} bytes")
            return message

        await self._app(scope, limited, send)
