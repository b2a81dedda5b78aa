"""The book's SQL: loading what a batch touches, writing what it decided, and the reads behind its questions."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from itertools import groupby
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, bindparam, or_, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from db.tables import metadata
from ledger.accounts import Account
from ledger.canonical import command_terms, evidence_terms, instant_text, leaf_hash
from ledger.commands import (
    BankEvidence,
    ChainEvidence,
    CloseAccount,
    Command,
    Evidence,
    Expire,
    Freeze,
    FreezeScope,
    Group,
    Hold,
    OpenAccount,
    Post,
    SetCreditLine,
    Settle,
    Unfreeze,
    Void,
)
from ledger.engine import Movement, OpenHold
from ledger.errors import BookCorrupt
from ledger.money import Asset, AssetKind
from ledger.outcomes import Kind, Line, LineKind, Outcome, Refusal, Refused
from ledger.riders import Advance, Insert, Rider
from ledger.state import HeldPosting, HoldRecord, HoldState, RowKey, State, row_key
from ledger.tables import accounts, assets, commands, freezes, hold_postings, holds, lines

# Writing


async def lock_book(connection: AsyncConnection, book: str) -> tuple[int, datetime]:
    """Take the book's lock, in a statement of its own, and return its last (seq, booked_at)."""
    row = (
        await connection.execute(text("SELECT seq, booked_at FROM ledger_lock(:book)"), {"book": book})
    ).one_or_none()
    if row is None or row.seq is None:
        raise BookCorrupt(f"there is no book {book!r}: create it with `onebook init`")
    return row.seq, row.booked_at


async def load_state(
    connection: AsyncConnection, book: str, groups: Sequence[Group], *, head: tuple[int, datetime]
) -> State:
    """The part of the book that these groups touch, as the lowest layer for `ledger.core`. Needs the book's lock."""
    said = [command for group in groups for command in group.commands]
    state = State(seq=head[0], booked_at=head[1])
    ids = [command.id for command in said]
    state.outcomes.update((outcome.id, outcome) for outcome in await load_outcomes(connection, book, ids))
    named = {command.hold for command in said if isinstance(command, Settle | Void | Expire)}
    state.holds.update((hold.id, hold) for hold in await _load_holds(connection, book, named))
    touched = {account for command in said for account in _accounts_of(command)}
    touched.update(side for hold in state.holds.values() for p in hold.postings for side in (p.debit, p.credit))
    query = select(accounts).where(accounts.c.book == book, accounts.c.account.in_(touched))
    state.accounts.update((row.account, _account(row)) for row in await connection.execute(query))
    frozen = select(freezes).where(freezes.c.book == book, freezes.c.frozen)
    for row in await connection.execute(frozen):
        state.frozen[FreezeScope(row.scope), row.target] = True
    return state


def _accounts_of(command: Command) -> Iterable[str]:
    match command:
        case OpenAccount() | CloseAccount() | SetCreditLine():
            return (command.account,)
        case Freeze() | Unfreeze():
            return (command.target,) if command.scope is FreezeScope.ACCOUNT else ()
        case Post() | Hold():
            return {
                side
                for posting in command.postings
                for side in (posting.debit, posting.credit, posting.debit_rest, posting.credit_rest)
                if side is not None
            }
        case _:
            return ()


async def load_rows(
    connection: AsyncConnection, riders: Iterable[Rider]
) -> tuple[dict[RowKey, Mapping[str, object] | None], set[RowKey]]:
    """Lock the rows that riders name: (the rows found or None, the keys that another tx has locked)."""
    wanted: dict[str, dict[RowKey, Rider]] = {}
    for rider in riders:
        wanted.setdefault(rider.table, {})[row_key(rider.table, rider.key)] = rider
    rows: dict[RowKey, Mapping[str, object] | None] = {}
    busy: set[RowKey] = set()
    for name, keyed in wanted.items():
        table = metadata.tables[name]
        names = sorted(next(iter(keyed.values())).key)
        columns = [table.c[column] for column in names]
        is_wanted = tuple_(*columns).in_([tuple(value for _, value in key[1]) for key in keyed])
        rows.update(dict.fromkeys(keyed))
        locked = select(table).where(is_wanted).with_for_update(skip_locked=True)
        for row in await connection.execute(locked):
            rows[row_key(name, {column: row._mapping[column] for column in names})] = dict(row._mapping)
        present = {
            row_key(name, dict(zip(names, row, strict=True)))
            for row in await connection.execute(select(*columns).where(is_wanted))
        }
        busy |= {key for key in present if rows[key] is None}
    return rows, busy


async def write_decisions(
    connection: AsyncConnection,
    book: str,
    *,
    head_seq: int,
    layer: State,
    decided: Sequence[tuple[Command, Outcome]],
    salts: Sequence[bytes],
) -> None:
    """Write what the core decided, set-based, through the one function that may. Raises if another tx was first."""
    payload = {
        "commands": [
            _command_row(book, command, outcome, salt) for (command, outcome), salt in zip(decided, salts, strict=True)
        ],
        "accounts": [_texts(asdict(account)) for account in layer.accounts.values()],
        "lines": [
            {"seq": outcome.seq, "line": number, **_texts(asdict(line))}
            for _, outcome in decided
            for number, line in enumerate(outcome.lines)
        ],
        "holds": [
            {"hold": hold.id, "state": hold.state, "expires_at": instant_text(hold.expires_at)}
            for hold in layer.holds.values()
        ],
        "hold_postings": [
            {"hold": hold.id, "posting": index, **_texts(asdict(posting))}
            for hold in layer.holds.values()
            for index, posting in enumerate(hold.postings)
        ],
        "freezes": [
            {"scope": scope, "target": target, "frozen": frozen} for (scope, target), frozen in layer.frozen.items()
        ],
    }
    await connection.execute(
        text("SELECT ledger_write(:book, :head_seq, CAST(:booked_at AS timestamptz), CAST(:payload AS jsonb))"),
        {"book": book, "head_seq": head_seq, "booked_at": layer.booked_at, "payload": json.dumps(payload)},
    )


def _command_row(book: str, command: Command, outcome: Outcome, salt: bytes) -> dict[str, object]:
    evidence = command.evidence
    row: dict[str, object] = {
        "terms": command_terms(command),
        "evidence": evidence_terms(command),
        "effective_at": instant_text(command.effective_at),
        "metadata": dict(command.metadata),
    }
    refusal = outcome.refusal
    row |= {
        "leaf": leaf_hash(book=book, command=row, outcome=outcome, salt=salt).hex(),
        "seq": outcome.seq,
        "id": outcome.id,
        "kind": outcome.kind,
        "subject": outcome.subject,
        "content": outcome.content.hex(),
        "refusal": None if refusal is None else {"code": refusal.code, "facts": _facts_row(refusal.facts)},
        "salt": salt.hex(),
    }
    match evidence:
        case ChainEvidence():
            row |= {
                "network": evidence.network,
                "block_number": evidence.block_number,
                "block_hash": evidence.block_hash,
            }
        case BankEvidence():
            row |= {
                "bank_account": evidence.account,
                "statement": evidence.statement,
                "statement_line": evidence.line,
            }
        case None:
            pass
    return row


def _facts_row(facts: Mapping[str, str | int]) -> dict[str, object]:
    """Facts as JSON that keeps integers of any size: `{"n": "12"}` for numbers, `{"s": "..."}` for text."""
    return {key: {"n": str(value)} if isinstance(value, int) else {"s": str(value)} for key, value in facts.items()}


def _texts(row: dict[str, Any]) -> dict[str, Any]:
    return {
        key: str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        for key, value in row.items()
    }


async def write_riders(connection: AsyncConnection, riders: Iterable[Rider]) -> None:
    """Write accepted riders' rows. The core has compared; the keys were locked or absent under the book's lock.

    Neighbours of one shape go in one round trip; their order is kept, since one may change what another inserted.
    """
    for (kind, name, key, columns), group in groupby(riders, key=_shape):
        table = metadata.tables[name]
        if kind is Insert:
            rows = [{**rider.key, **rider.values} for rider in group if isinstance(rider, Insert)]
            await connection.execute(table.insert(), rows)
            continue
        is_it = and_(*(table.c[column] == bindparam(f"key_{column}") for column in key))
        change = table.update().where(is_it).values({column: bindparam(f"new_{column}") for column in columns})
        advances = [rider for rider in group if isinstance(rider, Advance)]
        rows = [
            {f"key_{column}": value for column, value in rider.key.items()}
            | {f"new_{column}": value for column, value in rider.change.items()}
            for rider in advances
        ]
        await connection.execute(change, rows)


def _shape(rider: Rider) -> tuple[type[Rider], str, tuple[str, ...], tuple[str, ...]]:
    changed = rider.values if isinstance(rider, Insert) else rider.change
    return type(rider), rider.table, tuple(sorted(rider.key)), tuple(sorted(changed))


async def create_book(connection: AsyncConnection, book: str) -> None:
    await connection.execute(text("SELECT ledger_create_book(:book)"), {"book": book})


async def register_asset(connection: AsyncConnection, asset: Asset) -> None:
    await connection.execute(
        text("SELECT ledger_register_asset(:code, :kind, CAST(:scale AS smallint))"),
        {"code": asset.code, "kind": asset.kind.value, "scale": asset.scale},
    )


# Reading


async def load_assets(connection: AsyncConnection) -> dict[str, Asset]:
    rows = await connection.execute(select(assets).order_by(assets.c.asset))
    return {row.asset: Asset(row.asset, AssetKind(row.kind), row.scale) for row in rows}


async def load_outcomes(connection: AsyncConnection, book: str, ids: Sequence[str]) -> list[Outcome]:
    """What was decided on these command ids, with their lines, by seq."""
    query = select(commands).where(commands.c.book == book, commands.c.id.in_(ids)).order_by(commands.c.seq)
    rows = (await connection.execute(query)).all()
    seqs = [row.seq for row in rows]
    query = select(lines).where(lines.c.book == book, lines.c.seq.in_(seqs)).order_by(lines.c.seq, lines.c.line)
    booked: dict[int, list[Line]] = {seq: [] for seq in seqs}
    if seqs:
        for row in await connection.execute(query):
            booked[row.seq].append(line_of(row))
    return [outcome_of(row, tuple(booked[row.seq])) for row in rows]


async def _load_holds(connection: AsyncConnection, book: str, ids: Iterable[str]) -> list[HoldRecord]:
    wanted = list(ids)
    if not wanted:
        return []
    query = select(hold_postings).where(hold_postings.c.book == book, hold_postings.c.hold.in_(wanted))
    postings: dict[str, list[HeldPosting]] = {}
    for row in await connection.execute(query.order_by(hold_postings.c.hold, hold_postings.c.posting)):
        held = HeldPosting(row.debit, row.credit, row.asset, row.amount, row.remaining)
        postings.setdefault(row.hold, []).append(held)
    query = select(holds).where(holds.c.book == book, holds.c.hold.in_(wanted))
    return [
        HoldRecord(row.hold, HoldState(row.state), row.expires_at, tuple(postings[row.hold]))
        for row in await connection.execute(query)
    ]


async def load_accounts(connection: AsyncConnection, book: str, *conditions: ColumnElement[bool]) -> list[Account]:
    query = select(accounts).where(accounts.c.book == book, *conditions).order_by(accounts.c.account)
    return [_account(row) for row in await connection.execute(query)]


async def load_open_holds(connection: AsyncConnection, book: str, owner: str, *, limit: int) -> list[OpenHold]:
    """Holds that debit an account of the owner's and hold something yet, newest first."""
    own = select(accounts.c.account).where(accounts.c.book == book, accounts.c.owner == owner)
    ids = (
        select(hold_postings.c.hold)
        .where(hold_postings.c.book == book, hold_postings.c.debit.in_(own), hold_postings.c.remaining > 0)
        .distinct()
    )
    query = (
        select(commands.c.id, commands.c.subject, commands.c.booked_at)
        .join(holds, and_(holds.c.book == commands.c.book, holds.c.hold == commands.c.id))
        .where(commands.c.book == book, commands.c.id.in_(ids), holds.c.state == HoldState.OPEN)
        .order_by(commands.c.seq.desc())
        .limit(limit)
    )
    rows = (await connection.execute(query)).all()
    records = {record.id: record for record in await _load_holds(connection, book, [row.id for row in rows])}
    return [
        OpenHold(
            row.id,
            row.subject,
            row.booked_at,
            records[row.id].expires_at,
            tuple(posting for posting in records[row.id].postings if posting.remaining),
        )
        for row in rows
    ]


async def load_freezes(connection: AsyncConnection, book: str) -> list[tuple[FreezeScope, str]]:
    query = select(freezes.c.scope, freezes.c.target).where(freezes.c.book == book, freezes.c.frozen)
    return sorted((FreezeScope(row.scope), row.target) for row in await connection.execute(query))


async def load_movements(
    connection: AsyncConnection,
    book: str,
    *,
    owner: str | None,
    account: str | None,
    subject: str | None,
    asset: str | None,
    kinds: Sequence[LineKind],
    since: datetime | None,
    until: datetime | None,
    before: tuple[int, int] | None,
    after: tuple[int, int] | None,
    limit: int,
) -> list[Movement]:
    """One page of journal lines with their commands; see `ledger.engine.Ledger.history`."""
    place = tuple_(lines.c.seq, lines.c.line)
    query = (
        select(lines, commands.c.id, commands.c.kind.label("command_kind"), commands.c.subject)
        .add_columns(commands.c.booked_at, commands.c.evidence, commands.c.metadata)
        .join(commands, and_(commands.c.book == lines.c.book, commands.c.seq == lines.c.seq))
        .where(lines.c.book == book)
    )
    if owner is not None:
        sides = select(accounts.c.account).where(accounts.c.book == book, accounts.c.owner == owner)
        query = query.where(or_(lines.c.debit.in_(sides), lines.c.credit.in_(sides)))
    if account is not None:
        query = query.where(or_(lines.c.debit == account, lines.c.credit == account))
    if subject is not None:
        query = query.where(commands.c.subject == subject)
    if asset is not None:
        query = query.where(lines.c.asset == asset)
    if kinds:
        query = query.where(lines.c.kind.in_(kinds))
    if since is not None:
        query = query.where(commands.c.booked_at >= since)
    if until is not None:
        query = query.where(commands.c.booked_at < until)
    if before is not None:
        query = query.where(place < before)
    if after is not None:
        query = query.where(place > after)
    direction = (lines.c.seq, lines.c.line) if after is not None else (lines.c.seq.desc(), lines.c.line.desc())
    rows = await connection.execute(query.order_by(*direction).limit(limit))
    return [_movement(row) for row in rows]


# Rows to types


def _account(row: Row[Any]) -> Account:
    return Account(
        id=row.account,
        owner=row.owner,
        purpose=row.purpose,
        asset=row.asset,
        limited=row.limited,
        frozen=row.frozen,
        closed=row.closed,
        credit_line=row.credit_line,
        debits_posted=row.debits_posted,
        credits_posted=row.credits_posted,
        debits_pending=row.debits_pending,
        credits_pending=row.credits_pending,
    )


def line_of(row: Row[Any]) -> Line:
    """A stored journal line."""
    return Line(
        kind=LineKind(row.kind),
        debit=row.debit,
        credit=row.credit,
        asset=row.asset,
        amount=row.amount,
        debit_balance=row.debit_balance,
        credit_balance=row.credit_balance,
        hold=row.hold,
        hold_posting=row.hold_posting,
    )


def outcome_of(row: Row[Any], booked: tuple[Line, ...]) -> Outcome:
    """A stored command's outcome with these lines."""
    refusal = None
    if row.refusal is not None:
        facts = {key: int(v["n"]) if "n" in v else v["s"] for key, v in row.refusal["facts"].items()}
        refusal = Refusal(Refused(row.refusal["code"]), facts)
    return Outcome(
        id=row.id,
        seq=row.seq,
        booked_at=row.booked_at,
        kind=Kind(row.kind),
        subject=row.subject,
        content=row.content,
        refusal=refusal,
        lines=booked,
    )


def _evidence(stored: dict[str, Any] | None) -> Evidence | None:
    if stored is None:
        return None
    if "network" in stored:
        return ChainEvidence(**stored | {"block_number": int(stored["block_number"])})
    return BankEvidence(**stored | {"line": int(stored["line"])})


def _movement(row: Row[Any]) -> Movement:
    return Movement(
        seq=row.seq,
        line=row.line,
        booked_at=row.booked_at,
        command=row.id,
        command_kind=Kind(row.command_kind),
        kind=LineKind(row.kind),
        subject=row.subject,
        debit=row.debit,
        credit=row.credit,
        asset=row.asset,
        amount=row.amount,
        debit_balance=row.debit_balance,
        credit_balance=row.credit_balance,
        hold=row.hold,
        evidence=_evidence(row.evidence),
        metadata=row.metadata,
    )
