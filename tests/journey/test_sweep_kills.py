"""The worker killed with SIGKILL in the middle of a sweep: gas is brought once, it's swept once, the book is right."""

from decimal import Decimal

import pytest

from chain.signing import OwnKey, Role
from tests.support.installation import Installation
from tests.support.killable_worker import KillableWorker
from tests.support.waiting import until
from wiring.signing import XpubAddresses

pytestmark = pytest.mark.slow

POINTS = (
    "sweep.reserving",  # inside the tx that takes the top-up's nonce: neither state nor nonce may stay
    "sweep.topping_up.before",  # the gas is on its way, the sweep itself isn't reserved
    "sweep.booking.before",  # all is final, nothing of the sweep booked
    "sweep.booking.after",
)


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
def test_killed_at_any_step_of_a_sweep_it_is_swept_once(house: Installation, worker: KillableWorker, gas: str, point):
    user = house.user(f"swept{POINTS.index(point)}")
    house.deposit(user, 50)
    address = user.post("/v1/deposit-addresses", {"network": "local"})["address"]
    body = {"asset": "USDC", "network": "local", "address": address}
    until("the deposit is final", lambda: house.mined_on() and user.get("/v1/deposits")["items"][0]["state"] == "final")
    before, at_hot, paid = house.balances(), house.chain.balance("USDC", house.hot), nonce(house, gas)

    worker.arm(point)
    sweep = house.treasurer.post("/v1/treasury/sweeps", body)["id"]
    assert worker.await_kill(meanwhile=house.mined_on) == point
    worker.start()

    def is_done() -> bool:
        found = house.treasurer.get(f"/v1/treasury/sweeps/{sweep}")
        assert found["state"] != "unsweepable", found
        return house.mined_on() and found["state"] == "final"

    until("the sweep is final", is_done, seconds=40)
    assert (nonce(house, address), nonce(house, gas) - paid) == (1, 1)
    assert house.chain.balance("USDC", house.hot) - at_hot == 50_000_000
    assert house.chain.balance("USDC", address) == 0
    after = house.balances()
    moved = {name: after.get(name, Decimal(0)) - before.get(name, Decimal(0)) for name in after | before}
    dust = house.chain.balance("ETH", address) * Decimal(1).scaleb(-18)
    fees = -moved["house/network-fees/ETH"]
    assert fees > 0
    assert {name: by for name, by in moved.items() if by} == {
        "house/custody:local:hot/USDC": Decimal(-50),
        "house/custody:local:deposit/USDC": Decimal(50),
        "house/custody:local:deposit/ETH": -dust,
        "house/custody:local:gas/ETH": dust + fees,
        "house/network-fees/ETH": -fees,
    }
    house.must_agree()


def nonce(house: Installation, address: str) -> int:
    return int(house.chain.rpc("eth_getTransactionCount", address, "latest"), 16)
