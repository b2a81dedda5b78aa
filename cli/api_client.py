"""Asking the API as somebody with a key: its address from an argument or the configuration, the key from a variable."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from base.errors import ConfigError, Rejected, Unavailable
from wiring.running import read_running
from wiring.settings import Settings

if TYPE_CHECKING:
    import httpx

KEY_VARIABLE: Final = "ONEBOOK_API_KEY"
_SECONDS: Final = 20.0

_TOLD_ANYHOW = frozenset(
    {"type", "title", "status", "detail", "message", "remedy", "code", "param", "request_id", "needed", "granted"}
)
"""Fields of a problem that every one has, or that its sentence says; the others are the numbers that explain it."""


def api_client(url: str | None, settings: Settings | None) -> httpx.Client:
    """A client with the key of ONEBOOK_API_KEY. Raises ConfigError when there is no address or no key."""
    import httpx  # here: what is approved from a file asks no API

    key = os.environ.get(KEY_VARIABLE)
    if not key:
        raise ConfigError(f"no API key: set {KEY_VARIABLE} to one with the scope treasury:write")
    if url is None:
        running = read_running(settings.home) if settings is not None else None
        if running is None:
            raise ConfigError("no API runs for this configuration: give --api with its address")
        url = running.api_url
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=_SECONDS)


def get(client: httpx.Client, path: str) -> dict[str, Any]:
    """Read a resource. Raises Rejected with the problem's words, Unavailable."""
    return _ask(client, "GET", path, None)


def post(client: httpx.Client, path: str, body: Mapping[str, object]) -> dict[str, Any]:
    """Make one. Raises Rejected with the problem's words, Unavailable."""
    return _ask(client, "POST", path, body)


def _ask(client: httpx.Client, method: str, path: str, body: Mapping[str, object] | None) -> dict[str, Any]:
    import httpx

    headers = {} if body is None else {"Idempotency-Key": secrets.token_hex(16)}
    try:
        response = client.request(method, path, json=body, headers=headers)
        told = response.json()
    except (httpx.HTTPError, ValueError) as problem:
        raise Unavailable(f"the API at {client.base_url} doesn't answer: {problem}") from problem
    if not isinstance(told, dict):
        raise Unavailable(f"what answers at {client.base_url} isn't this API")
    if response.is_error:
        facts = {name: value for name, value in told.items() if name not in _TOLD_ANYHOW}
        raise Rejected(str(told.get("detail", "refused")), code=str(told.get("code", "rejected")), **facts)
    return told
