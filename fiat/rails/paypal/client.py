"""HTTP to PayPal's API: a token that is fetched once for all, keys that make calls safe to repeat, errors told apart.

OAuth 2.0 client credentials (RFC 6749, 4.4). Nothing is sent again on its own, except once with a new token after an
HTTP 401, which had no effect. Neither a body nor a token ever gets into an error.
"""

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import httpx

from base import tracing
from base.clock import Clock
from fiat.rails.errors import EffectUnknown, RateLimited, RefusedByProvider
from fiat.rails.paypal.account import PayPalAccount
from fiat.rails.paypal.refusals import read_refusal

ANSWER_BYTES_MAX = 8 * 1024 * 1024
"""The largest answer that is read; a full page of disputes has some hundred kilobytes."""

TOKEN_MARGIN = timedelta(minutes=5)
"""A token isn't used in its last minutes (it lives for nine hours), lest it end on the way."""

RETRY_AFTER_SECONDS_MAX = 3600

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Token:
    """What a call is authorised by, until `good_until` by our clock."""

    value: str = field(repr=False)
    good_until: datetime


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and the bytes that came with it. A 4xx has been told apart by who reads it."""

    status: int
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)

    def json(self) -> Any:
        """The body's JSON. Raises ValueError, also for what isn't UTF-8."""
        return json.loads(self.body)


class Client:
    """Calls of one account. Safe for many tasks at once."""

    def __init__(
        self, account: PayPalAccount, *, clock: Clock, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        """`transport`: what carries the calls; None for httpx's own, which repeats nothing."""
        self._account = account
        self._clock = clock
        self._http = httpx.AsyncClient(
            base_url=account.base_url,
            timeout=account.call_seconds,
            follow_redirects=False,
            transport=transport,
            headers={"accept": "application/json", "user-agent": "onebook"},
        )
        self._token: Token | None = None
        self._fetching = asyncio.Lock()

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Json:
        """The object at `path`. Raises Refusal (404 among others), RateLimited, RefusedByProvider, EffectUnknown."""
        return _object(await self._call("GET", path, query=query), "GET", path)

    async def post(self, path: str, body: Json, *, key: str) -> Json:
        """Do what `body` says, once under `key`; what came of it, whole where PayPal has a choice. Raises as `get`."""
        headers = {"paypal-request-id": key}
        if path.startswith("/v2/"):
            headers["prefer"] = "return=representation"
        answer = await self._call("POST", path, content=json.dumps(body).encode(), headers=headers)
        return {} if answer.status == 204 else _object(answer, "POST", path)

    async def fetch(self, url: str, *, bytes_max: int) -> Answer:
        """A public file by its whole address, without our token. Raises EffectUnknown."""
        async with _lost(f"GET {url}"):
            return await self._send(self._http.build_request("GET", url), bytes_max)

    async def aclose(self) -> None:
        await self._http.aclose()

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        typed = {"content-type": "application/json"} if content is not None else {}
        token = await self._bearer()
        for last in (False, True):
            told = {**(headers or {}), **typed, "authorization": f"Bearer {token.value}"}
            request = self._http.build_request(method, path, params=query, content=content, headers=told)
            async with _lost(f"{method} {path}"):
                answer = await self._send(request, ANSWER_BYTES_MAX)
            if answer.status != 401 or last:
                break
            if self._token is token:
                self._token = None
            token = await self._bearer()
        _require_done(answer, f"{method} {path}")
        return answer

    async def _bearer(self) -> Token:
        """A token with some life left; many that need one wait for the same."""
        async with self._fetching:
            if self._token is None or self._clock.now() >= self._token.good_until:
                self._token = await self._new_token()
            return self._token

    async def _new_token(self) -> Token:
        asked_at, path = self._clock.now(), "/v1/oauth2/token"
        request = self._http.build_request(
            "POST",
            path,
            content=b"grant_type=client_credentials",
            headers={
                "content-type": "application/x-www-form-urlencoded",
                "authorization": _basic(self._account),
            },
        )
        async with _lost(f"POST {path}"):
            answer = await self._send(request, ANSWER_BYTES_MAX)
        if answer.status in (400, 401, 403):
            raise RefusedByProvider(
                f"PayPal gives rail {self._account.name} no token (HTTP {answer.status}): client_id and client_secret"
                " must be of one app, and of the same mode (live or sandbox) as the address that's asked"
            )
        _require_done(answer, f"POST {path}")
        told = _object(answer, "POST", path)
        value, seconds = told.get("access_token"), told.get("expires_in")
        if not isinstance(value, str) or not value.isascii() or not isinstance(seconds, int):
            raise EffectUnknown("PayPal's answer to a request for a token has none in it")
        life = timedelta(seconds=seconds)
        return Token(value, asked_at + max(life - TOKEN_MARGIN, life // 2))

    async def _send(self, request: httpx.Request, bytes_max: int) -> Answer:
        with tracing.child(f"paypal {request.method} {_shape(request.url.path)}", tracing.Kind.CLIENT):
            answer = await self._http.send(request, stream=True)
            try:
                body = bytearray()
                async for part in answer.aiter_bytes():
                    body += part
                    if len(body) > bytes_max:
                        raise EffectUnknown(f"PayPal's answer is larger than {bytes_max} bytes")
                return Answer(answer.status_code, bytes(body), answer.headers)
            finally:
                await answer.aclose()


def _shape(path: str) -> str:
    """A path without what names one object of PayPal's: `/v2/checkout/orders/{}/capture`."""
    return "/".join(part if re.fullmatch(r"v[0-9]|[a-z-]*|oauth2", part) else "{}" for part in path.split("/"))


def _basic(account: PayPalAccount) -> str:
    """HTTP Basic (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{account.client_id}:{account.client_secret}".encode()).decode()


@asynccontextmanager
async def _lost(what: str) -> AsyncIterator[None]:
    """An exchange without an answer: whether it had its effect is unknown."""
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        raise EffectUnknown(f"PayPal gave no answer to {what} ({type(error).__name__})") from None


def _require_done(answer: Answer, what: str) -> None:
    """Raises for everything but a 2xx."""
    status, debug = answer.status, answer.headers.get("paypal-debug-id")
    if 200 <= status < 300:
        return
    if status == 429:
        raise RateLimited(f"PayPal wants fewer calls: {what}", retry_after=_retry_after(answer))
    if 400 <= status < 500:
        try:
            body = answer.json()
        except ValueError:
            body = None
        refusal = read_refusal(status, body, debug)
        if status in (401, 403):
            raise RefusedByProvider(f"PayPal lets this app not do {what}: {refusal}")
        raise refusal
    if status >= 500:
        raise EffectUnknown(f"PayPal failed at {what}: HTTP {status}, PayPal's debug id {debug or 'unknown'}")
    raise RefusedByProvider(f"PayPal answered {what} with HTTP {status}: the address isn't that of its API")


def _retry_after(answer: Answer) -> int | None:
    """Seconds (RFC 9110, 10.2.3); a date, or anything else, counts as none."""
    told = answer.headers.get("retry-after", "")
    return min(int(told), RETRY_AFTER_SECONDS_MAX) if told.isascii() and told.isdigit() and len(told) < 9 else None


def _object(answer: Answer, method: str, path: str) -> Json:
    try:
        told = answer.json()
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise EffectUnknown(f"PayPal's answer to {method} {path} can't be read: HTTP {answer.status} without an object")
    return told
