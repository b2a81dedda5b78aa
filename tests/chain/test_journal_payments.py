"""What the signer's journal has signed, as the chain's own payments. Pure."""

from typing import Any

import pytest

from chain.networks import Network, Registry
from chain.signing import Anchor, Batch, Claims
from chain.transaction_states import Kind
from custody.derivation import AccountKeys, Role
from custody.journal_file import Head
from custody.signed_subjects import SignedAttempt, SignedSubject
from tests.custody.samples import (
    ANCHOR,
    CHAIN,
    TOKEN,
    anchor,
    batch,
    native_transfer,
    sweep,
    token_transfer,
    top_up,
)
from wiring.journal_payments import OutOfReach, journal_payment
from wiring.signing import XpubAddresses

ADDRESSES = XpubAddresses({role: AccountKeys(role, bytes(range(64))).xpub for role in Role})
CLAIMS: dict[str, Any] = {"account": "usr_a/wallet/USDC", "asset": "USDC", "amount": "5", "key_hash": None}


def registry(chain_id: int = CHAIN) -> Registry:
    urls = ("http://unused",)
    network = Network(
        name="here", chain_id=chain_id, rpc_urls=urls, native_asset="ETH", spendable_depth=1, final_depth=2
    )
    return Registry([network], [])


def signed(intent: Any, claims: Any = None) -> SignedSubject:
    attempt = SignedAttempt(intent.attempt, intent, b"raw", Head(3, bytes(32)), 0)
    return SignedSubject(intent.subject, intent.kind, intent.chain_id, intent.sender, intent.nonce, claims, [attempt])


def payment_of(one: SignedSubject, known: Registry | None = None) -> Any:
    return journal_payment(one, book="main", registry=known or registry(), addresses=ADDRESSES).payment


@pytest.mark.parametrize(
    ("intent", "kind"),
    [
        (token_transfer(), Kind.WITHDRAWAL),
        (native_transfer(), Kind.WITHDRAWAL),
        (sweep(), Kind.SWEEP),
        (top_up(), Kind.GAS_TOPUP),
        (batch(b"\x0c" * 20, contract=TOKEN), Kind.BATCH),
    ],
)
def test_each_kind_of_intent_is_a_payment_of_its_kind_and_amount(intent: Any, kind: Kind):
    made = payment_of(signed(intent))
    assert (made.kind, made.amount, made.subject, made.network) == (kind, intent.amount, intent.subject, "here")
    assert made.fee_wei_max == intent.gas_limit * intent.max_fee_per_gas


def test_the_claims_of_a_batch_are_its_legs_own():
    intent = batch(b"\x0c" * 20, contract=TOKEN)
    told = [CLAIMS, *[None] * (len(intent.legs) - 1)]
    made = payment_of(signed(intent, told))
    assert made.claims is None
    assert isinstance(made.order, Batch)
    assert made.order.legs[0].claims == Claims("usr_a/wallet/USDC", "USDC", 5, None)
    assert {leg.claims for leg in made.order.legs[1:]} <= {None}


def test_an_anchor_is_one_of_nothing_that_writes_its_root():
    made = payment_of(signed(anchor()))
    assert (made.kind, made.amount, made.to) == (Kind.ANCHOR, 0, "0x" + ANCHOR.hex())
    assert made.order == Anchor(bytes(range(32)))


def test_what_was_promised_bounds_the_fee_of_later_attempts():
    assert payment_of(signed(token_transfer(), CLAIMS | {"fee_wei_max": str(10**18)})).fee_wei_max == 10**18


@pytest.mark.parametrize(
    ("one", "known", "why"),
    [
        (signed(token_transfer(subject="mov_1")), None, "a payment of the house's own"),
        (signed(token_transfer()), registry(CHAIN + 1), f"chain id {CHAIN}, isn't configured"),
    ],
)
def test_what_nothing_here_can_carry_on_is_left_to_a_person(one: SignedSubject, known: Registry | None, why: str):
    with pytest.raises(OutOfReach, match=why):
        payment_of(one, known)
