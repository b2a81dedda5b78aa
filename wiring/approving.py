"""Approvals by people, as withdrawals and the signing of them ask for them: who is asked, and what they signed."""

from collections.abc import Mapping, Sequence

from base.clock import Clock
from chain.networks import Registry
from chain.payments import Payment
from chain.signing import OwnKey, Role, TransferIntent
from custody.approval_requests import ApprovalRequest
from custody.approvals import Mandate
from custody.intent_json import PRICED
from custody.intents import Cancel, First
from ledger.requests import RequestKey, content_hash, worker_id
from treasury.approvals import Approval, Approvals, ApprovalState
from treasury.errors import ApprovalClosed, ApprovalUnfit
from wallet.withdrawal_approvals import PATIENCE, Answer, Asked
from wiring.signing import for_custody

_ANSWERS = {
    ApprovalState.OPEN: Answer.OPEN,
    ApprovalState.APPROVED: Answer.APPROVED,
    ApprovalState.CONSUMED: Answer.APPROVED,
    ApprovalState.WITHDRAWN: Answer.ENDED,
    ApprovalState.EXPIRED: Answer.ENDED,
}


class WithdrawalApprovals:
    """A `wallet.withdrawal_approvals.Approving`, and the signer's `wiring.signing.Mandates`."""

    def __init__(self, approvals: Approvals, *, registry: Registry, clock: Clock) -> None:
        self._approvals = approvals
        self._registry = registry
        self._clock = clock

    async def ask(self, payment: Payment, *, owner: str, code: str, refused: str) -> bool:
        """Ask the policy's people; `refused` is the transaction that the signer refused. False: it has none who could.

        Raises ApprovalsUnavailable.
        """
        policy = self._approvals.policy
        mandate = Mandate(
            maker=owner,
            not_after=int((self._clock.now() + PATIENCE).timestamp()),
            fee_wei_max=payment.fee_wei_max,
            policy_version=policy.version,
            policy_fingerprint=policy.fingerprint,
        )
        request = ApprovalRequest(self._intent(payment), mandate)
        key = RequestKey(worker_id(f"approval:{payment.subject}", refused), content_hash([payment.subject, refused]))
        try:
            await self._approvals.ask(key=key, asked_by="worker", request=request, over_ceiling=code == "over_ceiling")
        except ApprovalUnfit:
            return False
        return True

    async def asked(self, withdrawals: Sequence[str]) -> Mapping[str, Asked]:
        """What became of the latest asking for each."""
        found = await self._approvals.latest(withdrawals) if withdrawals else {}
        return {subject: Asked(_ANSWERS[one.state], _sender(one)) for subject, one in found.items()}

    async def mandate(self, subject: str) -> tuple[str, Mandate] | None:
        """The latest approval's id, and what enough people signed of it; None where they haven't."""
        found = (await self._approvals.latest([subject])).get(subject)
        if found is None or found.state not in (ApprovalState.APPROVED, ApprovalState.CONSUMED):
            return None
        return found.id, found.mandate

    async def used(self, approval: str) -> None:
        """It was signed by this."""
        try:
            await self._approvals.consume(approval)
        except ApprovalClosed:
            return  # its time ended in this instant, or somebody took it back: the signature is there all the same

    def _intent(self, payment: Payment) -> First:
        chain_id = self._registry.network(payment.network).chain_id
        assert isinstance(payment.to, str), "a withdrawal pays an address of others"
        intent = for_custody(
            TransferIntent(
                subject=payment.subject,
                chain_id=chain_id,
                sender=payment.sender.key,
                contract=payment.contract,
                to=payment.to,
                amount=payment.amount,
                attempt=PRICED["attempt"],
                nonce=PRICED["nonce"],
                gas_limit=PRICED["gas_limit"],
                max_fee_per_gas=PRICED["max_fee_per_gas"],
                max_priority_fee_per_gas=PRICED["max_priority_fee_per_gas"],
            )
        )
        assert not isinstance(intent, Cancel)
        return intent


def _sender(approval: Approval) -> OwnKey:
    key = approval.request.intent.sender
    return OwnKey(Role(key.role.value), key.index, key.generation)
