"""What an operation would cost now: the house's fee with all that it's computed from, beside it the network's."""

from dataclasses import dataclass
from typing import Protocol

from tariff.desk import Desk, Preview
from tariff.pricing import Move
from tariff.schedule import Operation
from wallet.errors import NotPreviewed
from wallet.resources import Estimate
from wallet.transfers import Fees
from wallet.withdrawals import Withdrawals


class PayoutMoves(Protocol):
    """Knows what payouts cost by their terms. The payout desk implements it."""

    def move(self, owner: str, *, rail: str, asset: str, amount: int) -> Move:
        """A payout whose terms are wanted. Raises NoPayoutRail, AmountOutOfBounds."""
        ...


class TopUpMoves(Protocol):
    """Knows what can be paid in. The top-ups of payment providers implement it."""

    async def move(self, owner: str, *, rail: str, asset: str, amount: int) -> Move:
        """A top-up whose terms are wanted. Raises UnknownRail, NotCapable, UnknownAsset, AmountNotPayable."""
        ...


@dataclass(frozen=True, slots=True)
class FeePreview:
    """What it costs by the tariff, and for a withdrawal what the network takes; `network_fee` is the highest.

    `total` is all that would be taken or held, in smallest units of the asset moved; of a top-up what its payer pays.
    `arrives` is what is left of a top-up, None of all else. What a conversion gives is told by its quote.
    """

    terms: Preview
    network_fee: int
    network_fee_expected: int

    @property
    def total(self) -> int:
        price = self.terms.price
        return price.amount if self.arrives is not None else price.amount + price.fee + self.network_fee

    @property
    def arrives(self) -> int | None:
        price = self.terms.price
        return max(0, price.amount - price.fee) if price.operation is Operation.TOP_UP else None


class FeePreviews:
    """Previews of one book's fees."""

    def __init__(
        self, *, tariff: Desk, fees: Fees, withdrawals: Withdrawals, payouts: PayoutMoves, top_ups: TopUpMoves
    ) -> None:
        self._tariff = tariff
        self._fees = fees
        self._withdrawals = withdrawals
        self._payouts = payouts
        self._top_ups = top_ups

    async def make(
        self,
        owner: str,
        operation: Operation,
        *,
        asset: str,
        amount: int,
        network: str | None = None,
        address: str | None = None,
        rail: str | None = None,
    ) -> FeePreview:
        """What it would cost now. A withdrawal to who is a user here costs what a transfer does.

        Raises NotPreviewed, and what asking for it would before anything is held.
        """
        match operation, network, rail:
            case ((Operation.TRANSFER | Operation.HOLD), None, None):
                move = self._fees.move(owner, asset, amount, operation=operation)
                return FeePreview(await self._tariff.preview(move), 0, 0)
            case Operation.CONVERSION, None, None:
                move = Move(owner, operation, asset, amount)
                return FeePreview(await self._tariff.preview(move), 0, 0)
            case Operation.PAYOUT, None, str():
                move = self._payouts.move(owner, rail=rail, asset=asset, amount=amount)
                return FeePreview(await self._tariff.preview(move), 0, 0)
            case Operation.TOP_UP, None, str():
                move = await self._top_ups.move(owner, rail=rail, asset=asset, amount=amount)
                return FeePreview(await self._tariff.preview(move), 0, 0)
            case Operation.WITHDRAWAL, str(), None:
                estimate, move = await self._withdrawals.costs(
                    owner, asset=asset, network=network, amount=amount, to=address
                )
                return FeePreview(await self._tariff.preview(move), *_network_fees(estimate))
        raise NotPreviewed(
            "fees are previewed of a transfer, hold or conversion (with neither network nor rail), of a withdrawal with"
            " its network, and of a payout or top-up with its rail",
            param="operation",
        )


def _network_fees(estimate: Estimate) -> tuple[int, int]:
    """The highest and the expected; nothing for a user here."""
    return estimate.fee_highest, estimate.fee_expected
