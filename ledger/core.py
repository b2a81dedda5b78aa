"""The specification of the book: `apply(state, now, groups)` decides commands. Pure; both engines must agree with it.

Every decision looks in one fixed order, the order of `ledger.outcomes.Refused`: identity, riders, shape, accounts,
freezes, time, holds, money. The first thing wrong refuses the command, and with it its group; nothing of it is written.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import assert_never

from ledger.accounts import Account, new_account, split_account_id
from ledger.canonical import command_content, kind_of
from ledger.commands import (
    CloseAccount,
    Command,
    Expire,
    Freeze,
    FreezeScope,
    Group,
    Hold,
    OpenAccount,
    Post,
    Posting,
    SetCreditLine,
    Settle,
    Unfreeze,
    Void,
)
from ledger.errors import InvalidCommand
from ledger.money import AMOUNT_END
from ledger.outcomes import Line, LineKind, Outcome, Refusal, Refused
from ledger.riders import Advance, Insert, Rider
from ledger.state import HeldPosting, HoldRecord, HoldState, State, row_key


class _Refuse(Exception):  # control flow inside this module only; callers see an Outcome
    def __init__(self, code: Refused, **facts: str | int) -> None:
        super().__init__(code)
        self.refusal = Refusal(code, facts)


def apply(state: State, now: datetime, groups: Iterable[Group]) -> tuple[State, list[tuple[Outcome, ...]]]:
    """Decide `groups` in order: a layer above `state` that holds all they changed, and each group's outcomes.

    `now` is the clock's instant; a book's time never falls: booked_at = max(clock, last booked_at). The groups have
    passed `check_group`.
    """
    layer = state.layer()
    return layer, [_decide_group(layer, now, group) for group in groups]


def check_group(group: Group) -> None:
    """Raise InvalidCommand for what nobody can mean, before it's queued beside others' commands."""
    ids = [command.id for command in group.commands]
    if not ids or len(set(ids)) != len(ids):
        raise InvalidCommand("a group needs at least one command, and each an id of its own")
    for command in group.commands:
        texts = (command.id, command.subject or "", *command.metadata.keys(), *command.metadata.values())
        if not command.id or any("\0" in said for said in texts):
            raise InvalidCommand("an id can't be empty, and no text of a command may hold a NUL character")
        if isinstance(command, OpenAccount):
            split_account_id(command.account)
        if isinstance(command, Hold) and any(p.debit_rest or p.credit_rest for p in command.postings):
            raise InvalidCommand("a hold's postings name both accounts; only an entry may leave a rest")


def _decide_group(state: State, now: datetime, group: Group) -> tuple[Outcome, ...]:
    ids = [command.id for command in group.commands]
    contents = [group.content or command_content(command) for command in group.commands]
    known = [state.outcome(command) for command in ids]
    if any(known):
        return _repeat(group.commands, contents, known)

    attempt = state.layer()
    attempt.booked_at = max(now, state.booked_at)
    lines: list[tuple[Line, ...]] = []
    try:
        for rider in group.riders:
            _ride(attempt, rider)
        for command in group.commands:
            lines.append(_decide(attempt, command))
    except _Refuse as stop:
        refusals = _group_refusals(ids, len(lines), stop.refusal)
        attempt = state.layer()
        attempt.booked_at = max(now, state.booked_at)
        lines = [()] * len(ids)
    else:
        refusals = [None] * len(ids)

    # From here it must succeed.
    outcomes = tuple(
        Outcome(
            id=command.id,
            seq=state.seq + number,
            booked_at=attempt.booked_at,
            kind=kind_of(command),
            subject=command.subject,
            content=content,
            refusal=refusal,
            lines=booked,
        )
        for number, (command, content, refusal, booked) in enumerate(
            zip(group.commands, contents, refusals, lines, strict=True), start=1
        )
    )
    attempt.seq = state.seq + len(outcomes)
    attempt.outcomes.update((outcome.id, outcome) for outcome in outcomes)
    state.absorb(attempt)
    return outcomes


def _group_refusals(ids: Sequence[str], failed: int, refusal: Refusal) -> list[Refusal | None]:
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


def _decide(state: State, command: Command) -> tuple[Line, ...]:
    if command.effective_at is not None and command.effective_at > state.booked_at:
        raise _Refuse(Refused.EFFECTIVE_IN_FUTURE, booked_at=state.booked_at.isoformat())
    match command:
        case OpenAccount():
            return _open(state, command)
        case CloseAccount():
            return _close(state, command)
        case Freeze() | Unfreeze():
            return _freeze(state, command)
        case SetCreditLine():
            return _set_credit_line(state, command)
        case Post():
            return _post(state, command)
        case Hold():
            return _hold(state, command)
        case Settle():
            return _settle(state, command)
        case Void():
            return _release_all(state, _open_hold(state, command.hold, expired=False), HoldState.VOIDED)
        case Expire():
            return _release_all(state, _open_hold(state, command.hold, expired=True), HoldState.EXPIRED)
        case _ as never:
            assert_never(never)


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
    if not 0 <= command.cap < AMOUNT_END:
        raise _Refuse(Refused.INVALID_AMOUNT, amount=str(command.cap))
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
    _check_postings(state, command.postings, is_evidence=command.evidence is not None)
    before = _available_before(state, command.postings, every_account=command.covered)
    lines = [_write(state, LineKind.POSTED, part) for posting in command.postings for part in _split(state, posting)]
    _check_limits(state, before)
    return tuple(lines)


def _check_postings(state: State, postings: Sequence[Posting], *, is_evidence: bool) -> None:
    if not postings:
        raise _Refuse(Refused.NO_POSTINGS)
    for posting in postings:
        if not 0 < posting.amount < AMOUNT_END:
            raise _Refuse(Refused.INVALID_AMOUNT, amount=str(posting.amount))
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
    for _, account in accounts:
        if account.closed:
            raise _Refuse(Refused.ACCOUNT_CLOSED, account=account.id)
    if not is_evidence:
        for _, account in accounts:
            _check_not_frozen(state, account)


def _sides(posting: Posting) -> list[str]:
    named = (posting.debit, posting.credit, posting.debit_rest, posting.credit_rest)
    return [account for account in named if account is not None]


def _check_not_frozen(state: State, account: Account) -> None:
    if account.frozen:
        raise _Refuse(Refused.FROZEN, scope=FreezeScope.ACCOUNT, target=account.id)
    for scope, target in ((FreezeScope.OWNER, account.owner), (FreezeScope.ASSET, account.asset)):
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


# Holds


def _hold(state: State, command: Hold) -> tuple[Line, ...]:
    _check_postings(state, command.postings, is_evidence=command.evidence is not None)
    if command.expires_at is not None and command.expires_at <= state.booked_at:
        raise _Refuse(Refused.EXPIRES_IN_PAST, booked_at=state.booked_at.isoformat())
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
        if not 0 < amount < AMOUNT_END:
            raise _Refuse(Refused.INVALID_AMOUNT, amount=str(amount))
        asked[index] = asked.get(index, 0) + amount
    for index, amount in asked.items():
        remaining = record.postings[index].remaining
        if amount > remaining:
            raise _Refuse(
                Refused.EXCEEDS_REMAINDER, hold=record.id, posting=index, required=amount, remaining=remaining
            )


def _release_all(state: State, record: HoldRecord, end: HoldState) -> tuple[Line, ...]:
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


def _known(state: State, account: str) -> Account:
    found = state.account(account)
    if found is None:
        raise _Refuse(Refused.UNKNOWN_ACCOUNT, account=account)
    return found
