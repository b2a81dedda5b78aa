"""Where work shows up as spans of traces, if anybody wants them: a name here, whoever records it elsewhere.

with tracing.child("signer sign", tracing.Kind.CLIENT) as span:
    ...
    span.set("onebook.rows", 3)

Nobody listens unless the process's start has set `active` (`wiring.otlp`); then what is called here costs a look at a
variable, and nothing is imported. What an attribute may say: kinds, names of ours, counts, codes; nobody's data, no
amount, no address, no secret, and of an error its code alone.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from enum import StrEnum
from types import TracebackType
from typing import Protocol, TypeAlias

from base.errors import OnebookError

Value: TypeAlias = str | int | bool


class Kind(StrEnum):
    """Which side of a call a span is, as OpenTelemetry calls it."""

    INTERNAL = "internal"
    SERVER = "server"
    CLIENT = "client"


class Span(Protocol):
    """Something that is being done. It ends with its `with`; an exception marks it as failed, and goes on."""

    def name(self, name: str) -> None:
        """Call it something else: its name may be known at its end only."""
        ...

    def set(self, attribute: str, value: Value) -> None:
        """Say something of it."""
        ...

    def fail(self, code: str) -> None:
        """Mark it as failed, with an error's code."""
        ...

    def forget(self) -> None:
        """Let it, and all below it, be as if it hadn't been begun: only of a span begun as `tentative`."""
        ...


class Place(Protocol):
    """Where in a trace something is, for what continues it elsewhere."""

    @property
    def trace_id(self) -> int: ...


class Tracing(Protocol):
    """Who records spans."""

    def here(self) -> Place | None:
        """The span we're in; None where there is none, or it isn't recorded."""
        ...

    def span(
        self,
        name: str,
        kind: Kind,
        attributes: Mapping[str, Value],
        *,
        traceparent: str | None = None,
        parent: Place | None = None,
        links: Sequence[Place] = (),
        tentative: bool = False,
    ) -> AbstractContextManager[Span]:
        """A span below `parent`, else below what `traceparent` (W3C Trace Context) names, else below the one we're in.

        `links`: others that it's for as well. `tentative`: it begins a trace, and is kept unless it's forgotten.
        """
        ...


class _Silent:
    """The span of work that nobody records."""

    def __enter__(self) -> "_Silent":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def name(self, name: str) -> None:
        """Nobody asks."""

    def set(self, attribute: str, value: Value) -> None:
        """Nobody asks."""

    def fail(self, code: str) -> None:
        """Nobody asks."""

    def forget(self) -> None:
        """Nobody asks."""


SILENT = _Silent()

active: Tracing | None = None
"""Who records this process's spans; None: nobody. Set once, before its services are built."""


def child(
    name: str, kind: Kind = Kind.INTERNAL, attributes: Mapping[str, Value] | None = None
) -> AbstractContextManager[Span]:
    """A span below the one we're in; where that isn't recorded, this isn't."""
    if active is None or active.here() is None:
        return SILENT
    return active.span(name, kind, attributes or {})


def code_of(error: BaseException) -> str:
    """What a span may tell of an error: its code or its kind, never its words."""
    return error.code if isinstance(error, OnebookError) else type(error).__name__
