"""The settings of payment providers: `[rails]`, a table each. Secrets are in no repr."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel as PydanticModel
from pydantic import ConfigDict, Field, SecretStr

from fiat.rails.booking import FeeBearer


class _Table(PydanticModel):
    """A table of the file: unknown keys are errors, so that a typing mistake can't be ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SandboxSettings(_Table):
    """The sandbox rail. `webhook_secret` signs its webhooks; it protects nothing of value."""

    webhook_secret: SecretStr = Field(min_length=8)


class StripeRailSettings(_Table):
    """A Stripe account. `base_url`: a simulator's, only in a test book."""

    api_key: SecretStr
    webhook_secret: SecretStr
    base_url: str | None = None


class SquareRailSettings(_Table):
    """A location of a Square account. `base_url`: a simulator's, only in a test book."""

    access_token: SecretStr
    webhook_signature_key: SecretStr
    location_id: str
    notification_url: str
    merchant_id: str | None = None
    environment: Literal["production", "sandbox"] = "production"
    base_url: str | None = None


class PayPalPayoutSettings(_Table):
    """Terms on which an asset is paid out over PayPal, decimal strings. `payout_fee` is what its owner pays us."""

    asset: str
    payout_fee: str | None = None
    payout_minimum: str | None = None
    payout_maximum: str | None = None


class PayPalRailSettings(_Table):
    """A PayPal account (`fiat.rails.paypal.account.PayPalAccount`). `base_url`: a simulator's, only in a test book.

    `certificate_roots`: a file of PEM, instead of the public authorities, that webhooks' certificates come from.
    `payouts`: which assets it pays to users' PayPal accounts, and on what terms.
    """

    client_id: str
    client_secret: SecretStr
    webhook_id: str
    merchant_id: str
    environment: Literal["live", "sandbox"] = "live"
    base_url: str | None = None
    certificate_hosts: tuple[str, ...] = ()
    certificate_roots: Path | None = None
    cancel_url: str | None = None
    brand_name: str | None = Field(default=None, min_length=1, max_length=127)
    payouts: tuple[PayPalPayoutSettings, ...] = ()


class RailsSettings(_Table):
    """Payment providers, a table each; none is there unless it's told. `fee_bearer`: who bears their fees."""

    fee_bearer: FeeBearer = FeeBearer.HOUSE
    sandbox: SandboxSettings | None = None
    stripe: StripeRailSettings | None = None
    square: SquareRailSettings | None = None
    paypal: PayPalRailSettings | None = None
