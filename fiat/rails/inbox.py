"""The webhook inbox: what a provider sends is verified, kept once, and answered at once; its effect comes later.

Only where to look is kept (id, kind, object, time), with the body's hash. The body itself has personal data in it, so
it's kept sealed, for 30 days, or not at all where there is no key: `Sealer` is who seals it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from base.errors import NotFound
from base.ids import new_id
from db.engine import Driver, tx
from db.gathering import Gathering
from fiat.rails import store
from fiat.rails.desk import Desk
from fiat.rails.errors import NotInState
from fiat.rails.protocol import RawWebhook
from fiat.rails.records import Webhook, WebhookState
from fiat.rails.sealed import BODIES_KEPT, drop_bodies, load_body
from fiat.rails.tables import webhooks

BODY_BYTES_MAX = 256 * 1024
"""The largest body that is taken; providers' events have a few kilobytes."""

_TEXT_MAX = 255

_INSERT = """
INSERT INTO fiat_webhooks (book, rail, event, id, kind, object_kind, object, reference, state, body_sha256, body_sealed,
                           occurred_at, received_at, due_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                     array_fill('waiting'::text, ARRAY[cardinality($1::text[])]), $9::bytea[], $10::bytea[],
                     $11::timestamptz[], $12::timestamptz[], $12::timestamptz[])
ON CONFLICT (book, rail, event) DO NOTHING
RETURNING id
"""


class Sealer(Protocol):
    """Encrypts personal data for one row."""

    def seal(self, plain: bytes, *, book: str, row: str) -> bytes:
        """Only who has the key, and asks for the same row, reads it again."""
        ...

    def open(self, sealed: bytes, *, book: str, row: str) -> bytes:
        """What was sealed for this row. Raises PersonalKeyMissing, BrokenInvariant."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A row to be: what a verified webhook says."""

    id: str
    rail: str
    event: str
    kind: str
    object_kind: str
    object: str
    reference: str | None
    body_sha256: bytes
    body_sealed: bytes | None
    occurred_at: datetime
    received_at: datetime


class Inbox:
    """Takes webhooks in. Those that come together are kept together, in one statement."""

    def __init__(self, desk: Desk, *, sealer: Sealer | None = None) -> None:
        self._desk = desk
        self._sealer = sealer
        self._gathering: Gathering[Received, bool] = Gathering(desk.engine, self._keep)

    async def receive(self, rail: str, webhook: RawWebhook) -> bool:
        """Keep it, unless it's known; whether it was new. It's durable when this returns.

        Raises UnknownRail, WebhookRefused with nothing kept, Unavailable (the provider sends it again).
        """
        desk, now = self._desk, self._desk.clock.now()
        event = await desk.rails.get(rail).verify(webhook, now=now)
        id = new_id("whk", desk.clock, desk.entropy)
        sealed = None if self._sealer is None else self._sealer.seal(webhook.body, book=desk.book, row=id)
        row = Received(
            id=id,
            rail=rail,
            event=event.id[:_TEXT_MAX],
            kind=event.kind[:_TEXT_MAX],
            object_kind=event.object_kind.value,
            object=event.object[:_TEXT_MAX],
            reference=event.reference,
            body_sha256=hashlib.sha256(webhook.body).digest(),
            body_sealed=sealed,
            occurred_at=event.occurred_at,
            received_at=now,
        )
        return bool(await self._gathering.ask(row))

    async def list_all(
        self,
        *,
        state: WebhookState | None = None,
        before: str | None = None,
        after: str | None = None,
        limit: int = 50,
    ) -> list[Webhook]:
        """What came in, newest first (oldest first with `after`)."""
        async with tx(self._desk.engine) as connection:
            return await store.list_webhooks(
                connection, self._desk.book, state=state, before=before, after=after, limit=limit
            )

    async def get(self, webhook: str) -> Webhook:
        """The webhook with this id. Raises NotFound."""
        async with tx(self._desk.engine) as connection:
            row = await store.load(connection, webhooks, self._desk.book, webhook)
        if row is None:
            raise NotFound(f"there is no webhook {webhook[:40]!r}", param="webhook")
        return store.read_webhook(row)

    async def body(self, webhook: str) -> bytes | None:
        """The very bytes that came, for who looks at a dead letter; None where they aren't kept, or not any more.

        Raises NotFound, PersonalKeyMissing.
        """
        found = await self.get(webhook)
        async with tx(self._desk.engine) as connection:
            sealed = await load_body(connection, self._desk.book, found.id)
        if sealed is None or self._sealer is None:
            return None
        return self._sealer.open(sealed, book=self._desk.book, row=found.id)

    async def drop_bodies(self) -> int:
        """Drop the bodies that were kept long enough; how many."""
        before = self._desk.clock.now() - BODIES_KEPT
        async with tx(self._desk.engine) as connection:
            return await drop_bodies(connection, self._desk.book, before=before)

    async def retry(self, webhook: str) -> Webhook:
        """Try a dead letter's effect again, from the first try on. Raises NotFound, NotInState."""
        desk, now = self._desk, self._desk.clock.now()
        async with tx(desk.engine) as connection:
            row = await store.load(connection, webhooks, desk.book, webhook)
            if row is None:
                raise NotFound(f"there is no webhook {webhook[:40]!r}", param="webhook")
            found = store.read_webhook(row)
            if found.state is WebhookState.DONE:
                raise NotInState("its effect has come already", code="webhook_done", state=found.state.value)
            await store.end_webhook(
                connection,
                desk.book,
                webhook,
                state=WebhookState.WAITING,
                code=None,
                now=now,
                due_at=now,
                tried=False,
            )
        return replace(found, state=WebhookState.WAITING, attempts=0, code=None)

    async def dead(self) -> int:
        """How many wait for a person."""
        async with tx(self._desk.engine) as connection:
            return await store.count_dead(connection, self._desk.book)

    async def aclose(self) -> None:
        await self._gathering.aclose()

    async def _keep(self, driver: Driver, rows: Sequence[Received]) -> Mapping[Received, bool]:
        names = ("rail", "event", "id", "kind", "object_kind", "object", "reference", "body_sha256", "body_sealed")
        columns = [[getattr(row, name) for row in rows] for name in (*names, "occurred_at", "received_at")]
        kept = {record["id"] for record in await driver.fetch(_INSERT, [self._desk.book] * len(rows), *columns)}
        return {row: row.id in kept for row in rows}
