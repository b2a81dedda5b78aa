"""A sound ending, spoilt on purpose: what the checker must then say. Each spoils one thing and names what it spoilt.

The chain is put back by its snapshot, the book by rolling back: nothing of this stays.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from tests.chaos.checker import Kind, command_id
from tests.chaos.outside import Outside
from tests.chaos.records import Facts

ALREADY_GONE = 7
"""Smallest units that are taken from, or given to, somebody."""


@dataclass(frozen=True, slots=True)
class Spoilt:
    """What was spoilt: the kind of difference that must be told, and words that it must hold."""

    kind: Kind
    words: str


_final = "SELECT * FROM wallet_withdrawals WHERE state = 'final' AND asset = 'USDC' ORDER BY id"


# On chain


async def spoil_chain(outside: Outside, facts: Facts, connection: Any) -> list[Spoilt]:
    """A recipient with too much, one with too little, a deposit that nobody saw, a payment that nobody ordered."""
    overpaid, robbed = (await connection.fetch(_final))[:2]
    user, hot = next(iter(facts.addresses)), next(iter(facts.hot))
    await outside.send_token("USDC", 1, overpaid["address"], ALREADY_GONE)
    await outside.send_token("USDC", 1, user, 5_000_000)
    for owner in (robbed["address"], hot):
        await outside.rpc("anvil_impersonateAccount", owner)
    await outside.rpc("anvil_setBalance", robbed["address"], hex(10**18))
    token = outside.chain.token("USDC")
    await outside.send_as(robbed["address"], token, robbed["chain_amount"], to_whom=outside.chain.accounts[9])
    await outside.send_as(hot, token, ALREADY_GONE, to_whom=outside.chain.accounts[9])
    await outside.rpc("evm_mine")
    return [
        Spoilt(Kind.PAYMENT, f"{overpaid['id']} is final: {overpaid['address']} has"),
        Spoilt(Kind.PAYMENT, f"{robbed['id']} is final: {robbed['address']} has 0 USDC"),
        Spoilt(Kind.DEPOSIT, f"5000000 USDC to {user}"),
        Spoilt(Kind.OWN, f"was sent by {hot}"),
        Spoilt(Kind.CUSTODY, "hot addresses hold"),
        Spoilt(Kind.CUSTODY, "deposit addresses hold"),
        Spoilt(Kind.FEES, "gas of own transactions"),
    ]


# In the book: each in its own rows, so that all can be spoilt together


async def spoil_book(facts: Facts, connection: Any) -> tuple[Facts, list[Spoilt]]:
    """Rows altered behind the book's back, by who may do anything; and a request that nobody answered."""
    await connection.execute("SET LOCAL session_replication_role = replica")
    found: list[Spoilt] = []
    for spoil in _IN_THE_BOOK:
        found.append(await spoil(facts, connection))
    unanswered = replace(facts.asked[0], key="never answered", ids=set(), refusals=set())
    found.append(Spoilt(Kind.UNFINISHED, "never answered"))
    return replace(facts, asked=(*facts.asked, unanswered)), found


async def _lose(facts: Facts, connection: Any) -> Spoilt:
    row = (await connection.fetch(_final))[2]
    await connection.execute("DELETE FROM wallet_withdrawals WHERE id = $1", row["id"])
    return Spoilt(Kind.LOST, f"there is no {row['id']}")


async def _leave_open(facts: Facts, connection: Any) -> Spoilt:
    row = (await connection.fetch(_final))[3]
    await connection.execute("UPDATE wallet_withdrawals SET state = 'broadcast' WHERE id = $1", row["id"])
    return Spoilt(Kind.UNFINISHED, f"{row['id']} is broadcast")


async def _call_back(facts: Facts, connection: Any) -> Spoilt:
    """A payment that was made is said to have been cancelled."""
    row = (await connection.fetch(_final))[4]
    await connection.execute("UPDATE wallet_withdrawals SET state = 'cancelled' WHERE id = $1", row["id"])
    return Spoilt(Kind.PAYMENT, f"{row['id']} is cancelled")


async def _make_twice(facts: Facts, connection: Any) -> Spoilt:
    row = (await connection.fetch(_final))[0]
    columns = ", ".join(name for name, _ in row.items() if name not in ("id", "state", "cancellable"))
    for name in ("wdr_extra_one", "wdr_extra_two"):  # one more than was lost above
        await connection.execute(
            f"INSERT INTO wallet_withdrawals (id, state, cancellable, {columns})"
            f" SELECT $1, 'cancelled', false, {columns} FROM wallet_withdrawals WHERE id = $2",
            name,
            row["id"],
        )
    return Spoilt(Kind.EXTRA, "of kind withdraw")


async def _answer_twice(facts: Facts, connection: Any) -> Spoilt:
    asked = next(one for one in facts.asked if one.kind == "transfer" and one.ids)
    await connection.execute("UPDATE ledger_commands SET subject = 'trf_another' WHERE id = $1", command_id(asked))
    return Spoilt(Kind.REPEAT, f"transfer {asked.key}")


async def _hold_on(facts: Facts, connection: Any) -> Spoilt:
    """The hold of an ended withdrawal is open, and its account says so: only that it ended gives it away."""
    [hold] = await connection.fetch(
        "SELECT h.*, c.subject FROM ledger_holds h JOIN ledger_commands c ON c.book = h.book AND c.seq = h.hold"
        " WHERE h.state = 'settled' AND h.posting = 0 AND c.subject LIKE 'wdr_%' ORDER BY h.hold DESC LIMIT 1"
    )
    await connection.execute(
        "UPDATE ledger_holds SET state = 'open', remaining = 5 WHERE hold = $1 AND posting = 0", hold["hold"]
    )
    return Spoilt(Kind.HOLD, f"for {hold['subject']}")


async def _count_wrong(facts: Facts, connection: Any) -> Spoilt:
    user = next(iter(facts.addresses.values()))
    await connection.execute(
        "UPDATE ledger_accounts SET credits_posted = credits_posted + 1 WHERE name = $1", f"{user}/wallet/USDC"
    )
    return Spoilt(Kind.COUNTER, f"{user}/wallet/USDC credits_posted")


async def _lose_deposit(facts: Facts, connection: Any) -> Spoilt:
    row = await connection.fetchrow(
        "SELECT * FROM wallet_deposits WHERE state = 'final' AND place LIKE 'log:%' ORDER BY id DESC LIMIT 1"
    )
    await connection.execute("DELETE FROM wallet_deposits WHERE id = $1", row["id"])
    return Spoilt(Kind.DEPOSIT, f"by {row['tx_hash']}: no deposit")


_IN_THE_BOOK: tuple[Callable[[Facts, Any], Awaitable[Spoilt]], ...] = (
    _make_twice,
    _lose,
    _leave_open,
    _call_back,
    _answer_twice,
    _hold_on,
    _count_wrong,
    _lose_deposit,
)
FOLLOWING = (
    Spoilt(Kind.BALANCE, "all USDC together come to 1"),
    Spoilt(Kind.USER, "has"),
)
"""What must be told besides, of what was spoilt in the book."""
