"""Building what sweeps: the treasurer's side for every process, the worker's for the one that asks the signer."""

from datetime import timedelta

from base.errors import ConfigError, OnebookError
from chain.authorisations import Authorisations
from chain.checkpoints import Checkpoint
from chain.estimates import NetworkFees
from chain.networks import GWEI, Deployment, Network, Registry, to_chain_units
from chain.signing import Signer
from exchange.rates import RateSource
from ledger.money import Asset, parse_amount
from treasury.holdings import Holdings
from treasury.refills import Floor, Refills, Unpaid
from treasury.sweep_planning import SweepPlanner
from treasury.sweep_policy import SweepRule, SweepTerms
from treasury.sweeping import Sweeping
from treasury.sweeps import Sweeps
from wallet.deposit_reviews import DepositReviews
from wallet.network_fees import wei_price
from wiring.exchange import build_rates
from wiring.parts import Parts
from wiring.settings import Settings


class RatedWorth:
    """A `treasury.sweep_planning.Worth` by the rates file."""

    def __init__(self, rates: RateSource, registry: Registry, assets: dict[str, Asset]) -> None:
        self._rates = rates
        self._registry = registry
        self._assets = assets

    async def gas_in(self, deployment: Deployment, wei: int) -> int | None:
        """So many wei in the deployment's chain units, rounded up; None where no fresh rate tells."""
        network = self._registry.network(deployment.network)
        native = self._registry.by_asset(network.name, network.native_asset)
        asset = self._assets[deployment.asset]
        try:
            rates = None if asset.code == native.asset else await self._rates.current()
            units = wei_price(native, self._assets[native.asset], asset, rates).ceil_of(wei)
        except OnebookError:
            return None
        return -(-units // int(10 ** (asset.scale - deployment.decimals)))


def build_sweeps(parts: Parts) -> Sweeps:
    """What the treasurer asks about sweeps."""
    return Sweeps(
        parts.engine,
        book=parts.settings.book,
        registry=parts.registry,
        holdings=_holdings(parts),
        clock=parts.clock,
        entropy=parts.entropy,
    )


def build_sweeping(parts: Parts, network: Network, signer: Signer, checkpoint: Checkpoint | None = None) -> Sweeping:
    """The worker's step for one network, whose own coin must be deployed."""
    settings, node, holdings, terms = parts.settings, parts.nodes[network.name], _holdings(parts), sweep_terms(parts)
    assets = _assets(settings)
    planner = SweepPlanner(
        parts.engine,
        book=settings.book,
        network=network,
        registry=parts.registry,
        node=node,
        holdings=holdings,
        worth=RatedWorth(build_rates(settings, parts.engine, parts.clock), parts.registry, assets),
        rules=sweep_rules(settings, parts.registry, network),
        terms=terms,
        clock=parts.clock,
        entropy=parts.entropy,
    )
    return Sweeping(
        parts.engine,
        ledger=parts.ledger,
        network=network,
        registry=parts.registry,
        node=node,
        fees=NetworkFees(parts.nodes, clock=parts.clock),
        holdings=holdings,
        authorisations=Authorisations(parts.engine, signer=signer, clock=parts.clock, checkpoint=checkpoint),
        planner=planner,
        terms=terms,
        clock=parts.clock,
        entropy=parts.entropy,
        checkpoint=checkpoint,
    )


def build_refills(parts: Parts, payments: Unpaid) -> Refills:
    """What asks for refills of the hot address, and shows them."""
    settings = parts.settings
    return Refills(
        parts.engine,
        ledger=parts.ledger,
        registry=parts.registry,
        payments=payments,
        floors=hot_floors(settings),
        cold=cold_addresses(settings),
        clock=parts.clock,
        entropy=parts.entropy,
    )


def hot_floors(settings: Settings) -> dict[tuple[str, str], Floor]:
    """By (network, asset); without a target the floor is it. Raises what `parse_amount` does, ConfigError."""
    assets, floors = _assets(settings), {}
    for number, place in enumerate(settings.deployments):
        if place.hot_floor is not None:
            asset = assets[place.asset]
            floor = parse_amount(place.hot_floor, asset, param="hot_floor")
            target = parse_amount(place.hot_target or place.hot_floor, asset, param="hot_target")
            if target < floor:
                where = settings.where("deployments", number, "hot_target")
                raise ConfigError(f"{where}: the target is below the floor, so a refill would never be enough")
            floors[place.network, place.asset] = Floor(floor, target)
    return floors


def cold_addresses(settings: Settings) -> dict[str, frozenset[str]]:
    """By network."""
    return {network.name: frozenset(network.cold_addresses) for network in settings.networks}


def sweep_terms(parts: Parts) -> SweepTerms:
    """What the settings say of all sweeps."""
    told = parts.settings.sweeps
    return SweepTerms(gas_price_max=told.gas_price_max_gwei * GWEI, per_step=told.per_step, tries=told.tries)


def sweep_rules(settings: Settings, registry: Registry, network: Network) -> dict[str, SweepRule]:
    """By asset, in chain units. Raises what `parse_amount` does, and NotAWholeUnit."""
    assets, after = _assets(settings), timedelta(hours=settings.sweeps.after_hours)
    rules = {}
    for place in settings.deployments:
        if place.network == network.name and place.sweep_threshold is not None:
            asset = assets[place.asset]
            amount = parse_amount(place.sweep_threshold, asset, param="sweep_threshold")
            deployment = registry.by_asset(network.name, place.asset)
            rules[place.asset] = SweepRule(threshold=to_chain_units(amount, deployment, scale=asset.scale), after=after)
    return rules


def _holdings(parts: Parts) -> Holdings:
    reviews = DepositReviews(
        parts.engine, ledger=parts.ledger, registry=parts.registry, clock=parts.clock, screened=parts.screening
    )
    return Holdings(parts.engine, book=parts.settings.book, nodes=parts.nodes, kept_back=reviews)


def _assets(settings: Settings) -> dict[str, Asset]:
    return {asset.code: Asset(asset.code, asset.kind, asset.scale) for asset in settings.assets}
