"""How callers meet the book: a request's repeat comes first, a worker tries again; refusals become errors."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from msgspec.structs import replace

from ledger.accounts import split_account_id
from ledger.commands import Command, FreezeScope, Group
from ledger.engine import Ledger
from ledger.errors import BookCorrupt, RequestConflict
from ledger.freezing import freezable
from ledger.outcomes import Outcome, Refusal, Refused, require_accepted
from ledger.requests import RequestKey
from ledger.riders import Rider

ATTEMPTS_MAX = 100
"""Remembered refusals after which a worker's command is left to a person."""


async def decided_before(ledger: Ledger, key: RequestKey, *, older: Collection[bytes] = ()) -> Outcome | None:
    """The accepted outcome that this request had, if it was sent before. `older`: other hashes of the same content.

    Asked before anything that may have changed since (an expired quote, a moved handle), so that a repeat gets the
    first answer. Raises RequestConflict if the key was used for something else, RefusedByBook if it was refused.
    """
    found = await ledger.outcomes(key.id)
    if not found:
        return None
    (outcome,) = found
    if outcome.content != key.content and outcome.content not in older:
        raise RequestConflict(
            "this idempotency key was used for another request",
            first=outcome.subject or outcome.id,
            first_booked_at=outcome.booked_at.isoformat(),
        )
    require_accepted((outcome, *await _cause(ledger, outcome)))
    return replace(outcome, replayed=True)


async def _cause(ledger: Ledger, outcome: Outcome) -> list[Outcome]:
    """What its group was refused for, where that was another command of it."""
    refusal = outcome.refusal
    if refusal is None or refusal.code is not Refused.GROUP_REFUSED:
        return []
    cause = await ledger.outcomes(str(refusal.facts["because"]))
    if not cause:
        raise BookCorrupt(f"{outcome.id} was refused because of {refusal.facts['because']}, which isn't known")
    return cause


async def contents_of(ledger: Ledger, commands: Iterable[str]) -> dict[str, bytes | None]:
    """The hash of what was requested with each of these commands, by which a repeat of the request is known."""
    return {outcome.id: outcome.content for outcome in await ledger.outcomes(*commands)}


@dataclass(frozen=True, slots=True)
class Before:
    """What a request's command is to find booked: commands that come first in its group, and rows that ride along."""

    commands: tuple[Command, ...] = ()
    riders: tuple[Rider, ...] = ()

    def group(self, command: Command, *riders: Rider, content: bytes) -> Group:
        """The request's command behind these, and all the rows."""
        return Group((*self.commands, command), (*self.riders, *riders), content)


ALONE = Before()
"""Nothing comes first."""


async def decide(ledger: Ledger, group: Group) -> tuple[Outcome, ...]:
    """Submit one group and return its accepted outcomes. Raises RequestConflict or RefusedByBook."""
    (outcomes,) = await ledger.submit(group)
    refusal = refusal_of(outcomes)
    if refusal is not None and refusal.code is Refused.ID_CONFLICT:
        raise RequestConflict("this idempotency key was used for another request", first=refusal.facts.get("first"))
    return require_accepted(outcomes)


async def work(ledger: Ledger, *makers: Callable[[int], Group]) -> list[Refusal | None]:
    """Submit workers' groups, each under its first attempt's ids that were not refused before; None for the accepted.

    `maker(n)` makes the group of attempt n, from 1. A refusal decided now is returned, and the next call makes the
    next attempt, so that a lost race doesn't spend the command for ever.
    """
    results: list[Refusal | None] = [None] * len(makers)
    waiting = list(range(len(makers)))
    for attempt in range(1, ATTEMPTS_MAX + 1):
        if not waiting:
            break
        decided = await ledger.submit(*(makers[index](attempt) for index in waiting))
        again = []
        for index, outcomes in zip(waiting, decided, strict=True):
            results[index] = refusal_of(outcomes)
            if results[index] is not None and outcomes[0].replayed:
                again.append(index)
        waiting = again
    if not waiting:
        return results
    names = ", ".join(makers[index](1).commands[0].id for index in waiting)
    raise BookCorrupt(f"refused {ATTEMPTS_MAX} times: {names}", code="refused_for_good")


def stopping(freezes: Iterable[tuple[FreezeScope, str]], *accounts: str) -> list[tuple[FreezeScope, str]]:
    """Those of the book's `freezes` that stop an intent on these accounts."""
    places = {(FreezeScope.ACCOUNT, account) for account in accounts}
    places.update(place for account in accounts for place in freezable(*split_account_id(account)))
    return [place for place in freezes if place in places]


def refusal_of(outcomes: tuple[Outcome, ...]) -> Refusal | None:
    """What stopped a group, if something did."""
    refusals = [outcome.refusal for outcome in outcomes if outcome.refusal is not None]
    own = [refusal for refusal in refusals if refusal.code is not Refused.GROUP_REFUSED]
    return next(iter(own or refusals), None)
