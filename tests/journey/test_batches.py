"""A whole installation whose withdrawals share transactions: the contract by command, and SIGKILL in the middle."""

import json
from collections.abc import Iterator
from decimal import Decimal
from subprocess import CompletedProcess
from typing import Any

import pytest

from base.entropy import SystemEntropy
from chain.evm.addresses import show_address
from chain.signing import OwnKey, Role
from tests.support.command import onebook
from tests.support.installation import Caller, Installation, start_installation
from tests.support.killable_worker import KillableWorker
from tests.support.waiting import until
from wiring.signing import XpubAddresses

pytestmark = pytest.mark.slow

LEGS = 3
PAYOUTS = f"""
[[payouts]]
network = "local"
legs_min = {LEGS}
legs_max = {LEGS}
wait_seconds = 120
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation on anvil whose worker will gather withdrawals by threes."""
    with start_installation(tmp_path_factory.mktemp("batches")) as running:
        with running.config.open("a") as config:
            config.write(PAYOUTS)
        yield running


@pytest.fixture(scope="module")
def user(house: Installation, worker: KillableWorker) -> Caller:
    """Somebody with 1,000 USDC, in a house that has its contract."""
    status = payout(house, "status", code=1)
    assert (status["transaction"], status["stands"]) == (None, False)
    gas = XpubAddresses(house.settings.xpubs).address(OwnKey(Role.GAS, 0))
    house.chain.faucet(gas, 10**18)
    reserved = payout(house, "deploy")
    assert payout(house, "deploy")["transaction"]["id"] == reserved["transaction"]["id"]
    until("the contract stands", lambda: house.mined_on() and stands(house), seconds=60)
    assert house.chain.rpc("eth_getCode", reserved["contract"], "latest") != "0x"
    somebody = house.user("alice")
    house.deposit(somebody, 1_000)
    return somebody


def test_the_contract_is_created_by_command_and_three_withdrawals_share_a_transaction(house, user):
    paid = [ask(user) for _ in range(LEGS)]
    must_be_paid_together(house, user, paid)
    shown = payout(house, "status")
    assert (shown["transaction"]["state"], shown["terms"]["legs_min"]) == ("final", LEGS)
    house.must_agree()


@pytest.mark.parametrize("point", ["batch.reserving", "stored", "batch.booked"])
def test_f45_killed_in_the_middle_of_a_batch_each_is_paid_once(house, user, worker, point):
    worker.arm(point)
    paid = [ask(user) for _ in range(LEGS)]
    assert worker.await_kill(meanwhile=house.mined_on, seconds=60) == point
    worker.start()
    must_be_paid_together(house, user, paid)
    house.must_agree()


def ask(user: Caller) -> dict[str, Any]:
    """A withdrawal of 1.25 USDC to an address that nobody used before."""
    address = show_address(f"0x{SystemEntropy().draw(20).hex()}")
    body = {"asset": "USDC", "network": "local", "address": address, "amount": "1.25"}
    asked: dict[str, Any] = user.post("/v1/withdrawals", body)
    return asked


def must_be_paid_together(house: Installation, user: Caller, paid: list[dict[str, Any]]) -> None:
    """Each is final by one and the same transaction, its recipient has it once, and its fee is within the promise."""

    def ended() -> list[dict[str, Any]]:
        house.mined_on()
        found = [user.get(f"/v1/withdrawals/{one['id']}") for one in paid]
        return found if all(one["state"] == "final" for one in found) else []

    done = until("all are final", ended, seconds=60)
    assert len({one["tx_hash"] for one in done}) == 1
    assert [house.chain.balance("USDC", one["address"]) for one in done] == [1_250_000] * LEGS
    assert all(Decimal(0) < Decimal(one["fee"]) for one in done)


def payout(house: Installation, command: str, *, code: int = 0) -> dict[str, Any]:
    """What `onebook payout` prints."""
    done = run(house, command)
    assert done.returncode == code, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def stands(house: Installation) -> bool:
    return bool(json.loads(run(house, "status").stdout)["stands"])


def run(house: Installation, command: str) -> CompletedProcess[str]:
    return onebook("payout", command, "local", "--config", house.config, "--json", cwd=house.config.parent)
