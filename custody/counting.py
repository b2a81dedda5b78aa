"""What the signer has signed for, counted within rolling windows: what limits are judged by. Pure.

A signature counts at once and in full; cancel, revert and expiry give nothing back. Times here are those of the
signer's own measure (`custody.timekeeping`), in microseconds: it never runs faster than any of its clocks.
"""

from collections import defaultdict, deque
from dataclasses import dataclass
from typing import Final, Generic, NamedTuple, TypeVar

from custody.derivation import Role
from custody.intents import (
    Allowance,
    Anchor,
    Authorisation,
    Cancel,
    Deployment,
    Intent,
    KeyRef,
    ProofOfControl,
    Relay,
    Sweep,
    TopUp,
    asset_of,
)

HOUR_US: Final = 60 * 60 * 1_000_000
DAY_US: Final = 24 * HOUR_US
FULL: Final = 2**512
"""What a window holds that counts as full: more than any limit allows."""

_Key = TypeVar("_Key")


class ValueKey(NamedTuple):
    """What amounts are summed over: all senders of a role, and all rules, on one network in one asset.

    `is_allowance` keeps allowances apart: what they allow is counted when the batch is signed.
    """

    role: Role
    chain_id: int
    asset: str
    is_allowance: bool = False


class FeeKey(NamedTuple):
    """What fees are summed over."""

    role: Role
    chain_id: int


class AssetKey(NamedTuple):
    """What leaves us altogether, whoever sends it."""

    chain_id: int
    asset: str


class _Window(Generic[_Key]):
    """Sums of what was added within the last `length_us`, by key."""

    def __init__(self, length_us: int) -> None:
        self._length_us = length_us
        self._entries: dict[_Key, deque[tuple[int, int]]] = defaultdict(deque)
        self._sums: dict[_Key, int] = defaultdict(int)

    def add(self, key: _Key, at_us: int, amount: int) -> None:
        self.spent(key, at_us)  # forgets what is older, so that a long journal loads in little memory
        self._entries[key].append((at_us, amount))
        self._sums[key] += amount

    def spent(self, key: _Key, at_us: int) -> int:
        """The sum over (at - length, at], forgetting what is older."""
        entries = self._entries.get(key)
        if entries is None:
            return 0
        while entries and entries[0][0] <= at_us - self._length_us:
            self._sums[key] -= entries.popleft()[1]
        return self._sums[key]

    def known(self) -> list[_Key]:
        return list(self._entries)


@dataclass(frozen=True, slots=True)
class Counted:
    """What one signature adds: `fee_wei` is what its fee adds to what was counted for its subject before."""

    intent: Intent
    fee_wei: int


class Counts:
    """All windows of one journal, and which top-ups are open."""

    def __init__(self) -> None:
        self._hour: _Window[ValueKey] = _Window(HOUR_US)
        self._day: _Window[ValueKey] = _Window(DAY_US)
        self._fees: _Window[FeeKey] = _Window(DAY_US)
        self._outflow: _Window[AssetKey] = _Window(DAY_US)
        self._open_top_ups: dict[tuple[int, KeyRef], int] = {}
        self._full_until_us = 0

    def add(self, counted: Counted, *, at_us: int) -> None:
        """Count a signature."""
        intent = counted.intent
        self.add_fee(counted, at_us=at_us)
        if isinstance(intent, TopUp):
            self._open_top_ups[intent.chain_id, intent.to] = at_us
        elif not isinstance(intent, Authorisation | ProofOfControl):
            self._open_top_ups.pop((intent.chain_id, intent.sender), None)
        key = value_key(intent)
        if key is None or isinstance(intent, Cancel | Deployment | Anchor | ProofOfControl | Relay):
            return
        self._hour.add(key, at_us, intent.amount)
        self._day.add(key, at_us, intent.amount)
        if leaves_us(intent):
            self._outflow.add(AssetKey(key.chain_id, key.asset), at_us, intent.amount)

    def add_fee(self, counted: Counted, *, at_us: int) -> None:
        """Count a replacement or cancellation: only its fee is new."""
        if counted.fee_wei:
            self._fees.add(FeeKey(counted.intent.sender.role, counted.intent.chain_id), at_us, counted.fee_wei)

    def close_top_up(self, top_up: TopUp) -> None:
        """A top-up is being cancelled: its address may have another."""
        self._open_top_ups.pop((top_up.chain_id, top_up.to), None)

    def fill(self, *, at_us: int) -> None:
        """Every window is full from now on, for as long as the longest: nobody knows what was signed before."""
        self._full_until_us = max(self._full_until_us, at_us + DAY_US)

    def spent_in_hour(self, key: ValueKey, *, at_us: int) -> int:
        return FULL if at_us < self._full_until_us else self._hour.spent(key, at_us)

    def spent_in_day(self, key: ValueKey, *, at_us: int) -> int:
        return FULL if at_us < self._full_until_us else self._day.spent(key, at_us)

    def fees_in_day(self, key: FeeKey, *, at_us: int) -> int:
        """Wei that signed transactions of a role may have cost at most."""
        return FULL if at_us < self._full_until_us else self._fees.spent(key, at_us)

    def outflow_in_day(self, *, at_us: int) -> dict[AssetKey, int] | None:
        """What left us to others, by asset in smallest units; None while nobody knows."""
        if at_us < self._full_until_us:
            return None
        return {key: spent for key in self._outflow.known() if (spent := self._outflow.spent(key, at_us))}

    def has_open_top_up(self, chain_id: int, key: KeyRef, *, at_us: int) -> bool:
        """Whether `key` was topped up within a day and has signed no transaction since."""
        since = self._open_top_ups.get((chain_id, key))
        return since is not None and at_us < since + DAY_US


def value_key(intent: Intent) -> ValueKey | None:
    """Which amounts an intent's is added to; None when it has none."""
    asset = asset_of(intent)
    if asset is None:
        return None
    return ValueKey(intent.sender.role, intent.chain_id, asset, isinstance(intent, Allowance))


def leaves_us(intent: Intent) -> bool:
    """Whether what an intent moves is somebody else's afterwards. Sweeps go where the policy says, so they don't."""
    if isinstance(intent, Allowance | Sweep | TopUp | Authorisation | Relay):
        return False
    return asset_of(intent) is not None and not isinstance(getattr(intent, "to", None), KeyRef)
