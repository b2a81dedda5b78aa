"""What is believed of a token, and what isn't: what it can do to us, what must not change unseen, what arrived. Pure.

A token's own words (its `Transfer` event, its `decimals()`) are claims. An event says that something was meant to
arrive; what arrived is the difference that it made to the balance, by block hash, and never more than the event told.
A contract's code and what stands behind it are accepted once; whatever differs from that stops its asset on that
network until a treasurer accepts it anew.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Self

IMPLEMENTATION_SLOT = "0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc"
"""keccak("eip1967.proxy.implementation") - 1 (EIP-1967)."""

BEACON_SLOT = "0xa3f0ad74e5423aebfd80d3ef4346578335a9a72aeaee59ff6cb3582b35133d50"
"""keccak("eip1967.proxy.beacon") - 1 (EIP-1967)."""

ZOS_SLOT = "0x7050c9e0f4ca769c69bd3a8ef740bc37934f8e2c036e5a723fd8ee048ed3f8c3"
"""keccak("org.zeppelinos.proxy.implementation"): proxies older than EIP-1967; Circle's is one."""

UPGRADED_TOPICS = (
    "0xbc7cd75a20ee27fd9adebab32041f755214dbc6bffa90cc0225b39da2e5c2d3b",
    "0x1cf3b03a6cf19fa2baba4df148e9dcabedea7f8a5c07840e207e5c089be95d3e",
)
"""keccak of `Upgraded(address)`, which older proxies and beacons write too, and `BeaconUpgraded(address)`: EIP-1967."""


class Quirk(StrEnum):
    """What a token is known to do that a plain ERC-20 (EIP-20) doesn't; told per deployment."""

    FEE_ON_TRANSFER = "fee_on_transfer"
    """Less arrives than was sent: what arrived is credited. Without this, less than told goes to suspense."""
    REBASING = "rebasing"
    """Balances change without a transfer: what arrives goes to suspense, never to a user by itself."""
    HOOKS = "hooks"
    """It calls who pays or is paid (ERC-777), who can do anything meanwhile: it's paid one by one."""
    NO_RETURN_VALUE = "no_return_value"
    """Its transfers answer nothing. Changes nothing here: answers aren't looked at, events and balances are."""
    BLOCKLIST = "blocklist"
    """Its issuer can stop an address: a payment may fail for good. What arrived is credited."""
    PAUSE = "pause"
    """Its issuer can stop all transfers: payments may fail for a while. What arrived is credited."""
    UPGRADEABLE = "upgradeable"
    """Its code can be exchanged. Watched whether told or not."""
    PERMIT = "permit"
    """Allowances by signature (ERC-2612): for people to know; we sign none."""


class Verdict(StrEnum):
    """What becomes of a transfer to us."""

    CREDIT = "credit"
    QUARANTINE = "quarantine"
    """It arrived, but not as told, or it won't stay what it is: suspense, until a treasurer decides."""
    NOTHING = "nothing"
    """Nothing arrived, whatever was told."""
    WAIT = "wait"
    """Nobody can tell what arrived, and of this token it must be known: a person says it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenState:
    """A contract at one block. Addresses and hashes are lower-case hex; None: there is none, or it doesn't say.

    `implementation` and `behind_hash` (keccak of its code) are what a proxy runs: by the EIP-1967 slot, the older one,
    or what its beacon answers.
    """

    code_hash: str | None
    decimals: int | None
    eip1967: str | None = None
    beacon: str | None = None
    zos: str | None = None
    implementation: str | None = None
    behind_hash: str | None = None

    @property
    def is_token(self) -> bool:
        """Whether there is code that tells its decimals."""
        return self.code_hash is not None and self.decimals is not None

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all of it: who accepts a state names this very one."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, str | int | None]:
        return asdict(self)

    @classmethod
    def from_json(cls, told: dict[str, str | int | None]) -> Self:
        return cls(**told)  # type: ignore[arg-type]


_WORDS = {
    "code_hash": "its code",
    "decimals": "its decimals",
    "eip1967": "the implementation slot (EIP-1967)",
    "beacon": "the beacon slot (EIP-1967)",
    "zos": "the implementation slot (zos)",
    "implementation": "its implementation",
    "behind_hash": "its implementation's code",
}


def misfit(state: TokenState, *, decimals: int) -> str | None:
    """Why this can't be the token that was configured with so many decimals; None if it can."""
    if state.code_hash is None:
        return "there is no contract at this address"
    if state.decimals is None:
        return "the contract there is no token: it tells no decimals"
    if state.decimals != decimals:
        return f"the contract has {state.decimals} decimals, configured are {decimals}"
    return None


def differences(accepted: TokenState | None, found: TokenState, *, decimals: int) -> list[str]:
    """What stops the token: each difference from what was accepted, else why it doesn't fit the configuration."""
    if accepted is None:
        problem = misfit(found, decimals=decimals)
        return [] if problem is None else [problem]
    before, after = accepted.to_json(), found.to_json()
    changed = [
        f"{words} changed: {before[name]} -> {after[name]}"
        for name, words in _WORDS.items()
        if before[name] != after[name]
    ]
    if not changed and (problem := misfit(found, decimals=decimals)) is not None:
        changed = [problem]
    return changed


def arrived(told: Sequence[int], *, paid_out: int, before: int, after: int) -> list[int]:
    """What arrived of each transfer that a block tells to one address of ours, in chain units; none more than told.

    `before` and `after` are the address's balances at the parent and at the block, `paid_out` what it sent in it.
    Where less came than was told, each gets its share by amount, rounded so that the shares sum to what came.
    """
    total = sum(told)
    came = min(max(after - before + paid_out, 0), total)
    shares, so_far = [], 0
    for amount in told:
        upto = so_far + amount
        shares.append(came * upto // total - came * so_far // total)
        so_far = upto
    return shares


def judge(quirks: Iterable[Quirk], *, told: int, came: int | None) -> Verdict:
    """What becomes of a transfer of which `came` of the `told` chain units arrived.

    `came` None: no node knows the balances of that block any more. Then a token whose balances only its transfers
    change is taken at its word, since its code was accepted; so a follower that was down for days books the same.
    """
    known = frozenset(quirks)
    if came is None:
        return Verdict.WAIT if known & {Quirk.FEE_ON_TRANSFER, Quirk.REBASING} else Verdict.CREDIT
    if came == 0:
        return Verdict.NOTHING
    if Quirk.REBASING in known:
        return Verdict.QUARANTINE
    if came < told and Quirk.FEE_ON_TRANSFER not in known:
        return Verdict.QUARANTINE
    return Verdict.CREDIT
