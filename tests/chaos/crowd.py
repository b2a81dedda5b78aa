"""The users: hundreds of people at the API who ask, repeat what got no answer, and write down what they were told.

A request is repeated with its key until somebody says what became of it; some are sent three times side by side from
the start. What is asked, and when, is the plan's.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import httpx

from chain.evm.addresses import show_address
from tests.chaos.house import NETWORK
from tests.chaos.outside import Outside
from tests.chaos.plan import Asking, Fate, Wish
from tests.chaos.records import Asked

SCALES = {"USDC": 6, "ETH": 18}
ANSWER_SECONDS = 15.0
"""After so long a request is repeated. The API answers sooner, if only that it's busy."""

AGAIN_SECONDS = 0.2
COMING_AT_ONCE = 8
"""New users are made so many at once: fewer than a process has connections to the database."""

AT_ONCE = 64
"""Requests under way together at most."""


@dataclass(slots=True)
class Crowd:
    """People with keys. `asked` is what the checker gets; `told` counts answers by what they were."""

    api_url: str
    outside: Outside
    ids: list[str] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list, repr=False)
    addresses: list[str] = field(default_factory=list)
    """Deposit addresses, in lower-case hex."""
    asked: list[Asked] = field(default_factory=list)
    told: Counter[str] = field(default_factory=Counter)
    treasurer: str = field(default="", repr=False)
    given_up: asyncio.Event = field(default_factory=asyncio.Event)
    """Once set nothing is repeated any more."""
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    _http: httpx.AsyncClient = field(init=False, repr=False)

    def __post_init__(self) -> None:
        limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
        self._http = httpx.AsyncClient(base_url=self.api_url, timeout=ANSWER_SECONDS, limits=limits, trust_env=False)

    async def close(self) -> None:
        await self._http.aclose()

    async def gather(self, count: int, operator_key: str) -> None:
        """So many users come, each with a key and a deposit address."""

        few = asyncio.Semaphore(COMING_AT_ONCE)

        async def one(number: int) -> None:
            async with few:
                user = await self.must("/v1/users", {"handle": f"user_{number}"}, secret=operator_key)
                wanted = {"label": "chaos", "scopes": ["user"], "user": user["id"]}
                secret = (await self.must("/v1/api-keys", wanted, secret=operator_key))["secret"]
                given = await self.must("/v1/deposit-addresses", {"network": NETWORK}, secret=secret)
                self.ids[number], self.secrets[number] = user["id"], secret
                self.addresses[number] = given["address"].lower()

        for many in (self.ids, self.secrets, self.addresses):
            many.extend([""] * count)
        await asyncio.gather(*(one(number) for number in range(count)))

    async def must(self, path: str, body: object, *, secret: str, key: str | None = None) -> Any:
        """POST what has to be accepted."""
        answer = await self._http.post(path, json=body, headers=_headers(secret, key), timeout=60)
        assert answer.is_success, f"{path}: {answer.status_code} {answer.text}"
        return answer.json()

    # What users ask

    async def ask(self, wanted: Asking) -> None:
        """Do what the plan says of one user, to its answer."""
        match wanted.wish:
            case Wish.WITHDRAW:
                await self._withdraw(wanted)
            case Wish.TRANSFER:
                await self._transfer(wanted)
            case Wish.CONVERT:
                await self._convert(wanted)

    async def _withdraw(self, wanted: Asking) -> None:
        asked = self._note(wanted, "/v1/withdrawals", address=wanted.address)
        body = {
            "asset": wanted.asset,
            "network": NETWORK,
            "address": show_address(wanted.address),
            "amount": wanted.amount,
        }
        answer = await self._send(wanted, asked, body)
        if answer is None:
            return
        if wanted.fate is Fate.BLACKLISTED:
            await self.outside.blacklist(wanted.address)
        if wanted.fate is Fate.CANCELLED:
            await self._decided(wanted.user, f"/v1/withdrawals/{answer['id']}/cancel", None, f"cancel-{wanted.number}")

        if wanted.fate is Fate.CALLED_BACK:
            await asyncio.sleep(wanted.later)
            path, key = f"/v1/treasury/withdrawals/{answer['id']}/cancellations", f"back-{wanted.number}"
            ended = await self._repeated(path, {"reason": "called back"}, self.treasurer, key)
            if ended is not None:
                self.told[f"called back: {ended.status_code}"] += 1

    async def _transfer(self, wanted: Asking) -> None:
        asked = self._note(wanted, "/v1/transfers", other=self.ids[wanted.other])
        body = {"recipient": self.ids[wanted.other], "asset": wanted.asset, "amount": wanted.amount}
        await self._send(wanted, asked, body)

    async def _convert(self, wanted: Asking) -> None:
        buy = "ETH" if wanted.asset == "USDC" else "USDC"
        body = {"sell": wanted.asset, "buy": buy, "sell_amount": wanted.amount}
        quote = await self._decided(wanted.user, "/v1/quotes", body, None)
        if quote is None or not quote.is_success:
            self.told["quote refused"] += 1
            return
        told = quote.json()
        asked = self._note(wanted, "/v1/conversions")
        asked.gives = (wanted.asset, _units(told["sell_amount"], wanted.asset))
        asked.gets = (buy, _units(told["buy_amount"], buy))
        await self._send(wanted, asked, {"quote": told["id"]})

    def _note(self, wanted: Asking, route: str, *, other: str = "", address: str = "") -> Asked:
        asked = Asked(
            kind=wanted.wish.value,
            user=self.ids[wanted.user],
            route=route,
            key=f"{wanted.wish.value}-{wanted.number}",
            gives=(wanted.asset, _units(wanted.amount, wanted.asset)),
            other=other,
            address=address,
        )
        self.asked.append(asked)
        return asked

    async def _send(self, wanted: Asking, asked: Asked, body: object) -> Any | None:
        """Send it, as often side by side as the plan says; what was made of it, if it was accepted."""
        copies = (self._decided(wanted.user, asked.route, body, asked.key, asked=asked) for _ in range(wanted.times))
        made: Any | None = None
        for answer in await asyncio.gather(*copies):
            if answer is None:
                continue
            found = answer.json()
            if answer.is_success:
                asked.ids.add(found["id"])
                made = found
            else:
                asked.refusals.add(found["code"])
            self.told[found["code"] if not answer.is_success else f"{asked.kind} accepted"] += 1
        return made

    async def _decided(
        self, user: int, path: str, body: object, key: str | None, *, asked: Asked | None = None
    ) -> httpx.Response | None:
        """As `_repeated`, by a user, counted in `asked`."""
        return await self._repeated(path, body, self.secrets[user], key, asked=asked)

    async def _repeated(
        self, path: str, body: object, secret: str, key: str | None, *, asked: Asked | None = None
    ) -> httpx.Response | None:
        """The answer that decides, however often it takes; None once all give up."""
        while True:
            async with self._turns:
                if asked is not None:
                    asked.sent += 1
                try:
                    answer = await self._http.post(path, json=body, headers=_headers(secret, key))
                except httpx.HTTPError as problem:
                    self.told[type(problem).__name__] += 1
                else:
                    if _decides(answer):
                        return answer
                    self.told[f"HTTP {answer.status_code}"] += 1
            if self.given_up.is_set():
                return None
            await asyncio.sleep(AGAIN_SECONDS)


def _decides(answer: httpx.Response) -> bool:
    """Whether it says what became of the request, and not only that it should come again."""
    return answer.status_code < 500 and "Retry-After" not in answer.headers


def _headers(secret: str, key: str | None) -> dict[str, str]:
    named = {} if key is None else {"Idempotency-Key": key}
    return {"Authorization": f"Bearer {secret}", **named}


def _units(amount: str, asset: str) -> int:
    return int(Decimal(amount).scaleb(SCALES[asset]))


async def in_time(
    tasks: asyncio.TaskGroup, many: Iterable[Any], do: Callable[[Any], Coroutine[Any, Any, None]], *, begun: float
) -> None:
    """Do each when its time has come, side by side with those before it."""
    loop = asyncio.get_running_loop()
    for one in many:
        await asyncio.sleep(max(0.0, begun + one.at - loop.time()))
        tasks.create_task(do(one))
