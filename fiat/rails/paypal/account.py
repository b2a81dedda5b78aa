"""One PayPal account as the settings tell it: where its API is, its keys, and whose webhooks are believed. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import urlsplit

from fiat.rails.errors import RailMisconfigured
from fiat.rails.protocol import CALL_SECONDS

LIVE_URL = "https://api-m.paypal.com"
SANDBOX_URL = "https://api-m.sandbox.paypal.com"

CERTIFICATE_HOSTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        LIVE_URL: ("api.paypal.com", "api-m.paypal.com"),
        SANDBOX_URL: ("api.sandbox.paypal.com", "api-m.sandbox.paypal.com"),
    }
)
"""Hosts (with their port, unless it's 443) from which a webhook's certificate may come, for each of PayPal's APIs."""

SIGNERS = ("messageverificationcerts.paypal.com", "messageverificationcerts.sandbox.paypal.com")
"""The names that PayPal's signing certificates are made out to, live and sandbox."""

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
"""Hosts that may be asked without TLS: a simulator on this machine."""

API_VERSIONS: Mapping[str, str] = MappingProxyType(
    {"orders": "2.13", "payments": "2.5", "payouts": "1.9", "disputes": "1.10", "webhooks": "1.11"}
)
"""The versions of PayPal's OpenAPI files that this was written against. PayPal takes no version header: the major one
is in the path (`/v2/checkout/orders`), and within it PayPal only adds."""

_ID = re.compile(r"[A-Za-z0-9_-]{8,128}", re.ASCII)
_MERCHANT = re.compile(r"[A-Z0-9]{13}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class PayPalAccount:
    """`name`: the rail's. `client_id`, `client_secret`, `webhook_id`: from PayPal's developer pages.
    `merchant_id`: the account that payments must pay, from PayPal's business pages.

    `certificate_hosts`: empty for PayPal's own of this `base_url`. `certificate_roots`: PEM text of the authorities
    that may have signed webhooks' certificates; None for the public ones that httpx trusts too. `call_seconds` bounds
    each call of the rail. `cancel_url`: where a payer who gives up is sent; `brand_name`: what they see.
    """

    client_id: str
    client_secret: str = field(repr=False)
    webhook_id: str
    merchant_id: str
    name: str = "paypal"
    base_url: str = LIVE_URL
    certificate_hosts: tuple[str, ...] = ()
    certificate_signers: tuple[str, ...] = SIGNERS
    certificate_roots: bytes | None = field(default=None, repr=False)
    cancel_url: str | None = None
    brand_name: str | None = None
    call_seconds: float = CALL_SECONDS

    def __post_init__(self) -> None:
        for setting in ("client_id", "client_secret", "webhook_id"):
            if not _ID.fullmatch(getattr(self, setting)):
                raise RailMisconfigured(
                    f"rail {self.name}: {setting} isn't one of PayPal's (letters, digits, - and _): copy it again from"
                    " the app's page at developer.paypal.com",
                    param=setting,
                )
        if not _MERCHANT.fullmatch(self.merchant_id):
            raise RailMisconfigured(
                f"rail {self.name}: merchant_id isn't one of PayPal's (13 letters and digits): copy it again from the"
                " account settings at paypal.com, Business information",
                param="merchant_id",
            )
        parts = urlsplit(self.base_url)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
            raise RailMisconfigured(
                f"rail {self.name}: PayPal is asked over https; {self.base_url[:80]!r} is neither that nor on this"
                " machine",
                param="base_url",
            )
        if not self.allowed_hosts:
            raise RailMisconfigured(
                f"rail {self.name}: name the certificate_hosts of {self.base_url[:80]!r}: those of PayPal's own"
                " addresses are known, others aren't",
                param="certificate_hosts",
            )
        if not 0 < self.call_seconds <= CALL_SECONDS:
            raise RailMisconfigured(
                f"rail {self.name}: call_seconds is more than 0 and at most {CALL_SECONDS}", param="call_seconds"
            )

    @property
    def allowed_hosts(self) -> frozenset[str]:
        """Where certificates of webhooks may come from."""
        return frozenset(self.certificate_hosts or CERTIFICATE_HOSTS.get(self.base_url.rstrip("/"), ()))

    @property
    def is_live(self) -> bool:
        """Whether real money moves."""
        return self.base_url.rstrip("/") == LIVE_URL
