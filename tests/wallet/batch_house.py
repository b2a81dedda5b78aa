"""A whole house that pays together whoever waits at the same time, with a real signer on a real chain.

async with batch_house(anvil, signer, database, tmp_path / "house") as house:
    await open_house(house, signer)
    asked = [await ask(house, f"key {n}", "1.00") for n in range(3)]
    await finish(house)
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from sqlalchemy import select

from base.entropy import SystemEntropy
from chain.evm.addresses import show_address
from custody.derivation import Role
from db.engine import tx
from tests.support.chain import RunningChain
from tests.support.postgres import Database
from tests.support.signer import RunningSigner
from tests.support.whole_house import WholeHouse, whole_house
from wallet.tables import batch_legs, batches
from wiring.wallet import build_payouts

REVERTS = "0x60006000fd"
"""Code that refuses whatever comes."""


def batch_house(
    anvil: RunningChain,
    signer: RunningSigner,
    database: Database,
    folder: Path,
    *,
    again: WholeHouse | None = None,
    policy: Path | None = None,
    network: Mapping[str, Any] | None = None,
    usdc: Mapping[str, Any] | None = None,
) -> AbstractAsyncContextManager[WholeHouse]:
    """A house that pays together whoever waits at the same time. `policy`: its copy, else the signer's own."""
    folder.mkdir(exist_ok=True)
    return whole_house(
        anvil,
        database,
        folder,
        signer=signer,
        again=again,
        network=network,
        usdc=usdc,
        policy=policy or signer.folder / "policy.toml",
        payouts=[{"network": "local", "legs_min": 2, "wait_seconds": 0}],
    )


async def open_house(house: WholeHouse, signer: RunningSigner) -> None:
    """The contract stands; Alice has 100 USDC and one ETH."""
    chain = house.chain
    await house.work()
    for role in (Role.HOT, Role.GAS):
        chain.faucet("0x" + signer.address(role).hex(), 10**19)
    chain.transfer("USDC", "0x" + signer.address(Role.HOT).hex(), 1_000 * 10**6)
    alice = await house.address(house.alice)
    chain.transfer("USDC", alice, 100_000_000)
    chain.faucet(alice, 10**18)
    await house.work(blocks=5)
    payouts = build_payouts(house.parts, "local")
    await payouts.deploy()
    await finish(house)
    assert (await payouts.standing()).stands
    assert await house.balance(house.alice) == "100.00"


async def ask(
    house: WholeHouse, key: str, amount: str, *, asset: str = "USDC", to: str | None = None
) -> dict[str, Any]:
    """Alice's request for a payment to an address that nobody used before, and the withdrawal that it got."""
    to = to or show_address("0x" + SystemEntropy().draw(20).hex())
    body = {"asset": asset, "network": "local", "address": to, "amount": amount}
    asked = await house.alice.post("/v1/withdrawals", body, key=key)
    assert asked.status_code == 201, asked.text
    return {"id": asked.json()["id"], "body": body, "key": key, "to": to}


async def coin_batch(house: WholeHouse) -> list[dict[str, Any]]:
    """Two withdrawals of 0.01 ETH in a batch that isn't signed yet; the first one's recipient will refuse it."""
    coins = []
    for n in range(2):
        to = show_address("0x" + SystemEntropy().draw(20).hex())
        house.chain.rpc("anvil_setBalance", to, hex(1))
        coins.append(await ask(house, f"c{n}", "0.01", asset="ETH", to=to))
    house.chain.mine(5)
    await house.work(only="follow")
    for step in ("withdrawals", "withdrawals", "batches"):
        await house.work(only=step)
    house.chain.rpc("anvil_setCode", coins[0]["to"], REVERTS)
    return coins


async def finish(house: WholeHouse) -> None:
    """Let all that's under way be signed, sent, mined, final and booked."""
    await house.work()
    for _ in range(8):
        if not await house.work(blocks=5):
            return
    raise AssertionError("there is always something to do")


async def now(house: WholeHouse, asked: Sequence[dict[str, Any]], owner: str | None = None) -> list[Any]:
    """These withdrawals as they are."""
    found = {one.id: one for one in await house.services.withdrawals.list_for(owner or house.alice.user or "")}
    return [found[one["id"]] for one in asked]


async def batch_rows(house: WholeHouse) -> tuple[list[Any], list[Any]]:
    """All batches, and their legs in order."""
    async with tx(house.parts.engine) as connection:
        by_place = select(batch_legs).order_by(batch_legs.c.batch, batch_legs.c.position)
        made = (await connection.execute(select(batches).order_by(batches.c.id))).all()
        return list(made), list((await connection.execute(by_place)).all())


async def units(house: WholeHouse, account: str) -> int:
    found = await house.services.ledger.account(account)
    return 0 if found is None else found.balance
