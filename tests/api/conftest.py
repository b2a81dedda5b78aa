"""The whole application on a real database, asked over ASGI; only the chain's node is left out, by fixed fees."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.datastructures import State

from api.app import create_app
from api.door import ProblemView
from api.routes import ROUTERS
from base.clock import ManualClock
from base.entropy import SeededEntropy
from chain.addresses import enrol, house
from chain.fees import Bid, FeeEstimate
from chain.senders import Assigned, Wanted
from chain.signing import OwnKey, Role
from custody.derivation import AccountKeys
from custody.derivation import Role as CustodyRole
from db.engine import tx
from exchange.rates_file import RatesFile
from fiat.personal import KEY_NAME, make_key_file
from ledger.accounts import house_account, user_account
from ledger.commands import Post, Posting, alone
from ledger.money import Asset, parse_amount
from ledger.outcomes import require_accepted
from ledger.service import PostgresLedger
from tests.support.postgres import Database
from wallet.withdrawals import Withdrawals
from wiring.assemble import build_services
from wiring.parts import Parts, build_registry
from wiring.services import Services
from wiring.settings import Settings
from wiring.signing import XpubAddresses

SEED = bytes(range(64))
ROUTES = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
USDC = "0x" + "c5" * 20

RATES = """
as_of = 2026-01-01T00:00:00Z
max_age_seconds = 86400
spread_basis_points = 50
pivot = "USD"

[[pairs]]
base = "EUR"
quote = "USD"
rate = "1.0842"

[[pairs]]
base = "USDC"
quote = "USD"
rate = "1"

[[pairs]]
base = "ETH"
quote = "USD"
rate = "2500.50"
"""


def settings_for(home: Path, **more: Any) -> Settings:
    """An installation with three assets, one network and one bank account."""
    (home / "rates.toml").write_text(RATES)
    if not (home / KEY_NAME).exists():
        make_key_file(home / KEY_NAME)
    xpubs = {str(role): AccountKeys(role, SEED).xpub for role in CustodyRole}
    told: dict[str, Any] = {
        "home": home,
        "xpubs": xpubs,
        "assets": [
            {"code": "EUR", "kind": "fiat", "scale": 2},
            {"code": "USDC", "kind": "stablecoin", "scale": 6},
            {"code": "ETH", "kind": "crypto", "scale": 18},
        ],
        "networks": [
            {
                "name": "local",
                "chain_id": 31337,
                "rpc_urls": ["http://127.0.0.1:9"],
                "native_asset": "ETH",
                "spendable_depth": 2,
                "final_depth": 4,
            }
        ],
        "deployments": [
            {"asset": "USDC", "network": "local", "contract": USDC, "decimals": 6, "withdrawal_minimum": "0.50"},
            {"asset": "ETH", "network": "local", "decimals": 18},
        ],
        "bank_accounts": [{"name": "main", "iban": "DE89370400440532013000", "asset": "EUR"}],
        "bank": {"folder": "bank"},
    }
    return Settings(**told | more)


class OneSender:
    """The first hot address pays everything: there is no node that could tell what it holds."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine

    async def assign(self, network: str, wanted: Sequence[Wanted]) -> list[Assigned]:
        async with tx(self.engine) as connection:
            hot = await house(connection, key=OwnKey(Role.HOT, 0))
        return [hot for _ in wanted]


class FixedFees:
    """What a node would say: 65,000 gas at 20 gwei at most."""

    async def estimate(self, deployment, *, sender, to, amount, tried=True):
        return FeeEstimate(65_000, Bid(10 * 10**9, 10**9), 65_000 * 5 * 10**9, 65_000 * 20 * 10**9)


@dataclass
class Caller:
    """Somebody with a key (or none), asking over HTTP. Every request gets an idempotency key unless it brings one."""

    api: httpx.AsyncClient
    secret: str | None = field(repr=False)
    user: str | None = None
    numbers: Iterator[int] = field(default_factory=itertools.count)

    async def get(self, path: str, *, headers: dict[str, str] | None = None, **query: Any) -> httpx.Response:
        return await self.api.get(path, params=query, headers=self._headers(headers))

    async def post(
        self, path: str, body: Any = None, *, key: str | None = "", headers: dict[str, str] | None = None, **more: Any
    ) -> httpx.Response:
        more_headers = dict(headers or {})
        if key is not None:
            more_headers["Idempotency-Key"] = key or f"test-{next(self.numbers)}"
        if body is not None:
            more["json"] = body
        return await self.api.post(path, headers=self._headers(more_headers), **more)

    async def put(self, path: str, body: Any) -> httpx.Response:
        return await self.api.put(path, headers=self._headers(None), json=body)

    def _headers(self, headers: dict[str, str] | None) -> dict[str, str]:
        own = {} if self.secret is None else {"Authorization": f"Bearer {self.secret}"}
        return own | (headers or {})


@dataclass
class Stage:
    """An application and the people around it: alice and bob have user keys."""

    app: FastAPI
    services: Services
    api: httpx.AsyncClient
    operator: Caller
    treasurer: Caller
    alice: Caller
    bob: Caller
    nobody: Caller

    async def fund(self, who: Caller, amount: str, asset: str) -> None:
        """Put value into a user's account, out of the house's capital."""
        assert who.user is not None
        await self.fund_account(user_account(who.user, asset), amount)

    async def fund_account(self, account: str, amount: str) -> None:
        ledger = self.services.ledger
        asset = await ledger.asset(account.rsplit("/", 1)[1])
        source = house_account("capital", asset.code)
        await ledger.ensure_open(account, source)
        post = Post(
            id=f"test:fund:{self.services.entropy.draw(8).hex()}",
            postings=(Posting(source, account, asset.code, parse_amount(amount, asset)),),
        )
        (outcomes,) = await ledger.submit(alone(post))
        require_accepted(outcomes)

    async def another_treasurer(self, person: str | None = None) -> Caller:
        """Somebody with a treasury key of their own, or with one more key of a person."""
        asked = {"label": "another treasurer", "scopes": ["treasury"], "person": person}
        made = await self.operator.post("/v1/api-keys", {name: told for name, told in asked.items() if told})
        assert made.status_code == 201, made.text
        return Caller(self.api, made.json()["secret"])


async def require_declared_shape(response: httpx.Response) -> None:
    """Whatever a resource answers has exactly the fields that the API's description says."""
    kind = response.headers.get("content-type", "")
    path = response.request.url.path
    if not path.startswith("/v1/") or "json" not in kind:
        return
    shown = json.loads(await response.aread())
    if response.is_error:
        assert set(ProblemView.__annotations__) - {"param"} <= shown.keys(), shown
        return
    route = next(
        route for route in ROUTES if route.path_regex.match(path) and response.request.method in (route.methods or ())
    )
    assert declared(route.response_model).validate_python(shown, strict=True) == shown  # what isn't declared is dropped


@cache
def declared(model: Any) -> TypeAdapter[Any]:
    """What checks an answer against what its route declares."""
    return TypeAdapter(model)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_for(tmp_path)


@pytest.fixture
async def services(database: Database, settings: Settings, clock: ManualClock, entropy: SeededEntropy) -> Services:
    engine = database.engine()
    if not settings.path(settings.personal_key).exists():
        make_key_file(settings.path(settings.personal_key))
    ledger = PostgresLedger(engine, clock=clock, book=settings.book, entropy=entropy)
    await ledger.create_book()
    for asset in settings.assets:
        await ledger.register_asset(Asset(asset.code, asset.kind, asset.scale))
    parts = Parts(
        settings=settings,
        engine=engine,
        ledger=ledger,
        registry=build_registry(settings),
        nodes={},
        addresses=XpubAddresses(settings.xpubs),
        clock=clock,
        entropy=entropy,
    )
    async with tx(engine) as connection:
        await enrol(connection, parts.addresses, key=OwnKey(Role.HOT, 0), clock=clock)
    withdrawals = Withdrawals(
        engine,
        ledger=ledger,
        registry=parts.registry,
        fees=FixedFees(),
        rates=RatesFile(settings.path(settings.rates), clock=clock),
        senders=OneSender(engine),
        clock=clock,
        entropy=entropy,
        minimums={("local", "USDC"): 500_000},
        maximums={("local", "USDC"): 10_000_000_000},
        source=parts.addresses,
        tariff=parts.terms,
    )
    return build_services(parts, withdrawals=withdrawals)


@pytest.fixture
async def stage(services: Services) -> AsyncIterator[Stage]:
    app = create_app(services)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    hooks = {"response": [require_declared_shape]}
    async with httpx.AsyncClient(transport=transport, base_url="http://onebook.test", event_hooks=hooks) as api:
        identity = services.identity
        operator = Caller(api, (await identity.create_operator_key()).secret)
        treasurer = Caller(api, (await identity.create_key(label="treasurer", scopes=["treasury"])).secret)
        people = {}
        for handle in ("alice", "bob"):
            user = await identity.create_user(handle=handle)
            key = await identity.create_key(label=handle, scopes=["user"], user=user.id)
            people[handle] = Caller(api, key.secret, user.id)
        yield Stage(app, services, api, operator, treasurer, people["alice"], people["bob"], Caller(api, None))
    app.state, app.middleware_stack = State(), None  # FastAPI's caches keep every app there ever was, and all it has


@pytest.fixture
async def address(stage: Stage) -> AsyncIterator[str]:
    """The stage's API on a port."""
    server = uvicorn.Server(uvicorn.Config(stage.app, port=0, lifespan="off", log_level="warning"))
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(60):
        while not server.started:
            await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await serving
