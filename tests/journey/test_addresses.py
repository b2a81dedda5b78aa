"""Deposit addresses with real processes: a worker killed while it makes some ready, a row altered behind its back, and
the deposit key rotated as docs/keys.md tells."""

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text

from chain.signing import OwnKey, Role
from db.engine import create_engine, tx
from tests.support.command import onebook
from tests.support.conversation import Conversation
from tests.support.installation import PASSPHRASE, Caller, Installation
from tests.support.killable_worker import KillableWorker
from tests.support.waiting import until
from wiring.signing import XpubAddresses

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

STRANGER = "0x" + "66" * 20


def ask(house: Installation, statement: str) -> list[Any]:
    """Rows of the database, or a change to it, with the rights of the tables' owner."""

    async def asked() -> list[Any]:
        url = house.settings.database_owner_url
        assert url is not None
        engine = create_engine(url.get_secret_value(), pool_size=1)
        try:
            async with tx(engine) as connection:
                result = await connection.execute(text(statement))
                return list(result) if result.returns_rows else []
        finally:
            await engine.dispose()

    return asyncio.run(asked())


def count(house: Installation, what: str) -> int:
    ((number,),) = ask(house, f"SELECT count(*) FROM {what}")
    return int(number)


@pytest.fixture(scope="module")
def idle(house: Installation) -> Iterator[KillableWorker]:
    """The installation's worker, not started."""
    worker = KillableWorker(house.config, house.config.parent)
    yield worker
    if worker.runs:
        worker.kill()


def test_a_worker_killed_between_drawing_and_storing_leaves_no_index_with_two_owners(
    house: Installation, idle: KillableWorker
):
    users = [house.user(f"early{number}") for number in range(3)]
    given = [user.post("/v1/deposit-addresses", {"network": "local"})["address"] for user in users]  # no worker yet
    for point in ("addresses.drawn", "addresses.derived"):
        idle.arm(point)
        idle.start()
        assert idle.await_kill() == point
        assert count(house, "chain_address_pool") == 0
    idle.start()
    until("the pool is filled", lambda: count(house, "chain_address_pool") >= 500)
    late = [house.user(f"late{number}") for number in range(3)]
    given += [user.post("/v1/deposit-addresses", {"network": "local"})["address"] for user in late]
    assert len(set(given)) == 6
    source = XpubAddresses(house.settings.xpubs)
    rows = ask(house, "SELECT key_index, address FROM chain_addresses WHERE role = 'deposit' ORDER BY key_index")
    assert [row.address for row in rows] == [address.lower() for address in given]
    assert all(row.address == source.address(OwnKey(Role.DEPOSIT, row.key_index)) for row in rows)
    for user in (users[0], late[-1]):  # one that no worker saw issued, and one out of the pool
        house.deposit(user, 5)


def test_f81_a_running_worker_names_what_was_altered_and_the_api_issues_nothing_until_it_is_right(
    house: Installation, idle: KillableWorker
):
    if not idle.runs:
        idle.start()
    alice = house.user("alice")
    alice.post("/v1/deposit-addresses", {"network": "local"})
    until("all is compared", lambda: count(house, "chain_addresses WHERE checked_at IS NULL") == 0)
    ((address, index),) = ask(house, f"SELECT address, key_index FROM chain_addresses WHERE owner = '{alice.id}'")
    ask(house, f"UPDATE chain_addresses SET address = '{STRANGER}' WHERE owner = '{alice.id}'")
    until("it is named", lambda: count(house, "chain_address_findings WHERE cleared_at IS NULL") == 1)
    until("it is in the log", lambda: f"deposit address {index}: {STRANGER} here" in idle.log.read_text())
    bob = house.user("bob")
    for who in (alice, bob):  # neither the altered one, nor a new one
        refused = who.ask("/v1/deposit-addresses", {"network": "local"})
        assert (refused.status_code, refused.json()["code"]) == (503, "addresses_disagree")
    ask(house, f"UPDATE chain_addresses SET address = '{address}' WHERE owner = '{alice.id}'")
    until("it is closed", lambda: count(house, "chain_address_findings WHERE cleared_at IS NULL") == 0, seconds=60)
    assert bob.ask("/v1/deposit-addresses", {"network": "local"}).status_code == 201
    assert alice.post("/v1/deposit-addresses", {"network": "local"})["address"].lower() == address


def test_after_a_rotation_new_addresses_come_from_the_new_key_and_deposits_to_both_are_credited(
    house: Installation, idle: KillableWorker
):
    """What `onebook keys rotate` says is to be done next, done in its order."""
    if not idle.runs:
        idle.start()
    home, config = house.config.parent, house.config
    carol = house.user("carol")

    def address_of(user: Caller) -> str:
        return str(user.post("/v1/deposit-addresses", {"network": "local"})["address"])

    def doctor() -> dict[str, str]:
        found = onebook("doctor", "--json", "--config", config, cwd=home)
        return {finding["what"]: finding["text"] for finding in json.loads(found.stdout)}

    old = address_of(carol)
    rotated = Conversation(
        *("rotate", "deposit", "--public", "public-2.json"), cwd=home, answers=["yes", PASSPHRASE.decode()]
    )
    assert rotated.code == 0, rotated.shown
    in_policy, in_config = re.findall(r'^ +("deposit\.2" = "\w+")$', rotated.shown, re.MULTILINE)
    made = json.loads((home / "public-2.json").read_text())["keys"][0]

    text = (home / "policy.toml").read_text().replace("version = 1\n", "version = 2\n", 1)
    following = home / "next.toml"
    following.write_text(text.replace("[keys]\n", f"[keys]\n{in_policy}\n"))
    following.chmod(0o600)
    house.stop("signer")
    accepted = onebook("policy", "accept", following, "--yes", "--config", config, cwd=home, passphrase=PASSPHRASE)
    assert accepted.returncode == 0, accepted.stderr
    following.replace(home / "policy.toml")
    house.start("signer")
    assert "it isn't recorded, so nothing comes from it" in doctor()["deposit.2 key"]
    address_of(house.user("dave"))
    assert count(house, "chain_addresses WHERE generation > 1") == 0, "nobody recorded the new key yet"

    config.write_text(config.read_text().replace("[xpubs]\n", f"[xpubs]\n{in_config}\n"))
    house.stop("api")
    house.start("api")
    assert address_of(carol) == old, "the worker hasn't brought it into force yet"
    idle.kill()
    idle.start()
    until("the new key is in force", lambda: address_of(carol) != old)
    new = address_of(carol)
    given = {new.lower(), address_of(house.user("erin")).lower()}
    rows = ask(house, "SELECT key_index, address FROM chain_addresses WHERE generation = 2")
    source = XpubAddresses({"deposit.2": made["public"]})
    assert given == {row.address for row in rows}
    assert given == {source.address(OwnKey(Role.DEPOSIT, row.key_index, 2)) for row in rows}
    told = doctor()
    assert told["addresses"] == "none was found to differ from the signer's; new ones come from deposit.2"
    assert "deposit.2 key" not in told

    for address in (old, new):
        house.chain.transfer("USDC", address, 5 * 10**6)
    until("both deposits are credited", lambda: house.mined_on() and house.available(carol) == 10)
    shown = [one["address"] for one in carol.get("/v1/deposit-addresses")["items"]]
    assert shown == [old, new]
    house.must_agree()
