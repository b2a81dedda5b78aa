"""What is signed off the chain, against a second opinion (eth-account): digests, signers, and nonces of one's own."""

from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import _hash_eip191_message, encode_defunct, encode_typed_data
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from custody.errors import IntentInvalid
from custody.intents import Authorisation, ProofOfControl
from custody.messages import authorisation_nonce, encode_signature, message_digest, message_signer, proof_text
from custody.transactions import in_memory
from tests.custody.bench import ACCOUNTS, address
from tests.custody.samples import DEPOSIT, HOT, authorisation, proof
from tests.custody.strategies import addresses, amounts, hashes, ids, texts

TYPES = {
    "TransferWithAuthorization": [
        {"name": "from", "type": "address"},
        {"name": "to", "type": "address"},
        {"name": "value", "type": "uint256"},
        {"name": "validAfter", "type": "uint256"},
        {"name": "validBefore", "type": "uint256"},
        {"name": "nonce", "type": "bytes32"},
    ]
}
chains = st.integers(1, 2**63 - 1)
some = settings(max_examples=40, deadline=None)


def typed(intent: Authorisation) -> Any:
    to = intent.to if isinstance(intent.to, bytes) else address(intent.to)
    return encode_typed_data(
        domain_data={
            "name": intent.domain_name,
            "version": intent.domain_version,
            "chainId": intent.chain_id,
            "verifyingContract": "0x" + intent.contract.hex(),
        },
        message_types=TYPES,
        message_data={
            "from": "0x" + address(intent.sender).hex(),
            "to": "0x" + to.hex(),
            "value": intent.amount,
            "validAfter": 0,
            "validBefore": intent.valid_before,
            "nonce": authorisation_nonce(intent.chain_id, intent.subject),
        },
    )


@given(st.data())
@some
def test_an_authorisation_is_the_digest_that_eth_account_makes_of_it(told: st.DataObject):
    contract, to = told.draw(addresses), told.draw(st.one_of(st.just(HOT), addresses))
    assume(contract != to)
    intent = authorisation(
        subject=told.draw(ids),
        chain_id=told.draw(chains),
        contract=contract,
        domain_name=told.draw(texts),
        domain_version=told.draw(texts),
        to=to,
        amount=told.draw(amounts),
        valid_before=told.draw(chains),
    )
    digest = message_digest(intent, address)
    assert digest == bytes(_hash_eip191_message(typed(intent)))
    signature = encode_signature(*in_memory(ACCOUNTS[DEPOSIT.role].private_key(DEPOSIT.index))(digest))
    assert message_signer(digest, signature) == address(DEPOSIT)
    assert bytes.fromhex(Account.recover_message(typed(intent), signature=signature)[2:]) == address(DEPOSIT)


@given(st.from_regex(r"[0-9]{1,20}", fullmatch=True), hashes)
@some
def test_a_proof_is_what_every_wallet_calls_a_signed_message(epoch: str, root: bytes):
    intent: ProofOfControl = proof(epoch=epoch, root=root)
    text = proof_text(address(HOT), chain_id=intent.chain_id, epoch=epoch, root=root)
    said = encode_defunct(text=text)
    digest = message_digest(intent, address)
    assert digest == bytes(_hash_eip191_message(said))
    signature = encode_signature(*in_memory(ACCOUNTS[HOT.role].private_key(HOT.index))(digest))
    assert bytes.fromhex(Account.recover_message(said, signature=signature)[2:]) == message_signer(digest, signature)


def test_a_proof_has_one_form():
    checksummed = Account.from_key(ACCOUNTS[HOT.role].private_key(0)).address
    text = f"Onebook proves control of {checksummed} on network 31337 for 7 {bytes(range(32)).hex()}"
    said = proof_text(address(HOT), chain_id=31337, epoch="7", root=bytes(range(32)))
    assert (said, message_digest(proof(), address)) == (text, bytes(_hash_eip191_message(encode_defunct(text=text))))


@given(st.lists(st.tuples(chains, ids), min_size=2, max_size=20, unique=True))
@some
def test_every_network_and_sweep_has_its_own_authorisation_nonce(places: list[tuple[int, str]]):
    assert len({authorisation_nonce(*place) for place in places}) == len(places)


def test_what_is_no_signature_is_refused():
    digest = message_digest(proof(), address)
    r, s, parity = in_memory(ACCOUNTS[HOT.role].private_key(0))(digest)
    good = encode_signature(r, s, parity)
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    wrong = [b"", good[:-1], good + b"\0", bytes(65), good[:64] + b"\0", good[:64] + b"\x1d", bytes(32) + good[32:]]
    wrong.append(encode_signature(r, order - s, 1 - parity))
    for signature in wrong:
        with pytest.raises(IntentInvalid):
            message_signer(digest, signature)
    assert message_signer(digest, good) == address(HOT)
    assert message_signer(bytes(32), good) != address(HOT)
