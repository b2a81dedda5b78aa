"""The next attempt of a transaction: the first, one that outbids it, one that cancels it. Pure.

An attempt once made never changes. What comes after it has the same nonce and raises both fees; once one cancels, so do
all after it. Nothing here is signed or sent.
"""

from chain.fees import Bid, Market, cap_per_gas, first_bid, is_outdone, outbid
from chain.networks import Network
from chain.payments import CANCEL, PAY, Attempt, OwnTransaction
from chain.transaction_states import WaitingFor

CANCEL_GAS = 21_000
"""Gas of a transaction that moves nothing to the sender itself: exactly what a plain one takes."""

Lack = tuple[WaitingFor, str]
"""What is waited for, and the words for it."""


def first_attempt(transaction: OwnTransaction, market: Market, network: Network) -> Attempt | Lack:
    """The first offer at today's market; while gas is above what the payment may cost, that is waited for."""
    payment = transaction.payment
    cap = _cap(transaction, network, payment.gas_limit)
    bid = first_bid(market, tip_floor=network.tip_floor, cap=cap)
    if bid is None:
        return WaitingFor.FEE, f"gas costs more than {cap} wei now"
    return _attempt(transaction, number=1, kind=PAY, gas_limit=payment.gas_limit, bid=bid)


def next_attempt(
    transaction: OwnTransaction, newest: Attempt, market: Market, network: Network, *, is_underpriced: bool = False
) -> Attempt | Lack | None:
    """What outbids `newest`, or cancels where that is wanted and nothing does yet; None: `newest` is as good as any.

    At the cap no more attempts are made: the same bytes stay, and the market is waited for. `is_underpriced`: a node
    wants more than `newest` offers, whatever the market says.
    """
    cancels = transaction.cancelling is not None or newest.cancels
    begins_cancelling = cancels and not newest.cancels
    if not (begins_cancelling or is_underpriced or is_outdone(newest.bid, market)):
        return None
    gas_limit = CANCEL_GAS if cancels else newest.gas_limit
    cap = _cap(transaction, network, gas_limit)
    bid = outbid(newest.bid, market, tip_floor=network.tip_floor, cap=cap)
    if bid is None:
        what = "cancelling it" if cancels else "a replacement"
        return WaitingFor.FEE, f"{what} would offer more than {cap} wei per gas, which is the most that's allowed"
    kind = CANCEL if cancels else newest.kind
    return _attempt(transaction, number=newest.attempt + 1, kind=kind, gas_limit=gas_limit, bid=bid)


def _cap(transaction: OwnTransaction, network: Network, gas_limit: int) -> int:
    """The most that an attempt may offer, in wei per gas."""
    return cap_per_gas(
        network_cap=network.max_fee_per_gas_cap, fee_wei_max=transaction.payment.fee_wei_max, gas_limit=gas_limit
    )


def _attempt(transaction: OwnTransaction, *, number: int, kind: str, gas_limit: int, bid: Bid) -> Attempt:
    assert transaction.nonce is not None
    return Attempt(
        transaction=transaction.id,
        attempt=number,
        kind=kind,
        nonce=transaction.nonce,
        gas_limit=gas_limit,
        bid=bid,
        tx_hash=None,
        raw=None,
        sent_at=None,
        last_sent_at=None,
    )
