"""The addresses that pay withdrawals: how each stands, and which of them takes which payment.

A payment gets the sender that can pay it, amount and gas, beside all that it has promised already, and has fewest under
way. What no sender can pay gets no nonce and waits without being in anybody's way; what would fail on chain neither.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from chain import addresses, foreign_store
from chain import transaction_store as store
from chain.evm.node import Node
from chain.foreign import UNDER_REVIEW
from chain.networks import Registry
from chain.payments import OwnTransaction
from chain.queues import Purse, assign, open_purses
from chain.signing import OwnAddress, OwnKey, Role
from chain.transaction_states import State, WaitingFor
from chain.trials import Failure, Trial, try_payments
from db.engine import tx

OPEN_MAX = 5_000
"""Unfinished transactions that are looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A payment in search of a sender. `amount` is in chain units, `fee_wei_max` the most that it may cost.

    `sender`: the key that must pay it, as people approved it; None: any.
    """

    contract: str | None
    to: str
    amount: int
    gas_limit: int
    fee_wei_max: int
    sender: OwnKey | None = None


@dataclass(frozen=True, slots=True)
class Lacking:
    """No sender can pay it now."""

    waiting_for: WaitingFor
    words: str


Assigned = OwnAddress | Lacking | Failure | None
"""Who pays; or what is lacking, or why it would fail; None: those who can pay it have enough to do for now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderState:
    """How a sender stands. `held` and `free`: by contract (None: the native coin), in chain units.

    `in_flight` was signed and isn't mined; `reserved` isn't signed yet. `stalled` is the first that waits for anything.
    """

    own: OwnAddress
    in_flight: int
    reserved: int
    held: Mapping[str | None, int]
    free: Mapping[str | None, int]
    stalled: OwnTransaction | None


class Senders:
    """The hot addresses 0 to `count` - 1, of all networks."""

    def __init__(self, engine: AsyncEngine, *, registry: Registry, nodes: Mapping[str, Node], count: int) -> None:
        self._engine = engine
        self._registry = registry
        self._nodes = nodes
        self._keys = [OwnKey(Role.HOT, index) for index in range(count)]

    async def assign(self, network: str, wanted: Sequence[Wanted]) -> list[Assigned]:
        """Who pays each of these, in order; no halted sender does.

        Raises NodeUnavailable, NodeMisbehaved, NodeRefused.
        """
        return await self._tried(network, wanted, await self.choose(network, wanted))

    async def choose(self, network: str, wanted: Sequence[Wanted]) -> list[Assigned]:
        """As `assign`, but nothing is tried: for what isn't a plain payment to `to`."""
        purses, _ = await self._purses(network, {None, *(one.contract for one in wanted)})
        async with tx(self._engine) as connection:
            halted = await foreign_store.halted_senders(connection, network)
        if purses and all(purse.own.address in halted for purse in purses):
            return [Lacking(WaitingFor.APPROVAL, UNDER_REVIEW)] * len(wanted)
        purses = [purse for purse in purses if purse.own.address not in halted]
        found: list[Assigned] = []
        for one in wanted:
            able = [purse for purse in purses if one.sender in (None, purse.own.key)]
            if not able and purses:
                found.append(Lacking(WaitingFor.APPROVAL, f"{one.sender} is to pay it, and doesn't pay now"))
                continue
            chosen = assign(able, contract=one.contract, amount=one.amount, gas_wei=one.fee_wei_max)
            match chosen:
                case Purse(own=own):
                    found.append(own)
                case None:
                    found.append(None)
                case WaitingFor() as lack:
                    found.append(Lacking(lack, _lack_words(one, lack, len(able))))
        return found

    async def _tried(self, network: str, wanted: Sequence[Wanted], found: list[Assigned]) -> list[Assigned]:
        """The same, but for what would fail on chain."""
        trials = {
            number: Trial(own.address, one.contract, one.to, one.amount, one.gas_limit)
            for number, (one, own) in enumerate(zip(wanted, found, strict=True))
            if isinstance(own, OwnAddress)
        }
        failures = await try_payments(self._nodes[network], list(trials.values()))
        failed = {number: failure for number, failure in zip(trials, failures, strict=True) if failure is not None}
        return [failed.get(number, own) for number, own in enumerate(found)]

    async def states(self, network: str) -> list[SenderState]:
        """How each sender of a network stands. Raises NotOnNetwork, and what asking a node does."""
        contracts = {entry.contract for entry in self._registry.on(self._registry.network(network).name)}
        purses, (held, transactions) = await self._purses(network, contracts | {None})
        found = []
        for purse in purses:
            mine = [one for one in transactions if one.payment.sender.address == purse.own.address]
            signed = [one for one in mine if one.state in (State.SIGNED, State.BROADCAST)]
            reserved = [one for one in mine if one.state is State.RESERVED]
            found.append(
                SenderState(
                    own=purse.own,
                    in_flight=len(signed),
                    reserved=len(reserved),
                    held={contract: held[contract, purse.own.address] for contract in contracts | {None}},
                    free=dict(purse.free),
                    stalled=next((one for one in mine if one.waiting_for is not None), None),
                )
            )
        return found

    async def _purses(
        self, network: str, contracts: set[str | None]
    ) -> tuple[list[Purse], tuple[dict[tuple[str | None, str], int], list[OwnTransaction]]]:
        async with tx(self._engine) as connection:
            enrolled = [await addresses.house(connection, key=key) for key in self._keys]
            transactions = await store.open_ones(connection, network=network, limit=OPEN_MAX)
            attempts = await store.attempts_of(connection, [one.id for one in transactions])
        senders = [own for own in enrolled if own is not None]
        asked = [(contract, own.address) for contract in contracts for own in senders]
        held = dict(zip(asked, await self._nodes[network].holdings(asked), strict=True))
        return open_purses(senders, held, transactions, attempts), (held, transactions)


def _lack_words(wanted: Wanted, lack: WaitingFor, count: int) -> str:
    whose = "the hot address hasn't" if count == 1 else f"none of the {count} hot addresses has"
    if lack is WaitingFor.GAS:
        return f"{whose} {wanted.fee_wei_max} wei free for gas beside what it pays"
    return f"{whose} {wanted.amount} units free, which the payment needs"
