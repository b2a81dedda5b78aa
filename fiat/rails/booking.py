"""What payments, refunds, disputes and settlements become in the book: postings and commands, as the chart says. Pure.

`provider:<rail>` is what the provider owes us. A captured payment is credited gross; the provider's fee is the house's
cost (`rail-fees`), and where the settings say so its user gives it back to the house. The house's own fee (`fees`) is
taken off what arrives. What the provider takes from us after its user spent it becomes a receivable, which whatever
they get next repays (`ledger.owing`).

Each command names its rail and the provider's id of what caused it as evidence: a freeze doesn't stop it.
"""

from collections.abc import Sequence
from enum import StrEnum

from fiat.payouts import Payout
from fiat.rails.protocol import Payment
from fiat.rails.records import Dispute, Refund, Settlement
from fiat.top_ups import TopUp
from ledger.accounts import house_account, user_account
from ledger.commands import Charge, Command, Hold, Post, Posting, RailEvidence, Settle, Void
from ledger.owing import receivable_account
from ledger.requests import worker_id

FEES = "fees"
RAIL_FEES = "rail-fees"
SUSPENSE = "suspense"


class FeeBearer(StrEnum):
    """Who bears the provider's fees of payments and disputes."""

    HOUSE = "house"
    USER = "user"


def provider_account(rail: str, asset: str) -> str:
    """The house account of what the provider owes us, a negative balance as every asset's."""
    return house_account(f"provider:{rail}", asset)


def on_its_way(rail: str, asset: str) -> str:
    """The house account of what the provider has sent to our bank."""
    return house_account(f"in-transit:{rail}:in", asset)


def accounts(rail: str, owner: str, asset: str) -> tuple[str, ...]:
    """Every account that a top-up, its refunds and disputes may touch."""
    return (
        provider_account(rail, asset),
        house_account(FEES, asset),
        house_account(RAIL_FEES, asset),
        house_account(SUSPENSE, asset),
        receivable_account(owner, asset),
        user_account(owner, asset),
    )


def hold_top_up(top_up: TopUp, *, charges: tuple[Charge, ...]) -> Hold:
    """What asking sets aside, so that it counts in limits; without an end: only the payment's settles or voids it.

    `charges`: what it uses up of limits and allowances.
    """
    assert top_up.hold is not None
    return Hold(id=top_up.hold, subject=top_up.id, postings=(_coming_in(top_up, top_up.amount),), charges=charges)


def credit(
    top_up: TopUp, payment: Payment, *, fee: int, service_fee: int, bearer: FeeBearer, attempt: int
) -> tuple[Command, ...]:
    """A captured payment: gross to its user, the provider's fee off what it owes us, the house's off what arrived.

    What was held is settled; one that isn't held, or isn't any more, is booked as it comes.
    """
    evidence, name = RailEvidence(top_up.rail, payment.id), f"top-up:{top_up.id}"
    costs = (
        *_fee(top_up.rail, top_up.owner, top_up.asset, fee, bearer),
        *_service_fee(top_up.owner, top_up.asset, service_fee),
    )
    if not top_up.held:
        id, came = worker_id(f"{name}:credit", attempt), _coming_in(top_up, payment.captured)
        return (Post(id=id, subject=top_up.id, evidence=evidence, postings=(came, *costs)),)
    assert top_up.hold is not None
    settle = Settle(
        id=worker_id(f"{name}:final", attempt),
        subject=top_up.id,
        evidence=evidence,
        hold=top_up.hold,
        amounts=((0, payment.captured),),
        close=True,
    )
    if not costs:
        return (settle,)
    return settle, Post(id=worker_id(f"{name}:costs", attempt), subject=top_up.id, evidence=evidence, postings=costs)


def release_top_up(top_up: TopUp, *, attempt: int) -> Void:
    """Nothing was taken: its share of limits is free again."""
    assert top_up.hold is not None
    evidence = RailEvidence(top_up.rail, top_up.source or top_up.id)
    id = worker_id(f"top-up:{top_up.id}:release", attempt)
    return Void(id=id, subject=top_up.id, evidence=evidence, hold=top_up.hold)


def suspend(top_up: TopUp, payment: Payment, *, fee: int, attempt: int) -> Post:
    """A captured payment whose user's account the book won't credit: set aside for a person."""
    provider, asset = provider_account(top_up.rail, top_up.asset), top_up.asset
    return Post(
        id=worker_id(f"top-up:{top_up.id}:suspend", attempt),
        subject=top_up.id,
        evidence=RailEvidence(top_up.rail, payment.id),
        postings=(
            Posting(provider, house_account(SUSPENSE, asset), asset, payment.captured),
            *_fee(top_up.rail, top_up.owner, asset, fee, FeeBearer.HOUSE),
        ),
    )


def late_fee(top_up: TopUp, *, fee: int, bearer: FeeBearer, attempt: int) -> Post:
    """A fee that the provider told after the payment was credited."""
    assert top_up.source is not None
    return Post(
        id=worker_id(f"top-up:{top_up.id}:fee", attempt),
        subject=top_up.id,
        evidence=RailEvidence(top_up.rail, top_up.source),
        postings=_fee(top_up.rail, top_up.owner, top_up.asset, fee, bearer),
    )


# Refunds


def hold_refund(refund: Refund, *, owing_nothing: tuple[str, ...]) -> Hold:
    """What asking sets aside; without an end, since only the provider's word settles or voids it."""
    assert refund.hold is not None
    return Hold(id=refund.hold, subject=refund.id, postings=(_giving_back(refund),), owing_nothing=owing_nothing)


def refunded(refund: Refund, *, source: str, fee: int, attempt: int) -> tuple[Command, ...]:
    """The provider has given it back."""
    evidence, name = RailEvidence(refund.rail, source), f"refund:{refund.id}"
    first: Command
    if refund.hold is not None:
        first = Settle(
            id=worker_id(f"{name}:final", attempt),
            subject=refund.id,
            evidence=evidence,
            hold=refund.hold,
            amounts=((0, refund.amount),),
            close=True,
        )
    else:
        taken = _giving_back(refund, rest=receivable_account(refund.owner, refund.asset))
        first = Post(id=worker_id(f"{name}:final", attempt), subject=refund.id, evidence=evidence, postings=(taken,))
    if not fee:
        return (first,)
    postings = _fee(refund.rail, refund.owner, refund.asset, fee, FeeBearer.HOUSE)
    return first, Post(id=worker_id(f"{name}:fee", attempt), subject=refund.id, evidence=evidence, postings=postings)


def release_refund(refund: Refund, *, attempt: int) -> Void:
    """It came to nothing: what was held is the user's again."""
    assert refund.hold is not None
    evidence = RailEvidence(refund.rail, refund.source or refund.id)
    id = worker_id(f"refund:{refund.id}:release", attempt)
    return Void(id=id, subject=refund.id, evidence=evidence, hold=refund.hold)


def refund_came_back(refund: Refund, *, source: str, attempt: int) -> Post:
    """It failed after it was final: the provider has the money again, and so has its user, less what they owe."""
    return Post(
        id=worker_id(f"refund:{refund.id}:came-back", attempt),
        subject=refund.id,
        evidence=RailEvidence(refund.rail, source),
        postings=(_to_user(refund.rail, refund.owner, refund.asset, refund.amount),),
    )


# Payouts (the rest of what they book is every rail's: `fiat.payout_entries`)


def payout_fee(payout: Payout, *, source: str, more: int, act: str) -> tuple[Post, ...]:
    """What the provider charges the house for a payout beyond what is booked; less, as a negative number; or nothing.

    The user pays the house's own fee instead, whoever bears the fees of top-ups.
    """
    if not more:
        return ()
    return (
        Post(
            id=worker_id(f"payout:{payout.id}:rail-fee", act),
            subject=payout.id,
            evidence=RailEvidence(payout.rail, source),
            postings=_fee(payout.rail, payout.owner, payout.asset, more, FeeBearer.HOUSE),
        ),
    )


# Disputes


def dispute_move(*, name: str, dispute: Dispute, taken: int, fee: int, bearer: FeeBearer, attempt: int) -> Post | None:
    """What changed at the provider since the last look, or None if nothing did. Both signed, smallest units.

    `name`: of this change, the same for all who see it. `taken`: how much more the provider has withdrawn (less: a
    negative number), `fee` likewise.
    """
    rail, owner, asset = dispute.rail, dispute.owner, dispute.asset
    postings: list[Posting] = []
    if taken > 0:
        user, provider = user_account(owner, asset), provider_account(rail, asset)
        postings.append(Posting(user, provider, asset, taken, debit_rest=receivable_account(owner, asset)))
    elif taken < 0:
        postings.append(_to_user(rail, owner, asset, -taken))
    postings += _fee(rail, owner, asset, fee, bearer)
    if not postings:
        return None
    return Post(
        id=worker_id(f"dispute:{name}", attempt),
        subject=dispute.id,
        evidence=RailEvidence(rail, dispute.source),
        postings=tuple(postings),
    )


# Settlements


def settlement_sent(settlement: Settlement, *, attempt: int) -> Post:
    """The provider has taken it out of what it owes us, and sent it to our bank; a negative one the other way."""
    way, provider = _ends(settlement)
    return _settlement(settlement, "sent", _signed(settlement, way, provider), attempt)


def settlement_matched(settlement: Settlement, *, request: str) -> Post:
    """A bank line that waits in suspense is its money, as a treasurer or its descriptor said."""
    way, _ = _ends(settlement)
    return Post(
        id=request,
        subject=settlement.id,
        postings=(_signed(settlement, house_account(SUSPENSE, settlement.asset), way),),
        metadata={"rail": settlement.rail, "settlement": settlement.source},
    )


def matching_id(settlement: Settlement, line: str, *, attempt: int) -> str:
    """The id of matching a line without a person."""
    return worker_id(f"settlement:{settlement.rail}:{settlement.source}:matched:{line}", attempt)


def settlement_failed(settlement: Settlement, *, attempt: int) -> Post:
    """It came back to the provider."""
    way, provider = _ends(settlement)
    return _settlement(settlement, "failed", _signed(settlement, provider, way), attempt)


def settlement_accounts(rail: str, asset: str) -> tuple[str, ...]:
    return provider_account(rail, asset), on_its_way(rail, asset), house_account(SUSPENSE, asset)


def _ends(settlement: Settlement) -> tuple[str, str]:
    return on_its_way(settlement.rail, settlement.asset), provider_account(settlement.rail, settlement.asset)


def _signed(settlement: Settlement, debit: str, credit: str) -> Posting:
    """Its amount from the one account to the other; a negative one back."""
    asset, amount = settlement.asset, settlement.amount
    return Posting(debit, credit, asset, amount) if amount > 0 else Posting(credit, debit, asset, -amount)


def _settlement(settlement: Settlement, act: str, posting: Posting, attempt: int) -> Post:
    return Post(
        id=worker_id(f"settlement:{settlement.rail}:{settlement.source}:{act}", attempt),
        subject=settlement.id,
        evidence=RailEvidence(settlement.rail, settlement.source),
        postings=(posting,),
    )


def _coming_in(top_up: TopUp, amount: int) -> Posting:
    asset = top_up.asset
    return Posting(provider_account(top_up.rail, asset), user_account(top_up.owner, asset), asset, amount)


def _service_fee(owner: str, asset: str, fee: int) -> tuple[Posting, ...]:
    """The house's fee of a top-up; none for zero. What came in with it covers it, whatever else its user owes."""
    if not fee:
        return ()
    user, owed = user_account(owner, asset), receivable_account(owner, asset)
    return (Posting(user, house_account(FEES, asset), asset, fee, debit_rest=owed),)


def _giving_back(refund: Refund, *, rest: str | None = None) -> Posting:
    user, provider = user_account(refund.owner, refund.asset), provider_account(refund.rail, refund.asset)
    return Posting(user, provider, refund.asset, refund.amount, debit_rest=rest)


def _to_user(rail: str, owner: str, asset: str, amount: int) -> Posting:
    """Money that the provider has again: first against what its user owes."""
    owed, user = receivable_account(owner, asset), user_account(owner, asset)
    return Posting(provider_account(rail, asset), owed, asset, amount, credit_rest=user)


def _fee(rail: str, owner: str, asset: str, fee: int, bearer: FeeBearer) -> tuple[Posting, ...]:
    """The provider's fee, or what it gives back of one as a negative number; none for zero."""
    if not fee:
        return ()
    cost, provider, user = house_account(RAIL_FEES, asset), provider_account(rail, asset), user_account(owner, asset)
    if fee > 0:
        postings: Sequence[Posting] = [Posting(cost, provider, asset, fee)]
        if bearer is FeeBearer.USER:
            postings = [*postings, Posting(user, cost, asset, fee, debit_rest=receivable_account(owner, asset))]
        return tuple(postings)
    postings = [Posting(provider, cost, asset, -fee)]
    if bearer is FeeBearer.USER:
        postings = [*postings, Posting(cost, receivable_account(owner, asset), asset, -fee, credit_rest=user)]
    return tuple(postings)
