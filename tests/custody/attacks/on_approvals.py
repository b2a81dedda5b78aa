"""Attacks on approvals: replayed, altered, forged, by the wrong person, or over something else."""

import time
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from custody.approvals import (
    Mandate,
    Signature,
    approval_statement,
    freeze_statement,
    lift_statement,
    maker_statement,
    mandate_map,
    policy_statement,
    resync_statement,
    sign_statement,
    time_statement,
)
from tests.custody.attacks.careless import BelievesSignatures, ForgetsHistory
from tests.custody.attacks.stage import Attack, Control, Scene, swap
from tests.custody.samples import (
    COLD,
    FEE_WEI_MAX,
    GWEI,
    PEOPLE,
    STRANGER,
    deployment,
    native_transfer,
    token_transfer,
)

MALLORY = Ed25519PrivateKey.from_private_bytes(b"mallory".ljust(32, b"\0"))
ANYBODY = Control(service=BelievesSignatures)
NOBODY_NEEDED = Control(policy=swap("approvals = 2", "approvals = 0"))
LOOKS_ALIKE = COLD[:4] + bytes(12) + COLD[-4:]


def cold(scene: Scene, **changes: Any) -> Any:
    """A treasurer's transfer to cold storage, which two people must approve."""
    return scene.make(
        token_transfer, **({"subject": f"cld_{scene.chain}-{time.time_ns()}", "to": COLD, "amount": 900} | changes)
    )


def twin(scene: Scene) -> None:
    asked = cold(scene, amount=1)
    scene.honest(asked, scene.mandate(asked))


def _with(codes: str, **said: Any):
    """The same transfer with a mandate that says something else than it should."""

    def play(scene: Scene) -> None:
        asked = cold(scene)
        scene.theft(codes, asked, scene.mandate(asked, **said))

    return play


def _signed_by(codes: str, *signatures: Any):
    """... with approvals made by hand: each takes (intent, mandate) and gives a Signature."""

    def play(scene: Scene) -> None:
        asked = cold(scene)
        good = scene.mandate(asked)
        scene.theft(codes, asked, replace(good, approvals=tuple(sign(asked, good) for sign in signatures)))

    return play


def by(name: str, key: Ed25519PrivateKey | None = None, scheme: str = "ed25519"):
    def sign(intent: Any, said: Mandate) -> Signature:
        made = sign_statement(name, key or PEOPLE[name], approval_statement(intent, said))
        return replace(made, scheme=scheme)

    return sign


def over(name: str, statement: Any):
    """A signature over another kind of statement."""
    return lambda intent, said: sign_statement(name, PEOPLE[name], statement(intent, said))


FOREIGN = (
    lambda i, m: maker_statement(i, m),
    lambda i, m: policy_statement(bytes(32), 2),
    lambda i, m: freeze_statement(serial="0-0", chain_id=i.chain_id, asset=None),
    lambda i, m: lift_statement(serial="0-0", chain_id=i.chain_id, asset=None),
    lambda i, m: time_statement(serial="0-0", seconds=int(time.time())),
    lambda i, m: resync_statement(policy=bytes(32), head=bytes(32), signed=bytes(32)),
)


def _confused(scene: Scene) -> None:
    asked = cold(scene)
    good = scene.mandate(asked)
    for statement in FOREIGN:
        signed = tuple(sign_statement(name, PEOPLE[name], statement(asked, good)) for name in ("ada", "ben"))
        scene.theft("approval_invalid", asked, replace(good, approvals=signed))
    made_by = sign_statement("cleo", PEOPLE["cleo"], approval_statement(asked, good))
    scene.theft("maker_unproven", asked, replace(good, made_by=made_by))


def _elsewhere(scene: Scene) -> None:
    """Approvals for one transfer, used for others."""
    asked = cold(scene)
    good = scene.mandate(asked)
    for change in (
        {"subject": "cld_other"},
        {"amount": 901},
        {"amount": 900 * 10**12},
        {"to": STRANGER},
        {"to": LOOKS_ALIKE},
        {"to": COLD[:-1] + bytes([COLD[-1] ^ 1])},
        {"chain_id": scene.chain + 1},
        {"contract": bytes([7]) * 20},
    ):
        other = replace(asked, **change)
        if "chain_id" in change and not scene.is_control:
            other = replace(other, nonce=0)
        scene.theft("approval_invalid|maker_unproven", other, good)
    coin = scene.make(native_transfer, subject=asked.subject, to=COLD, amount=900)
    scene.theft("maker_unproven", coin, good)


def _altered(scene: Scene) -> None:
    """The mandate itself altered after it was signed."""
    asked = cold(scene)
    good = scene.mandate(asked, fee_wei_max=10**15, not_after=int(time.time()) + 600)
    changes: list[dict[str, Any]] = [
        {"not_after": 2**39},
        {"fee_wei_max": FEE_WEI_MAX},
        {"maker": "ada"},
        {"maker": "cleo "},
        {"made_by": None},
        {"made_by": good.approvals[0]},
    ]
    for change in changes:
        scene.theft("approval_invalid|maker_unproven|approval_by_maker", asked, replace(good, **change))
    told = mandate_map(good)
    flipped = [[name, scheme, bytes([sign[0] ^ 1]) + sign[1:]] for name, scheme, sign in told["approvals"]]  # type: ignore[attr-defined]
    scene.theft("approval_invalid", asked, told | {"approvals": flipped})
    for cut in (b"", b"\0" * 64, flipped[0][2][:63], flipped[0][2] + b"\0"):
        scene.theft("approval_invalid", asked, told | {"approvals": [["ada", "ed25519", cut], flipped[1]]})


def _malleable(scene: Scene) -> None:
    """The same signature in its other spelling (s + the group's order), as a second person's or to pass as new."""
    asked = cold(scene)
    good = scene.mandate(asked, approvers=("ada",))
    one = good.approvals[0].signature
    order = 2**252 + 27742317777372353535851937790883648493
    raised = one[:32] + ((int.from_bytes(one[32:], "little") + order) % 2**256).to_bytes(32, "little")
    for name in ("ada", "ben"):
        approvals = (good.approvals[0], Signature(name, raised))
        scene.theft("approval_repeated|approval_invalid", asked, replace(good, approvals=approvals))
    scene.theft("approval_invalid", asked, replace(good, approvals=(Signature("ada", raised), Signature("ben", one))))


def _dear(scene: Scene) -> None:
    asked = cold(scene, gas_limit=100_000, max_fee_per_gas=50 * GWEI, max_priority_fee_per_gas=1)
    scene.theft("over_approved_fee", asked, scene.mandate(asked, fee_wei_max=10**15))


def _replaced_dearly(scene: Scene) -> None:
    asked = cold(scene)
    scene.honest(asked, scene.mandate(asked, fee_wei_max=asked.fee_wei_max * 2))
    dearer = replace(asked, attempt=2, max_fee_per_gas=3 * GWEI, max_priority_fee_per_gas=2)
    scene.theft("replacement_over_fee_cap", dearer)
    scene.theft("replacement_over_fee_cap", dearer, scene.mandate(asked, fee_wei_max=FEE_WEI_MAX))


def _replaced_within(scene: Scene) -> None:
    asked = cold(scene)
    scene.honest(asked, scene.mandate(asked, fee_wei_max=asked.fee_wei_max * 2))
    scene.honest(replace(asked, attempt=2, max_fee_per_gas=2 * GWEI, max_priority_fee_per_gas=2))


def _used(scene: Scene) -> None:
    """An approval that has been used, for a second payment."""
    asked = cold(scene)
    good = scene.mandate(asked)
    scene.honest(asked, good)
    scene.theft("second_nonce", replace(asked, attempt=2, nonce=asked.nonce + 1, max_fee_per_gas=2 * GWEI), good)
    scene.theft("attempt_differs", replace(asked, nonce=asked.nonce + 1), good)
    scene.theft("attempt_differs", replace(asked, gas_limit=asked.gas_limit + 1), good)


def _in_disguise(scene: Scene) -> None:
    """A maker who approves their own: the intent is called a user's withdrawal, so that nobody asks who made it."""
    asked = scene.make(deployment, subject=f"wdr_{scene.chain}")
    scene.theft("maker_unproven", asked, scene.mandate(asked, maker="user 7", approvers=("ada", "ben")))
    asked = scene.make(token_transfer, to=COLD, amount=900)
    good = scene.mandate(asked, maker="user 7", approvers=("ada", "ben"))
    stuffed = mandate_map(good) | {"made_by": ["ada", "ed25519", b"x" * 64]}
    scene.theft("maker_unproven", asked, stuffed)


def _disguise_twin(scene: Scene) -> None:
    asked = scene.make(deployment)
    scene.honest(asked, scene.mandate(asked, maker="cleo"))


ATTACKS = [
    Attack("no approval at all", lambda s: s.theft("approvals_missing", cold(s)), NOBODY_NEEDED, twin),
    Attack("one approval where two are needed", _with("approvals_missing", approvers=("ada",)), NOBODY_NEEDED, twin),
    Attack("approved twice by one person", _with("approval_repeated", approvers=("ada", "ada")), ANYBODY, twin),
    Attack("approved by its maker", _with("approval_by_maker", approvers=("ada", "cleo")), ANYBODY, twin),
    Attack("made by nobody known", _with("maker_unproven", maker="user 7"), ANYBODY, twin),
    Attack("an approval that has expired", _with("approval_expired", not_after=int(time.time()) - 10), ANYBODY, twin),
    Attack("approved under another policy", _with("approval_policy_differs", policy_version=2), ANYBODY, twin),
    Attack(
        "approved at another installation",
        _with("approval_policy_differs", policy_fingerprint=b"\1" * 32),
        ANYBODY,
        twin,
    ),
    Attack("approved under no policy", _with("approval_policy_differs", policy_version=0), ANYBODY, twin),
    Attack("approved by a stranger", _signed_by("approver_unknown", by("ada"), by("mallory", MALLORY)), ANYBODY, twin),
    Attack(
        "a stranger's key under a known name",
        _signed_by("approval_invalid", by("ada", MALLORY), by("ben")),
        ANYBODY,
        twin,
    ),
    Attack(
        "one key under two names", _signed_by("approval_invalid", by("ada"), by("ben", PEOPLE["ada"])), ANYBODY, twin
    ),
    Attack(
        "another scheme of signing", _signed_by("scheme_unknown", by("ada"), by("ben", scheme="none")), ANYBODY, twin
    ),
    Attack(
        "a name in another spelling", _signed_by("approver_unknown", by("ada"), by("Ada", PEOPLE["ada"])), ANYBODY, twin
    ),
    Attack("signatures over other statements", _confused, ANYBODY, twin),
    Attack("an approval for something else", _elsewhere, ANYBODY, twin),
    Attack("a mandate altered after signing", _altered, ANYBODY, twin),
    Attack("a signature in its other spelling", _malleable, ANYBODY, twin),
    Attack("dearer than approved", _dear, ANYBODY, twin),
    Attack(
        "replaced for more than approved",
        _replaced_dearly,
        Control(service=ForgetsHistory, policy=swap("approvals = 2", "approvals = 0")),
        _replaced_within,
    ),
    Attack("an approval used twice", _used, Control(service=ForgetsHistory), twin),
    Attack("the maker in disguise", _in_disguise, ANYBODY, _disguise_twin),
]
