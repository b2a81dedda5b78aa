"""Networks and what lives on them: the configuration that every part of the chain reads. Pure.

A network's depths are the operator's chosen risk. A block's depth is 1 when it's the newest one taken in.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from base.errors import ConfigError
from chain.errors import NotAWholeUnit, NotOnNetwork
from chain.tokens import Quirk

GWEI = 10**9
"""Wei in a gwei, the customary unit of gas prices."""


class Family(StrEnum):
    """Networks that share key derivation and address form."""

    EVM = "evm"


class Encoding(StrEnum):
    """How a network encodes blocks, and so whether a node's answers can be recomputed."""

    ETHEREUM = "ethereum"
    UNKNOWN = "unknown"


class Traces(StrEnum):
    """When a network's nodes are asked what contracts paid inside calls."""

    EVERY_BLOCK = "every_block"
    """Of each block, as soon as it's taken in."""
    ON_SURPLUS = "on_surplus"
    """Of final blocks in which an own address got more than the blocks themselves tell."""
    NEVER = "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """One chain. Heights are block numbers, fees are wei per gas; at least one URL, each further one is a witness.

    `final_depth` None: the node's `finalized` tag decides (never choose it where that equals the head, as on Hardhat).
    `genesis_hash` None: the one first seen is kept and from then on required. `balances_per_block`: own addresses whose
    balance of the native coin is asked for at each new final block, in turn. `replace_after_seconds`: after so long
    without being mined an own transaction is outbid, if the market has left it behind.
    """

    name: str
    chain_id: int
    rpc_urls: tuple[str, ...]
    native_asset: str
    spendable_depth: int
    final_depth: int | None
    genesis_hash: str | None = None
    start_height: int = 0
    max_fee_per_gas_cap: int = 500 * GWEI
    tip_floor: int = GWEI // 10
    encoding: Encoding = Encoding.ETHEREUM
    traces: Traces = Traces.ON_SURPLUS
    balances_per_block: int = 100
    replace_after_seconds: int = 120
    family: Family = Family.EVM

    def __post_init__(self) -> None:
        if not self.rpc_urls:
            raise ConfigError(f"network {self.name}: at least one node's URL is needed", param="rpc_urls")
        if len(set(self.rpc_urls)) < len(self.rpc_urls):
            raise ConfigError(f"network {self.name}: one node twice is no second witness", param="rpc_urls")
        if self.spendable_depth < 1 or (self.final_depth is not None and self.final_depth < self.spendable_depth):
            raise ConfigError(f"network {self.name}: 1 <= spendable_depth <= final_depth", param="spendable_depth")
        if self.balances_per_block < 0:
            raise ConfigError(f"network {self.name}: 0 <= balances_per_block", param="balances_per_block")
        if self.replace_after_seconds < 1:
            raise ConfigError(f"network {self.name}: 1 <= replace_after_seconds", param="replace_after_seconds")
        if not 0 < self.tip_floor <= self.max_fee_per_gas_cap:
            raise ConfigError(f"network {self.name}: 0 < tip_floor <= max_fee_per_gas_cap", param="tip_floor")


@dataclass(frozen=True, slots=True)
class TokenDomain:
    """Name and version of a token's EIP-712 domain, in which payments from it are authorised (EIP-3009)."""

    name: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """An asset on one network. `contract` is lower-case hex, None for the native coin.

    `decimals` are the chain's; `deposit_minimum` is in the asset's (the ledger's) smallest units; `quirks` are what a
    token is known to do; `domain` is that of one whose payments can be authorised.
    """

    asset: str
    network: str
    contract: str | None
    decimals: int
    deposit_minimum: int = 1
    quirks: frozenset[Quirk] = frozenset()
    domain: TokenDomain | None = None

    def __post_init__(self) -> None:
        if self.contract is not None and self.contract != self.contract.lower():
            raise ConfigError(f"{self.asset} on {self.network}: write the contract in lower case", param="contract")
        if self.contract is None and self.quirks:
            raise ConfigError(f"{self.asset} on {self.network}: the network's own coin has no quirks", param="quirks")
        if self.contract is None and self.domain is not None:
            raise ConfigError(f"{self.asset} on {self.network}: the own coin isn't authorised", param="authorisation")


def to_ledger_units(chain_units: int, deployment: Deployment, *, scale: int) -> int:
    """The asset's smallest units that `chain_units` on this deployment are; exact, since scale >= decimals."""
    return int(chain_units * _ratio(deployment, scale))


def to_chain_units(ledger_units: int, deployment: Deployment, *, scale: int) -> int:
    """The chain's units of an amount. Raises NotAWholeUnit, naming the two nearest amounts, for one too fine."""
    ratio = _ratio(deployment, scale)
    units, rest = divmod(ledger_units, ratio)
    if rest:
        raise NotAWholeUnit(
            f"{deployment.asset} on {deployment.network} has {deployment.decimals} decimals",
            param="amount",
            decimals=deployment.decimals,
            nearest=[str(units * ratio), str((units + 1) * ratio)],
        )
    return units


def _ratio(deployment: Deployment, scale: int) -> int:
    if scale < deployment.decimals:
        raise ConfigError(
            f"{deployment.asset} has scale {scale}, but {deployment.decimals} decimals on {deployment.network}"
        )
    return int(10 ** (scale - deployment.decimals))


class Registry:
    """All networks and deployments, found by name, by contract, or by asset."""

    def __init__(self, networks: Iterable[Network], deployments: Iterable[Deployment]) -> None:
        self.networks: dict[str, Network] = {network.name: network for network in networks}
        self.deployments: tuple[Deployment, ...] = tuple(deployments)
        self._by_contract = {(entry.network, entry.contract): entry for entry in self.deployments}
        self._by_asset = {(entry.network, entry.asset): entry for entry in self.deployments}
        for entry in self.deployments:
            if entry.network not in self.networks:
                raise ConfigError(f"{entry.asset} is deployed on {entry.network}, which isn't configured")
        if not len(self._by_contract) == len(self._by_asset) == len(self.deployments):
            raise ConfigError("an asset, and a contract, stands at most once per network")

    def network(self, name: str) -> Network:
        """The network of this name. Raises NotOnNetwork, naming those there are."""
        if name not in self.networks:
            raise NotOnNetwork(f"no network {name!r}", code="unknown_network", param="network", known=[*self.networks])
        return self.networks[name]

    def by_contract(self, network: str, contract: str | None) -> Deployment | None:
        """The deployment behind a contract (None: the native coin); None for an unknown token."""
        return self._by_contract.get((network, contract))

    def by_asset(self, network: str, asset: str) -> Deployment:
        """Where `asset` lives on `network`. Raises NotOnNetwork, naming the networks that carry it."""
        self.network(network)
        found = self._by_asset.get((network, asset))
        if found is None:
            carried = [entry.network for entry in self.deployments if entry.asset == asset]
            raise NotOnNetwork(f"{asset} isn't on {network}", param="network", networks=carried)
        return found

    def tokens(self, network: str) -> dict[str, Deployment]:
        """The deployments on `network` that are contracts, by contract."""
        return {entry.contract: entry for entry in self.on(network) if entry.contract is not None}

    def on(self, network: str) -> tuple[Deployment, ...]:
        """All deployments on `network`."""
        return tuple(entry for entry in self.deployments if entry.network == network)
