"""The people of the story, each with a key of the API, and how the story waits and is told."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from base.errors import OnebookError, Unavailable
from cli.output import say

WAIT_SECONDS = 90.0
"""How long the story waits for one thing to happen before it gives up."""

POLL_SECONDS = 0.1


class StoryStopped(OnebookError):
    """The API refused what the story asked, or something that should happen didn't."""

    default_code = "story_stopped"


@dataclass(slots=True)
class Person:
    """Somebody with an API key."""

    name: str
    key: str = field(repr=False)
    api: httpx.Client = field(repr=False)
    sent: int = 0

    def get(self, path: str, **query: str) -> Any:
        """Read a resource."""
        return self._answer(self.api.get(path, params=query, headers=self._headers()))

    def post(self, path: str, body: Mapping[str, object] | None = None) -> Any:
        """Ask for something, with an idempotency key of its own."""
        self.sent += 1
        headers = {**self._headers(), "Idempotency-Key": f"demo-{self.name}-{self.sent}"}
        return self._answer(self.api.post(path, json=body, headers=headers))

    def upload(self, path: str, content: bytes, filename: str) -> Any:
        """Send a file as it is."""
        headers = {**self._headers(), "Content-Type": "application/xml"}
        return self._answer(self.api.post(path, content=content, params={"filename": filename}, headers=headers))

    def download(self, path: str) -> bytes:
        """A file as it is."""
        response = self.api.get(path, headers=self._headers())
        self._answer(response)
        return response.content

    def has(self, asset: str) -> str:
        """What of an asset is available to this user, as the API writes it."""
        return str(self.get(f"/v1/balances/{asset}")["available"])

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def _answer(self, response: httpx.Response) -> Any:
        if response.is_error:
            problem = response.json()
            what = f"{response.request.method} {response.url.path}: {problem.get('detail', problem)}"
            raise StoryStopped(what, code=problem.get("code"))
        return response.json()


def until(what: str, is_so: Callable[[], object]) -> None:
    """Wait until `is_so`. Raises Unavailable when it takes too long."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            raise Unavailable(f"after {WAIT_SECONDS:.0f} s it still isn't so that {what}; see .onebook/logs/")
        time.sleep(POLL_SECONDS)


def title(text: str) -> None:
    """Begin a scene."""
    say()
    say(f"* {text}")


def is_zero(amount: str) -> bool:
    """Whether an amount, as the API writes it, is nothing."""
    return not amount.strip("-0.")
