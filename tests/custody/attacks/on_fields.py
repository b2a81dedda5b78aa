"""Each field of each kind of intent altered after people approved it; prices and the nonce are the chain's affair."""

import re
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

from custody.intents import _PRICED, Intent, KeyRef, Leg, Payment
from tests.custody.attacks.careless import BelievesSignatures
from tests.custody.attacks.on_places import relay_of
from tests.custody.attacks.stage import Attack, Control, Scene
from tests.custody.samples import (
    COLD,
    TOKEN,
    allowance,
    anchor,
    batch,
    deployment,
    native_transfer,
    proof,
    sweep,
    token_transfer,
    top_up,
)


def approved_only(text: str) -> str:
    """A policy whose every rule wants two approvals."""
    text = text.replace("approvals = 2\n", "")
    return re.sub(r'(\[\[rules\]\]\nname = "[^"]*")', r"\1\napprovals = 2", text)


def alterations(intent: Intent) -> Iterator[tuple[str, Any]]:
    """Other values, of the right form, for every field that was approved."""
    for item in fields(intent):
        if item.name not in _PRICED:
            for value in other(item.name, getattr(intent, item.name)):
                yield item.name, value


def other(name: str, value: Any) -> list[Any]:
    match value:
        case KeyRef(role=role, index=index):
            return [KeyRef(role, index + 1), *([] if name in ("sender", "owner") else [KeyRef(role, 0)] * (index > 0))]
        case int():
            return [value + 1, value * 10] if name != "chain_id" else [value + 1]
        case str():
            return [value[:-1] + ("0" if value[-1] != "0" else "1")]
        case bytes():
            middle = len(value) // 2
            return [value[:middle] + bytes([value[middle] ^ 0xFF]) + value[middle + 1 :]]
        case [Leg() as first, *rest]:
            dearer = Leg(first.subject, first.to, first.amount + 1)
            return [
                (dearer, *rest),
                (Leg(first.subject, COLD, first.amount), *rest),
                (*rest, first),
                (first,),
                (*value, Leg("wdr_more", COLD, 1)),
            ]
        case None:
            return [TOKEN]
    raise AssertionError(name)


def _altered(make: Any) -> Any:
    def attempt(scene: Scene) -> None:
        asked = make(scene)
        good = scene.mandate(asked)
        for name, value in alterations(asked):
            changed = replace(asked, **{name: value})
            scene.theft("maker_unproven|approval_invalid", changed, good)

    return attempt


def _unaltered(make: Any) -> Any:
    def twin(scene: Scene) -> None:
        asked = make(scene)
        good = scene.mandate(asked)
        if isinstance(asked, Payment):
            asked = replace(asked, gas_limit=asked.gas_limit + 1, max_fee_per_gas=asked.max_fee_per_gas + 1)
        scene.honest(asked, good)

    return twin


def _signed(scene: Scene, asked: Any) -> Any:
    scene.honest(asked, scene.mandate(asked))
    return asked


def _funded_batch(scene: Scene) -> Any:
    given = scene.make(allowance, scene.payout(), batch=f"bat_{scene.chain}-{len(scene.thefts)}")
    _signed(scene, given)
    return scene.make(batch, scene.payout(), contract=TOKEN, subject=given.batch)


def _relay(scene: Scene) -> Any:
    given = scene.authorisation(amount=3)
    return relay_of(scene, given, scene.honest(given, scene.mandate(given)))


KINDS: dict[str, Any] = {
    "native_transfer": lambda s: s.make(native_transfer),
    "token_transfer": lambda s: s.make(token_transfer, to=COLD),
    "payout_batch": _funded_batch,
    "allowance": lambda s: s.make(allowance, s.payout()),
    "sweep": lambda s: s.make(sweep),
    "top_up": lambda s: s.make(top_up),
    "authorisation": lambda s: s.authorisation(amount=3),
    "relay": _relay,
    "deployment": lambda s: s.make(deployment),
    "anchor": lambda s: s.make(anchor),
    "proof": lambda s: s.make(proof),
}

ATTACKS = [
    Attack(
        f"altered after approval: {kind}",
        _altered(make),
        Control(service=BelievesSignatures),
        _unaltered(make),
        approved_only,
    )
    for kind, make in KINDS.items()
]
