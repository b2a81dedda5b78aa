"""What is a break: figures of the journal, the accounts, the chain and the bank laid side by side. Pure.

Custody and bank accounts are assets, so their balance in the book is the negative of what is there. What is in flight
is added to the book's side, so it's never a false break; being in flight for too long is a break of its own.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from ledger.accounts import house_account
from treasury.records import BreakReason, Finding, InFlight, JudgedNetwork
from treasury.samples import Sample

COUNTERS = ("debits_posted", "credits_posted", "debits_pending", "credits_pending")


@dataclass(frozen=True, slots=True)
class Counters:
    """An account's four counters in the order of `COUNTERS`, as stored and as its journal's lines add up."""

    account: str
    asset: str
    stored: tuple[int, int, int, int]
    journal: tuple[int, int, int, int]

    @property
    def balance(self) -> int:
        """The stored balance: credits less debits."""
        return self.stored[1] - self.stored[0]

    @property
    def journal_balance(self) -> int:
        """The balance that the journal's lines come to."""
        return self.journal[1] - self.journal[0]


class Discontinuity(Protocol):
    """A statement that doesn't begin where the one before it ended; `again`: it tells lines that were told before."""

    @property
    def statement(self) -> str: ...
    @property
    def before(self) -> str: ...
    @property
    def closed(self) -> int: ...
    @property
    def opens(self) -> int: ...
    @property
    def again(self) -> bool: ...


class ClosingBalance(Protocol):
    """What a bank last said that it owes us on an account, in signed smallest units.

    `coming`: a statement that isn't wholly taken in yet. `discontinuities`: of all statements, in their order.
    """

    @property
    def account(self) -> str: ...
    @property
    def asset(self) -> str: ...
    @property
    def balance(self) -> int: ...
    @property
    def statement(self) -> str: ...
    @property
    def coming(self) -> str | None: ...
    @property
    def discontinuities(self) -> Sequence[Discontinuity]: ...


class RailStanding(Protocol):
    """What a payment provider says that it owes us, by asset; `leaving` counts payouts that it hasn't ended.

    `unjudged`: why it can't be compared now.
    """

    @property
    def rail(self) -> str: ...
    @property
    def balances(self) -> Mapping[str, int]: ...
    @property
    def leaving(self) -> Mapping[str, int]: ...
    @property
    def unjudged(self) -> str | None: ...


def drifted(accounts: Iterable[Counters]) -> list[Finding]:
    """Stored counters that aren't what the journal's lines add up to, each named."""
    return [
        Finding(BreakReason.COUNTER_DRIFT, entry.account, entry.asset, expected, found, detail=name)
        for entry in accounts
        for name, expected, found in zip(COUNTERS, entry.journal, entry.stored, strict=True)
        if expected != found
    ]


def chain_differs(
    sample: Sample,
    *,
    booked: Mapping[str, int],
    in_flight: Iterable[InFlight],
    expected: Mapping[tuple[str, str], int],
) -> list[Finding]:
    """Addresses that held something else than was seen of them, and custody accounts whose balance through the sample's
    block, with what is in flight, isn't what own addresses held there; unless the addresses are all of it.

    `booked` are book balances (credits less debits) by account id; `expected` what was seen of those addresses that
    deviated when the sample was taken, by (asset, address), as it's known now.
    """
    moving: dict[str, int] = {}
    for item in in_flight:
        moving[item.account] = moving.get(item.account, 0) + item.amount
    findings = []
    named: dict[str, int] = {}
    for one in sample.deviating:
        should = expected.get((one.asset, one.address), 0)
        if should != one.found:
            named[one.account] = named.get(one.account, 0) + one.found - should
            findings.append(_on_chain(sample, one.account, should, one.found, detail=one.address))
    for account, found in sorted(sample.held.items()):
        should = -booked.get(account, 0) + moving.get(account, 0)
        if found - should != named.get(account, 0):
            findings.append(_on_chain(sample, account, should, found))
    return findings


def _on_chain(sample: Sample, account: str, expected: int, found: int, *, detail: str = "") -> Finding:
    return Finding(
        BreakReason.CHAIN_DIFFERS,
        account,
        account.rpartition("/")[2],
        expected,
        found,
        sample.network,
        detail,
        evidence=(sample.block_hash,),
        at=f"block {sample.block_number}",
    )


class KeptFigure(Protocol):
    """A figure of the exchange's position that isn't what it must be. `unit`: the asset that it's told in; `parts`: of
    how many parts of that asset's smallest unit its numbers are."""

    @property
    def asset(self) -> str: ...
    @property
    def figure(self) -> str: ...
    @property
    def unit(self) -> str: ...
    @property
    def parts(self) -> int: ...
    @property
    def expected(self) -> int: ...
    @property
    def found(self) -> int: ...


def position_differs(figures: Iterable[KeptFigure]) -> list[Finding]:
    """Each a break of its own. What differs by less than a smallest unit is told as one: none of it is rounded away."""
    findings = []
    for one in figures:
        expected, difference = one.expected // one.parts, one.found - one.expected
        units = -(-abs(difference) // one.parts)
        found = expected + (units if difference > 0 else -units)
        account = house_account("fx", one.asset)
        findings.append(Finding(BreakReason.POSITION_DIFFERS, account, one.unit, expected, found, detail=one.figure))
    return findings


class OpenSurplus(Protocol):
    """What an address (lower-case hex) held at a block beyond all that tells of it, in smallest units."""

    @property
    def network(self) -> str: ...
    @property
    def address(self) -> str: ...
    @property
    def block_number(self) -> int: ...
    @property
    def asset(self) -> str | None: ...
    @property
    def amount(self) -> int | None: ...


def unexplained(surpluses: Iterable[OpenSurplus]) -> list[Finding]:
    """Surpluses whose evidence nobody has named: each a break of its own, known by network, address and block."""
    return [
        Finding(
            BreakReason.SURPLUS,
            house_account("suspense", one.asset),
            one.asset,
            0,
            one.amount,
            one.network,
            f"{one.address} block {one.block_number}",
        )
        for one in surpluses
        if one.asset is not None and one.amount is not None
    ]


class OpenOutflow(Protocol):
    """What left an own address without us, in smallest units, and where the chain tells of it."""

    @property
    def network(self) -> str: ...
    @property
    def address(self) -> str: ...
    @property
    def asset(self) -> str: ...
    @property
    def amount(self) -> int: ...
    @property
    def tx_hash(self) -> str: ...
    @property
    def place(self) -> str: ...


def unsent(outflows: Iterable[OpenOutflow]) -> list[Finding]:
    """What left without us and nobody has accounted for yet: each a break of its own."""
    return [
        Finding(
            BreakReason.FOREIGN_OUTFLOW,
            house_account("suspense", one.asset),
            one.asset,
            0,
            one.amount,
            one.network,
            f"{one.address} {one.tx_hash} {one.place}",
        )
        for one in outflows
    ]


def overdue(in_flight: Iterable[InFlight], *, now: datetime, patience: timedelta) -> list[Finding]:
    """What has been in flight for longer than a worker may take."""
    return [
        Finding(
            BreakReason.UNBOOKED, item.account, item.asset, item.amount, 0, item.network, f"{item.tx_hash} {item.place}"
        )
        for item in in_flight
        if now - item.seen_at > patience
    ]


def bank_differs(
    accounts: Sequence[Counters], told: Sequence[ClosingBalance], *, moving: Collection[str] = ()
) -> tuple[list[Finding], list[JudgedNetwork]]:
    """Bank accounts whose journal isn't what the bank last said, or of whose money no bank ever spoke; and those that
    can't be judged now, since statements come in (`moving`, by the bank account's name).

    Where statements don't meet, that is said instead of the difference that it makes.
    """
    ours = {entry.account: entry for entry in accounts if entry.account.startswith("house/bank:")}
    findings: list[Finding] = []
    unjudged: list[JudgedNetwork] = []
    for closing in told:
        name = house_account(f"bank:{closing.account}", closing.asset)
        entry = ours.pop(name, None)
        expected = 0 if entry is None else -entry.journal_balance
        if closing.coming is not None or closing.account in moving:
            why = f"statement {closing.coming or closing.statement} is being taken in"
            unjudged.append(JudgedNetwork(f"bank:{closing.account}", None, None, skipped=why))
        elif expected != closing.balance:
            findings += _unmet(closing, name, expected)
    findings += [
        Finding(BreakReason.NO_STATEMENT, entry.account, entry.asset, -entry.journal_balance, 0)
        for entry in ours.values()
        if entry.journal_balance and entry.account.split("/")[1].removeprefix("bank:") not in moving
    ]
    return findings, unjudged


def _unmet(closing: ClosingBalance, account: str, expected: int) -> list[Finding]:
    """What is to be said of an account whose journal isn't what the bank says: missing statements, if that's all."""
    gaps = [one for one in closing.discontinuities if not one.again]
    findings = [
        Finding(
            BreakReason.STATEMENT_GAP,
            account,
            closing.asset,
            one.closed,
            one.opens,
            detail=f"{one.before} {one.statement}",
            evidence=(one.before, one.statement),
            at=one.statement,
        )
        for one in gaps
    ]
    rest = closing.balance - expected - sum(one.opens - one.closed for one in gaps)
    if rest:
        again = [one for one in closing.discontinuities if one.again]
        reason = BreakReason.STATEMENT_OVERLAP if again else BreakReason.BANK_DIFFERS
        detail = f"{again[-1].before} {again[-1].statement}" if again else closing.statement
        findings.append(
            Finding(
                reason,
                account,
                closing.asset,
                closing.balance - rest,
                closing.balance,
                detail=detail,
                evidence=tuple(detail.split(" ")),
                at=closing.statement,
            )
        )
    return findings


def rail_differs(
    accounts: Sequence[Counters], told: Sequence[RailStanding]
) -> tuple[list[Finding], list[JudgedNetwork]]:
    """Providers' accounts whose journal isn't what the provider says, and the providers that can't be judged now.

    A provider takes a payout out of its balance before the book does. While some haven't ended, one that has less is
    not judged; one that has more always is a break.
    """
    findings: list[Finding] = []
    unjudged: list[JudgedNetwork] = []
    for standing in told:
        name, why = f"rail:{standing.rail}", standing.unjudged
        purpose = f"provider:{standing.rail}"
        ours = {entry.asset: entry for entry in accounts if entry.account == house_account(purpose, entry.asset)}
        for asset in sorted(ours.keys() | standing.balances.keys()) if why is None else ():
            expected = -ours[asset].journal_balance if asset in ours else 0
            found = standing.balances.get(asset, 0)
            if found < expected and standing.leaving.get(asset):
                why = f"payouts in {asset} haven't ended there: {standing.leaving[asset]}"
            elif found != expected:
                account = house_account(purpose, asset)
                findings.append(Finding(BreakReason.RAIL_DIFFERS, account, asset, expected, found, name, standing.rail))
        if why is not None:
            unjudged.append(JudgedNetwork(name, None, None, skipped=why))
    return findings, unjudged
