"""The settings of payment providers: `[rails]`, a table each. Secrets are in no repr."""

from enum import StrEnum
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


class PayPalMode(StrEnum):
    """Which of PayPal's two worlds: that with money, or its sandbox."""

    LIVE = "live"
    SANDBOX = "sandbox"


class PayPalSettings(_Table):
    """A PayPal account. See `fiat.rails.paypal.account.PayPalAccount`; `certificate_roots` names a file of PEM.

    `base_url`: another address than PayPal's own of this mode: a simulator's. Then `certificate_hosts` must be told.
    """

    mode: PayPalMode = PayPalMode.LIVE
    client_id: str
    client_secret: SecretStr
    webhook_id: str
    base_url: str | None = None
    certificate_hosts: tuple[str, ...] = ()
    certificate_roots: Path | None = None
    cancel_url: str | None = None
    brand_name: str | None = Field(default=None, min_length=1, max_length=127)


class RailsSettings(_Table):
    """Payment providers, a table each; none is there unless it's told. `fee_bearer`: who bears their fees."""

    fee_bearer: FeeBearer = FeeBearer.HOUSE
    sandbox: SandboxSettings | None = None
    stripe: StripeRailSettings | None = None
    square: SquareRailSettings | None = None
    paypal: PayPalSettings | None = None
