"""Frames: one spelling for each message, and no bytes that break their reader."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from custody import wire
from custody.claims import claims_from
from custody.errors import IntentInvalid
from custody.intents import LEGS_MAX, Leg, to_map
from tests.custody.samples import batch


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"", "nothing"),
        (b"\xff", "a stray break"),
        (b"GET / HTTP/1.1\r\n\r\n", "another protocol"),
        (bytes.fromhex("a1617600"), "version 0"),
        (bytes.fromhex("a16176f5"), "version true"),
        (bytes.fromhex("a1617601") + b"\0", "a byte too many"),
        (bytes.fromhex("a161761801"), "a number longer than needed"),
        (bytes.fromhex("bf617601ff"), "an indefinite length"),
        (bytes.fromhex("a2617601617601"), "a doubled key"),
        (bytes.fromhex("a26161f93c00617601"), "a float"),
        (bytes.fromhex("a26161f97e00617601"), "not a number"),
        (bytes.fromhex("a26161d82363286129617601"), "a tag that would compile a pattern"),
        (bytes.fromhex("a26161c11a514b67b0617601"), "a tag that would become a date"),
        (bytes.fromhex("a26161d901028101617601"), "a tag that would become a set"),
        (bytes.fromhex("a26161d9ffff01617601"), "a tag that nobody knows"),
        (bytes.fromhex("a26161f7617601"), "undefined"),
        (bytes.fromhex("a26161a10101617601"), "a key below that isn't text"),
        (bytes.fromhex("a26161c24101617601"), "a bignum that isn't big"),
        (bytes.fromhex("a2617601616101"), "keys out of order"),
        (bytes.fromhex("a20101617601"), "a key that isn't text"),
        (bytes.fromhex("a2417801617601"), "a key of bytes"),
        (bytes.fromhex("a26161a1417801617601"), "a key of bytes below"),
        (bytes.fromhex("81617601"), "a list"),
        (b"\x81" * 60_000, "a deep nest"),
        (bytes.fromhex("5b00007fffffffffff"), "a length of 128 TiB"),
    ],
)
def test_only_canonical_maps_of_this_version_are_read(body: bytes, what: str):
    with pytest.raises(IntentInvalid):
        wire.decode(body)


def test_the_accepted_twin_of_those_is_read():
    assert wire.decode(bytes.fromhex("a2616101617601")) == {"a": 1}
    assert wire.decode(bytes.fromhex("a26161c249010000000000000000617601")) == {"a": 2**64}


@given(st.binary(max_size=400))
def test_no_bytes_break_the_reader(body: bytes):
    try:
        told = wire.decode(body)
    except IntentInvalid:
        return
    assert wire.encode(told)[4:] == body


def test_a_frame_has_a_highest_size():
    with pytest.raises(wire.FrameTooLarge):
        wire.encode({"call": "sign", "intent": {"blob": bytes(wire.FRAME_BYTES_MAX)}})


def test_the_largest_batch_with_its_claims_fits_into_a_frame():
    digits, ratio = "9" * 40, f"{'9' * 99}/{'9' * 99}"
    claims: dict[str, object] = {
        "account": "user:usr_" + "0" * 26 + "/wallet/" + "A" * 12,
        "asset": "A" * 12,
        **dict.fromkeys(("amount", "fee_highest", "fee_wei_max"), digits),
        **dict.fromkeys(("key_hash", "content"), bytes(32)),
        "fee_price": ratio,
    }
    assert claims_from(claims) == claims
    legs = tuple(Leg(f"wdr_{number:026}", b"\1" * 20, 2**128) for number in range(LEGS_MAX))
    asked = batch(b"\2" * 20, contract=b"\3" * 20, legs=legs)
    question = {"call": "sign", "intent": to_map(asked), "highest": [2**63 - 1, bytes(32)]}
    assert len(wire.encode(question | {"claims": [claims] * LEGS_MAX})) <= wire.FRAME_BYTES_MAX
