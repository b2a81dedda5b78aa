"""What a house publishes of an epoch: whatever is altered in it is refused, and no label is believed."""

import json
from typing import Any

import msgspec
import pytest

from custody.derivation import AccountKeys, AddressSource, Role
from custody.messages import encode_signature, proof_digest
from custody.transactions import in_memory
from tests.treasury.test_solvency_tree import KEY, TERMS, owner, tree_over
from treasury.errors import SolvencyProofInvalid
from treasury.solvency_proofs import write_proof
from treasury.solvency_reading import Standing, check_fits, check_published, read_given, read_published, write_bundle
from treasury.solvency_statements import (
    FORMAT,
    AnchorTold,
    AtAddress,
    AtBank,
    BlockTold,
    ControlTold,
    ListTold,
    Published,
    Statement,
    covered,
    key_hash,
    ratio,
)

CHAIN = 31337
KEYS = AccountKeys(Role.HOT, bytes(range(64)))
ADDRESS = AddressSource(KEYS.xpub).address(0)
TREE = tree_over([70, 30])


def statement(**more) -> Statement:
    lists = (ListTold(asset="USDC", users=2, total="100", root=TREE.root.hex()),)
    reserves = (
        AtAddress(asset="USDC", amount="60", network="local", role="hot", address="0x" + ADDRESS.hex()),
        AtBank(asset="USDC", amount="39", account="main", statement="S1", as_of="2026-01-01"),
    )
    told: dict[str, Any] = {
        "format": FORMAT,
        "book": "main",
        "number": 7,
        "seq": TERMS.seq,
        "booked_at": "2026-01-01T00:00:00+00:00",
        "made_at": "2026-01-01T00:00:00+00:00",
        "key": key_hash(KEY),
        "books": 1,
        "lists": lists,
        "coverage": covered(lists, reserves, {"USDC": (5, 0, 0)}),
        "networks": (BlockTold(network="local", chain_id=CHAIN, block_number=9, block_hash="0x" + "ab" * 32, nodes=2),),
        "reserves": reserves,
        "untold": (),
    }
    return Statement(**(told | more))


def signature(digest: bytes, *, epoch: str = "7", chain_id: int = CHAIN, index: int = 0) -> str:
    said = proof_digest(ADDRESS, chain_id=chain_id, epoch=epoch, root=digest)
    return encode_signature(*in_memory(KEYS.private_key(index))(said)).hex()


def published(said: Statement, *signatures: str) -> Published:
    controls = tuple(ControlTold(network="local", address="0x" + ADDRESS.hex(), signature=one) for one in signatures)
    return Published(statement=said, digest=said.digest().hex(), controls=controls, seal=None)


GOOD = statement()


def refused(code: str, given: Published, **more) -> None:
    with pytest.raises(SolvencyProofInvalid) as error:
        check_published(given, **more)
    assert error.value.code == code


def test_what_is_signed_is_proven_what_a_bank_says_attested_and_the_rest_only_stated():
    signed = read_published(published(GOOD, signature(GOOD.digest())).document())
    (held,) = check_published(signed, digest=GOOD.digest())
    assert held.by_standing == {Standing.PROVEN: 60, Standing.ATTESTED: 39}
    (held,) = check_published(published(GOOD))
    assert held.by_standing == {Standing.STATED: 60, Standing.ATTESTED: 39}


@pytest.mark.parametrize(
    "forged",
    [
        signature(GOOD.digest(), epoch="8"),
        signature(GOOD.digest(), chain_id=1),
        signature(GOOD.digest(), index=1),
        signature(bytes(32)),
        "00" * 65,
    ],
)
def test_a_signature_of_another_epoch_network_address_or_hash_is_refused(forged):
    refused("control_invalid", published(GOOD, forged))


def test_one_signature_twice_is_refused():
    refused("control_invalid", published(GOOD, signature(GOOD.digest()), signature(GOOD.digest())))


@pytest.mark.parametrize(
    ("name", "value"),
    [("held", "100"), ("owed", "99"), ("ratio", "1.000000"), ("receivable", "6"), ("in_transit", "1")],
)
def test_an_altered_coverage_is_refused_whoever_hashes_it_anew(name, value):
    told = json.loads(published(GOOD).document())
    told["statement"]["coverage"][0][name] = value
    forged = read_published(json.dumps(told).encode())
    refused("digest_differs", forged)
    refused("other_epoch", published(forged.statement), digest=GOOD.digest())
    if name not in BESIDE:
        refused("coverage_differs", published(forged.statement))


BESIDE = ("receivable", "in_transit")
"""What no sum of the statement gives: only the hash that everybody was shown holds it."""


def test_a_reserve_told_twice_is_refused():
    twice = (*GOOD.reserves, GOOD.reserves[0])
    refused("told_twice", published(statement(reserves=twice, coverage=covered(GOOD.lists, twice, {}))))


def test_a_list_without_coverage_and_a_reserve_without_a_block_are_refused():
    refused("coverage_differs", published(statement(coverage=())))
    refused("coverage_differs", published(statement(networks=())))


def test_a_proof_fits_only_the_statement_of_its_list():
    proof = TREE.inclusion(owner(0))
    check_fits(proof, GOOD)
    lower = (ListTold(asset="USDC", users=2, total="99", root=TREE.root.hex()),)
    for other in (statement(number=8), statement(seq=1), statement(lists=lower), statement(lists=())):
        with pytest.raises(SolvencyProofInvalid):
            check_fits(proof, other)


def test_a_users_file_is_read_as_it_was_written():
    content = write_bundle([write_proof(TREE.inclusion(owner(0)))], published(GOOD), published_at="https://x.test/7")
    given = read_given(content)
    assert (given.published, given.published_at) == (published(GOOD), "https://x.test/7")
    assert [one.amount for one in given.proofs] == [70]


def anchored(**more) -> Published:
    told: dict[str, Any] = {
        "network": "local",
        "sender": "0x" + "5e" * 20,
        "to": "0x" + "a2" * 20,
        "tx": "0x" + "77" * 32,
        "block_number": 10,
        "block_hash": "0x" + "bb" * 32,
        "state": "final",
    }
    return msgspec.structs.replace(published(GOOD), anchor=AnchorTold(**(told | more)))


def test_an_anchor_stands_beside_the_statement_and_not_in_its_hash():
    check_published(anchored(), digest=GOOD.digest())
    assert read_published(anchored().document()) == anchored()


@pytest.mark.parametrize("change", [{"network": "other"}, {"block_number": 9}, {"block_number": 8}])
def test_an_anchor_that_cannot_be_the_epochs_is_refused(change):
    refused("anchor_differs", anchored(**change))


def test_a_file_from_before_anchors_is_read():
    content = json.loads(write_bundle([write_proof(TREE.inclusion(owner(0)))], published(GOOD), published_at=None))
    del content["epoch"]["anchor"]
    content["format"] = "onebook-solvency-file-2"
    assert read_given(json.dumps(content).encode()).published == published(GOOD)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"[" * 50_000, b'{"format":"onebook-solvency-file-2"}'])
def test_what_is_no_file_of_proofs_is_refused(content):
    for read in (read_given, read_published):
        with pytest.raises(SolvencyProofInvalid):
            read(content)


@pytest.mark.parametrize(
    ("held", "owed", "told"),
    [(2, 3, "0.666666"), (3, 3, "1.000000"), (10**30, 3, f"{'3' * 30}.333333"), (-1, 3, "-0.333334"), (5, 0, None)],
)
def test_a_coverage_is_rounded_down(held, owed, told):
    assert ratio(held, owed) == told


def test_the_tree_of_the_published_vector_is_that_of_the_docs():
    """Two users, 70 and 30 USDC, key 00..1f: whoever writes a verifier can compare."""
    assert TREE.root.hex() == VECTOR


VECTOR = "7cde1b7db923b41844d799fd9700e734ddf97e2af7fe42d61e35c9c2afc5a3b4"
