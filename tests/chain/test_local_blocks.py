"""Time, snapshots and other branches of a local chain, on both nodes; and what a wrong number is answered."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from base.errors import NotFound, Rejected
from chain import local
from chain.local import NodeKind
from chain.local_blocks import (
    DEPTH_MAX,
    FURNISHED_HEIGHT,
    TIME_MAX,
    NoWayBack,
    head_time,
    reorganise,
    set_next_time,
)
from chain.local_snapshots import Snapshots
from tests.support.chain import RunningChain, start_local_chain

pytestmark = pytest.mark.slow

STRANGER = "0x00000000000000000000000000000000DeaDBeef"


@pytest.fixture(scope="module", params=list(NodeKind))
def chain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningChain]:
    with start_local_chain(tmp_path_factory.mktemp("chain"), request.param) as running:
        yield running


@pytest.fixture
def names(chain: RunningChain, tmp_path: Path) -> Snapshots:
    return Snapshots(chain.url, tmp_path)


def pay(chain: RunningChain, units: int) -> str:
    return chain.transfer("USDC", STRANGER, units)


def owned(chain: RunningChain) -> int:
    return chain.balance("USDC", STRANGER)


class TestTime:
    def test_the_next_block_has_the_time_that_was_set_and_later_ones_go_on_from_there(self, chain):
        at = head_time(chain.url) + 86_400
        set_next_time(chain.url, at)
        chain.mine()
        assert head_time(chain.url) == at
        chain.mine()
        assert at <= head_time(chain.url) < at + 3_600

    @pytest.mark.parametrize("back", [0, 1, 10**9])
    def test_time_never_goes_back(self, chain, back):
        now = head_time(chain.url)
        with pytest.raises(Rejected, match=f"only goes forward.* {now + 1} is the earliest"):
            set_next_time(chain.url, now - back)
        chain.mine()
        assert head_time(chain.url) >= now

    def test_a_time_without_a_date_is_refused(self, chain):
        with pytest.raises(Rejected, match="year 9999"):
            set_next_time(chain.url, TIME_MAX + 1)


class TestSnapshots:
    def test_a_revert_takes_everything_back_as_often_as_asked(self, chain, names):
        taken, before = names.take("before"), owned(chain)
        for _ in range(2):
            pay(chain, 7)
            assert owned(chain) == before + 7
            names.revert("before")
            assert (owned(chain), chain.height()) == (before, taken.height)
            assert chain.block_hash(taken.height) == taken.block_hash

    def test_those_taken_later_are_gone_after_a_revert_and_earlier_ones_stay(self, chain, names):
        first = names.take("first")
        for name in ("second", "third"):
            chain.mine()
            names.take(name)
        names.revert("second")
        assert list(names.listed()) == ["first", "second"]
        with pytest.raises(NotFound, match="no snapshot 'third'; there are: first, second"):
            names.revert("third")
        names.revert("first")
        assert chain.height() == first.height

    def test_a_name_is_given_once_and_is_one_word(self, chain, names):
        names.take("once")
        with pytest.raises(Rejected, match="there is a snapshot 'once' already"):
            names.take("once")
        for wrong in ("", "two words", "../up", "x" * 41, "-dash"):
            with pytest.raises(Rejected, match="is no name for a snapshot"):
                names.take(wrong)
        assert list(names.listed()) == ["once"]

    def test_another_chain_has_none_of_them(self, chain, names, tmp_path):
        names.take("here")
        with start_local_chain(tmp_path, NodeKind.ANVIL) as other:
            theirs = Snapshots(other.url, tmp_path)
            assert theirs.listed() == {}
            with pytest.raises(NotFound, match="there is none on this chain"):
                theirs.revert("here")

    def test_one_that_the_node_has_used_up_is_said_to_be_gone(self, chain, names):
        taken = names.take("used")
        assert chain.rpc("evm_revert", taken.node_id) is True
        with pytest.raises(Rejected, match="has no snapshot"):
            names.revert("used")


class TestReorganisations:
    def test_kept_transactions_stand_in_other_blocks_in_the_same_order(self, chain, names):
        mark, before = names.take("mark"), owned(chain)
        hashes = [pay(chain, 1), chain.transfer("ETH", STRANGER, 2), pay(chain, 3)]
        places = [chain.receipt(tx_hash)["blockHash"] for tx_hash in hashes]
        done = names.reorganise(3, keep=True)
        assert (done.ancestor, done.height, done.kept, done.dropped) == (
            mark.height,
            mark.height + 3,
            tuple(hashes),
            (),
        )
        assert done.replaced == tuple(places)
        again = [chain.receipt(tx_hash) for tx_hash in hashes]
        assert [int(receipt["blockNumber"], 16) for receipt in again] == [mark.height + n for n in (1, 2, 3)]
        assert {receipt["blockHash"] for receipt in again}.isdisjoint(places)
        assert owned(chain) == before + 4

    def test_dropped_transactions_are_forgotten(self, chain, names):
        names.take("mark")
        before = owned(chain)
        tx_hash = pay(chain, 5)
        done = names.reorganise(1, keep=False)
        assert (done.kept, done.dropped) == ((), (tx_hash,))
        assert chain.rpc("eth_getTransactionByHash", tx_hash) is None
        assert owned(chain) == before

    def test_a_snapshot_at_the_block_that_stays_stays_and_later_ones_are_gone(self, chain, names):
        names.take("earlier")
        chain.mine()
        mark = names.take("mark")
        chain.mine()
        names.take("later")
        for _ in range(2):  # so the mark can be used again, on Hardhat too
            height = chain.height()
            names.reorganise(height - mark.height, keep=False)
            assert list(names.listed()) == ["earlier", "mark"]
        pay(chain, 5)
        names.revert("mark")
        assert chain.block_hash(chain.height()) == mark.block_hash
        names.revert("earlier")
        assert chain.height() == mark.height - 1

    def test_transactions_are_mined_at_once_again_afterwards(self, chain, names):
        names.take("mark")
        pay(chain, 1)
        names.reorganise(1, keep=True)
        height = chain.height()
        pay(chain, 1)
        assert chain.height() == height + 1

    @pytest.mark.parametrize("depth", [0, -1])
    def test_less_than_a_block_is_refused(self, chain, names, depth):
        with pytest.raises(Rejected, match=f"at least one block, not {depth}"):
            names.reorganise(depth, keep=False)

    def test_the_tokens_own_blocks_stay(self, chain, names):
        deepest = chain.height() - FURNISHED_HEIGHT
        hashes = [chain.block_hash(height) for height in range(chain.height() + 1)]
        for depth in (deepest + 1, 10**12):
            with pytest.raises(Rejected, match=f"at most {deepest} blocks can be replaced, not {depth}: the tokens"):
                names.reorganise(depth, keep=False)
        assert [chain.block_hash(height) for height in range(chain.height() + 1)] == hashes

    def test_hardhat_without_a_snapshot_says_what_to_do_and_anvil_needs_none(self, chain, names):
        names.take("mark")
        chain.mine(3)
        if chain.kind is NodeKind.ANVIL:
            assert reorganise(chain.url, 2, keep=False).mark is None
            return
        with pytest.raises(NoWayBack, match=r"allow a depth of 3\. Take one before .* chain up --kind anvil"):
            names.reorganise(2, keep=False)


def test_a_very_deep_one_is_refused_whatever_the_height(tmp_path):
    with start_local_chain(tmp_path, NodeKind.ANVIL) as chain:
        local.mine(chain.url, DEPTH_MAX + 100)
        with pytest.raises(Rejected, match=f"at most {DEPTH_MAX} blocks can be replaced, not {DEPTH_MAX + 1}$"):
            reorganise(chain.url, DEPTH_MAX + 1, keep=False)
