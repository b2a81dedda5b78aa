"""The policy: a row per answer, and a row per file that can't be meant."""

import re
from typing import Any

import pytest

from custody.derivation import Role, checksummed
from custody.errors import PolicyInvalid
from custody.intents import KeyRef, Transfer
from custody.policy import DENIALS, Allowed, SpendingFacts, evaluate
from custody.policy_file import parse
from tests.custody.samples import (
    CHAIN,
    FEE_WEI_MAX,
    GWEI,
    STRANGER,
    TOKEN,
    native_transfer,
    policy_text,
    token_transfer,
)

POLICY = parse(policy_text())
DEPOSIT, GAS = KeyRef(Role.DEPOSIT, 9), KeyRef(Role.GAS, 0)
HOT_ADDRESS = KeyRef(Role.HOT, 0)

# fmt: off
ANSWERS = [
    # intent                                                             spent   code or None
    (token_transfer(amount=1_000),                                           0,  None),
    (token_transfer(amount=1_001),                                           0,  "over_transfer_limit"),
    (token_transfer(amount=1_000),                                       1_500,  None),
    (token_transfer(amount=1_000),                                       1_501,  "over_day_limit"),
    (token_transfer(gas_limit=10**6, max_fee_per_gas=10 * GWEI),             0,  None),
    (token_transfer(gas_limit=10**6 + 1, max_fee_per_gas=10 * GWEI),         0,  "over_fee_cap"),
    (token_transfer(chain_id=1),                                             0,  "network_not_allowed"),
    (token_transfer(contract=STRANGER, to=TOKEN),                            0,  "asset_not_listed"),
    (token_transfer(sender=KeyRef(Role.HOT, 1)),                             0,  "index_too_high"),
    (token_transfer(to=KeyRef(Role.DEPOSIT, 5_001)),                         0,  "index_too_high"),
    (token_transfer(to=KeyRef(Role.DEPOSIT, 5_000)),                         0,  None),
    (token_transfer(sender=GAS, to=DEPOSIT),                                 0,  "role_not_allowed"),
    (token_transfer(sender=DEPOSIT),                                         0,  "destination_not_listed"),
    (token_transfer(sender=DEPOSIT, to=GAS),                                 0,  "destination_not_listed"),
    (token_transfer(sender=DEPOSIT, to=HOT_ADDRESS, amount=2**256 - 1), 2**260,  None),
    (native_transfer(amount=10**18),                                         0,  None),
    (native_transfer(amount=10**18 + 1),                                     0,  "over_transfer_limit"),
    (native_transfer(amount=10**17),                                 5 * 10**18, "over_day_limit"),
    (native_transfer(sender=GAS, to=DEPOSIT, amount=10**17),                 0,  None),
    (native_transfer(sender=GAS, to=DEPOSIT, amount=10**17 + 1),             0,  "over_transfer_limit"),
    (native_transfer(sender=GAS, to=HOT_ADDRESS, amount=10**17),             0,  None),
    (native_transfer(sender=GAS, amount=1),                                  0,  "destination_not_listed"),
    (native_transfer(sender=GAS, to=KeyRef(Role.GAS, 0), amount=1),          0,  "destination_not_listed"),
]
# fmt: on


@pytest.mark.parametrize(("intent", "spent", "code"), ANSWERS)
def test_every_answer_of_the_starter_policy(intent: Transfer, spent: int, code: str | None):
    answer = evaluate(POLICY, SpendingFacts(spent), intent)
    assert (None if isinstance(answer, Allowed) else answer.code) == code


def test_every_denial_code_is_listed_and_shown():
    shown = {code for _, _, code in ANSWERS if code is not None}
    assert shown | {"denied_by_rule"} == DENIALS


def test_a_denial_carries_its_numbers_and_its_rule():
    answer = evaluate(POLICY, SpendingFacts(2_400), token_transfer(amount=200))
    assert not isinstance(answer, Allowed)
    assert answer.rule == f"hot pays 0x{TOKEN.hex()}"
    assert [int(n) for n in re.findall(r"\d+", answer.sentence)] == [200, 2400, 24, 2500]


def rule(name: str, **changes: Any) -> str:
    stated = {
        "role": '"hot"',
        "chain_id": CHAIN,
        "asset": '"native"',
        "to": '"any"',
        "per_transfer": '"5"',
        "per_day": '"5"',
        "fee_wei_max": f'"{FEE_WEI_MAX}"',
    } | changes
    lines = [f"{key} = {value}" for key, value in stated.items() if value is not None]
    return "\n".join(["[[rules]]", f'name = "{name}"', *lines, ""])


def policy(*rules: str, head: str = "version = 1") -> str:
    return "\n".join([head, "[[networks]]", f"chain_id = {CHAIN}", *rules])


def test_the_first_rule_that_matches_decides():
    listed = f'["{checksummed(STRANGER)}"]'
    no_limits = {"per_transfer": None, "per_day": None, "fee_wei_max": None}
    small, big = rule("small"), rule("big", per_transfer='"500"', per_day='"500"')
    blocked = rule("blocked", to=listed, action='"deny"', **no_limits)
    asked = native_transfer(amount=50)
    answers = [
        evaluate(parse(policy(*order)), SpendingFacts(0), asked)
        for order in ((small, big), (big, small), (blocked, big), (big, blocked), (blocked,), ())
    ]
    seen = [answer.rule.name if isinstance(answer, Allowed) else answer.code for answer in answers]
    assert seen == ["over_transfer_limit", "big", "denied_by_rule", "big", "denied_by_rule", "asset_not_listed"]


def test_an_allow_list_reaches_only_its_addresses():
    listed = parse(policy(rule("listed", to=f'["{checksummed(STRANGER)}"]')))
    assert isinstance(evaluate(listed, SpendingFacts(0), native_transfer(amount=5)), Allowed)
    for to in (TOKEN, KeyRef(Role.HOT, 0)):
        answer = evaluate(listed, SpendingFacts(0), native_transfer(amount=5, to=to))
        assert not isinstance(answer, Allowed)
        assert answer.code == "destination_not_listed"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("version = ", "TOML"),
        ("", "missing"),
        (policy(head="version = 0"), "version"),
        (policy(head="version = true"), "version"),
        (policy(head="version = 1\nsurprise = 1"), "unknown surprise"),
        (policy(rule("a", chain_id=1)), "network 1"),
        (policy(rule("a", surprise=1)), "unknown surprise"),
        (policy(rule("a", per_day=None)), "missing per_day"),
        (policy(rule("a", per_day="5")), "per_day"),
        (policy(rule("a", per_day='"-5"')), "per_day"),
        (policy(rule("a", per_day='"5.0"')), "per_day"),
        (policy(rule("a", per_day='"1e3"')), "per_day"),
        (policy(rule("a", per_transfer=f'"{2**256}"')), "per_transfer"),
        (policy(rule("a", per_transfer='"unlimited"')), "unlimited"),
        (policy(rule("a", to='"own:hot"', fee_wei_max='"unlimited"')), "unlimited"),
        (policy(rule("a", to='"own:cold"')), "role"),
        (policy(rule("a", to='"own:hot:-1"')), "to is"),
        (policy(rule("a", to='"own:hot:99999999999"')), "to is"),
        (policy(rule("a", to="[]")), "to is"),
        (policy(rule("a", to='["0x1234"]')), "isn't an address"),
        (policy(rule("a", to='["0x70997970C51812dc3A010C7d01b50e0d17dc79c8"]')), "checksum"),
        (policy(rule("a", to=f'["0x{"0" * 40}"]')), "zero address"),
        (policy(rule("a", asset='"USDC"')), "isn't an address"),
        (policy(rule("a", role='"cold"')), "role"),
        (policy(rule("a", action='"maybe"')), "action"),
        (policy(rule("a"), rule("a")), "same name"),
        (policy(rule("a", role='"deposit"')), "sweep target"),
        (policy(rule("a", role='"gas"')), "gas key"),
        (policy(rule("a", role='"gas"', to=f'["{checksummed(STRANGER)}"]')), "gas key"),
        (policy("[keys]", 'hot = "abc"'), "fingerprint"),
        (policy("[highest_index]", "hot = -1"), "highest_index"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(text: str, told: str):
    with pytest.raises(PolicyInvalid, match=re.escape(told)):
        parse(text)


def test_fingerprint_is_of_the_meaning_not_of_the_spelling():
    text = policy_text()
    assert parse("# a comment\n" + text.replace(" = ", "=")).fingerprint == POLICY.fingerprint
    assert (
        parse(text.replace(f'asset = "0x{TOKEN.hex()}', f'asset = "{checksummed(TOKEN)}')).fingerprint
        == POLICY.fingerprint
    )
    changed = {
        parse(new).fingerprint
        for new in (
            text,
            text.replace("version = 1", "version = 2"),
            text.replace('per_transfer = "1000"', 'per_transfer = "1001"'),
            text.replace('to = "any"', 'to = "own:deposit"'),
            text.replace("deposit = 5000", "deposit = 5001"),
            text + f'[[first_nonces]]\nchain_id = {CHAIN}\nrole = "hot"\nindex = 0\nnonce = 1\n',
            text + f'[keys]\nhot = "{"ab" * 32}"\n',
        )
    }
    assert len(changed) == 7


def test_the_starter_policy_pins_the_keys_it_was_made_for():
    marks = {role: bytes([place]) * 32 for place, role in enumerate(Role)}
    assert parse(policy_text(fingerprints=marks)).keys == marks
