"""Withdrawals: value leaves over a chain, once. Between asking and final evidence the money stays held.

Asking holds amount and highest fee together with the withdrawal's row; who turns out to be a user here is paid in the
book instead, at once. The worker's steps (`wallet.withdrawal_steps`) take each one further; the payment itself is one
of the chain's own transactions, reserved in the tx that changes the state here and followed from then on.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from base.errors import NotFound
from base.ids import new_id
from chain.checkpoints import Checkpoint, NoCheckpoint
from chain.networks import Deployment, Registry, to_chain_units
from chain.payments import Lack, Stalled
from chain.screening import Screening
from chain.signing import AddressSource
from db.engine import tx
from exchange.rates import RateSource
from ledger.asking import ALONE, Before, decide, decided_before
from ledger.commands import Charge, Group, Hold, Post, Void
from ledger.engine import Ledger
from ledger.errors import RefusedByBook
from ledger.outcomes import Refused
from ledger.owing import receivable_accounts
from ledger.requests import RequestKey
from ledger.riders import Advance, Insert
from tariff.desk import Desk, Terms
from tariff.pricing import Move
from wallet import withdrawal_entries as entries
from wallet import withdrawal_store
from wallet.errors import NotCancellable, RecipientListed
from wallet.network_fees import require_accepted_fee
from wallet.recipient_checks import PayeeReader, RecipientChecks
from wallet.recipients import Recipient, WarningCode, require_accepted_warnings, telling_nothing_of_others
from wallet.resources import Estimate, Withdrawal
from wallet.tables import withdrawals
from wallet.transfers import Fees
from wallet.withdrawal_approvals import Approving
from wallet.withdrawal_estimates import NetworkFees, WithdrawalEstimates, priced
from wallet.withdrawal_moves import LISTED
from wallet.withdrawal_paying import Gathering, HotSenders
from wallet.withdrawal_states import CANCELLABLE, WithdrawalState, advance
from wallet.withdrawal_steps import WithdrawalSteps

_S = WithdrawalState


class Withdrawals:
    """Takes requests for withdrawals and brings them to their end."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        ledger: Ledger,
        registry: Registry,
        fees: NetworkFees,
        rates: RateSource,
        senders: HotSenders,
        clock: Clock,
        entropy: Entropy,
        screening: Mapping[str, Screening] | None = None,
        minimums: Mapping[tuple[str, str], int] | None = None,
        maximums: Mapping[tuple[str, str], int] | None = None,
        payees: PayeeReader | None = None,
        source: AddressSource | None = None,
        transfer_fees: Fees | None = None,
        tariff: Desk | None = None,
        gathering: Gathering | None = None,
        approving: Approving | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        """`senders` choose who pays. `screening`: by network, who is asked about recipients; nobody where there's none.

        `minimums`, `maximums`: (network, asset) -> smallest and largest withdrawal in the asset's smallest units; 1,
        and any, where none is given. `payees` knows what stands at an address, `source` derives those of users here,
        and `transfer_fees` is what it costs to pay them where the `tariff` has no rule.

        `gathering`: who keeps approved ones back for a batch; nobody by default. `approving`: who asks people for what
        the signer wants approved; without it such a withdrawal is rejected.

        `checkpoint` is told before and after each move: `withdrawal.approved.before`, ...
        """
        self._engine = engine
        self._ledger = ledger
        self._registry = registry
        self._clock = clock
        self._entropy = entropy
        self._tariff = tariff or Desk()
        self._estimates = WithdrawalEstimates(
            engine,
            ledger=ledger,
            registry=registry,
            fees=fees,
            rates=rates,
            recipients=RecipientChecks(
                engine, book=ledger.book, registry=registry, clock=clock, payees=payees, source=source
            ),
            transfer_fees=transfer_fees or Fees(),
            tariff=self._tariff,
            minimums=minimums or {},
            maximums=maximums or {},
        )
        self.steps = WithdrawalSteps(
            engine,
            ledger=ledger,
            registry=registry,
            senders=senders,
            screening=screening or {},
            gathering=gathering,
            approving=approving,
            clock=clock,
            entropy=entropy,
            checkpoint=checkpoint or NoCheckpoint(),
        )

    # What users ask

    async def estimate(self, owner: str, *, asset: str, network: str, amount: int, to: str | None = None) -> Estimate:
        """What withdrawing `amount` now costs at most, and what is to be said of `to`.

        Raises what `wallet.withdrawal_estimates` does.
        """
        return await self._estimates.show(owner, asset=asset, network=network, amount=amount, to=to)

    async def costs(
        self, owner: str, *, asset: str, network: str, amount: int, to: str | None = None
    ) -> tuple[Estimate, Move]:
        """What the network takes at most, and what the tariff is to be asked about."""
        made = await self._estimates.make(owner, asset=asset, network=network, amount=amount, to=to)
        return made, self._estimates.move(owner, made)

    async def request(
        self,
        *,
        key: RequestKey,
        owner: str,
        asset: str,
        network: str,
        to: str,
        amount: int,
        fee_accepted: int | None = None,
        service_fee_accepted: int | None = None,
        accept: Collection[str] = (),
        before: Before = ALONE,
    ) -> Withdrawal:
        """Hold `amount` and the fees, and queue the payment to `to`; pay a user here in the book, at once.

        `fee_accepted`: the highest fee of the network's that its owner agreed to, `service_fee_accepted` that of the
        house's; `accept`: names of warnings that they saw. `before`: what is booked first, or not at all. Raises what
        `estimate` does, RecipientDoubtful, UnknownWarning, FeeAboveAccepted, LimitExceeded, LimitUnvalued,
        RequestConflict, RefusedByBook (`insufficient_funds`, `frozen`, `receivable_open`), and for a user here
        RecipientListed, ScreeningUnavailable.
        """
        with telling_nothing_of_others(owner):
            if (first := await self.first(owner, key)) is not None:
                return first
            made = await self._estimates.make(owner, asset=asset, network=network, amount=amount, to=to)
            recipient = made.recipient
            assert recipient is not None  # `to` was told
            accepted = require_accepted_warnings(recipient.warnings, accept)

            async def book(terms: Terms) -> Withdrawal:
                estimate = priced(made, terms.fee)
                require_accepted_fee(estimate.fee_highest, fee_accepted)
                withdrawal = await self._new(key, owner, estimate, recipient, accepted)
                command = await (self._pay_inside if withdrawal.internal else self._hold)(withdrawal, terms.charges)
                row = Insert(withdrawals.name, self._key(withdrawal), withdrawal_store.withdrawal_values(withdrawal))
                *_, outcome = await decide(self._ledger, before.group(command, row, content=key.content))
                if outcome.replayed:
                    return replace(await self.get(owner, outcome.subject or ""), replayed=True)
                return withdrawal

            move = self._estimates.move(owner, made)
            return await self._tariff.at_terms(move, book, accepted=service_fee_accepted)

    async def first(self, owner: str, key: RequestKey) -> Withdrawal | None:
        """What this request came to when it was sent before."""
        found = await self._tariff.first(self._ledger, owner, key)
        return None if found is None else replace(await self.get(owner, found.subject or ""), replayed=True)

    async def cancel(self, *, key: RequestKey, owner: str, withdrawal: str) -> Withdrawal:
        """Give it up before a nonce is reserved for it, and release the hold.

        Raises NotFound, NotCancellable, RequestConflict.
        """
        found = await self.get(owner, withdrawal)
        try:
            first = await decided_before(self._ledger, key)
            if first is not None:
                return replace(found, replayed=True)
            if not found.cancellable:
                raise _too_late(found)
            row = Advance(withdrawals.name, self._key(found), {"cancellable": True}, self._change(_S.CANCELLED))
            void = Void(id=key.id, subject=found.id, hold=found.hold)
            (outcome,) = await decide(self._ledger, Group((void,), (row,), content=key.content))
        except RefusedByBook as refusal:
            if refusal.code == Refused.STALE_STATE:
                raise _too_late(await self.get(owner, withdrawal)) from refusal
            raise
        return replace(await self.get(owner, withdrawal), replayed=outcome.replayed)

    async def get(self, owner: str, withdrawal: str) -> Withdrawal:
        """The owner's withdrawal with this id. Raises NotFound, also for somebody else's."""
        async with tx(self._engine) as connection:
            found = await withdrawal_store.load_withdrawal(connection, self._ledger.book, withdrawal)
        if found is None or found.owner != owner:
            raise NotFound(f"there is no withdrawal {withdrawal[:40]!r}", param="withdrawal")
        return found

    async def list_for(
        self, owner: str, *, before: str | None = None, after: str | None = None, limit: int = 50
    ) -> list[Withdrawal]:
        """The owner's withdrawals, newest first (oldest first with `after`); `before` and `after` are ids."""
        async with tx(self._engine) as connection:
            return await withdrawal_store.list_withdrawals(
                connection, self._ledger.book, owner, before=before, after=after, limit=limit
            )

    async def unassigned(self) -> list[Stalled]:
        """What those wait for that have no nonce yet because no sender can pay them."""
        async with tx(self._engine) as connection:
            return await withdrawal_store.load_unassigned(connection, self._ledger.book)

    async def lacking(self) -> list[Lack]:
        """How much those lack."""
        async with tx(self._engine) as connection:
            return await withdrawal_store.load_lacking(connection, self._ledger.book)

    # What the worker does

    async def step(self) -> int:
        """As `WithdrawalSteps.step`."""
        return await self.steps.step()

    # What a request becomes

    async def _new(
        self,
        key: RequestKey,
        owner: str,
        estimate: Estimate,
        recipient: Recipient,
        accepted: tuple[WarningCode, ...],
    ) -> Withdrawal:
        deployment = self._registry.by_asset(estimate.network, estimate.asset)
        scale = (await self._ledger.asset(estimate.asset)).scale
        now = self._clock.now()
        inside = recipient.user is not None
        state = advance(_S.REQUESTED, _S.FINAL if inside else _S.HELD)  # the row is only there once the entry is
        return Withdrawal(
            id=new_id("wdr", self._clock, self._entropy),
            owner=owner,
            state=state,
            cancellable=state in CANCELLABLE,
            waiting_for=None,
            reason=None,
            asset=estimate.asset,
            network=estimate.network,
            address=recipient.address,
            amount=estimate.amount,
            chain_amount=to_chain_units(estimate.amount, deployment, scale=scale),
            fee_highest=estimate.fee_highest,
            fee=estimate.fee_highest if inside else None,
            service_fee=estimate.service_fee,
            fee_price=estimate.price,
            gas_limit=estimate.gas_limit,
            fee_wei_max=estimate.fee_wei_max,
            hold=key.id,
            tx_hash=None,
            block_number=None,
            block_hash=None,
            fee_wei=None,
            created_at=now,
            updated_at=now,
            recipient=recipient.user,
            accepted=accepted,
        )

    def _key(self, withdrawal: Withdrawal) -> dict[str, object]:
        return {"book": self._ledger.book, "id": withdrawal.id}

    def _change(self, to: WithdrawalState, **columns: object) -> dict[str, object]:
        fresh = {"waiting_for": None, "updated_at": self._clock.now()}
        return {"state": to.value, "cancellable": to in CANCELLABLE, **fresh, **columns}

    # What a request is checked against

    async def _hold(self, withdrawal: Withdrawal, charges: tuple[Charge, ...]) -> Hold:
        await self._ledger.ensure_open(*entries.accounts(withdrawal, native=self._native(withdrawal.network).asset))
        owing_nothing = await receivable_accounts(self._ledger, withdrawal.owner)
        return entries.hold(withdrawal, owing_nothing=owing_nothing, charges=charges)

    async def _pay_inside(self, withdrawal: Withdrawal, charges: tuple[Charge, ...]) -> Post:
        """Raises RecipientListed, and Unavailable when it can't be told: nothing is booked then."""
        assert withdrawal.recipient is not None
        if await self.steps.objections(withdrawal.network, [withdrawal.address]):
            raise RecipientListed(LISTED, param="address")
        owing_nothing = await receivable_accounts(self._ledger, withdrawal.owner)
        post = entries.inside(withdrawal, recipient=withdrawal.recipient, owing_nothing=owing_nothing, charges=charges)
        await self._ledger.ensure_open(*(side for posting in post.postings for side in (posting.debit, posting.credit)))
        return post

    def _native(self, network: str) -> Deployment:
        return self._registry.by_asset(network, self._registry.network(network).native_asset)


def _too_late(withdrawal: Withdrawal) -> NotCancellable:
    return NotCancellable(
        f"the withdrawal is {withdrawal.state}; it can be cancelled only until a nonce is reserved for it",
        param="withdrawal",
        state=withdrawal.state.value,
    )
