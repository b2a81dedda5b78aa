"""The withdrawal's state machine and its fee, both pure."""

from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.networks import Deployment
from exchange.rates_file import parse_rates
from ledger.money import Asset, AssetKind
from tests.wallet.conftest import RATES
from wallet.errors import WalletCorrupt
from wallet.network_fees import actual_fee, highest_fee, wei_price
from wallet.withdrawal_states import CANCELLABLE, ENDED, NEXT, WithdrawalState, advance, catch_up

_S = WithdrawalState
NATIVE = Deployment(asset="ETH", network="local", contract=None, decimals=18)
ETH = Asset("ETH", AssetKind.CRYPTO, 18)


def test_every_state_leads_somewhere_or_ends():
    assert set(NEXT) == set(WithdrawalState)
    assert {_S.FINAL, _S.REJECTED, _S.CANCELLED, _S.REVERTED} == ENDED


def test_nothing_is_cancelled_by_its_owner_once_a_nonce_is_reserved():
    assert all(_S.CANCELLED in NEXT[state] for state in CANCELLABLE)
    assert not CANCELLABLE & {_S.NONCE_RESERVED, _S.SIGNED, _S.BROADCAST, _S.MINED}


def test_what_was_signed_is_cancelled_only_by_what_is_mined():
    assert not any(_S.CANCELLED in NEXT[state] for state in (_S.SIGNED, _S.BROADCAST))
    assert _S.CANCELLED in NEXT[_S.MINED]


def test_after_signing_only_final_evidence_or_a_person_ends_it():
    for state in (_S.SIGNED, _S.BROADCAST):
        assert not NEXT[state] & ENDED


@pytest.mark.parametrize(
    ("state", "to"), [(_S.NONCE_RESERVED, _S.FINAL), (_S.BROADCAST, _S.FINAL), (_S.MINED, _S.BROADCAST)]
)
def test_it_may_catch_up_over_several_steps(state, to):
    assert catch_up(state, to) is to


@pytest.mark.parametrize(("state", "to"), [(_S.FINAL, _S.BROADCAST), (_S.BROADCAST, _S.HELD), (_S.MINED, _S.SIGNED)])
def test_no_evidence_turns_it_back_to_where_no_way_leads(state, to):
    with pytest.raises(WalletCorrupt):
        catch_up(state, to)
    with pytest.raises(WalletCorrupt):
        advance(state, to)


@given(st.integers(0, 10**20), st.integers(1, 10**20))
def test_the_fee_is_gas_at_the_stored_rate_rounded_up_and_never_above_the_promise(fee_wei, fee_wei_max):
    usdc = Asset("USDC", AssetKind.STABLECOIN, 6)
    price = wei_price(NATIVE, ETH, usdc, parse_rates(RATES))
    per_wei = Fraction("2500.50") * Fraction(10**6, 10**18)
    highest = highest_fee(price, fee_wei_max)
    assert highest == ceil(fee_wei_max * per_wei)
    assert actual_fee(price, fee_wei=fee_wei, fee_highest=highest) == min(highest, ceil(fee_wei * per_wei))


def test_the_networks_own_coin_needs_no_rate():
    price = wei_price(NATIVE, ETH, ETH, None)
    assert highest_fee(price, 12345) == 12345
