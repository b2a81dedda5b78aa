"""What the signer may sign: rules read top to bottom, the first match decides, and what none matches is refused. Pure.

The signer believes only its policy, its keys, its journal and its clock, and what the policy's people signed. Own
addresses are named by role and derived; everybody else's, and every contract, stand in the policy. Not here: nonces
(nonces.py), the file's form (policy_file.py), how signatures are checked (approvals.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import Final, TypeAlias

import cbor2

from custody.approvals import Person
from custody.counting import FeeKey
from custody.derivation import Role, checksummed
from custody.intents import KeyRef, keys_name

DOMAIN: Final = "onebook/policy/1"
"""Stands before a policy's canonical form; ends in the version of that form."""

UNLIMITED: Final = 2**256
"""More than any amount can be; written `unlimited`, and only allowed towards our own addresses."""


class Action(StrEnum):
    ALLOW = "allow"
    DENY = "deny"


class Kind(StrEnum):
    """What a rule speaks of."""

    TRANSFER = "transfer"
    PAYOUT = "payout"
    ALLOWANCE = "allowance"
    SWEEP = "sweep"
    TOP_UP = "top_up"
    AUTHORISATION = "authorisation"
    RELAY = "relay"
    DEPLOYMENT = "deployment"
    ANCHOR = "anchor"
    PROOF = "proof"


class Anyone(StrEnum):
    """The destination that matches every address."""

    ANY = "any"


@dataclass(frozen=True, slots=True)
class Own:
    """Own addresses of a role: one index of a generation, or all of every generation up to the highest index."""

    role: Role
    index: int | None
    generation: int = 1


@dataclass(frozen=True, slots=True)
class Listed:
    """Literal addresses."""

    addresses: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class Named:
    """A contract of the policy, by its name."""

    contract: str


Match: TypeAlias = Anyone | Own | Listed | Named


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One line of the policy. Limits are in the asset's smallest units, `fee_wei_max` in wei for a transaction.

    `asset` is None where nothing moves, `to` None where there is no destination. `approvals` people must have signed
    once the role's day in this asset, this intent included, comes to more than `approvals_above`.
    """

    name: str
    action: Action
    kind: Kind
    role: Role
    chain_id: int
    asset: str | None
    to: Match | None
    per_transfer: int
    per_hour: int
    per_day: int
    fee_wei_max: int
    approvals: int = 0
    approvals_above: int = 0


@dataclass(frozen=True, slots=True)
class Contract:
    """A contract of our own: Keccak-256 of its creation code (arguments included), who creates it, with which nonce."""

    name: str
    chain_id: int
    code_hash: bytes
    deployer: KeyRef
    nonce: int


@dataclass(frozen=True, slots=True)
class TokenDomain:
    """A token's EIP-712 domain, for authorisations."""

    chain_id: int
    contract: bytes
    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Value:
    """What an asset is worth in policy units until then (Unix seconds): `units` for every `per` smallest units."""

    chain_id: int
    asset: str
    units: int
    per: int
    until: int

    def of(self, amount: int) -> int:
        """Policy units, rounded up."""
        return -(-amount * self.units // self.per)


@dataclass(frozen=True, slots=True)
class Label:
    """What people are shown for an asset (`native`, or a contract in lower-case hex) or a stranger's address there.

    `decimals` are an asset's; None for an address. Part of what is signed: a wrong number of decimals would mislead.
    """

    chain_id: int
    place: str
    name: str
    decimals: int | None


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What may leave us in 24 hours, in policy units: in all, and by network. `approvals` people may exceed them."""

    per_day: int
    by_network: Mapping[int, int]
    approvals: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A whole policy; `first_nonces` by (chain id, sender) where a sender has paid before it was enrolled here.

    `threshold` of the `people` together may change the policy, lift a freeze, confirm the time and resync a journal.
    Without people, whoever has the keys' passphrase does.
    """

    version: int
    networks: frozenset[int]
    highest_index: Mapping[Role, int]
    rules: tuple[Rule, ...]
    first_nonces: Mapping[tuple[int, KeyRef], int] = field(default_factory=dict)
    keys: Mapping[str, bytes] = field(default_factory=dict)
    """Fingerprints of the keys this policy was made for, by name (`hot`, `hot.2`); the signer refuses others."""
    people: tuple[Person, ...] = ()
    threshold: int = 0
    contracts: tuple[Contract, ...] = ()
    tokens: tuple[TokenDomain, ...] = ()
    values: tuple[Value, ...] = ()
    ceilings: Ceilings | None = None
    gas_budgets: Mapping[FeeKey, int] = field(default_factory=dict)
    """Wei in 24 hours, by role and network."""
    labels: tuple[Label, ...] = ()
    network_names: Mapping[int, str] = field(default_factory=dict)

    def first_nonce(self, chain_id: int, sender: KeyRef) -> int:
        """The first nonce of a sender that the journal doesn't know yet."""
        return self.first_nonces.get((chain_id, sender), 0)

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the canonical form: the same for every spelling of the same meaning."""
        return sha256(canonical(self)).digest()


# --- the canonical form ----------------------------------------------------------------------------------------------


def canonical(policy: Policy) -> bytes:
    """Deterministic CBOR of a policy under its domain."""
    ceilings = policy.ceilings
    body = {
        "version": policy.version,
        "networks": sorted(policy.networks),
        "highest_index": {role.value: index for role, index in policy.highest_index.items()},
        "first_nonces": sorted([chain, str(key), nonce] for (chain, key), nonce in policy.first_nonces.items()),
        "keys": dict(policy.keys),
        "people": sorted([person.name, person.key] for person in policy.people),
        "threshold": policy.threshold,
        "contracts": sorted([c.name, c.chain_id, c.code_hash, str(c.deployer), c.nonce] for c in policy.contracts),
        "tokens": sorted([t.chain_id, t.contract, t.name, t.version] for t in policy.tokens),
        "values": sorted([v.chain_id, v.asset, v.units, v.per, v.until] for v in policy.values),
        "ceilings": ceilings and [ceilings.per_day, sorted(ceilings.by_network.items()), ceilings.approvals],
        "gas_budgets": sorted([key.role.value, key.chain_id, wei] for key, wei in policy.gas_budgets.items()),
        "rules": [_spell_rule(rule) for rule in policy.rules],
        "labels": sorted([one.chain_id, one.place, one.name, one.decimals] for one in policy.labels),
        "network_names": sorted([chain_id, name] for chain_id, name in policy.network_names.items()),
    }
    return bytes(cbor2.dumps([DOMAIN, body], canonical=True))


def _spell_rule(rule: Rule) -> list[object]:
    matched = (rule.name, rule.action.value, rule.kind.value, rule.role.value, rule.chain_id, rule.asset)
    limits = (rule.per_transfer, rule.per_hour, rule.per_day, rule.fee_wei_max, rule.approvals, rule.approvals_above)
    return [*matched, None if rule.to is None else spell(rule.to), *limits]


def spell(match: Match) -> str | list[str]:
    """A match as the policy's file writes it."""
    match match:
        case Anyone():
            return match.value
        case Own(role=role, index=index, generation=generation):
            return f"own:{role.value}" if index is None else f"own:{keys_name(role, generation)}:{index}"
        case Named(contract=name):
            return f"contract:{name}"
        case Listed(addresses=addresses):
            return sorted(checksummed(address) for address in addresses)
