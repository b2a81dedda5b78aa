"""SQL of what is read beside a run's findings: movements, lines and entries of just those amounts. Bounded.

Each question is asked once per run, for all of its findings, and only if one of them needs it. What is looked at is
recent, and of the amounts that could explain a difference; so a run with many breaks costs little more than one.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from sqlalchemy import ARRAY, ColumnElement, Numeric, Text, and_, any_, case, func, literal, or_, select, type_coerce
from sqlalchemy.ext.asyncio import AsyncConnection

from chain import foreign_store
from chain import tables as chain
from chain.networks import Deployment, Registry, to_chain_units, to_ledger_units
from db.types import AMOUNT_BOUND, Amount
from fiat import tables as fiat
from fiat.rails import tables as rails
from ledger import tables as ledger
from ledger.money import Asset
from ledger.outcomes import LineKind
from treasury.break_causes import GAS, ByHand, Facts, Gap, Movement, OnItsWay, StatementLine
from treasury.comparison_store import of_transfer
from treasury.records import BreakReason, Finding, Reconciliation

AMOUNTS_MAX = 1_000
"""Amounts that one question looks for."""

ROWS_MAX = 500
"""Rows that one question gives back."""

RECENT_BLOCKS = 50_000
"""Blocks below the judged one that are looked through."""

RECENT_COMMANDS = 200_000
"""Commands of the book, the latest, that are looked through for entries by hand."""

RECENT_DAYS = timedelta(days=92)
"""How old a statement's line may be."""

OF_BANKS = frozenset({BreakReason.BANK_DIFFERS, BreakReason.STATEMENT_OVERLAP})
"""Breaks that a line of a statement may explain."""

_BANK = "house/bank:"


@dataclass(frozen=True, slots=True)
class _Sought:
    """A network's findings, and the deployment of one asset there."""

    deployment: Deployment
    scale: int
    amounts: tuple[int, ...]
    """Chain units of what would explain a difference."""


async def load_facts(
    connection: AsyncConnection,
    book: str,
    findings: Sequence[Finding],
    *,
    registry: Registry,
    assets: Mapping[str, Asset],
    run: Reconciliation,
) -> Facts:
    """All that `break_causes` wants to know about these findings."""
    facts = Facts(in_flight=run.in_flight, coins={name: net.native_asset for name, net in registry.networks.items()})
    on_chain = [one for one in findings if one.reason is BreakReason.CHAIN_DIFFERS]
    at_banks = [one for one in findings if one.reason in OF_BANKS]
    outside = [one for one in findings if one.account.startswith(("house/custody:", _BANK, "house/provider:"))]
    if on_chain:
        through = {one.network: one.block_number for one in run.networks if one.block_number is not None}
        movements, gaps = [], []
        for network in sorted({one.network for one in on_chain} & through.keys()):
            here = [one for one in on_chain if one.network == network]
            for sought in _sought(registry, network, here, assets):
                movements += await _load_movements(connection, sought, through=through[network])
            gaps += await _load_gaps(connection, network, through=through[network])
        facts = replace(facts, movements=movements, gaps=gaps)
    if at_banks:
        facts = replace(facts, lines=await _load_lines(connection, book, at_banks, run=run))
    if any(one.reason in OF_BANKS or one.reason is BreakReason.RAIL_DIFFERS for one in findings):
        facts = replace(facts, on_their_way=await _load_on_their_way(connection, book, findings))
    if outside:
        facts = replace(facts, by_hand=await _load_by_hand(connection, book, outside))
    return facts


def _explaining(findings: Collection[Finding]) -> list[int]:
    """Amounts that would explain a difference: as much, or half of it (what is booked three times)."""
    differences = {abs(one.found - one.expected) for one in findings}
    found = sorted(differences | {amount // 2 for amount in differences if amount % 2 == 0})
    return [amount for amount in found if 0 < amount < AMOUNT_BOUND][:AMOUNTS_MAX]


def _sought(
    registry: Registry, network: str, findings: Sequence[Finding], assets: Mapping[str, Asset]
) -> list[_Sought]:
    found = []
    for deployment in registry.on(network):
        scale = assets[deployment.asset].scale
        unit = to_ledger_units(1, deployment, scale=scale)
        amounts = _explaining([one for one in findings if one.asset == deployment.asset])
        whole = tuple(to_chain_units(amount, deployment, scale=scale) for amount in amounts if amount % unit == 0)
        if whole:
            found.append(_Sought(deployment, scale, whole))
    return found


# On chain


async def _load_movements(connection: AsyncConnection, sought: _Sought, *, through: int) -> list[Movement]:
    """Movements of one asset on a network that could explain a difference, with what is booked for them."""
    found = []
    for receives in (True, False):
        found += await _load_transfers(connection, sought, receives=receives, through=through)
    if sought.deployment.contract is None:
        found += await _load_gas(connection, sought, through=through)
    return [_in_ledger_units(movement, sought) for movement in found]


async def _load_transfers(
    connection: AsyncConnection, sought: _Sought, *, receives: bool, through: int
) -> list[Movement]:
    seen, own, deployment = chain.observations.c, chain.addresses.c, sought.deployment
    measured = chain.arrivals.c.amount
    account = _custody(deployment, own.role)
    booked = _booked(account, gas=False).where(*_evidence_of(seen), ledger.evidences.c.place == seen.place)
    kept = _number(seen.amount) - _number(func.coalesce(measured, seen.amount))
    query = (
        select(
            chain.observations,
            account.label("account"),
            measured.label("measured"),
            or_(foreign_store.ours(seen.network, seen.tx_hash, seen.sender), foreign_store.authorised()).label("ours"),
            booked.scalar_subquery().label("booked"),
        )
        .join(chain.addresses, own.address == (seen.recipient if receives else seen.sender))
        .outerjoin(chain.arrivals, of_transfer())
        .where(
            seen.network == deployment.network,
            seen.block_number <= through,
            seen.block_number > through - RECENT_BLOCKS,
            seen.contract.is_not_distinct_from(deployment.contract),
            or_(_among(seen.amount, sought.amounts), _among(kept, sought.amounts)),
        )
        .order_by(seen.block_number.desc())
        .limit(ROWS_MAX)
    )
    sign = 1 if receives else -1
    return [
        Movement(
            account=row.account,
            told=sign * row.amount,
            arrived=sign * (row.measured if receives and row.measured is not None else row.amount),
            booked=int(row.booked or 0),
            tx_hash=row.tx_hash,
            place=row.place,
            ours=receives or row.ours,
            orphaned=row.orphaned,
        )
        for row in await connection.execute(query)
    ]


async def _load_gas(connection: AsyncConnection, sought: _Sought, *, through: int) -> list[Movement]:
    sent, own, deployment = chain.outgoing.c, chain.addresses.c, sought.deployment
    account = _custody(deployment, own.role)
    booked = _booked(account, gas=True).where(*_evidence_of(sent))
    query = (
        select(
            chain.outgoing,
            account.label("account"),
            foreign_store.ours(sent.network, sent.tx_hash, sent.sender).label("ours"),
            booked.scalar_subquery().label("booked"),
        )
        .join(chain.addresses, own.address == sent.sender)
        .where(
            sent.network == deployment.network,
            sent.block_number <= through,
            sent.block_number > through - RECENT_BLOCKS,
            _among(sent.fee_wei, sought.amounts),
        )
        .order_by(sent.block_number.desc())
        .limit(ROWS_MAX)
    )
    return [
        Movement(
            account=row.account,
            told=-row.fee_wei,
            arrived=-row.fee_wei,
            booked=int(row.booked or 0),
            tx_hash=row.tx_hash,
            place=GAS,
            ours=row.ours,
            orphaned=row.orphaned,
        )
        for row in await connection.execute(query)
    ]


def _booked(account: ColumnElement[str], *, gas: bool) -> Any:
    """In sum, what the book has added to `account` by evidence that is still to be named: gas, or all but gas."""
    line, said, own = ledger.lines.c, ledger.evidences.c, ledger.accounts.alias()
    other = ledger.accounts.alias()
    debited = line.debit == own.c.account
    fees = and_(
        ~debited,
        or_(
            other.c.purpose == "network-fees",
            and_(other.c.purpose == "suspense", said.place == GAS),  # not ours
        ),
    )
    return (
        select(func.sum(case((debited, _number(line.amount)), else_=-_number(line.amount))))
        .select_from(ledger.evidences)
        .join(ledger.lines, and_(line.book == said.book, line.seq == said.seq))
        .join(own, and_(own.c.book == line.book, or_(own.c.account == line.debit, own.c.account == line.credit)))
        .join(
            other,
            and_(other.c.book == line.book, other.c.account == case((debited, line.credit), else_=line.debit)),
        )
        .where(line.kind == LineKind.POSTED, own.c.name == account, fees if gas else ~fees)
        .correlate(chain.observations, chain.outgoing, chain.addresses)
    )


def _evidence_of(row: Any) -> tuple[ColumnElement[bool], ...]:
    said = ledger.evidences.c
    return (
        said.network == row.network,
        said.block_number == row.block_number,
        said.block_hash == row.block_hash,
        said.tx_hash == row.tx_hash,
    )


async def _load_gaps(connection: AsyncConnection, network: str, *, through: int) -> list[Gap]:
    """Heights without a live block, between others that have one."""
    block = chain.blocks.c
    before = func.lag(block.number).over(order_by=block.number)
    recent = (
        select(block.number, before.label("before"))
        .where(
            block.network == network,
            ~block.orphaned,
            block.number <= through,
            block.number > through - RECENT_BLOCKS,
        )
        .subquery()
    )
    query = select(recent).where(recent.c.number > recent.c.before + 1).order_by(recent.c.number.desc()).limit(10)
    return [Gap(network, row.before + 1, row.number - 1) for row in await connection.execute(query)]


def _in_ledger_units(movement: Movement, sought: _Sought) -> Movement:
    """What was read in the chain's units, in the book's; what the book has is in those already."""
    ratio = to_ledger_units(1, sought.deployment, scale=sought.scale)
    return replace(movement, told=movement.told * ratio, arrived=movement.arrived * ratio)


def _custody(deployment: Deployment, role: ColumnElement[str]) -> ColumnElement[str]:
    before, after = f"house/custody:{deployment.network}:", f"/{deployment.asset}"
    return literal(before, Text).concat(role).concat(literal(after, Text))


# At banks and providers


async def _load_lines(
    connection: AsyncConnection, book: str, findings: Sequence[Finding], *, run: Reconciliation
) -> list[StatementLine]:
    """Recent lines of the banks' statements whose amounts could explain a difference."""
    told, statement = fiat.lines.c, fiat.statements.c
    names = [one.account.removeprefix(_BANK).partition("/")[0] for one in findings]
    account = literal(_BANK, Text).concat(told.account).concat(literal("/", Text)).concat(told.asset)
    twin = fiat.lines.alias()
    twins = (
        select(func.array_agg(twin.c.id))
        .where(
            twin.c.book == told.book,
            twin.c.account == told.account,
            twin.c.booked_on == told.booked_on,
            twin.c.id != told.id,
            twin.c.statement != told.statement,
            *(twin.c[name] == told[name] for name in ("direction", "asset", "amount", "value_on", "bank_reference")),
        )
        .correlate(fiat.lines)
    )
    booked = _booked_of_lines(account).where(
        ledger.evidences.c.bank_account == told.account,
        ledger.evidences.c.statement == statement.bank_id,
        ledger.evidences.c.statement_line == told.number,
    )
    query = (
        select(
            fiat.lines,
            account.label("house"),
            booked.scalar_subquery().label("booked"),
            twins.scalar_subquery().label("twins"),
        )
        .join(fiat.statements, and_(statement.book == told.book, statement.id == told.statement))
        .where(
            told.book == book,
            told.account == any_(literal(sorted(set(names)), ARRAY(Text))),
            told.booked_on > (run.started_at - RECENT_DAYS).date(),
            told.state != "noted",
            _among(told.amount, _explaining(findings)),
        )
        .order_by(told.booked_on.desc())
        .limit(ROWS_MAX)
    )
    return [
        StatementLine(
            id=row.id,
            account=row.house,
            amount=row.amount if row.direction == "CRDT" else -row.amount,
            booked=int(row.booked or 0),
            suspended=row.state == "suspended",
            twins=tuple(row.twins or ()),
        )
        for row in await connection.execute(query)
    ]


def _booked_of_lines(account: ColumnElement[str]) -> Any:
    """In sum, what the book has added to the bank's account by evidence that is still to be named."""
    line, said, own = ledger.lines.c, ledger.evidences.c, ledger.accounts.alias()
    debited = line.debit == own.c.account
    return (
        select(func.sum(case((debited, _number(line.amount)), else_=-_number(line.amount))))
        .select_from(ledger.evidences)
        .join(ledger.lines, and_(line.book == said.book, line.seq == said.seq))
        .join(own, and_(own.c.book == line.book, or_(own.c.account == line.debit, own.c.account == line.credit)))
        .where(line.kind == LineKind.POSTED, own.c.name == account)
        .correlate(fiat.lines, fiat.statements)
    )


async def _load_on_their_way(connection: AsyncConnection, book: str, findings: Sequence[Finding]) -> list[OnItsWay]:
    """Providers' settlements that were sent and are no bank's line yet, of the amounts that differ."""
    row = rails.settlements.c
    amounts = _explaining(findings)
    query = (
        select(row.id, row.rail, row.asset, row.amount)
        .where(row.book == book, row.state == "sent", _among(func.abs(_number(row.amount)), amounts))
        .order_by(row.id.desc())
        .limit(ROWS_MAX)
    )
    return [OnItsWay(one.id, one.rail, one.asset, one.amount) for one in await connection.execute(query)]


async def _load_by_hand(connection: AsyncConnection, book: str, findings: Sequence[Finding]) -> list[ByHand]:
    """Recent entries on these accounts, of the amounts that differ, that no worker made and nothing outside shows."""
    line, said, command, own = ledger.lines.c, ledger.evidences.c, ledger.commands.c, ledger.accounts.c
    names = sorted({one.account for one in findings})
    mine = select(ledger.books.c.number, ledger.books.c.seq).where(ledger.books.c.book == book).subquery()
    found: list[ByHand] = []
    for side, sign in ((line.debit, 1), (line.credit, -1)):
        query = (
            select(own.name, line.amount, func.coalesce(command.subject, command.id).label("entry"))
            .select_from(mine)
            .join(ledger.accounts, own.book == mine.c.number)
            .join(ledger.lines, and_(line.book == own.book, side == own.account))
            .join(ledger.commands, and_(command.book == line.book, command.seq == line.seq))
            .outerjoin(ledger.evidences, and_(said.book == line.book, said.seq == line.seq))
            .where(
                own.name == any_(literal(names, ARRAY(Text))),
                line.seq > mine.c.seq - RECENT_COMMANDS,
                line.kind == LineKind.POSTED,
                said.seq.is_(None),
                ~command.id.startswith("wrk:", autoescape=True),
                _among(line.amount, _explaining(findings)),
            )
            .order_by(line.seq.desc())
            .limit(ROWS_MAX)
        )
        found += [ByHand(row.entry, row.name, sign * row.amount) for row in await connection.execute(query)]
    return found


def _among(column: ColumnElement[Any], amounts: Collection[int]) -> ColumnElement[bool]:
    """The column is one of these amounts, compared as plain numbers of any length."""
    return _number(column).in_([literal(amount, Amount()) for amount in amounts])


def _number(amount: ColumnElement[Any]) -> ColumnElement[Any]:
    """An amount to compute with: plain numeric, exact at any length and free to be negative."""
    return type_coerce(amount, Numeric())
