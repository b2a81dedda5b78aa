"""What happens in a run, and when: all of it follows from the seed. Pure.

Four scripts play side by side: what users ask, what outsiders pay in, what is done to chain and nodes, and what is done
to the house's own processes. Every minute holds each kind of strike at least once; where in the minute, the dice say.
"""

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from itertools import pairwise, zip_longest
from typing import TypeVar

from tests.faults.lies import Kind as Lie

SPENDABLE_DEPTH, FINAL_DEPTH = 2, 6
DEEPEST = FINAL_DEPTH - 2
"""Blocks that one reorganisation replaces at most: more than can be spent, less than are final."""

MINUTE = 60.0

LATER_SECONDS = 6.0
"""By then a withdrawal may be anywhere from held to mined."""

POINT_SECONDS = 6.0
"""How long a worker may take to reach the point at which it shall die; then it's killed where it is."""


class Wish(StrEnum):
    """What a user asks."""

    WITHDRAW = "withdraw"
    TRANSFER = "transfer"
    CONVERT = "convert"


class Fate(StrEnum):
    """What else befalls a withdrawal."""

    PLAIN = "plain"
    CANCELLED = "its user gives it up at once"
    CALLED_BACK = "the treasurer wants it cancelled, wherever it is by then"
    BLACKLISTED = "the token refuses its recipient before it is paid"
    LISTED = "its recipient is on the screening list"


class Way(StrEnum):
    """How an outsider pays."""

    USDC = "USDC"
    ETH = "ETH"
    INNER = "ETH by a contract's inner call"
    DUST = "less USDC than the minimum"
    UNKNOWN = "a token that is no asset"
    LISTED = "USDC from a listed sender"
    HOUSE = "USDC to the hot address"


class ToChain(StrEnum):
    """What is done to the chain and its node."""

    REORG = "reorganisation"
    REORG_KEEPING = "reorganisation that keeps its transactions"
    HANG = "the node hangs"
    RESTART = "the node restarts without its mempool"


class ToHouse(StrEnum):
    """What is done to the house's processes."""

    WORKER_AT_POINT = "worker killed at a named point"
    WORKER = "worker killed"
    SIGNER = "signer killed"
    SIGNER_HANGS = "signer hangs"
    API = "API killed"
    CONNECTIONS = "database connections killed"
    DATABASE = "database server killed"
    SCREENING = "screening down"


REORGS = frozenset({ToChain.REORG, ToChain.REORG_KEEPING})
KILLS = frozenset({ToHouse.WORKER_AT_POINT, ToHouse.WORKER, ToHouse.SIGNER, ToHouse.API})

AT_WORKERS = frozenset({ToHouse.WORKER_AT_POINT, ToHouse.WORKER})

LIES = frozenset(Lie) - {Lie.REPLACEMENT}
"""Every kind that a node can be told to tell. The rule for replacements is in force all the time; it is told only to a
sender that breaks it."""

_WITHDRAWAL = ("held", "screened", "approved", "nonce_reserved", "signed", "broadcast", "mined")
_SWEEP = ("planned", "authorising", "topping_up", "reserved", "signed", "broadcast", "mined")
WITHDRAWALS = (
    *(f"withdrawal.{state}.{side}" for state in _WITHDRAWAL for side in ("before", "after")),
    *("reserving", "booking.before", "booking.after"),
)
TRANSACTIONS = (
    *("signing.before", "signing.after", "stored", "sending.before", "sending.after", "mined.seen", "final.seen"),
    *("replacement.stored", "refused.seen", "giving_back.before"),
)
BATCHES = (
    *("batch.gathered", "batch.reserving", "batch.reserved", "batch.final.seen", "batch.booked", "batch.legs.booked"),
)
SWEEPS = (
    *(f"sweep.{state}.{side}" for state in _SWEEP for side in ("before", "after")),
    *("sweep.reserving", "sweep.booking.before", "sweep.booking.after", "authorising.before", "authorising.after"),
)
POINTS = (*WITHDRAWALS, *TRANSACTIONS, *BATCHES, *SWEEPS)
"""Where a worker dies; the shipped code names them. """

PER_MINUTE = {Wish.WITHDRAW: 45, Wish.TRANSFER: 150, Wish.CONVERT: 30}
PAYMENTS_PER_MINUTE = 60
TO_CHAIN_PER_MINUTE = {ToChain.REORG: 5, ToChain.REORG_KEEPING: 4, ToChain.HANG: 1, ToChain.RESTART: 1}
TO_HOUSE_PER_MINUTE = {
    ToHouse.WORKER_AT_POINT: 6,
    ToHouse.WORKER: 1,
    ToHouse.SIGNER: 1,
    ToHouse.SIGNER_HANGS: 1,
    ToHouse.API: 1,
    ToHouse.CONNECTIONS: 1,
    ToHouse.DATABASE: 1,
    ToHouse.SCREENING: 1,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """A user's request. `times`: so often the same is sent side by side; `other`: the recipient of a transfer.

    `later`: seconds until the treasurer calls a withdrawal back.
    """

    at: float
    number: int
    wish: Wish
    user: int
    asset: str
    amount: str
    times: int = 1
    other: int = 0
    fate: Fate = Fate.PLAIN
    later: float = 0.0
    address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paying:
    """An outsider's payment of `amount` smallest units to a user's deposit address."""

    at: float
    way: Way
    user: int
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainStrike:
    at: float
    what: ToChain
    depth: int = 1
    seconds: float = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HouseStrike:
    """`seconds`: how long it lasts; for a point, how long the worker may take to come there."""

    at: float
    what: ToHouse
    worker: int = 0
    point: str = ""
    seconds: float = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lying:
    at: float
    lie: Lie


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that shall happen, each script in the order of time. Times are seconds from the run's beginning."""

    seed: int
    seconds: float
    users: int
    workers: int
    asking: tuple[Asking, ...]
    paying: tuple[Paying, ...]
    chain: tuple[ChainStrike, ...]
    house: tuple[HouseStrike, ...]
    lying: tuple[Lying, ...]

    @property
    def minutes(self) -> float:
        return self.seconds / MINUTE

    @property
    def listed_recipients(self) -> list[str]:
        """Who must be on the screening list from the beginning."""
        return [one.address for one in self.asking if one.fate is Fate.LISTED]


def make_plan(seed: int, *, seconds: float, users: int, workers: int = 1) -> Plan:
    """The plan of this seed; another length or number of users is another plan."""
    return Plan(
        seed=seed,
        seconds=seconds,
        users=users,
        workers=workers,
        asking=tuple(_asking(random.Random(f"{seed} asking"), seed, seconds, users)),
        paying=tuple(_paying(random.Random(f"{seed} paying"), seconds, users)),
        chain=tuple(_chain(random.Random(f"{seed} chain"), seconds)),
        house=tuple(_house(random.Random(f"{seed} house"), seconds, workers)),
        lying=tuple(_lying(random.Random(f"{seed} lying"), seconds)),
    )


def fresh_address(seed: int, number: int) -> str:
    """The recipient of the plan's withdrawal of this number, in lower-case hex; nobody has its key."""
    return "0x" + hashlib.sha256(f"onebook chaos {seed} {number}".encode()).hexdigest()[:40]


def _asking(dice: random.Random, seed: int, seconds: float, users: int) -> Iterator[Asking]:
    wishes = [wish for wish, count in PER_MINUTE.items() for _ in range(round(count * seconds / MINUTE))]
    times = sorted(dice.uniform(0, seconds) for _ in wishes)
    dice.shuffle(wishes)
    for number, (at, wish) in enumerate(zip(times, wishes, strict=True)):
        user, other = dice.sample(range(users), 2)
        asset = dice.choices(("USDC", "ETH"), (3, 1))[0]
        fate = dice.choices(tuple(Fate), (76, 6, 8, 5 if asset == "USDC" else 0, 5))[0]
        yield Asking(
            at=at,
            number=number,
            wish=wish,
            user=user,
            other=other,
            asset=asset,
            amount=_amount(dice, asset),
            times=dice.choices((1, 3), (3, 1))[0],
            fate=fate if wish is Wish.WITHDRAW else Fate.PLAIN,
            later=dice.uniform(0, LATER_SECONDS),
            address=fresh_address(seed, number) if wish is Wish.WITHDRAW else "",
        )


def _amount(dice: random.Random, asset: str) -> str:
    units = dice.randint(10**6, 40 * 10**6) if asset == "USDC" else dice.randint(10**15, 2 * 10**16)
    return format(Decimal(units).scaleb(-6 if asset == "USDC" else -18), "f")


def _paying(dice: random.Random, seconds: float, users: int) -> Iterator[Paying]:
    times = sorted(dice.uniform(0, seconds) for _ in range(round(PAYMENTS_PER_MINUTE * seconds / MINUTE)))
    for at, way in zip(times, dice.choices(tuple(Way), (50, 24, 10, 4, 4, 4, 4), k=len(times)), strict=True):
        match way:
            case Way.ETH | Way.INNER:
                amount = dice.randint(10**16, 10**17)
            case Way.DUST:
                amount = dice.randint(1, 10**6 - 1)
            case _:
                amount = dice.randint(10**6, 100 * 10**6)
        yield Paying(at=at, way=way, user=dice.randrange(users), amount=amount)


def _chain(dice: random.Random, seconds: float) -> Iterator[ChainStrike]:
    for at, what in _each_minute(dice, seconds, [what for what, n in TO_CHAIN_PER_MINUTE.items() for _ in range(n)]):
        yield ChainStrike(at=at, what=what, depth=dice.randint(1, DEEPEST), seconds=dice.uniform(1, 4))


def _house(dice: random.Random, seconds: float, workers: int) -> Iterator[HouseStrike]:
    points: list[str] = []
    kinds = [what for what, n in TO_HOUSE_PER_MINUTE.items() for _ in range(n)]
    for at, what in _each_minute(dice, seconds, kinds):
        if what is ToHouse.WORKER_AT_POINT and not points:
            points = _shuffled(dice)
        point = points.pop() if what is ToHouse.WORKER_AT_POINT else ""
        worker, lasts = dice.randrange(workers), dice.uniform(1, 4)
        yield HouseStrike(at=at, what=what, worker=worker, point=point, seconds=POINT_SECONDS if point else lasts)


def _shuffled(dice: random.Random) -> list[str]:
    """All points, the parts in turn, so that no minute leaves one out."""
    parts = [dice.sample(part, len(part)) for part in (WITHDRAWALS, TRANSACTIONS, BATCHES, SWEEPS)]
    return [point for row in zip_longest(*parts) for point in row if point is not None][::-1]


def _lying(dice: random.Random, seconds: float) -> Iterator[Lying]:
    for at, lie in _each_minute(dice, seconds, sorted(LIES)):
        yield Lying(at=at, lie=lie)


Kind = TypeVar("Kind")


def _each_minute(dice: random.Random, seconds: float, kinds: Sequence[Kind]) -> Iterator[tuple[float, Kind]]:
    """All of `kinds` in each minute, evenly spread and in any order. A rest of less than half a minute joins the last.

    Nothing in the first and last twentieth: what begins late should still be seen.
    """
    minutes = max(1, round(seconds / MINUTE))
    edges = [seconds * part / minutes for part in range(minutes + 1)]
    for begin, end in pairwise(edges):
        length = end - begin
        order = dice.sample(list(kinds), len(kinds))
        slot = 0.9 * length / len(order)
        for place, kind in enumerate(order):
            yield begin + 0.05 * length + slot * (place + dice.random()), kind
