"""What each sender has under way: who may be signed next, and what is spoken for already. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence

from chain.payments import Attempt, OwnTransaction
from chain.transaction_states import State

IN_FLIGHT_MAX = 16
"""Transactions of one sender that may be signed and not yet mined: nodes drop long queues of one sender."""


class SenderQueues:
    """The unfinished transactions of a network, seen per sender."""

    def __init__(self, transactions: Sequence[OwnTransaction], attempts: Mapping[str, Sequence[Attempt]]) -> None:
        self._in_flight: Counter[str] = Counter()
        self._committed: Counter[tuple[str, str | None]] = Counter()
        self._blocked: set[str] = set()
        for transaction in transactions:
            if transaction.state in (State.SIGNED, State.BROADCAST):
                self.count(transaction, attempts[transaction.id][-1])

    def count(self, transaction: OwnTransaction, attempt: Attempt) -> None:
        """This one is under way: it may take its amount and its highest fee."""
        payment = transaction.payment
        sender = payment.sender.address
        self._in_flight[sender] += 1
        self._committed[sender, payment.contract] += payment.amount
        self._committed[sender, None] += attempt.gas_limit * attempt.bid.max_fee_per_gas

    def block(self, transaction: OwnTransaction) -> None:
        """This one stalls, so no later nonce of its sender may be signed."""
        self._blocked.add(transaction.payment.sender.address)

    def may_sign(self, transaction: OwnTransaction) -> bool:
        """Whether its sender is neither stalled nor has too many under way."""
        sender = transaction.payment.sender.address
        return sender not in self._blocked and self._in_flight[sender] < IN_FLIGHT_MAX

    def committed(self, sender: str, contract: str | None) -> int:
        """What transactions under way may still take of the sender's token, or (None) of its native coin."""
        return self._committed[sender, contract]
