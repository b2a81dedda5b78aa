"""A signature is taken for an authorisation only if its owner signed exactly that, as eth-account reads it."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from eth_account import Account
from eth_utils.crypto import keccak

from chain.errors import SignerUnavailable
from chain.evm.authorisations import AUTHORIZATION_USED, check_authorisation, using
from chain.evm.blocks import Block, Log, MinedTransaction
from chain.observations import BlockRef
from chain.orders import authorisation_nonce
from chain.signing import AuthorisationIntent, OwnKey, Role
from tests.support.eip3009 import Authorization, circle_domain, sign

KEY = keccak(text="a deposit address")
OWNER = Account.from_key(KEY).address.lower()
HOT = "0x" + "0a" * 20
TOKEN = "0x" + "c5" * 20
INTENT = AuthorisationIntent(
    subject="swp_1",
    chain_id=31337,
    owner=OwnKey(Role.DEPOSIT, 7),
    contract=TOKEN,
    domain_name="USD Coin",
    domain_version="2",
    to=OwnKey(Role.HOT, 0),
    amount=40_000_000,
    valid_before=1_800_000_000,
)


def signed(key: bytes = KEY, **changes: object) -> bytes:
    """65 bytes over the intent with these changes."""
    told = replace(INTENT, **changes)  # type: ignore[arg-type]
    nonce = authorisation_nonce(told.chain_id, told.subject)
    wanted = Authorization(
        owner=OWNER, to=HOT, amount=told.amount, nonce=nonce, valid_before=told.valid_before, valid_after=0
    )
    domain = circle_domain(told.chain_id, told.contract, name=told.domain_name, version=told.domain_version)
    v, r, s = sign(key, domain, wanted)
    return r + s + bytes([v])


def test_the_owner_s_own_signature_is_taken():
    check_authorisation(signed(), INTENT, owner=OWNER, recipient=HOT)


@pytest.mark.parametrize(
    "changes",
    [
        {"subject": "swp_2"},
        {"chain_id": 1},
        {"contract": HOT},
        {"domain_name": "USDC"},
        {"domain_version": "1"},
        {"amount": 40_000_001},
        {"valid_before": 1_800_000_001},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_signature_over_other_terms_is_not_taken(changes):
    with pytest.raises(SignerUnavailable) as refused:
        check_authorisation(signed(**changes), INTENT, owner=OWNER, recipient=HOT)
    assert refused.value.code == "signer_mismatch"


@pytest.mark.parametrize(
    "signature", [b"", bytes(65), signed()[:64], signed() + b"\0", signed(keccak(text="somebody else"))]
)
def test_what_is_no_signature_of_the_owner_s_is_not_taken(signature):
    with pytest.raises(SignerUnavailable):
        check_authorisation(signature, INTENT, owner=OWNER, recipient=HOT)


def test_a_signature_with_a_high_s_is_not_taken():
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    low = signed()
    high = low[:32] + (order - int.from_bytes(low[32:64], "big")).to_bytes(32, "big") + bytes([55 - low[64]])
    with pytest.raises(SignerUnavailable):
        check_authorisation(high, INTENT, owner=OWNER, recipient=HOT)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, ["0x01"]),
        ({"contract": HOT}, []),  # a look-alike tells of it
        ({"topics": (AUTHORIZATION_USED, f"0x{HOT[2:]:0>64}", "0x" + "22" * 32)}, []),
        ({"topics": (AUTHORIZATION_USED, f"0x{OWNER[2:]:0>64}", "0x" + "23" * 32)}, []),
        ({"topics": ("0x" + "99" * 32, f"0x{OWNER[2:]:0>64}", "0x" + "22" * 32)}, []),
    ],
)
def test_only_the_token_s_own_word_on_this_nonce_is_evidence(changes, found):
    told = {"contract": TOKEN, "topics": (AUTHORIZATION_USED, f"0x{OWNER[2:]:0>64}", "0x" + "22" * 32)} | changes
    transaction = MinedTransaction(
        tx_hash="0x01",
        sender=HOT,
        recipient=TOKEN,
        created=None,
        nonce=0,
        value=0,
        succeeded=True,
        gas_used=1,
        effective_gas_price=1,
        logs=(Log(payload=b"", **told),),
    )
    block = Block(BlockRef(1, "0xb1", "0xb0"), datetime(2026, 1, 1, tzinfo=UTC), 0, True, (transaction,))
    assert list(using(block, contract=TOKEN, owner=OWNER, nonce=b"\x22" * 32)) == found
