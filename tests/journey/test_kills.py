"""Processes killed with SIGKILL in the middle of a withdrawal: one payment on chain, and the book right to the unit."""

import random
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import cbor2
import psutil
import pytest
from eth_utils.crypto import keccak

from base.entropy import SystemEntropy
from chain.evm.addresses import show_address
from ledger.accounts import user_account
from tests.support.installation import Balances, Caller, Installation
from tests.support.killable_worker import KillableWorker
from tests.support.waiting import until

pytestmark = pytest.mark.slow

UNIT = Decimal(1).scaleb(-6)
WEI = Decimal(1).scaleb(-18)

BEFORE_SIGNING = (
    "withdrawal.held.before",  # asked and held, the worker has only looked at it
    "withdrawal.screened.before",
    "withdrawal.approved.before",
    "reserving",  # inside the tx that takes the nonce: neither state nor nonce may stay
    "withdrawal.approved.after",  # the nonce is reserved
    "signing.before",  # the attempt is stored, the signer not yet asked
)
SIGNED_NOT_STORED = ("signing.after",)
STORED = ("stored", "sending.before", "sending.after")
ON_CHAIN = ("mined.seen", "final.seen", "booking.before", "booking.after")


@dataclass(frozen=True, slots=True)
class Scene:
    """How things stood before a withdrawal was asked."""

    house: Installation
    user: Caller
    balances: Balances
    nonce: int

    def nonces_used(self) -> int:
        return nonce_of(self.house) - self.nonce


@pytest.fixture(scope="module")
def user(house: Installation, worker: KillableWorker) -> Caller:
    """Somebody with 1,000 USDC."""
    somebody = house.user("alice")
    house.deposit(somebody, 1_000)
    return somebody


@pytest.fixture
def scene(house: Installation, user: Caller, worker: KillableWorker) -> Iterator[Scene]:
    """All is quiet and the worker runs; however the test ends, it runs again for the next one."""
    yield Scene(house, user, house.balances(), nonce_of(house))
    (worker.folder / "armed").unlink(missing_ok=True)
    if not worker.runs:
        worker.start()


@pytest.mark.parametrize("point", BEFORE_SIGNING)
def test_f29_killed_before_signing_it_resumes_and_pays_once(scene: Scene, worker: KillableWorker, point: str):
    paid = ask_and_be_killed_at(point, scene, worker)
    assert signed_hashes(scene.house, paid.id) == []
    worker.start()
    paid.must_end_well()


@pytest.mark.parametrize("point", SIGNED_NOT_STORED)
def test_f30_killed_after_signing_before_storing_the_same_bytes_leave(scene: Scene, worker: KillableWorker, point: str):
    paid = ask_and_be_killed_at(point, scene, worker)
    (signed,) = signed_hashes(scene.house, paid.id)
    assert scene.nonces_used() == 0
    worker.start()
    assert paid.must_end_well()["tx_hash"] == signed
    assert signed_hashes(scene.house, paid.id) == [signed]


@pytest.mark.parametrize("point", STORED)
def test_f31_killed_after_storing_the_same_bytes_are_sent(scene: Scene, worker: KillableWorker, point: str):
    paid = ask_and_be_killed_at(point, scene, worker)
    (signed,) = signed_hashes(scene.house, paid.id)
    until("the node shows what it took", lambda: scene.nonces_used() == (point == "sending.after"))
    worker.start()
    assert paid.must_end_well()["tx_hash"] == signed


@pytest.mark.parametrize("point", ON_CHAIN)
def test_killed_while_the_chain_tells_it_is_booked_once(scene: Scene, worker: KillableWorker, point: str):
    paid = ask_and_be_killed_at(point, scene, worker)
    assert scene.nonces_used() == 1
    worker.start()
    paid.must_end_well()


def test_killed_at_any_instant_and_again_it_is_paid_once(scene: Scene, worker: KillableWorker):
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    payments = [Payment.ask(scene), Payment.ask(scene, units=2_500_000)]
    for _ in range(3):
        let_pass(psutil.Process(worker.pid), chance.uniform(0, 0.5))
        scene.house.chain.mine()
        worker.kill()
        worker.start()
    must_all_end_well(scene, payments)


def test_f30_signer_killed_at_any_instant_signs_the_same_again(scene: Scene, worker: KillableWorker):
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    payments = []
    for _ in range(2):
        payments.append(Payment.ask(scene))
        with signer_killed(scene.house, after=chance.uniform(0, 0.3)):
            payments.append(Payment.ask(scene, units=2_500_000))
    must_all_end_well(scene, payments)


def test_f43_same_request_twice_is_one_withdrawal(scene: Scene):
    first = Payment.ask(scene, key="rent-november")
    again = scene.user.ask("/v1/withdrawals", first.body, key="rent-november")
    assert (again.status_code, again.json()["id"]) == (201, first.id)
    assert again.headers["Idempotent-Replayed"] == "true"
    other = scene.user.ask("/v1/withdrawals", {**first.body, "amount": "2.00"}, key="rent-november")
    assert other.status_code == 422
    assert other.headers["Content-Type"] == "application/problem+json"
    assert first.id in other.text  # it names the first
    first.must_end_well()
    late = scene.user.ask("/v1/withdrawals", first.body, key="rent-november")
    assert (late.status_code, late.json()["id"]) == (201, first.id)
    assert scene.nonces_used() == 1


@dataclass(frozen=True, slots=True)
class Payment:
    """One withdrawal to an address that nobody used before."""

    scene: Scene
    id: str
    body: dict[str, object]
    units: int

    @classmethod
    def ask(cls, scene: Scene, *, units: int = 1_250_000, key: str | None = None) -> "Payment":
        address = show_address(f"0x{SystemEntropy().draw(20).hex()}")
        body: dict[str, object] = {"asset": "USDC", "network": "local", "address": address, "amount": str(units * UNIT)}
        answer = scene.user.ask("/v1/withdrawals", body, key=key)
        assert answer.status_code == 201, answer.text
        return cls(scene, answer.json()["id"], body, units)

    def now(self) -> dict[str, Any]:
        found: dict[str, Any] = self.scene.user.get(f"/v1/withdrawals/{self.id}")
        return found

    def ended(self) -> dict[str, Any]:
        """The withdrawal once it is final; the chain goes on meanwhile."""

        def is_final() -> bool:
            return self.scene.house.mined_on() and self.now()["state"] == "final"

        until(f"withdrawal {self.id} is final", is_final, seconds=30)
        received = self.scene.house.chain.balance("USDC", str(self.body["address"]))
        assert received == self.units, "not exactly once"
        return self.now()

    def must_end_well(self) -> dict[str, Any]:
        """It becomes final; the recipient has it once, and each account moved by exactly what it should."""
        return must_all_end_well(self.scene, [self])[0]


def must_all_end_well(scene: Scene, payments: list[Payment]) -> list[dict[str, Any]]:
    house, withdrawals = scene.house, [payment.ended() for payment in payments]
    assert scene.nonces_used() == len(payments)
    gas = fees = left = Decimal(0)
    for payment, withdrawal in zip(payments, withdrawals, strict=True):
        receipt = house.chain.receipt(withdrawal["tx_hash"])
        gas += int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16) * WEI
        fees += Decimal(withdrawal["fee"])
        left += payment.units * UNIT
    assert Decimal(0) < fees
    after = house.balances()
    moved = {
        name: after.get(name, Decimal(0)) - scene.balances.get(name, Decimal(0)) for name in after | scene.balances
    }
    assert {name: by for name, by in moved.items() if by} == {
        user_account(scene.user.id, "USDC"): -(left + fees),
        "house/fees/USDC": fees,
        "house/custody:local:hot/USDC": left,
        "house/network-fees/ETH": -gas,
        "house/custody:local:hot/ETH": gas,
    }
    assert not [account for account in after if "in-transit" in account]
    assert house.pending() == []
    house.must_agree()
    return withdrawals


def ask_and_be_killed_at(point: str, scene: Scene, worker: KillableWorker) -> Payment:
    """Ask for a withdrawal; the worker dies by SIGKILL when it reaches `point` of it."""
    worker.arm(point)
    payment = Payment.ask(scene)
    assert worker.await_kill(meanwhile=scene.house.mined_on) == point
    return payment


def signed_hashes(house: Installation, subject: str) -> list[str]:
    """The hashes of all that the signer's journal has signed for this withdrawal."""
    journal = house.settings.path(house.settings.journal)
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT body FROM rows WHERE kind = 'signed' AND subject = ?", (subject,)).fetchall()
    return [f"0x{keccak(cbor2.loads(body)['raw']).hex()}" for (body,) in rows]


def nonce_of(house: Installation) -> int:
    """How many transactions of the hot address are mined."""
    return int(house.chain.rpc("eth_getTransactionCount", house.hot, "latest"), 16)


@contextmanager
def signer_killed(house: Installation, *, after: float) -> Iterator[None]:
    """SIGKILL to the signer `after` seconds from now; started again on leaving."""
    signer = psutil.Process(house.supervisor.pid_of("signer"))
    let_pass(signer, after)
    signer.kill()
    signer.wait()
    yield
    house.supervisor.start_signer()


def let_pass(process: psutil.Process, seconds: float) -> None:
    """Let a process that must not end by itself run on for so long."""
    with suppress(psutil.TimeoutExpired):
        process.wait(timeout=seconds)
        raise AssertionError(f"{process} ended by itself")
