"""Claims: what the asker may have kept in the journal beside an intent, and nothing else."""

import pytest

from custody.claims import claims_from
from custody.errors import IntentInvalid

LEAST = {"account": "usr_a/wallet/USDC", "asset": "USDC", "amount": "5", "key_hash": None}
TERMS = {"content": bytes(32), "fee_highest": "7", "fee_price": "1/3", "fee_wei_max": "9"}


@pytest.mark.parametrize("told", [LEAST, LEAST | {"key_hash": bytes(32)}, LEAST | TERMS, LEAST | {"fee_price": "0/1"}])
def test_claims_are_kept_as_they_are_said(told):
    assert claims_from(told) == told


@pytest.mark.parametrize(
    "odd",
    [
        {"content": bytes(31)},
        {"content": "00" * 32},
        {"content": None},
        {"fee_highest": 7},
        {"fee_highest": ""},
        {"fee_highest": "-1"},
        {"fee_highest": "9" * 201},
        {"fee_price": "1"},
        {"fee_price": "1/"},
        {"fee_price": "1.5/2"},
        {"fee_price": "9" * 101 + "/1"},
        {"fee_price": "٣/1"},
        {"fee_wei_max": "0x1"},
        {"memo": "dinner"},
        {"account": "a" * 201},
        {"amount": "5.00"},
        {"key_hash": bytes(33)},
    ],
)
def test_claims_of_another_form_are_refused(odd):
    with pytest.raises(IntentInvalid, match="claims are account, asset, amount"):
        claims_from(LEAST | odd)
    with pytest.raises(IntentInvalid):
        claims_from({name: value for name, value in LEAST.items() if name != next(iter(odd))} | odd)
