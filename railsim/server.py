"""The simulator as servers on loopback ports: one per provider and one for control, in one event loop."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import uvicorn

from railsim.app import provider_app
from railsim.control import control_app
from railsim.house import House
from railsim.peers import KnownPeers

HOST = "127.0.0.1"
DOORS = ("stripe", "paypal", "square", "control")
START_SECONDS = 20
KEEP_ALIVE_SECONDS = 120
"""How long an idle connection stays open: longer than clients keep theirs (httpx: 5 s), as at the providers."""

DUE_PAUSE_SECONDS = 0.25
"""How often jobs are looked for that became due without a request."""

Wrap = Callable[[str, Any], Any]
"""Puts something around the ASGI application of the provider of this name."""


class _Server(uvicorn.Server):
    """One of several servers in a loop: signals are for whoever runs the loop."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Running:
    """The simulator while it runs. Raises OSError if a port isn't free."""

    def __init__(self, house: House, ports: dict[str, int] | None = None, wrap: Wrap | None = None) -> None:
        """`ports` by door; 0 or none: any free one."""
        self.house = house
        self._sockets = {door: socket.create_server((HOST, (ports or {}).get(door, 0))) for door in DOORS}
        urls = {door: f"http://{HOST}:{one.getsockname()[1]}" for door, one in self._sockets.items()}
        for name, provider in house.providers.items():
            provider.url = urls[name]
        house.control_url = urls["control"]
        apps: dict[str, Any] = {name: provider_app(one) for name, one in house.providers.items()}
        if wrap is not None:
            apps = {name: wrap(name, app) for name, app in apps.items()}
        apps["control"] = control_app(house)
        self._servers = {door: _Server(_config(app)) for door, app in apps.items()}
        self.ready = threading.Event()

    async def serve(self) -> None:
        """Serve until `stop`."""
        try:
            async with asyncio.TaskGroup() as group:
                background = [group.create_task(self.house.world.courier.run()), group.create_task(self._do_due())]
                serving = [
                    group.create_task(server.serve(sockets=[self._sockets[door]]))
                    for door, server in self._servers.items()
                ]
                self.ready.set()
                await asyncio.wait(serving)
                for task in background:
                    task.cancel()
        finally:
            for one in self._sockets.values():
                one.close()

    async def _do_due(self) -> None:
        while True:
            await asyncio.sleep(DUE_PAUSE_SECONDS)
            self.house.world.timeline.run_due()

    def stop(self) -> None:
        """End all servers, also while requests hang in them."""
        for server in self._servers.values():
            server.should_exit = True
            server.force_exit = True


def _config(app: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app, http=KnownPeers, ws="none", lifespan="off", log_level="error", access_log=False, server_header=False,
        timeout_graceful_shutdown=1, timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )  # fmt: skip


@contextmanager
def running(*, seed: int = 1, start: datetime | None = None, wrap: Wrap | None = None) -> Iterator[House]:
    """The simulator on free ports, in a thread of its own, for the length of the block."""
    house = House(seed=seed, start=start)
    serving = Running(house, wrap=wrap)
    thread = threading.Thread(target=lambda: asyncio.run(serving.serve()), name="railsim", daemon=True)
    thread.start()
    try:
        if not serving.ready.wait(START_SECONDS):
            raise TimeoutError(f"the rail simulator didn't start within {START_SECONDS} s")
        yield house
    finally:
        serving.stop()
        thread.join(START_SECONDS)
