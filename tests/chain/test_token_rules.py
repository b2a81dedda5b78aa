"""What is believed of a token: the rules alone."""

import pytest
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from chain import tokens
from chain.tokens import Quirk, TokenState, Verdict, arrived, differences, judge

AMOUNTS = st.integers(min_value=0, max_value=2**256 - 1)
CODE = "0x" + "ab" * 32
PLAIN = TokenState(code_hash=CODE, decimals=6)


def test_slots_and_topics_are_the_standards():
    def below(name: str) -> str:
        return hex(int.from_bytes(keccak(text=name), "big") - 1)

    assert below("eip1967.proxy.implementation") == tokens.IMPLEMENTATION_SLOT
    assert below("eip1967.proxy.beacon") == tokens.BEACON_SLOT
    assert "0x" + keccak(text="org.zeppelinos.proxy.implementation").hex() == tokens.ZOS_SLOT
    named = ("Upgraded(address)", "BeaconUpgraded(address)")
    assert tuple("0x" + keccak(text=name).hex() for name in named) == tokens.UPGRADED_TOPICS


@given(st.lists(st.integers(min_value=1, max_value=2**256 - 1), min_size=1, max_size=8), AMOUNTS, AMOUNTS, AMOUNTS)
def test_never_more_than_told_nor_than_came_is_counted(told, paid_out, before, after):
    shares = arrived(told, paid_out=paid_out, before=before, after=after)
    assert all(0 <= share <= amount for share, amount in zip(shares, told, strict=True))
    assert sum(shares) == min(max(after - before + paid_out, 0), sum(told))


@pytest.mark.parametrize(
    ("quirks", "told", "came", "verdict"),
    [
        ([], 100, 100, Verdict.CREDIT),
        ([], 100, 99, Verdict.QUARANTINE),
        ([], 100, 0, Verdict.NOTHING),
        ([], 100, None, Verdict.CREDIT),
        ([Quirk.PAUSE, Quirk.BLOCKLIST, Quirk.NO_RETURN_VALUE], 100, 99, Verdict.QUARANTINE),
        ([Quirk.FEE_ON_TRANSFER], 100, 99, Verdict.CREDIT),
        ([Quirk.FEE_ON_TRANSFER], 100, 0, Verdict.NOTHING),
        ([Quirk.FEE_ON_TRANSFER], 100, None, Verdict.WAIT),
        ([Quirk.REBASING], 100, 100, Verdict.QUARANTINE),
        ([Quirk.REBASING, Quirk.FEE_ON_TRANSFER], 100, 99, Verdict.QUARANTINE),
        ([Quirk.REBASING], 100, None, Verdict.WAIT),
    ],
)
def test_the_quirks_decide_what_becomes_of_it(quirks, told, came, verdict):
    assert judge(quirks, told=told, came=came) is verdict


def test_differences_are_named_and_the_configuration_counts():
    assert differences(None, PLAIN, decimals=6) == []
    assert differences(PLAIN, PLAIN, decimals=6) == []
    assert differences(PLAIN, PLAIN, decimals=8) == ["the contract has 6 decimals, configured are 8"]
    assert differences(None, TokenState(code_hash=None, decimals=None), decimals=6) == [
        "there is no contract at this address"
    ]
    proxied = TokenState(code_hash=CODE, decimals=8, zos="0x" + "01" * 20)
    assert differences(PLAIN, proxied, decimals=6) == [
        "its decimals changed: 6 -> 8",
        f"the implementation slot (zos) changed: None -> {proxied.zos}",
    ]


def test_a_state_is_named_by_all_of_it():
    assert TokenState.from_json(PLAIN.to_json()) == PLAIN
    other = TokenState(code_hash=CODE, decimals=6, beacon="0x" + "01" * 20)
    assert len({PLAIN.fingerprint, other.fingerprint}) == 2
