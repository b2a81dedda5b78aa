"""What a withdrawal books, from asking to its end: the commands and their accounts, as the chart says. Pure.

One hold when it's asked for: the amount on its way out, the highest fee of the network, and the service fee where the
tariff has one. Paid: settled in what they came to, the service fee whole, the rest released, and what left custody
booked with the gas. Not paid: released, and the house bears the gas. `attempt` is part of every worker's command id.
"""

from collections.abc import Mapping, Sequence

from chain.signing import Claims
from chain.transactions import Mined
from ledger.accounts import house_account, user_account
from ledger.commands import ChainEvidence, Charge, Command, Hold, Post, Posting, Settle, Void
from ledger.requests import key_hash, worker_id
from wallet.network_fees import actual_fee
from wallet.recipients import WarningCode
from wallet.resolutions import SeenPayment
from wallet.resources import Withdrawal

FEES = "fees"
GAS_EXPENSE = "network-fees"
SUSPENSE = "suspense"

PRICE_DIGITS = 99
"""A price with a longer part isn't told to the signer, whose journal's rows have bounds."""


def hold(withdrawal: Withdrawal, *, owing_nothing: tuple[str, ...], charges: tuple[Charge, ...] = ()) -> Hold:
    """What asking sets aside; without an end, since only the withdrawal itself settles or voids it.

    `owing_nothing` are the accounts of what its owner may owe, `charges` what it uses up of limits and allowances.
    """
    postings = _held(withdrawal)
    return Hold(
        id=withdrawal.hold, subject=withdrawal.id, postings=postings, owing_nothing=owing_nothing, charges=charges
    )


def inside(
    withdrawal: Withdrawal, *, recipient: str, owing_nothing: tuple[str, ...], charges: tuple[Charge, ...] = ()
) -> Post:
    """What pays a user here by their deposit address: booked like a transfer, at once and without evidence.

    The fee is a transfer's.
    """
    user, asset = user_account(withdrawal.owner, withdrawal.asset), withdrawal.asset
    postings = [Posting(user, user_account(recipient, asset), asset, withdrawal.amount)]
    if withdrawal.fee_highest:
        postings.append(Posting(user, house_account(FEES, asset), asset, withdrawal.fee_highest))
    return Post(
        id=withdrawal.hold,
        subject=withdrawal.id,
        postings=tuple(postings),
        owing_nothing=owing_nothing,
        charges=charges,
    )


def claims(withdrawal: Withdrawal, *, content: bytes | None = None) -> Claims:
    """Whose payment it is and what was promised, for the signer's journal. `content`: the hash of the request."""
    parts = [str(withdrawal.fee_price.num), str(withdrawal.fee_price.den)]
    return Claims(
        account=user_account(withdrawal.owner, withdrawal.asset),
        asset=withdrawal.asset,
        amount=withdrawal.amount,
        key_hash=key_hash(withdrawal.hold),
        content=content,
        fee_highest=withdrawal.fee_highest,
        fee_price="/".join(parts) if max(map(len, parts)) <= PRICE_DIGITS else None,
        fee_wei_max=withdrawal.fee_wei_max,
        service_fee=withdrawal.service_fee or None,
    )


def release(withdrawal: Withdrawal, attempt: int) -> Void:
    """Nothing was sent: all of it comes back."""
    return Void(id=_command(withdrawal, "release", attempt), subject=withdrawal.id, hold=withdrawal.hold)


def cancel(withdrawal: Withdrawal, attempt: int) -> Void:
    """A treasurer gives it up before a nonce was reserved: all of it comes back."""
    return Void(id=_command(withdrawal, "cancel", attempt), subject=withdrawal.id, hold=withdrawal.hold)


def paid(
    withdrawal: Withdrawal,
    mined: Mined,
    *,
    place: str,
    gas: tuple[Posting, ...],
    attempt: int,
    kept: Sequence[tuple[str, int]] = (),
) -> tuple[Command, ...]:
    """A final payment, seen at `place` in its transaction.

    `kept`: where the token told of parts of it that went to others, and how much; less than the amount together.
    """
    network, asset = withdrawal.network, withdrawal.asset
    whole = left(network, asset, withdrawal.amount - sum(amount for _, amount in kept))
    parts = [("paid", place, (whole, *gas))]
    parts += [(f"kept-{number}", where, (left(network, asset, units),)) for number, (where, units) in enumerate(kept)]
    posts = [
        Post(
            id=_command(withdrawal, act, attempt),
            subject=withdrawal.id,
            evidence=_evidence(withdrawal, mined, where),
            postings=postings,
        )
        for act, where, postings in parts
    ]
    return settled(withdrawal, mined, place=place, attempt=attempt), *posts


def settled(withdrawal: Withdrawal, mined: Mined, *, place: str, attempt: int) -> Settle:
    """What was held is paid, with the fee that it came to; the rest comes back."""
    fee = fee_of(withdrawal, mined)
    return Settle(
        id=_command(withdrawal, "settle", attempt),
        subject=withdrawal.id,
        evidence=_evidence(withdrawal, mined, place),
        hold=withdrawal.hold,
        amounts=shares(withdrawal, fee),
        close=True,
    )


def shares(withdrawal: Withdrawal, fee: int) -> tuple[tuple[int, int], ...]:
    """What is settled of its hold when it's paid, by the postings' numbers. `fee`: what the network's came to."""
    found = ((0, withdrawal.amount), (1, fee), (2, withdrawal.service_fee))
    return tuple(share for share in found if share[1])


def left(network: str, asset: str, amount: int) -> Posting:
    """What was on its way out has left the hot address."""
    return Posting(_in_transit(network, asset), _custody(network, asset), asset, amount)


def given_back(withdrawal: Withdrawal, mined: Mined, *, place: str, on_record: bool, attempt: int) -> Post:
    """A leg's coin that left with its batch and, at `place`, came back in the same transaction.

    Not `on_record`: what came back is a surplus, which stands in suspense, or will.
    """
    sides = left(withdrawal.network, withdrawal.asset, withdrawal.amount)
    back = sides.credit if on_record else house_account(SUSPENSE, withdrawal.asset)
    return Post(
        id=_command(withdrawal, "given-back", attempt),
        subject=withdrawal.id,
        evidence=_evidence(withdrawal, mined, place),
        postings=(Posting(back, sides.debit, sides.asset, sides.amount),),
    )


def unpaid(
    withdrawal: Withdrawal, mined: Mined, *, gas: tuple[Posting, ...], attempt: int, fee: int = 0, place: str = "gas"
) -> tuple[Command, ...]:
    """A final transaction that paid nothing; of a batch, that didn't pay this leg, as is told at `place`.

    `fee`: what its owner bears of the gas, having been warned of it.
    """
    evidence = _evidence(withdrawal, mined, place)
    subject, hold = withdrawal.id, withdrawal.hold
    end: Command = Void(id=_command(withdrawal, "void", attempt), subject=subject, evidence=evidence, hold=hold)
    if fee:
        end = Settle(
            id=_command(withdrawal, "fee", attempt),
            subject=subject,
            evidence=evidence,
            hold=hold,
            amounts=((1, fee),),
            close=True,
        )
    if not gas:
        return (end,)
    post = Post(id=_command(withdrawal, "gas", attempt), subject=subject, evidence=evidence, postings=gas)
    return end, post


def fee_of_reverted(withdrawal: Withdrawal, mined: Mined) -> int:
    """What its owner pays for a payment that was turned down: nothing, unless they had it made against a warning.

    Else anybody could have the house's gas burnt by contracts that refuse.
    """
    return fee_of(withdrawal, mined) if WarningCode.CONTRACT_REFUSES in withdrawal.accepted else 0


def paid_from_suspense(
    withdrawal: Withdrawal,
    payment: SeenPayment,
    *,
    fee: int,
    gas: tuple[Posting, ...],
    request: str,
    said: Mapping[str, str],
    own: Mined | None = None,
    own_gas: tuple[Posting, ...] = (),
) -> tuple[Command, ...]:
    """A payment that was booked to suspense as a foreign outflow, and was this one, as a treasurer said.

    `own`: its own transaction, where that is final and paid nothing; its gas was spent all the same.
    """
    asset, where = withdrawal.asset, (payment.block_number, payment.block_hash, payment.tx_hash)
    settle = Settle(
        id=request,
        subject=withdrawal.id,
        evidence=ChainEvidence(withdrawal.network, *where, payment.place),
        hold=withdrawal.hold,
        amounts=shares(withdrawal, fee),
        close=True,
        metadata=said,
    )
    left = Post(
        id=worker_id(f"resolution:{request}:paid", 1),
        subject=withdrawal.id,
        evidence=settle.evidence,
        postings=(
            Posting(_in_transit(withdrawal.network, asset), house_account(SUSPENSE, asset), asset, withdrawal.amount),
        ),
    )
    commands: tuple[Command, ...] = (settle, left, *_gas(withdrawal, where, gas, request))
    if own is not None:
        at = (own.block_number, own.block_hash, own.tx_hash)
        commands += _gas(withdrawal, at, own_gas, request, act="own-gas")
    return commands


def returned(
    withdrawal: Withdrawal,
    where: tuple[int, str, str, str],
    *,
    gas: tuple[Posting, ...],
    request: str,
    said: Mapping[str, str],
) -> tuple[Command, ...]:
    """Nothing can pay it any more, as a treasurer said: all of it comes back. `where`: block, its hash, hash, place."""
    void = Void(
        id=request,
        subject=withdrawal.id,
        evidence=ChainEvidence(withdrawal.network, *where),
        hold=withdrawal.hold,
        metadata=said,
    )
    return void, *_gas(withdrawal, where[:3], gas, request)


def gas_from_suspense(native: str, amount: int) -> tuple[Posting, ...]:
    """Gas that was booked to suspense with a foreign outflow, as the house's cost after all."""
    if not amount:
        return ()
    return (Posting(house_account(GAS_EXPENSE, native), house_account(SUSPENSE, native), native, amount),)


def gas_postings(network: str, native: str, amount: int, *, role: str = "hot") -> tuple[Posting, ...]:
    """Gas paid by an own address, in the native asset's smallest units; none where a network charges nothing."""
    if not amount:
        return ()
    payer = house_account(f"custody:{network}:{role}", native)
    return (Posting(house_account(GAS_EXPENSE, native), payer, native, amount),)


def fee_of(withdrawal: Withdrawal, mined: Mined) -> int:
    """What its owner pays for the gas."""
    return actual_fee(withdrawal.fee_price, fee_wei=mined.fee_wei, fee_highest=withdrawal.fee_highest)


def accounts(withdrawal: Withdrawal, *, native: str) -> tuple[str, ...]:
    """Every account that it may touch until its end."""
    sides = [side for posting in _held(withdrawal) for side in (posting.debit, posting.credit)]
    gas = (house_account(GAS_EXPENSE, native), _custody(withdrawal.network, native))
    return (*sides, _custody(withdrawal.network, withdrawal.asset), *gas)


def suspense_accounts(withdrawal: Withdrawal, *, native: str) -> tuple[str, ...]:
    """Where what left us without us stands."""
    return house_account(SUSPENSE, withdrawal.asset), house_account(SUSPENSE, native)


def paying(withdrawal: Withdrawal) -> tuple[str, str]:
    """Whose money it is, and what it's paid from: a freeze on either stops it."""
    return user_account(withdrawal.owner, withdrawal.asset), _custody(withdrawal.network, withdrawal.asset)


def _held(withdrawal: Withdrawal) -> tuple[Posting, ...]:
    """In the order in which settling names them: 0 the amount, 1 the network's fee, 2 the service fee if any."""
    user, asset = user_account(withdrawal.owner, withdrawal.asset), withdrawal.asset
    fees = house_account(FEES, asset)
    postings = (
        Posting(user, _in_transit(withdrawal.network, asset), asset, withdrawal.amount),
        Posting(user, fees, asset, withdrawal.fee_highest),
    )
    if not withdrawal.service_fee:
        return postings
    return *postings, Posting(user, fees, asset, withdrawal.service_fee)


def _in_transit(network: str, asset: str) -> str:
    return house_account(f"in-transit:{network}:out", asset)


def _custody(network: str, asset: str) -> str:
    return house_account(f"custody:{network}:hot", asset)


def _command(withdrawal: Withdrawal, act: str, attempt: int) -> str:
    return worker_id(f"withdrawal:{withdrawal.id}:{act}", attempt)


def _evidence(withdrawal: Withdrawal, mined: Mined, place: str) -> ChainEvidence:
    return ChainEvidence(withdrawal.network, mined.block_number, mined.block_hash, mined.tx_hash, place)


def _gas(
    withdrawal: Withdrawal, where: tuple[int, str, str], gas: tuple[Posting, ...], request: str, *, act: str = "gas"
) -> tuple[Command, ...]:
    if not gas:
        return ()
    evidence = ChainEvidence(withdrawal.network, *where, "gas")
    id = worker_id(f"resolution:{request}:{act}", 1)
    return (Post(id=id, subject=withdrawal.id, evidence=evidence, postings=gas),)
