"""The specification of the book: `apply(state, now, groups)` decides commands. Pure; both engines must agree with it.

Every decision looks in one fixed order, the order of `ledger.outcomes.Refused`: identity, riders, dates, shape, the
entry to reverse, accounts, freezes, debts, holds, credit lines, limits, money. The first thing wrong refuses the
command, and with it its group; nothing of it is written.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from msgspec.structs import replace

from ledger.accounts import Account, new_account
from ledger.canonical import command_content, kind_of
from ledger.commands import (
    Bound,
    Charge,
    CloseAccount,
    ClosePeriod,
    Command,
    Expire,
    Freeze,
    FreezeScope,
    Group,
    Hold,
    OpenAccount,
    Post,
    Posting,
    Record,
    Reverse,
    SetCreditLine,
    Settle,
    Unfreeze,
    Void,
)
from ledger.freezing import freezable
from ledger.money import AMOUNT_END
from ledger.outcomes import Kind, Line, LineKind, Outcome, Refusal, Refused
from ledger.riders import Advance, Insert, Rider
from ledger.state import HeldPosting, HoldRecord, HoldState, State, row_key


class _Refuse(Exception):  # control flow inside this module only; callers see an Outcome
    def __init__(self, code: Refused, **facts: str | int) -> None:
        super().__init__(code)
        self.refusal = Refusal(code, facts)


def apply(state: State, now: datetime, groups: Iterable[Group]) -> tuple[State, list[tuple[Outcome, ...]]]:
    """Decide `groups` in order: a layer above `state` that holds all they changed, and each group's outcomes.

    `now` is the clock's instant; a book's time never falls: booked_at = max(clock, last booked_at). The groups have
    passed `ledger.bounds.check_group`.
    """
    layer = state.layer()
    return layer, [_decide_group(layer, now, group) for group in groups]


def _decide_group(state: State, now: datetime, group: Group) -> tuple[Outcome, ...]:
    ids = [command.id for command in group.commands]
    contents = [group.content or command_content(command) for command in group.commands]
    known = [state.outcome(command) for command in ids]
    if any(known):
        return _repeat(group.commands, contents, known)

    attempt = _attempt(state, now)
    outcomes: list[Outcome] = []
    try:
        for rider in group.riders:
            _ride(attempt, rider)
        for command, content in zip(group.commands, contents, strict=True):
            outcomes.append(_note(attempt, command, content, _decide(attempt, command)))
    except _Refuse as stop:
        refusals = _group_refusals(ids, len(outcomes), stop.refusal)
        if stop.refusal.code is Refused.ALLOWANCE_SPENT:
            return _undecided(group.commands, contents, refusals, attempt.booked_at)
        attempt = _attempt(state, now)
        refused = zip(group.commands, contents, refusals, strict=True)
        outcomes = [_note(attempt, command, content, _Decision(), refusal) for command, content, refusal in refused]

    # From here it must succeed.
    state.absorb(attempt)
    return tuple(outcomes)


def _attempt(state: State, now: datetime) -> State:
    attempt = state.layer()
    attempt.booked_at = max(now, state.booked_at)
    return attempt


def _note(
    attempt: State, command: Command, content: bytes, decision: "_Decision", refusal: Refusal | None = None
) -> Outcome:
    """The command's outcome, with the book's next seq; those behind it in the group see it."""
    attempt.seq += 1
    attempt.outcomes[command.id] = outcome = Outcome(
        id=command.id,
        seq=attempt.seq,
        booked_at=attempt.booked_at,
        kind=kind_of(command),
        subject=command.subject,
        content=content,
        refusal=refusal,
        lines=decision.lines,
        effective_at=decision.effective_at,
        reverses=decision.reverses,
    )
    return outcome


def _group_refusals(ids: Sequence[str], failed: int, refusal: Refusal) -> list[Refusal]:
    because = Refusal(Refused.GROUP_REFUSED, {"because": ids[failed], "code": refusal.code.value})
    return [refusal if index == failed else because for index in range(len(ids))]


def _repeat(
    commands: Sequence[Command], contents: Sequence[bytes], known: Sequence[Outcome | None]
) -> tuple[Outcome, ...]:
    """The first outcomes again if the whole group is a true repeat, else a conflict that names the first."""
    same = all(first and first.content == content for first, content in zip(known, contents, strict=True))
    if same:
        return tuple(replace(first, replayed=True) for first in known if first)
    first = next(outcome for outcome in known if outcome)
    conflict = Refusal(Refused.ID_CONFLICT, {"first": first.subject or first.id, "first_seq": first.seq})
    return tuple(
        Outcome(
            id=command.id,
            seq=0,
            booked_at=first.booked_at,
            kind=kind_of(command),
            subject=command.subject,
            content=content,
            refusal=conflict,
        )
        for command, content in zip(commands, contents, strict=True)
    )


def _undecided(
    commands: Sequence[Command], contents: Sequence[bytes], refusals: Sequence[Refusal], now: datetime
) -> tuple[Outcome, ...]:
    """Outcomes that nobody remembers: the same ids may be sent again."""
    return tuple(
        Outcome(
            id=command.id,
            seq=0,
            booked_at=now,
            kind=kind_of(command),
            subject=command.subject,
            content=content,
            refusal=refusal,
        )
        for command, content, refusal in zip(commands, contents, refusals, strict=True)
    )


def _ride(state: State, rider: Rider) -> None:
    key = row_key(rider.table, rider.key)
    stored = state.row(key)
    match rider:
        case Insert():
            if stored is not None:
                raise _Refuse(Refused.DUPLICATE_ROW, table=rider.table)
            state.rows[key] = {**rider.key, **rider.values}
        case Advance():
            if stored is None or any(stored.get(column) != value for column, value in rider.expect.items()):
                raise _Refuse(Refused.STALE_STATE, table=rider.table)
            state.rows[key] = {**stored, **rider.change}
        case _ as never:
            assert_never(never)


@dataclass(frozen=True, slots=True)
class _Decision:
    """What an accepted command did: its lines, its date if that isn't the booking's, the entry that it reversed."""

    lines: tuple[Line, ...] = ()
    effective_at: datetime | None = None
    reverses: int | None = None


def _decide(state: State, command: Command) -> _Decision:
    effective_at = _effective_at(state, command)
    match command:
        case Reverse():
            entry, lines = _reverse(state, command)
            return _Decision(lines, effective_at, reverses=entry.seq)
        case OpenAccount():
            return _Decision(_open(state, command), effective_at)
        case CloseAccount():
            return _Decision(_close(state, command), effective_at)
        case Freeze() | Unfreeze():
            return _Decision(_freeze(state, command), effective_at)
        case SetCreditLine():
            return _Decision(_set_credit_line(state, command), effective_at)
        case ClosePeriod():
            return _Decision(_close_period(state, command), effective_at)
        case Record():
            _check_charges(command.charges or ())
            _charge(state, command.charges or ())
            return _Decision((), effective_at)
        case Post():
            return _Decision(_post(state, command), effective_at)
        case Hold():
            return _Decision(_hold(state, command), effective_at)
        case Settle():
            return _Decision(_settle(state, command), effective_at)
        case Void():
            return _Decision(
                _release_all(state, _open_hold(state, command.hold, expired=False), HoldState.VOIDED), effective_at
            )
        case Expire():
            return _Decision(
                _release_all(state, _open_hold(state, command.hold, expired=True), HoldState.EXPIRED), effective_at
            )
        case _ as never:
            assert_never(never)


# Dates


def _effective_at(state: State, command: Command) -> datetime | None:
    """The command's effective date, moved out of a closed period; None where it's the booking's own instant."""
    asked = command.effective_at
    if asked is None:
        return None
    if asked > state.booked_at:
        raise _Refuse(Refused.EFFECTIVE_IN_FUTURE, booked_at=state.booked_at.isoformat())
    stored = asked if state.closed_until is None else max(asked, state.closed_until)
    return None if stored == state.booked_at else stored


def _close_period(state: State, command: ClosePeriod) -> tuple[Line, ...]:
    if command.until > state.booked_at:
        raise _Refuse(Refused.EFFECTIVE_IN_FUTURE, booked_at=state.booked_at.isoformat())
    if state.closed_until is not None and command.until <= state.closed_until:
        raise _Refuse(Refused.PERIOD_CLOSED, closed_until=state.closed_until.isoformat())
    state.closed_until = command.until
    return ()


# Accounts and flags


def _open(state: State, command: OpenAccount) -> tuple[Line, ...]:
    existing = state.account(command.account)
    if existing is not None and existing.closed:
        raise _Refuse(Refused.ACCOUNT_CLOSED, account=command.account)
    if existing is None:
        state.accounts[command.account] = new_account(command.account)
    return ()


def _close(state: State, command: CloseAccount) -> tuple[Line, ...]:
    account = _known(state, command.account)
    if account.balance or account.debits_pending or account.credits_pending:
        raise _Refuse(
            Refused.ACCOUNT_IN_USE,
            account=account.id,
            balance=account.balance,
            held=account.debits_pending + account.credits_pending,
        )
    state.accounts[account.id] = replace(account, closed=True)
    return ()


def _freeze(state: State, command: Freeze | Unfreeze) -> tuple[Line, ...]:
    frozen = isinstance(command, Freeze)
    if command.scope is FreezeScope.ACCOUNT:
        account = state.account(command.target)
        if account is None:
            raise _Refuse(Refused.UNKNOWN_ACCOUNT, account=command.target)
        state.accounts[account.id] = replace(account, frozen=frozen)
    state.frozen[command.scope, command.target] = frozen
    return ()


def _set_credit_line(state: State, command: SetCreditLine) -> tuple[Line, ...]:
    _check_amount(command.cap, least=0)
    account = _known(state, command.account)
    if not account.limited:
        raise _Refuse(Refused.NOT_LIMITED, account=account.id)
    in_use = account.credit_line - account.available
    if command.cap < in_use:
        raise _Refuse(Refused.CREDIT_LINE_IN_USE, account=account.id, in_use=in_use, cap=command.cap)
    state.accounts[account.id] = replace(account, credit_line=command.cap)
    return ()


# Entries


def _post(state: State, command: Post) -> tuple[Line, ...]:
    _check_shape(command)
    _check_postings(state, command.postings, is_evidence=command.evidence is not None)
    _check_owing_nothing(state, command.owing_nothing)
    _charge(state, command.charges)
    before = _available_before(state, command.postings, every_account=command.covered)
    bounds = [(bound, _balance(state, bound.account)) for bound in command.bounds or ()]
    lines = [_write(state, LineKind.POSTED, part) for posting in command.postings for part in _split(state, posting)]
    _check_limits(state, before)
    _check_bounds(state, bounds)
    return tuple(lines)


def _check_shape(command: Post | Hold) -> None:
    if not command.postings:
        raise _Refuse(Refused.NO_POSTINGS)
    for posting in command.postings:
        _check_amount(posting.amount)
    _check_charges(command.charges)


def _check_charges(charges: Iterable[Charge]) -> None:
    for charge in charges:
        _check_amount(charge.amount, least=0)
        _check_amount(charge.cap, least=0)


def _check_amount(amount: int, *, least: int = 1) -> None:
    if not least <= amount < AMOUNT_END:
        raise _Refuse(Refused.INVALID_AMOUNT, amount=str(amount))


def _check_postings(state: State, postings: Sequence[Posting], *, is_evidence: bool) -> None:
    for posting in postings:
        sides = _sides(posting)
        if len(set(sides)) != len(sides):
            raise _Refuse(Refused.SAME_ACCOUNT, account=posting.debit)
    accounts = [(posting, _known(state, side)) for posting in postings for side in _sides(posting)]
    for posting, account in accounts:
        if account.asset != posting.asset:
            raise _Refuse(
                Refused.ASSET_MISMATCH, account=account.id, account_asset=account.asset, posting_asset=posting.asset
            )
    _check_usable(state, [account for _, account in accounts], is_evidence=is_evidence)


def _check_usable(state: State, accounts: Iterable[Account], *, is_evidence: bool) -> None:
    accounts = list(accounts)
    for account in accounts:
        if account.closed:
            raise _Refuse(Refused.ACCOUNT_CLOSED, account=account.id)
    if not is_evidence:
        for account in accounts:
            _check_not_frozen(state, account)


def _check_owing_nothing(state: State, accounts: Iterable[str]) -> None:
    for name in accounts:
        account = state.account(name)
        if account is not None and account.balance < 0:
            raise _Refuse(Refused.RECEIVABLE_OPEN, asset=account.asset, owed=-account.balance)


def _sides(posting: Posting) -> list[str]:
    named = (posting.debit, posting.credit, posting.debit_rest, posting.credit_rest)
    return [account for account in named if account is not None]


def _check_not_frozen(state: State, account: Account) -> None:
    if account.frozen:
        raise _Refuse(Refused.FROZEN, scope=FreezeScope.ACCOUNT, target=account.id)
    for scope, target in freezable(account.owner, account.purpose, account.asset):
        if state.is_frozen(scope, target):
            raise _Refuse(Refused.FROZEN, scope=scope, target=target)


def _split(state: State, posting: Posting) -> list[Posting]:
    """The plain postings that a posting with a rest comes to, on the state as it is now."""
    if posting.debit_rest is None and posting.credit_rest is None:
        return [posting]
    debits = [(posting.debit, posting.amount)]
    if posting.debit_rest is not None:
        given = max(0, min(posting.amount, _known(state, posting.debit).available))
        debits = [(posting.debit, given), (posting.debit_rest, posting.amount - given)]
    credits_ = [(posting.credit, posting.amount)]
    if posting.credit_rest is not None:
        taken = max(0, min(posting.amount, -_known(state, posting.credit).balance))
        credits_ = [(posting.credit, taken), (posting.credit_rest, posting.amount - taken)]
    return [
        Posting(debit=debit, credit=credit, asset=posting.asset, amount=amount)
        for debit, credit, amount in _overlaps(debits, credits_)
    ]


def _overlaps(debits: list[tuple[str, int]], credits_: list[tuple[str, int]]) -> list[tuple[str, str, int]]:
    """Lay two splits of one amount side by side: (debit, credit, amount) for each stretch they share."""
    parts: list[tuple[str, str, int]] = []
    debit_end = 0
    for debit, given in debits:
        debit_start, debit_end, credit_end = debit_end, debit_end + given, 0
        for credit, taken in credits_:
            credit_start, credit_end = credit_end, credit_end + taken
            shared = min(debit_end, credit_end) - max(debit_start, credit_start)
            if shared > 0:
                parts.append((debit, credit, shared))
    return parts


def _reverse(state: State, command: Reverse) -> tuple[Outcome, tuple[Line, ...]]:
    """The entry, and the lines that take back what is asked of it."""
    if command.amounts == ():
        raise _Refuse(Refused.NO_POSTINGS)
    for _, amount in command.amounts or ():
        _check_amount(amount)
    entry = state.outcome(command.entry)
    if entry is None:
        raise _Refuse(Refused.UNKNOWN_ENTRY, entry=command.entry)
    if not entry.accepted or entry.kind not in (Kind.POST, Kind.SETTLE):
        raise _Refuse(Refused.NOT_REVERSIBLE, entry=command.entry, kind=entry.kind)
    left = {
        index: line.amount - state.reversed_of((entry.seq, index))
        for index, line in enumerate(entry.lines)
        if line.kind is LineKind.POSTED
    }
    amounts = command.amounts or tuple((index, amount) for index, amount in left.items() if amount)
    back = [
        Posting(debit=line.credit, credit=line.debit, asset=line.asset, amount=amount)
        for index, amount in amounts
        if index in left
        for line in (entry.lines[index],)
    ]
    sides = [_known(state, side) for posting in back for side in _sides(posting)]
    _check_usable(state, sides, is_evidence=command.evidence is not None)
    _check_reversal(entry, left, amounts)
    before = _available_before(state, back)
    lines = tuple(_write(state, LineKind.POSTED, posting) for posting in back)
    _check_limits(state, before)
    for index, amount in amounts:
        place = (entry.seq, index)
        state.reversed[place] = state.reversed_of(place) + amount
    return entry, lines


def _check_reversal(entry: Outcome, left: Mapping[int, int], amounts: Sequence[tuple[int, int]]) -> None:
    asked: dict[int, int] = {}
    for index, amount in amounts:
        if index not in left:
            raise _Refuse(Refused.UNKNOWN_POSTING, entry=entry.id, posting=index)
        asked[index] = asked.get(index, 0) + amount
    for index, amount in asked.items():
        if amount > left[index]:
            raise _Refuse(
                Refused.EXCEEDS_REMAINDER, entry=entry.id, posting=index, required=amount, remaining=left[index]
            )
    if not amounts:
        raise _Refuse(Refused.EXCEEDS_REMAINDER, entry=entry.id, remaining=0)


# Limits of users


def _charge(state: State, charges: Iterable[Charge]) -> None:
    """Allowances last: what a limit refuses is refused, however much of them is left."""
    for charge in sorted(charges, key=lambda charge: charge.may_ask_again):
        used = state.counter(charge.counter)
        if used + charge.amount > charge.cap:
            raise _Refuse(
                Refused.ALLOWANCE_SPENT if charge.may_ask_again else Refused.LIMIT_EXCEEDED,
                counter=charge.counter,
                required=charge.amount,
                used=used,
                cap=charge.cap,
                available=max(0, charge.cap - used),
            )
        state.counters[charge.counter] = used + charge.amount


def _give_back(state: State, record: HoldRecord) -> None:
    """Give a hold's charges back if nothing of it was ever settled."""
    if all(posting.remaining == posting.amount for posting in record.postings):
        for charge in record.charges:
            state.counters[charge.counter] = state.counter(charge.counter) - charge.amount


# Holds


def _hold(state: State, command: Hold) -> tuple[Line, ...]:
    _check_shape(command)
    _check_postings(state, command.postings, is_evidence=command.evidence is not None)
    _check_owing_nothing(state, command.owing_nothing)
    if command.expires_at is not None and command.expires_at <= state.booked_at:
        raise _Refuse(Refused.EXPIRES_IN_PAST, booked_at=state.booked_at.isoformat())
    _charge(state, command.charges)
    before = _available_before(state, command.postings)
    lines = [
        _write(state, LineKind.HELD, posting, hold=command.id, index=index)
        for index, posting in enumerate(command.postings)
    ]
    _check_limits(state, before)
    state.holds[command.id] = HoldRecord(
        id=command.id,
        state=HoldState.OPEN,
        expires_at=command.expires_at,
        postings=tuple(
            HeldPosting(posting.debit, posting.credit, posting.asset, posting.amount, posting.amount)
            for posting in command.postings
        ),
        charges=command.charges,
    )
    return tuple(lines)


def _open_hold(state: State, hold: str, *, expired: bool) -> HoldRecord:
    """The open hold with this id. `expired` says whether its time must have come, or must not have come yet."""
    record = state.hold(hold)
    if record is None:
        raise _Refuse(Refused.UNKNOWN_HOLD, hold=hold)
    if record.state is not HoldState.OPEN:
        raise _Refuse(Refused.HOLD_CLOSED, hold=hold, state=record.state)
    has_expired = record.expires_at is not None and state.booked_at >= record.expires_at
    if has_expired and not expired:
        raise _Refuse(Refused.HOLD_EXPIRED, hold=hold)
    if expired and not has_expired:
        raise _Refuse(Refused.NOT_YET, hold=hold)
    return record


def _settle(state: State, command: Settle) -> tuple[Line, ...]:
    for _, amount in command.amounts or ():
        _check_amount(amount)
    _check_owing_nothing(state, command.owing_nothing)
    record = _open_hold(state, command.hold, expired=False)
    amounts = command.amounts
    if amounts is None:
        amounts = tuple((i, posting.remaining) for i, posting in enumerate(record.postings) if posting.remaining)
    _check_settlement(record, amounts)
    lines = []
    for index, amount in amounts:
        held = record.postings[index]
        part = Posting(debit=held.debit, credit=held.credit, asset=held.asset, amount=amount)
        lines.append(_write(state, LineKind.POSTED, part, hold=record.id, index=index))
        record = record.without(index, amount)
    if command.close:
        return (*lines, *_release_all(state, record, HoldState.SETTLED))
    if not any(posting.remaining for posting in record.postings):
        record = replace(record, state=HoldState.SETTLED)
    state.holds[record.id] = record
    return tuple(lines)


def _check_settlement(record: HoldRecord, amounts: tuple[tuple[int, int], ...]) -> None:
    asked: dict[int, int] = {}
    for index, amount in amounts:
        if not 0 <= index < len(record.postings):
            raise _Refuse(Refused.UNKNOWN_POSTING, hold=record.id, posting=index)
        asked[index] = asked.get(index, 0) + amount
    for index, amount in asked.items():
        remaining = record.postings[index].remaining
        if amount > remaining:
            raise _Refuse(
                Refused.EXCEEDS_REMAINDER, hold=record.id, posting=index, required=amount, remaining=remaining
            )


def _release_all(state: State, record: HoldRecord, end: HoldState) -> tuple[Line, ...]:
    _give_back(state, record)
    lines = []
    for index, held in enumerate(record.postings):
        if held.remaining:
            part = Posting(debit=held.debit, credit=held.credit, asset=held.asset, amount=held.remaining)
            lines.append(_write(state, LineKind.RELEASED, part, hold=record.id, index=index))
            record = record.without(index, held.remaining)
    state.holds[record.id] = replace(record, state=end)
    return tuple(lines)


# Lines and limits


def _write(
    state: State, kind: LineKind, posting: Posting, *, hold: str | None = None, index: int | None = None
) -> Line:
    debit, credit = _known(state, posting.debit), _known(state, posting.credit)
    posted = posting.amount if kind is LineKind.POSTED else 0
    pending = posting.amount if kind is LineKind.HELD else (-posting.amount if hold is not None else 0)
    state.accounts[debit.id] = debit = debit.add(debits_posted=posted, debits_pending=pending)
    state.accounts[credit.id] = credit = credit.add(credits_posted=posted, credits_pending=pending)
    if debit.debits_posted + debit.debits_pending >= AMOUNT_END:
        raise _Refuse(Refused.AMOUNT_OVERFLOW, account=debit.id)
    if credit.credits_posted + credit.credits_pending >= AMOUNT_END:
        raise _Refuse(Refused.AMOUNT_OVERFLOW, account=credit.id)
    return Line(
        kind=kind,
        debit=debit.id,
        credit=credit.id,
        asset=posting.asset,
        amount=posting.amount,
        debit_balance=debit.balance,
        credit_balance=credit.balance,
        hold=hold,
        hold_posting=index,
    )


@dataclass(frozen=True, slots=True)
class _Before:
    account: str
    available: int


def _available_before(state: State, postings: Sequence[Posting], *, every_account: bool = False) -> list[_Before]:
    """What the limited accounts (or all) that these postings debit have available before them, in order, each once."""
    debited = dict.fromkeys(posting.debit for posting in postings)
    debited.update(dict.fromkeys(posting.debit_rest for posting in postings if posting.debit_rest))
    accounts = [_known(state, account) for account in debited]
    return [_Before(account.id, account.available) for account in accounts if every_account or account.limited]


def _check_limits(state: State, before: list[_Before]) -> None:
    """Once, on each account's state after the whole entry."""
    for earlier in before:
        available = _known(state, earlier.account).available
        if available < 0 and available < earlier.available:
            raise _Refuse(
                Refused.INSUFFICIENT_FUNDS,
                account=earlier.account,
                required=earlier.available - available,
                available=max(0, earlier.available),
            )


def _check_bounds(state: State, bounds: Iterable[tuple[Bound, int]]) -> None:
    """Each with the account's balance before the entry."""
    for bound, before in bounds:
        balance = _balance(state, bound.account)
        if bound.most is not None and balance > bound.most and balance > before:
            facts = {"required": balance - before, "available": max(0, bound.most - before), "most": bound.most}
            raise _Refuse(Refused.OUT_OF_BOUNDS, account=bound.account, **facts)
        if bound.least is not None and balance < bound.least and balance < before:
            facts = {"required": before - balance, "available": max(0, before - bound.least), "least": bound.least}
            raise _Refuse(Refused.OUT_OF_BOUNDS, account=bound.account, **facts)


def _balance(state: State, account: str) -> int:
    """The posted balance; 0 for an account that was never opened."""
    found = state.account(account)
    return 0 if found is None else found.balance


def _known(state: State, account: str) -> Account:
    found = state.account(account)
    if found is None:
        raise _Refuse(Refused.UNKNOWN_ACCOUNT, account=account)
    return found
