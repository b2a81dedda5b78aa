"""Random histories of a small book near its limits. `Writer` looks at the model, so that what it asks for nearly fits.

Few accounts and small amounts, so that everybody is in everybody's way: repeats, conflicts, groups, holds used at once,
reversals, back-dated entries, closed periods, limits, freezes, accounts that come and go. The same seed, the same
history.
"""

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st
from msgspec import UNSET, UnsetType

from ledger.commands import (
    BankEvidence,
    Bound,
    ChainEvidence,
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
    RailEvidence,
    Record,
    Reverse,
    SetCreditLine,
    Settle,
    SignerEvidence,
    Unfreeze,
    Void,
)
from ledger.money import Asset, AssetKind
from ledger.outcomes import Refused as R  # noqa: N817
from ledger.riders import Advance, Insert, Rider
from tests.ledger.crowd import THINGS
from tests.ledger.model import PlainBook, Told, is_limited

START = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
ASSETS = (Asset("USD", AssetKind.FIAT, 2), Asset("ETH", AssetKind.CRYPTO, 18))
ACCOUNTS = (
    "usr_a/wallet/USD",
    "usr_b/wallet/USD",
    "usr_a/wallet/ETH",
    "house/fx/USD",
    "house/bank:main/USD",
    "house/receivable:usr_a/USD",
    "house/custody:local:hot/ETH",
)
OPENING = Group(tuple(OpenAccount(id=f"open:{account}", account=account) for account in ACCOUNTS))

RECEIVABLE, HOT = ACCOUNTS[5:]
NOBODY = "usr_x/wallet/USD"
HOLDS_MAX = 8
"""Holds under way: more of them, and what is held would be more than what moves."""

EVIDENCE = (
    BankEvidence("main", "S1", 1),
    ChainEvidence("local", 7, "0xab", "0xcd", "log:3"),
    SignerEvidence(12, "ab" * 32),
    RailEvidence("sandbox", "pay_1"),
)
FREEZABLE = (
    (FreezeScope.OWNER, "usr_b"),
    (FreezeScope.OWNER, "usr_b"),
    (FreezeScope.ACCOUNT, ACCOUNTS[0]),
    (FreezeScope.ACCOUNT, NOBODY),
    (FreezeScope.ASSET, "ETH"),
    (FreezeScope.ASSET, "ETH"),
    (FreezeScope.ASSET, "USD"),
    (FreezeScope.NETWORK, "local"),
    (FreezeScope.NETWORK, "main"),
)

Asked = list[tuple[Group, tuple[Told, ...]]]
"""Groups to submit together, each with what the model says of it."""


@dataclass(slots=True)
class Writer:
    """Writes a history, group by group, and lets the model decide each. `riders`: some change rows of `THINGS`."""

    chance: random.Random
    riders: bool = False
    book: PlainBook = field(default_factory=PlainBook)
    now: datetime = START
    last: str = "c0"
    guest: str = "usr_g0/wallet/USD"
    count: int = 0
    groups: deque[Group] = field(default_factory=lambda: deque(maxlen=30))
    old: list[Group] = field(default_factory=list)
    holds: list[str] = field(default_factory=list)
    ended: deque[str] = field(default_factory=lambda: deque(maxlen=5))
    entries: deque[str] = field(default_factory=lambda: deque(maxlen=8))

    def step(self, size: int) -> Asked:
        """About `size` commands, at one instant."""
        asked: Asked = []
        left = size
        while left > 0:
            group = self._group(left)
            left -= len(group.commands)
            asked.append((group, self.book.submit(group, self.now)))
            self._remember(*asked[-1])
            if self.count % 97 == 0:
                self.old = [*self.old[-200:], group]
        return asked

    def let_time_pass(self) -> None:
        """Move the clock on; now and then it stands still, or goes back."""
        self.now += SECOND * self.chance.choice((-1, 0, 0, 1, 1, 2))

    def _remember(self, group: Group, told: tuple[Told, ...]) -> None:
        """What later commands refer to: mostly holds that were made and entries that were booked."""
        self.groups.append(group)
        for command, said in zip(group.commands, told, strict=True):
            if isinstance(command, Hold) and said.code is None:
                self.holds.append(command.id)
            elif isinstance(command, Hold) and (said.code is R.GROUP_REFUSED or self.chance.random() < 0.1):
                self.ended.append(command.id)  # it was never made
            if isinstance(command, Post | Settle | Reverse) and (said.code is None or self.chance.random() < 0.05):
                self.entries.append(command.id)
        is_open = [name for name in self.holds if self.book.holds[name].state == "open"]
        self.ended.extend(name for name in self.holds if name not in is_open)
        self.holds = is_open

    # Groups

    def _group(self, most: int) -> Group:
        draw = self.chance.random()
        if draw < 0.05 and self.groups:
            return self.chance.choice(self.old if self.old and draw < 0.01 else self.groups)
        content = self.chance.randbytes(32) if draw > 0.98 else None
        riders = (self._rider(),) if self.riders and draw > 0.97 else ()
        if draw < 0.17 and most > 1:
            commands = self._linked() if draw < 0.11 else self._several(most)
        else:
            commands = (self._command(self._id()),)
        return Group(commands, riders, content)

    def _several(self, most: int) -> tuple[Command, ...]:
        found = [self._command(self._new_id()) for _ in range(self.chance.randint(2, min(4, most)))]
        if self.groups and self.chance.random() < 0.05:
            found[0] = self.chance.choice(self.groups).commands[0]  # said before, and now beside others
        return tuple({command.id: command for command in found}.values())

    def _linked(self) -> tuple[Command, ...]:
        """Commands of which one uses what another one makes."""
        chance = self.chance
        first, second, third = (self._new_id() for _ in range(3))
        match chance.randrange(6):
            case 0:
                hold = self._hold(first)
                ending = self._ending(second, first)
                return (hold, ending, self._ending(third, first)) if chance.random() < 0.2 else (hold, ending)
            case 1:
                part = chance.choice((None, ((0, 1),)))
                again = Reverse(id=third, entry=first, amounts=chance.choice((None, ((0, 1),), ((0, 1), (0, 1)))))
                return self._post(first), Reverse(id=second, entry=first, amounts=part), again
            case 2 if self.entries:
                entry = chance.choice(self.entries)
                some = Reverse(id=first, entry=entry, amounts=((0, 1),))
                return some, Reverse(id=second, entry=entry, amounts=chance.choice((None, ((0, 1),))))
            case 3:
                return self._welcome(first), self._gift(second)
            case 4:
                return self._farewell(first, second)
            case _:
                return self._edge(first, second, third)

    def _rider(self) -> Rider:
        key = {"book": "main", "id": f"r{self.chance.randrange(6)}"}
        if self.chance.random() < 0.4:
            return Insert(THINGS, key, {"state": "new"})
        old, new = self.chance.choice((("new", "used"), ("used", "new")))
        return Advance(THINGS, key, {"state": old}, {"state": new})

    # Commands

    def _id(self) -> str:
        """A new id or, rarely, one that was used for something else."""
        if self.groups and self.chance.random() < 0.02:
            return self.chance.choice(self.groups).commands[0].id
        return self._new_id()

    def _new_id(self) -> str:
        self.count += 1
        self.last = f"c{self.count}"
        return self.last

    def _command(self, name: str) -> Command:
        chance = self.chance
        if (frozen := [place for place, stands in self.book.frozen.items() if stands]) and chance.random() < 0.3:
            scope, _, target = frozen[0].partition(":")
            return Unfreeze(id=name, scope=FreezeScope(scope), target=target)
        if len(self.holds) >= HOLDS_MAX:
            return self._ending(name, self._some_hold())
        draw = chance.random()
        if draw < 0.46:
            return self._post(name)
        if draw < 0.62:
            return self._hold(name)
        if draw < 0.84:
            return self._ending(name, self._some_hold())
        if draw < 0.91:
            return self._reverse(name)
        if draw < 0.94:
            cap = chance.choice((0, 3, 10, 10, -1, 2**256))
            return SetCreditLine(id=name, account=chance.choice((*ACCOUNTS[:4], *ACCOUNTS, NOBODY)), cap=cap)
        if draw < 0.95:
            scope, target = chance.choice(FREEZABLE)
            return Freeze(id=name, scope=scope, target=target)
        if draw < 0.96:
            return ClosePeriod(id=name, until=self.now - SECOND * chance.choice((-1, 0, 1, 2, 3, 4)))
        if draw < 0.97:
            date = self._date() if chance.random() < 0.5 else None
            facts = {"of": name, "said": "a\tb\\c \u4e2d"}
            charges = self._charges() if chance.random() < 0.5 else UNSET
            said = {"by": "x"} if date is None else {}
            return Record(id=name, facts=facts, effective_at=date, metadata=said, charges=charges)
        if draw < 0.985:
            return self._welcome(name)
        return CloseAccount(id=name, account=chance.choice((self.guest, self.guest, ACCOUNTS[0], NOBODY)))

    def _post(self, name: str) -> Post:
        chance = self.chance
        return Post(
            id=name,
            postings=self._postings(rests=True),
            covered=chance.random() < 0.05,
            charges=self._charges() if chance.random() < 0.06 else (),
            evidence=chance.choice(EVIDENCE) if chance.random() < 0.08 else None,
            effective_at=self._date() if chance.random() < 0.10 else None,
            owing_nothing=self._owing_nothing(),
            bounds=self._bounds(),
            subject=f"trf_{name}" if chance.random() < 0.2 else None,
            metadata={"memo": name} if chance.random() < 0.05 else {},
        )

    def _bounds(self) -> tuple[Bound, ...] | UnsetType:
        """Mostly none; else from about nothing up, up to little, or both."""
        chance = self.chance
        if chance.random() < 0.95:
            return UNSET
        least, most = chance.choice((None, 0, 5)), chance.choice((None, 10, 40))
        return (Bound(chance.choice(ACCOUNTS), least, most),)

    def _hold(self, name: str) -> Hold:
        chance = self.chance
        return Hold(
            id=name,
            postings=self._postings(rests=False, guest=chance.random() < 0.2),
            charges=self._charges() if chance.random() < 0.2 else (),
            expires_at=self.now + SECOND * chance.choice((0, 1, 2, 3, 4)) if chance.random() < 0.3 else None,
            evidence=chance.choice(EVIDENCE) if chance.random() < 0.05 else None,
            effective_at=self._date() if chance.random() < 0.05 else None,
            owing_nothing=self._owing_nothing(),
        )

    def _owing_nothing(self) -> tuple[str, ...]:
        """Mostly nobody, or somebody who never had an account."""
        chance = self.chance
        if chance.random() < 0.9:
            return ()
        return tuple(chance.sample((*ACCOUNTS, NOBODY, self.guest), chance.choice((1, 1, 2))))

    def _ending(self, name: str, hold: str) -> Command:
        chance = self.chance
        known = self.book.holds.get(hold)
        is_due = known is not None and known.until is not None and known.until <= self.now
        draw = chance.random() * (0.35 if is_due else 1)
        if draw < (0.2 if is_due else 0.04):
            return Expire(id=name, hold=hold)
        if draw < 0.25:
            return Void(id=name, hold=hold)
        amounts = None
        if chance.random() < 0.6:
            amounts = self._parts(known.left if known else (3,))
        if chance.random() < 0.03:
            amounts = chance.choice(((), ((-1, 1),), ((0, 0),), ((0, 2**256),)))
        date = self._date() if chance.random() < 0.05 else None
        close, owing_nothing = chance.random() < 0.3, self._owing_nothing()
        return Settle(id=name, hold=hold, amounts=amounts, close=close, effective_at=date, owing_nothing=owing_nothing)

    def _reverse(self, name: str) -> Reverse:
        chance = self.chance
        draw = chance.random()
        entry = chance.choice(self.entries) if self.entries else "none"
        if draw < 0.15:
            entry = chance.choice(("none", *(group.commands[0].id for group in self.groups)))
        elif draw < 0.25 and self.old:
            entry = chance.choice(self.old).commands[0].id
        amounts = None
        if chance.random() < 0.7:
            lines = self.book.heard[entry][2].lines if entry in self.book.heard else ()
            amounts = self._parts([line[4] for line in lines] or (3,))
        if chance.random() < 0.03:
            amounts = chance.choice(((), ((-1, 1),), ((0, 0),)))
        return Reverse(
            id=name,
            entry=entry,
            amounts=amounts,
            evidence=chance.choice(EVIDENCE) if chance.random() < 0.1 else None,
            effective_at=self._date() if chance.random() < 0.1 else None,
        )

    # Accounts that come and go

    def _welcome(self, name: str) -> OpenAccount:
        """Open the guest's account; once the last guest's is closed, now and then somebody else comes."""
        if self.book.is_open.get(self.guest) is False and self.chance.random() < 0.6:
            self.guest = f"usr_g{name[1:]}/wallet/USD"
        return OpenAccount(id=name, account=self.guest)

    def _gift(self, name: str) -> Post:
        amount = self.chance.randint(1, 9)
        return Post(id=name, postings=(Posting(debit=ACCOUNTS[4], credit=self.guest, asset="USD", amount=amount),))

    def _farewell(self, first: str, second: str) -> tuple[Command, Command]:
        """The guest gives all back and goes."""
        amount = max(1, self.book.balance(self.guest) + self.chance.choice((0, 0, 0, -1)))
        back = Posting(debit=self.guest, credit=ACCOUNTS[4], asset="USD", amount=amount)
        return Post(id=first, postings=(back,)), CloseAccount(id=second, account=self.guest)

    def _edge(self, first: str, second: str, third: str) -> tuple[Command, ...]:
        """Two accounts of their own at the end of all amounts, so that the others' sums stay small."""
        out, into = (f"house/{end}{first}/ETH" for end in ("out", "in"))
        amount = self.chance.choice((2**53, 2**128, 2**255, 2**256 - 1, 2**256 - 1, 2**256))
        opened = (OpenAccount(id=first, account=out), OpenAccount(id=second, account=into))
        large = Posting(debit=out, credit=into, asset="ETH", amount=amount)
        small = Posting(debit=self.chance.choice((out, HOT)), credit=into, asset="ETH", amount=1)
        postings = (large, small)[: self.chance.randint(1, 2)]
        kind = self.chance.choice((Post, Hold))
        return (*opened, kind(id=third, postings=postings))

    # Parts

    def _some_hold(self) -> str:
        """Mostly one that's open, the oldest more often."""
        chance = self.chance
        draw = chance.random()
        if self.holds and draw < 0.9:
            return self.holds[0] if draw < 0.3 else chance.choice(self.holds)
        if self.old and draw > 0.99:
            return chance.choice(self.old).commands[0].id
        return chance.choice((*self.ended, self.last, "none"))

    def _postings(self, *, rests: bool, guest: bool = True) -> tuple[Posting, ...]:
        chance = self.chance
        if chance.random() < 0.03:
            return tuple(self._wild() for _ in range(chance.choice((0, 1, 1, 2))))
        return tuple(self._sound(rests=rests, guest=guest) for _ in range(chance.choice((1, 1, 1, 1, 2, 3))))

    def _sound(self, *, rests: bool, guest: bool) -> Posting:
        chance, book = self.chance, self.book
        asset = "ETH" if chance.random() < 0.2 else "USD"
        users = [name for name in (*ACCOUNTS, *([self.guest] if guest else ())) if name.endswith(asset)]
        open_ones = [name for name in users if book.is_open.get(name)]
        if len(open_ones) >= 2 and chance.random() < 0.98:
            users = open_ones
        debit, credit = chance.sample(users, 2)
        if is_limited(debit) and book.free(debit) <= 0 and chance.random() < 0.85:
            debit, credit = credit, debit
        amount = chance.randint(1, 12)
        if is_limited(debit) and book.free(debit) > 0 and chance.random() < 0.5:
            amount = self._near(book.free(debit))
        has_rest = rests and asset == "USD" and RECEIVABLE not in (debit, credit) and chance.random() < 0.08
        side = chance.choice(("debit_rest", "credit_rest"))
        return Posting(
            debit=debit, credit=credit, asset=asset, amount=amount, **({side: RECEIVABLE} if has_rest else {})
        )

    def _wild(self) -> Posting:
        chance = self.chance
        debit, credit = (chance.choice((*ACCOUNTS, self.guest, NOBODY)) for _ in range(2))
        amount = chance.choice((1, 5, 12, 0, -1, 2**256))
        return Posting(debit=debit, credit=credit, asset=chance.choice(("USD", "USD", "ETH")), amount=amount)

    def _charges(self) -> tuple[Charge, ...]:
        chance = self.chance
        return tuple(
            Charge(
                f"limit:{chance.randrange(3)}/{self.count // 300}",
                chance.choice((0, 1, 1, 2, 5)),
                12,
                may_ask_again=chance.random() < 0.3,
            )
            for _ in range(chance.choice((1, 1, 2)))
        )

    def _date(self) -> datetime:
        return self.now - SECOND * self.chance.choice((-1, 0, 1, 2, 3, 5, 20))

    def _parts(self, left: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """Parts of what is left of some postings or lines, now and then of one that isn't there."""
        chance = self.chance
        places = [chance.randrange(len(left) + (chance.random() < 0.05)) for _ in range(chance.choice((1, 1, 1, 2)))]
        return tuple((place, self._near(left[place] if place < len(left) else 1)) for place in places)

    def _near(self, amount: int) -> int:
        """At a limit, next to it, or well within."""
        return max(1, self.chance.choice((amount, amount, amount - 1, amount + 1, (amount + 1) // 2, 1)))


def few_or_many(chance: random.Random, *, average: int, most: int = 200) -> int:
    """A number from 1 to `most`: mostly a few, now and then any."""
    if chance.random() < average / most:
        return chance.randint(1, most)
    return max(1, min(most, round(chance.expovariate(2 / average))))


@st.composite
def histories(draw: st.DrawFn, *, steps: int) -> list[tuple[datetime, list[Group]]]:
    """Batches of groups with the clock's instant of each, for Hypothesis to make and to make smaller."""
    writer = Writer(draw(st.randoms(use_true_random=False)))
    writer.book.submit(OPENING, START)
    history = []
    for _ in range(draw(st.integers(1, steps))):
        writer.let_time_pass()
        history.append((writer.now, [group for group, _ in writer.step(draw(st.integers(1, 6)))]))
    return history
