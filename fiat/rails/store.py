"""Rows of the payment providers' rails: the only SQL about them. What commits with an entry is written by riders."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, Table, and_, case, func, literal_column, or_, select, union_all, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from fiat.bank.lines import Direction
from fiat.bank.records import BankLine, LineState
from fiat.payouts import OUTSIDE
from fiat.personal import Vault
from fiat.rails.dispute_states import DisputeState
from fiat.rails.protocol import Action, ActionKind, Capturing, EntryKind, ObjectKind
from fiat.rails.records import Dispute, Ending, KeptEntry, PaymentMethod, Refund, Settlement, Webhook, WebhookState
from fiat.rails.refund_states import RefundOrigin, RefundState
from fiat.rails.sealed import METHOD_FIELDS
from fiat.rails.settlement_states import Difference, SettlementState
from fiat.rails.tables import (
    disputes,
    payment_methods,
    rail_cursors,
    refunds,
    settlement_entries,
    settlements,
    webhooks,
)
from fiat.rails.top_up_states import TopUpState
from fiat.store import read_line
from fiat.tables import lines, payouts, top_ups
from fiat.top_ups import TopUp

# What all have in common


def page(table: Table, book: str, *, before: str | None, after: str | None, limit: int) -> Select[Any]:
    """Rows of the book by id: newest first, or oldest first with `after`."""
    query = select(table).where(table.c.book == book).limit(limit)
    if after is not None:
        return query.where(table.c.id > after).order_by(table.c.id)
    return (query if before is None else query.where(table.c.id < before)).order_by(table.c.id.desc())


async def change(
    connection: AsyncConnection, table: Table, book: str, id: str, revision: int, values: Mapping[str, object]
) -> bool:
    """Change a row unless somebody else did since `revision`; whether it was changed."""
    is_it = (table.c.book == book) & (table.c.id == id) & (table.c.revision == revision)
    done = await connection.execute(update(table).where(is_it).values(**values, revision=revision + 1))
    return bool(done.rowcount)


async def put_off(connection: AsyncConnection, table: Table, book: str, id: str, due_at: datetime) -> None:
    """Look at a row later, unless it needs no look any more."""
    is_it = (table.c.book == book) & (table.c.id == id) & table.c.due_at.is_not(None)
    await connection.execute(update(table).where(is_it).values(due_at=due_at, attempts=table.c.attempts + 1))


async def claim(
    connection: AsyncConnection,
    table: Table,
    book: str,
    *,
    rails: Collection[str] = (),
    but: Collection[str] = (),
    now: datetime,
    until: datetime,
    limit: int,
) -> list[Row[Any]]:
    """Rows that are due, put off to `until` so that nobody else takes them meanwhile.

    Those of `rails` (all if none is named), without those of `but`.
    """
    due = select(table.c.id).where(table.c.book == book, table.c.due_at <= now)
    if rails:
        due = due.where(table.c.rail.in_(list(rails)))
    if but:
        due = due.where(table.c.rail.not_in(list(but)))
    due = due.order_by(table.c.due_at).limit(limit).with_for_update(skip_locked=True)
    taken = update(table).where(table.c.book == book, table.c.id.in_(due)).values(due_at=until).returning(*table.c)
    return sorted((await connection.execute(taken)).all(), key=lambda row: row.id)


async def load(connection: AsyncConnection, table: Table, book: str, id: str) -> Row[Any] | None:
    return (await connection.execute(select(table).where(table.c.book == book, table.c.id == id))).one_or_none()


async def load_by_source(
    connection: AsyncConnection, table: Table, book: str, rail: str, source: str
) -> Row[Any] | None:
    is_it = (table.c.book == book) & (table.c.rail == rail) & (table.c.source == source)
    return (await connection.execute(select(table).where(is_it))).one_or_none()


def _plain(kind: type, row: Row[Any]) -> dict[str, Any]:
    return {field.name: row._mapping[field.name] for field in fields(kind) if field.name in row._mapping}


# Top-ups


def read_top_up(row: Row[Any]) -> TopUp:
    values = _plain(TopUp, row)
    values["state"] = TopUpState(row.state)
    values["capturing"] = Capturing(row.capturing)
    values["action"] = None if row.action_kind is None else Action(ActionKind(row.action_kind), row.action_value)
    return TopUp(**values)


async def load_top_up(connection: AsyncConnection, book: str, top_up: str) -> TopUp | None:
    row = await load(connection, top_ups, book, top_up)
    return None if row is None else read_top_up(row)


async def find_top_up(connection: AsyncConnection, book: str, rail: str, payment: str) -> TopUp | None:
    """The top-up whose payment or capture the provider calls so."""
    is_it = or_(top_ups.c.source == payment, top_ups.c.capture_source == payment)
    query = select(top_ups).where(top_ups.c.book == book, top_ups.c.rail == rail, is_it)
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else read_top_up(row)


async def list_top_ups(
    connection: AsyncConnection,
    book: str,
    owner: str,
    *,
    before: str | None = None,
    after: str | None = None,
    limit: int,
) -> list[TopUp]:
    query = page(top_ups, book, before=before, after=after, limit=limit).where(top_ups.c.owner == owner)
    return [read_top_up(row) for row in await connection.execute(query)]


# Refunds


def read_refund(row: Row[Any]) -> Refund:
    values = _plain(Refund, row)
    values |= {"state": RefundState(row.state), "origin": RefundOrigin(row.origin)}
    return Refund(**values | {"ending": None if row.ending is None else Ending(row.ending)})


async def list_any_refunds(
    connection: AsyncConnection,
    book: str,
    *,
    states: Sequence[RefundState],
    before: str | None,
    after: str | None,
    limit: int,
) -> list[Refund]:
    """Refunds of all users, in these states (all if none is named)."""
    query = page(refunds, book, before=before, after=after, limit=limit)
    if list(states) == [RefundState.UNKNOWN]:
        query = query.where(refunds.c.state == literal_column("'unknown'"))  # not bound: its index has no others
    elif states:
        query = query.where(refunds.c.state.in_([state.value for state in states]))
    return [read_refund(row) for row in await connection.execute(query)]


async def list_refunds(
    connection: AsyncConnection, book: str, top_up: str, *, before: str | None, after: str | None, limit: int
) -> list[Refund]:
    query = page(refunds, book, before=before, after=after, limit=limit).where(refunds.c.top_up == top_up)
    return [read_refund(row) for row in await connection.execute(query)]


# Disputes


def read_dispute(row: Row[Any]) -> Dispute:
    return Dispute(**_plain(Dispute, row) | {"state": DisputeState(row.state)})


async def list_disputes(
    connection: AsyncConnection,
    book: str,
    *,
    states: Sequence[DisputeState],
    before: str | None,
    after: str | None,
    limit: int,
) -> list[Dispute]:
    query = page(disputes, book, before=before, after=after, limit=limit)
    if states:
        query = query.where(disputes.c.state.in_([state.value for state in states]))
    return [read_dispute(row) for row in await connection.execute(query)]


async def load_disputes(connection: AsyncConnection, book: str, rail: str, source: str) -> list[Dispute]:
    """The provider's dispute, once for each top-up that it is over, the first one first."""
    is_it = (disputes.c.book == book) & (disputes.c.rail == rail) & (disputes.c.source == source)
    found = await connection.execute(select(disputes).where(is_it).order_by(disputes.c.id))
    return [read_dispute(row) for row in found]


async def withdrawn_of(connection: AsyncConnection, book: str, top_up: str) -> int:
    """How much of a top-up the provider has taken for disputes as of now, as booked."""
    is_it = (disputes.c.book == book) & (disputes.c.top_up == top_up)
    query = select(func.coalesce(func.sum(disputes.c.withdrawn), 0)).where(is_it)
    return int((await connection.execute(query)).scalar_one())


# Settlements


def read_settlement(row: Row[Any]) -> Settlement:
    return Settlement(**_plain(Settlement, row) | {"state": SettlementState(row.state)})


async def list_settlements(
    connection: AsyncConnection, book: str, *, before: str | None, after: str | None, limit: int
) -> list[Settlement]:
    found = await connection.execute(page(settlements, book, before=before, after=after, limit=limit))
    return [read_settlement(row) for row in found]


async def unread_settlements(
    connection: AsyncConnection, book: str, rail: str, *, but: Iterable[str], limit: int
) -> list[Settlement]:
    """Those whose entries weren't read yet, without these."""
    c = settlements.c
    query = select(settlements).where(
        c.book == book,
        c.rail == rail,
        c.entries.is_(None),
        c.id.not_in(list(but)),
    )
    return [read_settlement(row) for row in await connection.execute(query.order_by(c.id).limit(limit))]


async def keep_entries(connection: AsyncConnection, book: str, settlement: str, entries: Iterable[KeptEntry]) -> None:
    rows = [
        {"book": book, "settlement": settlement} | {field.name: getattr(entry, field.name) for field in fields(entry)}
        for entry in entries
    ]
    if rows:
        await connection.execute(insert(settlement_entries).values(rows).on_conflict_do_nothing())


async def load_entries(connection: AsyncConnection, book: str, settlement: str, *, limit: int) -> list[KeptEntry]:
    query = select(settlement_entries).where(
        settlement_entries.c.book == book, settlement_entries.c.settlement == settlement
    )
    query = query.order_by(settlement_entries.c.difference.is_(None), settlement_entries.c.at, settlement_entries.c.id)
    return [
        KeptEntry(
            **_plain(KeptEntry, row)
            | {
                "kind": EntryKind(row.kind),
                "difference": None if row.difference is None else Difference(row.difference),
            }
        )
        for row in await connection.execute(query.limit(limit))
    ]


async def suspended_lines(
    connection: AsyncConnection, vault: Vault, book: str, *, asset: str, amount: int, limit: int
) -> list[BankLine]:
    """Money in of this amount that waits in suspense (out, of a negative one), the oldest first."""
    c = lines.c
    query = select(lines).where(
        c.book == book,
        c.state == LineState.SUSPENDED.value,
        c.direction == (Direction.CREDIT if amount > 0 else Direction.DEBIT).value,
        c.asset == asset,
        c.amount == abs(amount),
    )
    found = await connection.execute(query.order_by(c.recorded_at, c.id).limit(limit))
    return [read_line(row, vault) for row in found]


async def lines_of_amounts_on_their_way(
    connection: AsyncConnection, vault: Vault, book: str, *, accounts: Sequence[str], limit: int
) -> list[tuple[Settlement, BankLine]]:
    """Settlements on their way with each line of these accounts, in suspense, that has their asset and amount.

    Money in for what the provider paid out to us, money out for what it took (a negative settlement).
    """
    c = lines.c
    same = (c.book == settlements.c.book) & (c.asset == settlements.c.asset)
    same &= c.amount == func.abs(settlements.c.amount)
    side = case((settlements.c.amount > 0, Direction.CREDIT.value), else_=Direction.DEBIT.value)
    query = (
        select(settlements.c.id.label("of"), lines)
        .join(settlements, same)
        .where(
            settlements.c.book == book,
            settlements.c.state == literal_column("'sent'"),  # not bound: the index has no others
            c.state == literal_column("'suspended'"),
            c.direction == side,
            c.account.in_(accounts),
        )
        .limit(limit)
    )
    found = (await connection.execute(query)).all()
    wanted = select(settlements).where(settlements.c.book == book, settlements.c.id.in_({row.of for row in found}))
    known = {row.id: read_settlement(row) for row in await connection.execute(wanted)} if found else {}
    return [(known[row.of], read_line(row, vault)) for row in found]


# Balances


async def payouts_outside(connection: AsyncConnection, book: str, rail: str) -> dict[str, int]:
    """By asset, how many payouts the provider may have and hasn't ended."""
    c = payouts.c
    query = (
        select(c.asset, func.count())
        .where(c.book == book, c.rail == rail, c.state.in_([state.value for state in OUTSIDE]))
        .group_by(c.asset)
    )
    return {row[0]: row[1] for row in await connection.execute(query)}


async def last_moved(connection: AsyncConnection, book: str, rail: str) -> datetime | None:
    """When anything of this rail last changed here."""
    of = [
        select(func.max(table.c.updated_at).label("at")).where(table.c.book == book, table.c.rail == rail)
        for table in (top_ups, refunds, disputes, settlements, payouts)
    ]
    found: datetime | None = (await connection.execute(select(func.max(union_all(*of).subquery().c.at)))).scalar_one()
    return found


# Saved methods


def read_method(row: Row[Any], vault: Vault) -> PaymentMethod:
    values = _plain(PaymentMethod, row)
    if row.personal is not None:
        opened = vault.open(bytes(row.personal), book=row.book, table=payment_methods.name, row=row.id)
        values |= {name: opened.get(name) for name in METHOD_FIELDS}
    return PaymentMethod(**values)


async def load_method(
    connection: AsyncConnection, vault: Vault, book: str, owner: str, method: str
) -> PaymentMethod | None:
    row = await load(connection, payment_methods, book, method)
    return None if row is None or row.removed or row.owner != owner else read_method(row, vault)


async def list_methods(
    connection: AsyncConnection,
    vault: Vault,
    book: str,
    owner: str,
    *,
    before: str | None,
    after: str | None,
    limit: int,
) -> list[PaymentMethod]:
    query = page(payment_methods, book, before=before, after=after, limit=limit)
    query = query.where(payment_methods.c.owner == owner, ~payment_methods.c.removed)
    return [read_method(row, vault) for row in await connection.execute(query)]


async def customer_of(connection: AsyncConnection, vault: Vault, book: str, owner: str, rail: str) -> str | None:
    """What the provider calls this user, where it was told before: each method of a rail has it, or none."""
    c = payment_methods.c
    query = select(payment_methods).where(c.book == book, c.owner == owner, c.rail == rail)
    row = (await connection.execute(query.order_by(c.id).limit(1))).one_or_none()
    return None if row is None else read_method(row, vault).customer


async def remove_method(connection: AsyncConnection, book: str, method: str) -> None:
    is_it = (payment_methods.c.book == book) & (payment_methods.c.id == method)
    await connection.execute(update(payment_methods).where(is_it).values(removed=True))


# Webhooks


def read_webhook(row: Row[Any]) -> Webhook:
    values = _plain(Webhook, row)
    return Webhook(**values | {"object_kind": ObjectKind(row.object_kind), "state": WebhookState(row.state)})


async def list_webhooks(
    connection: AsyncConnection,
    book: str,
    *,
    state: WebhookState | None,
    before: str | None,
    after: str | None,
    limit: int,
) -> list[Webhook]:
    query = page(webhooks, book, before=before, after=after, limit=limit)
    if state is not None:
        query = query.where(webhooks.c.state == state.value)
    return [read_webhook(row) for row in await connection.execute(query)]


async def end_webhook(
    connection: AsyncConnection,
    book: str,
    webhook: str,
    *,
    state: WebhookState,
    code: str | None,
    now: datetime,
    due_at: datetime | None = None,
    tried: bool = True,
) -> None:
    """What came of a try."""
    is_it = (webhooks.c.book == book) & (webhooks.c.id == webhook)
    values = {
        "state": state.value,
        "code": code,
        "due_at": due_at,
        "done_at": now if state is WebhookState.DONE else None,
        "attempts": webhooks.c.attempts + 1 if tried else 0,
    }
    await connection.execute(update(webhooks).where(is_it).values(values))


async def count_dead(connection: AsyncConnection, book: str) -> int:
    is_it = and_(webhooks.c.book == book, webhooks.c.state == WebhookState.DEAD.value)
    return int((await connection.execute(select(func.count()).select_from(webhooks).where(is_it))).scalar_one())


# Cursors


async def load_cursor(
    connection: AsyncConnection, book: str, rail: str, name: str
) -> tuple[str | None, datetime] | None:
    """Where a provider's list goes on, and when it was last looked at."""
    is_it = (rail_cursors.c.book == book) & (rail_cursors.c.rail == rail) & (rail_cursors.c.list == name)
    row = (await connection.execute(select(rail_cursors).where(is_it))).one_or_none()
    return None if row is None else (row.cursor, row.looked_at)


async def keep_cursor(
    connection: AsyncConnection, book: str, rail: str, name: str, cursor: str | None, now: datetime
) -> None:
    row = {"book": book, "rail": rail, "list": name, "cursor": cursor, "looked_at": now}
    kept = insert(rail_cursors).values(row)
    await connection.execute(
        kept.on_conflict_do_update(index_elements=["book", "rail", "list"], set_={"cursor": cursor, "looked_at": now})
    )
