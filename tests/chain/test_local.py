"""The local chain: both nodes really started, the tokens' rules, the outside world's hands, and no process left."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from base.entropy import SeededEntropy
from base.errors import ConfigError, NotFound, Rejected
from chain import local
from chain.local import ChainRecord, LocalChain, LocalNodeDown, LocalTxReverted, NodeKind, ToolsMissing
from tests.support.chain import PREPARE, RunningChain, prepare_hardhat, start_local_chain

pytestmark = pytest.mark.slow

STRANGER = "0x00000000000000000000000000000000DeaDBeef"

PARENT = """
import sys, time
from pathlib import Path
from chain.local import LocalChain
chain = LocalChain.start(sys.argv[1], Path(sys.argv[2]), port=None)
print(chain.pid, flush=True)
time.sleep(100)
"""


@pytest.fixture(scope="module", params=list(NodeKind))
def chain(request, tmp_path_factory) -> Iterator[RunningChain]:
    with start_local_chain(tmp_path_factory.mktemp("chain"), request.param, afresh=True) as running:
        yield running


@pytest.fixture
def clean(chain: RunningChain) -> Iterator[RunningChain]:
    """The chain, brought back to what it was after the test."""
    before = chain.snapshot()
    yield chain
    chain.revert(before)


def call(chain: RunningChain, asset: str, function: str, *arguments: object) -> str:
    question = {"to": chain.token(asset), "data": "0x" + local.encode_call(function, *arguments).hex()}
    return str(chain.rpc("eth_call", question, "latest"))


class TestTokens:
    def test_usdc_has_six_decimals_and_dai_eighteen(self, chain):
        decimals = {asset: int(call(chain, asset, "decimals()"), 16) for asset in local.TOKENS}
        assert decimals == {"USDC": 6, "DAI": 18}
        assert decimals == {asset: token.decimals for asset, token in chain.node.tokens.items()}

    def test_transfer_moves_the_exact_amount_and_logs_it(self, clean):
        payer = clean.accounts[1]
        before = clean.balance("USDC", payer)
        tx_hash = clean.transfer("USDC", STRANGER, 12_345_678)
        assert clean.balance("USDC", STRANGER) == 12_345_678
        assert clean.balance("USDC", payer) == before - 12_345_678
        (log,) = clean.receipt(tx_hash)["logs"]
        assert int(log["data"], 16) == 12_345_678

    def test_a_blacklisted_account_can_neither_send_nor_receive(self, clean):
        clean.as_token_owner("USDC", "blacklist(address)", clean.accounts[1])
        with pytest.raises(LocalTxReverted):
            clean.transfer("USDC", STRANGER, 1, sender=1)
        with pytest.raises(LocalTxReverted):
            clean.transfer("USDC", clean.accounts[1], 1, sender=2)
        clean.as_token_owner("USDC", "unBlacklist(address)", clean.accounts[1])
        clean.transfer("USDC", STRANGER, 1, sender=1)
        assert clean.balance("USDC", STRANGER) == 1

    def test_a_blacklisted_spender_cannot_use_an_allowance_given_before(self, clean):
        owner, spender = clean.accounts[1:3]
        approval = local.encode_call("approve(address,uint256)", spender, 2**256 - 1)
        local.send(clean.url, to=clean.token("USDC"), call=approval, sender=1)
        spending = local.encode_call("transferFrom(address,address,uint256)", owner, STRANGER, 1)
        local.send(clean.url, to=clean.token("USDC"), call=spending, sender=2)
        clean.as_token_owner("USDC", "blacklist(address)", spender)
        with pytest.raises(LocalTxReverted):
            local.send(clean.url, to=clean.token("USDC"), call=spending, sender=2)
        assert clean.balance("USDC", STRANGER) == 1

    def test_a_paused_token_moves_mints_and_approves_nothing(self, clean):
        clean.as_token_owner("USDC", "pause()")
        with pytest.raises(LocalTxReverted):
            clean.transfer("USDC", STRANGER, 1)
        with pytest.raises(LocalTxReverted):
            clean.faucet(STRANGER, 1, "USDC")
        with pytest.raises(LocalTxReverted):
            clean.as_token_owner("USDC", "approve(address,uint256)", STRANGER, 1)
        clean.as_token_owner("USDC", "unpause()")
        clean.transfer("USDC", STRANGER, 1)

    def test_only_the_owner_mints(self, clean):
        minting = local.encode_call("mint(address,uint256)", STRANGER, 1)
        for asset in local.TOKENS:
            with pytest.raises(LocalTxReverted):
                local.send(clean.url, to=clean.token(asset), call=minting, sender=1)

    def test_more_than_the_balance_reverts_and_can_be_mined_as_reverted(self, clean):
        with pytest.raises(LocalTxReverted):
            clean.transfer("DAI", STRANGER, 1, sender=5)
        tx_hash = clean.transfer("DAI", STRANGER, 1, sender=5, gas=100_000)
        assert clean.receipt(tx_hash)["status"] == "0x0"
        assert clean.balance("DAI", STRANGER) == 0


class TestHands:
    @pytest.mark.parametrize("asset", ["ETH", "USDC", "DAI"])
    def test_faucet_gives_the_exact_amount(self, clean, asset):
        amount = 3 * 10**18 + 1
        clean.faucet(STRANGER, amount, asset)
        assert clean.balance(asset, STRANGER) == amount

    def test_an_outsider_pays_eth_and_its_gas(self, clean):
        before = clean.balance("ETH", clean.accounts[4])
        receipt = clean.receipt(clean.transfer("ETH", STRANGER, 10**17, sender=4))
        gas_wei = int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16)
        assert clean.balance("ETH", STRANGER) == 10**17
        assert clean.balance("ETH", clean.accounts[4]) == before - 10**17 - gas_wei

    def test_what_makes_no_sense_is_refused_by_name(self, clean):
        with pytest.raises(NotFound, match="not GOLD"):
            clean.faucet(STRANGER, 1, "GOLD")
        for address in ("0x1234", "0xdeaDBeef" + "0" * 31 + "g", STRANGER.replace("DeaD", "dEad"), STRANGER[2:]):
            with pytest.raises(Rejected, match="address"):
                clean.faucet(address, 1)
        with pytest.raises(Rejected, match="negative"):
            clean.transfer("ETH", STRANGER, -1)
        with pytest.raises(Rejected, match="at least one"):
            clean.mine(0)

    def test_a_token_needs_no_record_to_be_found(self, clean):
        assert {asset: local.token_at(clean.url, asset) for asset in local.TOKENS} == dict(clean.node.tokens)


class TestBlocks:
    def test_mine_makes_so_many_blocks(self, clean):
        before = clean.height()
        assert clean.mine(7) == before + 7
        assert clean.height() == before + 7
        assert len({clean.block_hash(height) for height in range(before, before + 8)}) == 8

    def test_mined_blocks_hang_on_each_other(self, clean):
        first = clean.height()
        clean.mine(40)
        blocks = [clean.rpc("eth_getBlockByNumber", hex(height), False) for height in range(first, clean.height() + 1)]
        assert len(blocks) == 41
        assert [block["parentHash"] for block in blocks[1:]] == [block["hash"] for block in blocks[:-1]]

    def test_without_automine_a_transaction_waits_for_mine(self, clean):
        clean.set_automine(False)
        tx_hash = clean.transfer("USDC", STRANGER, 5, seconds=None)
        assert clean.rpc("eth_getTransactionReceipt", tx_hash) is None
        with pytest.raises(LocalNodeDown, match="not mined"):
            clean.receipt(tx_hash, seconds=0.05)
        clean.mine()
        assert clean.receipt(tx_hash)["status"] == "0x1"
        clean.set_automine(True)
        clean.transfer("USDC", STRANGER, 5)
        assert clean.balance("USDC", STRANGER) == 10

    def test_on_an_interval_blocks_come_by_themselves_and_automine_comes_back(self, clean):
        clean.set_interval(1)
        tx_hash = clean.transfer("USDC", STRANGER, 5, seconds=None)
        assert clean.receipt(tx_hash, seconds=10)["status"] == "0x1"
        clean.set_automine(True)
        height = clean.height()
        clean.transfer("USDC", STRANGER, 5)
        assert clean.height() == height + 1

    @pytest.mark.parametrize("longer", [0, 2])
    def test_reorg_replaces_blocks_and_forgets_their_transactions(self, clean, longer):
        ancestor = clean.mark()
        ancestor_hash = clean.block_hash(ancestor)
        tx_hash = clean.transfer("USDC", STRANGER, 9)
        head = clean.mine(2)
        replaced = [clean.block_hash(height) for height in range(ancestor + 1, head + 1)]
        assert clean.reorg(3, longer=longer) == head + longer
        assert clean.block_hash(ancestor) == ancestor_hash
        for height, old in zip(range(ancestor + 1, head + 1), replaced, strict=True):
            assert clean.block_hash(height) != old
        assert clean.rpc("eth_getTransactionReceipt", tx_hash) is None
        assert clean.balance("USDC", STRANGER) == 0

    def test_empty_branches_differ_from_each_other(self, clean):
        seen = set()
        for _ in range(3):
            height = clean.mark() + 1
            clean.mine()
            seen.add(clean.block_hash(height))
            clean.reorg(1)
            seen.add(clean.block_hash(height))
        assert len(seen) == 6

    def test_revert_goes_back_wholly(self, chain):
        height, before = chain.height(), chain.snapshot()
        chain.faucet(STRANGER, 1, "USDC")
        chain.revert(before)
        assert (chain.height(), chain.balance("USDC", STRANGER)) == (height, 0)


class TestRunning:
    def test_status_tells_what_runs(self, chain):
        told = local.status(chain.url)
        assert (told.kind, told.chain_id, told.genesis_hash) == (chain.kind, chain.chain_id, chain.genesis_hash)
        assert (told.head, told.head_hash) == (chain.height(), chain.block_hash(chain.height()))
        assert told.tokens == dict(chain.node.tokens)

    def test_the_record_on_disk_is_the_running_chain(self, chain):
        assert local.find_running(chain.node.folder) == chain.node.record
        written = json.loads((chain.node.folder / "chain.json").read_bytes())
        assert written["faucet"] == {"role": "development account 0", "address": chain.accounts[0]}

    def test_it_listens_on_loopback_only(self, chain):
        listening = [c.laddr.ip for c in psutil.Process(chain.pid).net_connections() if c.status == psutil.CONN_LISTEN]
        assert listening == ["127.0.0.1"]

    def test_a_second_start_has_another_chain_id_genesis_and_port_but_the_same_token_addresses(self, chain, tmp_path):
        with LocalChain.start(chain.kind, tmp_path, port=int(chain.url.rpartition(":")[2])) as second:
            assert second.chain_id != chain.chain_id
            assert second.chain_id in local.CHAIN_IDS
            assert second.record.genesis_hash != chain.genesis_hash
            assert second.url != chain.url
            assert second.tokens == chain.node.tokens

    def test_after_stop_nothing_runs_and_nothing_is_found(self, chain, tmp_path):
        with LocalChain.start(chain.kind, tmp_path, port=None, block_seconds=1, entropy=SeededEntropy(4)) as second:
            record = second.record
        assert not psutil.pid_exists(record.pid)
        assert ChainRecord.read(tmp_path) is None
        (tmp_path / "chain.json").write_text(json.dumps(record.to_json()))  # as a killed parent leaves it
        assert ChainRecord.read(tmp_path) == record
        assert local.find_running(tmp_path) is None
        with pytest.raises(LocalNodeDown, match="no local node answers"):
            local.status(record.url)

    def test_a_reset_chain_behind_an_old_record_is_not_taken_for_it(self, chain, tmp_path):
        old = {**chain.node.record.to_json(), "genesis_hash": "0x" + "00" * 32}
        (tmp_path / "chain.json").write_text(json.dumps(old))
        assert local.find_running(tmp_path) is None

    @pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
    def test_no_node_outlives_its_parent(self, chain, tmp_path, sig):
        parent = subprocess.Popen(
            [sys.executable, "-c", PARENT, chain.kind, str(tmp_path)],
            cwd=PREPARE.parent.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert parent.stdout is not None
            node = psutil.Process(int(parent.stdout.readline()))
            assert node.is_running()
            family = [node, *node.children(recursive=True)]
        finally:
            os.kill(parent.pid, sig)
            parent.wait(timeout=10)
        _, left = psutil.wait_procs(family, timeout=10)
        for orphan in left:
            orphan.kill()
        assert left == []


class TestSetUp:
    def test_prepare_twice_does_nothing_the_second_time(self):
        prepare_hardhat()
        began = time.monotonic()
        second = subprocess.run([sys.executable, PREPARE], check=True, capture_output=True)
        assert (second.stdout, second.stderr) == (b"", b"")
        assert time.monotonic() - began < 1

    @pytest.mark.timeout(300)  # the compiler runs four times
    @pytest.mark.long
    def test_an_interrupted_or_emptied_step_is_done_again(self, tmp_path):
        project = tmp_path / "hardhat-local"
        source = local.hardhat_project()
        shutil.copytree(source, project, ignore=shutil.ignore_patterns("node_modules", "artifacts", "cache", "test"))
        (project / "node_modules").symlink_to(source / "node_modules")
        prepare_hardhat()
        stamps = tmp_path / ".onebook/stamps"
        stamps.mkdir(parents=True)
        (packages,) = (source.parent / ".onebook/stamps").glob("hardhat-packages-*")
        shutil.copy(packages, stamps)

        def prepare() -> str:
            return subprocess.run(
                [sys.executable, project / "prepare.py"], check=True, capture_output=True, text=True
            ).stdout

        assert "contracts ready" in prepare()  # no stamp: an earlier run was interrupted
        assert prepare() == ""
        shutil.rmtree(project / "artifacts")
        assert "contracts ready" in prepare()
        contract = project / "contracts/LocalDAI.sol"
        contract.write_text(contract.read_text().replace("Local Dai", "Other Dai"))
        assert "contracts ready" in prepare()
        contract.write_text("no Solidity")
        failed = subprocess.run([sys.executable, project / "prepare.py"], capture_output=True, text=True)
        assert failed.returncode == 1
        assert "hardhat-local: compile failed with status 1" in failed.stderr.splitlines()[-1]
        assert not list(stamps.glob("hardhat-contracts-*"))

    def test_the_lock_file_holds_hashes_and_no_address(self):
        packages = json.loads((local.hardhat_project() / "package-lock.json").read_bytes())["packages"]
        packages.pop("")
        assert [name for name, package in packages.items() if not package["integrity"].startswith("sha512-")] == []
        assert [name for name, package in packages.items() if "resolved" in package] == []

    def test_missing_tools_are_named_with_what_to_run(self, tmp_path, monkeypatch):
        monkeypatch.setenv("ONEBOOK_HARDHAT_LOCAL", str(tmp_path))
        for kind, name in ((NodeKind.ANVIL, "anvil"), (NodeKind.HARDHAT, "Hardhat")):
            with pytest.raises(ToolsMissing, match=f"{name} is missing: run `.*prepare.py`"):
                LocalChain.start(kind, tmp_path)

    def test_an_impossible_block_time_is_refused(self, tmp_path):
        with pytest.raises(ConfigError, match="at least 1"):
            LocalChain.start(NodeKind.ANVIL, tmp_path, block_seconds=0)
