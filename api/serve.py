"""The API's process: reads the settings, builds the services, serves until it's told to stop.

python -m api.serve [--port N | --socket PATH | --fd N]
"""

import argparse
import asyncio
import socket as sockets
import sys
from pathlib import Path

import structlog
import uvicorn
import uvloop
from fastapi import FastAPI

from api.app import create_app
from api.protocol import Http
from base.collector import calm_collector
from base.errors import OnebookError
from base.exits import exit_code
from chain.evm.node import load_libraries
from wiring.assemble import build_services
from wiring.journal_watching import look_at_journal
from wiring.operations import note_start
from wiring.parts import open_parts
from wiring.preparing import refuse_lost_tiers
from wiring.running import with_database
from wiring.screening import listed_addresses
from wiring.settings import Settings, load_settings
from wiring.telemetry import traced

BACKLOG = 2048
"""Connections that the kernel keeps waiting."""

KEEP_ALIVE_SECONDS = 30
SHUTDOWN_SECONDS = 10
"""How long requests under way may still take after a signal to stop."""

log = structlog.get_logger()


async def serve(
    settings: Settings, *, port: int | None = None, socket: Path | None = None, fd: int | None = None
) -> None:
    """Serve until SIGTERM or SIGINT: on a TCP port, a Unix socket, or a socket that listens already (`fd`)."""
    listed_addresses(settings)  # without a readable list nothing starts
    given = None if fd is None else [sockets.socket(fileno=fd)]
    async with open_parts(settings, name="onebook api") as parts:
        await look_at_journal(parts)
        services = build_services(parts)
        await refuse_lost_tiers(parts)
        if (unnoted := await note_start(parts, "api")) is not None:
            log.warning("the start isn't in the audit log", reason=unnoted)
        app = create_app(services)
        calm_collector()
        try:
            await uvicorn.Server(_config(app, settings, port=port, socket=socket)).serve(sockets=given)
        finally:
            await services.identity.aclose()
            await services.quotes.aclose()
            await services.tiers.aclose()


def _config(app: FastAPI, settings: Settings, *, port: int | None, socket: Path | None) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=settings.api_host,
        port=port or settings.api_port,
        uds=None if socket is None else str(socket),
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # a caller's own word about its address is worth nothing
        log_level="warning",
        http=Http,
        ws="none",
    )


def main() -> int:
    """Serve with the settings in force; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m api.serve", description="Serve the API of one installation.")
    parser.add_argument("--port", type=int, help="TCP port; else the settings'")
    parser.add_argument("--socket", type=Path, help="serve on a Unix socket instead")
    parser.add_argument("--fd", type=int, help="serve on an inherited socket that listens already")
    asked = parser.parse_args()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    )
    try:
        settings = with_database(load_settings())
        if settings.networks:
            load_libraries()
        with traced(settings, process="api"), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings, port=asked.port, socket=asked.socket, fd=asked.fd))
    except OnebookError as error:
        sys.stderr.write(f"onebook api: {error.message}\n")
        return exit_code(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
