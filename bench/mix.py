"""The standard mix: what callers send in every benchmark of the book, the same for the engine and its yardsticks.

Of a hundred submissions 60 are posts (a third with a fee), 15 holds, 12 settlements (half in part: the rest is
released), 3 voids, 8 groups of two posts, 1 repeats an earlier one and 1 asks for more than there is. Ids are made as
the API and the workers make them. Seeded: the same seed gives the same history. Nothing here knows an engine.

Submitted in order, the history is decided in order, so the mix foresees the balance of a limited hot account and keeps
it near zero.
"""

import random
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate

from base.clock import Clock
from base.entropy import SeededEntropy
from base.ids import new_id
from exchange.ratios import Ratio
from ledger.accounts import house_account, split_account_id, user_account
from ledger.commands import Group, Hold, Post, Posting, Settle, Void
from ledger.money import Asset, AssetKind, format_amount
from ledger.requests import request_key, worker_id
from ledger.riders import Insert
from wallet.resources import Withdrawal
from wallet.withdrawal_states import WithdrawalState
from wallet.withdrawal_store import withdrawal_values

USDC = Asset("USDC", AssetKind.STABLECOIN, 6)
FEES = house_account("fees", USDC.code)
HOT_HOUSE = house_account("bank:main", USDC.code)
CAPITAL = house_account("capital", USDC.code)

ACCOUNTS = 10_000
"""Users' accounts that a book has."""

FUNDED = 10**12
"""What each user's account starts with, in smallest units: 100,000 average amounts."""

AMOUNT_AVERAGE = 10**7
"""Amounts are even over 1 to twice this, in smallest units."""

OVERDRAWN = 10**18
"""What a submission that is to be refused asks for, in smallest units."""

FEE = 50_000
"""In smallest units."""

HOT_FUNDED_AVERAGES = 4
"""What the limited hot account starts with and tends back to, in average amounts."""

_PULL = 0.1
"""How much likelier a debit gets for each average amount that the hot account is above that."""

_HOT_HIGH = 5 * AMOUNT_AVERAGE
"""Above this it's only debited: what its holds release mustn't carry it past ten average amounts."""

_HOT_CHANCE = 0.55
"""How often the account of a post, a hold or a pair's first post is the hot one: half of all commands touch it."""

_LAG = 1_200
"""Submissions between a hold and what ends it, or between one and its repeat: more than can be in flight."""

_PRIMED = 2_000
"""Holds made before the clock starts, so that settlements find what they settle from the first one on."""

_ADDRESS = "0x" + "5a" * 20


class Pattern(StrEnum):
    """Which accounts are touched."""

    UNIFORM = "uniform"
    ZIPF = "zipf"
    """The nth account 1/n as often as the first."""
    HOT_HOUSE = "hot_house"
    """Half of all commands touch one house account, in and out alike."""
    HOT_LIMITED = "hot_limited"
    """Half of all commands touch one user's account, in and out alike, and it's near zero all the time."""


class Kind(StrEnum):
    """What a submission is."""

    POST = "post"
    HOLD = "hold"
    SETTLE = "settle"
    VOID = "void"
    PAIR = "pair"
    REPEAT = "repeat"
    REFUSAL = "refusal"


SHARES = {
    Kind.POST: 60,
    Kind.HOLD: 15,
    Kind.SETTLE: 12,
    Kind.VOID: 3,
    Kind.PAIR: 8,
    Kind.REPEAT: 1,
    Kind.REFUSAL: 1,
}
"""Submissions of each kind in a hundred."""

_KINDS, _EDGES = tuple(SHARES), tuple(accumulate(SHARES.values()))


@dataclass(frozen=True, slots=True)
class _Held:
    """A hold that was accepted, or will be: submission's number, hold's id, its resource, accounts and amount."""

    number: int
    id: str
    resource: str
    debit: str
    credit: str
    amount: int


@dataclass(slots=True)
class HotBalance:
    """What is foreseen for the limited hot account: available units, debits asked and refused."""

    available: int
    debits: int = 0
    refused: int = 0
    lowest: int = 0
    highest: int = 0


def user_accounts(count: int, *, seed: int, clock: Clock) -> list[str]:
    """So many users' accounts, the same for the same seed and clock."""
    entropy = SeededEntropy(seed)
    return [user_account(new_id("usr", clock, entropy), USDC.code) for _ in range(count)]


class Mix:
    """One history over these accounts. `run` tells it from others in the same book; `resources` is the share of
    entries that carry a row of a withdrawal.
    """

    def __init__(
        self,
        accounts: Sequence[str],
        *,
        seed: int,
        run: str,
        clock: Clock,
        pattern: Pattern = Pattern.UNIFORM,
        resources: float = 0,
        book: str = "main",
    ) -> None:
        self._accounts = accounts[1:]
        self._hot = accounts[0] if pattern is Pattern.HOT_LIMITED else HOT_HOUSE
        self._pattern = pattern
        self._resources = resources
        self._book = book
        self._clock = clock
        self._random = random.Random(f"{seed}/{run}/{pattern}")  # noqa: S311 - repeatable on purpose
        self._entropy = SeededEntropy(self._random.getrandbits(64))
        self._weights = list(accumulate(1 / n for n in range(1, len(self._accounts) + 1)))
        self._young: deque[_Held] = deque()
        self._holds: list[_Held] = []
        self._past: list[Group] = []
        self._number = 0
        self.hot = HotBalance(HOT_FUNDED_AVERAGES * AMOUNT_AVERAGE)

    def prime(self) -> list[Group]:
        """Holds to submit before the clock starts, none on a hot account."""
        pattern, self._pattern = self._pattern, Pattern.UNIFORM
        groups = [self._make(Kind.HOLD) for _ in range(_PRIMED)]
        self._pattern = pattern
        self._number += _LAG
        return groups

    def groups(self, count: int) -> list[Group]:
        """The next submissions."""
        return [self._make(kind) for kind in self._random.choices(_KINDS, cum_weights=_EDGES, k=count)]

    def _make(self, kind: Kind) -> Group:
        self._number += 1
        while self._young and self._young[0].number + _LAG <= self._number:
            self._holds.append(self._young.popleft())
        group = self._group(kind)
        if kind is not Kind.REPEAT:
            self._past.append(group)
        return group

    def _group(self, kind: Kind) -> Group:
        match kind:
            case Kind.HOLD:
                return self._hold()
            case Kind.SETTLE if self._holds:
                return self._settle(self._ending())
            case Kind.VOID if self._holds:
                return self._void(self._ending())
            case Kind.PAIR:
                return self._pair()
            case Kind.REPEAT if len(self._past) > _LAG:
                return self._past[self._random.randrange(len(self._past) - _LAG)]
            case Kind.REFUSAL:
                return self._refusal()
            case _:
                return self._post()

    def _post(self) -> Group:
        debit, credit = self._two()
        amount = self._amount()
        postings = [Posting(debit, credit, USDC.code, amount)]
        if self._random.randrange(3) == 0:
            postings.append(Posting(debit, FEES, USDC.code, FEE))
        accepted = self._moves(debit, credit, sum(posting.amount for posting in postings), amount)
        owner = split_account_id(debit)[0]
        key = self._key(owner, "POST /v1/transfers", credit, amount)
        post = Post(id=key[0], subject=new_id("trf", self._clock, self._entropy), postings=tuple(postings))
        chance = (self._resources - 0.15) / 0.6 * 1.06 if self._resources else 0
        row = (self._resource(new_id("wdr", self._clock, self._entropy), owner, amount, key[0]),)
        return Group((post,), row if accepted and self._random.random() < chance else (), content=key[1])

    def _pair(self) -> Group:
        """Two posts that succeed or fail together."""
        posts = []
        content = b""
        for index in range(2):
            debit, credit = self._two() if index == 0 else self._cold_two()
            amount = self._amount()
            # The second one's accounts are never hot, so the first one decides for both.
            self._moves(debit, credit, amount, amount)
            command, content = self._key(split_account_id(debit)[0], "POST /v1/transfers/bulk", credit, amount)
            subject = new_id("trf", self._clock, self._entropy)
            posts.append(Post(id=command, subject=subject, postings=(Posting(debit, credit, USDC.code, amount),)))
        return Group(tuple(posts), content=content)

    def _refusal(self) -> Group:
        debit, credit = self._cold_two()
        command, content = self._key(split_account_id(debit)[0], "POST /v1/transfers", credit, OVERDRAWN)
        subject = new_id("trf", self._clock, self._entropy)
        return Group(
            (Post(id=command, subject=subject, postings=(Posting(debit, credit, USDC.code, OVERDRAWN),)),),
            content=content,
        )

    def _hold(self) -> Group:
        debit, credit = self._two()
        amount = self._amount()
        owner = split_account_id(debit)[0]
        command, content = self._key(owner, "POST /v1/withdrawals", credit, amount)
        resource = new_id("wdr", self._clock, self._entropy)
        hold = Hold(id=command, subject=resource, postings=(Posting(debit, credit, USDC.code, amount),))
        if self._moves(debit, credit, amount, 0):
            self._young.append(_Held(self._number, command, resource, debit, credit, amount))
        row = (self._resource(resource, owner, amount, command),) if self._resources else ()
        return Group((hold,), row, content=content)

    def _settle(self, held: _Held) -> Group:
        part = self._random.randrange(1, held.amount) if self._random.random() < 0.5 and held.amount > 1 else None
        posted = held.amount if part is None else part
        self._gives(held.debit, held.amount - posted)
        self._gives(held.credit, posted)
        settle = Settle(
            id=worker_id(f"withdrawal:{held.resource}:settle", 1),
            subject=held.resource,
            hold=held.id,
            amounts=None if part is None else ((0, part),),
            close=part is not None,
        )
        return Group((settle,))

    def _void(self, held: _Held) -> Group:
        self._gives(held.debit, held.amount)
        void = Void(id=worker_id(f"withdrawal:{held.resource}:release", 1), subject=held.resource, hold=held.id)
        return Group((void,))

    def _ending(self) -> _Held:
        """A hold at random, taken out."""
        index = self._random.randrange(len(self._holds))
        self._holds[index], self._holds[-1] = self._holds[-1], self._holds[index]
        return self._holds.pop()

    # Accounts and amounts

    def _two(self) -> tuple[str, str]:
        """Debit and credit, by the pattern."""
        first, second = self._cold_two()
        if self._pattern in (Pattern.UNIFORM, Pattern.ZIPF) or self._random.random() >= _HOT_CHANCE:
            return first, second
        return (self._hot, first) if self._random.random() < self._out_chance() else (first, self._hot)

    def _cold_two(self) -> tuple[str, str]:
        while True:
            if self._pattern is Pattern.ZIPF:
                first, second = self._random.choices(self._accounts, cum_weights=self._weights, k=2)
            else:
                first, second = self._random.choices(self._accounts, k=2)
            if first != second:
                return first, second

    def _out_chance(self) -> float:
        if self._pattern is not Pattern.HOT_LIMITED:
            return 0.5
        above = self.hot.available / AMOUNT_AVERAGE - HOT_FUNDED_AVERAGES
        return 1 if self.hot.available > _HOT_HIGH else max(0.03, 0.5 + _PULL * above)

    def _amount(self) -> int:
        return self._random.randint(1, 2 * AMOUNT_AVERAGE)

    def _moves(self, debit: str, credit: str, out: int, into: int) -> bool:
        """Foresee whether it's accepted, and what it does to the limited hot account."""
        if self._pattern is not Pattern.HOT_LIMITED or self._hot not in (debit, credit):
            return True
        if debit == self._hot:
            self.hot.debits += 1
            if out > self.hot.available:
                self.hot.refused += 1
                return False
            self.hot.available -= out
        else:
            self.hot.available += into
        self._remember()
        return True

    def _gives(self, account: str, amount: int) -> None:
        if self._pattern is Pattern.HOT_LIMITED and account == self._hot:
            self.hot.available += amount
            self._remember()

    def _remember(self) -> None:
        self.hot.lowest = min(self.hot.lowest, self.hot.available)
        self.hot.highest = max(self.hot.highest, self.hot.available)

    # Ids and rows

    def _key(self, owner: str, route: str, credit: str, amount: int) -> tuple[str, bytes]:
        """A user's request: its command's id and the hash of its body, as the API makes them."""
        body = {
            "recipient": split_account_id(credit)[0],
            "asset": USDC.code,
            "amount": format_amount(amount, USDC),
        }
        name = str(uuid.UUID(bytes=self._entropy.draw(16), version=4))
        key = request_key(owner=owner, route=route, key=name, body=body)
        return key.id, key.content

    def _resource(self, resource: str, owner: str, amount: int, hold: str) -> Insert:
        now = self._clock.now()
        row = Withdrawal(
            id=resource,
            owner=owner,
            state=WithdrawalState.HELD,
            cancellable=True,
            waiting_for=None,
            reason=None,
            asset=USDC.code,
            network="local",
            address=_ADDRESS,
            amount=amount,
            chain_amount=amount,
            fee_highest=FEE,
            fee=None,
            fee_price=Ratio(1, 10**9),
            gas_limit=65_000,
            fee_wei_max=10**15,
            hold=hold,
            tx_hash=None,
            block_number=None,
            block_hash=None,
            fee_wei=None,
            created_at=now,
            updated_at=now,
        )
        return Insert("wallet_withdrawals", {"book": self._book, "id": resource}, withdrawal_values(row))
