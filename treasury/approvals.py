"""Approvals of intents: what is asked of the policy's people, and what they signed.

Signatures are verified before they're stored, and count only because the signer verifies them again: nothing here
makes it sign. Not here: the statement's form (custody.approvals), who needs one (the policy).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from base.errors import OnebookError
from base.ids import new_id
from custody.approval_requests import ApprovalRequest
from custody.approvals import Mandate, Signature, Unproven, proven
from custody.counting import Counts
from custody.intent_json import intent_from_terms_json
from custody.intents import First
from custody.judging import Situation, speaking_rule
from custody.policy import Policy
from custody.policy_file import parse
from db.engine import tx
from ledger.errors import RequestConflict
from ledger.requests import RequestKey
from treasury import approval_store as store
from treasury.errors import ApprovalClosed, ApprovalsUnavailable, ApprovalUnfit, ApprovalUnknown, SignatureRefused


class ApprovalState(StrEnum):
    OPEN = "open"
    APPROVED = "approved"
    """As many have signed as the policy wanted when it was asked."""
    CONSUMED = "consumed"
    """Used for its intent's first signature."""
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    """Its time is over, and it wasn't used; never stored."""


CLOSED = frozenset({ApprovalState.CONSUMED, ApprovalState.WITHDRAWN, ApprovalState.EXPIRED})


@dataclass(frozen=True, slots=True)
class Approval:
    """A request for approval, and the signatures under it, by name."""

    id: str
    state: ApprovalState
    request: ApprovalRequest
    statement: bytes
    needed: int
    signatures: tuple[tuple[Signature, datetime], ...]
    created_by: str
    created_at: datetime
    closed_at: datetime | None
    replayed: bool = False

    @property
    def mandate(self) -> Mandate:
        """What the signer is told of it."""
        return replace(self.request.mandate, approvals=tuple(signature for signature, _ in self.signatures))


class PolicyCopy:
    """A copy of the signer's policy, read again whenever its file changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read: tuple[tuple[int, int], Policy] | None = None

    def __call__(self) -> Policy:
        """The policy. Raises ApprovalsUnavailable."""
        try:
            status = self._path.stat()
            mark = (status.st_mtime_ns, status.st_size)
            if self._read is None or self._read[0] != mark:
                self._read = (mark, parse(self._path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError, OnebookError) as problem:
            raise ApprovalsUnavailable("the policy can't be read here, so nobody can approve") from problem
        return self._read[1]


class Approvals:
    """Asks, lists, collects signatures, and hands out mandates."""

    def __init__(
        self, engine: AsyncEngine, *, book: str, policy: Callable[[], Policy], clock: Clock, entropy: Entropy
    ) -> None:
        self._engine = engine
        self._book = book
        self._policy = policy
        self._clock = clock
        self._entropy = entropy

    @property
    def policy(self) -> Policy:
        """The policy whose people are asked. Raises ApprovalsUnavailable."""
        return self._policy()

    async def ask(
        self, *, key: RequestKey, asked_by: str, request: ApprovalRequest, over_ceiling: bool = False
    ) -> Approval:
        """Ask for approval of an intent. Raises ApprovalUnfit, ApprovalsUnavailable, RequestConflict.

        `over_ceiling`: it's known to exceed one, so that as many are needed as that takes.
        """
        async with tx(self._engine) as connection:
            first = await store.find_request(connection, self._book, key.id)
        if first is not None:
            return await self._repeated(first, key)
        needed = self._fit(request, over_ceiling=over_ceiling)
        row = store.NewApproval(
            id=new_id("apr", self._clock, self._entropy),
            request=request,
            needed=needed,
            created_by=asked_by,
            created_at=self._clock.now(),
        )
        async with tx(self._engine) as connection:
            made = await store.insert_approval(connection, self._book, key, row)
            first = None if made else await store.find_request(connection, self._book, key.id)
        if first is not None:
            return await self._repeated(first, key)
        return await self.get(row.id)

    async def get(self, approval: str) -> Approval:
        """One request. Raises ApprovalUnknown."""
        async with tx(self._engine) as connection:
            found = await store.load_approval(connection, self._book, approval)
        return self._of(approval, found)

    async def latest(self, subjects: Sequence[str]) -> dict[str, Approval]:
        """The latest request about each of these subjects, by subject."""
        async with tx(self._engine) as connection:
            found = await store.load_latest(connection, self._book, subjects)
        return {subject: self._of(one.id, one) for subject, one in found.items()}

    async def recent(self, *, before: str | None = None, limit: int = 50) -> list[Approval]:
        """Requests, newest first, those older than the id `before`."""
        async with tx(self._engine) as connection:
            found = await store.list_approvals(connection, self._book, before=before, limit=limit)
        return [self._of(one.id, one) for one in found]

    def could_sign(self, approval: Approval) -> list[str]:
        """Who of the policy's people hasn't signed it and may; nobody where the policy can't be read."""
        try:
            people = self._policy().people
        except ApprovalsUnavailable:
            return []
        without = {approval.request.mandate.maker, *(signature.by for signature, _ in approval.signatures)}
        return sorted(person.name for person in people if person.name not in without)

    async def sign(self, approval: str, signature: Signature) -> Approval:
        """Add somebody's signature. Theirs again changes nothing. Raises ApprovalUnknown, ApprovalClosed,
        SignatureRefused, ApprovalsUnavailable."""
        policy = self._policy()
        async with tx(self._engine) as connection:
            known = self._of(approval, await store.load_approval(connection, self._book, approval, lock=True))
            _require_open(known)
            if known.request.mandate.policy_version != policy.version:
                raise ApprovalClosed(f"the policy is version {policy.version} now", state="policy_changed")
            if known.request.mandate.policy_fingerprint != policy.fingerprint:
                raise ApprovalClosed("the policy is another now", state="policy_changed")
            names = proven(known.statement, [signature], policy.people, except_for=(known.request.mandate.maker,))
            if isinstance(names, Unproven):
                raise SignatureRefused(names.sentence, reason=names.code)
            if any(one.by == signature.by for one, _ in known.signatures):
                return replace(known, replayed=True)
            now = self._clock.now()
            await store.insert_signature(connection, self._book, approval, signature, now=now)
            if len(known.signatures) + 1 >= known.needed:
                await store.set_state(connection, self._book, approval, ApprovalState.APPROVED, closed_at=None)
        return await self.get(approval)

    async def withdraw(self, approval: str) -> Approval:
        """Take a request back; again changes nothing. Raises ApprovalUnknown, ApprovalClosed."""
        return await self._close(approval, ApprovalState.WITHDRAWN)

    async def consume(self, approval: str) -> Approval:
        """Note that its mandate is being used. Raises ApprovalUnknown, ApprovalClosed, also when too few signed."""
        return await self._close(approval, ApprovalState.CONSUMED)

    async def _close(self, approval: str, state: ApprovalState) -> Approval:
        async with tx(self._engine) as connection:
            known = self._of(approval, await store.load_approval(connection, self._book, approval, lock=True))
            if known.state is state:
                return replace(known, replayed=True)
            _require_open(known)
            if state is ApprovalState.CONSUMED and known.state is not ApprovalState.APPROVED:
                raise ApprovalClosed(f"{known.needed} approvals are needed", state=known.state.value)
            await store.set_state(connection, self._book, approval, state, closed_at=self._clock.now())
        return await self.get(approval)

    async def _repeated(self, first: store.FirstRequest, key: RequestKey) -> Approval:
        if first.content != key.content:
            raise RequestConflict("this idempotency key was used for another request", first=first.id)
        return replace(await self.get(first.id), replayed=True)

    def _fit(self, request: ApprovalRequest, *, over_ceiling: bool = False) -> int:
        """How many approvals are needed. Raises ApprovalUnfit for what the signer wouldn't take."""
        policy, mandate = self._policy(), request.mandate
        if not policy.people:
            raise ApprovalUnfit("the policy has no people who could approve", param="policy_version")
        if mandate.policy_version != policy.version:
            said = f"the policy in force is version {policy.version}, not {mandate.policy_version}"
            raise ApprovalUnfit(said, param="policy_version")
        if mandate.policy_fingerprint != policy.fingerprint:
            said = f"the policy in force has the fingerprint {policy.fingerprint.hex()}"
            raise ApprovalUnfit(said, param="policy_fingerprint")
        if mandate.not_after <= self._clock.now().timestamp():
            raise ApprovalUnfit("not_after is over", param="not_after")
        if request.needs_maker:
            made = () if mandate.made_by is None else (mandate.made_by,)
            names = proven(request.made, made, policy.people)
            if isinstance(names, Unproven) or names != {mandate.maker}:
                said = "all but a user's withdrawal is made by one of the policy's people, who signs it"
                raise ApprovalUnfit(said, param="made_by")
        situation = Situation(counts=Counts(), window_us=0, seconds=0)
        rule = speaking_rule(policy, situation, request.intent)
        ceilings = 0 if policy.ceilings is None else policy.ceilings.approvals
        if over_ceiling:
            return max(1, ceilings, 0 if rule is None else rule.approvals)
        return max(1, ceilings if rule is None or not rule.approvals else rule.approvals)

    def _of(self, approval: str, found: store.StoredApproval | None) -> Approval:
        if found is None:
            raise ApprovalUnknown(f"there is no request for approval {approval[:40]!r}", param="approval")
        state = ApprovalState(found.state)
        if state not in CLOSED and found.not_after < self._clock.now():
            state = ApprovalState.EXPIRED
        made_by = None
        if found.made_by is not None:
            made_by = Signature(found.maker, found.made_by[1], found.made_by[0])
        mandate = Mandate(
            maker=found.maker,
            not_after=int(found.not_after.astimezone(UTC).timestamp()),
            fee_wei_max=found.fee_wei_max,
            policy_version=found.policy_version,
            policy_fingerprint=found.policy_fingerprint,
            made_by=made_by,
        )
        intent: First = intent_from_terms_json(found.terms)
        return Approval(
            id=found.id,
            state=state,
            request=ApprovalRequest(intent, mandate),
            statement=found.statement,
            needed=found.needed,
            signatures=found.signatures,
            created_by=found.created_by,
            created_at=found.created_at,
            closed_at=found.closed_at,
        )


def _require_open(approval: Approval) -> None:
    if approval.state in CLOSED:
        raise ApprovalClosed(f"{approval.id} is {approval.state.value}", state=approval.state.value)
