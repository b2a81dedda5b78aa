"""Settlements: what a provider pays to our bank account, what is in it, and the bank's line that is its money.

Where more was given back or disputed than was paid, it's negative: the provider takes it from our bank account.
"""

from collections.abc import Awaitable, Collection, Iterable
from dataclasses import replace
from datetime import datetime, timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from base.errors import NotFound, OnebookError, Unavailable
from base.ids import new_id
from db.engine import tx
from fiat import store as bank_store
from fiat.bank.lines import Direction
from fiat.bank.records import BankLine, LineState
from fiat.errors import UnknownLine
from fiat.rails import booking, store
from fiat.rails.desk import Desk
from fiat.rails.errors import EffectUnknown, NothingToAccept, RailCorrupt, SettlementNotMatching
from fiat.rails.protocol import Capability, EntryKind, Rail, SettlementEntry, SettlementStatus, SettlementTruth
from fiat.rails.records import KeptEntry, Settlement
from fiat.rails.settlement_matching import certain
from fiat.rails.settlement_states import Known, SettlementState, advance, difference, unexplained
from fiat.rails.tables import refunds, settlements
from fiat.tables import lines
from ledger.asking import decide, decided_before, work
from ledger.commands import Group
from ledger.errors import RefusedByBook
from ledger.outcomes import Refused
from ledger.requests import RequestKey, content_hash
from ledger.riders import Advance, Insert

LOOK_EVERY = timedelta(hours=1)
"""How often a provider's lists are looked through, beside what its webhooks tell."""

PAGES_MAX, ENTRIES_MAX = 20, 200_000
"""Pages of a list that one step reads; entries that a settlement may have."""

RECENT_MAX = 50
"""The newest settlements, which are read again at each look."""

PAIRS_MAX = 1000
"""Settlements on their way and lines of their amounts that are looked at together; where there are more, none of them
is matched without a person, since nobody knows whether it's the only one."""

CANDIDATES_MAX = 20
"""Bank lines that are shown as what a settlement may be."""

_S = SettlementState

log = structlog.get_logger()


class Settlements:
    """Follows settlements, and matches them to bank lines."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._failed_at: dict[str, datetime] = {}  # when this process last failed to read what is in them

    async def step(self, *, rails: Collection[str] = ()) -> int:
        """Read what was settled where it's time to, and what is in it, and match; how many were read or matched.

        What is read is of `rails`, of all if none is named.
        """
        moved = 0
        for rail in self._desk.rails.named(rails):
            if Capability.SETTLEMENT not in rail.capabilities:
                continue
            try:
                moved += await self._look_through(rail)
                async with tx(self._desk.engine) as connection:
                    unread = await store.unread_settlements(
                        connection,
                        self._desk.book,
                        rail.name,
                        but=self._failed_lately(),
                        limit=10,
                    )
                moved += sum([await self._try_read(rail, settlement) for settlement in unread])
            except OnebookError as error:  # one that is away keeps nobody from the others
                log.warning("settlements not read", rail=rail.name, code=error.code, reason=error.message)
        return moved + await self._match_certain()

    async def hear(self, rail: str, source: str) -> None:
        """The provider told of a settlement. Raises what the rail does."""
        truth = await self._desk.rails.get(rail).fetch_settlement(source)
        if truth is None:
            raise EffectUnknown(f"{rail} doesn't know settlement {source} yet")
        await self._take(rail, truth)

    async def match(self, *, key: RequestKey, settlement: str, line: str) -> Settlement:
        """A bank line that waits in suspense is this settlement's money.

        Raises NotFound, UnknownLine, SettlementNotMatching, RequestConflict.
        """
        found = await self.get(settlement)
        if await decided_before(self._desk.ledger, key) is not None:
            return replace(found, replayed=True)
        async with tx(self._desk.engine) as connection:
            kept = await bank_store.load_line(connection, self._desk.vault, self._desk.book, line)
        if kept is None:
            raise UnknownLine(f"there is no bank line {line[:40]!r}", param="line")
        _require_its_money(found, kept)
        post = booking.settlement_matched(found, request=key.id)
        await self._desk.ledger.ensure_open(*booking.settlement_accounts(found.rail, found.asset))
        try:
            await decide(self._desk.ledger, Group((post,), self._matching(found, kept.id), content=key.content))
        except RefusedByBook as refusal:
            if refusal.code == Refused.STALE_STATE:
                raise SettlementNotMatching("the line or the settlement was taken meanwhile", param="line") from refusal
            raise
        return await self.get(settlement)

    async def accept(self, settlement: str, *, by: str, reason: str) -> Settlement:
        """Take what doesn't fit in a settlement as it is, so that it isn't told any more; said again, nothing new.

        Raises NotFound, NothingToAccept.
        """
        found = await self.get(settlement)
        if found.accepted_at is not None:
            return replace(found, replayed=True)
        if not (found.differences or found.unexplained):
            raise NothingToAccept("everything in this settlement fits, or it wasn't read yet", param="settlement")
        now = self._desk.clock.now()
        values = {"accepted_at": now, "accepted_by": by, "accepted_reason": reason, "updated_at": now}
        async with tx(self._desk.engine) as connection:
            if not await store.change(connection, settlements, self._desk.book, found.id, found.revision, values):
                raise SettlementNotMatching("the settlement changed meanwhile; look again", param="settlement")
        return await self.get(settlement)

    async def get(self, settlement: str) -> Settlement:
        """The settlement with this id. Raises NotFound."""
        async with tx(self._desk.engine) as connection:
            row = await store.load(connection, settlements, self._desk.book, settlement)
        if row is None:
            raise NotFound(f"there is no settlement {settlement[:40]!r}", param="settlement")
        return store.read_settlement(row)

    async def entries(self, settlement: str, *, limit: int = 1000) -> list[KeptEntry]:
        """What is in it, the entries that need a person first. Raises NotFound."""
        found = await self.get(settlement)
        async with tx(self._desk.engine) as connection:
            return await store.load_entries(connection, self._desk.book, found.id, limit=limit)

    async def candidates(self, settlement: Settlement) -> list[BankLine]:
        """Bank lines in suspense that may be its money: same asset, same amount, money in (out, of a negative one)."""
        if settlement.state is not _S.SENT:
            return []
        async with tx(self._desk.engine) as connection:
            return await store.suspended_lines(
                connection,
                self._desk.vault,
                self._desk.book,
                asset=settlement.asset,
                amount=settlement.amount,
                limit=CANDIDATES_MAX,
            )

    async def list_all(
        self, *, before: str | None = None, after: str | None = None, limit: int = 50
    ) -> list[Settlement]:
        """Settlements, newest first (oldest first with `after`)."""
        async with tx(self._desk.engine) as connection:
            return await store.list_settlements(connection, self._desk.book, before=before, after=after, limit=limit)

    # Inside

    async def _match_certain(self) -> int:
        """Match what leaves no doubt; the rest is the treasurer's."""
        desk, matched = self._desk, 0
        if not desk.accounts or not any(Capability.SETTLEMENT in rail.capabilities for rail in desk.rails.all.values()):
            return 0
        async with tx(desk.engine) as connection:
            pairs = await store.lines_of_amounts_on_their_way(
                connection, desk.vault, desk.book, accounts=desk.accounts, limit=PAIRS_MAX + 1
            )
        if len(pairs) > PAIRS_MAX:
            log.warning("too many lines of settlements' amounts to match without a person", pairs=len(pairs))
            return 0
        for settlement, line in certain(pairs):
            matched += await self._match_one(settlement, line)
        return matched

    async def _match_one(self, settlement: Settlement, line: BankLine) -> bool:
        def make(attempt: int) -> Group:
            post = booking.settlement_matched(
                settlement, request=booking.matching_id(settlement, line.id, attempt=attempt)
            )
            content = content_hash(f"settlement:{settlement.rail}:{settlement.source}:matched:{line.id}")
            return Group((post,), self._matching(settlement, line.id), content=content)

        await self._desk.ledger.ensure_open(*booking.settlement_accounts(settlement.rail, settlement.asset))
        (refusal,) = await work(self._desk.ledger, make)  # a refusal: a person was quicker, or it failed meanwhile
        return refusal is None

    def _matching(self, found: Settlement, line: str) -> tuple[Advance, Advance]:
        """What becomes of the line's row and the settlement's, if both are still as they were."""
        change = {
            "state": advance(found.state, _S.MATCHED).value,
            "bank_line": line,
            "revision": found.revision + 1,
            "updated_at": self._desk.clock.now(),
        }
        book = self._desk.book
        taken = Advance(
            lines.name,
            {"book": book, "id": line},
            {"state": LineState.SUSPENDED.value},
            {"state": LineState.SETTLED.value, "settlement": found.id},
        )
        return taken, Advance(settlements.name, {"book": book, "id": found.id}, {"revision": found.revision}, change)

    async def _look_through(self, rail: Rail) -> int:
        desk, now, taken = self._desk, self._desk.clock.now(), 0
        async with tx(desk.engine) as connection:
            kept = await store.load_cursor(connection, desk.book, rail.name, "settlements")
        if kept is not None and now - kept[1] < LOOK_EVERY:
            return 0
        cursor = None if kept is None else kept[0]
        async with tx(desk.engine) as connection:
            await store.keep_cursor(connection, desk.book, rail.name, "settlements", cursor, now)
            recent = await store.list_settlements(connection, desk.book, before=None, after=None, limit=RECENT_MAX)
        for settlement in recent:
            if settlement.rail == rail.name and settlement.state is not _S.FAILED:
                # it may have failed, and its webhook may be lost
                await self._tried(rail.name, settlement.source, self.hear(rail.name, settlement.source))
        whole = True
        for _ in range(PAGES_MAX):
            listed = await rail.list_settlements(cursor)
            done = [await self._tried(rail.name, truth.id, self._take(rail.name, truth)) for truth in listed.items]
            taken, cursor, whole = taken + sum(done), listed.cursor, whole and all(done)
            if whole:  # the kept cursor passes only what was taken
                async with tx(desk.engine) as connection:
                    await store.keep_cursor(connection, desk.book, rail.name, "settlements", cursor, now)
            if not listed.more:
                break
        return taken

    async def _try_read(self, rail: Rail, settlement: Settlement) -> bool:
        """Read its entries; where that fails, not again before an hour has passed, and the others are read."""
        if await self._tried(rail.name, settlement.source, self._read(rail, settlement)):
            return True
        self._failed_at[settlement.id] = self._desk.clock.now()
        return False

    def _failed_lately(self) -> Iterable[str]:
        now = self._desk.clock.now()
        self._failed_at = {id: at for id, at in self._failed_at.items() if now - at < LOOK_EVERY}
        return self._failed_at

    async def _tried(self, rail: str, source: str, act: Awaitable[None]) -> bool:
        """Whether it was done: one that can't be keeps nobody from the others."""
        try:
            await act
        except OnebookError as error:
            tell = log.warning if isinstance(error, Unavailable) else log.error
            tell("settlement not taken", rail=rail, object=source, code=error.code, reason=error.message)
            return False
        return True

    async def _take(self, rail: str, truth: SettlementTruth) -> None:
        async with tx(self._desk.engine) as connection:
            row = await store.load_by_source(connection, settlements, self._desk.book, rail, truth.id)
        if row is None:
            await self._begin(rail, truth)
            return
        known = store.read_settlement(row)
        if (known.asset, known.amount) != (truth.asset, truth.amount):
            raise RailCorrupt(f"{rail} has settlement {truth.id} of {truth.amount} {truth.asset}, not {known.amount}")
        if truth.status is SettlementStatus.FAILED and known.state is not _S.FAILED:
            await self._fail(known)

    async def _begin(self, rail: str, truth: SettlementTruth) -> None:
        if truth.amount == 0:
            raise RailCorrupt(f"settlement {truth.id} of {rail} is over nothing", asset=truth.asset)
        now = self._desk.clock.now()
        made = Settlement(
            id=new_id("stl", self._desk.clock, self._desk.entropy),
            rail=rail,
            source=truth.id,
            asset=truth.asset,
            amount=truth.amount,
            state=_S.SENT,
            arrives_on=None if truth.arrives_on is None else truth.arrives_on.isoformat(),
            descriptor=truth.descriptor,
            bank_line=None,
            entries=None,
            differences=0,
            unexplained=0,
            created_at=now,
            updated_at=now,
        )
        await self._desk.ledger.ensure_open(*booking.settlement_accounts(rail, truth.asset))
        names = ("rail", "source", "asset", "amount", "arrives_on", "descriptor", "created_at", "updated_at")
        values = {name: getattr(made, name) for name in names} | {"state": made.state.value}
        row = Insert(settlements.name, {"book": self._desk.book, "id": made.id}, values)

        def make(attempt: int) -> Group:
            post = booking.settlement_sent(made, attempt=attempt)
            return Group((post,), (row,), content=content_hash(f"settlement:{rail}:{truth.id}:sent"))

        (refusal,) = await work(self._desk.ledger, make)
        if refusal is not None:
            raise EffectUnknown(f"settlement {truth.id} wasn't booked yet: {refusal.code}")
        if truth.status is SettlementStatus.FAILED:
            await self._take(rail, truth)

    async def _fail(self, known: Settlement) -> None:
        change = {
            "state": advance(known.state, _S.FAILED).value,
            "revision": known.revision + 1,
            "updated_at": self._desk.clock.now(),
        }
        key = {"book": self._desk.book, "id": known.id}
        row = Advance(settlements.name, key, {"revision": known.revision}, change)

        def make(attempt: int) -> Group:
            post = booking.settlement_failed(known, attempt=attempt)
            return Group((post,), (row,), content=content_hash(f"settlement:{known.rail}:{known.source}:failed"))

        await work(self._desk.ledger, make)

    async def _read(self, rail: Rail, settlement: Settlement) -> None:
        """Keep all its entries, each with what doesn't fit about it."""
        told: list[SettlementEntry] = []
        cursor: str | None = None
        while True:
            listed = await rail.settlement_entries(settlement.source, cursor)
            told += listed.items
            if not listed.more:
                break
            if len(told) > ENTRIES_MAX:
                raise RailCorrupt(f"settlement {settlement.source} of {rail.name} has more than {ENTRIES_MAX} entries")
            cursor = listed.cursor
        desk = self._desk
        async with tx(desk.engine) as connection:
            kept = []
            for entry in told:
                known = await self._known(connection, rail.name, entry)
                names = ("id", "kind", "object", "gross", "fee", "net", "at")
                kept.append(
                    KeptEntry(
                        **{name: getattr(entry, name) for name in names},
                        subject=None if known is None else known.subject,
                        difference=difference(entry, known),
                    )
                )
            await store.keep_entries(connection, desk.book, settlement.id, kept)
            values = {
                "entries": len(kept),
                "differences": sum(entry.difference is not None for entry in kept),
                "unexplained": unexplained(settlement.amount, told),
                "updated_at": desk.clock.now(),
            }
            await store.change(connection, settlements, desk.book, settlement.id, settlement.revision, values)

    async def _known(self, connection: AsyncConnection, rail: str, entry: SettlementEntry) -> Known | None:
        """What our book has for the object of an entry."""
        if entry.object is None:
            return None
        book = self._desk.book
        match entry.kind:
            case EntryKind.PAYMENT:
                top_up = await store.find_top_up(connection, book, rail, entry.object)
                return None if top_up is None else Known(top_up.id, top_up.captured, top_up.fee or 0)
            case EntryKind.REFUND | EntryKind.REFUND_FAILURE:
                row = await store.load_by_source(connection, refunds, book, rail, entry.object)
                if row is None:
                    return None
                gone = entry.kind is EntryKind.REFUND
                return Known(row.id, -row.amount if gone else row.amount, row.fee if gone else None)
            case EntryKind.DISPUTE | EntryKind.DISPUTE_REVERSAL:
                found = await store.load_disputes(connection, book, rail, entry.object)
                if not found:
                    return None
                amount = sum(dispute.amount for dispute in found)
                return Known(found[0].id, -amount if entry.kind is EntryKind.DISPUTE else amount, None)
            case _:
                return None


def _require_its_money(settlement: Settlement, line: BankLine) -> None:
    if settlement.state is not _S.SENT:
        raise SettlementNotMatching(f"the settlement is {settlement.state} already", state=settlement.state.value)
    side = Direction.CREDIT if settlement.amount > 0 else Direction.DEBIT
    if line.direction is not side or line.state is not LineState.SUSPENDED:
        way = "in" if side is Direction.CREDIT else "out"
        raise SettlementNotMatching(
            f"only money {way} that waits in suspense can be this settlement, which is over {settlement.amount}"
            " smallest units",
            param="line",
        )
    if (line.asset, line.amount) != (settlement.asset, abs(settlement.amount)):
        raise SettlementNotMatching(
            "the line's amount isn't the settlement's",
            param="line",
            required=abs(settlement.amount),
            available=line.amount,
            asset=settlement.asset,
        )
