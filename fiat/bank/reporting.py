"""What a bank's report does to payouts: accepted is noted, rejected gives the money back, a return is announced.

A pacs.004 books nothing: the money itself comes with a line of the account (camt.053, camt.054), which names the same
payment. So a return has one effect, whichever of them comes first. A rejection that says that the bank had the payment
already releases nothing: the first one stands.
"""

from collections.abc import Mapping, Sequence
from functools import partial

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from db.engine import tx
from fiat import payout_entries as entries
from fiat import payout_store, store
from fiat.bank.identity import named
from fiat.bank.records import MessageResult
from fiat.bank.reports import PaymentStatus, ReturnReport, StatusReport, Verdict
from fiat.errors import StatementDisagrees
from fiat.payouts import OUTSIDE, Payout, PayoutState, named_batches, named_payouts
from fiat.personal import Vault
from fiat.top_ups import BANK
from ledger.asking import work
from ledger.commands import BankEvidence, Group
from ledger.engine import Ledger

_S = PayoutState


class Reporting:
    """Takes in what banks report."""

    def __init__(self, engine: AsyncEngine, ledger: Ledger, vault: Vault, *, clock: Clock) -> None:
        self._engine = engine
        self._ledger = ledger
        self._vault = vault
        self._clock = clock

    async def take_status(self, report: StatusReport, *, file: str, digest: bytes) -> tuple[MessageResult, bool]:
        """Note and release what the report says, and whether this very file was taken before.

        Raises StatementDisagrees, with nothing done, for a report that isn't about what we sent.
        """
        id = named("msg", "pain.002", digest.hex())
        if await self._known(id):
            return _nothing(id, "pain.002", report.message_id, len(report.payments)), True
        payouts = await self._of_file(report, file)
        told = _by_payout(report, payouts, file)
        rejected = {id: one for id, one in told.items() if one.verdict is Verdict.REJECTED}
        duplicates = {id for id, one in rejected.items() if one.duplicate}
        ending = [payouts[id] for id in rejected if id not in duplicates and payouts[id].state in OUTSIDE]
        late = [payouts[id] for id in rejected if id not in duplicates and payouts[id].state is _S.PAID]
        accepted = [id for id, one in told.items() if one.verdict is Verdict.ACCEPTED]
        async with tx(self._engine) as connection:
            moved = await payout_store.accept(connection, self._ledger.book, accepted, now=self._clock.now())
        moved += await self._release(ending, rejected, report)
        notes = [f"payout {payout.id} is paid by the bank's own line, but the report rejects it" for payout in late]
        if duplicates:
            notes.append(f"{len(duplicates)} rejected as sent before: the bank has them, so nothing is released")
        result = MessageResult(
            id=id,
            kind="pain.002",
            bank_id=report.message_id,
            told=len(told),
            accepted=len(accepted),
            rejected=len(rejected) - len(duplicates),
            moved=moved,
            notes=tuple(notes),
        )
        await self._keep(result, file, digest)
        return result, False

    async def take_returns(self, report: ReturnReport, *, file: str, digest: bytes) -> tuple[MessageResult, bool]:
        """Note why payouts come back; whether this very file was taken before.

        Raises StatementDisagrees for one that isn't ours, or another amount than was paid.
        """
        id = named("msg", "pacs.004", digest.hex())
        if await self._known(id):
            return _nothing(id, "pacs.004", report.message_id, len(report.payments)), True
        ids = {one.end_to_end_id: _payout_id(one.end_to_end_id) for one in report.payments}
        async with tx(self._engine) as connection:
            payouts = await payout_store.load_all(
                connection, self._vault, self._ledger.book, [id for id in ids.values() if id]
            )
        announced: dict[str, str | None] = {}
        for one in report.payments:
            payout = payouts.get(ids[one.end_to_end_id] or "")
            if payout is None or payout.rail != BANK:
                raise StatementDisagrees("returns a payment that isn't ours", file=file, line=one.file_line)
            if (payout.amount, payout.asset) != (one.amount, one.currency):
                raise StatementDisagrees(
                    f"returns {one.amount} smallest units of {one.currency}; payout {payout.id} was over"
                    f" {payout.amount} of {payout.asset}",
                    file=file,
                    line=one.file_line,
                )
            announced[payout.id] = one.reason
        async with tx(self._engine) as connection:
            moved = await payout_store.announce(connection, self._ledger.book, announced, now=self._clock.now())
        result = MessageResult(
            id=id,
            kind="pacs.004",
            bank_id=report.message_id,
            told=len(report.payments),
            accepted=0,
            rejected=0,
            moved=moved,
            notes=(),
        )
        await self._keep(result, file, digest)
        return result, False

    async def _of_file(self, report: StatusReport, file: str) -> dict[str, Payout]:
        """The payouts of the file that is reported on. Raises StatementDisagrees."""
        batches = named_batches((report.original_message_id,))
        async with tx(self._engine) as connection:
            payouts = {
                payout.id: payout
                for payout in await payout_store.members(connection, self._vault, self._ledger.book, batches)
            }
        if not payouts or any(payout.rail != BANK for payout in payouts.values()):
            raise StatementDisagrees(
                "reports on a file that we didn't send (OrgnlMsgId)", file=file, line=report.file_line
            )
        if report.count is not None and report.count != len(payouts):
            raise StatementDisagrees(
                f"reports on {report.count} payments; the file that we sent has {len(payouts)}",
                file=file,
                line=report.file_line,
            )
        return payouts

    async def _release(
        self, payouts: Sequence[Payout], rejected: Mapping[str, PaymentStatus], report: StatusReport
    ) -> int:
        """Give the money of rejected payouts back. One that moved on meanwhile is the next report's, or a person's."""
        book, now = self._ledger.book, self._clock.now()

        def maker(payout: Payout, attempt: int) -> Group:
            told = rejected[payout.id]
            evidence = BankEvidence(account=payout.account, statement=report.message_id, line=max(1, told.number))
            void = entries.released(payout, act=f"{report.message_id}:{attempt}", evidence=evidence)
            row = entries.moved(book, payout, _S.REJECTED, now=now, reason=told.reason)
            return Group((void,), (row,))

        done = await work(self._ledger, *(partial(maker, payout) for payout in payouts))
        lost = [payout for payout, refusal in zip(payouts, done, strict=True) if refusal is not None]
        if lost:
            async with tx(self._engine) as connection:
                now_are = await payout_store.load_all(connection, self._vault, book, [payout.id for payout in lost])
            again = [payout for payout in now_are.values() if payout.state in OUTSIDE]
            return done.count(None) + (await self._release(again, rejected, report) if again else 0)
        return len(payouts)

    async def _known(self, message: str) -> bool:
        async with tx(self._engine) as connection:
            return await store.message_known(connection, self._ledger.book, message)

    async def _keep(self, result: MessageResult, file: str, digest: bytes) -> None:
        row = {
            "id": result.id,
            "kind": result.kind,
            "bank_id": result.bank_id,
            "file": file,
            "file_sha256": digest,
            "told": result.told,
            "moved": result.moved,
            "received_at": self._clock.now(),
        }
        async with tx(self._engine) as connection:
            await store.keep_message(connection, self._ledger.book, row)


def _by_payout(report: StatusReport, payouts: Mapping[str, Payout], file: str) -> dict[str, PaymentStatus]:
    """What the report says of each payout that it speaks of. Raises StatementDisagrees for one of another file."""
    told: dict[str, PaymentStatus] = {}
    for one in report.payments:
        id = _payout_id(one.end_to_end_id)
        if id is None or id not in payouts:
            raise StatementDisagrees(
                "names a payment that isn't in the file it reports on", file=file, line=one.file_line
            )
        told[id] = one
    if report.verdict is None:
        return told
    for id in payouts.keys() - told.keys():  # what isn't named itself has the file's status
        told[id] = PaymentStatus(
            number=0,
            file_line=report.file_line,
            end_to_end_id=payouts[id].end_to_end_id,
            verdict=report.verdict,
            reasons=report.reasons,
        )
    return told


def _payout_id(end_to_end_id: str) -> str | None:
    """The payout that an end-to-end id is; None for one that isn't of our making."""
    found = named_payouts((end_to_end_id,))
    id = min(found) if len(found) == 1 else None
    return id if id is not None and len(end_to_end_id.strip()) == len(id) - 1 else None


def _nothing(id: str, kind: str, bank_id: str, told: int) -> MessageResult:
    return MessageResult(id=id, kind=kind, bank_id=bank_id, told=told, accepted=0, rejected=0, moved=0, notes=())
