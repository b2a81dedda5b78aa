"""Any intent of any kind, for property tests; and values that no field takes."""

from typing import Any

from hypothesis import strategies as st

from custody.derivation import MAX_INDEX, Role
from custody.intents import (
    Allowance,
    Anchor,
    Authorisation,
    Cancel,
    Deployment,
    KeyRef,
    Leg,
    NativeTransfer,
    PayoutBatch,
    ProofOfControl,
    Relay,
    Sweep,
    TokenTransfer,
    TopUp,
)

FORMS: dict[str, Any] = {
    form.kind: form
    for form in (
        *(NativeTransfer, TokenTransfer, PayoutBatch, Allowance, Sweep, TopUp, Authorisation, Relay),
        *(Deployment, Anchor, ProofOfControl, Cancel),
    )
}
MESSAGES = ("authorisation", "proof")

key_refs = st.builds(KeyRef, st.sampled_from(Role), st.integers(0, MAX_INDEX))
addresses = st.binary(min_size=20, max_size=20).filter(any)
amounts = st.integers(1, 2**256 - 1)
numbers = st.integers(0, 2**63 - 1)
ids = st.builds(
    "{}{}_{}".format,
    st.sampled_from("az"),
    st.text("a0z9", max_size=15),
    st.text("abcxyz0129-", min_size=1, max_size=64),
)
texts = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=64)
hashes = st.binary(min_size=32, max_size=32)
destinations = st.one_of(addresses, key_refs)
legs = st.lists(
    st.builds(Leg, ids, addresses, st.integers(1, 2**200)), min_size=1, max_size=5, unique_by=lambda leg: leg.subject
).map(tuple)

_OWN: dict[str, dict[str, Any]] = {
    "native_transfer": {"to": destinations, "amount": amounts},
    "token_transfer": {"contract": addresses, "to": destinations, "amount": amounts},
    "payout_batch": {"via": addresses, "contract": st.none() | addresses, "legs": legs},
    "allowance": {
        "contract": addresses,
        "spender": addresses,
        "amount": st.integers(0, 2**256 - 1),
        "batch": ids,
    },
    "sweep": {"contract": st.none() | addresses, "to": destinations, "amount": amounts},
    "top_up": {"to": key_refs, "amount": amounts},
    "authorisation": {
        "contract": addresses,
        "domain_name": texts,
        "domain_version": texts,
        "to": destinations,
        "amount": amounts,
        "valid_before": st.integers(1, 2**63 - 1),
    },
    "relay": {
        "authorisation": ids,
        "contract": addresses,
        "owner": key_refs,
        "to": destinations,
        "amount": amounts,
        "valid_before": st.integers(1, 2**63 - 1),
        "signature": st.binary(min_size=65, max_size=65),
    },
    "deployment": {"code": st.binary(min_size=1, max_size=200)},
    "anchor": {"to": addresses, "root": hashes},
    "proof": {"epoch": st.text("0129", min_size=1, max_size=20), "root": hashes},
    "cancel": {},
}


@st.composite
def fields_of(draw: st.DrawFn, kind: str) -> dict[str, Any]:
    """The fields of some intent of a kind."""
    told: dict[str, Any] = {
        "subject": draw(ids),
        "chain_id": draw(st.integers(1, 2**63 - 1)),
        "sender": draw(key_refs),
    }
    if kind not in MESSAGES:
        fee = draw(st.integers(1, 2**128))
        told |= {
            "attempt": draw(st.integers(1, 10_000)),
            "nonce": draw(numbers),
            "gas_limit": draw(st.integers(21_000, 2**63 - 1)),
            "max_fee_per_gas": fee,
            "max_priority_fee_per_gas": draw(st.integers(0, fee)),
        }
    return told | {name: draw(values) for name, values in _OWN[kind].items()}


def may_be_meant(kind: str, told: dict[str, Any]) -> bool:
    """Whether the fields go together: strategies draw each for itself."""
    elsewhere = (told.get("contract"), told["sender"] if _moves_own(kind) else None)
    if told.get("to") is not None and told["to"] in elsewhere:
        return False
    if kind == "payout_batch":
        if told["subject"] in {leg.subject for leg in told["legs"]}:
            return False
        return not {leg.to for leg in told["legs"]} & {told["via"], told["contract"]}
    return not (kind == "allowance" and told["batch"] == told["subject"])


def _moves_own(kind: str) -> bool:
    return kind in ("sweep", "top_up", "authorisation")


@st.composite
def intents(draw: st.DrawFn, kinds: tuple[str, ...] = tuple(FORMS)) -> Any:
    """An intent of one of these kinds."""
    kind = draw(st.sampled_from(kinds))
    told = draw(fields_of(kind).filter(lambda told: may_be_meant(kind, told)))
    return FORMS[kind](**told)


WRONG: tuple[Any, ...] = (
    *(None, True, False, -1, 0.0, 1.5, 2**256, 2**300, -(2**70), float("inf"), "", "x", "A_1", "wdr_" + "x" * 65),
    *("wdr_1\n", "x" * 65, "\n", b"", b"\x01", bytes(19), bytes(20), bytes(21), bytes(31), bytes(33), bytes(64)),
    *(bytes(66), bytes(49_153), [], (), {}, ["hot", 0], ["cold", 0], ["hot", -1], ["hot", 2**31], ["hot", True]),
    *([["wdr_1", b"\x01" * 20, 0]], [["wdr_1", b"\x01" * 20]], object()),
)
"""What nearly every field refuses; see `test_intents` for the exceptions."""
