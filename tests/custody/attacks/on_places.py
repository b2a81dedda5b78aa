"""Attacks on where things go: networks, tokens, keys, addresses, contracts, batches, authorisations, messages."""

from dataclasses import replace

from custody.derivation import Role
from custody.intents import KeyRef, Leg, Relay, to_map
from tests.custody.attacks.careless import BuildsOnSand, ForgetsHistory, ForgetsRules, TakesAnything
from tests.custody.attacks.stage import Attack, Control, Scene, network_part, question, swap
from tests.custody.samples import (
    ANCHOR,
    COLD,
    DEPOSIT,
    GAS,
    HOT,
    PAYOUT_CODE,
    STRANGER,
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

OTHER = bytes([7]) * 20
TOKEN_TEXT = "0x" + TOKEN.hex()
NO_RULES, NO_FORM = Control(service=ForgetsRules), Control(service=TakesAnything)
NO_HISTORY, SAND = Control(service=ForgetsHistory), Control(service=BuildsOnSand)


def tries(codes, maker, *changes, twin=None):
    """(attempt, twin): an intent with each of these changes, and without any."""

    def attempt(scene: Scene) -> None:
        for change in changes:
            scene.theft(codes, scene.make(maker, **change))

    return attempt, lambda scene: scene.honest(scene.make(maker, **(twin or {})))


def told(codes, maker, *changes):
    """The same by what is written into the message, where no intent of that form could be made."""

    def attempt(scene: Scene) -> None:
        for change in changes:
            asked = question(scene.make(maker))
            asked["intent"] = {**asked["intent"], **change}
            scene.theft(codes, asked)

    return attempt, lambda scene: scene.honest(scene.make(maker))


def attack(name, plays, control, policy=None) -> Attack:
    return Attack(name, plays[0], control, plays[1], *([policy] if policy else []))


def _funded(scene: Scene, amount: int = 300, **changes):
    """An allowance, and the batch that it's for."""
    given = scene.make(allowance, scene.payout(), amount=amount, batch=f"bat_{scene.chain}-{scene._made}", **changes)
    scene.honest(given)
    return scene.make(batch, scene.payout(), subject=given.batch, contract=TOKEN, legs=scene.legs(100, 200))


def _batch_twin(scene: Scene) -> None:
    scene.honest(_funded(scene))


def _unfunded(scene: Scene) -> None:
    good = _funded(scene)
    for other in (
        scene.make(batch, scene.payout(), contract=TOKEN),
        replace(good, legs=scene.legs(100, 201)),
        replace(good, legs=scene.legs(100, 199)),
        replace(good, sender=KeyRef(Role.HOT, 1), nonce=0),
        scene.make(batch, scene.payout(), contract=TOKEN, legs=scene.legs(100, 200)),
    ):
        scene.theft("allowance_missing", other)


def _spender(scene: Scene) -> None:
    for spender in (STRANGER, OTHER, scene.payout()[:-1] + b"\0", ANCHOR):
        scene.theft("contract_unknown", scene.make(allowance, spender))
        scene.theft("contract_unknown", scene.make(batch, spender, legs=scene.legs(1, to=COLD)))


def _leg_places(scene: Scene) -> None:
    here = scene.payout()
    scene.theft("denied_by_rule", scene.make(batch, here, legs=scene.legs(1, 1, to=OTHER)))
    scene.theft("over_transfer_limit", scene.make(batch, here, legs=scene.legs(1, 10**18 + 1)))
    scene.theft("denied_by_rule", scene.make(native_transfer, to=OTHER))


DENY_OTHER = swap(
    '[[rules]]\nname = "native out"',
    '[[rules]]\nname = "sanctioned"\naction = "deny"\nrole = "hot"\nchain_id = 31337\nasset = "native"\n'
    f'to = ["0x{OTHER.hex()}"]\n\n'
    '[[rules]]\nname = "native out"',
)


def _leg_to_contract(scene: Scene) -> None:
    here = scene.payout()
    asked = to_map(scene.make(batch, here))
    for to in (here, bytes(20)):
        asked["legs"] = [["wdr_a", STRANGER, 1], ["wdr_b", to, 1]]
        scene.theft("to_is_contract|zero_address", {"call": "sign", "intent": asked, "highest": None})


def _leg_count(scene: Scene) -> None:
    asked = to_map(scene.make(batch, scene.payout()))
    for count in (0, 101, 200):
        asked["legs"] = [[f"wdr_{i}", STRANGER, 1] for i in range(count)]
        scene.theft("intent_invalid", {"call": "sign", "intent": asked, "highest": None})


def _leg_count_twin(scene: Scene) -> None:
    scene.honest(scene.make(batch, scene.payout(), legs=scene.legs(*[1] * 100)))


def _leg_twice(scene: Scene) -> None:
    asked = to_map(scene.make(batch, scene.payout()))
    asked["legs"] = [["wdr_a", STRANGER, 1], ["wdr_a", STRANGER, 2]]
    scene.theft("leg_repeated", {"call": "sign", "intent": asked, "highest": None})
    asked["legs"] = [["wdr_a", STRANGER, 1], [asked["subject"], STRANGER, 2]]
    scene.theft("leg_repeated", {"call": "sign", "intent": asked, "highest": None})


def _paid_elsewhere(scene: Scene) -> None:
    first = scene.make(batch, scene.payout(), legs=scene.legs(1, 2))
    single = scene.make(native_transfer, amount=1, nonce=1)
    scene.honest(first)
    scene.honest(single)
    again = [
        scene.make(batch, scene.payout(), legs=first.legs),
        scene.make(batch, scene.payout(), legs=(*scene.legs(5), first.legs[1])),
        scene.make(native_transfer, subject=first.legs[0].subject, amount=1),
        scene.make(token_transfer, subject=first.legs[1].subject, amount=1),
        scene.make(batch, scene.payout(), legs=(Leg(single.subject, STRANGER, 1),)),
        scene.make(batch, scene.payout(), legs=(Leg(first.subject, STRANGER, 1),)),
        scene.make(sweep, subject=first.legs[0].subject),
    ]
    for intent in again:
        scene.theft("subject_used", intent)


def _relays(scene: Scene) -> None:
    given = scene.authorisation()
    signature = scene.honest(given)
    good = relay_of(scene, given, signature)
    flipped = bytes([signature[0] ^ 1]) + signature[1:]
    other = KeyRef(Role.DEPOSIT, 4)
    for change in (
        {"authorisation": "swp_unknown"},
        {"amount": given.amount + 1},
        {"to": STRANGER},
        {"owner": other},
        {"valid_before": given.valid_before + 1},
        {"signature": flipped},
        {"signature": signature[:64] + bytes([signature[64] ^ 7])},
    ):
        scene.theft("authorisation_unknown", replace(good, subject="rel_x", **change))


def relay_of(scene: Scene, given, signature: bytes):
    return Relay(
        subject=f"rel_{scene.chain}-{scene._made}",
        attempt=1,
        chain_id=scene.chain,
        sender=GAS,
        nonce=scene.next_nonce(GAS),
        gas_limit=90_000,
        max_fee_per_gas=10**9,
        max_priority_fee_per_gas=1,
        authorisation=given.subject,
        contract=given.contract,
        owner=given.sender,
        to=given.to,
        amount=given.amount,
        valid_before=given.valid_before,
        signature=signature,
    )


def _relay_twin(scene: Scene) -> None:
    given = scene.authorisation(amount=1)
    scene.honest(relay_of(scene, given, scene.honest(given)))


def _authorised(codes, *changes):
    def attempt(scene: Scene) -> None:
        for change in changes:
            scene.theft(codes, scene.authorisation(**change))

    return attempt, lambda scene: scene.honest(scene.authorisation(seconds=3590, amount=1))


def _authorised_twice(scene: Scene) -> None:
    given = scene.authorisation(amount=1)
    scene.honest(given)
    scene.theft("attempt_differs", replace(given, amount=2))
    scene.theft("attempt_differs", replace(given, valid_before=given.valid_before + 1))
    scene.theft("subject_used|attempt_differs|second_message", scene.make(sweep, subject=given.subject, amount=1))
    scene.theft("subject_used|second_message", scene.make(sweep, subject=given.subject, attempt=2, amount=1))


def _deployments(scene: Scene) -> None:
    for asked in (
        scene.make(deployment, code=PAYOUT_CODE + b"\0"),
        scene.make(deployment, code=b"\x00"),
        scene.make(deployment, nonce=1),
        scene.make(deployment, sender=HOT),
    ):
        scene.theft("contract_unknown|role_not_allowed", asked, scene.mandate(asked))


def _deployment_late(scene: Scene) -> None:
    scene.honest(scene.make(top_up))
    late = scene.make(deployment)
    scene.theft("contract_unknown", late, scene.mandate(late))
    early = replace(late, nonce=0)
    scene.theft("nonce_taken", early, scene.mandate(early))


def _deployment_twin(scene: Scene) -> None:
    asked = scene.make(deployment)
    scene.honest(asked, scene.mandate(asked))


def _topped_twice(scene: Scene) -> None:
    scene.honest(scene.make(top_up))
    scene.theft("top_up_open", scene.make(top_up))
    scene.theft("top_up_open", scene.make(top_up, amount=1))


def _topped_again(scene: Scene) -> None:
    scene.honest(scene.make(sweep))
    scene.honest(scene.make(top_up))


ATTACKS = [
    attack(
        "another network",
        tries("network_not_allowed", token_transfer, {"chain_id": 1}, {"chain_id": 2**63 - 1}, {"chain_id": 11}),
        Control(policy=lambda text: text + network_part(1)),
    ),
    attack("another token", tries("asset_not_listed", token_transfer, {"contract": OTHER}), NO_RULES),
    attack(
        "a token whose address looks alike",
        tries("asset_not_listed", token_transfer, {"contract": TOKEN[:19] + b"\0"}),
        NO_RULES,
    ),
    attack(
        "keys that don't pay others",
        tries("role_not_allowed", token_transfer, {"sender": DEPOSIT}, {"sender": GAS}),
        NO_RULES,
    ),
    attack(
        "a key beyond the highest index",
        tries("index_too_high", token_transfer, {"sender": KeyRef(Role.HOT, 4)}),
        NO_RULES,
    ),
    attack(
        "to an own key beyond the highest index",
        tries(
            "index_too_high",
            token_transfer,
            {"to": KeyRef(Role.DEPOSIT, 5001)},
            {"to": KeyRef(Role.DEPOSIT, 2**31 - 1)},
        ),
        NO_RULES,
    ),
    attack(
        "a sweep to somebody else",
        tries(
            "destination_not_listed", sweep, {"to": STRANGER}, {"to": COLD}, {"to": KeyRef(Role.HOT, 1)}, {"to": GAS}
        ),
        NO_RULES,
    ),
    attack("a sweep from the wrong key", tries("role_not_allowed", sweep, {"sender": GAS}), NO_RULES),
    attack(
        "a top-up of a stranger",
        told("intent_invalid", top_up, {"to": STRANGER}, {"to": ["cold", 0]}, {"to": ["deposit", -1]}),
        NO_FORM,
    ),
    attack(
        "a top-up of what needs none",
        tries("destination_not_listed|index_too_high", top_up, {"to": HOT}, {"to": KeyRef(Role.DEPOSIT, 5001)}),
        NO_RULES,
    ),
    Attack("a second top-up before the first was used", _topped_twice, NO_RULES, _topped_again),
    Attack("another spender, another payer of batches", _spender, NO_RULES, _batch_twin),
    Attack("a batch without an allowance of exactly its sum", _unfunded, SAND, _batch_twin),
    Attack("a leg that a transfer may not be", _leg_places, NO_RULES, _leg_count_twin, DENY_OTHER),
    Attack("a leg to the contract itself, or to nobody", _leg_to_contract, NO_FORM, _leg_count_twin),
    Attack("101 legs, or none", _leg_count, NO_FORM, _leg_count_twin),
    Attack("a withdrawal twice in one batch", _leg_twice, NO_FORM, _leg_count_twin),
    Attack("a withdrawal twice across batches and singles", _paid_elsewhere, NO_HISTORY, _leg_count_twin),
    Attack("an authorisation relayed that wasn't given like that", _relays, SAND, _relay_twin),
    attack(
        "an authorisation that is valid too long, or no more",
        _authorised("validity_too_long", {"seconds": 3700}, {"seconds": 86_400 * 365}, {"seconds": -1}),
        NO_RULES,
    ),
    attack(
        "an authorisation in another domain",
        _authorised(
            "domain_differs", {"domain_name": "USD  Coin"}, {"domain_version": "1"}, {"domain_name": "Dai Stablecoin"}
        ),
        NO_RULES,
    ),
    attack(
        "an authorisation to somebody else",
        _authorised("destination_not_listed", {"to": STRANGER}, {"to": GAS}),
        NO_RULES,
    ),
    Attack("two authorisations with one nonce", _authorised_twice, NO_HISTORY, lambda s: s.honest(s.authorisation())),
    Attack("other code deployed, or by somebody else", _deployments, NO_RULES, _deployment_twin),
    Attack("the contract deployed elsewhere", _deployment_late, NO_RULES, lambda s: s.honest(s.make(token_transfer))),
    attack(
        "an anchor to another address",
        tries("destination_not_listed", anchor, {"to": STRANGER}, {"to": TOKEN}),
        NO_RULES,
    ),
    attack("an anchor by another key", tries("role_not_allowed", anchor, {"sender": HOT}), NO_RULES),
    attack(
        "an anchor with more than a root",
        told(
            "intent_invalid",
            anchor,
            {"root": bytes(33)},
            {"root": bytes(68)},
            {"root": b""},
            {"value": 1},
            {"amount": 1},
        ),
        NO_FORM,
    ),
    attack(
        "a proof with other words",
        told(
            "intent_invalid",
            proof,
            {"epoch": "7 and sends all to 0x0"},
            {"epoch": "7\n"},
            {"epoch": "٧"},
            {"root": bytes(31)},
            {"text": "x"},
        ),
        NO_FORM,
    ),
    attack(
        "a proof for somebody's deposit address",
        tries("role_not_allowed", proof, {"sender": DEPOSIT}, {"sender": GAS}),
        NO_RULES,
    ),
]
