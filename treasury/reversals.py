"""Reversals: the treasurer takes back what an entry moved, wholly or in part. The book links the two both ways.

An entry that the chain or a bank caused isn't taken back by hand: there only their own evidence counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from base.clock import Clock
from base.entropy import Entropy
from base.errors import Rejected
from base.ids import new_id
from ledger.accounts import HOUSE, split_account_id
from ledger.asking import Before, decide, decided_before
from ledger.commands import Record, Reverse
from ledger.engine import Ledger
from ledger.errors import EntryUnknown, RefusedByBook
from ledger.outcomes import Line, LineKind, Outcome
from ledger.requests import RequestKey
from treasury.by_hand import ADJUSTABLE
from treasury.by_hand_alone import ByHandAlone, second_person
from treasury.errors import NotAdjustable
from treasury.notes import note
from treasury.operations.acts import Noted, unnoted

ID_PREFIX = "rev"

_LINES_MAX = 500
"""Lines that are looked through for the one entry of a movement."""


@dataclass(frozen=True, slots=True)
class Reversal:
    """What was taken back of the entry whose command's id is `entry`; the lines are the reversal's own."""

    id: str
    entry: str
    lines: tuple[Line, ...]
    reason: str
    booked_at: datetime
    replayed: bool = False


class Reversals:
    """Takes entries back."""

    def __init__(self, *, ledger: Ledger, clock: Clock, entropy: Entropy, alone: ByHandAlone | None = None) -> None:
        self._ledger = ledger
        self._clock = clock
        self._entropy = entropy
        self._alone = alone

    async def entry(self, name: str) -> Outcome:
        """The entry with this command id, or the only one of the movement with this id (`trf_...`).

        Raises EntryUnknown, and Rejected (`ambiguous_entry`) for a movement of several entries, which it names.
        """
        found = await self._ledger.outcomes(name)
        if not found:
            lines = await self._ledger.history(subject=name, kinds=(LineKind.POSTED,), limit=_LINES_MAX)
            commands = list(dict.fromkeys(line.command for line in lines))
            if len(commands) > 1:
                raise Rejected(
                    f"{name} has {len(commands)} entries: name one of them",
                    code="ambiguous_entry",
                    param="entry",
                    entries=commands,
                )
            found = await self._ledger.outcomes(*commands) if commands else []
        if not found:
            raise EntryUnknown(f"there is no entry {name[:40]!r}", param="entry")
        return found[0]

    async def reverse(
        self,
        *,
        key: RequestKey,
        treasurer: str,
        entry: Outcome,
        amounts: Sequence[tuple[int, int]] | None = None,
        reason: str,
        confirmed_by: str | None = None,
        noted: Noted = unnoted,
    ) -> Reversal:
        """Take back these (line, amount) pairs of the entry, or None: all that isn't taken back yet.

        What a second treasurer has confirmed (`confirmed_by`) uses up no limit of the first's. Raises NotAdjustable for
        an entry that stands on evidence, ReasonMissing, SecondPersonNeeded, RequestConflict, RefusedByBook
        (`not_reversible`, `unknown_posting`, `exceeds_remainder`, `insufficient_funds` where the money is spent).
        """
        try:
            if (outcome := await decided_before(self._ledger, key)) is None:
                check(entry)
                name = new_id(ID_PREFIX, self._clock, self._entropy)
                used: tuple[Record, ...] = ()
                if confirmed_by is None and self._alone is not None:
                    used = await self._alone.record(key, treasurer, moved_by(entry, amounts))
                command = Reverse(
                    id=key.id,
                    subject=name,
                    entry=entry.id,
                    amounts=None if amounts is None else tuple(amounts),
                    metadata=note(treasurer, reason, confirmed_by=confirmed_by),
                )
                before = noted(name)
                group = Before((*before.commands, *used), before.riders).group(command, content=key.content)
                *_, outcome = await decide(self._ledger, group)
        except RefusedByBook as refusal:
            if (second := second_person(refusal)) is not refusal:
                raise second from refusal
            if (asset := _asset_of(refusal, entry)) is not None:
                refusal.facts = {**refusal.facts, "asset": asset}
            raise
        return _made(outcome, entry, reason)


def _asset_of(refusal: RefusedByBook, entry: Outcome) -> str | None:
    """The asset that a refusal's numbers are in: its line's, or the only one of the entry."""
    line = refusal.facts.get("posting")
    if isinstance(line, int) and 0 <= line < len(entry.lines):
        return entry.lines[line].asset
    assets = {line.asset for line in entry.lines}
    return assets.pop() if len(assets) == 1 else None


def moved_by(entry: Outcome, amounts: Sequence[tuple[int, int]] | None) -> dict[str, int]:
    """How much of each asset these parts of an entry are; of None all of it, though some may be taken back already."""
    lines = {index: line for index, line in enumerate(entry.lines) if line.kind is LineKind.POSTED}
    moved: dict[str, int] = {}
    for index, amount in [(index, line.amount) for index, line in lines.items()] if amounts is None else amounts:
        if index in lines:  # the book refuses what isn't
            asset = lines[index].asset
            moved[asset] = moved.get(asset, 0) + amount
    return moved


def check(entry: Outcome) -> None:
    """Whether people may take it back at all. Raises NotAdjustable."""
    for line in entry.lines:
        for account in (line.debit, line.credit):
            owner, purpose, _ = split_account_id(account)
            if owner == HOUSE and purpose not in ADJUSTABLE:
                raise NotAdjustable(
                    f"this entry moved {account}, where only the chain's or the bank's own evidence counts",
                    param="entry",
                    account=account,
                )


def _made(outcome: Outcome, entry: Outcome, reason: str) -> Reversal:
    return Reversal(
        id=outcome.subject or outcome.id,
        entry=entry.id,
        lines=outcome.lines,
        reason=reason.strip(),
        booked_at=outcome.booked_at,
        replayed=outcome.replayed,
    )
