"""What each sender has under way: who may be signed next, what is spoken for already, who pays what. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chain.payments import Attempt, OwnTransaction
from chain.signing import OwnAddress
from chain.transaction_states import State, WaitingFor

IN_FLIGHT_MAX = 16
"""Transactions of one sender that may be signed and not yet mined: nodes drop long queues of one sender."""

ASSIGNED_MAX = 2 * IN_FLIGHT_MAX
"""Transactions of one sender that aren't mined yet, signed or not: the next ones stand ready when a block comes."""


class SenderQueues:
    """The unfinished transactions of a network, seen per sender."""

    def __init__(self, transactions: Sequence[OwnTransaction], attempts: Mapping[str, Sequence[Attempt]]) -> None:
        self._in_flight: Counter[str] = Counter()
        self._committed: Counter[tuple[str, str | None]] = Counter()
        self._blocked: set[str] = set()
        self._first: dict[str, int] = {}
        for transaction in transactions:
            if transaction.state in (State.SIGNED, State.BROADCAST):
                self.count(transaction, attempts[transaction.id][-1])
                sender, nonce = transaction.payment.sender.address, transaction.nonce or 0
                self._first[sender] = min(nonce, self._first.get(sender, nonce))

    def count(self, transaction: OwnTransaction, attempt: Attempt) -> None:
        """This one is under way: it may take its amount and its highest fee."""
        payment = transaction.payment
        sender = payment.sender.address
        self._in_flight[sender] += 1
        self._committed[sender, payment.contract] += payment.spends
        self._committed[sender, None] += attempt.gas_limit * attempt.bid.max_fee_per_gas

    def block(self, transaction: OwnTransaction) -> None:
        """This one stalls, so no later nonce of its sender may be signed."""
        self._blocked.add(transaction.payment.sender.address)

    def may_sign(self, transaction: OwnTransaction) -> bool:
        """Whether its sender is neither stalled nor has too many under way."""
        sender = transaction.payment.sender.address
        return sender not in self._blocked and self._in_flight[sender] < IN_FLIGHT_MAX

    def is_first(self, transaction: OwnTransaction) -> bool:
        """Whether all others of its sender wait for this one: none that was signed has a lower nonce."""
        return self._first.get(transaction.payment.sender.address) == transaction.nonce

    def committed(self, sender: str, contract: str | None) -> int:
        """What transactions under way may still take of the sender's token, or (None) of its native coin."""
        return self._committed[sender, contract]


@dataclass(slots=True)
class Purse:
    """One sender as payments are assigned to it. `free`: by contract (None: the native coin), beside what's promised.

    `assigned`: how many of its transactions aren't mined.
    """

    own: OwnAddress
    assigned: int
    free: dict[str | None, int]

    def pays(self, contract: str | None, amount: int, gas_wei: int) -> WaitingFor | None:
        """What it lacks to pay that: its own money first, then gas; None: nothing."""
        if self.free.get(contract, 0) < amount:
            return WaitingFor.FUNDS
        gas_left = self.free.get(None, 0) - (amount if contract is None else 0)
        return WaitingFor.GAS if gas_left < gas_wei else None


def open_purses(
    senders: Sequence[OwnAddress],
    held: Mapping[tuple[str | None, str], int],
    transactions: Sequence[OwnTransaction],
    attempts: Mapping[str, Sequence[Attempt]],
) -> list[Purse]:
    """The senders with what they hold (by contract and address) beside what their unfinished transactions may take."""
    purses = {own.address: Purse(own, 0, {}) for own in senders}
    for (contract, address), amount in held.items():
        purses[address].free[contract] = amount
    for transaction in transactions:
        purse = purses.get(transaction.payment.sender.address)
        if purse is None or transaction.state is State.MINED:
            continue
        payment, tried = transaction.payment, attempts[transaction.id]
        gas = tried[-1].gas_limit * tried[-1].bid.max_fee_per_gas if tried else payment.fee_wei_max
        purse.assigned += 1
        purse.free[payment.contract] = purse.free.get(payment.contract, 0) - payment.spends
        purse.free[None] = purse.free.get(None, 0) - gas
    return list(purses.values())


def assign(purses: Sequence[Purse], *, contract: str | None, amount: int, gas_wei: int) -> Purse | WaitingFor | None:
    """The sender that can pay this and has fewest under way, with this added to it.

    Where none can pay it, what it waits for; None where all that can have enough to do for now.
    """
    lacks = [(purse, purse.pays(contract, amount, gas_wei)) for purse in purses]
    able = [purse for purse, lack in lacks if lack is None]
    if not able:
        return WaitingFor.GAS if any(lack is WaitingFor.GAS for _, lack in lacks) else WaitingFor.FUNDS
    chosen = min(able, key=lambda purse: purse.assigned)
    if chosen.assigned >= ASSIGNED_MAX:
        return None
    chosen.assigned += 1
    chosen.free[contract] -= amount
    chosen.free[None] -= gas_wei
    return chosen
