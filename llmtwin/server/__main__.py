"""`python -m llmtwin.server`: one server process with the echo engine, for tests and for trying the API."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import uvicorn

from llmtwin.models.engine.echo import EchoEngine
from llmtwin.server.access import load_or_create_admin_token
from llmtwin.server.app import create_app
from llmtwin.server.core import ServerOptions
from llmtwin.server.log import log_to


def main() -> None:
    """Serve until stopped; the admin's token is in DATA/admin.token."""
    parser = argparse.ArgumentParser(prog="python -m llmtwin.server", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--engine", choices=["echo"], default="echo")
    given = parser.parse_args()
    log_to(sys.stderr)
    options = ServerOptions(
        data=given.data,
        engine=EchoEngine(),
        admin_token=load_or_create_admin_token(given.data / "admin.token"),
    )
    uvicorn.run(
        create_app(options),
        host=given.host,
        port=given.port,
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=3,
    )


if __name__ == "__main__":
    main()
