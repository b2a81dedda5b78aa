"""SQL of arrivals: transfers to users' addresses that no deposit stands for yet, and what is believed of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, exists, func, or_, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from chain import coin_store, screening_store, token_store
from chain import tables as chain
from chain.signing import Role
from chain.transaction_states import INTERNAL
from db.types import Amount
from wallet.resources import KEPT_BACK, Deposit, DepositState
from wallet.rows import read_deposit
from wallet.tables import deposits


@dataclass(frozen=True, slots=True)
class Arrival:
    """A live transfer to a user's address that no live deposit stands for; `version` is what the next one gets."""

    network: str
    block_number: int
    block_hash: str
    tx_hash: str
    place: str
    contract: str | None
    sender: str
    address: str
    chain_amount: int
    owner: str
    version: int
    believed: bool
    """Its token may be credited, it was measured what arrived, and its sender was screened where that is asked for."""
    came: int | None
    """Chain units that arrived, at most `chain_amount`; None: not measured, or nobody can tell any more."""
    objection: str | None
    """What screening has against its sender."""


async def load_arrivals(
    connection: AsyncConnection, book: str, network: str, *, above: int, late_above: int, screened: bool, limit: int
) -> list[Arrival]:
    """Live transfers in blocks above `above`, or recorded later than their blocks with a number above `late_above`, to
    this book's deposit addresses that no live deposit stands for.

    Our own sweeps, top-ups and refills aren't deposits, told by transaction hash; a withdrawal that lands here is one.
    Nor is what a surplus counts already. `screened`: senders are asked about on this network, and what wasn't asked
    about isn't believed.
    """
    seen, own = chain.observations.c, chain.addresses.c
    same = _same_transfer(book)
    earlier = select(func.coalesce(func.max(deposits.c.version), 0)).where(same).scalar_subquery()
    live = exists().where(same, _live())
    query = (
        select(
            chain.observations,
            own.owner,
            (earlier + 1).label("version"),
            _believed(screened=screened).label("believed"),
            chain.arrivals.c.amount.label("came"),
            chain.screenings.c.objection,
        )
        .join(chain.addresses, own.address == seen.recipient)
        .outerjoin(chain.arrivals, _measured())
        .outerjoin(chain.screenings, screening_store.of_transfer())
        .where(
            seen.network == network,
            or_(seen.block_number > above, seen.late > late_above),
            ~seen.orphaned,
            coin_store.counts(),
            own.role == Role.DEPOSIT,
            own.book == book,
            ~live,
            ~_internal(),
        )
        .order_by(seen.block_number, seen.seq)
        .limit(limit)
    )
    return [
        Arrival(
            network=row.network,
            block_number=row.block_number,
            block_hash=row.block_hash,
            tx_hash=row.tx_hash,
            place=row.place,
            contract=row.contract,
            sender=row.sender,
            address=row.recipient,
            chain_amount=row.amount,
            owner=row.owner,
            version=row.version,
            believed=row.believed,
            came=row.amount if row.contract is None else row.came,
            objection=row.objection,
        )
        for row in await connection.execute(query)
    ]


def _same_transfer(book: str) -> Any:
    """Whether a deposit stands for an observation's transfer, in this or an earlier block."""
    seen = chain.observations.c
    return and_(
        deposits.c.book == book,
        deposits.c.network == seen.network,
        deposits.c.tx_hash == seen.tx_hash,
        deposits.c.place == seen.place,
    )


def _live() -> Any:
    return deposits.c.state.not_in([DepositState.ORPHANED, DepositState.REVERSED])


async def load_kept_back(connection: AsyncConnection, book: str, network: str) -> dict[tuple[str, str | None], int]:
    """Chain units by (deposit address, contract or None) that must stay there.

    What is under review, what listed senders sent, and what isn't looked at yet.
    """
    seen, own = chain.observations.c, chain.addresses.c
    same = _same_transfer(book)
    settled = exists().where(same, _live(), deposits.c.state.not_in(KEPT_BACK))
    query = (
        select(seen.recipient, seen.contract, func.sum(seen.amount, type_=Amount()))
        .join(chain.addresses, own.address == seen.recipient)
        .where(
            seen.network == network,
            ~seen.orphaned,
            coin_store.counts(),
            own.role == Role.DEPOSIT,
            own.book == book,
            ~settled,
            ~_internal(),
        )
        .group_by(seen.recipient, seen.contract)
    )
    return {(address, contract): int(amount) for address, contract, amount in await connection.execute(query)}


async def load_reviewed(
    connection: AsyncConnection,
    book: str,
    network: str,
    *,
    contracts: Sequence[str],
    unsaid: Sequence[str],
    screened: bool,
    limit: int,
) -> list[tuple[Deposit, Arrival]]:
    """Deposits under review that nothing stops any more, oldest first, each with what is known of its arrival now.

    Of the native coin and the tokens `contracts`; of the tokens `unsaid` only those of which is known what arrived.
    """
    seen, contract = chain.observations.c, deposits.c.contract
    query = (
        select(deposits, chain.arrivals.c.amount.label("came"), chain.screenings.c.objection)
        .join(chain.observations, and_(*(seen[name] == deposits.c[name] for name in TRANSFER)))
        .outerjoin(chain.arrivals, _measured())
        .outerjoin(chain.screenings, screening_store.of_transfer())
        .where(
            deposits.c.book == book,
            deposits.c.network == network,
            deposits.c.state == DepositState.UNDER_REVIEW,
            or_(contract.is_(None), contract.in_(contracts)),
            ~seen.orphaned,
            _believed(screened=screened),
            or_(contract.is_(None), chain.arrivals.c.amount.is_not(None), contract.not_in(unsaid)),
        )
        .order_by(deposits.c.id)
        .limit(limit)
    )
    found = []
    for row in await connection.execute(query):
        deposit = read_deposit(row)
        found.append((deposit, _arrival(deposit, came=row.came, objection=row.objection)))
    return found


TRANSFER = ("network", "block_hash", "tx_hash", "place")
"""What names a transfer in a block."""


def _arrival(deposit: Deposit, *, came: int | None, objection: str | None) -> Arrival:
    return Arrival(
        network=deposit.network,
        block_number=deposit.block_number,
        block_hash=deposit.block_hash,
        tx_hash=deposit.tx_hash,
        place=deposit.place,
        contract=deposit.contract,
        sender=deposit.sender,
        address=deposit.address,
        chain_amount=deposit.chain_amount,
        owner=deposit.owner,
        version=deposit.version,
        believed=True,
        came=deposit.chain_amount if deposit.contract is None else came,
        objection=objection,
    )


def _measured() -> Any:
    """The arrival of an observation, in a join."""
    return and_(*(chain.arrivals.c[name] == chain.observations.c[name] for name in TRANSFER))


def _believed(*, screened: bool) -> Any:
    """Whether an observation's token may be credited and it was measured what arrived (the native coin always), and,
    where senders are `screened`, its own was."""
    seen = chain.observations.c
    known = and_(chain.arrivals.c.measured_at.is_not(None), token_store.trusted(seen.network, seen.contract))
    known = or_(seen.contract.is_(None), known)
    return and_(known, chain.screenings.c.screened_at.is_not(None)) if screened else known


def _internal() -> Any:
    """Whether an observation stands in a transaction of ours that moves what is ours: by its hash, whoever sent it."""
    tried, own = chain.attempts.c, chain.transactions.c
    return exists().where(
        tried.network == chain.observations.c.network,
        tried.tx_hash == chain.observations.c.tx_hash,
        own.id == tried.transaction_id,
        own.kind.in_(INTERNAL),
    )


async def load_arrival(connection: AsyncConnection, deposit: Deposit, *, screened: bool) -> Arrival | None:
    """What is known of what arrived.

    None while it wasn't measured or (where senders are `screened`) nobody was asked about its sender, and once its
    block left the chain.
    """
    seen, asked = chain.observations.c, chain.screenings.c
    query = (
        select(chain.arrivals.c.amount, asked.objection)
        .select_from(chain.observations)
        .outerjoin(chain.arrivals, _measured())
        .outerjoin(chain.screenings, screening_store.of_transfer())
        .where(
            *(seen[name] == getattr(deposit, name) for name in TRANSFER),
            ~seen.orphaned,
            or_(seen.contract.is_(None), chain.arrivals.c.measured_at.is_not(None)),
            asked.screened_at.is_not(None) if screened else true(),
        )
    )
    row = (await connection.execute(query)).first()
    return None if row is None else _arrival(deposit, came=row.amount, objection=row.objection)
