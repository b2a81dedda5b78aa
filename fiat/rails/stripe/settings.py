"""What the Stripe rail is configured by, and the rail of it. Secrets are in no repr."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from base.clock import Clock
from fiat.rails.errors import RailMisconfigured
from fiat.rails.stripe.client import Client
from fiat.rails.stripe.rail import StripeRail
from ledger.money import Asset

LIVE_PREFIXES, TEST_PREFIXES = ("sk_live_", "rk_live_"), ("sk_test_", "rk_test_")


@dataclass(frozen=True, slots=True, kw_only=True)
class StripeSettings:
    """`api_key`: secret or restricted key. `webhook_secret`: the endpoint's, `whsec_...`. `base_url`: a simulator's."""

    api_key: str = field(repr=False)
    webhook_secret: str = field(repr=False)
    base_url: str | None = None


def build(settings: StripeSettings, *, assets: Iterable[Asset], clock: Clock, name: str = "stripe") -> StripeRail:
    """The rail of these settings. Raises RailMisconfigured. `clock`: real time where Stripe's own is."""
    if not settings.api_key.startswith(LIVE_PREFIXES + TEST_PREFIXES):
        raise RailMisconfigured(
            f"rail {name}: api_key must be a secret or restricted key (sk_ or rk_, then live or test)"
        )
    if not settings.webhook_secret.startswith("whsec_"):
        raise RailMisconfigured(f"rail {name}: webhook_secret must be the endpoint's signing secret (whsec_...)")
    return StripeRail(
        name,
        Client(name, api_key=settings.api_key, base_url=settings.base_url),
        webhook_secret=settings.webhook_secret,
        live=settings.api_key.startswith(LIVE_PREFIXES),
        assets=assets,
        clock=clock,
    )
