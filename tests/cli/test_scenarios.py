"""The scenarios for developers, played on both nodes: what each says is so, and the chain goes on as it was."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from base.entropy import SeededEntropy
from base.errors import NotFound
from chain import local
from chain.local import NodeKind
from chain.tokens import IMPLEMENTATION_SLOT
from cli.scenarios import Scene, nobody, play, summaries
from tests.support.chain import RunningChain, start_local_chain
from tests.support.command import onebook

pytestmark = pytest.mark.slow

ENTROPY = SeededEntropy(2)
USDC = 10**6


@pytest.fixture(scope="module", params=list(NodeKind))
def chain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningChain]:
    with start_local_chain(tmp_path_factory.mktemp("scenarios"), request.param) as running:
        yield running


def played(chain: RunningChain, name: str) -> tuple[str, list[str]]:
    """Whom it paid, and its lines."""
    lines: list[str] = []
    to = nobody(ENTROPY)
    play(name, Scene(url=chain.url, to=to, say=lines.append))
    height = chain.height()
    chain.transfer("ETH", nobody(ENTROPY), 1)
    assert chain.height() == height + 1, "transactions are mined at once again"
    return to, lines


def words_with(lines: list[str], beginning: str) -> list[str]:
    """The hexadecimal words of a line."""
    line = next(line for line in lines if line.startswith(beginning))
    return [word.strip(",;:") for word in line.split() if word.startswith("0x")]


def test_a_deposit_and_its_reorganisation_is_there_once_in_another_block(chain):
    before = chain.height()
    to, lines = played(chain, "deposit-and-reorg")
    tx_hash = words_with(lines, "25 USDC")[-1]
    receipt = chain.receipt(tx_hash)
    assert int(receipt["blockNumber"], 16) == before + 2
    assert lines[-1] == f"the same bytes again: mined in block {before + 2}, with the same hash"
    assert chain.balance("USDC", to) == 25 * USDC


def test_a_fee_on_transfer_leaves_less_than_the_call_says(chain):
    to, lines = played(chain, "fee-on-transfer-deposit")
    (token,) = words_with(lines, "a token with a fee")
    scene = Scene(url=chain.url, to=to, say=lines.append)
    assert scene.balance(token, to) == 99 * USDC
    assert lines[-1] == "99000000 units arrived: 1000000 less than the call says"


def test_an_upgrade_lets_the_same_address_run_other_code(chain):
    to, lines = played(chain, "token-upgrade")
    token, first = words_with(lines, "a token is at")
    second = words_with(lines, "upgraded in")[1]
    scene = Scene(url=chain.url, to=to, say=lines.append)
    assert scene.slot(token, IMPLEMENTATION_SLOT) == second != first
    codes = {chain.rpc("eth_getCode", address, "latest") for address in (first, second)}
    assert len(codes) == 2
    assert "0x" not in codes
    assert scene.balance(token, to) == 10 * USDC


def test_busy_blocks_hold_forty_payments_each(chain):
    before = chain.height()
    to, _ = played(chain, "busy-blocks")
    sizes = [
        len(chain.rpc("eth_getBlockByNumber", hex(height), False)["transactions"])
        for height in range(before + 1, before + 11)
    ]
    assert sizes == [40] * 10
    assert chain.balance("USDC", to) == 10 * USDC


def test_blocks_that_come_by_themselves_go_on_coming(tmp_path):
    with start_local_chain(tmp_path, NodeKind.ANVIL, block_seconds=1) as chain:
        to = nobody(ENTROPY)
        play("deposit-and-reorg", Scene(url=chain.url, to=to, say=lambda _: None))
        assert chain.receipt(chain.transfer("ETH", to, 1, seconds=None), seconds=10)["status"] == "0x1"
        assert chain.balance("USDC", to) == 25 * USDC


def test_the_command_lists_them_plays_one_and_names_those_there_are(tmp_path: Path):
    listed = onebook("chain", "scenario", cwd=tmp_path)
    assert [line.split()[0] for line in listed.stdout.splitlines()] == list(summaries())
    assert all(sentence.endswith(".") for sentence in summaries().values())
    down = onebook("chain", "scenario", "busy-blocks", cwd=tmp_path)
    assert (down.returncode, "onebook chain up" in down.stderr) == (2, True)
    with start_local_chain(tmp_path, NodeKind.ANVIL) as chain:
        ended = onebook("chain", "scenario", "deposit-and-reorg", "--url", chain.url, cwd=tmp_path)
        assert ended.returncode == 0, ended.stderr
        assert len(ended.stdout.splitlines()) == 3
        for wrong, said in (("nothing", "no scenario 'nothing'; there are: busy-blocks"), ("../demo", "no scenario")):
            refused = onebook("chain", "scenario", wrong, "--url", chain.url, cwd=tmp_path)
            assert (refused.returncode, said in refused.stderr) == (1, True), refused.stderr
        wrong_address = onebook("chain", "scenario", "busy-blocks", "--to", "0x12", "--url", chain.url, cwd=tmp_path)
        assert (wrong_address.returncode, "0x12 is no Ethereum address" in wrong_address.stderr) == (1, True)
        with pytest.raises(NotFound):
            play("", Scene(url=chain.url, to=local.accounts(chain.url)[0], say=lambda _: None))
