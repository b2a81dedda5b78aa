"""What the signer may sign: rules read top to bottom, the first match decides, and what none matches is refused. Pure.

The signer believes only its policy, its keys, its journal and its clock: own addresses are named by role and derived,
everybody else's stand in the policy as literals. Not here: nonces (nonces.py), the file's form (policy_file.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import Final, TypeAlias

import cbor2

from custody.derivation import Role, checksummed
from custody.intents import Destination, KeyRef, Transfer, asset_of

DOMAIN: Final = "onebook/policy/1"
"""Stands before a policy's canonical form; ends in the version of that form."""

WINDOW_SECONDS: Final = 24 * 60 * 60
"""The rolling day of `per_day`."""

UNLIMITED: Final = 2**256
"""More than any amount can be; written `unlimited`, and only allowed towards our own addresses."""

DENIALS: Final = frozenset(
    {
        "network_not_allowed",
        "index_too_high",
        "asset_not_listed",
        "role_not_allowed",
        "destination_not_listed",
        "denied_by_rule",
        "over_transfer_limit",
        "over_day_limit",
        "over_fee_cap",
    }
)
"""Every code of a Denied. The policy is asked only about a subject that has no signature, so a refusal with one of
these says that nothing was ever signed for its subject; a refusal with any other code says nothing of that kind."""


class Action(StrEnum):
    ALLOW = "allow"
    DENY = "deny"


class Anyone(StrEnum):
    """The destination that matches every address."""

    ANY = "any"


@dataclass(frozen=True, slots=True)
class Own:
    """Own addresses of a role: one index, or all up to the highest."""

    role: Role
    index: int | None


@dataclass(frozen=True, slots=True)
class Listed:
    """Literal addresses."""

    addresses: frozenset[bytes]


Match: TypeAlias = Anyone | Own | Listed


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One line of the policy. Limits are in the asset's smallest units, `fee_wei_max` in wei for a transaction."""

    name: str
    action: Action
    role: Role
    chain_id: int
    asset: str
    to: Match
    per_transfer: int
    per_day: int
    fee_wei_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A whole policy; `first_nonces` by (chain id, sender) where a sender has paid before it was enrolled here."""

    version: int
    networks: frozenset[int]
    highest_index: Mapping[Role, int]
    rules: tuple[Rule, ...]
    first_nonces: Mapping[tuple[int, KeyRef], int] = field(default_factory=dict)
    keys: Mapping[Role, bytes] = field(default_factory=dict)
    """Fingerprints of the account xpubs this policy was made for; the signer refuses others."""

    def first_nonce(self, chain_id: int, sender: KeyRef) -> int:
        """The first nonce of a sender that the journal doesn't know yet."""
        return self.first_nonces.get((chain_id, sender), 0)

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the canonical form: the same for every spelling of the same meaning."""
        return sha256(canonical(self)).digest()


@dataclass(frozen=True, slots=True)
class SpendingFacts:
    """What the journal counted: units signed for within the window, same role, network and asset."""

    spent_in_window: int


@dataclass(frozen=True, slots=True)
class Allowed:
    """The rule that speaks for an intent."""

    rule: Rule


@dataclass(frozen=True, slots=True)
class Denied:
    """Why not, as a stable code and a sentence with the numbers; `rule` when one matched."""

    code: str
    sentence: str
    rule: str | None = None


def evaluate(policy: Policy, spending: SpendingFacts, intent: Transfer) -> Allowed | Denied:
    """Whether `policy` lets a transfer be signed for the first time."""
    if intent.chain_id not in policy.networks:
        return Denied("network_not_allowed", f"the policy knows no network {intent.chain_id}")
    for key in (intent.sender, intent.to):
        if isinstance(key, KeyRef) and key.index > policy.highest_index.get(key.role, -1):
            return Denied("index_too_high", f"{key} is beyond the policy's highest index of that role")
    rule = next((rule for rule in policy.rules if _matches(rule, intent)), None)
    if rule is None:
        return _no_rule(policy, intent)
    return _within(rule, spending, intent)


def _within(rule: Rule, spending: SpendingFacts, intent: Transfer) -> Allowed | Denied:
    if rule.action is Action.DENY:
        return Denied("denied_by_rule", f"rule {rule.name!r} denies it", rule.name)
    if intent.amount > rule.per_transfer:
        sentence = f"{intent.amount} is over the limit of {rule.per_transfer} per transfer"
        return Denied("over_transfer_limit", sentence, rule.name)
    if rule.per_day < UNLIMITED and spending.spent_in_window + intent.amount > rule.per_day:
        sentence = f"{intent.amount} after {spending.spent_in_window} in 24 hours is over the limit of {rule.per_day}"
        return Denied("over_day_limit", sentence, rule.name)
    if intent.fee_wei_max > rule.fee_wei_max:
        sentence = f"gas limit x fee is {intent.fee_wei_max} wei, the limit is {rule.fee_wei_max}"
        return Denied("over_fee_cap", sentence, rule.name)
    return Allowed(rule)


def _no_rule(policy: Policy, intent: Transfer) -> Denied:
    """The last rule of every policy: block all. Says what was missing first."""
    asset = asset_of(intent)
    concerned = [rule for rule in policy.rules if (rule.chain_id, rule.asset) == (intent.chain_id, asset)]
    if not concerned:
        return Denied("asset_not_listed", f"no rule speaks of {asset} on network {intent.chain_id}")
    if all(rule.role is not intent.sender.role for rule in concerned):
        return Denied("role_not_allowed", f"no rule lets the {intent.sender.role.value} key pay {asset}")
    return Denied("destination_not_listed", f"no rule lets the {intent.sender.role.value} key pay {asset} there")


def _matches(rule: Rule, intent: Transfer) -> bool:
    asked = (intent.sender.role, intent.chain_id, asset_of(intent))
    return asked == (rule.role, rule.chain_id, rule.asset) and _reaches(rule.to, intent.to)


def _reaches(match: Match, to: Destination) -> bool:
    match match:
        case Anyone():
            return True
        case Own(role=role, index=index):
            return isinstance(to, KeyRef) and to.role is role and index in (None, to.index)
        case Listed(addresses=addresses):
            return isinstance(to, bytes) and to in addresses


def canonical(policy: Policy) -> bytes:
    """Deterministic CBOR of a policy under its domain."""
    body = {
        "version": policy.version,
        "networks": sorted(policy.networks),
        "highest_index": {role.value: index for role, index in policy.highest_index.items()},
        "first_nonces": sorted([chain, str(key), nonce] for (chain, key), nonce in policy.first_nonces.items()),
        "keys": {role.value: key for role, key in policy.keys.items()},
        "rules": [
            [
                rule.name,
                rule.action.value,
                rule.role.value,
                rule.chain_id,
                rule.asset,
                _spell(rule.to),
                rule.per_transfer,
                rule.per_day,
                rule.fee_wei_max,
            ]
            for rule in policy.rules
        ],
    }
    return cbor2.dumps([DOMAIN, body], canonical=True)


def _spell(match: Match) -> str | list[str]:
    match match:
        case Anyone():
            return match.value
        case Own(role=role, index=index):
            return f"own:{role.value}" if index is None else f"own:{role.value}:{index}"
        case Listed(addresses=addresses):
            return sorted(checksummed(address) for address in addresses)
