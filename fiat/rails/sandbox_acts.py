"""What people do at the sandbox's own pages: payers pay, banks dispute, the provider pays out to our bank account."""

from datetime import datetime
from typing import Any

from base.clock import Clock
from fiat.rails.inbox import Inbox
from fiat.rails.protocol import (
    DisputeStatus,
    EntryKind,
    ObjectKind,
    PaymentStatus,
    RefundStatus,
    SettlementStatus,
)
from fiat.rails.sandbox import Sandbox
from fiat.rails.sandbox_record import Document, Record, Session

EVENTS_PER_STEP = 100


class SandboxActs:
    """The other side of the sandbox. Amounts are smallest units."""

    def __init__(self, sandbox: Sandbox, record: Record, *, clock: Clock) -> None:
        self._sandbox = sandbox
        self._record = record
        self._clock = clock

    async def pay(self, payment: str, method: str) -> None:
        """The payer does what was required of them: approves on the page, or pays with the client secret."""
        async with self._record.session() as session:
            found = await session.load("payment", payment)
            assert found is not None
            assert found["status"] == PaymentStatus.REQUIRES_ACTION
            if found["return_url"] is not None:
                found |= {"status": PaymentStatus.APPROVED, "approved_with": method}
            else:
                self._sandbox.charge(found, method)
            await self._sandbox.save_payment(session, found)

    async def dispute(self, payment: str) -> str:
        """The payer's bank disputes a captured payment. Returns the dispute."""
        async with self._record.session() as session:
            found = await session.load("payment", payment)
            assert found is not None
            return str((await self._sandbox.new_dispute(session, found))["id"])

    async def decide(self, dispute: str, *, won: bool) -> None:
        """For us: the payment comes back, the fee too. Against us: both stay away."""
        async with self._record.session() as session:
            found = await session.load("dispute", dispute)
            assert found is not None
            status = DisputeStatus.WON if won else DisputeStatus.LOST
            taken = (0, 0) if won else (found["amount"], found["fee"] or 1500)
            found |= {"status": status, "withdrawn": taken[0], "fee": taken[1]}
            await session.save("dispute", found)
            await session.tell(f"dispute.{status}", ObjectKind.DISPUTE, dispute, None)

    async def refund(self, payment: str, amount: int) -> str:
        """Somebody of ours refunds a payment at the provider's pages, past the book. Returns the refund."""
        async with self._record.session() as session:
            found = await session.load("payment", payment)
            assert found is not None
            return str((await self._sandbox.new_refund(session, found, amount))["id"])

    async def settle(self, asset: str) -> str | None:
        """Pay out what is due in `asset`, or take it from our bank; None where that is nothing. The settlement's id."""
        async with self._record.session() as session:
            entries, sources = await self._due(session, asset)
            amount = sum(entry["net"] for entry in entries)
            if not amount:
                return None
            made = await session.add(
                "settlement",
                {
                    "reference": None,
                    "asset": asset,
                    "amount": amount,
                    "status": SettlementStatus.SENT,
                    "created_at": self._clock.now().isoformat(),
                    "entries": entries,
                },
            )
            for kind, document, marks in sources:
                await session.save(kind, document | marks)
            await session.tell("settlement.sent", ObjectKind.SETTLEMENT, made["id"], None)
            return str(made["id"])

    async def fail_settlement(self, settlement: str) -> None:
        """Our bank sent it back."""
        async with self._record.session() as session:
            found = await session.load("settlement", settlement)
            assert found is not None
            found["status"] = SettlementStatus.FAILED
            await session.save("settlement", found)
            await session.tell("settlement.failed", ObjectKind.SETTLEMENT, settlement, None)

    async def balance(self, asset: str) -> int:
        """What the sandbox owes us in `asset`, by its own record."""
        return sum(one.amount for one in await self._sandbox.balances() if one.asset == asset)

    async def tick(self) -> int:
        """Have happen what was to happen by now; how many objects changed."""
        changed = 0
        async with self._record.session() as session:
            for kind in ("payment", "refund", "payout"):
                for found in await session.all(kind):
                    due = found["ripens_at"]
                    if due is not None and datetime.fromisoformat(due) <= self._clock.now():
                        await self._sandbox.ripen(session, found)
                        changed += 1
        return changed

    async def _due(self, session: Session, asset: str) -> tuple[list[dict[str, Any]], list[Any]]:
        """Entries for what wasn't settled yet, and the objects to be marked."""
        entries: list[dict[str, Any]] = []
        sources: list[tuple[str, Document, dict[str, object]]] = []
        at = self._clock.now().isoformat()
        for paid in await session.all("payment"):
            if paid["asset"] == asset and paid["captured"] and not paid["settled"]:
                entries.append(_entry(EntryKind.PAYMENT, paid["id"], paid["captured"], paid["fee"], at))
                sources.append(("payment", paid, {"settled": True}))
        for refund in await session.all("refund"):
            gone = refund["status"] != RefundStatus.FAILED
            if refund["asset"] == asset and gone != refund.get("settled", False):
                kind = EntryKind.REFUND if gone else EntryKind.REFUND_FAILURE
                amount = -refund["amount"] if gone else refund["amount"]
                entries.append(_entry(kind, refund["id"], amount, 0, at))
                sources.append(("refund", refund, {"settled": gone}))
        for dispute in await session.all("dispute"):
            taken, fee = dispute["withdrawn"], dispute["fee"]
            before, fee_before = dispute.get("settled_taken", 0), dispute.get("settled_fee", 0)
            if dispute["asset"] == asset and (taken, fee) != (before, fee_before):
                kind = EntryKind.DISPUTE if taken > before else EntryKind.DISPUTE_REVERSAL
                entries.append(_entry(kind, dispute["id"], before - taken, fee - fee_before, at))
                sources.append(("dispute", dispute, {"settled_taken": taken, "settled_fee": fee}))
        return entries, sources


class SandboxDelivery:
    """Sends the sandbox's events to the inbox, signed as a provider would: a step of the worker's."""

    def __init__(self, sandbox: Sandbox, acts: SandboxActs, record: Record, inbox: Inbox) -> None:
        self._sandbox = sandbox
        self._acts = acts
        self._record = record
        self._inbox = inbox

    async def step(self) -> int:
        """Send what waits; how many events were sent."""
        await self._acts.tick()
        async with self._record.session() as session:
            events = await session.unsent(limit=EVENTS_PER_STEP)
        for event in events:
            await self._inbox.receive(self._sandbox.name, self._sandbox.sign(event.body))
        async with self._record.session() as session:
            await session.sent(events)
        return len(events)


def _entry(kind: EntryKind, object: str, gross: int, fee: int, at: str) -> dict[str, Any]:
    net = gross - fee
    return {"id": f"{object}:{kind}", "kind": kind, "object": object, "gross": gross, "fee": fee, "net": net, "at": at}
