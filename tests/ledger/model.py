"""An independent model of a book: signed sums over a list of events, deep copies for groups, no code of `ledger.core`.

It knows commands and refusal codes, predicts each outcome, and shares nothing else with what it checks.
"""

from copy import deepcopy
from datetime import datetime
from typing import Any

from ledger.commands import (
    Command,
    Expire,
    Freeze,
    Group,
    Hold,
    OpenAccount,
    Post,
    SetCreditLine,
    Settle,
    Unfreeze,
    Void,
)
from ledger.outcomes import Refused as R  # noqa: N817


class Refusal(Exception):
    def __init__(self, code: R) -> None:
        self.code = code


class PlainBook:
    def __init__(self) -> None:
        self.now: datetime | None = None
        self.opened: set[str] = set()
        self.moved: list[tuple[str, int]] = []  # (account, signed step of its balance)
        self.holds: dict[str, dict[str, Any]] = {}
        self.caps: dict[str, int] = {}
        self.frozen: set[str] = set()
        self.seen: dict[str, tuple[object, R | None]] = {}

    # What a reader would call the balance and the held amount: sums, each time anew.
    def balance(self, account: str) -> int:
        return sum(step for name, step in self.moved if name == account)

    def held(self, account: str) -> int:
        return sum(
            left
            for hold in self.holds.values()
            for posting, left in zip(hold["postings"], hold["left"], strict=True)
            if posting.debit == account
        )

    def gross(self, account: str) -> tuple[int, int]:
        """All that was ever debited and credited, and what is held on either side."""
        waiting = [
            (posting, left)
            for hold in self.holds.values()
            for posting, left in zip(hold["postings"], hold["left"], strict=True)
        ]
        out = sum(-step for name, step in self.moved if name == account and step < 0)
        into = sum(step for name, step in self.moved if name == account and step > 0)
        out += sum(left for posting, left in waiting if posting.debit == account)
        return out, into + sum(left for posting, left in waiting if posting.credit == account)

    def free(self, account: str) -> int:
        return self.balance(account) - self.held(account) + self.caps.get(account, 0)

    def limited(self, account: str) -> bool:
        return not account.startswith("house/") or account.startswith("house/fx/")

    def submit(self, group: Group, now: datetime) -> list[R | None]:
        """The predicted refusal code of each command, None for accepted."""
        self.now = now if self.now is None else max(self.now, now)
        said = [(command.id, _said(command, group)) for command in group.commands]
        if any(name in self.seen for name, _ in said):
            same = all(self.seen.get(name, (None, None))[0] == content for name, content in said)
            return [self.seen[name][1] if same else R.ID_CONFLICT for name, _ in said]
        trial = deepcopy(self)
        codes: list[R | None] = [None] * len(said)
        for index, command in enumerate(group.commands):
            try:
                trial.decide(command)
            except Refusal as refusal:
                codes = [R.GROUP_REFUSED] * len(said)
                codes[index] = refusal.code
                break
        else:
            self.__dict__ = trial.__dict__
        for (name, content), code in zip(said, codes, strict=True):
            self.seen[name] = content, code
        return codes

    def decide(self, command: Command) -> None:
        match command:
            case OpenAccount():
                self.opened.add(command.account)
            case Freeze():
                self.frozen.add(command.target)
            case Unfreeze():
                self.frozen.discard(command.target)
            case SetCreditLine():
                if not self.limited(command.account):
                    raise Refusal(R.NOT_LIMITED)
                used = self.held(command.account) - self.balance(command.account)
                if command.cap < used:
                    raise Refusal(R.CREDIT_LINE_IN_USE)
                self.caps[command.account] = command.cap
            case Post():
                self.entry(command, hold=False)
            case Hold():
                self.entry(command, hold=True)
            case Settle():
                self.settle(command)
            case Void() | Expire():
                hold = self.open_hold(command.hold, due=isinstance(command, Expire))
                hold["left"], hold["open"] = [0] * len(hold["left"]), False

    def entry(self, command: Post | Hold, *, hold: bool) -> None:
        if not command.postings:
            raise Refusal(R.NO_POSTINGS)
        if any(p.amount <= 0 or p.amount >= 2**256 for p in command.postings):
            raise Refusal(R.INVALID_AMOUNT)
        named = [[n for n in (p.debit, p.credit, p.debit_rest, p.credit_rest) if n] for p in command.postings]
        if any(len(names) != len(set(names)) for names in named):
            raise Refusal(R.SAME_ACCOUNT)
        everyone = [name for names in named for name in names]
        if any(name not in self.opened for name in everyone):
            raise Refusal(R.UNKNOWN_ACCOUNT)
        pairs = zip(command.postings, named, strict=True)
        if any(name.split("/")[2] != p.asset for p, sides in pairs for name in sides):
            raise Refusal(R.ASSET_MISMATCH)
        if not command.evidence and any(name in self.frozen or name.split("/")[0] in self.frozen for name in everyone):
            raise Refusal(R.FROZEN)
        if isinstance(command, Hold) and self.now and command.expires_at and command.expires_at <= self.now:
            raise Refusal(R.EXPIRES_IN_PAST)
        covered = isinstance(command, Post) and command.covered
        payers = {n for p in command.postings for n in (p.debit, p.debit_rest) if n and (covered or self.limited(n))}
        before = {name: self.free(name) for name in payers}
        if isinstance(command, Hold):
            self.holds[command.id] = {
                "postings": command.postings,
                "left": [p.amount for p in command.postings],
                "open": True,
                "until": command.expires_at,
            }
        else:
            for p in command.postings:
                self.move(p)
        if any(gross >= 2**256 for name in everyone for gross in self.gross(name)):
            raise Refusal(R.AMOUNT_OVERFLOW)
        if any(self.free(name) < 0 and self.free(name) < before[name] for name in payers):
            raise Refusal(R.INSUFFICIENT_FUNDS)

    def move(self, p) -> None:
        first = p.amount if p.debit_rest is None else max(0, min(p.amount, self.free(p.debit)))
        owed = p.amount if p.credit_rest is None else max(0, min(p.amount, -self.balance(p.credit)))
        self.moved += [(p.debit, -first), (p.credit, owed)]
        if p.debit_rest:
            self.moved.append((p.debit_rest, first - p.amount))
        if p.credit_rest:
            self.moved.append((p.credit_rest, p.amount - owed))

    def open_hold(self, name: str, *, due: bool) -> dict[str, Any]:
        if name not in self.holds:
            raise Refusal(R.UNKNOWN_HOLD)
        hold = self.holds[name]
        if not hold["open"]:
            raise Refusal(R.HOLD_CLOSED)
        is_due = hold["until"] is not None and hold["until"] <= self.now
        if is_due and not due:
            raise Refusal(R.HOLD_EXPIRED)
        if due and not is_due:
            raise Refusal(R.NOT_YET)
        return hold

    def settle(self, command: Settle) -> None:
        if any(not 0 < amount < 2**256 for _, amount in command.amounts or ()):
            raise Refusal(R.INVALID_AMOUNT)
        hold = self.open_hold(command.hold, due=False)
        asked = command.amounts
        if asked is None:
            asked = tuple((i, left) for i, left in enumerate(hold["left"]) if left)
        for index, amount in asked:
            if index >= len(hold["left"]):
                raise Refusal(R.UNKNOWN_POSTING)
            if amount <= 0:
                raise Refusal(R.INVALID_AMOUNT)
        for index in range(len(hold["left"])):
            if sum(amount for i, amount in asked if i == index) > hold["left"][index]:
                raise Refusal(R.EXCEEDS_REMAINDER)
        for index, amount in asked:
            posting = hold["postings"][index]
            hold["left"][index] -= amount
            self.moved += [(posting.debit, -amount), (posting.credit, amount)]
        if command.close:
            hold["left"] = [0] * len(hold["left"])
        hold["open"] = any(hold["left"])


def _said(command: Command, group: Group) -> object:
    said = (name for name in command.__dataclass_fields__ if name not in ("id", "metadata"))
    return group.content or (type(command), *(getattr(command, name) for name in said))
