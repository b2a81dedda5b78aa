"""What the book still says lies on a chain that is gone, once deposits and inflows are taken back.

That is what left the lost chain (withdrawals, gas) and what was booked without a block: nobody's by itself. It goes to
suspense, so that custody says what the new chain holds, and the treasurer assigns the rest knowingly. An entry's
compensation carries the same block, as everywhere: reconciliation leaves both out.
"""

from dataclasses import dataclass
from functools import partial

from sqlalchemy.ext.asyncio import AsyncEngine

from db.engine import tx
from ledger.accounts import HOUSE, house_account
from ledger.asking import work
from ledger.commands import Group, Post, Posting, alone
from ledger.engine import Ledger
from ledger.requests import worker_id
from treasury.lost_store import LostSum, load_lost_sums

SUSPENSE = "suspense"


@dataclass(frozen=True, slots=True)
class Left:
    """What an account of custody shows: `held` smallest units are there by the book; negative: more left than came."""

    account: str
    asset: str
    held: int


async def in_custody(ledger: Ledger, network: str) -> list[Left]:
    """Every custody account of `network` that isn't at zero, whichever asset or role."""
    beginning = f"custody:{network}:"
    return [
        Left(entry.id, entry.asset, -entry.balance)
        for entry in await ledger.accounts(owner=HOUSE)
        if entry.purpose.startswith(beginning) and entry.balance
    ]


async def clear_custody(engine: AsyncEngine, ledger: Ledger, network: str, *, reason: str) -> int:
    """Move what custody of `network` still shows to suspense, an entry for each place on the lost chain; how many.

    Repeated, it moves what is left then. Nothing else may book custody meanwhile: the network must be halted.
    """
    async with tx(engine) as connection:
        found = await load_lost_sums(connection, ledger.book, network)
    await ledger.ensure_open(*sorted({house_account(SUSPENSE, entry.asset) for entry in found}))
    refusals = await work(ledger, *(partial(_moved, network, entry, reason) for entry in found))
    return refusals.count(None)


def _moved(network: str, entry: LostSum, reason: str, attempt: int) -> Group:
    """The sums are part of the id: they only grow, so that one state of the account is cleared once."""
    suspense, amount = house_account(SUSPENSE, entry.asset), abs(entry.credits - entry.debits)
    sides = (suspense, entry.account) if entry.debits > entry.credits else (entry.account, suspense)
    said = entry.evidence
    where = "" if said is None else f"{said.block_hash}:{said.tx_hash}:{said.place}"
    post = Post(
        id=worker_id(f"reanchor:{entry.account}:{where}:{entry.debits}:{entry.credits}", attempt),
        evidence=said,
        postings=(Posting(*sides, entry.asset, amount),),
        metadata={"reason": reason, "network": network},
    )
    return alone(post)
