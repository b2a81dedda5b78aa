"""F47: a database put back from a dump that is older than its last payments, with the real signer, chain and processes.

Withdrawals in every state are made after the dump. Then the service is halted until `onebook recover` has rebuilt them;
it is killed in the midst of it, and finishes. At the end the book is the chain, and nothing was paid twice.
"""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from base.entropy import SystemEntropy
from chain.evm.addresses import show_address
from cli.supervisor import _answers
from db.server import Running
from tests.journey.test_kills import nonce_of, signed_hashes
from tests.support.backups import name_in, put_back, take_dump
from tests.support.command import onebook
from tests.support.installation import Caller, Installation
from tests.support.killable_recover import killed_at
from tests.support.killable_worker import KillableWorker
from tests.support.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

KILLED_AT = ("sender", "withdrawal", "withdrawals")


@dataclass
class Asked:
    """A withdrawal to an address that nobody used before, and the request by which it was asked for."""

    user: Caller
    key: str
    body: dict[str, object]
    id: str

    def now(self) -> dict[str, Any]:
        found: dict[str, Any] = self.user.get(f"/v1/withdrawals/{self.id}")
        return found

    @property
    def state(self) -> str:
        return str(self.now()["state"])

    def again(self, **other: object) -> httpx.Response:
        """The same request once more."""
        return self.user.ask("/v1/withdrawals", self.body | other, key=self.key)


@dataclass
class Restore:
    """An installation, its worker, and a backup of its database."""

    house: Installation
    worker: KillableWorker
    folder: Path
    numbers: list[int] = field(default_factory=list)

    @property
    def server(self) -> Running:
        database = self.house.supervisor._database
        assert database is not None
        return database.start()  # it runs: this tells where

    @property
    def name(self) -> str:
        return name_in(self.server.app_url)

    def ask(self, user: Caller, usdc: str) -> Asked:
        body: dict[str, object] = {
            "asset": "USDC",
            "network": "local",
            "address": show_address(f"0x{SystemEntropy().draw(20).hex()}"),
            "amount": usdc,
        }
        self.numbers.append(1)
        key = f"pay-{len(self.numbers)}"
        answer = user.ask("/v1/withdrawals", body, key=key)
        assert answer.status_code == 201, answer.text
        return Asked(user, key, body, answer.json()["id"])

    def await_state(self, asked: Asked, state: str, *, mining: bool = False) -> None:
        until(
            f"{asked.id} is {state}",
            lambda: (not mining or self.house.mined_on()) and asked.state == state,
            seconds=60,
        )

    def put_back(self, dump: Path) -> None:
        """All processes end but the signer and the server; the database is what it was; the API starts again."""
        if self.worker.runs:
            self.worker.kill()
        self.house.stop("api")
        asyncio.run(put_back(self.server, self.name, dump))
        self.house.start("api")
        until("the API answers", self._answers, seconds=60)

    def _answers(self) -> bool:
        return _answers(f"{self.house.supervisor.api_url}/health/ready")  # so the supervisor doesn't wait for ever

    def ready(self) -> httpx.Response:
        return self.house.operator.http.get("/health/ready")

    def recover(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return onebook("recover", "--config", self.house.config, *arguments, cwd=self.folder)

    def told(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        ended = self.recover("--json", *arguments)
        assert ended.stdout, ended.stderr
        return ended.returncode, json.loads(ended.stdout)


@pytest.fixture
def scene(house: Installation, worker: KillableWorker, tmp_path: Path) -> Iterator[Restore]:
    yield Restore(house, worker, tmp_path)
    house.chain.set_automine(True)
    (worker.folder / "armed").unlink(missing_ok=True)


def test_f47_what_was_paid_since_the_backup_is_rebuilt_and_not_paid_again(scene: Restore):
    house, worker, chain = scene.house, scene.worker, scene.house.chain
    alice, bob = house.user("alice"), house.user("bob")
    house.deposit(alice, 1_000)
    house.deposit(bob, 500)
    worker.kill()
    known = scene.ask(alice, "11.00")  # held when the backup is taken, paid after it
    forgotten = scene.ask(alice, "12.00")  # the same, and given up after it
    dump = take_dump(scene.server, scene.name, scene.folder / "dump")

    assert alice.ask(f"/v1/withdrawals/{forgotten.id}/cancel").status_code == 200
    worker.start()
    first = nonce_of(house)
    final = scene.ask(alice, "21.00")
    alice.post("/v1/transfers", {"recipient": "@bob", "asset": "USDC", "amount": "300.00"})
    spent = scene.ask(bob, "600.00")
    for one in (known, final, spent):
        scene.await_state(one, "final", mining=True)
    house.deposit(alice, 50)
    mined = scene.ask(alice, "22.00")
    scene.await_state(mined, "mined")
    chain.set_automine(False)
    sent = scene.ask(alice, "23.00")
    scene.await_state(sent, "broadcast")
    worker.arm("stored")
    signed = scene.ask(alice, "24.00")
    assert worker.await_kill() == "stored"
    never = scene.ask(alice, "25.00")  # nothing was signed for it: it's gone with the database
    paid = [known, final, spent, mined, sent, signed]
    hashes = {one.id: signed_hashes(house, one.id) for one in paid}
    assert all(len(found) == 1 for found in hashes.values())

    scene.put_back(dump)
    nothing_moves_until_it_is_recovered(scene, alice, bob, known)

    code, told = scene.told()
    items = {one["subject"]: one for one in told["outlook"]["items"]}
    assert (code, told["done"]) == (1, None)
    assert {subject: one["part"] for subject, one in items.items()} == {
        one.id: "move_on" if one is known else "rebuild" for one in paid
    }
    assert {subject: [one["tx_hash"]] for subject, one in items.items()} == hashes
    assert (told["outlook"]["waiting"], int(items[spent.id]["shortage_units"]) > 100_000_000) == ([forgotten.id], True)
    shown = scene.recover("--dry-run")
    assert (shown.returncode, "Nothing was done" in shown.stdout, spent.id in shown.stdout) == (1, True, True)

    for part in KILLED_AT:
        killed_at(f"recover.{part}", house.config, scene.folder)
        assert scene.ready().json()["checks"]["recovery"] != "ok"
    done = scene.recover("--yes")
    assert (done.returncode, "goes on by itself" in done.stdout) == (0, True), done.stdout + done.stderr
    code, told = scene.told()
    assert (code, told["outlook"]["needed"], told["outlook"]["items"]) == (0, False, [])
    until("the API has noticed", lambda: scene.ready().status_code == 200)

    chain.set_automine(True)
    for one in (*paid, forgotten):
        scene.await_state(one, "final", mining=True)
    assert nonce_of(house) - first == len(paid) + 1, "each was paid once"
    for one in (*paid, forgotten):
        units = int(Decimal(str(one.body["amount"])) * 10**6)
        assert chain.balance("USDC", str(one.body["address"])) == units
    assert [one.now()["tx_hash"] for one in paid] == [hashes[one.id][0] for one in paid]
    nobody_can_spend_it_again(scene, alice, bob, paid)
    assert chain.balance("USDC", str(never.body["address"])) == 0
    again = never.again()
    assert (again.status_code, again.headers.get("Idempotent-Replayed")) == (201, None), "it was never carried out"
    assert again.json()["id"] != never.id
    until(
        "it is paid",
        lambda: house.mined_on() and alice.get(f"/v1/withdrawals/{again.json()['id']}")["state"] == "final",
    )
    house.chain.mine()
    house.must_agree()


def nothing_moves_until_it_is_recovered(scene: Restore, alice: Caller, bob: Caller, known: Asked) -> None:
    """Neither users nor the worker do anything; whoever looks is told why, and what to do."""
    house = scene.house
    ready = scene.ready()
    assert (ready.status_code, "onebook recover" in ready.json()["checks"]["recovery"]) == (503, True)
    nonce = nonce_of(house)
    scene.worker.start()
    until(
        "the chain is followed to its head",
        lambda: house.operator.get("/v1/networks")["items"][0]["height"] == house.chain.height(),
    )
    for user, path, body in (
        (alice, "/v1/transfers", {"recipient": "@bob", "asset": "USDC", "amount": "1.00"}),
        (alice, "/v1/withdrawals", known.body),
        (alice, f"/v1/withdrawals/{known.id}/cancel", None),
        (
            bob,
            "/v1/holds",
            {"recipient": "@alice", "asset": "USDC", "amount": "1.00", "expires_at": "2099-01-01T00:00:00Z"},
        ),
    ):
        answer = user.ask(path, body)
        assert (answer.status_code, answer.json()["code"]) == (503, "needs_recovery"), (path, answer.text)
        assert answer.headers["Retry-After"]
    alerts = {one["code"]: one for one in house.treasurer.get("/v1/treasury/alerts")["items"]}
    assert (alerts["needs_recovery"]["severity"], "onebook recover" in alerts["needs_recovery"]["text"]) == (
        "critical",
        True,
    )
    seen = onebook("doctor", "--config", house.config, cwd=scene.folder)
    assert (seen.returncode, "onebook recover" in seen.stdout) == (1, True)
    assert (known.state, known.now()["cancellable"], nonce_of(house)) == ("held", True, nonce)
    assert house.available(bob) == 500, "what came since isn't booked before our own moves are known"


def nobody_can_spend_it_again(scene: Restore, alice: Caller, bob: Caller, paid: list[Asked]) -> None:
    """Each repeat gets the withdrawal that was rebuilt; the money is gone; what the book lacked is owed."""
    house = scene.house
    for one in paid:
        repeated = one.again()
        assert (repeated.status_code, repeated.json()["id"]) == (201, one.id), repeated.text
        assert repeated.headers["Idempotent-Replayed"] == "true"
        other = one.again(amount="1.00")
        assert (other.status_code, one.id in other.text) == (422, True)
    fees = {user.id: Decimal(0) for user in (alice, bob)}
    for user in (alice, bob):
        for item in user.get("/v1/withdrawals")["items"]:
            fees[user.id] += Decimal(item["fee"])
    left = Decimal(1_000 + 50) - Decimal("11") - 12 - 21 - 22 - 23 - 24 - fees[alice.id]
    until("the deposit after the backup is there", lambda: house.available(alice) == left)
    refused = alice.ask("/v1/withdrawals", paid[0].body | {"amount": str(left)})
    assert (refused.status_code, refused.json()["code"]) == (422, "insufficient_funds")
    owed = 600 + fees[bob.id] - 500
    assert bob.get("/v1/me")["owed"] == [{"asset": "USDC", "amount": str(owed)}], bob.get("/v1/me")
    refused = bob.ask("/v1/transfers", {"recipient": "@alice", "asset": "USDC", "amount": "0.01"})
    assert (refused.status_code, refused.json()["code"]) in ((409, "receivable_open"), (422, "receivable_open"))
    house.must_agree()
