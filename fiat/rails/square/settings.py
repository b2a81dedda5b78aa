"""What the Square rail is configured by, and the rail of it. Secrets are in no repr."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from base.clock import Clock
from fiat.rails.errors import RailMisconfigured
from fiat.rails.square.client import Client
from fiat.rails.square.rail import SquareRail
from ledger.money import Asset

ENVIRONMENTS = {
    "production": "https://connect.squareup.com",
    "sandbox": "https://connect.squareupsandbox.com",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SquareSettings:
    """`location_id`: where payments are made, and whose payouts are settlements; it has one currency.

    `notification_url`: the subscription's, letter by letter: it's signed. `merchant_id`: only its webhooks are taken,
    where it's given. `base_url`: a simulator's, instead of `environment`.
    """

    access_token: str = field(repr=False)
    webhook_signature_key: str = field(repr=False)
    location_id: str
    notification_url: str
    merchant_id: str | None = None
    environment: str = "production"
    base_url: str | None = None


def build(settings: SquareSettings, *, assets: Iterable[Asset], clock: Clock, name: str = "square") -> SquareRail:
    """The rail of these settings. Raises RailMisconfigured. `clock`: real time where Square's own is."""
    if settings.environment not in ENVIRONMENTS:
        raise RailMisconfigured(f"rail {name}: environment is {' or '.join(ENVIRONMENTS)}")
    needed = ("access_token", "webhook_signature_key", "location_id", "notification_url")
    if missing := [one for one in needed if not getattr(settings, one)]:
        raise RailMisconfigured(f"rail {name}: {', '.join(missing)} must be set")
    return SquareRail(
        name,
        Client(
            name,
            access_token=settings.access_token,
            base_url=settings.base_url or ENVIRONMENTS[settings.environment],
        ),
        location=settings.location_id,
        merchant=settings.merchant_id,
        signature_key=settings.webhook_signature_key,
        notification_url=settings.notification_url,
        assets=assets,
        clock=clock,
    )
