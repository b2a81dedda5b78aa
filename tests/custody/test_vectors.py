"""Published vectors, each file under vectors/ naming its source, against our code and a second library."""

import json
from pathlib import Path
from typing import Any

import pytest
import rlp  # type: ignore[import-untyped]
from bip_utils import Bip32Slip10Secp256k1
from coincurve import PrivateKey, PublicKey
from eth_abi.abi import encode
from eth_account import Account
from eth_account.messages import encode_defunct, encode_typed_data
from eth_utils import keccak as reference_keccak  # type: ignore[attr-defined]

from custody.derivation import (
    AccountKeys,
    AddressSource,
    Children,
    Role,
    address_of,
    checksummed,
    child_point,
    child_secret,
    keccak,
)
from custody.errors import XpubInvalid
from custody.intents import KeyRef, NativeTransfer
from custody.seeds import seed_from_words
from custody.transactions import build, read, sign
from tests.custody import reference
from tests.custody.reference import HARD


def vectors(name: str) -> Any:
    return json.loads((Path(__file__).parent / "vectors" / f"{name}.json").read_text(encoding="utf-8"))


def steps(path: str) -> list[int]:
    """The numbers of a path such as m/0'/1."""
    return [int(part.rstrip("'")) + (HARD if part.endswith("'") else 0) for part in path.split("/")[1:]]


def raw(hex_text: str) -> bytes:
    return bytes.fromhex(hex_text.removeprefix("0x"))


BIP32 = vectors("bip32")
CHAINS = [(one["seed"], each) for one in BIP32["valid"] for each in one["chains"]]
EIP1559, EIP712 = vectors("eip1559"), vectors("eip712")


def test_every_file_names_its_source():
    files = sorted(path.stem for path in (Path(__file__).parent / "vectors").glob("*.json"))
    assert {"bip32", "bip44", "eip155", "eip1559", "eip191", "eip55", "eip712"} <= set(files)
    assert [name for name in files if not (isinstance(vectors(name), dict) and vectors(name).get("source"))] == []


# BIP-32


@pytest.mark.parametrize(("seed", "chain"), CHAINS, ids=[f"{seed[:8]}:{chain['path']}" for seed, chain in CHAINS])
def test_bip32_vectors_hold_in_both_libraries(seed: str, chain: dict[str, str]):
    own = reference.master(raw(seed)).path(*steps(chain["path"]))
    assert (own.xpub(), own.xprv()) == (chain["xpub"], chain["xprv"])
    other = Bip32Slip10Secp256k1.FromSeed(raw(seed)).DerivePath(chain["path"])
    assert (other.PublicKey().ToExtended(), other.PrivateKey().ToExtended()) == (chain["xpub"], chain["xprv"])


@pytest.mark.parametrize("vector", BIP32["valid"], ids=lambda vector: f"vector {vector['vector']}")
def test_our_step_from_parent_to_child_gives_the_vectors_child(vector: dict[str, Any]):
    taken = 0
    for parent, child in zip(vector["chains"], vector["chains"][1:], strict=False):
        number = steps(child["path"])[-1]
        if number >= HARD:
            continue  # accounts are bip-utils' part
        above = Bip32Slip10Secp256k1.FromExtendedKey(parent["xprv"])
        below = Bip32Slip10Secp256k1.FromExtendedKey(child["xprv"])
        point = PublicKey(above.PublicKey().RawCompressed().ToBytes())
        tweak = Children(point.format(), above.ChainCode().ToBytes()).tweak(number)
        assert child_point(point, tweak) == below.PublicKey().RawUncompressed().ToBytes()
        secret = PrivateKey(above.PrivateKey().Raw().ToBytes())
        assert child_secret(secret, tweak) == below.PrivateKey().Raw().ToBytes()
        taken += 1
    assert taken == sum(step < HARD for step in steps(vector["chains"][-1]["path"]))


def test_all_sixteen_invalid_keys_of_vector_5_are_refused():
    assert len(BIP32["invalid"]) == 16
    for wrong in BIP32["invalid"]:
        with pytest.raises(XpubInvalid) as refusal:
            AddressSource(wrong["key"])
        assert refusal.value.message == "this isn't an extended public key", wrong["why"]  # not merely the wrong depth


# BIP-44 and EIP-55


@pytest.mark.parametrize("wallet", vectors("bip44")["wallets"], ids=lambda wallet: wallet["words"][:12])
def test_published_wallets_have_their_published_addresses(wallet: dict[str, Any]):
    keys = AccountKeys(Role.DEPOSIT, seed_from_words(wallet["words"]))
    source = AddressSource(keys.xpub)
    Account.enable_unaudited_hdwallet_features()
    for index, address in wallet["addresses"].items():
        assert source.checksummed(int(index)) == address
        assert Account.from_key(keys.private_key(int(index))).address == address
        assert Account.from_mnemonic(wallet["words"], account_path=f"m/44'/60'/0'/0/{index}").address == address
    if "first_private_key" in wallet:
        assert keys.private_key(0) == raw(wallet["first_private_key"])


def test_eip55_cases_hold():
    cases = vectors("eip55")
    for address in cases["all_capitals"] + cases["all_lower"] + cases["normal"]:
        assert checksummed(raw(address)) == address


# Hashes and signatures


def signature(key: bytes, digest: bytes) -> bytes:
    """r, s and v (27 or 28) of a digest, by the curve that signs transactions."""
    signed = PrivateKey(key).sign_recoverable(digest, hasher=None)
    return signed[:64] + bytes([signed[64] + 27])


def test_keccak_is_ethereums():
    assert keccak(b"") == raw("c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470")
    for length in (1, 64, 135, 136, 137, 1000):  # around the sponge's rate
        assert keccak(bytes(length)) == reference_keccak(bytes(length))


def test_eip155_example_is_signed_as_published():
    case = vectors("eip155")
    told, key = case["transaction"], raw(case["private_key"])
    body = [told["nonce"], told["gasPrice"], told["gas"], raw(told["to"]), told["value"], raw(told["data"])]
    encoded = rlp.encode([*body, told["chainId"], 0, 0])
    assert encoded == raw(case["signing_data"])
    assert keccak(encoded) == raw(case["signing_hash"])
    signed = signature(key, keccak(encoded))
    r, s, parity = int.from_bytes(signed[:32], "big"), int.from_bytes(signed[32:64], "big"), signed[64] - 27
    assert (told["chainId"] * 2 + 35 + parity, r, s) == (case["v"], int(case["r"]), int(case["s"]))
    assert rlp.encode([*body, case["v"], r, s]) == raw(case["signed"])
    assert Account.sign_transaction(told, key).raw_transaction == raw(case["signed"])


@pytest.mark.parametrize("case", EIP1559["transactions"], ids=lambda case: f"nonce {case['nonce']}")
def test_eip1559_vectors_are_signed_byte_for_byte(case: dict[str, Any]):
    key = raw(EIP1559["private_key"])
    intent = NativeTransfer(
        subject="wdr_vector",
        attempt=1,
        chain_id=EIP1559["chain_id"],
        sender=KeyRef(Role.HOT, 0),
        nonce=case["nonce"],
        gas_limit=case["gas_limit"],
        max_fee_per_gas=case["max_fee_per_gas"],
        max_priority_fee_per_gas=case["max_priority_fee_per_gas"],
        to=raw(EIP1559["to"]),
        amount=case["value"],
    )
    sender = address_of(PrivateKey(key).public_key.format(compressed=False))
    signed = sign(build(intent, lambda _: sender), key)
    assert rlp.encode(signed.raw) == raw(case["signed"])
    assert read(signed.raw) == signed
    assert signed.sender == sender


def test_ether_mail_is_signed_as_eip712_says():
    case = EIP712["ether_mail"]
    key = keccak(case["private_key_is_keccak_of"].encode())
    message = encode_typed_data(full_message=case["typed_data"])
    digest = keccak(b"\x19\x01" + message.header + message.body)
    assert message.body == raw(case["struct_hash"])
    assert digest == raw(case["digest"])
    assert checksummed(address_of(PrivateKey(key).public_key.format(compressed=False))) == case["address"]
    assert signature(key, digest) == raw(case["signature"]) == Account.sign_message(message, key).signature


def test_an_authorisation_of_usd_coin_hashes_as_its_contract_does():
    case = EIP712["usd_coin"]
    names = [part.split() for part in case["type"].partition("(")[2].rstrip(")").split(",")]
    kinds = [kind for kind, _ in names]
    values: list[Any] = ["0x" + "11" * 20, "0x" + "22" * 20, 1_000_000, 0, 1_893_456_000, b"\x33" * 32]
    message = encode_typed_data(
        domain_data=case["domain"],
        message_types={"TransferWithAuthorization": [{"name": name, "type": kind} for kind, name in names]},
        message_data=dict(zip([name for _, name in names], values, strict=True)),
    )
    assert keccak(case["type"].encode()) == raw(case["type_hash"])
    assert message.header == raw(case["domain_separator"])
    assert message.body == keccak(raw(case["type_hash"]) + encode(kinds, values))
    key = b"\x01" * 32
    digest = keccak(b"\x19\x01" + message.header + message.body)
    assert Account.sign_message(message, key).signature == signature(key, digest)


@pytest.mark.parametrize("text", [None, "", "10284", "Zahlung über 5 €", "x" * 1000])
def test_personal_messages_are_signed_as_eip191_says(text: str | None):
    case = vectors("eip191")
    key, message = raw(case["private_key"]), (case["message"] if text is None else text).encode()
    digest = keccak(b"\x19Ethereum Signed Message:\n" + str(len(message)).encode() + message)
    ours = signature(key, digest)
    assert ours == Account.sign_message(encode_defunct(message), key).signature
    assert Account.recover_message(encode_defunct(message), signature=ours) == case["address"]
    if text is None:
        assert (digest, ours) == (raw(case["digest"]), raw(case["signature"]))
