"""What a withdrawal costs at most, whom it would pay, and whether it's within its bounds: before anything is held."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncEngine

from base.errors import ConfigError
from chain import addresses
from chain.fees import FeeEstimate
from chain.networks import Deployment, Registry, to_chain_units
from chain.signing import OwnAddress, OwnKey, Role
from db.engine import tx
from exchange.rates import RateSource
from exchange.ratios import Ratio
from ledger.engine import Ledger
from tariff.desk import Desk
from tariff.pricing import Move
from tariff.schedule import Operation
from wallet.errors import AboveMaximum, BelowMinimum, FeesUnknown
from wallet.network_fees import actual_fee, highest_fee, wei_price
from wallet.recipient_checks import RecipientChecks
from wallet.recipients import Recipient, WarningCode
from wallet.resources import Estimate
from wallet.transfers import Fees

HOT = OwnKey(Role.HOT, 0)
"""The key that pays."""

NO_GAS = Ratio(0, 1)
"""The price of gas to who pays a user here: none is used."""


class NetworkFees(Protocol):
    """Knows what a payment would cost now; the chain's node answers."""

    async def estimate(
        self, deployment: Deployment, *, sender: str, to: str, amount: int, tried: bool = True
    ) -> FeeEstimate | None:
        """The cost of paying `amount` chain units; None while gas is above the network's cap. Raises Unavailable.

        Raises PaymentRefused where the payment is `tried` and turned down.
        """
        ...


class WithdrawalEstimates:
    """Estimates of one book's withdrawals."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        ledger: Ledger,
        registry: Registry,
        fees: NetworkFees,
        rates: RateSource,
        recipients: RecipientChecks,
        transfer_fees: Fees,
        tariff: Desk,
        minimums: Mapping[tuple[str, str], int],
        maximums: Mapping[tuple[str, str], int],
    ) -> None:
        """`minimums`, `maximums`: (network, asset) -> smallest and largest withdrawal in the asset's smallest units."""
        self._engine = engine
        self._ledger = ledger
        self._registry = registry
        self._fees = fees
        self._rates = rates
        self._recipients = recipients
        self._transfer_fees = transfer_fees
        self._tariff = tariff
        self._minimums = dict(minimums)
        self._maximums = dict(maximums)

    async def show(self, owner: str, *, asset: str, network: str, amount: int, to: str | None = None) -> Estimate:
        """As `make`, with what the house takes by the tariff now."""
        estimate = await self.make(owner, asset=asset, network=network, amount=amount, to=to)
        preview = await self._tariff.preview(self.move(owner, estimate))
        return priced(estimate, preview.price.fee)

    def move(self, owner: str, estimate: Estimate) -> Move:
        """What the tariff is asked about: a withdrawal, or a transfer to who is a user here."""
        if is_inside(estimate):
            return self._transfer_fees.move(owner, estimate.asset, estimate.amount)
        return Move(owner, Operation.WITHDRAWAL, estimate.asset, estimate.amount, estimate.network)

    async def make(self, owner: str, *, asset: str, network: str, amount: int, to: str | None = None) -> Estimate:
        """The highest cost of withdrawing `amount` now, to `to` if it's known already; without what the house takes.

        Raises UnknownAsset, NotOnNetwork, NotAWholeUnit, BelowMinimum, AboveMaximum, NoRate, RatesTooOld, FeesUnknown,
        PaymentRefused, and for `to` InvalidAddress (wrong form, checksum, the zero address), Precompile, TokenContract,
        OwnAddress, NotCreditable. What it warns of is in the estimate's recipient.
        """
        known = await self._ledger.asset(asset)
        deployment = self._registry.by_asset(network, asset)
        chain_amount = to_chain_units(amount, deployment, scale=known.scale)
        self._check_limits(network, asset, amount)
        hot = await hot_address(self._engine)
        recipient = None
        if to is not None:
            recipient = await self._recipients.look(owner, to, deployment, sender=hot.address, amount=chain_amount)
            if recipient.user is not None:
                return self._estimate_inside(recipient, asset=asset, network=network, amount=amount)
        cost = await self._cost(deployment, recipient, sender=hot.address, amount=chain_amount)
        native = self._native(network)
        native_asset = await self._ledger.asset(native.asset)
        rates = None if asset == native.asset else await self._rates.current()
        price = wei_price(native, native_asset, known, rates)
        fee = highest_fee(price, cost.highest_wei)
        return Estimate(
            asset=asset,
            network=network,
            amount=amount,
            fee_highest=fee,
            fee_expected=actual_fee(price, fee_wei=cost.expected_wei, fee_highest=fee),
            total=amount + fee,
            price=price,
            gas_limit=cost.gas_limit,
            fee_wei_max=cost.highest_wei,
            recipient=recipient,
        )

    def _check_limits(self, network: str, asset: str, amount: int) -> None:
        minimum, maximum = self._minimums.get((network, asset), 1), self._maximums.get((network, asset))
        if amount < minimum:
            raise BelowMinimum("this is below the smallest withdrawal", param="amount", minimum=minimum, amount=amount)
        if maximum is not None and amount > maximum:
            raise AboveMaximum("this is above the largest withdrawal", param="amount", maximum=maximum, amount=amount)

    async def _cost(
        self, deployment: Deployment, recipient: Recipient | None, *, sender: str, amount: int
    ) -> FeeEstimate:
        """What the payment costs, to whomever as long as that isn't known. Raises FeesUnknown, PaymentRefused."""
        to = sender if recipient is None else recipient.address
        refuses = recipient is not None and any(w.code is WarningCode.CONTRACT_REFUSES for w in recipient.warnings)
        if refuses:  # that is known, and warned of
            cost = await self._fees.estimate(deployment, sender=sender, to=to, amount=amount, tried=False)
        else:
            cost = await self._fees.estimate(deployment, sender=sender, to=to, amount=amount)
        if cost is None:
            network = deployment.network
            raise FeesUnknown(f"gas on {network} costs more now than the house pays; try later", network=network)
        return cost

    @staticmethod
    def _estimate_inside(recipient: Recipient, *, asset: str, network: str, amount: int) -> Estimate:
        """What paying a user here costs of the network's: nothing. A transfer's fee is told by `priced`."""
        return Estimate(
            asset=asset,
            network=network,
            amount=amount,
            fee_highest=0,
            fee_expected=0,
            total=amount,
            price=NO_GAS,
            gas_limit=0,
            fee_wei_max=0,
            recipient=recipient,
        )

    def _native(self, network: str) -> Deployment:
        return self._registry.by_asset(network, self._registry.network(network).native_asset)


def is_inside(estimate: Estimate) -> bool:
    """Whether a user here would be paid, in the book."""
    return estimate.recipient is not None and estimate.recipient.user is not None


def priced(estimate: Estimate, fee: int) -> Estimate:
    """The estimate with what the house takes: beside the network's fee, or, inside, as the fee that there is."""
    if is_inside(estimate):
        return replace(estimate, fee_highest=fee, fee_expected=fee, total=estimate.amount + fee)
    return replace(estimate, service_fee=fee, total=estimate.amount + estimate.fee_highest + fee)


async def hot_address(engine: AsyncEngine) -> OwnAddress:
    """The address that pays. Raises ConfigError as long as there is none."""
    async with tx(engine) as connection:
        hot = await addresses.house(connection, key=HOT)
    if hot is None:
        raise ConfigError("no hot address is enrolled, so nothing can be paid", code="no_hot_address")
    return hot
