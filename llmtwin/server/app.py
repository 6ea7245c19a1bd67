"""The app: routes, limits, errors as HTTP, metrics. It knows nothing of how anything is done."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import cast

import anyio.to_thread
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException

from llmtwin import errors
from llmtwin.server import chat
from llmtwin.server.core import Core, ServerOptions
from llmtwin.server.guard import CoreOf, MetricsOf
from llmtwin.server.limits import BodyLimit
from llmtwin.server.log import Metrics, RequestLog
from llmtwin.server.routes import adapters, asking, commands, prompts, twins

THREADS = 128

# The first class that fits gives the status and the code.
_STATUSES: tuple[tuple[type[errors.LlmtwinError], int, str], ...] = (
    (errors.TooLarge, 413, "too_large"),
    (errors.InputError, 422, "input"),
    (errors.NotFound, 404, "not_found"),
    (errors.Conflict, 409, "conflict"),
    (errors.Untrusted, 422, "untrusted"),
    (errors.Unauthenticated, 401, "unauthenticated"),
    (errors.Denied, 403, "denied"),
    (errors.Unavailable, 503, "unavailable"),
)


def create_app(options: ServerOptions) -> FastAPI:
    """The server over one data folder, which is made where it is not there.

    `app.state.core` holds its parts; they close when the app's lifespan ends.
    """
    core = Core(options)
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        yield
        core.close()

    app = FastAPI(title="llmtwin", version=_version(), lifespan=lifespan)
    app.state.core, app.state.metrics = core, metrics
    for part in (twins, prompts, adapters, commands, asking, chat):
        app.include_router(part.router)
    app.add_api_route("/healthz", health, tags=["operation"])
    app.add_api_route("/metrics", show_metrics, tags=["operation"])
    app.add_exception_handler(errors.LlmtwinError, _on_own_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_error)
    by_end = {
        "description": options.description_bytes_max,
        "prompts": options.prompts_bytes_max,
        "adapters": options.package_bytes_max,
    }
    app.add_middleware(BodyLimit, bytes_max=options.body_bytes_max, bytes_max_by_end=by_end)
    failed = _error(500, "internal", "the server failed; its log says where")
    app.add_middleware(RequestLog, metrics=metrics, on_failure=failed)
    return app


def health(core: CoreOf) -> dict[str, str]:
    """That the server is there, its version, and the hash of the base that adapters must be for."""
    return {"status": "ok", "version": _version(), "base": core.options.engine.base_hash}


def show_metrics(metrics: MetricsOf) -> Response:
    """The counters, in Prometheus' text form. They name no twin."""
    return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _version() -> str:
    try:
        return version("llmtwin")
    except PackageNotFoundError:
        return "0"


def _error(status: int, code: str, message: str) -> JSONResponse:
    """The one form of an error; OpenAI's clients read it too."""
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    body = {"error": {"code": code, "message": message, "type": code, "param": None}}
    return JSONResponse(body, status, headers)


def _on_own_error(request: Request, error: Exception) -> JSONResponse:
    status, code = next((status, code) for family, status, code in _STATUSES if isinstance(error, family))
    return _error(status, code, str(error))


def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    first = cast(RequestValidationError, error).errors()[0]
    place = ".".join(str(step) for step in first["loc"])[:200]
    return _error(422, "input", f"{place}: {first['msg']}")


def _on_http_error(request: Request, error: Exception) -> JSONResponse:
    failed = cast(HTTPException, error)
    code = {404: "not_found", 405: "method", 413: "too_large"}.get(failed.status_code, "input")
    return _error(failed.status_code, code, str(failed.detail))
