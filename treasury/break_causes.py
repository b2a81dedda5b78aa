"""What may be behind a break: candidates out of a finding and the facts read beside it. Pure.

A movement that the chain or a bank tells of is `off` by what it should have added to its account less what the book has
added for it. One that is off by exactly the difference explains it; how it is off says which cause that is. What no
movement explains is narrowed down by what else is there: an entry by hand, a block that nobody read.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from treasury.records import BreakReason, Cause, CauseCode, Finding, InFlight, Likelihood

GAS = "gas"
"""The place of what a transaction cost its sender."""

EVIDENCE_MAX = 20
"""Ids that one cause names."""


@dataclass(frozen=True, slots=True)
class Movement:
    """A movement on chain on one of our accounts; smallest units, positive what arrived there.

    `told` is what its event says, `arrived` what was measured. `booked` is what the book has added for it, in sum: zero
    where it was taken back again. `ours`: what left was sent by us.
    """

    account: str
    told: int
    arrived: int
    booked: int
    tx_hash: str
    place: str
    ours: bool = True
    orphaned: bool = False

    @property
    def off(self) -> int:
        """By how much the account is there beyond the book because of it."""
        return (0 if self.orphaned else self.arrived) - self.booked


@dataclass(frozen=True, slots=True)
class StatementLine:
    """A line of a bank's statement. `amount` is positive where it was credited to us; `booked` as of a movement.

    `twins` are other lines that say the very same of another statement.
    """

    id: str
    account: str
    amount: int
    booked: int
    suspended: bool = False
    twins: tuple[str, ...] = ()

    @property
    def off(self) -> int:
        """By how much the bank is beyond the book because of it."""
        return self.amount - self.booked


@dataclass(frozen=True, slots=True)
class ByHand:
    """An entry that no evidence from outside stands behind. `amount` is what it added to `account`."""

    id: str
    account: str
    amount: int


@dataclass(frozen=True, slots=True)
class OnItsWay:
    """A provider's settlement that no bank line is yet; `amount` is what it brings to our bank."""

    id: str
    rail: str
    asset: str
    amount: int


@dataclass(frozen=True, slots=True)
class Gap:
    """Blocks of a network that were never taken in, between others that were."""

    network: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known beside the findings of one run."""

    movements: Sequence[Movement] = ()
    lines: Sequence[StatementLine] = ()
    by_hand: Sequence[ByHand] = ()
    on_their_way: Sequence[OnItsWay] = ()
    gaps: Sequence[Gap] = ()
    in_flight: Sequence[InFlight] = ()
    coins: Mapping[str, str] = field(default_factory=dict)
    """The native asset of each network."""


_ORDER = {code: number for number, code in enumerate(CauseCode)}
_RANK = {likelihood: number for number, likelihood in enumerate(Likelihood)}


def causes_of(finding: Finding, facts: Facts) -> tuple[Cause, ...]:
    """The candidates, the likeliest first; each code once, with all that speaks for it."""
    found: dict[CauseCode, Cause] = {}
    for cause in sorted(_candidates(finding, facts), key=lambda one: (_RANK[one.likelihood], _ORDER[one.code])):
        best = found.setdefault(cause.code, cause)
        if best.likelihood is cause.likelihood:
            named = tuple(dict.fromkeys((*best.evidence, *cause.evidence)))
            found[cause.code] = replace(best, evidence=named[:EVIDENCE_MAX])
    return tuple(found.values())


def _candidates(finding: Finding, facts: Facts) -> Iterator[Cause]:
    match finding.reason:
        case BreakReason.COUNTER_DRIFT | BreakReason.UNBALANCED | BreakReason.HOLD_DRIFT | BreakReason.JOURNAL_DIFFERS:
            yield from _of_storage()
        case BreakReason.POSITION_DIFFERS:
            yield from _of_storage()
        case BreakReason.CHAIN_DIFFERS:
            yield from _of_chain(finding, facts)
        case BreakReason.BANK_DIFFERS:
            yield from _of_bank(finding, facts)
        case BreakReason.STATEMENT_OVERLAP:
            sentence = "two statements tell of the same days, and one has lines twice or other ones"
            yield _cause(CauseCode.DUPLICATE, Likelihood.POSSIBLE, sentence, *finding.evidence)
            yield from _of_bank(finding, facts)
        case BreakReason.STATEMENT_GAP:
            sentence = "the statement in between wasn't imported yet"
            yield _cause(CauseCode.TIMING, Likelihood.LIKELY, sentence, *finding.evidence)
        case BreakReason.RAIL_DIFFERS:
            yield from _of_rail(finding, facts)
        case BreakReason.NO_STATEMENT:
            yield _cause(CauseCode.TIMING, Likelihood.LIKELY, "no statement of this account was imported yet")
            yield from _by_hand(finding, facts)
        case BreakReason.SURPLUS:
            sentence = "a contract paid it inside a call, and no trace of that was told"
            yield _cause(CauseCode.MISSED_INNER_TRANSFER, Likelihood.LIKELY, sentence, finding.detail)
        case BreakReason.FOREIGN_OUTFLOW:
            sentence = "it left in a transaction that isn't ours"
            yield _cause(CauseCode.FOREIGN_TRANSACTION, Likelihood.EXACT, sentence, _transaction(finding))
        case BreakReason.UNBOOKED if finding.detail.endswith(f" {GAS}"):
            sentence = "the gas of this transaction isn't booked"
            yield _cause(CauseCode.UNBOOKED_GAS, Likelihood.EXACT, sentence, _transaction(finding))
        case BreakReason.UNBOOKED:
            sentence = "the chain has settled it, and the book is late"
            yield _cause(CauseCode.LATE_SETTLEMENT, Likelihood.EXACT, sentence, _transaction(finding))


def _of_storage() -> Iterator[Cause]:
    sentence = "somebody changed a row behind the book"
    yield _cause(CauseCode.MANUAL_CHANGE, Likelihood.LIKELY, sentence)
    yield _cause(CauseCode.STORAGE_FAULT, Likelihood.POSSIBLE, "the database's storage lost or altered a write")


def _of_chain(finding: Finding, facts: Facts) -> Iterator[Cause]:
    difference, explained = finding.found - finding.expected, False
    for movement in facts.movements:
        if movement.account == finding.account and movement.off == difference:
            explained = True
            code, sentence = _how_off(movement)
            yield _cause(code, Likelihood.EXACT, sentence, movement.tx_hash)
    for entry in _by_hand(finding, facts):
        explained = True
        yield entry
    for gap in facts.gaps:
        if gap.network == finding.network:
            blocks = str(gap.first) if gap.first == gap.last else f"{gap.first} to {gap.last}"
            sentence = "blocks were never taken in, and what moved in them isn't known"
            yield _cause(CauseCode.SKIPPED_BLOCK, Likelihood.LIKELY, sentence, f"{gap.network} block {blocks}")
    moving = [one.tx_hash for one in facts.in_flight if one.account == finding.account]
    if moving:
        sentence = "movements on this account are being taken in just now"
        yield _cause(CauseCode.TIMING, Likelihood.POSSIBLE, sentence, *moving)
    if difference > 0 and not explained and facts.coins.get(finding.network) == finding.asset:
        sentence = "a contract may have paid it inside a call: no event tells of that"
        yield _cause(CauseCode.MISSED_INNER_TRANSFER, Likelihood.POSSIBLE, sentence)


def _how_off(movement: Movement) -> tuple[CauseCode, str]:
    """Which cause it is that a movement is off, and in words."""
    if movement.orphaned:
        return CauseCode.ORPHAN_CREDITED, "it's booked, and its block has left the chain"
    if movement.booked and movement.booked % movement.told == 0 and movement.booked // movement.told > 1:
        return CauseCode.DUPLICATE, "the book has it more than once"
    if movement.booked == movement.told:
        return CauseCode.FEE_ON_TRANSFER, "the book has what was told, and less arrived: the token keeps a part"
    if movement.booked:
        return CauseCode.MANUAL_CHANGE, "the book has another amount for it than the chain"
    if not movement.ours:
        return CauseCode.FOREIGN_TRANSACTION, "it left in a transaction that isn't ours, and isn't booked"
    if movement.place == GAS:
        return CauseCode.UNBOOKED_GAS, "the gas of this transaction of ours isn't booked"
    return CauseCode.LATE_SETTLEMENT, "the chain has it, and the book doesn't yet"


def _of_bank(finding: Finding, facts: Facts) -> Iterator[Cause]:
    difference = finding.found - finding.expected
    for line in facts.lines:
        if line.account != finding.account:
            continue
        if line.off == difference:
            code, sentence = _how_line_off(line)
            yield _cause(code, Likelihood.EXACT, sentence, line.id)
        elif line.booked == line.amount == -difference and line.twins:
            sentence = "two statements tell the same line, and it's booked twice"
            yield _cause(CauseCode.DUPLICATE, Likelihood.LIKELY, sentence, line.id, *line.twins)
        elif line.booked == line.amount == -difference and line.suspended:
            sentence = "the bank's balance is as if this line, which is nobody's, weren't there"
            yield _cause(CauseCode.WRONG_STATEMENT_LINE, Likelihood.LIKELY, sentence, line.id)
    for settlement in facts.on_their_way:
        if settlement.asset == finding.asset and settlement.amount == difference:
            sentence = "the provider's money may have arrived before its line"
            yield _cause(CauseCode.LATE_SETTLEMENT, Likelihood.LIKELY, sentence, settlement.id)
    yield from _by_hand(finding, facts)
    sentence = "the balance may be of another instant than the lines: look at the next statement"
    yield _cause(CauseCode.TIMING, Likelihood.POSSIBLE, sentence, finding.detail)


def _how_line_off(line: StatementLine) -> tuple[CauseCode, str]:
    """Which cause it is that a line is off, and in words."""
    if line.booked == 0:
        return CauseCode.WRONG_STATEMENT_LINE, "the statement has this line, and the book hasn't"
    if line.booked == 2 * line.amount:
        return CauseCode.DUPLICATE, "the book has this line twice"
    return CauseCode.WRONG_STATEMENT_LINE, "the book has another amount for this line"


def _of_rail(finding: Finding, facts: Facts) -> Iterator[Cause]:
    difference = finding.found - finding.expected
    for settlement in facts.on_their_way:
        ours = (settlement.rail, settlement.asset) == (finding.detail, finding.asset)
        if ours and abs(settlement.amount) == abs(difference):
            sentence = "a settlement of this amount is on its way between provider and bank"
            yield _cause(CauseCode.LATE_SETTLEMENT, Likelihood.LIKELY, sentence, settlement.id)
    yield from _by_hand(finding, facts)
    sentence = "the provider may have counted what it hasn't told yet"
    yield _cause(CauseCode.TIMING, Likelihood.POSSIBLE, sentence)


def _by_hand(finding: Finding, facts: Facts) -> Iterator[Cause]:
    for entry in facts.by_hand:
        if entry.account == finding.account and entry.amount == finding.expected - finding.found:
            sentence = "an entry by hand moved this amount, and nothing outside bears it out"
            yield _cause(CauseCode.MANUAL_CHANGE, Likelihood.LIKELY, sentence, entry.id)


def _transaction(finding: Finding) -> str:
    """The transaction that the finding's detail names."""
    return next((word for word in finding.detail.split() if len(word) == 66), finding.detail)


def _cause(code: CauseCode, likelihood: Likelihood, sentence: str, *evidence: str) -> Cause:
    return Cause(code, likelihood, sentence, tuple(name for name in evidence if name))
