"""An independent model of a book: gross sums by account, and every change noted so that a refused group can be undone.

It knows commands and refusal codes, predicts each outcome wholly, and shares nothing else with what it checks. Where
several rules are broken it names the first by the order of `Refused`: it has no order of its own.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from ledger.commands import (
    Charge,
    CloseAccount,
    ClosePeriod,
    Command,
    Expire,
    Freeze,
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
from ledger.outcomes import Outcome
from ledger.outcomes import Refused as R  # noqa: N817
from ledger.riders import Insert, Rider

END = 2**256
LONG_AGO = datetime.min.replace(tzinfo=UTC)
ORDER = {code: place for place, code in enumerate(R)}

Said = tuple[str, str, str, str, int, int, int, str | None, int | None]
"""A line: kind, debit, credit, asset, amount, the balance of either after it, hold, the hold's posting."""


@dataclass(frozen=True, slots=True)
class Told:
    """An outcome, with all that the model predicts of it."""

    about: tuple[str, str, str | None]  # the command's id, kind and subject
    seq: int
    booked_at: datetime
    code: R | None = None
    lines: tuple[Said, ...] = ()
    effective_at: datetime | None = None
    reverses: int | None = None
    replayed: bool = False


def told_by(outcome: Outcome) -> Told:
    """What an engine told, in the model's terms."""
    lines = tuple(
        (
            str(line.kind),
            line.debit,
            line.credit,
            line.asset,
            line.amount,
            line.debit_balance,
            line.credit_balance,
            line.hold,
            line.hold_posting,
        )
        for line in outcome.lines
    )
    about = outcome.id, str(outcome.kind), outcome.subject
    code = None if outcome.refusal is None else outcome.refusal.code
    effective_at, reverses = outcome.effective_at, outcome.reverses
    return Told(about, outcome.seq, outcome.booked_at, code, lines, effective_at, reverses, outcome.replayed)


KINDS: dict[type[Command], str] = {
    OpenAccount: "open",
    CloseAccount: "close",
    Freeze: "freeze",
    Unfreeze: "unfreeze",
    SetCreditLine: "credit_line",
    Post: "post",
    Hold: "hold",
    Settle: "settle",
    Void: "void",
    Expire: "expire",
    Reverse: "reverse",
    ClosePeriod: "close_period",
    Record: "record",
}


def about(command: Command) -> tuple[str, str, str | None]:
    return command.id, KINDS[type(command)], command.subject


@dataclass(frozen=True, slots=True)
class Held:
    """A hold: its postings, and what is left of each."""

    postings: tuple[Posting, ...]
    left: tuple[int, ...]
    until: datetime | None
    charges: tuple[Charge, ...]
    state: str = "open"

    def less(self, index: int, amount: int) -> "Held":
        return replace(self, left=tuple(left - amount * (i == index) for i, left in enumerate(self.left)))


class Refusal(Exception):
    def __init__(self, code: R) -> None:
        self.code = code


class PlainBook:
    def __init__(self) -> None:
        self.seq = 0
        self.now = LONG_AGO  # the last booking's instant
        self.is_open: dict[str, bool] = {}  # False once closed
        self.spent: dict[str, int] = {}  # all that was ever debited
        self.got: dict[str, int] = {}  # all that was ever credited
        self.held: dict[str, int] = {}  # pending debits
        self.awaited: dict[str, int] = {}  # pending credits
        self.caps: dict[str, int] = {}
        self.frozen: dict[str, bool] = {}  # by `account:...`, `owner:...`, `asset:...`, `network:...`
        self.used: dict[str, int] = {}
        self.holds: dict[str, Held] = {}
        self.back: dict[tuple[str, int], int] = {}  # what was taken back of a line
        self.rows: dict[str, dict[str, Any]] = {}
        self.periods: dict[str, datetime] = {}  # under `closed`: the first open instant
        self.heard: dict[str, tuple[object, Command, Told]] = {}
        self._undo: list[tuple[dict[Any, Any], object, object]] = []

    # What a reader would call them

    def balance(self, account: str) -> int:
        return self.got.get(account, 0) - self.spent.get(account, 0)

    def free(self, account: str) -> int:
        return self.balance(account) - self.held.get(account, 0) + self.caps.get(account, 0)

    def counters(self, account: str) -> tuple[int, int, int, int]:
        """Debits and credits posted, debits and credits pending."""
        spent, got, held, awaited = (table.get(account, 0) for table in (self.spent, self.got, self.held, self.awaited))
        return spent, got, held, awaited

    # Groups

    def submit(self, group: Group, now: datetime) -> tuple[Told, ...]:
        """The predicted outcome of each command."""
        contents = [group.content or command for command in group.commands]
        known = [self.heard[command.id] for command in group.commands if command.id in self.heard]
        if known:
            if [content for content, _, _ in known] == contents:
                return tuple(replace(told, replayed=True) for _, _, told in known)
            first = known[0][2].booked_at
            return tuple(Told(about(command), 0, first, R.ID_CONFLICT) for command in group.commands)
        before_it, self.now = self.now, max(self.now, now)
        self._undo.clear()
        told: list[Told] = []
        try:
            for rider in group.riders:
                self.ride(rider)
            for command, content in zip(group.commands, contents, strict=True):
                told.append(self.decide(command, self.seq + len(told) + 1))
                self.put(self.heard, command.id, (content, command, told[-1]))
        except Refusal as refusal:
            for table, key, before in reversed(self._undo):
                if before is None:
                    del table[key]
                else:
                    table[key] = before
            codes = [refusal.code if place == len(told) else R.GROUP_REFUSED for place in range(len(contents))]
            if refusal.code is R.ALLOWANCE_SPENT:  # nothing has happened, not even to the time
                at, self.now = self.now, before_it
                pairs = zip(group.commands, codes, strict=True)
                return tuple(Told(about(command), 0, at, code) for command, code in pairs)
            told = [
                Told(about(command), self.seq + place, self.now, code)
                for place, (command, code) in enumerate(zip(group.commands, codes, strict=True), start=1)
            ]
            for command, content, said in zip(group.commands, contents, told, strict=True):
                self.heard[command.id] = content, command, said
        self.seq += len(told)
        return tuple(told)

    def put(self, table: dict[Any, Any], key: object, value: object) -> None:
        self._undo.append((table, key, table.get(key)))
        table[key] = value

    def add(self, table: dict[Any, int], key: object, step: int) -> None:
        self.put(table, key, table.get(key, 0) + step)

    def ride(self, rider: Rider) -> None:
        key = f"{rider.table}:{sorted(rider.key.items())}"
        row = self.rows.get(key)
        if isinstance(rider, Insert):
            refuse({R.DUPLICATE_ROW: row is not None})
            self.put(self.rows, key, {**rider.key, **rider.values})
        else:
            there = row or {}
            refuse({R.STALE_STATE: row is None or {**there, **rider.expect} != there})
            self.put(self.rows, key, {**there, **rider.change})

    # Commands

    def decide(self, command: Command, seq: int) -> Told:
        date = command.effective_at
        refuse({R.EFFECTIVE_IN_FUTURE: date is not None and date > self.now})
        lines: Sequence[Said] = ()
        reverses = None
        match command:
            case OpenAccount():
                refuse({R.ACCOUNT_CLOSED: self.is_open.get(command.account) is False})
                self.put(self.is_open, command.account, True)
            case CloseAccount():
                debits, credits_, held, awaited = self.counters(command.account)
                is_in_use = debits != credits_ or held or awaited
                refuse({R.UNKNOWN_ACCOUNT: command.account not in self.is_open, R.ACCOUNT_IN_USE: is_in_use})
                self.put(self.is_open, command.account, False)
            case Freeze() | Unfreeze():
                is_account = command.scope == "account"
                refuse({R.UNKNOWN_ACCOUNT: is_account and command.target not in self.is_open})
                self.put(self.frozen, f"{command.scope}:{command.target}", isinstance(command, Freeze))
            case SetCreditLine():
                drawn = self.held.get(command.account, 0) - self.balance(command.account)
                refuse(
                    {
                        R.INVALID_AMOUNT: not 0 <= command.cap < END,
                        R.UNKNOWN_ACCOUNT: command.account not in self.is_open,
                        R.NOT_LIMITED: not is_limited(command.account),
                        R.CREDIT_LINE_IN_USE: command.cap < drawn,
                    }
                )
                self.put(self.caps, command.account, command.cap)
            case ClosePeriod():
                closed = self.periods.get("closed")
                is_closed = closed is not None and command.until <= closed
                refuse({R.EFFECTIVE_IN_FUTURE: command.until > self.now, R.PERIOD_CLOSED: is_closed})
                self.put(self.periods, "closed", command.until)
            case Record():
                charges = command.charges or ()
                refuse({R.INVALID_AMOUNT: any(not (0 <= c.amount < END and 0 <= c.cap < END) for c in charges)})
                self.charge(charges)
            case Post():
                lines = self.post(command)
            case Hold():
                lines = self.hold(command)
            case Settle():
                lines = self.settle(command)
            case Void() | Expire():
                hold = self.usable(command)
                lines = self.release(command.hold, hold, "voided" if isinstance(command, Void) else "expired")
            case Reverse():
                lines = self.reverse(command)
                reverses = self.heard[command.entry][2].seq
        if date is not None:
            date = max(date, self.periods.get("closed", date))
        return Told(about(command), seq, self.now, None, tuple(lines), None if date == self.now else date, reverses)

    def wrong_with(self, command: Post | Hold) -> dict[R, bool]:
        """All that may be wrong with an entry before its money is looked at."""
        sides = [[n for n in (p.debit, p.credit, p.debit_rest, p.credit_rest) if n] for p in command.postings]
        named = [name for names in sides for name in names]
        pairs = zip(command.postings, sides, strict=True)
        return {
            R.NO_POSTINGS: not command.postings,
            R.INVALID_AMOUNT: any(not 0 < p.amount < END for p in command.postings)
            or any(not (0 <= charge.amount < END and 0 <= charge.cap < END) for charge in command.charges),
            R.SAME_ACCOUNT: any(len(names) > len(set(names)) for names in sides),
            R.UNKNOWN_ACCOUNT: any(name not in self.is_open for name in named),
            R.ASSET_MISMATCH: any(name.split("/")[2] != p.asset for p, names in pairs for name in names),
            R.RECEIVABLE_OPEN: any(self.balance(name) < 0 for name in command.owing_nothing),
        } | self.unusable(named, command)

    def unusable(self, named: Iterable[str], command: Post | Hold | Reverse) -> dict[R, bool]:
        return {
            R.ACCOUNT_CLOSED: any(self.is_open.get(name) is False for name in named),
            R.FROZEN: command.evidence is None and any(self.is_frozen(name) for name in named),
        }

    def is_frozen(self, account: str) -> bool:
        owner, purpose, asset = account.split("/")
        places = [f"account:{account}", f"owner:{owner}", f"asset:{asset}"]
        if purpose.startswith(("custody:", "bank:", "in-transit:", "provider:")):
            places.append(f"network:{purpose.split(':')[1]}")
        return any(self.frozen.get(place) for place in places)

    def post(self, command: Post) -> list[Said]:
        refuse(self.wrong_with(command))
        self.charge(command.charges)
        payers = {n for p in command.postings for n in (p.debit, p.debit_rest) if n}
        before = {bound.account: self.balance(bound.account) for bound in command.bounds or ()}
        lines = self.within_limits(
            [n for n in payers if command.covered or is_limited(n)],
            lambda: [
                self.move(debit, credit, posting.asset, amount)
                for posting in command.postings
                for debit, credit, amount in self.shares(posting)
            ],
        )
        now = {name: self.balance(name) for name in before}
        above = [
            b for b in command.bounds or () if b.most is not None and now[b.account] > max(b.most, before[b.account])
        ]
        below = [
            b for b in command.bounds or () if b.least is not None and now[b.account] < min(b.least, before[b.account])
        ]
        refuse({R.OUT_OF_BOUNDS: bool(above or below)})
        return lines

    def shares(self, p: Posting) -> Iterator[tuple[str, str, int]]:
        """Who gives how much to whom: first those named first, each as far as it goes."""
        gives = {p.debit: p.amount}
        if p.debit_rest:
            gives = {p.debit: max(0, min(p.amount, self.free(p.debit)))}
            gives[p.debit_rest] = p.amount - gives[p.debit]
        takes = {p.credit: p.amount}
        if p.credit_rest:
            takes = {p.credit: max(0, min(p.amount, -self.balance(p.credit)))}
            takes[p.credit_rest] = p.amount - takes[p.credit]
        for debit, credit in [(debit, credit) for debit in gives for credit in takes]:
            amount = min(gives[debit], takes[credit])
            gives[debit] -= amount
            takes[credit] -= amount
            if amount:
                yield debit, credit, amount

    def hold(self, command: Hold) -> list[Said]:
        is_past = command.expires_at is not None and command.expires_at <= self.now
        refuse(self.wrong_with(command) | {R.EXPIRES_IN_PAST: is_past})
        self.charge(command.charges)
        held = Held(command.postings, tuple(p.amount for p in command.postings), command.expires_at, command.charges)
        self.put(self.holds, command.id, held)
        payers = [p.debit for p in command.postings if is_limited(p.debit)]
        return self.within_limits(
            payers, lambda: [self.set_aside("held", command.id, held, i, n) for i, n in enumerate(held.left)]
        )

    def within_limits(self, payers: Iterable[str], book: Callable[[], list[Said]]) -> list[Said]:
        """What `book` books, refused if afterwards a payer lacks what it gave or a sum is too large."""
        before = {name: self.free(name) for name in payers}
        lines = book()
        touched = {name for line in lines for name in line[1:3]}
        sums = [
            (debits + held, credits_ + waited) for n in touched for debits, credits_, held, waited in [self.counters(n)]
        ]
        refuse(
            {
                R.AMOUNT_OVERFLOW: any(total >= END for both in sums for total in both),
                R.INSUFFICIENT_FUNDS: any(self.free(n) < min(0, was) for n, was in before.items()),
            }
        )
        return lines

    def charge(self, charges: Iterable[Charge]) -> None:
        for charge in sorted(charges, key=lambda one: one.may_ask_again):
            self.add(self.used, charge.counter, charge.amount)
            spent = R.ALLOWANCE_SPENT if charge.may_ask_again else R.LIMIT_EXCEEDED
            refuse({spent: self.used[charge.counter] > charge.cap})

    def usable(self, command: Settle | Void | Expire, wrong: Mapping[R, bool] | None = None) -> Held:
        refuse({**(wrong or {}), R.UNKNOWN_HOLD: command.hold not in self.holds})
        hold = self.holds[command.hold]
        is_due = hold.until is not None and hold.until <= self.now
        is_expiry = isinstance(command, Expire)
        refuse(
            {
                R.HOLD_CLOSED: hold.state != "open",
                R.HOLD_EXPIRED: is_due and not is_expiry,
                R.NOT_YET: is_expiry and not is_due,
            }
        )
        return hold

    def settle(self, command: Settle) -> list[Said]:
        wrong = {
            R.INVALID_AMOUNT: any(not 0 < n < END for _, n in command.amounts or ()),
            R.RECEIVABLE_OPEN: any(self.balance(name) < 0 for name in command.owing_nothing),
        }
        hold = self.usable(command, wrong)
        all_that_is_left = [(index, left) for index, left in enumerate(hold.left) if left]
        asked = all_that_is_left if command.amounts is None else command.amounts
        refuse(beyond(asked, dict(enumerate(hold.left))))
        lines = []
        for index, amount in asked:
            lines.append(self.set_aside("posted", command.hold, hold, index, amount))
            hold = hold.less(index, amount)
        if command.close:
            return lines + self.release(command.hold, hold, "settled")
        self.put(self.holds, command.hold, hold if any(hold.left) else replace(hold, state="settled"))
        return lines

    def release(self, name: str, hold: Held, end: str) -> list[Said]:
        if hold.left == tuple(p.amount for p in hold.postings):
            for charge in hold.charges:
                self.add(self.used, charge.counter, -charge.amount)
        lines = [self.set_aside("released", name, hold, index, left) for index, left in enumerate(hold.left) if left]
        self.put(self.holds, name, replace(hold, left=(0,) * len(hold.left), state=end))
        return lines

    def reverse(self, command: Reverse) -> list[Said]:
        refuse(
            {
                R.NO_POSTINGS: command.amounts == (),
                R.INVALID_AMOUNT: any(not 0 < amount < END for _, amount in command.amounts or ()),
                R.UNKNOWN_ENTRY: command.entry not in self.heard,
            }
        )
        _, original, told = self.heard[command.entry]
        lines = told.lines
        left = {
            index: line[4] - self.back.get((command.entry, index), 0)
            for index, line in enumerate(lines)
            if line[0] == "posted"
        }
        all_that_is_left = [(index, amount) for index, amount in left.items() if amount]
        asked = all_that_is_left if command.amounts is None else command.amounts
        pairs = [(lines[index], amount) for index, amount in asked if index in left]
        refuse(
            {
                R.NOT_REVERSIBLE: not isinstance(original, Post | Settle) or told.code is not None,
                R.EXCEEDS_REMAINDER: not asked,
            }
            | self.unusable([name for line, _ in pairs for name in line[1:3]], command)
            | {code: is_broken for code, is_broken in beyond(asked, left).items() if is_broken}
        )
        for index, amount in asked:
            self.add(self.back, (command.entry, index), amount)
        payers = [line[2] for line, _ in pairs if is_limited(line[2])]
        return self.within_limits(
            payers, lambda: [self.move(line[2], line[1], line[3], amount) for line, amount in pairs]
        )

    # Lines

    def move(self, debit: str, credit: str, asset: str, amount: int) -> Said:
        self.add(self.spent, debit, amount)
        self.add(self.got, credit, amount)
        return ("posted", debit, credit, asset, amount, self.balance(debit), self.balance(credit), None, None)

    def set_aside(self, kind: str, name: str, hold: Held, index: int, amount: int) -> Said:
        p = hold.postings[index]
        step = amount if kind == "held" else -amount
        self.add(self.held, p.debit, step)
        self.add(self.awaited, p.credit, step)
        if kind == "posted":
            self.move(p.debit, p.credit, p.asset, amount)
        balances = self.balance(p.debit), self.balance(p.credit)
        return (kind, p.debit, p.credit, p.asset, amount, *balances, name, index)


def is_limited(account: str) -> bool:
    return not account.startswith("house/") or account.startswith("house/fx/")


def refuse(broken: Mapping[R, object]) -> None:
    """Raise the first refusal, by the order of `Refused`, whose rule is broken."""
    codes = [code for code, is_broken in broken.items() if is_broken]
    if codes:
        raise Refusal(min(codes, key=ORDER.__getitem__))


def beyond(asked: Iterable[tuple[int, int]], left: Mapping[int, int]) -> dict[R, bool]:
    """Whether more is asked than there is left, or of a posting that there isn't."""
    wanted: dict[int, int] = {}
    for index, amount in asked:
        wanted[index] = wanted.get(index, 0) + amount
    return {
        R.UNKNOWN_POSTING: any(index not in left for index in wanted),
        R.EXCEEDS_REMAINDER: any(amount > left[index] for index, amount in wanted.items() if index in left),
    }
