"""The SQL of payouts and their batches, for every rail. Rows that commit with an entry are the ledger's riders."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as insert_or
from sqlalchemy.ext.asyncio import AsyncConnection

from fiat.payouts import BatchState, Payout, PayoutBatch, PayoutState, ProviderRecipient, Recipient
from fiat.personal import Vault
from fiat.tables import payout_batches, payout_memories, payouts

_PAYOUTS = payouts.name


def seal(vault: Vault, book: str, payout: str, recipient: Recipient | ProviderRecipient) -> bytes:
    """The recipient as its row keeps it."""
    match recipient:
        case Recipient():
            personal = {"name": recipient.name, "iban": recipient.iban}
        case ProviderRecipient():
            personal = {"address": recipient.address}
    return vault.seal(personal, book=book, table=_PAYOUTS, row=payout)


async def load(connection: AsyncConnection, vault: Vault, book: str, payout: str) -> Payout | None:
    row = (
        await connection.execute(select(payouts).where(payouts.c.book == book, payouts.c.id == payout))
    ).one_or_none()
    return _payout(row, vault) if row else None


async def load_all(connection: AsyncConnection, vault: Vault, book: str, ids: Iterable[str]) -> dict[str, Payout]:
    """Those of these payouts that are there, by id."""
    wanted = list(ids)
    if not wanted:
        return {}
    query = select(payouts).where(payouts.c.book == book, payouts.c.id.in_(wanted))
    return {row.id: _payout(row, vault) for row in await connection.execute(query)}


async def list_payouts(
    connection: AsyncConnection,
    vault: Vault,
    book: str,
    *,
    owner: str | None = None,
    state: PayoutState | None = None,
    before: str | None = None,
    after: str | None = None,
    limit: int = 50,
) -> list[Payout]:
    """Payouts, of an owner or in a state, newest first; oldest first with `after`. `before` and `after` are ids."""
    query = select(payouts).where(payouts.c.book == book)
    if owner is not None:
        query = query.where(payouts.c.owner == owner)
    if state is not None:
        query = query.where(payouts.c.state == state.value)
    query = _page(query, payouts.c.id, before, after)
    return [_payout(row, vault) for row in await connection.execute(query.limit(limit))]


# Batches


async def list_batches(
    connection: AsyncConnection, book: str, *, before: str | None = None, after: str | None = None, limit: int = 50
) -> list[PayoutBatch]:
    """Batches, newest first; oldest first with `after`."""
    query = _page(select(payout_batches).where(payout_batches.c.book == book), payout_batches.c.id, before, after)
    return [_batch(row) for row in await connection.execute(query.limit(limit))]


async def load_batches(connection: AsyncConnection, book: str, ids: Iterable[str]) -> dict[str, PayoutBatch]:
    """Those of these batches that are there, by id."""
    wanted = list(ids)
    if not wanted:
        return {}
    query = select(payout_batches).where(payout_batches.c.book == book, payout_batches.c.id.in_(wanted))
    return {row.id: _batch(row) for row in await connection.execute(query)}


async def members(connection: AsyncConnection, vault: Vault, book: str, batches: Iterable[str]) -> list[Payout]:
    """The payouts of these batches, by id: the order in which they are submitted."""
    wanted = list(batches)
    if not wanted:
        return []
    query = select(payouts).where(payouts.c.book == book, payouts.c.batch.in_(wanted)).order_by(payouts.c.id)
    return [_payout(row, vault) for row in await connection.execute(query)]


async def prepared(connection: AsyncConnection, book: str, rail: str, *, limit: int) -> list[PayoutBatch]:
    """Batches whose act isn't known to be done, oldest first."""
    query = (
        select(payout_batches)
        .where(
            payout_batches.c.book == book,
            payout_batches.c.rail == rail,
            payout_batches.c.state == BatchState.PREPARED.value,
        )
        .order_by(payout_batches.c.id)
        .limit(limit)
    )
    return [_batch(row) for row in await connection.execute(query)]


async def requested(
    connection: AsyncConnection,
    vault: Vault,
    book: str,
    rail: str,
    account: str,
    asset: str,
    *,
    besides: Sequence[str],
    limit: int,
) -> list[Payout]:
    """Requested payouts of one of our accounts, oldest first, locked so that nobody else batches or cancels them.

    `besides`: not of these owners.
    """
    query = (
        select(payouts)
        .where(
            payouts.c.book == book,
            payouts.c.rail == rail,
            payouts.c.account == account,
            payouts.c.asset == asset,
            payouts.c.state == PayoutState.REQUESTED.value,
            payouts.c.owner.not_in(besides),
        )
        .order_by(payouts.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return [_payout(row, vault) for row in await connection.execute(query)]


async def begin_batch(connection: AsyncConnection, book: str, batch: PayoutBatch, of: Sequence[Payout]) -> None:
    """Write the batch down and put its payouts into it: `submitting` from here on. Their rows are locked."""
    values: dict[str, object] = {field.name: getattr(batch, field.name) for field in fields(batch)}
    values |= {"rail": batch.rail, "state": batch.state.value}
    await connection.execute(insert(payout_batches).values(book=book, **values))
    change = (
        update(payouts)
        .where(
            payouts.c.book == book,
            payouts.c.id.in_([payout.id for payout in of]),
            payouts.c.state == PayoutState.REQUESTED.value,
        )
        .values(state=PayoutState.SUBMITTING.value, batch=batch.id, updated_at=batch.created_at)
    )
    await connection.execute(change)


async def end_batch(
    connection: AsyncConnection, book: str, batch: PayoutBatch, to: BatchState, *, now: datetime, reason: str | None
) -> None:
    """Note what became of the act, unless that is noted; and of its payouts that no evidence has moved on since."""
    is_it = (payout_batches.c.book == book) & (payout_batches.c.id == batch.id)
    change = update(payout_batches).where(is_it, payout_batches.c.state == BatchState.PREPARED.value)
    await connection.execute(change.values(state=to.value, reason=reason, updated_at=now))
    state = PayoutState.SUBMITTED if to is BatchState.SUBMITTED else PayoutState.UNKNOWN
    of = (payouts.c.book == book) & (payouts.c.batch == batch.id)
    change = update(payouts).where(of, payouts.c.state == PayoutState.SUBMITTING.value)
    await connection.execute(change.values(state=state.value, updated_at=now))


async def silent_since(connection: AsyncConnection, book: str, rail: str, before: datetime, *, limit: int) -> int:
    """Submitted payouts of which nothing was heard since `before` become unknown; how many."""
    of = (
        select(payouts.c.id)
        .where(
            payouts.c.book == book,
            payouts.c.rail == rail,
            payouts.c.state == PayoutState.SUBMITTED.value,
            payouts.c.updated_at < before,
        )
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    ids = list((await connection.execute(of)).scalars())
    if ids:
        change = update(payouts).where(payouts.c.book == book, payouts.c.id.in_(ids))
        await connection.execute(change.values(state=PayoutState.UNKNOWN.value))
    return len(ids)


async def begin_looks(
    connection: AsyncConnection,
    vault: Vault,
    book: str,
    rails: Sequence[str],
    *,
    now: datetime,
    until: datetime,
    limit: int,
) -> list[Payout]:
    """Payouts over these rails whose provider is to be asked again, the longest due first; `until` they are ours.

    Those whose batch is noted and that nobody has asked of yet are due, too.
    """
    new = payouts.c.due_at.is_(None) & payouts.c.state.in_([state.value for state in _WAITING])
    due = (
        select(payouts.c.id)
        .where(payouts.c.book == book, payouts.c.rail.in_(rails), new | (payouts.c.due_at <= now))
        .order_by(payouts.c.due_at.nulls_first(), payouts.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    ids = list((await connection.execute(due)).scalars())
    change = update(payouts).where(payouts.c.book == book, payouts.c.id.in_(ids)).values(due_at=until)
    return [_payout(row, vault) for row in await connection.execute(change.returning(payouts))]


async def look_again(connection: AsyncConnection, book: str, payout: str, due_at: datetime | None) -> None:
    change = update(payouts).where(payouts.c.book == book, payouts.c.id == payout)
    await connection.execute(change.values(due_at=due_at))


async def waits_outside(
    connection: AsyncConnection,
    book: str,
    payout: Payout,
    *,
    source: str,
    reason: str | None,
    detail: str | None,
    now: datetime,
) -> None:
    """Its provider has it and hasn't ended it: `submitted`, if it still is where it was read."""
    change = update(payouts).where(
        payouts.c.book == book, payouts.c.id == payout.id, payouts.c.state == payout.state.value
    )
    told = {"state": PayoutState.SUBMITTED.value, "source": source, "reason": reason, "detail": detail}
    await connection.execute(change.values(updated_at=now, **told))


async def accept(connection: AsyncConnection, book: str, ids: Iterable[str], *, now: datetime) -> int:
    """Note that the rail said it will pay these, where they are outside and that isn't noted; how many."""
    of = update(payouts).where(
        payouts.c.book == book,
        payouts.c.id.in_(list(ids)),
        payouts.c.accepted_at.is_(None),
        payouts.c.state.in_([state.value for state in (PayoutState.SUBMITTING, *_WAITING)]),
    )
    changed = await connection.execute(of.values(accepted_at=now, updated_at=now).returning(payouts.c.id))
    return len(changed.all())


_WAITING = (PayoutState.SUBMITTED, PayoutState.UNKNOWN)


async def announce(connection: AsyncConnection, book: str, reasons: Mapping[str, str | None], *, now: datetime) -> int:
    """Note why these come back, or came back, where no reason is noted yet; how many."""
    noted = 0
    for payout, reason in reasons.items():
        change = update(payouts).where(
            payouts.c.book == book,
            payouts.c.id == payout,
            payouts.c.reason.is_(None),
            payouts.c.state.in_([state.value for state in (*_WAITING, PayoutState.PAID, PayoutState.RETURNED)]),
        )
        changed = await connection.execute(change.values(reason=reason, updated_at=now).returning(payouts.c.id))
        noted += len(changed.all())
    return noted


async def waiting_with(connection: AsyncConnection, book: str, rail: str) -> list[tuple[str, str, int, datetime]]:
    """(account, asset, how many, the oldest's creation) of requested payouts."""
    query = (
        select(payouts.c.account, payouts.c.asset, func.count(), func.min(payouts.c.created_at))
        .where(payouts.c.book == book, payouts.c.rail == rail, payouts.c.state == PayoutState.REQUESTED.value)
        .group_by(payouts.c.account, payouts.c.asset)
        .order_by(payouts.c.account, payouts.c.asset)
    )
    return [(row[0], row[1], int(row[2]), row[3]) for row in await connection.execute(query)]


async def known_batches(connection: AsyncConnection, book: str, ids: Iterable[str]) -> set[str]:
    query = select(payout_batches.c.id).where(payout_batches.c.book == book, payout_batches.c.id.in_(list(ids)))
    return set((await connection.execute(query)).scalars())


# Memories


@dataclass(frozen=True, slots=True)
class KeptMemory:
    """What the database knows of a rail's memory. `through`: batches until then need not be in it; None: all are.

    `since`: payouts from before were perhaps asked for by a database that isn't there any more; None: none were.
    """

    identity: str
    through: datetime | None
    since: datetime | None


async def load_memory(connection: AsyncConnection, book: str, rail: str) -> KeptMemory | None:
    query = select(payout_memories).where(payout_memories.c.book == book, payout_memories.c.rail == rail)
    row = (await connection.execute(query)).one_or_none()
    return KeptMemory(row.identity, row.through, row.since) if row else None


async def keep_memory(
    connection: AsyncConnection, book: str, rail: str, identity: str, *, through: datetime | None, now: datetime
) -> None:
    """Note the memory's name; with `through` also in place of another one."""
    row = {"book": book, "rail": rail, "identity": identity, "through": through, "updated_at": now}
    noted = insert_or(payout_memories).values(**row)
    if through is None:
        await connection.execute(noted.on_conflict_do_nothing())
        return
    change = {"identity": identity, "through": through, "updated_at": now}
    await connection.execute(noted.on_conflict_do_update(index_elements=payout_memories.primary_key, set_=change))


async def note_database(
    connection: AsyncConnection, book: str, rail: str, here: Any, *, now: datetime
) -> datetime | None:
    """Note which database this is (`here`, an expression); since when, where it's another one than it was."""
    noted = insert_or(payout_memories).values(book=book, rail=rail, identity=here, updated_at=now)
    change = noted.on_conflict_do_update(
        index_elements=payout_memories.primary_key,
        set_={"identity": noted.excluded.identity, "since": now, "updated_at": now},
        where=payout_memories.c.identity != noted.excluded.identity,
    )
    await connection.execute(change)
    kept = await load_memory(connection, book, rail)
    return kept.since if kept else None


async def newest_submitted(
    connection: AsyncConnection, book: str, rail: str, *, after: datetime | None, limit: int
) -> list[str]:
    """The newest batches that are known to be handed over, of those made behind `after`."""
    query = select(payout_batches.c.id).where(
        payout_batches.c.book == book,
        payout_batches.c.rail == rail,
        payout_batches.c.state == BatchState.SUBMITTED.value,
    )
    if after is not None:
        query = query.where(payout_batches.c.created_at > after)
    return list((await connection.execute(query.order_by(payout_batches.c.id.desc()).limit(limit))).scalars())


async def sealed_by_others(
    connection: AsyncConnection, book: str, newest: bytes, *, limit: int
) -> list[tuple[str, bytes]]:
    """(id, sealed recipient) of payouts that the newest key, by the first bytes that it leaves, didn't seal."""
    query = (
        select(payouts.c.id, payouts.c.recipient)
        .where(payouts.c.book == book, func.substring(payouts.c.recipient, 1, len(newest)) != newest)
        .limit(limit)
        .with_for_update()
    )
    return [(row.id, bytes(row.recipient)) for row in await connection.execute(query)]


async def reseal(connection: AsyncConnection, book: str, payout: str, recipient: bytes, mark: str) -> None:
    change = update(payouts).where(payouts.c.book == book, payouts.c.id == payout)
    await connection.execute(change.values(recipient=recipient, recipient_mark=mark))


def _page(query: Select[Any], id: Any, before: str | None, after: str | None) -> Select[Any]:
    if after is not None:
        return query.where(id > after).order_by(id)
    if before is not None:
        query = query.where(id < before)
    return query.order_by(id.desc())


def read_opened(personal: Mapping[str, str]) -> Recipient | ProviderRecipient:
    """The recipient from what was sealed."""
    if "address" in personal:
        return ProviderRecipient(personal["address"])
    return Recipient(name=personal.get("name", ""), iban=personal.get("iban", ""))


def _payout(row: Row[Any], vault: Vault) -> Payout:
    values = {one.name: row._mapping[one.name] for one in fields(Payout) if one.name not in ("recipient", "replayed")}
    opened = vault.open(bytes(row.recipient), book=row.book, table=_PAYOUTS, row=row.id)
    values |= {
        "rail": row.rail,
        "state": PayoutState(row.state),
        "recipient": read_opened(opened),
    }
    return Payout(**values)


def _batch(row: Row[Any]) -> PayoutBatch:
    values = {one.name: row._mapping[one.name] for one in fields(PayoutBatch)}
    values |= {"rail": row.rail, "state": BatchState(row.state)}
    return PayoutBatch(**values)
