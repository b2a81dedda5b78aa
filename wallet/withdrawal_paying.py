"""Withdrawals before they have a nonce: screened, approved, and given to a sender who can pay them.

Who pays is chosen before a nonce is taken, so that one that can't be paid waits without being in the others' way.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from base.errors import Unavailable
from chain import foreign_store, token_store, transactions
from chain.checkpoints import Checkpoint
from chain.errors import ScreeningUnavailable
from chain.networks import Registry
from chain.screening import Screening
from chain.senders import Assigned, Lacking, Wanted
from chain.signing import OwnAddress
from chain.status import status_if_followed
from chain.transaction_states import Kind
from chain.transaction_states import WaitingFor as OwnWaitingFor
from chain.transactions import Payment
from chain.trials import Failure, Fault
from db.engine import tx
from ledger.asking import contents_of, stopping
from ledger.engine import Ledger
from wallet import withdrawal_entries as entries
from wallet import withdrawal_store
from wallet.resources import Withdrawal
from wallet.withdrawal_approvals import NOT_APPROVED, Answer, Approving
from wallet.withdrawal_moves import BY_THE_HOUSE, LISTED, Waits, WithdrawalMoves, by_network
from wallet.withdrawal_states import WaitingFor, WithdrawalState, advance

_S = WithdrawalState


class HotSenders(Protocol):
    """Knows who could pay; the chain's database and node answer."""

    async def assign(self, network: str, wanted: Sequence[Wanted]) -> list[Assigned]:
        """Who pays each of these. Raises Unavailable."""
        ...


class Gathering(Protocol):
    """Knows which approved withdrawals wait to be paid together; `wallet.batches.Batches` is one."""

    async def kept(self, found: Sequence[Withdrawal]) -> frozenset[str]:
        """Ids of those of `found` that aren't to be paid alone now."""
        ...


class WithdrawalPaying:
    """Takes withdrawals from their hold to a reserved nonce."""

    def __init__(
        self,
        engine: AsyncEngine,
        moves: WithdrawalMoves,
        *,
        ledger: Ledger,
        registry: Registry,
        senders: HotSenders,
        screening: Mapping[str, Screening],
        gathering: Gathering | None,
        approving: Approving | None,
        clock: Clock,
        entropy: Entropy,
        checkpoint: Checkpoint,
    ) -> None:
        self.screening = dict(screening)
        """By network, who is asked about recipients; nobody where there is none."""
        self._engine = engine
        self._moves = moves
        self._ledger = ledger
        self._registry = registry
        self._senders = senders
        self._gathering = gathering
        self._approving = approving
        self._clock = clock
        self._entropy = entropy
        self._checkpoint = checkpoint

    async def screen(self, mine: Sequence[Withdrawal]) -> int:
        moved = 0
        for network, asked in by_network(mine).items():
            try:
                objections = await self.objections(network, sorted({withdrawal.address for withdrawal in asked}))
            except Unavailable:
                await self._moves.wait({withdrawal: Waits(WaitingFor.SCREENING) for withdrawal in asked})
                continue
            listed = [withdrawal for withdrawal in asked if withdrawal.address in objections]
            moved += await self._moves.set([one for one in asked if one.address not in objections], _S.SCREENED)
            moved += await self._moves.end(partial(self._moves.released, one, _S.REJECTED, LISTED) for one in listed)
        return moved

    async def objections(self, network: str, recipients: Sequence[str]) -> Mapping[str, str]:
        """What is known against these addresses as of the newest block. Raises Unavailable when it can't be told."""
        screening = self.screening.get(network)
        if screening is None:
            return {}
        async with tx(self._engine) as connection:
            at = await status_if_followed(connection, self._registry.network(network))
        if at is None or at.block_hash is None:
            raise ScreeningUnavailable(f"network {network} wasn't followed yet")
        return await screening.objections(recipients, block=at.block_hash)

    async def approve(self, mine: Sequence[Withdrawal]) -> int:
        return await self._moves.set(mine, _S.APPROVED)

    async def hear(self, mine: Sequence[Withdrawal]) -> int:
        """Go on with what people approved; what they didn't is given back."""
        unwanted = [one for one in mine if one.cancelling is not None]
        moved = await self._moves.end(
            partial(self._moves.released, one, _S.CANCELLED, BY_THE_HOUSE) for one in unwanted
        )
        waiting = [one for one in mine if one not in unwanted]
        told = {} if self._approving is None else await self._approving.asked([one.id for one in waiting])
        answers = {one: told[one.id].answer if one.id in told else None for one in waiting}
        # Where nobody was asked, as after a restore, the signer says anew what it wants.
        moved += await self._moves.set(
            [one for one, answer in answers.items() if answer in (None, Answer.APPROVED)], _S.APPROVED
        )
        ended = [one for one, answer in answers.items() if answer is Answer.ENDED]
        return moved + await self._moves.end(
            partial(self._moves.released, one, _S.REJECTED, NOT_APPROVED) for one in ended
        )

    async def reserve(self, mine: Sequence[Withdrawal]) -> int:
        """Give nonces to what can be paid. The last moment at which a freeze still stops it: what has one is signed."""
        kept = await self._gathering.kept(mine) if self._gathering is not None else frozenset()
        mine = [withdrawal for withdrawal in mine if withdrawal.id not in kept]
        freezes = await self._ledger.freezes()
        waits: dict[Withdrawal, Waits] = {}
        moved = 0
        for network, asked in by_network(mine).items():
            unwanted = [withdrawal for withdrawal in asked if withdrawal.cancelling is not None]
            moved += await self._moves.end(
                partial(self._moves.released, withdrawal, _S.CANCELLED, BY_THE_HOUSE) for withdrawal in unwanted
            )
            frozen = [one for one in asked if one not in unwanted and stopping(freezes, *entries.paying(one))]
            waits |= dict.fromkeys(frozen, Waits(WaitingFor.APPROVAL, "frozen"))
            open_ones = [one for one in asked if one not in unwanted and one not in waits]
            stopped = await self._stopped(network, open_ones)
            waits |= stopped
            moved += await self._pay([one for one in open_ones if one not in stopped], network, waits)
        await self._moves.wait(waits)
        return moved

    async def _stopped(self, network: str, asked: Sequence[Withdrawal]) -> dict[Withdrawal, Waits]:
        """What waits because the network is halted, or its token under review."""
        async with tx(self._engine) as connection:
            at = await status_if_followed(connection, self._registry.network(network))
            if at is None or at.halted:
                reason = at.halted if at is not None else None
                return dict.fromkeys(asked, Waits(WaitingFor.NODE, reason))
            doubts = {}
            for asset in {withdrawal.asset for withdrawal in asked}:
                doubts[asset] = await token_store.doubt(connection, network, self._moves.contract(network, asset))
        return {
            one: Waits(WaitingFor.APPROVAL, f"{one.asset} on {network} is under review: {doubts[one.asset]}")
            for one in asked
            if doubts[one.asset] is not None
        }

    async def _pay(self, asked: Sequence[Withdrawal], network: str, waits: dict[Withdrawal, Waits]) -> int:
        """Choose who pays each, and take the nonces; adds to `waits` what can't be paid now."""
        if not asked:
            return 0
        told = {} if self._approving is None else await self._approving.asked([one.id for one in asked])
        bound = {id: one.sender for id, one in told.items() if one.answer is Answer.APPROVED}
        wanted = [
            Wanted(
                contract=self._moves.contract(network, one.asset),
                to=one.address,
                amount=one.chain_amount,
                gas_limit=one.gas_limit,
                fee_wei_max=one.fee_wei_max,
                sender=bound.get(one.id),
            )
            for one in asked
        ]
        try:
            assigned = await self._senders.assign(network, wanted)
        except Unavailable:
            waits |= dict.fromkeys(asked, Waits(WaitingFor.NODE))
            return 0
        paying: dict[str, tuple[Withdrawal, OwnAddress]] = {}
        refused = []
        for one, found in zip(asked, assigned, strict=True):
            match found:
                case OwnAddress():
                    paying[one.id] = one, found
                case Lacking(lack, words):  # how much the house has there is told the treasurer, not its users
                    shown = words if lack is OwnWaitingFor.APPROVAL else None
                    waits[one] = Waits(WaitingFor(lack.value), shown)
                case Failure(Fault.TOKEN | Fault.NODE, words):
                    waits[one] = Waits(WaitingFor.APPROVAL, words)
                case Failure(_, words):
                    refused.append(partial(self._moves.released, one, _S.REJECTED, words))
                case None:
                    waits[one] = Waits(None)
        return await self._moves.end(refused) + await self._take_nonces(network, paying)

    async def _take_nonces(self, network: str, paying: Mapping[str, tuple[Withdrawal, OwnAddress]]) -> int:
        """States and nonces commit together, so that a worker killed here has done both or neither."""
        if not paying:
            return 0
        contents = await contents_of(self._ledger, (one.hold for one, _ in paying.values()))
        async with tx(self._engine) as connection:
            at = await status_if_followed(connection, self._registry.network(network))
            if at is None or at.halted:
                return 0
            halted = await foreign_store.halted_senders(connection, network)
            paying = {id: pair for id, pair in paying.items() if pair[1].address not in halted}
            taken = await withdrawal_store.change_withdrawals(
                connection,
                self._ledger.book,
                list(paying),
                expect=_S.APPROVED,
                change=self._moves.change(advance(_S.APPROVED, _S.NONCE_RESERVED), reason=None),
                unless_cancelling=True,
            )
            payments = [self._payment(*paying[id], contents) for id in paying if id in taken]
            await transactions.reserve_all(connection, payments, clock=self._clock, entropy=self._entropy)
            self._checkpoint.reached("reserving")
        return len(taken)

    def _payment(self, withdrawal: Withdrawal, sender: OwnAddress, contents: Mapping[str, bytes | None]) -> Payment:
        return Payment(
            network=withdrawal.network,
            kind=Kind.WITHDRAWAL,
            book=self._ledger.book,
            subject=withdrawal.id,
            sender=sender,
            contract=self._moves.contract(withdrawal.network, withdrawal.asset),
            to=withdrawal.address,
            amount=withdrawal.chain_amount,
            gas_limit=withdrawal.gas_limit,
            fee_wei_max=withdrawal.fee_wei_max,
            claims=entries.claims(withdrawal, content=contents.get(withdrawal.hold)),
        )
