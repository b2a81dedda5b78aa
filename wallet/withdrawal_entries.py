"""What a withdrawal books, from asking to its end: the commands and their accounts, as the chart says. Pure.

One hold with two postings when it's asked for: the amount on its way out, and the highest fee. Paid: both settled in
what they came to, the rest released, and what left custody booked with the gas. Not paid: released, and the house bears
the gas. `attempt` is part of every worker's command id.
"""

from chain.signing import Claims
from chain.transactions import Mined
from ledger.accounts import house_account, user_account
from ledger.commands import ChainEvidence, Command, Hold, Post, Posting, Settle, Void
from ledger.requests import key_hash, worker_id
from wallet.network_fees import actual_fee
from wallet.resources import Withdrawal

FEES = "fees"
GAS_EXPENSE = "network-fees"


def hold(withdrawal: Withdrawal, *, owing_nothing: tuple[str, ...]) -> Hold:
    """What asking sets aside; without an end, since only the withdrawal itself settles or voids it.

    `owing_nothing` are the accounts of what its owner may owe.
    """
    postings = _held(withdrawal)
    return Hold(id=withdrawal.hold, subject=withdrawal.id, postings=postings, owing_nothing=owing_nothing)


def claims(withdrawal: Withdrawal) -> Claims:
    """Whose payment it is, for the signer's journal."""
    account = user_account(withdrawal.owner, withdrawal.asset)
    return Claims(account, withdrawal.asset, withdrawal.amount, key_hash(withdrawal.hold))


def release(withdrawal: Withdrawal, attempt: int) -> Void:
    """Nothing was sent: all of it comes back."""
    return Void(id=_command(withdrawal, "release", attempt), subject=withdrawal.id, hold=withdrawal.hold)


def paid(
    withdrawal: Withdrawal, mined: Mined, *, place: str, gas: tuple[Posting, ...], attempt: int
) -> tuple[Command, ...]:
    """A final payment, seen at `place` in its transaction."""
    fee, evidence = fee_of(withdrawal, mined), _evidence(withdrawal, mined, place)
    network, asset = withdrawal.network, withdrawal.asset
    settle = Settle(
        id=_command(withdrawal, "settle", attempt),
        subject=withdrawal.id,
        evidence=evidence,
        hold=withdrawal.hold,
        amounts=((0, withdrawal.amount), (1, fee)) if fee else ((0, withdrawal.amount),),
        close=True,
    )
    left = Posting(_in_transit(network, asset), _custody(network, asset), asset, withdrawal.amount)
    post = Post(
        id=_command(withdrawal, "paid", attempt),
        subject=withdrawal.id,
        evidence=evidence,
        postings=(left, *gas),
    )
    return settle, post


def unpaid(withdrawal: Withdrawal, mined: Mined, *, gas: tuple[Posting, ...], attempt: int) -> tuple[Command, ...]:
    """A final transaction that paid nothing."""
    evidence = _evidence(withdrawal, mined, "gas")
    void = Void(
        id=_command(withdrawal, "void", attempt), subject=withdrawal.id, evidence=evidence, hold=withdrawal.hold
    )
    if not gas:
        return (void,)
    post = Post(id=_command(withdrawal, "gas", attempt), subject=withdrawal.id, evidence=evidence, postings=gas)
    return void, post


def gas_postings(network: str, native: str, amount: int) -> tuple[Posting, ...]:
    """Gas paid by the hot address, in the native asset's smallest units; none where a network charges nothing."""
    if not amount:
        return ()
    return (Posting(house_account(GAS_EXPENSE, native), _custody(network, native), native, amount),)


def fee_of(withdrawal: Withdrawal, mined: Mined) -> int:
    """What its owner pays for the gas."""
    return actual_fee(withdrawal.fee_price, fee_wei=mined.fee_wei, fee_highest=withdrawal.fee_highest)


def accounts(withdrawal: Withdrawal, *, native: str) -> tuple[str, ...]:
    """Every account that it may touch until its end."""
    sides = [side for posting in _held(withdrawal) for side in (posting.debit, posting.credit)]
    gas = (house_account(GAS_EXPENSE, native), _custody(withdrawal.network, native))
    return (*sides, _custody(withdrawal.network, withdrawal.asset), *gas)


def paying(withdrawal: Withdrawal) -> tuple[str, str]:
    """Whose money it is, and what it's paid from: a freeze on either stops it."""
    return user_account(withdrawal.owner, withdrawal.asset), _custody(withdrawal.network, withdrawal.asset)


def _held(withdrawal: Withdrawal) -> tuple[Posting, Posting]:
    """In the order in which settling names them: 0 the amount, 1 the fee."""
    user, asset = user_account(withdrawal.owner, withdrawal.asset), withdrawal.asset
    return (
        Posting(user, _in_transit(withdrawal.network, asset), asset, withdrawal.amount),
        Posting(user, house_account(FEES, asset), asset, withdrawal.fee_highest),
    )


def _in_transit(network: str, asset: str) -> str:
    return house_account(f"in-transit:{network}:out", asset)


def _custody(network: str, asset: str) -> str:
    return house_account(f"custody:{network}:hot", asset)


def _command(withdrawal: Withdrawal, act: str, attempt: int) -> str:
    return worker_id(f"withdrawal:{withdrawal.id}:{act}", attempt)


def _evidence(withdrawal: Withdrawal, mined: Mined, place: str) -> ChainEvidence:
    return ChainEvidence(withdrawal.network, mined.block_number, mined.block_hash, mined.tx_hash, place)
