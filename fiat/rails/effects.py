"""What webhooks lead to: the object that each names is read again at its provider, and taken as it is now.

So it doesn't matter in which order they come, how late, or how often. What can't be read or booked yet is tried again,
further and further apart; after TRIES_MAX it's a dead letter, which a person looks at and has tried again.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from datetime import timedelta

import structlog

from base.errors import OnebookError
from db.engine import tx
from fiat.rails import store
from fiat.rails.desk import Desk
from fiat.rails.disputes import Disputes
from fiat.rails.protocol import Capability, DisputeTruth, Listed, ObjectKind, Rail, RefundTruth
from fiat.rails.records import Webhook, WebhookState
from fiat.rails.refunds import Refunds
from fiat.rails.settlements import LOOK_EVERY, PAGES_MAX, Settlements
from fiat.rails.tables import webhooks
from fiat.rails.top_ups import TopUps

TRIES_MAX = 12
"""Tries of an effect: the last one is more than an hour after the first."""

EVENTS_PER_STEP = 200

WATCHED = timedelta(days=120)
"""How long a dispute is read again, whatever was decided."""

RECENT_MAX = 500
"""Disputes that are read again in one look."""

Pages = Callable[[str | None], Awaitable[Listed[DisputeTruth] | Listed[RefundTruth]]]
"""A provider's list, from behind a cursor."""

Hear = Callable[[str, str, str | None], Awaitable[None]]
"""Takes what is told of an object: rail, the provider's id, our id if it's known."""

log = structlog.get_logger()


class Effects:
    """Works off the inbox, and looks through the providers' lists of disputes for what no webhook told."""

    def __init__(
        self,
        desk: Desk,
        *,
        top_ups: TopUps,
        refunds: Refunds,
        disputes: Disputes,
        settlements: Settlements,
        payouts: Hear | None = None,
    ) -> None:
        """`payouts`: who follows payouts over providers; without, their webhooks have no effect."""
        self._desk = desk
        self._disputes = disputes
        self._hears: dict[ObjectKind, Hear] = {
            ObjectKind.PAYMENT: top_ups.steps.hear,
            ObjectKind.REFUND: lambda rail, source, _: refunds.hear(rail, source),
            ObjectKind.DISPUTE: lambda rail, source, _: disputes.hear(rail, source),
            ObjectKind.SETTLEMENT: lambda rail, source, _: settlements.hear(rail, source),
        }
        if payouts is not None:
            self._hears[ObjectKind.PAYOUT] = payouts

    async def step(self, *, rails: Collection[str] = (), but: Collection[str] = ()) -> int:
        """Work off what is due, of `rails` (all if none is named) but these; how many webhooks were tried."""
        desk = self._desk
        tried, until = 0, desk.leased()
        async with tx(desk.engine) as connection:
            rows = await store.claim(
                connection,
                webhooks,
                desk.book,
                rails=rails,
                but=but,
                now=desk.clock.now(),
                until=until,
                limit=EVENTS_PER_STEP,
            )
        for named, told in _by_object(store.read_webhook(row) for row in rows).items():
            if desk.clock.now() >= until:
                break  # a silent provider: what is left is due again
            await self._hear(*named, told)
            tried += len(told)
        return tried

    async def look_through(self, *, rails: Collection[str] = ()) -> int:
        """Take disputes and refunds from the lists of `rails` (all if none is named), where it's time to.

        Disputes of the last months are read again too: a decision may have been turned, and its webhook lost. Returns
        how many were new in them.
        """
        taken = 0
        for rail in self._desk.rails.named(rails):
            try:
                taken += await self._look_at(rail)
            except OnebookError as error:  # one that is away keeps nobody from the others
                log.warning("lists not read", rail=rail.name, code=error.code, reason=error.message)
        return taken

    async def _look_at(self, rail: Rail) -> int:
        taken = 0
        if Capability.DISPUTE in rail.capabilities and await self._is_time(rail.name, "disputes"):
            for dispute in await self._disputes.list_all(limit=RECENT_MAX):
                if dispute.rail == rail.name and self._desk.clock.now() - dispute.created_at < WATCHED:
                    await self._take(ObjectKind.DISPUTE, rail.name, dispute.source)
            taken += await self._look_through(rail.name, "disputes", ObjectKind.DISPUTE, rail.list_disputes)
        if Capability.REFUND in rail.capabilities and await self._is_time(rail.name, "refunds"):
            taken += await self._look_through(rail.name, "refunds", ObjectKind.REFUND, rail.list_refunds)
        return taken

    async def _hear(self, rail: str, kind: ObjectKind, object: str, told: list[Webhook]) -> None:
        """One look serves all webhooks about the object."""
        hear = self._hears.get(kind)
        reference = next((webhook.reference for webhook in told if webhook.reference), None)
        error: OnebookError | None = None
        try:
            if hear is not None:
                await hear(rail, object, reference)
        except OnebookError as problem:
            error = problem
            log.warning("webhook without effect yet", rail=rail, object=object, code=problem.code)
        desk, now = self._desk, self._desk.clock.now()
        async with tx(desk.engine) as connection:
            for webhook in told:
                if error is None:
                    await store.end_webhook(
                        connection, desk.book, webhook.id, state=WebhookState.DONE, code=None, now=now
                    )
                    continue
                dead = webhook.attempts + 1 >= TRIES_MAX
                await store.end_webhook(
                    connection,
                    desk.book,
                    webhook.id,
                    state=WebhookState.DEAD if dead else WebhookState.WAITING,
                    code=error.code,
                    now=now,
                    due_at=None if dead else desk.later(webhook.attempts, error),
                )

    async def _is_time(self, rail: str, name: str) -> bool:
        """Whether to look now. Kept before the look begins, so that one that fails isn't begun at once again."""
        desk, now = self._desk, self._desk.clock.now()
        async with tx(desk.engine) as connection:
            cursor, looked_at = await store.load_cursor(connection, desk.book, rail, name) or (None, None)
            if looked_at is not None and now - looked_at < LOOK_EVERY:
                return False
            await store.keep_cursor(connection, desk.book, rail, name, cursor, now)
        return True

    async def _look_through(self, rail: str, name: str, kind: ObjectKind, pages: Pages) -> int:
        """Take what is new in a list. The kept cursor passes only what was taken; from there on all is read again.

        What can't be taken doesn't keep what is behind it from being taken.
        """
        desk, taken, whole = self._desk, 0, True
        async with tx(desk.engine) as connection:
            kept = await store.load_cursor(connection, desk.book, rail, name)
        cursor = None if kept is None else kept[0]
        for _ in range(PAGES_MAX):
            listed = await pages(cursor)
            done = [await self._take(kind, rail, truth.id) for truth in listed.items]
            taken += sum(done)
            cursor, whole = listed.cursor, whole and all(done)
            if whole:
                async with tx(desk.engine) as connection:
                    await store.keep_cursor(connection, desk.book, rail, name, cursor, desk.clock.now())
            if not listed.more:
                break
        return taken

    async def _take(self, kind: ObjectKind, rail: str, source: str) -> bool:
        try:
            await self._hears[kind](rail, source, None)
        except OnebookError as error:
            log.warning("not taken from the provider's list", rail=rail, object=source, code=error.code)
            return False
        return True


def _by_object(told: Iterable[Webhook]) -> Mapping[tuple[str, ObjectKind, str], list[Webhook]]:
    found: dict[tuple[str, ObjectKind, str], list[Webhook]] = defaultdict(list)
    for webhook in told:
        found[webhook.rail, webhook.object_kind, webhook.object].append(webhook)
    return found
