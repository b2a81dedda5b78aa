"""What of the signer's journal this database doesn't know, and what is to be done about each. Nothing changes here."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncEngine

from base.errors import BrokenInvariant, NotFound
from base.progress import Progress
from chain import rebuilding as transactions
from chain import restores
from chain.networks import Registry
from chain.rebuilding import JournalPayment, JournalRefusal
from chain.transaction_states import Kind
from chain.transactions import OwnTransaction, find
from custody.intents import PayoutBatch
from custody.signed_subjects import SignedSubject, SubjectReading
from db.engine import tx
from treasury.journal_watch import ROWS_AT_ONCE, JournalSource, forgotten
from wallet.batch_rebuilding import BatchRebuilding, LegOutlook
from wallet.batch_store import leg_positions
from wallet.errors import CannotRebuild
from wallet.rebuilding import Fate, Rebuilding
from wallet.rebuilding import Outlook as WithdrawalOutlook
from wallet.withdrawal_store import load_early, load_withdrawal_ids
from wiring.journal_payments import WITHDRAWAL, OutOfReach, journal_attempts, journal_payment, own_key
from wiring.recovery_items import About, Item, Outlook, Part
from wiring.signing import XpubAddresses

LEFT = "its batch is rebuilt all the same, and what this leg took stands in suspense"
"""What follows from a leg that a person must see to."""

_PARTS = {Fate.REBUILD: Part.REBUILD, Fate.MOVE_ON: Part.MOVE_ON, Fate.KNOWN: Part.TRANSACTION}


class JournalUnfit(BrokenInvariant):
    default_code = "journal_unfit"


class Directory(Protocol):
    """Knows the book's users."""

    async def resolve(self, who: str) -> str:
        """The id of a user. Raises NotFound."""
        ...


@dataclass(slots=True)
class Found:
    """What a look at journal and database told. `in_batches`: by leg, the batch that the journal has it in.

    `by_hand`: subjects that a person must see to, or has seen to before.
    """

    outlook: Outlook
    missing: list[SignedSubject]
    payments: dict[str, JournalPayment]
    in_batches: dict[str, str]
    by_hand: set[str]
    reading: SubjectReading
    refusals: dict[str, JournalRefusal]


class Looking:
    """Looks at one book's database."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        book: str,
        registry: Registry,
        addresses: XpubAddresses,
        journal: JournalSource,
        withdrawals: Rebuilding,
        batches: BatchRebuilding,
        directory: Directory,
    ) -> None:
        self._engine = engine
        self._book = book
        self._registry = registry
        self._addresses = addresses
        self._journal = journal
        self._withdrawals = withdrawals
        self._batches = batches
        self._directory = directory

    async def look(self, reading: SubjectReading, progress: Progress) -> Found:
        """Read on from where `reading` stands. Raises SignerUnavailable, JournalUnfit."""
        async with tx(self._engine) as connection:
            halt, before = await restores.halt(connection), await restores.recovered_through(connection)
            through = await restores.through(connection)
        await self._read(reading, progress)
        subjects = list(reading.subjects.values())
        legs = {one.subject: _legs(one) for one in subjects}
        async with tx(self._engine) as connection:
            lacking = {one.subject for one in await forgotten(connection, subjects)}
            users = [one.subject for one in subjects if one.subject.startswith(WITHDRAWAL)]
            batches = [subject for subject, paid in legs.items() if paid]
            ours = await transactions.subjects_in(connection, self._book, [*users, *batches])
            rows = await load_withdrawal_ids(connection, self._book, users)
            whole = {
                batch
                for batch, places in (await leg_positions(connection, self._book, batches)).items()
                if len(places) == len(legs[batch])
            }
            early = await load_early(connection, self._book)
            unsigned = await transactions.unsigned_subjects(connection, reading.subjects)
        missing = lacking | {subject for subject in ours if subject not in rows | whole or subject in early}
        lost = [one for one in subjects if one.subject in missing]
        payments: dict[str, JournalPayment] = {}
        items = [
            item for one in lost for item in await self._items(one, payments, lacks_attempts=one.subject in lacking)
        ]
        by_hand = {item.subject for item in items if item.part is Part.BY_HAND}
        seen = 0 if through is None else through[0]
        refusals = {
            subject: JournalRefusal(no.sentence, no.at.sequence, no.at.hash)
            for subject, no in reading.refusals.items()
            if subject in unsigned and no.at.sequence > seen
        }
        in_batches = {leg: one.subject for one in lost for leg in legs[one.subject]}
        doubtful = {leg for leg, batch in in_batches.items() if {leg, batch} & by_hand}
        outlook = Outlook(
            halt=halt,
            rows=reading.head.sequence,
            # what a person has seen to before isn't told again
            items=tuple(item for item in items if item.part is not Part.BY_HAND or item.row > before),
            refused=tuple(sorted(refusals)),
            in_batches=tuple(sorted((early | unsigned) & doubtful)),
            waiting=tuple(sorted((early | unsigned) - missing - refusals.keys() - in_batches.keys())),
        )
        return Found(outlook, lost, payments, in_batches, by_hand, reading, refusals)

    async def _read(self, reading: SubjectReading, progress: Progress) -> None:
        """Every row up to where the journal stands now."""
        status = await self._journal.status()
        if status.halted:
            raise JournalUnfit("the signer's journal was put back too: `onebook signer resync` comes first")
        first = reading.head.sequence + 1
        with progress.bar("reading the journal", max(0, status.sequence - first + 1)) as advance:
            while reading.head.sequence < status.sequence and reading.flaw is None:
                rows = await self._journal.rows(first=reading.head.sequence + 1, count=ROWS_AT_ONCE)
                for row in rows:
                    reading.take(row)
                advance(len(rows))
                if not rows:
                    raise JournalUnfit(f"the signer says that its journal has {status.sequence} rows, and gives fewer")
        if reading.flaw is not None:
            raise JournalUnfit(f"{reading.flaw}: `onebook signer audit` says more")

    async def _items(
        self, signed: SignedSubject, payments: dict[str, JournalPayment], *, lacks_attempts: bool
    ) -> list[Item]:
        """What is to be done about one that isn't known, or not wholly; its payment is added to `payments`."""
        async with tx(self._engine) as connection:
            known = await find(connection, book=self._book, subject=signed.subject)
        if known is not None and known.payment.sender.key == own_key(signed.sender):
            payment, note = as_known(signed, known), None
        else:
            try:
                payment = journal_payment(signed, book=self._book, registry=self._registry, addresses=self._addresses)
            except OutOfReach as why:
                return [About(signed).item(Part.BY_HAND, note=str(why))]
            note = "only its transaction is rebuilt"
        payments[signed.subject] = payment
        common = About(signed, payment)
        match payment.payment.kind:
            case Kind.WITHDRAWAL:
                try:
                    return [await self._withdrawal_item(common, await self._withdrawals.look(payment))]
                except CannotRebuild as problem:
                    return [common.item(Part.BY_HAND, note=problem.message)]
            case Kind.BATCH:
                return await self._batch_items(signed, payment, lacks_attempts=lacks_attempts)
            case _:
                return [common.item(Part.TRANSACTION, note=note)]

    async def _batch_items(self, signed: SignedSubject, payment: JournalPayment, *, lacks_attempts: bool) -> list[Item]:
        """The batch, if anything of it is to be done, and those of its legs that aren't known."""
        common = About(signed, payment)
        try:
            outlook = await self._batches.look(payment)
        except CannotRebuild as problem:
            return [common.item(Part.BY_HAND, note=problem.message)]
        legs = [await self._leg_item(signed, leg) for leg in outlook.legs]
        if outlook.is_needed:
            return [common.item(Part.REBUILD, asset=outlook.batch.asset), *legs]
        return [common.item(Part.TRANSACTION), *legs] if lacks_attempts else legs

    async def _leg_item(self, signed: SignedSubject, leg: LegOutlook) -> Item:
        if leg.outlook is None:
            return leg_by_hand(signed, leg)
        return await self._withdrawal_item(About(signed, leg.payment), leg.outlook)

    async def _withdrawal_item(self, common: About, outlook: WithdrawalOutlook) -> Item:
        owner, note = outlook.withdrawal.owner, None
        try:
            await self._directory.resolve(owner)
        except NotFound:
            note = "its user isn't known here any more"
        return common.item(
            _PARTS[outlook.fate],
            owner=owner,
            asset=outlook.withdrawal.asset,
            amount=outlook.withdrawal.amount,
            shortage=outlook.shortage,
            note=note,
        )


def leg_by_hand(signed: SignedSubject, leg: LegOutlook) -> Item:
    """A leg that a person must see to."""
    return About(signed, leg.payment).item(Part.BY_HAND, note=f"{leg.why}; {LEFT}")


def as_known(signed: SignedSubject, known: OwnTransaction) -> JournalPayment:
    """The journal's nonce and attempts for a transaction whose terms are known here."""
    return JournalPayment(payment=known.payment, nonce=signed.nonce, attempts=journal_attempts(signed))


def _legs(signed: SignedSubject) -> Sequence[str]:
    """Subjects of the withdrawals that a batch pays; none of what isn't one."""
    first = signed.first
    return [leg.subject for leg in first.legs] if isinstance(first, PayoutBatch) else []
