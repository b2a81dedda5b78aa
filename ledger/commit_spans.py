"""A group commit as a span: one for all that wait for it, below the first of them that is recorded."""

from collections.abc import Iterable
from contextlib import AbstractContextManager

from base import tracing
from ledger.waiting import Waiting

LINKS_MAX = 31
"""Others that waited for the same commit and are linked to it."""


def commit_span(waiting: Iterable[Waiting], *, way: str) -> AbstractContextManager[tracing.Span]:
    """The span of a commit of these, decided `ahead` of the book's lock or with it (`locked`)."""
    active = tracing.active
    if active is None:
        return tracing.SILENT
    waiting = list(waiting)
    places = list({id(item.place): item.place for item in waiting if item.place is not None}.values())
    if not places:
        return tracing.SILENT
    told: dict[str, tracing.Value] = {
        "onebook.commit.way": way,
        "onebook.commit.commands": sum(item.size for item in waiting),
        "onebook.commit.callers": len(waiting),
    }
    return active.span("ledger commit", tracing.Kind.CLIENT, told, parent=places[0], links=places[1 : 1 + LINKS_MAX])
