"""A whole installation in the test's own process, on a real chain: its settings, its worker's steps, its API.

async with whole_house(chain, database, tmp_path) as house:
    to = await house.address(house.alice)
    chain.transfer("USDC", to, 5_000_000)
    await house.work(blocks=4)
    assert (await house.deposits(house.alice))[0]["state"] == "final"
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr
from starlette.datastructures import State

from api.app import create_app
from base.clock import SystemClock
from base.errors import Unavailable
from db.changes import state
from ledger.accounts import HOUSE
from tests.api.conftest import Caller, require_declared_shape, settings_for
from tests.support.chain import RunningChain
from tests.support.postgres import Database
from tests.support.signer import RunningSigner
from wiring.assemble import build_services
from wiring.parts import Parts, open_parts
from wiring.preparing import prepare_book
from wiring.services import Services
from wiring.steps import Step, open_steps
from wiring.wallet import build_own_signer

ROUNDS_MAX = 60
"""Rounds of all steps after which a house must have come to rest."""

BESIDE = "beside"
"""The second network's name, of a house that has one."""

TAKING_IN = "follow:"
"""The steps that find something to do in every block."""


@dataclass
class WholeHouse:
    """Alice and Bob have user keys. `trouble`: what each step could not do when it last ran."""

    chain: RunningChain
    beside: RunningChain | None
    parts: Parts
    services: Services
    steps: Mapping[str, Step]
    api: httpx.AsyncClient
    alice: Caller
    bob: Caller
    treasurer: Caller
    trouble: dict[str, Unavailable] = field(default_factory=dict)

    @property
    def chains(self) -> dict[str, RunningChain]:
        """Each network's chain, by the network's name."""
        return {"local": self.chain} | ({} if self.beside is None else {BESIDE: self.beside})

    async def work(self, *, blocks: int = 0, only: str = "") -> bool:
        """Mine on each network, then run the worker's steps (those whose names begin with `only`) until nothing moves.

        Whether there was more to do than taking in the blocks. Who found nothing isn't tried again before anything was
        written (`db.changes`), as in the worker.
        """
        if blocks:
            for chain in self.chains.values():
                chain.mine(blocks)
        found_work = False
        wanted = {name: step for name, step in self.steps.items() if name.startswith(only)}
        found_nothing_in: dict[str, str] = {}
        for _ in range(ROUNDS_MAX):
            moved = 0
            self.trouble.clear()
            for name, step in wanted.items():
                before = await state(self.parts.engine)
                if found_nothing_in.get(name) == before:
                    continue
                try:
                    done = await step()
                except Unavailable as problem:
                    self.trouble[name] = problem
                    continue
                moved += done
                found_work |= bool(done) and not name.startswith(TAKING_IN)
                if not done:
                    found_nothing_in[name] = before
            if not moved:
                return found_work
        raise AssertionError(f"the house never came to rest; trouble: {self.trouble}")

    async def address(self, who: Caller) -> str:
        """Their deposit address, in lower case."""
        asked = await who.post("/v1/deposit-addresses", {"network": "local"})
        return str(asked.json()["address"]).lower()

    async def items(self, who: Caller, path: str) -> list[dict[str, Any]]:
        """What a list shows them."""
        answer = await who.get(path)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["items"]
        return found

    async def deposits(self, who: Caller) -> list[dict[str, Any]]:
        """What they see of their deposits, in the order of the chain, the newest first."""
        found = await self.items(who, "/v1/deposits")
        return sorted(found, key=lambda deposit: (deposit["block_number"], deposit["seen_at"]), reverse=True)

    async def balance(self, who: Caller, asset: str = "USDC") -> str:
        """What they are told that they have; "0" of what they never had."""
        items = await self.items(who, "/v1/balances")
        return next((str(item["balance"]) for item in items if item["asset"] == asset), "0")

    async def house(self, purpose: str, asset: str = "USDC") -> int:
        """The balance of the house's own account for this purpose, in smallest units."""
        account = await self.services.ledger.account(f"{HOUSE}/{purpose}/{asset}")
        return 0 if account is None else account.balance

    async def network(self) -> dict[str, Any]:
        """What everybody is told of the network."""
        (found,) = await self.items(self.alice, "/v1/networks")
        return found

    async def alerts(self) -> dict[str, dict[str, Any]]:
        """What the treasurer is alerted to, by code; of several with one code the last."""
        return {item["code"]: item for item in await self.items(self.treasurer, "/v1/treasury/alerts")}

    async def require_agreement(self) -> None:
        """The book is balanced, and what our addresses hold on chain."""
        run = await self.services.reconciler.run()
        judged = {one.network: one.skipped for one in run.networks}
        assert (run.breaks, run.in_flight, judged) == ((), (), dict.fromkeys(self.chains))


@asynccontextmanager
async def whole_house(
    chain: RunningChain,
    database: Database,
    home: Path,
    *,
    signer: RunningSigner | None = None,
    network: Mapping[str, Any] | None = None,
    usdc: Mapping[str, Any] | None = None,
    ether: Mapping[str, Any] | None = None,
    tokens: Sequence[Mapping[str, Any]] = (),
    again: WholeHouse | None = None,
    beside: RunningChain | None = None,
    **more: Any,
) -> AsyncIterator[WholeHouse]:
    """The house that follows `chain`. `network`, `usdc`, `ether` and `more` change the settings of its network, of the
    two deployments there, and its others; `tokens` are deployments beside those. `again`: its people are this house's,
    which its database knows. `beside`: the chain of a second network, with USDC and ETH and the same settings."""
    chains = {"local": chain} | ({} if beside is None else {BESIDE: beside})
    settings = settings_for(
        home,
        networks=[
            {
                "name": name,
                "chain_id": one.chain_id,
                "rpc_urls": [one.url],
                "native_asset": "ETH",
                "spendable_depth": 2,
                "final_depth": 4,
                **(network or {}),
            }
            for name, one in chains.items()
        ],
        deployments=[
            placed
            for name, one in chains.items()
            for placed in (
                {"asset": "USDC", "network": name, "contract": one.token("USDC"), "decimals": 6, **(usdc or {})},
                {"asset": "ETH", "network": name, "decimals": 18, **(ether or {})},
            )
        ]
        + [{"network": "local", **token} for token in tokens],
        database_url=SecretStr(database.app_url),
        database_owner_url=SecretStr(database.owner_url),
        **({} if signer is None else {"xpubs": dict(signer.xpubs), "signer_socket": signer.socket}),
        **more,
    )
    rates = home / "rates.toml"
    rates.write_text(rates.read_text().replace("2026-01-01T00:00:00Z", SystemClock().now().isoformat()))
    await prepare_book(settings, report=lambda _: None)
    async with (
        open_parts(settings, name="test") as parts,
        open_steps(parts, None if signer is None else build_own_signer(parts)) as steps,
    ):
        services = build_services(parts)
        app = create_app(services)
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        hooks = {"response": [require_declared_shape]}
        async with httpx.AsyncClient(transport=transport, base_url="http://onebook.test", event_hooks=hooks) as api:
            identity = services.identity
            if again is None:
                alice, bob, treasurer = await _people(services, api)
            else:
                alice, bob, treasurer = (replace(one, api=api) for one in (again.alice, again.bob, again.treasurer))
            yield WholeHouse(chain, beside, parts, services, steps, api, alice, bob, treasurer)
        app.state, app.middleware_stack = State(), None  # FastAPI's caches keep every app there ever was
        await identity.aclose()


async def _people(services: Services, api: httpx.AsyncClient) -> tuple[Caller, Caller, Caller]:
    """Alice, Bob and the treasurer."""
    identity, people = services.identity, list[Caller]()
    for handle in ("alice", "bob"):
        user = await identity.create_user(handle=handle)
        key = await identity.create_key(label=handle, scopes=["user"], user=user.id)
        people.append(Caller(api, key.secret, user.id))
    alice, bob = people
    return alice, bob, Caller(api, (await identity.create_key(label="treasurer", scopes=["treasury"])).secret)
