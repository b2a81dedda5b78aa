"""Asking the signer for stored attempts, one sender's in the order of nonces, and what its answers mean.

An answer is believed only if it decodes to the attempt and recovers to the sender. Nothing is stored here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from chain.checkpoints import Checkpoint
from chain.desk import Desk
from chain.errors import SignerConflict, SignerRefused, SignerUnavailable
from chain.evm.signed import check_signed
from chain.networks import Network
from chain.payments import Attempt, OwnTransaction
from chain.signing import CancelIntent, Intent, OwnAddress, Signed, Signer, TransferIntent
from chain.transaction_states import Event, State, WaitingFor, advance

Problem = SignerRefused | SignerConflict | SignerUnavailable


@dataclass(frozen=True, slots=True)
class Answered:
    """The signer's answer to an attempt: signed (then the attempt has its bytes and hash), or a problem."""

    transaction: OwnTransaction
    attempt: Attempt
    signed: Signed | None = None
    problem: Problem | None = None

    @property
    def stalls(self) -> bool:
        """Whether it's to be asked again: nobody knows yet whether it will be signed."""
        return self.problem is not None and not isinstance(self.problem, SignerRefused)

    def as_signed(self) -> OwnTransaction:
        """The transaction with its bytes."""
        is_first = self.transaction.state is State.RESERVED
        state = advance(self.transaction.state, Event.SIGNED) if is_first else self.transaction.state
        return replace(self.transaction, state=state, waiting_for=None, refusal=None)

    def as_stalled(self) -> OwnTransaction:
        """The transaction as it waits for the signer."""
        assert self.problem is not None
        return replace(self.transaction, waiting_for=WaitingFor.SIGNER, refusal=self.problem.message)


class Asker:
    """Asks for attempts on `network`."""

    def __init__(self, signer: Signer, network: Network, checkpoint: Checkpoint) -> None:
        self._signer = signer
        self._network = network
        self._checkpoint = checkpoint

    async def ask_in_order(self, asked: Sequence[tuple[OwnTransaction, Attempt]], desk: Desk) -> list[Answered]:
        """The answers, as far as it makes sense to ask: after a no to a first attempt the later nonces must wait."""
        answers: list[Answered] = []
        for transaction, attempt in asked:
            answers.append(await self._ask(transaction, attempt, desk))
            if answers[-1].problem is not None and transaction.state is State.RESERVED:
                break
        return answers

    async def _ask(self, transaction: OwnTransaction, attempt: Attempt, desk: Desk) -> Answered:
        payment, intent = transaction.payment, self._intent(transaction, attempt)
        self._checkpoint.reached("signing.before")
        try:
            signed = await self._signer.sign(intent, highest=desk.highest)
            self._checkpoint.reached("signing.after")
            tx_hash = check_signed(signed.raw, intent, sender=payment.sender.address, recipient=payment.recipient)
        except (SignerRefused, SignerConflict, SignerUnavailable) as problem:
            return Answered(transaction, attempt, problem=problem)
        if desk.highest is None or signed.sequence > desk.highest[0]:
            desk.highest = signed.sequence, signed.head
        return Answered(transaction, replace(attempt, raw=signed.raw, tx_hash=tx_hash), signed=signed)

    def _intent(self, transaction: OwnTransaction, attempt: Attempt) -> Intent:
        payment = transaction.payment
        if attempt.cancels:
            return CancelIntent(
                subject=payment.subject,
                attempt=attempt.attempt,
                chain_id=self._network.chain_id,
                sender=payment.sender.key,
                nonce=attempt.nonce,
                gas_limit=attempt.gas_limit,
                max_fee_per_gas=attempt.bid.max_fee_per_gas,
                max_priority_fee_per_gas=attempt.bid.tip,
            )
        return TransferIntent(
            subject=payment.subject,
            attempt=attempt.attempt,
            chain_id=self._network.chain_id,
            sender=payment.sender.key,
            nonce=attempt.nonce,
            gas_limit=attempt.gas_limit,
            max_fee_per_gas=attempt.bid.max_fee_per_gas,
            max_priority_fee_per_gas=attempt.bid.tip,
            contract=payment.contract,
            to=payment.to.key if isinstance(payment.to, OwnAddress) else payment.to,
            amount=payment.amount,
            order=payment.order,
            claims=payment.claims,
        )
