"""What goes in and out of a simulated provider: a call, an answer, a refusal. No HTTP library, no provider's rule."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
"""One JSON object in a provider's own shape."""


@dataclass(slots=True)
class Call:
    """One request. `body` is the parsed body, of a form too; `path` holds the parts named in the route."""

    method: str
    target: str
    headers: dict[str, str]
    query: Json
    raw: bytes = b""
    body: Json = field(default_factory=dict)
    path: dict[str, str] = field(default_factory=dict)

    def header(self, name: str) -> str | None:
        return self.headers.get(name.lower())


@dataclass(frozen=True, slots=True)
class Answer:
    """A status with a JSON object, or with bytes as they are, or with nothing."""

    status: int
    body: Json | bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def rendered(self) -> bytes:
        if self.body is None:
            return b""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()

    def copied(self, **headers: str) -> "Answer":
        """The same answer as it was when it was given, with more headers."""
        return Answer(self.status, self.rendered(), {**self.headers, **headers})


class Refused(Exception):
    """A request is refused with this answer. `remembered`: an idempotency key keeps it."""

    def __init__(self, answer: Answer, *, remembered: bool = False) -> None:
        super().__init__(answer.status)
        self.answer = answer
        self.remembered = remembered


Handler = Callable[[Call], Answer]
"""Does all of a request's work at once, without waiting: so requests never see each other half done."""


@dataclass(frozen=True, slots=True)
class Operation:
    """A method and a path, such as `/v1/refunds/{id}`, and what answers it."""

    method: str
    path: str
    handler: Handler
