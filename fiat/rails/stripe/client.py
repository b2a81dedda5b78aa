"""Stripe's SDK, asked one request at a time: pinned version, one time-out, no retries, its errors as ours.

Nothing that Stripe says in words goes into an error of ours: its messages may quote what was sent. Codes, parameters'
names and request ids do.
"""

import asyncio
import logging
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from base import tracing
from fiat.rails.errors import Declined, EffectUnknown, RateLimited, RefusedByProvider
from fiat.rails.protocol import CALL_SECONDS
from fiat.rails.stripe.declines import FINAL, LATER, MOVED_ON, REASONS, public
from fiat.rails.stripe.statuses import API_VERSION, Body

if TYPE_CHECKING:
    from stripe import StripeClient, StripeError


_SERVICES = (
    *("payment_intents", "charges", "refunds", "disputes", "payouts", "balance_transactions", "customers"),
    *("payment_methods", "setup_intents", "balance"),
)
_KINDS = (
    *("PaymentIntent", "Charge", "Refund", "Dispute", "Payout", "BalanceTransaction", "Customer", "PaymentMethod"),
    *("SetupIntent", "ListObject", "Balance"),
)


@dataclass(frozen=True, slots=True)
class Answer:
    """`replayed`: this is what the idempotency key's first request was told, maybe long ago."""

    body: Body
    replayed: bool


class CardDeclined(Declined):
    """`intent`: the id of the PaymentIntent or SetupIntent that the card was declined in, if there is one."""

    def __init__(self, *, reason_code: str, intent: str | None) -> None:
        super().__init__(REASONS[reason_code], reason_code=reason_code)
        self.intent = intent


class Refusal(RefusedByProvider):
    """A request that Stripe refused as ours. `param`: the parameter that it names; `reason`: its error code."""

    def __init__(self, message: str, *, param: str | None = None, reason: str | None = None) -> None:
        super().__init__(message)
        self.wrong, self.reason = param, reason


class MovedOn(Refusal):
    """The object isn't in the state that the request needs: read it again."""


class Missing(Refusal):
    """There is no such object (any more)."""


class Client:
    """The SDK's client and how it's asked. `base_url`: of a simulator; None for Stripe itself."""

    def __init__(self, rail: str, *, api_key: str, base_url: str | None, seconds: float = CALL_SECONDS) -> None:
        import stripe

        logging.getLogger("stripe").setLevel(logging.WARNING)  # below that it logs bodies
        stripe.enable_telemetry = False  # a header with timings of earlier requests, and the machine's id
        self._rail = rail
        self._seconds = seconds
        self._http = stripe.HTTPXClient(timeout=seconds)
        addresses = {} if base_url is None else dict.fromkeys(("api", "connect", "files", "meter_events"), base_url)
        self.sdk: StripeClient = stripe.StripeClient(
            api_key,
            stripe_version=API_VERSION,
            base_addresses=addresses,  # type: ignore[arg-type]
            http_client=self._http,
            max_network_retries=0,
        )
        for name in _SERVICES:  # the SDK imports late: better now than within a request's time
            getattr(self.sdk.v1, name)
        for name in _KINDS:
            getattr(stripe, name)

    async def ask(self, call: Awaitable[Any]) -> Answer:
        """One request's answer. Raises what `fiat.rails.protocol` lists, MovedOn and Missing."""
        import stripe

        try:
            with tracing.child(f"stripe {getattr(call, '__qualname__', 'call')}", tracing.Kind.CLIENT):
                async with asyncio.timeout(self._seconds):
                    made = await call
        except TimeoutError:
            raise EffectUnknown(f"{self._rail} gave no answer within {self._seconds:g} s") from None
        except stripe.StripeError as error:
            self._refused(error)
        response = getattr(made, "last_response", None)
        body = getattr(response, "data", None)
        if response is None or not isinstance(body, dict):
            raise EffectUnknown(f"{self._rail} gave an answer that can't be read")
        return Answer(body, response.headers.get("idempotent-replayed") == "true")

    async def find(self, call: Awaitable[Any]) -> Body | None:
        """One object, or None where Stripe has none of this id."""
        try:
            return (await self.ask(call)).body
        except Missing:
            return None

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Around what reads an answer: a shape or a word that isn't Stripe's is an unknown effect."""
        try:
            yield
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise EffectUnknown(
                f"{self._rail} gave an answer that can't be read: {type(error).__name__} {_word(error)}".rstrip()
            ) from None

    async def aclose(self) -> None:
        await self._http.close_async()  # type: ignore[no-untyped-call]

    def _refused(self, error: "StripeError") -> NoReturn:
        status, told = error.http_status, _told(error)
        type_, code = told.get("type"), _text(told.get("code"))
        where = f"HTTP {status}, {type_}, code {code}, request {error.request_id}"
        if status is None or status < 400 or status >= 500 or status == 409 or not told:
            raise EffectUnknown(f"{self._rail} gave no answer that tells what happened ({where})") from None
        if status == 429 or (code in LATER and type_ != "card_error"):
            raise RateLimited(f"{self._rail} asks to wait ({where})", retry_after=_seconds(error)) from None
        if type_ == "card_error":
            reason = public(_text(told.get("decline_code")) or code)
            raise CardDeclined(reason_code=reason, intent=_intent(told)) from None
        if code in FINAL:
            reason = FINAL[code]
            raise Declined(REASONS[reason], reason_code=reason) from None
        kind = MovedOn if code in MOVED_ON else Missing if code == "resource_missing" and status == 404 else None
        param = _text(told.get("param"))
        raise (kind or Refusal)(
            f"{self._rail} refused ({where}, parameter {param})", param=param, reason=code
        ) from None


def _told(error: "StripeError") -> Body:
    body = error.json_body
    told = body.get("error") if isinstance(body, dict) else None
    return told if isinstance(told, dict) else {}


def _text(value: object) -> str | None:
    return value[:80] if isinstance(value, str) else None


def _intent(told: Body) -> str | None:
    for name in ("payment_intent", "setup_intent"):
        intent = told.get(name)
        if isinstance(intent, dict):
            return _text(intent.get("id"))
    return None


def _seconds(error: "StripeError") -> int | None:
    told = (error.headers or {}).get("retry-after", "")
    return int(told) if told.isascii() and told.isdigit() and len(told) < 7 else None


def _word(error: Exception) -> str:
    """The unknown word of a table, if that's what it was: Stripe's, so short and nothing personal."""
    return repr(error.args[0])[:60] if isinstance(error, KeyError) and error.args else ""
