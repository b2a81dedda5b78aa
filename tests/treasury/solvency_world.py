"""A whole house with a real signer on a real chain that makes epochs, has them signed, sealed and written on the chain.

async with solvent_house(chain, signer, database, tmp_path) as house:
    await open_house(house, signer)
    epoch = await made(house)
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from custody.derivation import Role
from ledger.sealing import SealBook
from ledger.seals import load_seal_key, make_seal_key
from tests.support.chain import RunningChain
from tests.support.postgres import Database
from tests.support.signer import RunningSigner, generous_policy, start_signer
from tests.support.whole_house import WholeHouse, whole_house
from treasury.solvency_epochs import KnownEpoch

ANCHOR = "0x00000000000000000000000000000000000a2c40"
"""Where hashes are written: an address that nobody has."""

ETHER = 10**18


def anchoring_policy(chain: RunningChain, *, to: str = ANCHOR, anchors: bool = True) -> str:
    """A generous policy, with a rule for anchors if so."""
    rule = f"""
[[rules]]
name = "epochs are anchored"
kind = "anchor"
role = "gas"
chain_id = {chain.chain_id}
to = ["{to}"]
fee_wei_max = "{10**17}"
"""
    return generous_policy(chain.chain_id, chain.token("USDC").lower()) + (rule if anchors else "")


@contextmanager
def running_signer(folder: Path, policy: str):
    """A signer's process with this policy, ended on leaving."""
    signer = start_signer(folder / "signer", policy)
    try:
        yield signer
    finally:
        signer.stop()


def solvent_house(
    chain: RunningChain,
    signer: RunningSigner,
    database: Database,
    folder: Path,
    *,
    solvency: Mapping[str, Any] | None = None,
    again: WholeHouse | None = None,
    **more: Any,
) -> AbstractAsyncContextManager[WholeHouse]:
    """A house whose book is sealed, and whose epochs are written on its chain unless `solvency` says otherwise."""
    folder.mkdir(exist_ok=True)
    if not (folder / "seal.key").exists():
        make_seal_key(folder / "seal.key")
    told = {"anchor": {"network": "local", "to": ANCHOR}} if solvency is None else dict(solvency)
    return whole_house(chain, database, folder, signer=signer, again=again, solvency=told, **more)


async def open_house(house: WholeHouse, signer: RunningSigner, *, gas: int = ETHER) -> None:
    """Alice has 100 USDC; the hot address as much, and the gas address so many wei, which are the house's capital."""
    await house.work()
    house.chain.faucet(address(signer, Role.HOT), 100 * 10**6, "USDC")
    if gas:
        house.chain.faucet(address(signer, Role.GAS), gas)
    house.chain.transfer("USDC", await house.address(house.alice), 100 * 10**6)
    await house.work(blocks=5)


def address(signer: RunningSigner, role: Role) -> str:
    return "0x" + signer.address(role).hex()


async def made(house: WholeHouse) -> KnownEpoch:
    """An epoch, made by what the worker and the command use, signed and sealed as far as the signer lets it."""
    await house.work()
    epoch = await house.services.epochs.make()
    await seal(house)
    await house.steps["solvency-ends"]()
    return await house.services.epochs.epoch(epoch.row.number)


async def unanchored(house: WholeHouse) -> KnownEpoch:
    """A sealed epoch, while the step that would write its hash doesn't run."""
    steps = dict(house.steps)
    house.steps = {name: step for name, step in steps.items() if name != "solvency-anchors"}
    try:
        return await made(house)
    finally:
        house.steps = steps


async def seal(house: WholeHouse) -> None:
    """Seal what was booked now, as the worker does every ten minutes."""
    settings, parts = house.parts.settings, house.parts
    sealing = SealBook(
        parts.engine,
        book=settings.book,
        key=load_seal_key(settings.path(settings.seal_key)),
        folder=settings.path(settings.seals),
        clock=parts.clock,
        interval=timedelta(),
    )
    await sealing.step()


async def shown(house: WholeHouse, number: int | None = None) -> dict[str, Any]:
    """An epoch as the treasurer sees it; without a number the latest."""
    items = await house.items(house.treasurer, "/v1/treasury/solvency")
    return items[0] if number is None else next(one for one in items if one["number"] == number)


async def written(house: WholeHouse) -> AsyncIterator[str]:
    """Everything that was ever written to the anchor's address on the live chain, in order."""
    for height in range(house.chain.height() + 1):
        block = house.chain.rpc("eth_getBlockByNumber", hex(height), True)
        for one in block["transactions"]:
            if one["to"] == ANCHOR:
                yield one["input"]
