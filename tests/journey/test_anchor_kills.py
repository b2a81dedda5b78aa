"""The worker killed with SIGKILL while an epoch's hash is written on the chain: it's there once, gas booked once."""

import asyncio
import json
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any, cast

import pytest

from chain.signing import OwnKey, Role
from ledger.sealing import SealBook
from ledger.seals import load_seal_key
from tests.support.command import onebook
from tests.support.installation import PASSPHRASE, Installation, start_installation
from tests.support.killable_worker import KillableWorker
from tests.support.waiting import until
from tests.treasury.solvency_world import ANCHOR
from wiring.parts import open_parts
from wiring.signing import XpubAddresses

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

POINTS = (
    "anchor.reserving",  # inside the tx that takes the nonce: nothing may stay of it
    "anchor.reserved",
    "signing.before",  # the attempt is stored, the signer not yet asked
    "signing.after",
    "stored",
    "sending.after",
    "mined.seen",
    "final.seen",
)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation on anvil that writes epochs' hashes on its chain, by a policy that allows it."""
    with start_installation(tmp_path_factory.mktemp("anchors")) as running:
        home = running.config.parent
        with running.config.open("a") as config:
            config.write(f'\n[solvency]\nanchor = {{ network = "local", to = "{ANCHOR}" }}\n')
        rule = f"""
[[rules]]
name = "epochs are anchored"
kind = "anchor"
role = "gas"
chain_id = {running.chain.chain_id}
to = ["{ANCHOR}"]
fee_wei_max = "{10**17}"
"""
        policy = home / "policy.toml"
        following = home / "next.toml"
        following.write_text(policy.read_text().replace("version = 1", "version = 2", 1) + rule)
        running.stop("signer")
        accepted = onebook(
            *("policy", "accept", following, "--yes", "--config", running.config), cwd=home, passphrase=PASSPHRASE
        )
        assert accepted.returncode == 0, accepted.stderr
        policy.write_text(following.read_text())
        running.start("signer")
        yield running


@pytest.fixture(scope="module")
def gas(house: Installation, worker: KillableWorker) -> str:
    """The gas address, with an ether that the house brought."""
    address = XpubAddresses(house.settings.xpubs).address(OwnKey(Role.GAS, 0))
    house.chain.faucet(address, 10**18)
    asked = {"asset": "ETH", "amount": "1", "debit": "suspense", "credit": "capital", "reason": "for gas"}
    until("the gas is booked", lambda: house.mined_on() and house.balances().get("house/suspense/ETH"))
    house.treasurer.post("/v1/treasury/adjustments", asked)
    return address


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_any_step_of_an_anchor_its_hash_is_written_once(house, worker, gas, point):
    before, nonce = house.balances(), nonce_of(house, gas)
    worker.arm(point)
    number = cast("int", until("an epoch is made", lambda: house.mined_on() and make(house)))
    until("it is sealed", lambda: sealed(house, number))
    assert worker.await_kill(meanwhile=house.mined_on) == point
    worker.start()

    def final() -> object:
        found = epoch(house, number)["anchor"]
        return house.mined_on() and found is not None and found["state"] == "final" and found

    anchor = cast("dict[str, Any]", until("its hash stands in a final block", final, seconds=60))
    assert house.chain.rpc("eth_getTransactionByHash", anchor["tx"])["input"] == "0x" + epoch(house, number)["digest"]
    assert nonce_of(house, gas) == nonce + 1
    receipt = house.chain.receipt(anchor["tx"])
    cost = int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16) * Decimal(1).scaleb(-18)

    def moved() -> dict[str, Decimal]:
        after = house.balances()
        found = {name: after.get(name, Decimal(0)) - before.get(name, Decimal(0)) for name in after | before}
        return {name: by for name, by in found.items() if by}

    until("its gas is booked", lambda: house.mined_on() and moved())
    assert moved() == {"house/custody:local:gas/ETH": cost, "house/network-fees/ETH": -cost}
    house.must_agree()


def test_by_command_an_epoch_is_asked_for_once(house, worker, gas):
    ended = onebook("solvency", "anchor", "1", "--config", house.config, cwd=house.config.parent)
    assert (ended.returncode, "is written on local already" in ended.stderr + ended.stdout) == (1, True), ended.stderr
    shown = onebook("solvency", "show", "--json", "--config", house.config, cwd=house.config.parent)
    assert json.loads(shown.stdout)["anchor"]["state"] == "final"


def make(house: Installation) -> int | None:
    """A new epoch's number; None while the book hasn't come as far as the node."""
    made = house.treasurer.ask("/v1/treasury/solvency")
    assert made.status_code in (201, 409, 503), made.text
    return int(made.json()["number"]) if made.status_code == 201 else None


def epoch(house: Installation, number: int) -> dict[str, Any]:
    items = house.treasurer.get("/v1/treasury/solvency")["items"]
    found: dict[str, Any] = next(one for one in items if one["number"] == number)
    return found


def sealed(house: Installation, number: int) -> bool:
    """Whether a seal covers it; the book is sealed now, as its worker does every ten minutes."""
    asyncio.run(_seal(house))
    return epoch(house, number)["seal"] is not None


async def _seal(house: Installation) -> None:
    settings = house.settings
    async with open_parts(settings, name="test sealing") as parts:
        key, folder = load_seal_key(settings.path(settings.seal_key)), settings.path(settings.seals)
        await SealBook(
            parts.engine, book=settings.book, key=key, folder=folder, clock=parts.clock, interval=timedelta()
        ).step()


def nonce_of(house: Installation, address: str) -> int:
    return int(house.chain.rpc("eth_getTransactionCount", address, "latest"), 16)
