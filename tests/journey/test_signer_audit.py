"""The audit of signatures and the resync, on a whole installation: signer, PostgreSQL, anvil, and all tampered with."""

import asyncio
import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from base.children import stop_child
from custody import keystore
from custody.derivation import Role
from custody.intent_json import terms_to_json
from custody.launcher import LaunchedSigner, launch_signer
from custody.transactions import Transaction, sign
from db.engine import create_engine
from tests.custody.samples import COLD, full_policy, token_transfer
from tests.support.approvers import PASSPHRASE as APPROVER
from tests.support.approvers import approver_files
from tests.support.command import onebook
from tests.support.installation import PASSPHRASE, Caller, Installation
from tests.support.killable_worker import KillableWorker
from tests.support.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


class Story:
    """An installation whose signer can be stopped and started, and the commands beside it."""

    def __init__(self, house: Installation, user: Caller) -> None:
        self.house = house
        self.user = user
        self.home = house.config.parent
        self.journal = house.settings.path(house.settings.journal)
        self.signer: LaunchedSigner | None = None
        self.withdrawn = 0

    def audit(self, *more: str) -> tuple[int, dict[str, Any]]:
        ended = onebook("signer", "audit", "--json", "--config", self.house.config, *more, cwd=self.home)
        assert ended.stdout, ended.stderr
        return ended.returncode, json.loads(ended.stdout)

    def reasons(self, *more: str) -> set[str]:
        code, told = self.audit(*more)
        assert code == (1 if told["differences"] else 0)
        return {one["reason"] for one in told["differences"]}

    def withdraw(self) -> str:
        body = {
            "asset": "USDC",
            "network": "local",
            "address": self.house.chain.accounts[7],
            "amount": "5.00",
        }
        asked: str = self.user.post("/v1/withdrawals", body)["id"]

        def is_final() -> bool:
            self.house.mined_on()
            return bool(self.user.get(f"/v1/withdrawals/{asked}")["state"] == "final")

        until(f"{asked} is final", is_final, seconds=90)
        self.withdrawn += 1
        return asked

    def stop_signer(self) -> None:
        if self.signer is not None:
            stop_child(self.signer.child)
        else:
            self.house.supervisor._processes["signer"].child.terminate()
            self.house.supervisor._processes["signer"].child.wait()

    def start_signer(self) -> None:
        settings = self.house.settings
        self.signer = launch_signer(
            socket=settings.path(settings.signer_socket),
            keys=settings.path(settings.keys),
            policy=settings.path(settings.policy),
            journal=self.journal,
            passphrase=PASSPHRASE,
            log=self.home / "signer-again.log",
        )
        self.signer.await_ready()

    def change(self, statement: str) -> None:
        """Behind everybody's back, as the database's owner."""

        async def run() -> None:
            url = self.house.settings.database_owner_url
            assert url is not None
            engine = create_engine(url.get_secret_value())
            async with engine.begin() as connection:
                await connection.execute(text(statement))
            await engine.dispose()

        asyncio.run(run())

    def copy_journal(self, target: Path) -> None:
        with closing(sqlite3.connect(self.journal)) as source, closing(sqlite3.connect(target)) as copied:
            source.backup(copied)

    def resync(self, missing: Path, *, passphrase: bytes = PASSPHRASE, more: tuple[str, ...] = ()) -> Any:
        reading, writing = os.pipe()
        os.write(writing, passphrase)
        os.close(writing)
        arguments: tuple[str | Path, ...] = ("signer", "resync", missing, "--config", self.house.config, "--yes", *more)
        try:
            return onebook(*arguments, "--keys-passphrase-fd", str(reading), cwd=self.home, inherited=(reading,))
        finally:
            os.close(reading)


@pytest.fixture(scope="module")
def story(house: Installation, worker: KillableWorker) -> Any:
    somebody = house.user("alice")
    house.deposit(somebody, 100)
    told = Story(house, somebody)
    yield told
    if told.signer is not None:
        stop_child(told.signer.child)


def test_the_audit_finds_what_was_tampered_with_and_nothing_else(story: Story, tmp_path: Path):
    paid = [story.withdraw() for _ in range(2)]
    code, told = story.audit()
    assert (code, told["clean"], told["transactions"], told["networks"]) == (0, True, story.withdrawn, ["local"])

    attempts = f"transaction_id = (SELECT id FROM chain_transactions WHERE subject = '{paid[0]}')"
    flip = "set_byte(raw, 40, get_byte(raw, 40) # 1)"
    story.change(f"UPDATE chain_attempts SET raw = {flip} WHERE {attempts}")
    assert story.reasons() == {"bytes_differ"}
    story.change(f"UPDATE chain_attempts SET raw = {flip} WHERE {attempts}")

    flip = "set_byte(signer_head, 0, get_byte(signer_head, 0) # 1)"
    story.change(f"UPDATE chain_attempts SET signer_head = {flip} WHERE {attempts}")
    assert story.reasons() == {"journal_differs"}
    story.change(f"UPDATE chain_attempts SET signer_head = {flip} WHERE {attempts}")

    story.change(f"UPDATE chain_attempts SET attempt = 9 WHERE {attempts}")
    assert story.reasons() == {"not_in_journal"}, "the journal's own row is younger than a minute"
    story.change(f"UPDATE chain_attempts SET attempt = 1 WHERE {attempts}")
    assert story.reasons() == set()

    copy = tmp_path / "copy.sqlite"
    story.copy_journal(copy)
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("DROP TRIGGER rows_stay")
        connection.execute("UPDATE rows SET at_us = at_us + 1 WHERE sequence = 3")
        connection.commit()
    assert story.reasons("--journal", str(copy)) == {"journal_broken"}


def test_a_journal_put_back_is_found_taken_up_and_goes_on(story: Story, worker: KillableWorker, tmp_path: Path):
    for _ in range(2):
        story.withdraw()
    old = tmp_path / "old.sqlite"
    story.copy_journal(old)
    lost = story.withdraw()
    story.stop_signer()
    for end in ("", "-wal", "-shm"):
        story.journal.with_name(story.journal.name + end).unlink(missing_ok=True)
    story.journal.write_bytes(old.read_bytes())
    story.journal.chmod(0o600)
    story.start_signer()

    assert story.reasons() >= {"journal_behind"}
    missing = tmp_path / "missing.json"
    code, told = story.audit("--missing", str(missing))
    assert (code, told["missing"]) == (1, [f"{lost} attempt 1"])
    running = story.resync(missing)
    assert (running.returncode, "stop it first" in running.stderr) == (2, True)
    story.stop_signer()

    foreign = json.loads(missing.read_text())
    foreign["transactions"][0]["key"] = "gas:0"
    (tmp_path / "foreign.json").write_text(json.dumps(foreign))
    refused = story.resync(tmp_path / "foreign.json")
    assert (refused.returncode, "isn't signed by gas:0" in refused.stderr) == (2, True)
    assert story.resync(missing, passphrase=b"wrong").returncode == 2
    taken = story.resync(missing)
    assert taken.returncode == 0, taken.stderr
    story.start_signer()
    assert story.reasons() == set()
    asked = story.user.ask(
        "/v1/withdrawals",
        {"asset": "USDC", "network": "local", "amount": "1.00", "address": story.house.chain.accounts[7]},
    ).json()

    def refused_by_limits() -> bool:
        with closing(sqlite3.connect(f"file:{story.journal}?mode=ro", uri=True)) as connection:
            found = connection.execute(
                "SELECT count(*) FROM rows WHERE kind = 'refused' AND subject = ?", (asked["id"],)
            )
            return bool(found.fetchone()[0])

    until("every window is full", refused_by_limits, seconds=60)
    assert story.reasons() == set(), "what clients had seen of the lost rows is accepted from now on"


def test_a_lost_journal_is_begun_again_with_the_policy(story: Story, tmp_path: Path):
    missing = tmp_path / "missing.json"
    while story.withdrawn < 3:  # where no test before this one ran in this process
        story.withdraw()
    story.stop_signer()
    kept = story.journal.read_bytes()
    for end in ("", "-wal", "-shm", ".lock"):
        story.journal.with_name(story.journal.name + end).unlink(missing_ok=True)
    code, told = story.audit("--no-journal", "--missing", str(missing))
    assert (code, len(told["missing"])) == (1, story.withdrawn)
    unsaid = story.resync(missing)
    assert (unsaid.returncode, "--new-journal" in unsaid.stderr) == (2, True)
    gap = json.loads(missing.read_text())
    gap["transactions"].pop(1)
    (tmp_path / "gap.json").write_text(json.dumps(gap))
    refused = story.resync(tmp_path / "gap.json", more=("--new-journal",))
    assert (refused.returncode, "nothing may be missing between" in refused.stderr) == (2, True)
    begun = story.resync(missing, more=("--new-journal",))
    assert begun.returncode == 0, begun.stderr
    story.start_signer()
    assert story.reasons() == set()
    again = story.resync(missing, more=("--new-journal",))
    assert (again.returncode, "never begun anew" in again.stderr) == (2, True)
    assert story.journal.read_bytes() != kept


def test_people_approve_through_the_api(story: Story, tmp_path: Path):
    place = story.house.settings.path(story.house.settings.policy)
    kept = place.read_text()
    place.write_text(full_policy())  # the API's copy only: the signer has read its own
    try:
        files = approver_files(tmp_path)
        (tmp_path / "terms.json").write_text(json.dumps(terms_to_json(token_transfer(subject="mov_1", to=COLD))))
        policy = ("--policy", str(place))
        fee = ("--fee-wei-max", str(10**16), "--out", "request.json")
        made = onebook(
            *("approver", "request", "terms.json", "--key", files["cleo"], *fee, *policy),
            cwd=tmp_path,
            passphrase=APPROVER,
            typed="y\n",
        )
        assert made.returncode == 0, made.stderr
        asked = story.house.treasurer.post(
            "/v1/treasury/approvals", json.loads((tmp_path / "request.json").read_text())
        )
        key = story.house.treasurer.http.headers["Authorization"].removeprefix("Bearer ")
        api = ("--api", story.house.supervisor.api_url, *policy)
        for name, state in (("ada", "open"), ("ben", "approved")):
            ended = onebook(
                *("approve", asked["id"], "--key", files[name], *api),
                cwd=tmp_path,
                passphrase=APPROVER,
                typed="500\n",
                environment={"ONEBOOK_API_KEY": key},
            )
            assert (ended.returncode, ended.stdout.strip().endswith(state)) == (0, True), ended.stderr
        found = story.house.treasurer.get(f"/v1/treasury/approvals/{asked['id']}")
        assert [row["by"] for row in found["approvals"]] == ["ada", "ben"]
        keyless = onebook("approve", asked["id"], "--key", files["ada"], *api, cwd=tmp_path)
        assert (keyless.returncode, "ONEBOOK_API_KEY" in keyless.stderr) == (2, True)
    finally:
        place.write_text(kept)


def test_what_an_own_address_sent_without_the_signer_is_an_alert(story: Story, worker: KillableWorker):
    worker.kill()
    settings, chain = story.house.settings, story.house.chain
    account = keystore.open_key(settings.path(settings.keys), Role.HOT, passphrase=PASSPHRASE).account()
    nonce = int(chain.rpc("eth_getTransactionCount", story.house.hot, "latest"), 16)
    stolen = Transaction(chain.chain_id, nonce, 10**9, 10**11, 21_000, bytes.fromhex(chain.accounts[8][2:]), 1, b"")
    chain.rpc("eth_sendRawTransaction", "0x" + sign(stolen, account.private_key(0)).raw.hex())
    chain.mine()
    assert story.reasons() == {"foreign_transaction"}
    worker.start()
    until("the follower has seen it", lambda: len(story.audit()[1]["differences"]) == 1 and story.house.mined_on())
    code, told = story.audit()
    assert (code, told["differences"][0]["reason"]) == (1, "foreign_transaction")
