"""The worker killed with SIGKILL while an epoch's hash is written on the chain: it's there once, gas booked once."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from typing import Any, cast

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct

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

COLD = Account.from_key("0x" + "c0" * 32)
"""Its key is a person's: no process of the installation has it."""

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
        named = f'name = "local"\ncold_addresses = ["{COLD.address}"]\n'
        running.config.write_text(running.config.read_text().replace('name = "local"\n', named, 1))
        running.chain.faucet(COLD.address, 10**18)
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
    until("the gas is booked", lambda: house.mined_on() and house.balances().get("house/suspense/ETH"), seconds=60)
    house.treasurer.post("/v1/treasury/adjustments", asked)
    return address


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_any_step_of_an_anchor_its_hash_is_written_once(house, worker, gas, point):
    before, nonce = house.balances(), nonce_of(house, gas)
    worker.arm(point)
    number = cast("int", until("an epoch is made", lambda: make(house), seconds=60))
    until("it is sealed", lambda: sealed(house, number), seconds=60)
    assert worker.await_kill(meanwhile=house.mined_on, seconds=60) == point
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

    until("its gas is booked", lambda: house.mined_on() and moved(), seconds=60)
    assert moved() == {"house/custody:local:gas/ETH": cost, "house/network-fees/ETH": -cost}
    house.must_agree()


def test_the_command_says_what_it_waits_for_until_all_of_it_is_there(house, worker, gas):
    def by_command(*options: str) -> subprocess.CompletedProcess[str]:
        """Tried again while a block is just being taken in."""
        for _ in range(20):
            until("the chain is followed", lambda: house.operator.get("/v1/networks")["items"][0]["behind"] == 0)
            ended = onebook("solvency", "new", *options, "--config", house.config, cwd=house.config.parent)
            if not any(words in ended.stderr for words in ("try again", "blocks behind", "the book is at")):
                return ended
        raise AssertionError(ended.stderr)

    impatient = by_command("--wait", "1")
    assert (impatient.returncode, "it still" in impatient.stderr, "lacks a seal" in impatient.stderr) == (3, True, True)
    for words in ("reading what is owed: 1 of 1", "asking the nodes of local what is held:", "stating it in the book:"):
        assert words in impatient.stderr, impatient.stderr
    before = len(house.treasurer.get("/v1/treasury/solvency")["items"])
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(by_command, "--wait", "60", "--json")

        def goes_on() -> bool:
            """Nothing is mined before the epoch is made, which needs the book at the node's head."""
            if len(house.treasurer.get("/v1/treasury/solvency")["items"]) > before:
                asyncio.run(_seal(house))
                house.mined_on()
            return waiting.done()

        until("it has ended", goes_on, seconds=90)
    patient = waiting.result()
    assert patient.returncode == 0, patient.stderr
    for words in ("lacks a seal", "isn't final on a chain: ", "waiting for the book's seal: 1 of 1"):
        assert words in patient.stderr, patient.stderr
    told = json.loads(patient.stdout)
    assert (told["anchor"]["state"], told["seal"] is not None, len(told["controls"])) == ("final", True, 2)
    control = ("solvency", "control", "local", COLD.address, "--config", house.config)
    text = onebook(*control, cwd=house.config.parent).stdout.strip()
    assert text.endswith(f" for {told['statement']['number']} {told['digest']}")
    signed = house.config.parent / "signed.txt"
    signed.write_text(COLD.sign_message(encode_defunct(text=f"{text}.")).signature.to_0x_hex() + "\n")
    refused = onebook(*control, "--signature", signed, cwd=house.config.parent)
    assert (refused.returncode, "isn't by the key of" in refused.stderr) == (1, True), refused.stderr
    good = COLD.sign_message(encode_defunct(text=text)).signature.to_0x_hex()
    kept = onebook(*control, "--signature", good, cwd=house.config.parent)
    assert (kept.returncode, kept.stdout) == (0, f"kept: the key of {COLD.address.lower()} signed it\n"), kept.stderr

    again = onebook("solvency", "anchor", "--config", house.config, cwd=house.config.parent)
    assert (again.returncode, "is written on local already" in again.stderr) == (1, True), again.stderr
    shown = onebook("solvency", "show", "--config", house.config, cwd=house.config.parent)
    assert f"its hash on local: final by {told['anchor']['tx']} in block" in shown.stdout
    row = next(line for line in shown.stdout.splitlines() if f"cold address {COLD.address.lower()}" in line)
    assert "proven" in row


def make(house: Installation) -> int | None:
    """A new epoch's number; None while the book hasn't come as far as the node, so nothing is mined meanwhile."""
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
