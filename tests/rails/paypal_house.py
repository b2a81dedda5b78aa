"""What tests of the PayPal rail share: the rail against the running simulator, with every exchange checked."""

import json
import ssl
from collections.abc import Mapping
from datetime import datetime
from itertools import count
from typing import Any

import httpx

from base.entropy import SeededEntropy
from base.ids import new_id
from fiat.rails.paypal.account import PayPalAccount
from fiat.rails.paypal.rail import PayPal
from fiat.rails.protocol import Capturing, Payment, PaymentOrder, RefundOrder
from ledger.money import Asset, AssetKind
from tests.rails.conftest import Sim
from tests.rails.schemas import CheckingTransport

ASSETS: Mapping[str, Asset] = {
    code: Asset(code=code, kind=AssetKind.FIAT, scale=scale)
    for code, scale in (("USD", 2), ("EUR", 4), ("JPY", 0), ("HUF", 2))
}

_seeds = count(1)
_NO_NEED = ssl.create_default_context()
"""Made once, since it takes long: nothing here is asked over TLS."""


class SimulatedClock:
    """Our clock goes with the simulator's."""

    def __init__(self, sim: Sim) -> None:
        self._timeline = sim.house.world.timeline

    def now(self) -> datetime:
        return self._timeline.now()


class Negative(httpx.AsyncBaseTransport):
    """Asks PayPal's sandbox to refuse at one path (developer.paypal.com, negative testing)."""

    def __init__(self, issue: str, path: str, inner: httpx.AsyncBaseTransport) -> None:
        self._header = json.dumps({"mock_application_codes": issue})
        self._path, self._inner = path, inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith(self._path):
            request.headers["paypal-mock-response"] = self._header
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


def account(sim: Sim, **changes: Any) -> PayPalAccount:
    told = sim.house.paypal.secrets()
    settings: dict[str, Any] = {
        "client_id": told["client_id"],
        "client_secret": told["client_secret"],
        "webhook_id": told["webhook_id"],
        "merchant_id": told["merchant_id"],
        "base_url": sim.house.paypal.url,
        "certificate_hosts": (httpx.URL(sim.house.paypal.url).netloc.decode(),),
        "certificate_roots": told["certificate_authority"].encode(),
    }
    return PayPalAccount(**settings | changes)


def rail(
    sim: Sim, *, refusing: tuple[str, str] | None = None, assets: Mapping[str, Asset] = ASSETS, **changes: Any
) -> PayPal:
    """The rail. `refusing`: an issue, and where a path must end to get it."""
    inner = httpx.AsyncHTTPTransport(verify=_NO_NEED)
    transport: httpx.AsyncBaseTransport = CheckingTransport(sim.checker, "paypal", inner)
    if refusing is not None:
        transport = Negative(*refusing, transport)
    return PayPal(account(sim, **changes), assets=assets, clock=SimulatedClock(sim), transport=transport)


def fresh(sim: Sim, prefix: str = "top") -> str:
    """An id of ours, made now."""
    return new_id(prefix, SimulatedClock(sim), SeededEntropy(next(_seeds)))


def ordered(sim: Sim, amount: int = 100_00, asset: str = "USD", *, manual: bool = False) -> PaymentOrder:
    return PaymentOrder(
        reference=fresh(sim),
        asset=asset,
        amount=amount,
        capturing=Capturing.MANUAL if manual else Capturing.AUTOMATIC,
        return_url="https://onebook.example/done",
    )


async def approved(sim: Sim, paypal: PayPal, order: PaymentOrder) -> str:
    """The payer agrees at PayPal's page."""
    made = await paypal.create_payment(order)
    sim.tell("/customers/acts", provider="paypal", act="approve", id=made.id)
    return made.id


async def captured(sim: Sim, paypal: PayPal, amount: int = 100_00, asset: str = "USD") -> Payment:
    order = ordered(sim, amount, asset)
    return await paypal.proceed(order, await approved(sim, paypal, order))


def refund_of(sim: Sim, payment: Payment, amount: int) -> RefundOrder:
    return RefundOrder(
        reference=fresh(sim, "ref"),
        payment=payment.id,
        capture=payment.capture_id,
        asset=payment.asset,
        amount=amount,
    )
