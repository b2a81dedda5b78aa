"""What the rails of card providers are alike in, whatever their SDKs: reading answers, and what became of an order.

Their accounts do all but pay users out. An order whose answer was lost is sent again as long as its key surely lives,
which gives the same payment, or the only one; later it's looked for in the provider's lists.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, Generic, Protocol, TypeVar

from base.clock import Clock
from fiat.rails import keys
from fiat.rails.currencies import Currencies
from fiat.rails.errors import NotCapable
from fiat.rails.lists import readable_items
from fiat.rails.protocol import Capability, Payment, PaymentOrder, PayoutOrder, PayoutTruth

CAPABILITIES = frozenset(Capability) - {Capability.PAYOUT}

Told = TypeVar("Told")
Item = TypeVar("Item")


class Reading(Protocol):
    """A provider's client, as far as all are alike."""

    def reading(self) -> AbstractContextManager[None]:
        """Around what reads an answer: one that can't be read is an unknown effect."""
        ...

    async def aclose(self) -> None: ...


AnyClient = TypeVar("AnyClient", bound=Reading)


class CardRail(ABC, Generic[AnyClient]):
    """One account that takes cards."""

    def __init__(self, name: str, client: AnyClient, *, key_seconds: int, currencies: Currencies, clock: Clock) -> None:
        """`clock`: real time, where the provider's own is."""
        self._name = name
        self._client = client
        self._key_seconds = key_seconds
        self._currencies = currencies
        self._clock = clock

    @property
    def name(self) -> str:
        return self._name

    @property
    def capabilities(self) -> frozenset[Capability]:
        return CAPABILITIES

    @property
    def key_seconds(self) -> int:
        return self._key_seconds

    # What became of an order

    async def find_payment(self, order: PaymentOrder) -> Payment | None:
        return await self._search(order.reference)

    async def recover_payment(self, order: PaymentOrder) -> Payment | None:
        return await (self._sent_again(order) if self._lives(order.reference) else self._search(order.reference))

    @abstractmethod
    async def _sent_again(self, order: PaymentOrder) -> Payment | None:
        """The payment of an order that is sent again under its key; None where it was refused without one."""

    @abstractmethod
    async def _search(self, reference: str) -> Payment | None:
        """The payment with our id among all since it was made. Raises EffectUnknown if there are too many."""

    def _lives(self, reference: str) -> bool:
        """Whether the provider surely still knows this key."""
        return keys.lives(reference, now=self._clock.now(), seconds=self._key_seconds)

    # Paying out

    async def pay_out(self, order: PayoutOrder) -> PayoutTruth:
        raise self._no_payouts()

    async def fetch_payout(self, payout: str) -> PayoutTruth | None:
        raise self._no_payouts()

    async def recover_payout(self, order: PayoutOrder) -> PayoutTruth | None:
        raise self._no_payouts()

    def _no_payouts(self) -> NotCapable:
        return NotCapable(f"rail {self._name} pays nobody out", param="rail", capability=Capability.PAYOUT.value)

    # Reading

    def _read(self, read: Callable[[Any, Currencies], Item], told: Any) -> Item:
        """An object of an answer. Raises EffectUnknown for what can't be read."""
        with self._client.reading():
            return read(told, self._currencies)

    def _items(
        self, read: Callable[[Told, Currencies], Item], found: Iterable[Told], *, named: Callable[[Told], object]
    ) -> tuple[Item, ...]:
        """What of a page can be read."""
        return readable_items(self._name, found, lambda one: read(one, self._currencies), named=named)

    async def aclose(self) -> None:
        await self._client.aclose()
