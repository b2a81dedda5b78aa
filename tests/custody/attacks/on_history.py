"""Attacks on nonces, replacements, freezes, the journal's place, and on what a message may be."""

from dataclasses import replace
from typing import Any

import cbor2

from custody.approvals import freeze_statement, lift_statement, sign_statement, signature_list
from custody.derivation import Role
from custody.intents import KeyRef, to_map
from tests.custody.attacks.careless import (
    AnyOne,
    ForgetsHistory,
    NeverFrozen,
    SignsHashes,
    TakesAnyJournal,
    TakesAnything,
)
from tests.custody.attacks.stage import Answer, Attack, Control, Scene, question
from tests.custody.samples import GWEI, HOT, PEOPLE, STRANGER, cancel, native_transfer, proof, token_transfer

NO_HISTORY, NO_FORM = Control(service=ForgetsHistory), Control(service=TakesAnything)
SECOND = {"attempt": 2, "max_fee_per_gas": 2 * GWEI, "max_priority_fee_per_gas": 2}


def twin(scene: Scene) -> None:
    scene.honest(scene.make(token_transfer, amount=1))


def _nonces(scene: Scene) -> None:
    paid = scene.make(token_transfer, amount=1)
    scene.honest(paid)
    for code, intent in (
        ("nonce_taken", scene.make(token_transfer, nonce=0)),
        ("nonce_taken", scene.make(native_transfer, nonce=0)),
        ("nonce_not_next", scene.make(token_transfer, nonce=2)),
        ("nonce_not_next", scene.make(token_transfer, nonce=2**63 - 1)),
        ("nonce_not_next", scene.make(token_transfer, sender=KeyRef(Role.HOT, 1), nonce=1)),
        ("second_nonce", replace(paid, nonce=1, **SECOND)),
        ("second_nonce", replace(paid, sender=KeyRef(Role.HOT, 1), **SECOND)),
    ):
        scene.theft(code, intent)


def _replacements(scene: Scene) -> None:
    paid = scene.make(token_transfer, amount=1)
    scene.honest(paid)
    for code, intent in (
        ("attempt_differs", replace(paid, to=bytes([9]) * 20)),
        ("attempt_differs", replace(paid, amount=2)),
        ("terms_differ", replace(paid, to=bytes([9]) * 20, **SECOND)),
        ("terms_differ", replace(paid, amount=2, **SECOND)),
        ("terms_differ", replace(paid, gas_limit=paid.gas_limit * 2, **SECOND)),
        ("terms_differ", scene.make(native_transfer, subject=paid.subject, nonce=0, **SECOND)),
        ("fees_not_higher", replace(paid, attempt=2)),
        ("fees_not_higher", replace(paid, **(SECOND | {"max_priority_fee_per_gas": 1}))),
    ):
        scene.theft(code, intent)


def _cancellations(scene: Scene) -> None:
    scene.theft("nothing_to_cancel", scene.make(cancel, sender=HOT))
    paid = scene.make(token_transfer, amount=1)
    scene.honest(paid)
    fields = {"subject": paid.subject, "nonce": 0, "sender": HOT}
    scene.theft("fees_not_higher", scene.make(cancel, **fields, attempt=2))
    scene.honest(scene.make(cancel, **fields, **SECOND))
    third = {"attempt": 3, "max_fee_per_gas": 3 * GWEI, "max_priority_fee_per_gas": 3}
    scene.theft("already_cancelled", replace(paid, **third))
    scene.theft("attempt_differs", replace(paid, **SECOND))
    scene.theft("second_nonce", scene.make(cancel, **(fields | {"nonce": 1}), **third))


def _heads(scene: Scene) -> None:
    """Misformed ones: a claim of a row that isn't there halts the signer, and has tests of its own."""
    asked = scene.make(token_transfer, amount=1)
    odd: list[Any] = [[True, b""], [1], [], 1, ["1", b""], [-1, b""], [2**64, bytes(32)], [1, bytes(60_000)]]
    odd += [[0, bytes(32)], [0, b""], [1, bytes(31)]]
    for seen in (*odd, [2**20_000, b""]):  # a number that can't even be spelled
        scene.theft("malformed", asked, highest=seen)


def _freeze(scene: Scene, call: str, *names: str, make: Any = None, serial: str | None = None) -> Answer:
    """A freeze of this network, or its lifting, signed by these."""
    serial = scene.status()["serial"] if serial is None else serial
    scope: dict[str, Any] = {"chain_id": scene.chain, "asset": None}
    statement = (make or (freeze_statement if call == "freeze" else lift_statement))(serial=serial, **scope)
    signed = [signature_list(sign_statement(name, PEOPLE[name], statement)) for name in names]
    return {"call": call, **scope, "serial": serial, "signatures": signed}


def _accepted(scene: Scene, asked: Answer) -> None:
    told = scene.ask(asked)
    assert told is not None
    assert "ok" in told, told


def _frozen(scene: Scene) -> None:
    paid = scene.make(token_transfer, amount=1)
    scene.honest(paid)
    _accepted(scene, _freeze(scene, "freeze", "ada"))
    asked = [paid, replace(paid, **SECOND), scene.make(native_transfer), scene.make(proof), scene.authorisation()]
    asked.append(scene.make(cancel, subject=paid.subject, sender=HOT, nonce=0, **SECOND))
    for intent in asked:
        scene.theft("frozen", intent)


def _thaw(scene: Scene) -> None:
    """The twin of a freeze: two lift it, and it's as before."""
    _accepted(scene, _freeze(scene, "lift", "ada", "ben"))
    twin(scene)


def _lifted_by(scene: Scene) -> None:
    """Ways to lift a freeze with one person's signature, or with old ones."""
    before = _freeze(scene, "freeze", "ada")
    _accepted(scene, before)
    for code, asked in (
        ("serial_differs", before),
        ("approvals_missing", _freeze(scene, "lift", "ada")),
        ("approvals_missing", _freeze(scene, "lift")),
        ("approval_repeated", _freeze(scene, "lift", "ada", "ada")),
        ("approval_invalid", _freeze(scene, "lift", "ada", "ben", make=freeze_statement)),
        ("serial_differs", _freeze(scene, "lift", "ada", "ben", serial="1-0123456789abcdef")),
        ("approver_unknown", _freeze(scene, "lift", "ada") | {"signatures": [["eve", "ed25519", bytes(64)]] * 2}),
    ):
        _lift_try(scene, code, asked)


def _lift_try(scene: Scene, code: str, asked: Answer) -> None:
    """A lift that should be refused; where it's accepted, a payment shows it."""
    scene.theft(code, asked)
    if scene.is_control and scene.thefts[-1] == "ok" and asked["call"] == "lift":
        scene.theft("", scene.make(token_transfer, amount=1))


def _replayed_lift(scene: Scene) -> None:
    """Yesterday's lift, for today's freeze."""
    _accepted(scene, _freeze(scene, "freeze", "ada"))
    lift = _freeze(scene, "lift", "ada", "ben")
    _accepted(scene, lift)
    _accepted(scene, _freeze(scene, "freeze", "ada"))
    _lift_try(scene, "serial_differs", lift)
    _lift_try(scene, "approval_invalid", lift | {"serial": scene.status()["serial"]})


def _blind_freezes(scene: Scene) -> None:
    """Freezes that look like one and stop nothing: refused, so that nobody believes in them."""
    token = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
    serial = scene.status()["serial"]
    for chain_id, asset in ((scene.chain, token), (scene.chain, "USDC"), (scene.chain, ""), (scene.chain, token[2:])):
        statement = freeze_statement(serial=serial, chain_id=chain_id, asset=asset)
        signed = [signature_list(sign_statement("ada", PEOPLE["ada"], statement))]
        asked: Answer = {"call": "freeze", "chain_id": chain_id, "asset": asset, "serial": serial, "signatures": signed}
        scene.theft("scope_unknown|malformed", asked)
        if scene.is_control:
            scene.theft("", scene.make(token_transfer, amount=1))


def _asset_frozen(scene: Scene) -> None:
    serial = scene.status()["serial"]
    scope: dict[str, Any] = {"chain_id": scene.chain, "asset": "0x5fbdb2315678afecb367f032d93f642f64180aa3"}
    signed = [signature_list(sign_statement("ada", PEOPLE["ada"], freeze_statement(serial=serial, **scope)))]
    _accepted(scene, {"call": "freeze", **scope, "serial": serial, "signatures": signed})
    scene.honest(scene.make(native_transfer, amount=1))


# --- messages --------------------------------------------------------------------------------------------------------


def _hashes(scene: Scene) -> None:
    some, base = bytes(range(32)), {"highest": None}
    for asked in (
        {"call": "sign_hash", "hash": some},
        {"call": "sign_digest", "role": "hot", "index": 0, "digest": some},
        {"call": "eth_sign", "address": STRANGER, "data": some},
        {"call": "personal_sign", "message": some},
        {"call": "sign_message", "text": "x", "hash": some},
        {"call": "sign", "hash": some, **base},
        {"call": "sign", "intent": {"kind": "hash", "hash": some}, **base},
        {"call": "sign", "intent": {"kind": "sign_hash", "sender": ["hot", 0], "hash": some}, **base},
        {"call": "sign", "intent": some, **base},
        {"call": "sign", "intent": to_map(token_transfer()) | {"payload": some}, **base},
        {"call": "sign", "intent": to_map(token_transfer()) | {"access_list": [some]}, **base},
    ):
        scene.theft("call_unknown|intent_unknown|malformed|intent_invalid", asked)


def _body(scene: Scene) -> dict[str, Any]:
    return {"v": 1, **question(scene.make(token_transfer, amount=1))}


def _odd(**changes: Any) -> Any:
    return lambda body: cbor2.dumps(body | {"intent": body["intent"] | changes}, canonical=True)


def _doubled(body: dict[str, Any]) -> bytes:
    """The amount twice: the first would pass, the second counts."""
    raw = cbor2.dumps(body, canonical=True)
    first, second = (cbor2.dumps("amount") + cbor2.dumps(number) for number in (1, 900))
    size = len(body["intent"])
    before, after = (bytes([0xA0 + count]) if count < 24 else bytes([0xB8, count]) for count in (size, size + 1))
    return raw.replace(before + _head(raw, before), after + _head(raw, before), 1).replace(first, first + second, 1)


def _head(raw: bytes, before: bytes) -> bytes:
    place = raw.index(cbor2.dumps("intent")) + len(cbor2.dumps("intent")) + len(before)
    return raw[place : place + 8]


FORMS: dict[str, Any] = {
    "keys in another order": lambda body: cbor2.dumps(body),
    "a map of indefinite length": lambda body: b"\xbf" + cbor2.dumps(body)[1:] + b"\xff",
    "a number longer than needed": lambda body: cbor2.dumps(body, canonical=True).replace(
        b"famount\x01", b"famount\x18\x01"
    ),
    "a number as bignum": lambda body: cbor2.dumps(body, canonical=True).replace(
        b"famount\x01", b"famount\xc2\x41\x01"
    ),
    "a number as float": _odd(amount=1.0),
    "a number as decimal": lambda body: cbor2.dumps(body, canonical=True).replace(
        b"famount\x01", b"famount\xf9\x3c\x00"
    ),
    "a truth for a number": _odd(nonce=False),
    "bytes for a text": _odd(subject=b"wdr_1"),
    "a key twice": _doubled,
    "a tag around it": lambda body: b"\xd9\xd9\xf7" + cbor2.dumps(body, canonical=True),
    "another version": lambda body: cbor2.dumps(body | {"v": 2}, canonical=True),
    "no version": lambda body: cbor2.dumps({k: v for k, v in body.items() if k != "v"}, canonical=True),
    "the version as a truth": lambda body: cbor2.dumps(body | {"v": True}, canonical=True),
    "a word too many": lambda body: cbor2.dumps(body | {"force": True}, canonical=True),
    "a field too many": _odd(approved=True),
    "a field too few": lambda body: cbor2.dumps(
        body | {"intent": {k: v for k, v in body["intent"].items() if k != "attempt"}}, canonical=True
    ),
    "an own key by a truth": _odd(sender=["hot", False]),
}


def _form(change: Any) -> Any:
    return lambda scene: scene.theft("malformed|version_unknown|intent_invalid", change(_body(scene)))


ATTACKS = [
    Attack("a nonce again, too early, or a second one", _nonces, NO_HISTORY, twin),
    Attack("a replacement that pays otherwise", _replacements, NO_HISTORY, twin),
    Attack("cancelling, and paying all the same", _cancellations, NO_HISTORY, twin),
    Attack("lies about the journal", _heads, Control(service=TakesAnyJournal), twin),
    Attack("a signature over a hash", _hashes, Control(service=SignsHashes), lambda s: s.honest(s.make(proof))),
    *(Attack(f"misformed: {name}", _form(change), NO_FORM, twin) for name, change in FORMS.items()),
]

FREEZES = [
    Attack("a frozen network asked again", _frozen, Control(journal=NeverFrozen), _thaw),
    Attack("a freeze lifted by one", _lifted_by, Control(service=AnyOne), _thaw),
    Attack("a lift used twice", _replayed_lift, Control(service=AnyOne), _thaw),
    Attack("a freeze that stops nothing", _blind_freezes, Control(), _asset_frozen),
]
