"""Alerts: what somebody of the house has to look at now. Each stands as long as its cause does; nothing is kept here.

They are read off the causes themselves (a halted network, nodes that disagree, a debt, money in quarantine, a stopped
token, an altered address, a refused sweep, an approval that is wanted, payments that wait, a sender that did something
without us, breaks that nobody has accounted for, a database that was put back, what of the fiat rails waits for a
person), so that none is forgotten and none
outlives what it tells of.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from chain import foreign_store, restores, token_store, transaction_store
from chain.address_check import open_findings
from chain.foreign import OpenFinding
from chain.networks import Network, Registry
from chain.payments import OwnTransaction, Stalled
from chain.status import NODES_DISAGREE, NetworkStatus, status_if_followed
from chain.transaction_states import Kind, WaitingFor
from db.engine import tx
from fiat.rails.records import Dispute, Settlement
from fiat.waiting import DeadLetters, PaidAfterEnd, Suspended, UnknownPayouts, UnknownRefunds, load_waiting
from ledger.accounts import HOUSE, Account
from ledger.engine import Ledger
from ledger.money import Asset, format_amount
from treasury import break_alerts, break_store
from treasury.approval_store import OpenRequest, load_open
from treasury.break_records import Resolution
from treasury.refill_store import load_all_standing
from treasury.sweep_records import Refill
from treasury.sweep_store import Unsweepable, count_unsweepable


class Severity(StrEnum):
    CRITICAL = "critical"
    """Something has stopped, or money is missing."""
    WARNING = "warning"


class AlertCode(StrEnum):
    NETWORK_HALTED = "network_halted"
    NODES_DISAGREE = "nodes_disagree"
    RECEIVABLE_OPEN = "receivable_open"
    QUARANTINE_HELD = "quarantine_held"
    TOKEN_STOPPED = "token_stopped"  # noqa: S105 - not a password
    ADDRESSES_DISAGREE = "addresses_disagree"
    NEEDS_RECOVERY = "needs_recovery"
    SENDER_HALTED = "sender_halted"
    SWEEP_REFUSED = "sweep_refused"
    REFILL_NEEDED = "refill_needed"
    PAYMENTS_WAIT = "payments_wait"
    PAYMENT_UNCLEAR = "payment_unclear"
    APPROVAL_WANTED = "approval_wanted"
    WEBHOOKS_DEAD = "webhooks_dead"
    DISPUTE_OPEN = "dispute_open"
    SETTLEMENT_DIFFERS = "settlement_differs"
    SETTLEMENT_LATE = "settlement_late"
    PAYOUTS_UNKNOWN = "payouts_unknown"
    REFUNDS_UNKNOWN = "refunds_unknown"
    SUSPENSE_WAITS = "suspense_waits"
    PAYOUT_PAID_LATE = "payout_paid_late"
    BREAK_OPEN = "break_open"
    RESOLUTION_WANTED = "resolution_wanted"


UNCLEAR_MAX = 100
"""Payments, disputes and settlements in need of a person that are told one by one."""

RESPOND_WITHIN = timedelta(days=2)
"""A dispute that must be answered sooner than that is critical: unanswered it's lost."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One cause. `subject` names what it's about; `since` is None where nobody wrote down when it began."""

    code: AlertCode
    severity: Severity
    subject: str
    text: str
    since: datetime | None


class UnderReview(Protocol):
    """What waits for a person's decision."""

    @property
    def id(self) -> str: ...
    @property
    def reason(self) -> str | None: ...
    @property
    def updated_at(self) -> datetime: ...


class Reviews(Protocol):
    """Knows the withdrawals that a person must end; the wallet's reviews do."""

    async def under_review(self) -> Sequence[UnderReview]:
        """All of them, the oldest first."""
        ...


class Unassigned(Protocol):
    """Knows of payments that no sender can make now; the wallet answers."""

    async def unassigned(self) -> Sequence[Stalled]:
        """They, by network and what they wait for."""
        ...


class Alerts:
    """Reads what stands now."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        ledger: Ledger,
        registry: Registry,
        clock: Clock,
        payments: Unassigned | None = None,
        reviews: Reviews | None = None,
        break_ages: break_alerts.Ages = break_alerts.AGED_AFTER,
    ) -> None:
        self._engine = engine
        self._payments = payments
        self._ledger = ledger
        self._registry = registry
        self._clock = clock
        self._reviews = reviews
        self._break_ages = break_ages

    async def open(self) -> list[Alert]:
        """All of them, the critical ones first."""
        found: list[Alert] = []
        async with tx(self._engine) as connection:
            for network in self._registry.networks.values():
                at = await status_if_followed(connection, network)
                found += [] if at is None else _of_network(network, at)
                tokens = self._registry.tokens(network.name)
                known = await token_store.load_tokens(connection, network.name, list(tokens))
                for contract, token in known.items():
                    if token.finding is not None:
                        subject = f"{tokens[contract].asset} on {network.name}"
                        text = f"it's neither credited nor paid: {token.finding}"
                        since = token.finding.first_seen_at
                        found.append(Alert(AlertCode.TOKEN_STOPPED, Severity.CRITICAL, subject, text, since))
                found += _of_senders(network, await foreign_store.load_open(connection, network.name))
            if (halt := await restores.halt(connection)) is not None:
                text = f"{halt.why}: nothing is reserved, signed, sent or spent until `onebook recover` has run"
                found.append(Alert(AlertCode.NEEDS_RECOVERY, Severity.CRITICAL, "database", text, halt.since))
            for finding in await open_findings(connection):
                text = f"no address is issued: {finding}"
                subject, since = f"{finding.keys} addresses", finding.first_seen_at
                found.append(Alert(AlertCode.ADDRESSES_DISAGREE, Severity.CRITICAL, subject, text, since))
            for refused in await count_unsweepable(connection, self._ledger.book):
                found.append(_of_sweeps(refused))
            refills = await load_all_standing(connection, self._ledger.book)
            differing = await break_store.load_oldest(connection, self._ledger.book, per_kind=break_alerts.TOLD_MAX)
            proposed = await break_store.load_proposals(connection, self._ledger.book, limit=UNCLEAR_MAX)
            found += [_of_payments(stalled) for stalled in await transaction_store.stalled(connection)]
            found += [_of_approval(one) for one in await load_open(connection, self._ledger.book, limit=UNCLEAR_MAX)]
            now = self._clock.now()
            rails = await load_waiting(connection, self._ledger.book, now=now, limit=UNCLEAR_MAX)
            in_review = await transaction_store.in_review(connection, limit=UNCLEAR_MAX)
        # A withdrawal is unclear until a person has ended it, whatever its transaction stays.
        told_apart = self._reviews is not None
        found += [_unclear(one) for one in in_review if not (told_apart and one.payment.kind is Kind.WITHDRAWAL)]
        if self._reviews is not None:
            found += [_under_review(one) for one in await self._reviews.under_review()]
        if self._payments is not None:
            found += [_of_payments(stalled, place="withdrawals") for stalled in await self._payments.unassigned()]
        assets = await self._ledger.assets()
        found += [_of_refill(refill, assets[refill.asset]) for refill in refills]
        found += [_of_breaks(kind) for kind in break_alerts.standing(differing, now, self._break_ages)]
        found += [_of_resolution(one) for one in proposed]
        found += [_of_webhooks(dead) for dead in rails.dead]
        found += [_of_dispute(dispute, assets[dispute.asset], now) for dispute in rails.disputes]
        found += [_differs(settlement, assets[settlement.asset]) for settlement in rails.differing]
        found += [_late(settlement, assets[settlement.asset]) for settlement in rails.late]
        found += [_of_unknown(unknown, assets[unknown.asset]) for unknown in rails.unknown]
        found += [_of_unknown_refunds(unknown, assets[unknown.asset]) for unknown in rails.unknown_refunds]
        found += [_of_suspense(suspended) for suspended in rails.suspended]
        found += [_paid_late(ended, assets[ended.asset]) for ended in rails.ended]
        for account in await self._ledger.accounts(owner=HOUSE):
            found += _of_account(account, assets[account.asset])
        return sorted(found, key=lambda alert: (alert.severity is not Severity.CRITICAL, alert.code, alert.subject))


def _of_network(network: Network, at: NetworkStatus) -> Iterator[Alert]:
    if at.halted is not None and at.halted != NODES_DISAGREE:
        text = f"{at.halted}: nothing is credited or paid until somebody has looked"
        yield Alert(AlertCode.NETWORK_HALTED, Severity.CRITICAL, network.name, text, at.halted_at)
    if at.disagreement is not None:
        stops = at.disagreement.found.stops
        meanwhile = "nothing is credited or paid meanwhile" if stops else "the others agree, and are believed"
        severity = Severity.CRITICAL if stops else Severity.WARNING
        since = at.disagreement.first_seen_at
        yield Alert(AlertCode.NODES_DISAGREE, severity, network.name, f"{at.disagreement}; {meanwhile}", since)


def _of_senders(network: Network, open_: Sequence[OpenFinding]) -> Iterator[Alert]:
    for address in sorted({one.finding.address for one in open_}):
        here = [one for one in open_ if one.finding.address == address]
        more = f" ({len(here)} findings in all)" if len(here) > 1 else ""
        text = f"nothing is signed for it: {here[0]}{more}. GET /v1/treasury/halted-senders; a treasurer lifts it"
        subject, since = f"{address} on {network.name}", here[0].found_at
        yield Alert(AlertCode.SENDER_HALTED, Severity.CRITICAL, subject, text, since)


def _of_sweeps(refused: Unsweepable) -> Alert:
    addresses = "1 address" if refused.count == 1 else f"{refused.count} addresses"
    text = f"{addresses} can't be swept, {refused.reason}: GET /v1/treasury/sweeps?state=unsweepable shows them"
    subject = f"{refused.asset} on {refused.network}"
    return Alert(AlertCode.SWEEP_REFUSED, Severity.WARNING, subject, text, refused.since)


def _of_approval(request: OpenRequest) -> Alert:
    until = request.not_after.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    text = (
        f"{request.subject} waits for {request.needed} approvals, {request.signed} are there:"
        f" `onebook approve {request.id}`, until {until}"
    )
    return Alert(AlertCode.APPROVAL_WANTED, Severity.WARNING, request.id, text, request.created_at)


def _of_breaks(kind: break_alerts.Standing) -> Alert:
    severity = Severity.CRITICAL if kind.aged else Severity.WARNING
    return Alert(AlertCode.BREAK_OPEN, severity, kind.reason, kind.text, kind.oldest.first_seen_at)


def _of_resolution(one: Resolution) -> Alert:
    text = break_alerts.wanted(one)
    return Alert(AlertCode.RESOLUTION_WANTED, Severity.WARNING, one.break_id, text, one.proposed_at)


def _of_refill(refill: Refill, asset: Asset) -> Alert:
    amount, subject = f"{format_amount(refill.amount, asset)} {asset.code}", f"{asset.code} on {refill.network}"
    text = f"the hot address needs {amount} from cold, since {refill.reason}"
    if refill.inflow is not None:
        text += f"; {refill.inflow} brought as much: say so, if it's that"
    return Alert(AlertCode.REFILL_NEEDED, Severity.WARNING, subject, text, refill.created_at)


_LACKS = {
    WaitingFor.FEE: "for lower fees",
    WaitingFor.GAS: "for gas at the addresses that pay",
    WaitingFor.FUNDS: "for funds at the addresses that pay",
}


def _of_payments(stalled: Stalled, *, place: str = "payments") -> Alert:
    """Nobody is paid less or later than that: they go on by themselves once it's there."""
    words = f": {stalled.words}" if stalled.words else ""
    text = f"{stalled.count} wait {_LACKS.get(stalled.waiting_for, f'for {stalled.waiting_for}')}{words}"
    subject = f"{place} on {stalled.network}, {stalled.waiting_for}"
    return Alert(AlertCode.PAYMENTS_WAIT, Severity.WARNING, subject, text, stalled.since)


def _unclear(one: OwnTransaction) -> Alert:
    text = f"{one.refusal}; it's never paid again by itself, and what it holds stays held until somebody has looked"
    return Alert(AlertCode.PAYMENT_UNCLEAR, Severity.CRITICAL, one.payment.subject, text, one.updated_at)


def _under_review(one: UnderReview) -> Alert:
    text = f"{one.reason}; it's held until a treasurer ends it: GET /v1/treasury/withdrawals shows what was found"
    return Alert(AlertCode.PAYMENT_UNCLEAR, Severity.CRITICAL, one.id, text, one.updated_at)


def _of_account(account: Account, asset: Asset) -> Iterator[Alert]:
    kind, _, owner = account.purpose.partition(":")
    amount = f"{format_amount(abs(account.balance), asset)} {asset.code}"
    if kind == "receivable" and account.balance < 0:
        text = f"{owner} owes {amount}, spent before it was taken back; nothing leaves their accounts until it's repaid"
        yield Alert(AlertCode.RECEIVABLE_OPEN, Severity.CRITICAL, owner, text, None)
    if kind == "quarantine" and account.balance > 0:
        text = f"{amount} of listed senders: GET /v1/treasury/deposits shows the deposits"
        yield Alert(AlertCode.QUARANTINE_HELD, Severity.WARNING, asset.code, text, None)


def _of_webhooks(dead: DeadLetters) -> Alert:
    text = f"{_many(dead.count, 'webhook')} without effect ({dead.code}): `onebook webhooks list`, then retry"
    return Alert(AlertCode.WEBHOOKS_DEAD, Severity.WARNING, dead.rail, text, dead.since)


def _of_dispute(dispute: Dispute, asset: Asset, now: datetime) -> Alert:
    """Told as long as it's ours to answer: from then on the provider decides."""
    urgent = dispute.respond_by is not None and dispute.respond_by - now < RESPOND_WITHIN
    until = "with no time limit known"
    if dispute.respond_by is not None:
        until = f"until {dispute.respond_by.astimezone(UTC):%Y-%m-%d %H:%M UTC}"
    amount = f"{format_amount(dispute.amount, asset)} {asset.code}"
    text = f"{amount} of {dispute.top_up} are disputed ({dispute.source}): answer at {dispute.rail}'s own pages {until}"
    severity = Severity.CRITICAL if urgent else Severity.WARNING
    return Alert(AlertCode.DISPUTE_OPEN, severity, dispute.id, text, dispute.opened_at)


def _differs(settlement: Settlement, asset: Asset) -> Alert:
    unexplained = f"{format_amount(settlement.unexplained, asset)} {asset.code}"
    text = (
        f"of {settlement.rail}'s settlement {settlement.source} {_many(settlement.differences, 'entry', 'entries')}"
        f" and {unexplained} don't fit the book: GET /v1/treasury/settlements/{settlement.id}; a treasurer accepts it"
    )
    return Alert(AlertCode.SETTLEMENT_DIFFERS, Severity.WARNING, settlement.id, text, settlement.created_at)


def _late(settlement: Settlement, asset: Asset) -> Alert:
    amount = f"{format_amount(abs(settlement.amount), asset)} {asset.code}"
    act = "arrive" if settlement.amount > 0 else "be taken from our bank account"
    due = f"was to {act} on {settlement.arrives_on}" if settlement.arrives_on else "is on its way for too long"
    text = f"{amount} of {settlement.rail}'s settlement {settlement.source} {due}, and no bank line is its money yet"
    return Alert(AlertCode.SETTLEMENT_LATE, Severity.CRITICAL, settlement.id, text, settlement.created_at)


def _of_unknown(unknown: UnknownPayouts, asset: Asset) -> Alert:
    amount = f"{format_amount(unknown.amount, asset)} {asset.code}"
    text = (
        f"{_many(unknown.count, 'payout')} of {amount} in all, perhaps paid: ask who pays them, then take in its"
        " statement or say that they failed (GET /v1/treasury/payouts?state=unknown)"
    )
    subject = f"{unknown.account}, {asset.code}"
    return Alert(AlertCode.PAYOUTS_UNKNOWN, Severity.CRITICAL, subject, text, unknown.since)


def _of_unknown_refunds(unknown: UnknownRefunds, asset: Asset) -> Alert:
    amount = f"{format_amount(unknown.amount, asset)} {asset.code}"
    text = (
        f"{_many(unknown.count, 'refund')} of {amount} in all, perhaps made: look at the provider's pages, then two"
        " people say what became of each (GET /v1/treasury/refunds?state=unknown)"
    )
    return Alert(AlertCode.REFUNDS_UNKNOWN, Severity.WARNING, f"{unknown.rail}, {asset.code}", text, unknown.since)


def _of_suspense(suspended: Suspended) -> Alert:
    count = _many(suspended.count, "line")
    text = f"{count} nobody's for more than a day: GET /v1/treasury/statement-lines?state=suspended"
    return Alert(AlertCode.SUSPENSE_WAITS, Severity.WARNING, suspended.account, text, suspended.since)


def _paid_late(ended: PaidAfterEnd, asset: Asset) -> Alert:
    amount = f"{format_amount(ended.amount, asset)} {asset.code}"
    text = (
        f"the bank debited {_many(ended.count, 'payout')} of {amount} in all that had ended here: paid twice, or after"
        " it was given back. Claim it back (GET /v1/treasury/statement-lines?state=suspended, reason payout_ended)"
    )
    subject = f"{ended.account}, {asset.code}"
    return Alert(AlertCode.PAYOUT_PAID_LATE, Severity.CRITICAL, subject, text, ended.since)


def _many(count: int, one: str, more: str = "") -> str:
    return f"1 {one}" if count == 1 else f"{count} {more or one + 's'}"
