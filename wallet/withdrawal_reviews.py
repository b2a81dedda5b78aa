"""Withdrawals under review: shown to the treasurer with what was found on chain, and ended by one, once.

The chain's own record is what counts: `wallet.resolutions` says what it must show. What ends the withdrawal is one
group with its row and with the evidence that it used up, so that no payment is told to be two withdrawals'.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.errors import NotFound
from chain.evm.node import Node
from chain.networks import Registry, to_ledger_units
from chain.payments import Mined, OwnTransaction
from chain.status import status_if_followed
from db.engine import tx
from ledger.asking import decide, decided_before
from ledger.commands import Group, Posting
from ledger.engine import Ledger
from ledger.errors import RefusedByBook
from ledger.outcomes import Refused
from ledger.requests import RequestKey
from ledger.riders import Advance, Insert
from wallet import resolutions as rules
from wallet import review_store, withdrawal_store
from wallet import withdrawal_entries as entries
from wallet.errors import ResolutionRefused
from wallet.leg_reviews import LegReviews
from wallet.network_fees import actual_fee
from wallet.resolutions import OnChainFindings, Outcome, SeenPayment, UsedUp
from wallet.resources import Withdrawal
from wallet.tables import resolutions, withdrawals
from wallet.withdrawal_states import WithdrawalState, advance

_S = WithdrawalState

REASON_LENGTH_MAX = 500
"""Characters of a reason."""

RETURNED = "it was not paid, and all that was held for it is back"
"""What its owner reads of a withdrawal that was returned."""

GAS = "gas"
"""The place of what a transaction cost."""

UNDER_REVIEW_MAX = 200
"""Withdrawals under review that are told of at once."""


class ForeignOutflows(Protocol):
    """Knows what left our addresses without us and stands in suspense; treasury's outflows do."""

    async def places(self, network: str, *, tx_hash: str, block_hash: str) -> dict[str, bool]:
        """The places of a transaction in a block at which something left us that is booked, and whether that is open:
        nobody has accounted for it."""
        ...

    async def account_for(
        self, network: str, *, tx_hash: str, block_hash: str, places: Collection[str], by: str
    ) -> list[Advance]:
        """What makes these `by`'s, refused if they're somebody else's by then."""
        ...


@dataclass(frozen=True, slots=True)
class Reviewed:
    """A withdrawal, and what the chain shows of it where a person must end it."""

    withdrawal: Withdrawal
    found: OnChainFindings | None


class WithdrawalReviews:
    """Withdrawals as the house sees them."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        ledger: Ledger,
        registry: Registry,
        outflows: ForeignOutflows,
        nodes: Mapping[str, Node],
        clock: Clock,
    ) -> None:
        """`nodes`: by network, who is asked for the block that a batch was mined in."""
        self._engine = engine
        self._ledger = ledger
        self._registry = registry
        self._outflows = outflows
        self._clock = clock
        self._legs = LegReviews(engine, book=ledger.book, nodes=nodes)

    async def recent(self, state: WithdrawalState, *, before: str | None = None, limit: int = 50) -> list[Reviewed]:
        """Withdrawals of all users in one state, newest first, those older than the id `before`."""
        async with tx(self._engine) as connection:
            listed = await review_store.list_in_state(connection, self._ledger.book, state, before=before, limit=limit)
        return [await self._reviewed(withdrawal) for withdrawal in listed]

    async def under_review(self) -> list[Withdrawal]:
        """What a person must end, the oldest first."""
        async with tx(self._engine) as connection:
            return await review_store.list_under_review(connection, self._ledger.book, limit=UNDER_REVIEW_MAX)

    async def resolve(
        self,
        *,
        key: RequestKey,
        treasurer: str,
        withdrawal: str,
        outcome: Outcome,
        reason: str,
        tx_hash: str | None = None,
    ) -> tuple[Reviewed, bool]:
        """End it as paid by the transaction `tx_hash`, or as returned; and whether this request was decided before.

        Raises NotFound, ResolutionRefused (says why), RequestConflict, RefusedByBook.
        """
        if await decided_before(self._ledger, key) is not None:
            return await self._reviewed(await self._load(withdrawal)), True
        found = await self._load(withdrawal)
        why = reason.strip()
        if not 0 < len(why) <= REASON_LENGTH_MAX:
            raise ResolutionRefused(f"say why, in at most {REASON_LENGTH_MAX} characters", param="reason")
        if (tx_hash is None) == (outcome is Outcome.PAID):
            words = "name the transaction that paid it" if tx_hash is None else "what is returned names no transaction"
            raise ResolutionRefused(words, param="tx_hash")
        if found.state is not WithdrawalState.NEEDS_REVIEW:
            raise _not_under_review(found)
        group = await self._group(key, treasurer, found, outcome, why, (tx_hash or "").lower())
        accounts = entries.accounts(found, native=self._native(found))
        await self._ledger.ensure_open(*accounts, *entries.suspense_accounts(found, native=self._native(found)))
        try:
            (outcome_, *_) = await decide(self._ledger, group)
        except RefusedByBook as refusal:
            if refusal.code == Refused.STALE_STATE:
                now = await self._load(withdrawal)
                if now.state is not WithdrawalState.NEEDS_REVIEW:
                    raise _not_under_review(now) from refusal
            if refusal.code in (Refused.STALE_STATE, Refused.DUPLICATE_ROW):
                raise ResolutionRefused("somebody used this evidence just now; look again") from refusal
            raise
        return await self._reviewed(await self._load(withdrawal)), outcome_.replayed

    async def _group(
        self, key: RequestKey, treasurer: str, found: Withdrawal, outcome: Outcome, reason: str, tx_hash: str
    ) -> Group:
        chain, own = await self._findings(found, tx_hash or None, must_be_whole=True)
        said = {"reason": reason, "by": treasurer}
        if own is not None and chain.ended_with_batch is not None:
            mine = own.mined is not None and own.mined.tx_hash == tx_hash
            if mine or outcome is Outcome.RETURNED:
                return await self._with_its_batch(key, found, chain, own, outcome, said)
        if outcome is Outcome.PAID:
            payment = rules.paid_by(found, chain, tx_hash)
            is_alone = chain.ended_with_batch is None and chain.used_up is not None and chain.used_up.is_ours
            mined = own.mined if own is not None and is_alone else None  # a batch books its own gas
            return await self._paid(key, found, payment, mined, said)
        return await self._returned(key, found, rules.check_returnable(found, chain), own, said)

    async def _paid(
        self, key: RequestKey, found: Withdrawal, payment: SeenPayment, own: Mined | None, said: dict[str, str]
    ) -> Group:
        """Out of suspense, where it stands since it was found to have left: to whom it was on its way to.

        `own`: its own transaction, where that used the nonce up; it paid nothing, and its gas is booked too.
        """
        fee_wei = payment.fee_wei if payment.gas_open else 0
        fee = actual_fee(found.fee_price, fee_wei=fee_wei, fee_highest=found.fee_highest)
        gas = await self._gas(found, fee_wei)
        own_gas = () if own is None else await self._gas_of(found, own)
        commands = entries.paid_from_suspense(
            found, payment, fee=fee, gas=gas, request=key.id, said=said, own=own, own_gas=own_gas
        )
        change: dict[str, object] = {
            "state": advance(found.state, WithdrawalState.FINAL).value,
            "fee": fee,
            "reason": None,
            "tx_hash": payment.tx_hash,
            "block_number": payment.block_number,
            "block_hash": payment.block_hash,
            "fee_wei": fee_wei,
        }
        places = (payment.place, GAS) if fee_wei else (payment.place,)
        rows = [
            self._resolution(
                found, Outcome.PAID, payment.tx_hash, place, payment.block_number, payment.block_hash, said
            )
            for place in places
        ]
        accounted = await self._outflows.account_for(
            found.network, tx_hash=payment.tx_hash, block_hash=payment.block_hash, places=places, by=found.id
        )
        return Group(commands, (self._advance(found, change), *rows, *accounted), content=key.content)

    async def _returned(
        self,
        key: RequestKey,
        found: Withdrawal,
        used_up: UsedUp,
        own: OwnTransaction | None,
        said: dict[str, str],
    ) -> Group:
        """All of the hold comes back. Where our own transaction used it up and paid nothing, with the gas."""
        mined: Mined | None = own.mined if own is not None and used_up.is_ours else None
        gas = () if mined is None else await self._gas_of(found, mined)
        place = f"nonce:{found.id}"
        tx_hash = used_up.tx_hash or used_up.block_hash
        commands = entries.returned(
            found,
            (used_up.block_number, used_up.block_hash, tx_hash, place),
            gas=gas,
            request=key.id,
            said=said,
        )
        to = WithdrawalState.CANCELLED if mined is None else WithdrawalState.REVERTED
        change: dict[str, object] = {"state": advance(found.state, to).value, "reason": RETURNED}
        if mined is None:
            change |= {"block_number": None, "block_hash": None, "fee_wei": None}
        else:
            change |= {"fee": 0, "tx_hash": mined.tx_hash, "fee_wei": mined.fee_wei}
            change |= {"block_number": mined.block_number, "block_hash": mined.block_hash}
        row = self._resolution(found, Outcome.RETURNED, tx_hash, place, used_up.block_number, used_up.block_hash, said)
        return Group(commands, (self._advance(found, change), row), content=key.content)

    async def _with_its_batch(
        self,
        key: RequestKey,
        found: Withdrawal,
        chain: OnChainFindings,
        own: OwnTransaction,
        outcome: Outcome,
        said: dict[str, str],
    ) -> Group:
        """By what its batch's own final transaction shows of it. The gas is booked with the batch."""
        if outcome is Outcome.PAID:
            end, to, reason = await self._legs.paid(found, chain, own, request=key.id, said=said), _S.FINAL, None
        else:
            end, to = await self._legs.returned(found, chain, own, request=key.id, said=said), _S.REVERTED
            reason = RETURNED
        share = end.share
        change: dict[str, object] = {
            "state": advance(found.state, to).value,
            "fee": end.fee,
            "reason": reason,
            "tx_hash": share.tx_hash,
            "block_number": share.block_number,
            "block_hash": share.block_hash,
            "fee_wei": share.fee_wei,
        }
        row = self._resolution(found, outcome, share.tx_hash, end.place, share.block_number, share.block_hash, said)
        return Group(end.commands, (self._advance(found, change), row, *end.rows), content=key.content)

    def _advance(self, found: Withdrawal, change: dict[str, object]) -> Advance:
        fresh = {"cancellable": False, "waiting_for": None, "updated_at": self._clock.now()}
        key = {"book": self._ledger.book, "id": found.id}
        return Advance(withdrawals.name, key, {"state": found.state.value}, fresh | change)

    def _resolution(
        self,
        found: Withdrawal,
        outcome: Outcome,
        tx_hash: str,
        place: str,
        block_number: int,
        block_hash: str,
        said: dict[str, str],
    ) -> Insert:
        key = {"book": self._ledger.book, "network": found.network, "tx_hash": tx_hash, "place": place}
        values = {
            "withdrawal": found.id,
            "outcome": outcome.value,
            "block_number": block_number,
            "block_hash": block_hash,
            "treasurer": said["by"],
            "reason": said["reason"],
            "created_at": self._clock.now(),
        }
        return Insert(resolutions.name, key, values)

    async def _reviewed(self, withdrawal: Withdrawal) -> Reviewed:
        if withdrawal.state is not WithdrawalState.NEEDS_REVIEW or withdrawal.network not in self._registry.networks:
            return Reviewed(withdrawal, None)
        found, _ = await self._findings(withdrawal, None)
        return Reviewed(withdrawal, found)

    async def _findings(
        self, withdrawal: Withdrawal, tx_hash: str | None, *, must_be_whole: bool = False
    ) -> tuple[OnChainFindings, OwnTransaction | None]:
        """What the chain shows. Raises ResolutionRefused while the network is halted, if it `must_be_whole`."""
        book = self._ledger.book
        contract = self._registry.by_asset(withdrawal.network, withdrawal.asset).contract
        async with tx(self._engine) as connection:
            at = await status_if_followed(connection, self._registry.network(withdrawal.network))
            halted = "it was never followed" if at is None else at.halted
            if must_be_whole and halted is not None:
                raise ResolutionRefused(f"network {withdrawal.network} is halted: {halted}. Put that right first")
            found, own = await review_store.load_findings(
                connection,
                book,
                withdrawal,
                contract=contract,
                final_height=-1 if at is None else at.final_height,
                tx_hash=tx_hash,
            )
        return replace(found, payments=tuple(await self._with_bookings(withdrawal.network, found.payments))), own

    async def _with_bookings(self, network: str, payments: Sequence[SeenPayment]) -> list[SeenPayment]:
        known: dict[tuple[str, str], dict[str, bool]] = {}
        for one in payments:
            where = (one.tx_hash, one.block_hash)
            if where not in known:
                known[where] = await self._outflows.places(network, tx_hash=where[0], block_hash=where[1])
        booked = [known[one.tx_hash, one.block_hash] for one in payments]
        return [
            replace(one, booked=places.get(one.place, False), gas_booked=GAS in places, gas_open=places.get(GAS, False))
            for one, places in zip(payments, booked, strict=True)
        ]

    async def _load(self, withdrawal: str) -> Withdrawal:
        async with tx(self._engine) as connection:
            found = await withdrawal_store.load_withdrawal(connection, self._ledger.book, withdrawal)
        if found is None:
            raise NotFound(f"there is no withdrawal {withdrawal[:40]!r}", param="withdrawal")
        return found

    async def _gas(self, found: Withdrawal, fee_wei: int) -> tuple[Posting, ...]:
        """Gas that stands in suspense, as the house's cost."""
        return entries.gas_from_suspense(self._native(found), await self._native_units(found, fee_wei))

    async def _gas_of(self, found: Withdrawal, mined: Mined) -> tuple[Posting, ...]:
        amount = await self._native_units(found, mined.fee_wei)
        return entries.gas_postings(found.network, self._native(found), amount)

    async def _native_units(self, found: Withdrawal, wei: int) -> int:
        native = self._registry.by_asset(found.network, self._native(found))
        return to_ledger_units(wei, native, scale=(await self._ledger.asset(native.asset)).scale)

    def _native(self, found: Withdrawal) -> str:
        return self._registry.network(found.network).native_asset


def _not_under_review(found: Withdrawal) -> ResolutionRefused:
    return ResolutionRefused(
        f"the withdrawal is {found.state}: only one that needs review is ended by hand",
        param="withdrawal",
        state=found.state.value,
    )
