"""The demo as a stranger runs it: its story, the commands beside it, and its end. Each runs in a folder of its own."""

import asyncio
import json
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import asyncpg
import httpx
import psutil
import pytest

from base.children import start_child
from chain import local
from chain.local import ChainRecord
from tests.support.command import ENTRY, PROGRAM, onebook, surroundings
from tests.support.forked import Forked
from tests.support.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(300)]

PLAYED_SECONDS = 200
"""How long the story may take on a busy machine."""

ENDED_SECONDS = 30
FAMILY = 9
"""Processes of a demo, PostgreSQL's children aside: itself, two chains, bank, rails, database, signer, worker, API."""

NETWORKS = {"local": "", "local-2": "_2"}
"""The demo's networks, with the ends of the names of variables about each."""

ASSETS = {"DAI", "ETH", "EUR", "GBP", "USD", "USDC"}

STOCK = "house/fx/USDC"
"""An account that the story leaves with a balance."""


@dataclass(slots=True)
class Demo:
    """A demo's parent process in `folder`, and all that it started."""

    folder: Path
    process: subprocess.Popen[bytes] | Forked = field(repr=False)

    @property
    def output(self) -> str:
        return (self.folder / "demo.out").read_text()

    def await_line(self, words: str, *, seconds: float = PLAYED_SECONDS) -> None:
        """Wait until it has said `words`."""

        def said() -> bool:
            assert self.process.poll() is None or words in self.output, self.output
            return words in self.output

        until(f"the demo says {words!r}", said, seconds=seconds)

    def family(self) -> list[psutil.Process]:
        """It and all processes below it."""
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def env(self) -> dict[str, str]:
        """What `.onebook/demo/env` exports."""
        words = shlex.split((self.folder / ".onebook/demo/env").read_text(), comments=True)
        return dict(word.split("=", 1) for word in words if word != "export")

    def owner_url(self) -> str:
        """The database's owner, who can write where the service can't."""
        return str(json.loads((self.folder / ".onebook/demo/run/running.json").read_text())["owner_url"])

    def must_be_gone(self, family: list[psutil.Process]) -> None:
        """None of `family` runs, nor anything else that works in or for this folder."""
        until("all of its processes have ended", lambda: not left(family), seconds=ENDED_SECONDS)
        until("nothing works in its folder", lambda: not working_in(self.folder), seconds=ENDED_SECONDS)


def left(family: list[psutil.Process]) -> list[psutil.Process]:
    """Those of `family` that still run. Waiting to be collected isn't running."""
    return [process for process in family if runs(process)]


def runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def working_in(folder: Path) -> list[str]:
    """Command lines of all processes that mention `folder` in them or in their environment, or stand in it."""
    found = []
    for process in psutil.process_iter():
        try:
            told = [*process.cmdline(), *process.environ().values(), process.cwd()]
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if process.pid != os.getpid() and any(str(folder) in text for text in told):
            found.append(" ".join(process.cmdline()))
    return found


@contextmanager
def started_demo(folder: Path, *options: str, afresh: bool = False) -> Iterator[Demo]:
    """`onebook demo` in `folder`; whatever becomes of it, nothing of it is left behind.

    `afresh`: in a new interpreter, as `make demo` starts it; else forked off (tests/support/forked.py).
    """
    path = folder / "demo.out"
    path.unlink(missing_ok=True)
    command: list[str | Path] = [PROGRAM, "demo", *options]
    env = surroundings(PYTHONUNBUFFERED="1")
    with path.open("ab", buffering=0) as log:
        if afresh:
            demo = Demo(folder, start_child(command, log=log, env=env, cwd=folder))
        else:
            demo = Demo(folder, Forked(ENTRY, command, stdout=log, stderr=log, env=env, cwd=folder))
    try:
        yield demo
    finally:
        if demo.process.poll() is None:
            family = demo.family()
            demo.process.terminate()
            demo.process.wait(timeout=ENDED_SECONDS)
            demo.must_be_gone(family)
        cleaned = onebook("demo", "--clean", cwd=folder)
        assert cleaned.returncode == 0, cleaned.stderr
        assert not (folder / ".onebook" / "demo").exists()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """A demo that has played its story and stays up."""
    with started_demo(tmp_path_factory.mktemp("demo"), "--kind", "anvil", afresh=True) as running:
        running.await_line("0 breaks")
        yield running


def test_demo_with_exit_plays_agrees_and_leaves_nothing(tmp_path: Path):
    with started_demo(tmp_path, "--exit", afresh=True) as demo:
        demo.await_line("Bob withdraws")
        family = demo.family()
        assert len(family) >= FAMILY
        assert demo.process.wait(timeout=PLAYED_SECONDS) == 0, demo.output
        demo.must_be_gone(family)
    lines = demo.output.splitlines()
    counted = r"6 assets, (\d+) accounts, 2 networks"
    told = re.fullmatch(rf"{counted}: all agree at local block \d+, local-2 block \d+; 0 breaks", lines[-1])
    assert told is not None, lines[-1]
    trial = lines[lines.index("Trial balance: what the house owes (+) and has (-)") + 2 :]
    assert int(told[1]) == trial.index("")
    table = lines[lines.index("Coverage: what is held, of what is owed and on its way out") + 2 :]
    covered = {row.split()[0]: row.split()[-1] for row in table[: table.index("")]}
    assert covered == dict.fromkeys(ASSETS, "yes")
    sums = lines[lines.index("Sum over all accounts") + 2 :]
    totals = {row.split()[0]: row.split()[-1] for row in sums[: sums.index("")]}
    assert totals == dict.fromkeys(ASSETS, "0.00")
    for heading in ("Alice's book", "Bob's book"):
        assert heading in lines
    a_deposit_was_taken_away_and_given_back(lines)
    one_asset_left_on_each_network(lines)
    a_withdrawal_was_outbid_and_paid_once(lines)
    alices_balances_are_proven(lines)


def a_deposit_was_taken_away_and_given_back(lines: list[str]) -> None:
    """In this order; every figure was read through the API."""
    began = lines.index("* A reorganisation: the chain takes that deposit away, and gives it back")
    assert lines[began - 2] == "  credited; Alice has 250.00 USDC"
    story = lines[began + 1 : began + 6]
    assert story[1] == "  taken back; Alice has 0.00 USDC"
    assert re.fullmatch(r"  the same transaction, now in block \d+: a new deposit, credited", story[2])
    assert story[3] == "  Alice has 250.00 USDC, once"
    assert re.fullmatch(r"  nothing of that on local-2: Bob's deposit there is \w+; he has 300\.00 DAI", story[4])


def one_asset_left_on_each_network(lines: list[str]) -> None:
    """What is in custody on each afterwards, by the treasurer's trial balance: what came in less what left there."""
    trial = lines[lines.index("Trial balance: what the house owes (+) and has (-)") + 2 :]
    rows = [row.split() for row in trial[: trial.index("")]]
    custody = {row[0].removeprefix("house/custody:"): row[2] for row in rows if row[0].startswith("house/custody:")}
    assert custody["local:hot/USDC"] == f"-{5_000 - 30 - 25}.00"
    assert custody["local-2:hot/USDC"] == f"-{2_000 - 40}.00"
    assert (custody["local:deposit/USDC"], custody["local-2:deposit/DAI"]) == ("-250.00", "-300.00")
    assert all(-2 < Decimal(custody[f"{name}:hot/ETH"]) < 0 for name in ("local", "local-2"))
    (paid,) = [line for line in lines if line.startswith("  local-2: transaction ")]
    assert re.fullmatch(r"  local-2: transaction 0x[0-9a-f]{64} in block \d+; fee [\d.]+ USDC", paid)


def a_withdrawal_was_outbid_and_paid_once(lines: list[str]) -> None:
    """The transaction that was mined is the second, since the block left the first one out."""
    began = lines.index("* Alice withdraws 25.00 USDC, and the price of gas jumps before it's mined")
    asked, first, left_out, second = lines[began + 1 : began + 5]
    mined = lines[lines.index("* The withdrawal whose fees were raised") + 1]
    assert re.fullmatch(r"  wdr_\w+: held 25\.00 and at most [\d.]+ USDC for the network's fee", asked)
    offered, wanted = re.findall(r"[\d.]+ ?(?=gwei|,)", left_out)
    assert Decimal(offered) < Decimal(wanted), left_out
    hashes = [re.findall(r"0x[0-9a-f]{64}", line) for line in (first, second, mined)]
    assert hashes[0] != hashes[1] == hashes[2]


def alices_balances_are_proven(lines: list[str]) -> None:
    """What the proof counts for her is what stands in her book."""
    (told,) = [line for line in lines if line.startswith("  Alice's own proof is verified offline: ")]
    counted = re.findall(r"([\d.]+) (\w+)(?=,| are counted in epoch main/1,)", told)
    table = lines[lines.index("Alice's book") + 2 :]
    rows = [row.split() for row in table[: table.index("")]]
    assert {asset: amount for amount, asset in counted} == {row[0]: row[1] for row in rows}


def test_second_demo_says_where_the_first_runs(demo: Demo):
    second = onebook("demo", cwd=demo.folder)
    assert second.returncode == 0
    assert demo.env()["ONEBOOK_URL"] in second.stdout
    assert len(second.stdout.splitlines()) == 1
    assert httpx.get(f"{demo.env()['ONEBOOK_URL']}/health/ready", trust_env=False).status_code == 200
    refused = onebook("demo", "--clean", cwd=demo.folder)
    assert refused.returncode == 2
    assert "a demo runs already" in refused.stderr


def test_each_chain_can_be_reached_by_what_the_file_exports(demo: Demo):
    env, folders = demo.env(), (".onebook/demo/chain", ".onebook/demo/chain-2")
    records = [ChainRecord.read(demo.folder / folder) for folder in folders]
    assert [env["ONEBOOK_RPC"], env["ONEBOOK_RPC_2"]] == [record and record.url for record in records]
    for suffix, asset in (("", "USDC"), ("_2", "USDC"), ("_2", "DAI")):
        assert local.token_at(env[f"ONEBOOK_RPC{suffix}"], asset).address == env[f"ONEBOOK_{asset}{suffix}"]
    networks = httpx.get(f"{env['ONEBOOK_URL']}/v1/networks", headers=bearer(env["ALICE_KEY"]), trust_env=False)
    listed = {(one["name"], one["chain_id"]) for one in networks.json()["items"]}
    assert listed == {(name, local.status(env[f"ONEBOOK_RPC{end}"]).chain_id) for name, end in NETWORKS.items()}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_the_worker_tells_prometheus_what_positions_tell(demo: Demo):
    (told,) = re.findall(r"^watch  (\S+)", demo.output, re.MULTILINE)
    page = httpx.get(told, trust_env=False, timeout=30).text
    owed = dict(re.findall(r'^onebook_position\{asset="(\w+)",figure="owed"\} (\S+)$', page, re.MULTILINE))
    treasurer = {**demo.env(), "ONEBOOK_API_KEY": demo.env()["TREASURER_KEY"]}
    positions = onebook("positions", "--json", cwd=demo.folder, environment=treasurer)
    assert {asset: float(amount) for asset, amount in owed.items()} == {
        one["asset"]: float(one["owed"]) for one in json.loads(positions.stdout)["items"]
    }
    assert owed.keys() == ASSETS
    steps = re.findall(r'^onebook_worker_steps_total\{job="([\w:-]+)"\} (\S+)$', page, re.MULTILINE)
    assert {job for job, count in steps if float(count) > 0} >= {
        "follow:local",
        "follow:local-2",
        "deposits",
        "withdrawals",
    }


def test_reconcile_and_audit_find_nothing(demo: Demo, tmp_path: Path):
    config = demo.env()["ONEBOOK_CONFIG"]
    environment = {"ONEBOOK_CONFIG": config}
    reconciled = onebook("reconcile", "--config", config, cwd=tmp_path)
    assert reconciled.returncode == 0, reconciled.stdout + reconciled.stderr
    assert all(line.startswith("comparing ") for line in reconciled.stderr.splitlines()), reconciled.stderr
    assert reconciled.stdout.rstrip().endswith("0 breaks")
    audited = onebook("audit", "--json", cwd=tmp_path, environment=environment)
    assert audited.returncode == 0, audited.stdout
    assert json.loads(audited.stdout)["disagreements"] == []


def test_f57_one_unit_changed_behind_the_book_is_named(demo: Demo):
    environment = demo.env()  # all of it, as who sources it has it
    with drifted(demo.owner_url(), STOCK):
        for command in ("reconcile", "audit"):
            answer = onebook(command, cwd=demo.folder, environment=environment)
            assert answer.returncode == 1, answer.stdout + answer.stderr
            assert STOCK in answer.stdout
    assert onebook("reconcile", cwd=demo.folder, environment=environment).returncode == 0


def test_killed_parent_leaves_no_process_and_the_next_demo_can_start(tmp_path: Path):
    with started_demo(tmp_path, "--kind", "anvil") as demo:
        demo.await_line("Alice pays in")
        family = demo.family()
        demo.process.kill()
        assert demo.process.wait(timeout=ENDED_SECONDS) == -signal.SIGKILL
        demo.must_be_gone(family)
    with started_demo(tmp_path, "--kind", "anvil") as demo:
        demo.await_line("signer on")
        family = demo.family()
        second = onebook("demo", cwd=tmp_path)  # while the first is still starting
        assert (second.returncode, second.stdout.count("starting here already")) == (0, 1), second.stderr
        demo.process.terminate()
        assert demo.process.wait(timeout=ENDED_SECONDS) == 128 + signal.SIGINT
        demo.must_be_gone(family)


def test_ctrl_c_leaves_no_process(demo: Demo):
    """Stands last, since it ends the demo that the tests above share."""
    family = demo.family()
    assert len(family) >= FAMILY
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(timeout=ENDED_SECONDS) == 0
    demo.must_be_gone(family)


@contextmanager
def drifted(url: str, account: str) -> Iterator[None]:
    """One unit more in a stored balance, as nobody but the database's owner can put it there; taken back after."""
    asyncio.run(add(url, account, 1))
    try:
        yield
    finally:
        asyncio.run(add(url, account, -1))


async def add(url: str, account: str, units: int) -> None:
    connection = await asyncpg.connect(url)
    try:
        sql = "UPDATE ledger_accounts SET credits_posted = credits_posted + $1 WHERE name = $2"
        assert await connection.execute(sql, units, account) == "UPDATE 1"
    finally:
        await connection.close()
