"""Providers' lists, read item by item: one that can't be read keeps nobody from the others."""

from collections.abc import Callable, Iterable
from typing import TypeVar

import structlog

from base.errors import OnebookError

Told = TypeVar("Told")
Item = TypeVar("Item")

UNREADABLE = (OnebookError, LookupError, TypeError, ValueError, AttributeError, OverflowError)
"""What reading raises for a shape or a word that isn't the provider's, and for what has no place in this book."""

log = structlog.get_logger()


def readable_items(
    rail: str, found: Iterable[Told], read: Callable[[Told], Item], *, named: Callable[[Told], object]
) -> tuple[Item, ...]:
    """What can be read of a page; the rest, such as an amount in no asset of ours, is logged and passed by.

    `named` tells the provider's id of one, for the log.
    """
    items = []
    for one in found:
        try:
            items.append(read(one))
        except UNREADABLE as error:
            log.error("unreadable in a list", rail=rail, object=str(named(one))[:60], error=type(error).__name__)
    return tuple(items)
