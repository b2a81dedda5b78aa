"""Freezes stop what users and the house intend on an account, an owner, an asset, or at a network. Evidence goes on.

That something is frozen is said by the book alone; the rows here say why. Several reasons may stand for one target: it
stays frozen until the last of them is lifted. Freezes of the signer are another thing: its people sign those.
"""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from base.errors import NotFound
from base.ids import new_id
from db.engine import tx
from ledger.asking import decide, decided_before
from ledger.commands import Freeze, FreezeScope, Record, Unfreeze
from ledger.engine import Ledger
from ledger.errors import RefusedByBook
from ledger.outcomes import Refused
from ledger.requests import RequestKey, content_hash, worker_id
from treasury.errors import FreezeUnfit
from treasury.notes import note
from treasury.operations import freeze_store as store
from treasury.operations.acts import Actor, Noted, unnoted
from treasury.operations.audit_log import AuditLog
from treasury.operations.freeze_reasons import FreezeReason, StandingFreeze

ID_PREFIX = "frz"

DUE_AT_ONCE = 100
"""Freezes whose time is over that one step lifts."""

WORKER = Actor("process:worker")
"""Who lifts what has expired."""


class Freezes:
    """Sets, lifts and lists freezes. `networks`: names of networks, rails and bank accounts that can be frozen."""

    def __init__(
        self, engine: AsyncEngine, *, ledger: Ledger, clock: Clock, entropy: Entropy, networks: Collection[str]
    ) -> None:
        self._engine = engine
        self._ledger = ledger
        self._clock = clock
        self._entropy = entropy
        self._networks = networks
        self._log = AuditLog(engine, ledger=ledger, clock=clock, entropy=entropy)

    async def set(
        self,
        *,
        key: RequestKey,
        by: str,
        scope: FreezeScope,
        target: str,
        code: FreezeReason,
        reason: str,
        expires_at: datetime | None = None,
        noted: Noted = unnoted,
    ) -> StandingFreeze:
        """Freeze `target` for one more reason.

        Raises ReasonMissing, FreezeUnfit (`expires_in_past`, `unknown_network`), UnknownAsset, RequestConflict,
        RefusedByBook (`unknown_account`).
        """
        if (first := await decided_before(self._ledger, key)) is not None:
            return replace(await self.get(first.subject or ""), replayed=True)
        said = note(by, reason)
        await self._check(scope, target, expires_at)
        freeze = StandingFreeze(
            id=new_id(ID_PREFIX, self._clock, self._entropy),
            scope=scope,
            target=target,
            reason_code=code,
            reason=said["reason"],
            set_by=by,
            set_at=self._clock.now(),
            expires_at=expires_at,
        )
        command = Freeze(id=key.id, subject=freeze.id, scope=scope, target=target, metadata=said | {"code": code.value})
        before = noted(freeze.id)
        async with tx(self._engine) as connection:
            await store.lock_target(connection, self._ledger.book, scope, target)
            group = before.group(command, store.added(self._ledger.book, freeze), content=key.content)
            outcome = (await decide(self._ledger, group))[-1]
        return replace(await self.get(outcome.subject or ""), replayed=outcome.replayed)

    async def lift(
        self, freeze: str, *, key: RequestKey, by: str, reason: str, noted: Noted = unnoted
    ) -> StandingFreeze:
        """Take one reason away; with the last one the target is free again.

        Raises NotFound, FreezeUnfit (`freeze_lifted`), ReasonMissing, RequestConflict.
        """
        if (first := await decided_before(self._ledger, key)) is not None:
            return replace(await self.get(first.subject or ""), replayed=True)
        said = note(by, reason)
        found = await self.get(freeze)
        await self._lift(found, key, by=by, reason=said["reason"], noted=noted)
        return await self.get(freeze)

    async def step(self) -> int:
        """Lift what has expired. Returns how many."""
        async with tx(self._engine) as connection:
            due = await store.due_freezes(connection, self._ledger.book, now=self._clock.now(), limit=DUE_AT_ONCE)
        return sum([await self._expire(freeze) for freeze in due])

    async def get(self, freeze: str) -> StandingFreeze:
        """One freeze, lifted or not. Raises NotFound."""
        async with tx(self._engine) as connection:
            found = await store.load_freeze(connection, self._ledger.book, freeze)
        if found is None:
            raise NotFound(f"there is no freeze {freeze[:40]!r}", param="freeze")
        return found

    async def recent(self, *, lifted: bool = False, before: str | None = None, limit: int = 50) -> list[StandingFreeze]:
        """Freezes, newest first, those older than the id `before`; with `lifted` also those that are over."""
        async with tx(self._engine) as connection:
            return await store.list_freezes(connection, self._ledger.book, lifted=lifted, before=before, limit=limit)

    async def unexplained(self) -> list[tuple[FreezeScope, str]]:
        """What the book says is frozen and no row says why: frozen by another way than this."""
        frozen = await self._ledger.freezes()
        async with tx(self._engine) as connection:
            return [one for one in frozen if not await store.standing_on(connection, self._ledger.book, *one)]

    async def told(self, owner: str) -> tuple[bool, FreezeReason | None]:
        """What a user may know: whether they, or an account, are frozen; why only where they asked for it."""
        frozen = [
            (scope, target)
            for scope, target in await self._ledger.freezes()
            if (scope is FreezeScope.OWNER and target == owner)
            or (scope is FreezeScope.ACCOUNT and target.startswith(f"{owner}/"))
        ]
        if not frozen:
            return False, None
        async with tx(self._engine) as connection:
            why = [await store.standing_on(connection, self._ledger.book, *place) for place in frozen]
        codes = {one.reason_code for standing in why for one in standing}
        return True, FreezeReason.USER_REQUEST if all(why) and codes == {FreezeReason.USER_REQUEST} else None

    async def _lift(self, freeze: StandingFreeze, key: RequestKey, *, by: str, reason: str, noted: Noted) -> bool:
        """Whether this was decided just now. Under the target's lock, which a freeze that is set now waits for: so the
        last reason is the last."""
        book = self._ledger.book
        async with tx(self._engine) as connection:
            await store.lock_target(connection, book, freeze.scope, freeze.target)
            others = [
                one
                for one in await store.standing_on(connection, book, freeze.scope, freeze.target)
                if one.id != freeze.id
            ]
            said = {"reason": reason, "by": by}
            command: Record | Unfreeze
            if others:
                facts = {"freeze_lifted": freeze.id, "still_frozen_by": ",".join(one.id for one in others)}
                command = Record(id=key.id, subject=freeze.id, facts=facts, metadata=said)
            else:
                command = Unfreeze(
                    id=key.id, subject=freeze.id, scope=freeze.scope, target=freeze.target, metadata=said
                )
            row = store.ended(book, freeze, by=by, at=self._clock.now(), reason=reason)
            try:
                *_, outcome = await decide(self._ledger, noted(freeze.id).group(command, row, content=key.content))
            except RefusedByBook as refusal:
                if refusal.code == Refused.STALE_STATE:
                    raise FreezeUnfit(f"{freeze.id} was lifted before", code="freeze_lifted") from refusal
                raise
        return not outcome.replayed

    async def _expire(self, freeze: StandingFreeze) -> int:
        """Its end by its own date; 0 if somebody was quicker."""
        key = RequestKey(worker_id(f"freeze-expired:{freeze.id}", 1), content_hash({"freeze": freeze.id}))
        act = self._log.act(WORKER, "freeze.expired", subject=freeze.id, reason_code=freeze.reason_code.value)
        sealed = act.sealed(self._ledger.book, worker_id(f"audit-log:{key.id}", 1))
        try:
            return int(await self._lift(freeze, key, by=WORKER.key, reason="expired", noted=lambda _: sealed))
        except FreezeUnfit:
            return 0

    async def _check(self, scope: FreezeScope, target: str, expires_at: datetime | None) -> None:
        if expires_at is not None and expires_at <= self._clock.now():
            raise FreezeUnfit("a freeze ends in the future", code="expires_in_past", param="expires_at")
        if scope is FreezeScope.ASSET:
            await self._ledger.asset(target)
        if scope is FreezeScope.NETWORK and target not in self._networks:
            raise FreezeUnfit(
                f"there is no network, rail or bank account {target[:40]!r}",
                code="unknown_network",
                param="target",
                known=sorted(self._networks),
            )
