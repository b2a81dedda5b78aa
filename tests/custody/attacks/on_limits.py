"""Attacks on amounts, windows, ceilings, fees and budgets."""

from dataclasses import replace

from custody.derivation import Role
from custody.intents import KeyRef, to_map
from tests.custody.attacks.careless import ForgetsBudgets, ForgetsRules, TakesAnything
from tests.custody.attacks.stage import Attack, Control, Scene, swap
from tests.custody.samples import (
    COLD,
    FEE_WEI_MAX,
    GWEI,
    STRANGER,
    batch,
    native_transfer,
    sweep,
    token_transfer,
    top_up,
)

HUGE = 2**256 - 1
MICRO = {"gas_limit": 21_000, "max_fee_per_gas": 1, "max_priority_fee_per_gas": 0}
"""Gas that no budget feels."""


def _raised(text: str) -> str:
    """All limits gone."""
    for limit in ("1000", "1500", "2500", str(10**18), str(5 * 10**18), str(10**17)):
        text = text.replace(f'per_transfer = "{limit}"', f'per_transfer = "{HUGE}"')
        text = text.replace(f'per_hour = "{limit}"', f'per_hour = "{HUGE}"')
        text = text.replace(f'per_day = "{limit}"', f'per_day = "{HUGE}"')
    return text


NO_LIMITS = Control(policy=_raised)
EASY_HOUR = swap('per_hour = "1500"', 'per_hour = "9999"')


def pays(*amounts: int, then: str = "", over: int = 0, **changes: object):
    """Honest token transfers one after the other, then perhaps one too much."""

    def play(scene: Scene) -> None:
        for amount in amounts:
            scene.honest(scene.make(token_transfer, amount=amount, **changes))
        if then:
            scene.theft(then, scene.make(token_transfer, amount=over, **changes))

    return play


def _extremes(scene: Scene) -> None:
    for amount in (2**63 - 1, 2**63, 2**64, 2**128, 2**255, HUGE, 500 * 10**12):
        scene.theft("over_transfer_limit", scene.make(token_transfer, amount=amount))


def _impossible(scene: Scene) -> None:
    told = to_map(scene.make(native_transfer))
    for amount in (0, 2**256, 2**256 + 1, -1, -(2**63)):
        scene.theft("intent_invalid|malformed", {"call": "sign", "intent": told | {"amount": amount}, "highest": None})


def _many_senders(scene: Scene) -> None:
    scene.honest(scene.make(token_transfer, amount=1000))
    for index in (1, 2, 3):
        sender = KeyRef(Role.HOT, index)
        scene.theft("over_hour_limit", scene.make(token_transfer, amount=600, sender=sender))


def _across_rules(scene: Scene) -> None:
    cold = scene.make(token_transfer, subject="cld_1", to=COLD, amount=1400)
    scene.honest(cold, scene.mandate(cold))
    scene.theft("over_hour_limit", scene.make(token_transfer, amount=101))


def _in_legs(scene: Scene) -> None:
    amounts = [9 * 10**17] * 6
    scene.theft("over_day_limit", scene.make(batch, scene.payout(), legs=scene.legs(*amounts)))


def _single_and_batch(scene: Scene) -> None:
    scene.honest(scene.make(native_transfer, amount=10**18))
    scene.theft("over_day_limit", scene.make(batch, scene.payout(), legs=scene.legs(*[10**18] * 4, 1)))


def _legs_that_overflow(scene: Scene) -> None:
    told = to_map(scene.make(batch, scene.payout()))
    told["legs"] = [["wdr_a", STRANGER, 2**255], ["wdr_b", STRANGER, 2**255]]
    scene.theft("intent_invalid", {"call": "sign", "intent": told, "highest": None})


def _authorisations(scene: Scene) -> None:
    scene.honest(scene.authorisation(amount=1000))
    scene.theft("over_hour_limit", scene.authorisation(amount=501))
    scene.theft("over_hour_limit", scene.authorisation(amount=501, sender=KeyRef(Role.DEPOSIT, 4)))
    scene.theft("over_hour_limit", scene.make(sweep, amount=501))


def _top_ups(scene: Scene) -> None:
    for index in range(10):
        scene.honest(scene.make(top_up, to=KeyRef(Role.DEPOSIT, index), amount=10**17))
    scene.theft("over_day_limit", scene.make(top_up, to=KeyRef(Role.DEPOSIT, 10), amount=1))


def _under_the_threshold(scene: Scene) -> None:
    scene.honest(scene.make(token_transfer, amount=500))
    scene.theft("approvals_missing", scene.make(token_transfer, amount=101))
    scene.theft("approvals_missing", scene.make(token_transfer, amount=101, sender=KeyRef(Role.HOT, 1)))


def _ceiling(scene: Scene) -> None:
    scene.honest(scene.make(token_transfer, amount=500))
    scene.theft("over_ceiling", scene.make(token_transfer, amount=301))
    scene.theft("over_ceiling", scene.make(native_transfer, amount=301))
    scene.theft("over_ceiling", scene.make(batch, scene.payout(), legs=scene.legs(150, 151)))


def _fees(scene: Scene) -> None:
    for fees in (
        {"max_fee_per_gas": 10**18, "max_priority_fee_per_gas": 10**18},
        {"max_fee_per_gas": 2**128, "max_priority_fee_per_gas": 0},
        {"gas_limit": 2**63 - 1, "max_fee_per_gas": GWEI, "max_priority_fee_per_gas": 1},
        {"gas_limit": FEE_WEI_MAX // GWEI + 1, "max_fee_per_gas": GWEI, "max_priority_fee_per_gas": 1},
    ):
        scene.theft("over_fee_cap", scene.make(token_transfer, **fees))


def _tip(scene: Scene) -> None:
    told = to_map(scene.make(token_transfer)) | {"max_priority_fee_per_gas": 2 * GWEI}
    scene.theft("intent_invalid", {"call": "sign", "intent": told, "highest": None})


def _climbing(scene: Scene) -> None:
    first = scene.make(token_transfer, gas_limit=100_000)
    scene.honest(first)
    price = GWEI
    for attempt in range(2, 9):
        price = price * 2
        fees = {"attempt": attempt, "max_fee_per_gas": price, "max_priority_fee_per_gas": price}
        asked = replace(first, **fees)
        if price * 100_000 > FEE_WEI_MAX:
            scene.theft("replacement_over_fee_cap", asked)
        else:
            scene.honest(asked)


def _budget(scene: Scene) -> None:
    dear = {"gas_limit": FEE_WEI_MAX // GWEI, "max_fee_per_gas": GWEI, "max_priority_fee_per_gas": 1}
    for _ in range(5):
        scene.honest(scene.make(token_transfer, amount=1, **dear))
    scene.theft("over_gas_budget", scene.make(token_transfer, amount=1))
    scene.theft("over_gas_budget", scene.make(token_transfer, amount=1, sender=KeyRef(Role.HOT, 1)))
    scene.theft("over_gas_budget", scene.make(native_transfer, amount=1))


def _budget_by_replacing(scene: Scene) -> None:
    first = [scene.make(token_transfer, amount=1, sender=KeyRef(Role.HOT, index), **MICRO) for index in range(4)]
    first += [scene.make(token_transfer, amount=1, nonce=1, **MICRO), scene.make(token_transfer, nonce=2, **MICRO)]
    for intent in first:
        scene.honest(intent)
    price = FEE_WEI_MAX // 21_000
    dearer = {"attempt": 2, "max_fee_per_gas": price, "max_priority_fee_per_gas": price}
    asked = [replace(intent, **dearer) for intent in first]
    for intent in asked[:4]:
        scene.honest(intent)
    scene.honest(asked[4])
    scene.theft("replacement_over_gas_budget", asked[5])


ATTACKS = [
    Attack("over the limit per transfer", pays(then="over_transfer_limit", over=1001), NO_LIMITS, pays(1000)),
    Attack("split in time, over the hour", pays(1000, then="over_hour_limit", over=501), NO_LIMITS, pays(500)),
    Attack(
        "split in time, over the day",
        pays(1000, 1000, then="over_day_limit", over=501),
        NO_LIMITS,
        pays(500),
        EASY_HOUR,
    ),
    Attack("split over senders", _many_senders, NO_LIMITS, pays(500, sender=KeyRef(Role.HOT, 1))),
    Attack("split over rules", _across_rules, NO_LIMITS, pays(100)),
    Attack("split over the legs of a batch", _in_legs, NO_LIMITS, pays(1)),
    Attack(
        "split over a single and a batch",
        _single_and_batch,
        NO_LIMITS,
        lambda s: s.honest(s.make(batch, s.payout(), legs=s.legs(*[10**18] * 4))),
    ),
    Attack("split over authorisations and a sweep", _authorisations, NO_LIMITS, lambda s: s.honest(s.make(sweep))),
    Attack(
        "split over top-ups of many addresses",
        _top_ups,
        NO_LIMITS,
        lambda s: s.honest(s.make(token_transfer)),
    ),
    Attack(
        "split below what needs approval",
        _under_the_threshold,
        Control(policy=swap("approvals = 2\napprovals_above", "approvals = 0\napprovals_above")),
        pays(100),
        swap(
            'to = "any"\nper_transfer = "1000"',
            'to = "any"\napprovals = 2\napprovals_above = "600"\nper_transfer = "1000"',
        ),
    ),
    Attack(
        "over the network's ceiling, by token, coin and batch",
        _ceiling,
        Control(policy=swap('per_day = "800"', 'per_day = "80000000"')),
        pays(300),
        swap("[[networks]]", '[[networks]]\nper_day = "800"'),
    ),
    Attack(
        "an asset whose value has expired",
        lambda s: s.theft("no_value", s.make(token_transfer, amount=1)),
        Control(policy=swap("2020-01-01", "2100-01-01")),
        lambda s: s.honest(s.make(sweep, amount=1)),
        swap("2100-01-01", "2020-01-01"),
    ),
    Attack("integer extremes, and 18 decimals for 6", _extremes, NO_LIMITS, pays(500)),
    Attack("amounts that no number of 256 bits is", _impossible, Control(service=TakesAnything), pays(1)),
    Attack("legs whose sum overflows", _legs_that_overflow, Control(service=TakesAnything), pays(1)),
    Attack(
        "gas as the loot",
        _fees,
        Control(service=ForgetsRules),
        lambda s: s.honest(s.make(token_transfer, gas_limit=FEE_WEI_MAX // GWEI)),
    ),
    Attack("a tip over the fee", _tip, Control(service=TakesAnything), pays(1)),
    Attack(
        "replacements that climb",
        _climbing,
        Control(policy=swap(f'fee_wei_max = "{FEE_WEI_MAX}"', f'fee_wei_max = "{FEE_WEI_MAX * 100}"')),
        pays(1),
        swap(f'per_day = "{5 * FEE_WEI_MAX}"', f'per_day = "{500 * FEE_WEI_MAX}"'),
    ),
    Attack(
        "more gas than the role's day",
        _budget,
        Control(policy=swap(f'per_day = "{5 * FEE_WEI_MAX}"', f'per_day = "{50 * FEE_WEI_MAX}"')),
        lambda s: s.honest(s.make(top_up)),
    ),
    Attack(
        "more gas than the role's day, by replacing",
        _budget_by_replacing,
        Control(service=ForgetsBudgets),
        lambda s: s.honest(s.make(top_up)),
    ),
]
