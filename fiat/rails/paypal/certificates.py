"""The certificates with which PayPal signs webhooks: from an allowed host, of an allowed chain and name, cached.

A webhook names its certificate by an address. Without these checks whoever sends a webhook could name their own.
"""

import asyncio
import re
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from fiat.rails.errors import EffectUnknown, RailMisconfigured, RefusalReason, WebhookRefused
from fiat.rails.paypal.account import LOOPBACK, PayPalAccount
from fiat.rails.paypal.client import Client

CACHED_FOR = timedelta(hours=24)
CACHED_MAX = 16
"""PayPal has one certificate in use, and a second one while it changes."""

FILE_BYTES_MAX = 64 * 1024
_KEY_BITS_MIN = 2048
_PATH = re.compile(r"/v1/notifications/certs/[A-Za-z0-9_-]{1,128}", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Known:
    key: RSAPublicKey
    until: datetime


class Certificates:
    """Keys by the addresses of their certificates. Safe for many tasks at once."""

    def __init__(self, account: PayPalAccount, client: Client) -> None:
        self._account = account
        self._client = client
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._fetching = asyncio.Lock()

    async def key(self, url: str, *, now: datetime) -> RSAPublicKey:
        """The public key at `url`, whose chain holds at `now`.

        Raises WebhookRefused for a place, a chain or a name that isn't PayPal's, EffectUnknown where it can't be had.
        """
        self._require_allowed(url)
        found = self._cached(url, now)
        if found is not None:
            return found
        async with self._fetching:  # one at a time: however many webhooks name addresses of their own making
            found = self._cached(url, now)
            if found is None:
                found = await self._fetch(url, now)
            return found

    def require_roots(self) -> None:
        """Raises RailMisconfigured where the configured authorities can't be read."""
        _ = self._roots

    def _cached(self, url: str, now: datetime) -> RSAPublicKey | None:
        known = self._known.get(url)
        return known.key if known is not None and now < known.until else None

    def _require_allowed(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            raise _refused("names a certificate by what is no address") from None
        named = host if port in (None, 443) else f"{host}:{port}"
        secure = parts.scheme == "https" or (parts.scheme == "http" and host in LOOPBACK)
        plain = parts.username is None and parts.password is None and not parts.query and not parts.fragment
        if not secure or not plain or named not in self._account.allowed_hosts or not _PATH.fullmatch(parts.path):
            raise _refused("names a certificate that isn't at one of the allowed hosts of PayPal's")

    async def _fetch(self, url: str, now: datetime) -> RSAPublicKey:
        answer = await self._client.fetch(url, bytes_max=FILE_BYTES_MAX)
        if answer.status == 404:
            raise _refused("names a certificate that PayPal doesn't have")
        if answer.status != 200:
            raise EffectUnknown(f"PayPal's certificate can't be fetched now: HTTP {answer.status}")
        try:
            leaf, *between = x509.load_pem_x509_certificates(answer.body)
        except ValueError:
            raise EffectUnknown("what PayPal gives as its certificate isn't one in PEM") from None
        key = self._verified(leaf, between, now)
        self._known[url] = _Known(key, min(now + CACHED_FOR, leaf.not_valid_after_utc))
        while len(self._known) > CACHED_MAX:
            self._known.popitem(last=False)
        return key

    def _verified(self, leaf: x509.Certificate, between: list[x509.Certificate], now: datetime) -> RSAPublicKey:
        """The leaf's key, if a root of ours signed for it and for one of PayPal's names (RFC 5280)."""
        key = leaf.public_key()
        if not isinstance(key, RSAPublicKey) or key.key_size < _KEY_BITS_MIN:
            raise _refused(f"names a certificate without an RSA key of {_KEY_BITS_MIN} bits at least")
        policy = PolicyBuilder().store(self._roots).time(now)
        for name in self._account.certificate_signers:
            try:
                policy.build_server_verifier(x509.DNSName(name)).verify(leaf, between)
            except VerificationError:
                continue
            return key
        raise _refused("names a certificate that no allowed authority made out to PayPal, or one that isn't valid now")

    @cached_property
    def _roots(self) -> Store:
        told = self._account.certificate_roots
        if told is None:
            import certifi

            told = certifi.contents().encode()
        try:
            return Store(x509.load_pem_x509_certificates(told))
        except ValueError:
            raise RailMisconfigured(
                f"rail {self._account.name}: certificate_roots holds no certificate in PEM", param="certificate_roots"
            ) from None


def _refused(why: str) -> WebhookRefused:
    return WebhookRefused(f"the webhook {why}", reason=RefusalReason.WRONG_SIGNATURE)
