"""Square's SDK, asked one request at a time: pinned version, one time-out, no retries, its errors as ours.

Nothing that Square says in words goes into an error of ours: its messages may quote what was sent. Codes, and the names
of fields do. The SDK's own error shows headers and body; it's never chained to ours.
"""

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from base import tracing
from fiat.rails.errors import Declined, EffectUnknown, RateLimited, RefusedByProvider
from fiat.rails.protocol import CALL_SECONDS
from fiat.rails.square.declines import REASONS, Meaning, meaning, public
from fiat.rails.square.statuses import API_VERSION

if TYPE_CHECKING:
    from square.core.api_error import ApiError
    from square.core.request_options import RequestOptions

T = TypeVar("T")

ONCE: "RequestOptions" = {"max_retries": 0}
"""The SDK would try twice more by itself."""

_UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, OverflowError)


class CardDeclined(Declined):
    """`payment`: the id of the FAILED payment that Square made of it, if there is one."""

    def __init__(self, *, reason_code: str, payment: str | None) -> None:
        super().__init__(REASONS[reason_code], reason_code=reason_code)
        self.payment = payment


class Missing(RefusedByProvider):
    """There is no such object."""


class WrongCursor(RefusedByProvider):
    """A list's cursor that Square doesn't know any more."""


class Client:
    """The SDK's client and how it's asked. `base_url`: Square's own of an environment, or a simulator's."""

    def __init__(self, rail: str, *, access_token: str, base_url: str, seconds: float = CALL_SECONDS) -> None:
        import httpx
        from square import AsyncSquare

        self._rail = rail
        self._seconds = seconds
        self._http = httpx.AsyncClient(timeout=seconds, follow_redirects=False)
        self.sdk = AsyncSquare(
            token=access_token, base_url=base_url, version=API_VERSION, timeout=seconds, httpx_client=self._http
        )

    async def ask(self, call: Awaitable[T], *, later: frozenset[str] = frozenset()) -> T:
        """One request's answer. `later`: codes that here mean to ask again.

        Raises what `fiat.rails.protocol` lists, Missing and WrongCursor.
        """
        import httpx
        from square.core.api_error import ApiError

        try:
            with tracing.child(f"square {getattr(call, '__qualname__', 'call')}", tracing.Kind.CLIENT):
                async with asyncio.timeout(self._seconds):
                    return await call
        except (TimeoutError, httpx.TimeoutException):
            raise EffectUnknown(f"{self._rail} gave no answer within {self._seconds:g} s") from None
        except httpx.HTTPError as error:
            raise EffectUnknown(f"{self._rail} couldn't be asked: {type(error).__name__}") from None
        except ApiError as error:
            self._refused(error, later)
        except _UNREADABLE as error:
            raise self._unreadable(error) from None

    async def find(self, call: Awaitable[T]) -> T | None:
        """One object, or None where Square has none of this id."""
        try:
            return await self.ask(call)
        except Missing:
            return None

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Around what reads an answer: a shape or a word that isn't Square's is an unknown effect."""
        try:
            yield
        except _UNREADABLE as error:
            raise self._unreadable(error) from None

    async def aclose(self) -> None:
        await self._http.aclose()

    def _unreadable(self, error: Exception) -> EffectUnknown:
        word = repr(error.args[0])[:60] if isinstance(error, KeyError) and error.args else ""
        return EffectUnknown(f"{self._rail} gave an answer that can't be read: {type(error).__name__} {word}".rstrip())

    def _refused(self, error: "ApiError", later: frozenset[str]) -> NoReturn:
        status, told = error.status_code or 0, _first(error.body)
        code, category = _text(told.get("code")), _text(told.get("category"))
        where = f"HTTP {status}, {category}, code {code}, field {_text(told.get('field'))}"
        if status == 429 or (code in later and 400 <= status < 500):
            raise RateLimited(f"{self._rail} asks to wait ({where})", retry_after=_seconds(error)) from None
        if not 400 <= status < 500 or not code:
            raise EffectUnknown(f"{self._rail} gave no answer that tells what happened ({where})") from None
        match meaning(code, category):
            case Meaning.UNKNOWN:
                raise EffectUnknown(f"{self._rail} gave no answer that tells what happened ({where})") from None
            case Meaning.LATER:
                raise RateLimited(f"{self._rail} asks to wait ({where})", retry_after=_seconds(error)) from None
            case Meaning.DECLINED:
                raise CardDeclined(reason_code=public(code), payment=_payment(error.body)) from None
            case Meaning.REFUSED:
                kind = {"NOT_FOUND": Missing, "INVALID_CURSOR": WrongCursor}.get(code, RefusedByProvider)
                raise kind(f"{self._rail} refused ({where})") from None


def _first(body: Any) -> dict[str, Any]:
    errors = body.get("errors") if isinstance(body, dict) else None
    first = errors[0] if isinstance(errors, list) and errors else None
    return first if isinstance(first, dict) else {}


def _payment(body: Any) -> str | None:
    payment = body.get("payment") if isinstance(body, dict) else None
    found = payment.get("id") if isinstance(payment, dict) else None
    return found if isinstance(found, str) else None


def _text(value: object) -> str:
    return value[:80] if isinstance(value, str) else ""


def _seconds(error: "ApiError") -> int | None:
    told = (error.headers or {}).get("retry-after", "")
    return int(told) if told.isascii() and told.isdigit() and len(told) < 7 else None
