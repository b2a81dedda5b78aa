"""F14: the local chain of a whole installation is gone, and the command takes back what was booked from it.

Real processes throughout; the command is killed after each of its parts, and finishes.
"""

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from base.children import stop_child
from chain.reanchor import HALTED_RESET
from custody.policy_file import parse
from tests.journey.test_signer_audit import Story
from tests.support.chain import RunningChain, start_local_chain
from tests.support.command import onebook
from tests.support.installation import PASSPHRASE, Caller, ForkingSupervisor, Installation, start_installation
from tests.support.waiting import until
from wiring.parts import open_parts
from wiring.recovery import build_reanchoring
from wiring.running import with_database
from wiring.settings import load_settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

PARTS = ("left", "given_up", "taken_back", "cleared", "settled")


class Killed(Exception):
    """Stands for the process's end."""


@dataclass
class KillAfter:
    """Ends the command after one of its parts."""

    part: str

    def reached(self, name: str) -> None:
        if name == f"reanchor.{self.part}":
            raise Killed(name)


@dataclass
class Scene:
    """An installation whose chain can be replaced by another one."""

    house: Installation
    stack: ExitStack
    folder: Path

    @property
    def config(self) -> Path:
        return self.house.config

    def command(self, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        """`onebook chain reanchor local ARGUMENTS`."""
        named = () if "--config" in arguments else ("--config", str(self.config))
        return onebook("chain", "reanchor", "local", *arguments, *named, cwd=self.folder, typed=typed)

    def elsewhere(self, url: str) -> Path:
        """A configuration like the installation's, but for the node's address."""
        path = self.config.with_name("elsewhere.toml")
        path.write_text(self.config.read_text().replace(self.house.chain.url, url))
        return path

    def killed_after(self, part: str) -> None:
        """The command, in this process, up to the end of one part."""

        async def run() -> None:
            settings = with_database(load_settings(self.config))
            async with open_parts(settings, name="test reanchor") as parts:
                await build_reanchoring(parts, "local", checkpoint=KillAfter(part)).run()

        with pytest.raises(Killed):
            asyncio.run(run())

    def halted(self) -> str | None:
        (network,) = self.house.operator.get("/v1/networks")["items"]
        told: str | None = network["halted"]
        return told

    def withdraw(self, user: Caller, usdc: str) -> str:
        to = self.house.chain.accounts[7]
        asked: str = user.post("/v1/withdrawals", {"asset": "USDC", "network": "local", "address": to, "amount": usdc})[
            "id"
        ]
        return asked

    def await_final(self, user: Caller, withdrawal: str) -> dict[str, Any]:
        def look() -> Any:
            self.house.mined_on()
            found = user.get(f"/v1/withdrawals/{withdrawal}")
            return found if found["state"] == "final" else None

        return dict(until(f"{withdrawal} is final", look, seconds=90))

    def take_another_chain(self) -> None:
        """The chain ends; a new one is named in the configuration and in the policy; all processes start again."""
        house, old = self.house, self.house.chain
        house.supervisor.stop()
        old.node.stop()
        new = self.stack.enter_context(start_local_chain(self.folder / "second"))
        for before, after in (
            (old.url, new.url),
            (str(old.chain_id), str(new.chain_id)),
            (old.genesis_hash, new.genesis_hash),
        ):
            self.config.write_text(self.config.read_text().replace(before, after))
        self._accept_policy(old, new)
        again = ForkingSupervisor(
            load_settings(self.config), config=self.config, passphrase=PASSPHRASE, say=lambda _: None
        )
        self.stack.enter_context(again)
        again.start_database()
        again.start_signer()
        again.start_worker()
        again.start_api()
        again.record()
        assert again.api_url == house.supervisor.api_url, "the people's clients go on"
        house.supervisor, house.chain = again, new

    def _accept_policy(self, old: RunningChain, new: RunningChain) -> None:
        place = self.house.settings.path(self.house.settings.policy)
        version = parse(place.read_text()).version
        text = place.read_text().replace(str(old.chain_id), str(new.chain_id))
        text = text.replace(f"version = {version}", f"version = {version + 1}", 1)
        text += f"\n[[networks]]\nchain_id = {old.chain_id}\n"
        (self.folder / "next.toml").write_text(text)
        reading, writing = os.pipe()
        os.write(writing, PASSPHRASE)
        os.close(writing)
        ended = onebook(
            *("policy", "accept", "next.toml", "--yes", "--config", self.config, "--passphrase-fd", str(reading)),
            cwd=self.folder,
            inherited=(reading,),
        )
        os.close(reading)
        assert ended.returncode == 0, ended.stderr
        place.write_text(text)


@contextmanager
def disguised(url: str) -> Iterator[str]:
    """The address of a node that serves the same chain, and says of itself that it's another client."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = self.rfile.read(int(self.headers["Content-Length"]))
            answer = httpx.post(
                url, content=asked, headers={"Content-Type": "application/json"}, trust_env=False
            ).json()
            if b"web3_clientVersion" in asked:
                answer["result"] = "Geth/v1.16.0"
            told = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with start_installation(tmp_path, worker=True) as house, ExitStack() as stack:
        yield Scene(house, stack, tmp_path)


def custody(house: Installation) -> dict[str, Decimal]:
    return {name: held for name, held in house.balances().items() if "custody" in name or "in-transit" in name}


def test_f14_a_reset_chain_is_left_and_what_it_gave_is_taken_back(scene: Scene):
    house = scene.house
    house.fund_house(usdc=1_000, ether=5)
    alice, bob = house.user("alice"), house.user("bob")
    house.deposit(alice, 100)
    alice.post("/v1/transfers", {"recipient": "@bob", "asset": "USDC", "amount": "30.00"})
    paid = scene.await_final(bob, scene.withdraw(bob, "10.00"))
    refused = scene.command("--yes")
    assert (refused.returncode, "was not reset: block" in refused.stderr) == (1, True), refused.stderr

    house.chain.set_automine(False)
    under_way = scene.withdraw(alice, "5.00")
    until("it was sent", lambda: alice.get(f"/v1/withdrawals/{under_way}")["state"] == "broadcast", seconds=60)
    before = house.balances()

    scene.take_another_chain()
    log = house.settings.path(house.settings.logs) / "worker.log"
    until("the follower says what to do", lambda: "onebook chain reanchor local" in log.read_text(), seconds=60)
    told = scene.command("--dry-run")
    assert told.returncode == 0, told.stderr
    for words in ("1 deposits final, 100.00 USDC: taken back", "1 withdrawals broadcast, 5.00 USDC: cancelled"):
        assert words in told.stdout
    declined = scene.command(typed="no\n")
    assert (declined.returncode, "nothing was done" in declined.stderr) == (1, True)
    assert (house.balances(), scene.halted()) == (before, None)

    for part in PARTS[:-1]:
        scene.killed_after(part)
        assert scene.halted() == HALTED_RESET
    meanwhile = alice.post("/v1/deposit-addresses", {"network": "local"})["address"]
    house.chain.transfer("USDC", meanwhile, 50_000_000)
    house.chain.mine(5)
    until(
        "the new chain is read",
        lambda: house.operator.get("/v1/networks")["items"][0]["height"] == house.chain.height(),
        seconds=60,
    )
    assert house.available(alice) == 0, "nothing is credited while it's halted"

    with disguised(house.chain.url) as url:
        place = ("--config", str(scene.elsewhere(url)))
        for option, why in (("--yes", "say --confirm local"), ("--confirm=mainnet", "isn't the network's name")):
            refused = scene.command(option, *place)
            assert (refused.returncode, why in refused.stderr) == (2, True), refused.stderr
        assert scene.halted() == HALTED_RESET
        done = scene.command("--confirm", "local", "--json", *place)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["outlook"]["begun"] is True
    assert scene.halted() is None
    given_up = alice.get(f"/v1/withdrawals/{under_way}")
    assert (given_up["state"], given_up["reason"]) == ("cancelled", "the chain on which it was to be paid was reset")
    assert bob.get(f"/v1/withdrawals/{paid['id']}")["state"] == "final"
    fee = Decimal(paid["fee"])
    until("what she owed is repaid of the new deposit", lambda: house.available(alice) == 20, seconds=60)
    assert house.available(bob) == 20 - fee
    states = [deposit["state"] for deposit in alice.get("/v1/deposits")["items"]]
    assert sorted(states) in (["credited", "reversed"], ["final", "reversed"])
    assert custody(house) == {"house/custody:local:deposit/USDC": Decimal(-50)}
    suspense = {name: held for name, held in house.balances().items() if "suspense" in name}
    gas = house.balances()["house/network-fees/ETH"]
    assert suspense == {"house/suspense/USDC": Decimal(-990), "house/suspense/ETH": -5 - gas}

    house.chain.mine(2)
    house.must_agree()
    for asset, whole in (("USDC", 1_000), ("ETH", 5)):
        house.chain.faucet(house.hot, whole * 10 ** (6 if asset == "USDC" else 18), asset)
    again = scene.await_final(bob, scene.withdraw(bob, "5.00"))
    assert again["block_number"] <= house.chain.height()
    house.must_agree()
    refused = scene.command("--yes")
    assert (refused.returncode, "was not reset: block" in refused.stderr) == (1, True), refused.stderr
    its_journal_is_whole_and_can_be_begun_again(scene, alice, {paid["id"], under_way, again["id"]})


def its_journal_is_whole_and_can_be_begun_again(scene: Scene, user: Caller, signed: set[str]) -> None:
    """The audit of signatures knows both chains, and so does a journal that was lost and is taken up again."""
    story = Story(scene.house, user)
    try:
        assert story.reasons() == set()
        missing = scene.folder / "missing.json"
        story.stop_signer()
        for end in ("", "-wal", "-shm", ".lock"):
            story.journal.with_name(story.journal.name + end).unlink(missing_ok=True)
        story.audit("--no-journal", "--missing", str(missing))
        assert {one["subject"] for one in json.loads(missing.read_text())["transactions"]} == signed
        begun = story.resync(missing, more=("--new-journal",))
        assert begun.returncode == 0, begun.stderr
        story.start_signer()
        assert story.reasons() == set()
    finally:
        if story.signer is not None:
            stop_child(story.signer.child)
