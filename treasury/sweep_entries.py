"""What a sweep and its own transactions book, as the chart says. Pure.

Value goes between custody's roles, by the transfer that shows it, whoever sent the transaction; gas to its expense,
from whoever paid it.
"""

from chain.transactions import Mined
from ledger.accounts import house_account
from ledger.commands import ChainEvidence, Posting

SUSPENSE = "suspense"
GAS_EXPENSE = "network-fees"


def custody(network: str, role: str, asset: str) -> str:
    """The account of what addresses of a role hold."""
    return house_account(f"custody:{network}:{role}", asset)


def swept(network: str, asset: str, *, left: int, arrived: int) -> tuple[Posting, ...]:
    """`left` a deposit address, `arrived` at the hot one; what a token kept for itself waits in suspense."""
    hot, deposit = custody(network, "hot", asset), custody(network, "deposit", asset)
    postings = [Posting(hot, deposit, asset, arrived)] if arrived else []
    if arrived < left:
        postings.append(Posting(house_account(SUSPENSE, asset), deposit, asset, left - arrived))
    return tuple(postings)


def topped_up(network: str, native: str, amount: int) -> tuple[Posting, ...]:
    """What the gas address gave a deposit address."""
    return (Posting(custody(network, "deposit", native), custody(network, "gas", native), native, amount),)


def gas(network: str, native: str, *, payer: str, amount: int) -> tuple[Posting, ...]:
    """What the network took from an address of the role `payer`; none where it charges nothing."""
    if not amount:
        return ()
    return (Posting(house_account(GAS_EXPENSE, native), custody(network, payer, native), native, amount),)


def evidence(network: str, mined: Mined, place: str) -> ChainEvidence:
    """The transaction of ours, and where in it."""
    return ChainEvidence(network, mined.block_number, mined.block_hash, mined.tx_hash, place)


def accounts(network: str, asset: str, native: str) -> tuple[str, ...]:
    """Every account that a sweep of `asset` may touch."""
    own = [custody(network, role, code) for role in ("deposit", "hot", "gas") for code in (asset, native)]
    return (*dict.fromkeys(own), house_account(SUSPENSE, asset), house_account(GAS_EXPENSE, native))
