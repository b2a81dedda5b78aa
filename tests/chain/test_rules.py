"""The chain's pure rules: fees, states, reorganisations, transfers, addresses, networks, nodes' words."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.errors import BrokenInvariant, ConfigError
from chain import fees
from chain.errors import (
    AlreadyKnown,
    FeeTooLow,
    GasLimitRefused,
    InsufficientFunds,
    InvalidAddress,
    MethodUnsupported,
    NodeRefused,
    NonceTooHigh,
    NonceTooLow,
    NotAWholeUnit,
    NotOnNetwork,
    ReplacementUnderpriced,
    Reverted,
    from_node,
)
from chain.evm import transfers
from chain.evm.addresses import parse_address, show_address
from chain.evm.blocks import Block, Log, MinedTransaction
from chain.fees import Bid, Market
from chain.networks import GWEI, Deployment, Network, Registry, to_chain_units, to_ledger_units
from chain.observations import BlockRef
from chain.reorg import common_ancestor, connected
from chain.transaction_states import OPEN, Event, State, advance

OWN, OTHER, THIRD, TOKEN = ("0x" + f"{n:040x}" for n in (0xA, 0xB, 0xC, 0xD))
TX = "0x" + "ab" * 32


class TestFees:
    @pytest.mark.parametrize(
        ("base", "tip", "cap", "bid"),
        [
            (10, 3, 100, Bid(23, 3)),
            (10, 0, 100, Bid(21, 1)),  # the floor
            (50, 3, 100, Bid(100, 3)),  # less headroom at the cap
            (99, 3, 100, Bid(100, 3)),
            (100, 3, 100, None),  # not even base fee and floor
            (10, 300, 100, Bid(100, 100)),  # never a tip above the fee
        ],
    )
    def test_the_first_bid_follows_the_market_under_the_cap(self, base, tip, cap, bid):
        assert fees.first_bid(Market(base, tip), tip_floor=1, cap=cap) == bid

    @given(
        max_fee=st.integers(2, 10**14),
        tip=st.integers(0, 10**12),
        base=st.integers(0, 10**13),
        market_tip=st.integers(0, 10**12),
    )
    def test_a_replacement_outbids_by_fifteen_percent_or_not_at_all(self, max_fee, tip, base, market_tip):
        old, cap = Bid(max_fee, min(tip, max_fee)), 10**15
        new = fees.outbid(old, Market(base, market_tip), tip_floor=1, cap=cap)
        if new is None:
            return
        assert new.tip <= new.max_fee_per_gas <= cap
        for before, after in ((old.max_fee_per_gas, new.max_fee_per_gas), (old.tip, new.tip)):
            assert after > before
            assert after * 100 >= before * 115

    def test_a_replacement_above_the_cap_is_not_made(self):
        assert fees.outbid(Bid(90, 1), Market(1, 1), tip_floor=1, cap=100) is None
        assert fees.outbid(Bid(80, 1), Market(1, 1), tip_floor=1, cap=100) == Bid(92, 2)
        assert fees.outbid(Bid(80, 1), Market(100, 1), tip_floor=1, cap=100) is None

    def test_a_bid_is_outdone_by_the_base_fee_or_by_others_tips(self):
        assert not fees.is_outdone(Bid(20, 2), Market(18, 2))
        assert fees.is_outdone(Bid(20, 2), Market(19, 2))
        assert fees.is_outdone(Bid(20, 2), Market(1, 3))

    def test_tips_of_empty_blocks_say_nothing(self):
        assert fees.read_market([5, 6, 7], [False, False], [0, 0]) == Market(7, 0)
        assert fees.read_market([5, 6, 7, 8], [True, False, True], [9, 0, 4]) == Market(8, 9)

    def test_an_estimate_promises_at_most_the_cap(self):
        cost = fees.estimate(Market(10, 2), gas_limit=21_000, tip_floor=1, network_cap=30)
        assert cost is not None
        assert (cost.expected_wei, cost.highest_wei) == (21_000 * 12, 21_000 * 30)
        assert fees.estimate(Market(30, 2), gas_limit=21_000, tip_floor=1, network_cap=30) is None


class TestStates:
    def test_an_end_has_no_way_on(self):
        for state in set(State) - OPEN:
            for event in Event:
                with pytest.raises(BrokenInvariant):
                    advance(state, event)

    def test_after_signing_only_final_evidence_ends_it(self):
        ends = {Event.FINAL_PAID, Event.FINAL_REVERTED, Event.FINAL_CANCELLED, Event.DISPLACED}
        for state in (State.SIGNED, State.BROADCAST, State.MINED):
            for event in set(Event) - ends:
                try:
                    after = advance(state, event)
                except BrokenInvariant:
                    continue
                assert after in OPEN

    def test_mined_and_back(self):
        assert advance(State.BROADCAST, Event.MINED) is State.MINED
        assert advance(State.MINED, Event.UNMINED) is State.BROADCAST
        with pytest.raises(BrokenInvariant):
            advance(State.BROADCAST, Event.FINAL_PAID)


class TestReorganisation:
    def test_the_ancestor_is_the_highest_block_both_have(self):
        assert common_ancestor({1: "a", 2: "b", 3: "c"}, {1: "a", 2: "b", 3: "x"}) == 2
        assert common_ancestor({1: "a", 2: "b"}, {1: "a", 2: None}) == 1
        assert common_ancestor({1: "a"}, {1: "x"}) is None
        assert common_ancestor({}, {1: "x"}) is None

    def test_only_what_hangs_together_is_taken(self):
        one, two, four = BlockRef(1, "h1", "h0"), BlockRef(2, "h2", "h1"), BlockRef(4, "h4", "h2")
        assert connected("h0", [one, two, four]) == [one, two]
        assert connected("other", [one, two]) == []
        assert connected(None, [two]) == [two]


def block_of(*transactions):
    return Block(BlockRef(1, "0x01", "0x00"), datetime(2026, 1, 1, tzinfo=UTC), 7, True, transactions)


def mined(*logs, sender=OTHER, to=THIRD, value=0, succeeded=True, created=None):
    return MinedTransaction(TX, sender, to, created, 0, value, succeeded, 21_000, 10, logs)


def transfer_log(sender, recipient, amount, *, contract=TOKEN, topics=()):
    words = [transfers.TRANSFER_TOPIC, *("0x" + "00" * 12 + one[2:] for one in (sender, recipient)), *topics]
    return Log(contract, tuple(words), amount.to_bytes(32, "big"))


class TestTransfers:
    def test_f23_each_transfer_of_a_transaction_stands_at_its_own_place(self):
        noise = Log(TOKEN, ("0x" + "99" * 32,), b"")
        block = block_of(
            mined(
                transfer_log(OTHER, OWN, 5),
                noise,
                transfer_log(OTHER, OWN, 5),
                transfer_log(OWN, OWN, 1),
                to=OWN,
                value=3,
            )
        )
        found = [(one.place, one.contract, one.amount) for one in transfers.observations(block, {OWN})]
        assert found == [("value", None, 3), ("log:0", TOKEN, 5), ("log:2", TOKEN, 5), ("log:3", TOKEN, 1)]

    @pytest.mark.parametrize(
        "transaction",
        [
            mined(transfer_log(OTHER, OWN, 5), to=OWN, value=3, succeeded=False),
            mined(transfer_log(OTHER, OWN, 0), to=OWN, value=0),
            mined(transfer_log(OTHER, THIRD, 5)),
            mined(transfer_log(OTHER, OWN, 5, topics=("0x" + "01" * 32,))),  # an ERC-721 token's number
            mined(Log(TOKEN, (transfers.TRANSFER_TOPIC,), b"\0" * 96)),  # nothing indexed
            mined(Log(TOKEN, transfer_log(OTHER, OWN, 5).topics, b"\x05")),  # not a word
            mined(
                Log(TOKEN, (*transfer_log(OTHER, OWN, 5).topics[:2], "0x" + "ff" * 12 + OWN[2:]), b"\0" * 31 + b"\5")
            ),
        ],
    )
    def test_f18_f19_what_moved_nothing_to_us_is_no_observation(self, transaction):
        assert transfers.observations(block_of(transaction), {OWN}) == ()

    def test_value_put_into_a_new_contract_goes_to_it(self):
        block = block_of(mined(to=None, created=OWN, value=3))
        assert [one.recipient for one in transfers.observations(block, {OWN})] == [OWN]

    def test_the_largest_amount_is_exact(self):
        block = block_of(mined(transfer_log(OTHER, OWN, 2**256 - 1)))
        assert transfers.observations(block, {OWN})[0].amount == 2**256 - 1

    def test_touched_names_payers_payees_and_senders(self):
        block = block_of(mined(transfer_log(OTHER, OWN, 5), sender=THIRD, to=TOKEN))
        assert transfers.touched(block) == {OTHER, OWN, THIRD}

    def test_failed_transactions_of_ours_are_outgoing_too(self):
        (sent,) = transfers.outgoing(block_of(mined(sender=OWN, succeeded=False), mined()), {OWN})
        assert (sent.succeeded, sent.fee_wei) == (False, 210_000)


class TestAddresses:
    @pytest.mark.parametrize(  # the examples of EIP-55
        "address",
        [
            "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
            "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
            "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
            "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
            "0x52908400098527886E0F7030069857D2E4169EE7",
            "0xde709f2102306220921060314715629080e2fb77",
        ],
    )
    def test_a_right_checksum_is_taken_and_shown(self, address):
        assert parse_address(address) == address.lower()
        assert parse_address(address.lower()) == address.lower()
        assert show_address(address.lower()) == address

    @pytest.mark.parametrize(
        ("text", "code"),
        [
            ("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeD", "wrong_checksum"),
            ("5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "invalid_address"),
            ("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeA", "invalid_address"),
            ("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed\n", "invalid_address"),
            ("alice.eth", "invalid_address"),
            ("", "invalid_address"),
            ("0x" + "00" * 20, "zero_address"),
        ],
    )
    def test_anything_else_is_refused_with_a_reason(self, text, code):
        with pytest.raises(InvalidAddress) as caught:
            parse_address(text)
        assert caught.value.code == code


def network(**changes):
    settings: dict[str, Any] = {
        "name": "local",
        "chain_id": 1,
        "rpc_urls": ("http://127.0.0.1:1",),
        "native_asset": "ETH",
        "spendable_depth": 1,
        "final_depth": 4,
    }
    return Network(**(settings | changes))


class TestNetworks:
    USDC = Deployment(asset="USDC", network="local", contract=TOKEN, decimals=6)
    ETH = Deployment(asset="ETH", network="local", contract=None, decimals=18)

    def test_found_by_name_contract_and_asset(self):
        registry = Registry([network()], [self.USDC, self.ETH])
        assert registry.by_contract("local", TOKEN) is self.USDC
        assert registry.by_contract("local", None) is self.ETH
        assert registry.by_contract("local", OWN) is None
        assert registry.by_asset("local", "ETH") is self.ETH
        assert registry.on("local") == (self.USDC, self.ETH)
        for asked in (lambda: registry.by_asset("local", "DAI"), lambda: registry.network("moon")):
            with pytest.raises(NotOnNetwork):
                asked()

    def test_units_are_exact_both_ways_or_refused(self):
        assert to_ledger_units(5, self.USDC, scale=8) == 500
        assert to_chain_units(500, self.USDC, scale=8) == 5
        with pytest.raises(NotAWholeUnit) as caught:
            to_chain_units(501, self.USDC, scale=8)
        assert caught.value.facts["nearest"] == ["500", "600"]
        with pytest.raises(ConfigError):
            to_ledger_units(5, self.USDC, scale=5)

    @pytest.mark.parametrize(
        "changes",
        [
            {"rpc_urls": ()},
            {"spendable_depth": 0},
            {"spendable_depth": 5, "final_depth": 4},
            {"tip_floor": 0},
            {"max_fee_per_gas_cap": 0},
        ],
    )
    def test_a_network_that_cannot_work_is_refused(self, changes):
        with pytest.raises(ConfigError):
            network(**changes)

    @pytest.mark.parametrize(
        "deployments",
        [[USDC, USDC], [Deployment(asset="X", network="moon", contract=None, decimals=1)]],
    )
    def test_a_registry_that_contradicts_itself_is_refused(self, deployments):
        with pytest.raises(ConfigError):
            Registry([network()], deployments)

    def test_gas_prices_have_a_floor_and_a_cap_by_default(self):
        assert 0 < network().tip_floor < GWEI < network().max_fee_per_gas_cap


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        # geth
        ("already known", AlreadyKnown),
        ("nonce too low: next nonce 5, tx nonce 4", NonceTooLow),
        ("replacement transaction underpriced", ReplacementUnderpriced),
        ("insufficient funds for gas * price + value: balance 0, tx cost 9", InsufficientFunds),
        ("transaction underpriced: gas tip cap 0, minimum needed 1", FeeTooLow),
        ("max fee per gas less than block base fee: address 0x1, maxFeePerGas: 1, baseFee: 7", FeeTooLow),
        ("intrinsic gas too low: gas 20999, minimum needed 21000", GasLimitRefused),
        ("exceeds block gas limit", GasLimitRefused),
        ("execution reverted: ERC20: transfer amount exceeds balance", Reverted),
        ("the method eth_foo does not exist/is not available", MethodUnsupported),
        # Hardhat
        ("Known transaction: 0x1234", AlreadyKnown),
        ("Nonce too low. Expected nonce to be 1 but got 0. Note that transactions can't be queued", NonceTooLow),
        ("Nonce too high. Expected nonce to be 1 but got 3.", NonceTooHigh),
        (
            "Replacement transaction underpriced. A gasPrice/maxFeePerGas of at least 3 is necessary",
            ReplacementUnderpriced,
        ),
        ("Sender doesn't have enough funds to send tx. The max upfront cost is: 5", InsufficientFunds),
        ("Transaction maxFeePerGas (1) is too low for the next block, which has a baseFeePerGas of 7", FeeTooLow),
        ("Method eth_getBlockReceipts is not supported", MethodUnsupported),
        ("Error: VM Exception while processing transaction: reverted with custom error", Reverted),
        # anvil
        ("transaction already imported", AlreadyKnown),
        ("Insufficient funds for gas * price + value", InsufficientFunds),
        # Nethermind, Besu
        ("AlreadyKnown", AlreadyKnown),
        ("OldNonce", NonceTooLow),
        ("Upfront cost exceeds account balance", InsufficientFunds),
        # anybody, one day
        ("the moon is in the wrong house", NodeRefused),
    ],
)
def test_f33_f34_f35_a_node_s_words_become_a_type_once(words, kind):
    assert type(from_node("eth_sendRawTransaction", -32000, words)) is kind


def test_the_code_for_an_unknown_method_is_enough():
    assert type(from_node("eth_foo", -32601, "?")) is MethodUnsupported
