# ruff: noqa: E501 - one aligned row per answer
"""Whether a policy lets an intent be signed: a row per code, in the order in which they take precedence."""

import re
from dataclasses import replace
from typing import Any

import pytest

from custody.counting import DAY_US, HOUR_US, Counted, Counts
from custody.derivation import Role, checksummed
from custody.intents import KeyRef
from custody.judging import DENIALS, Allowed, Situation, evaluate
from custody.policy import Policy
from custody.policy_file import parse
from tests.custody.bench import PAYOUT, address
from tests.custody.samples import (
    ANCHOR,
    CHAIN,
    COLD,
    DEPOSIT,
    FEE_WEI_MAX,
    GAS,
    GWEI,
    HOT,
    STRANGER,
    TOKEN,
    allowance,
    anchor,
    authorisation,
    batch,
    deployment,
    full_policy,
    legs,
    native_transfer,
    policy_text,
    proof,
    relay,
    sweep,
    token_transfer,
    top_up,
)

NOW = 1_800_000_000
NOW_US = NOW * 1_000_000
TOKEN_TEXT = "0x" + TOKEN.hex()
TWO = frozenset({"ada", "ben"})
HOT_1, OTHER = KeyRef(Role.HOT, 1), b"\x09" * 20
FULL = parse(full_policy())
STARTER = parse(policy_text())


def ceilings(*, until: str = "2030-01-01T00:00:00Z", network: str = "", token_value: bool = True) -> Policy:
    """The full policy with ceilings: 1,000 units in all; 2 for a token unit, 1 for 10**15 wei (rounded up)."""
    text = full_policy() + '\n[ceilings]\nper_day = "1000"\napprovals = 2\n'
    worth = [("native", 1, 10**15), *([(TOKEN_TEXT, 2, 1)] if token_value else [])]
    for asset, units, per in worth:
        text += (
            f'\n[[values]]\nchain_id = {CHAIN}\nasset = "{asset}"\nunits = "{units}"\nper = "{per}"\nuntil = {until}\n'
        )
    return parse(text.replace(f"[[networks]]\nchain_id = {CHAIN}", f"[[networks]]\nchain_id = {CHAIN}{network}", 1))


def counted(*spent: Any, at_us: int = NOW_US) -> Counts:
    counts = Counts()
    for intent in spent:
        counts.add(Counted(intent, intent.fee_wei_max), at_us=at_us)
    return counts


def situation(*spent: Any, by: frozenset[str] = frozenset(), at_us: int = NOW_US) -> Situation:
    return Situation(
        counts=counted(*spent, at_us=at_us),
        window_us=NOW_US,
        seconds=NOW,
        approved_by=by,
        own_addresses={GAS: address(GAS)},
    )


def code(policy: Policy, now: Situation, intent: Any) -> str | None:
    answer = evaluate(policy, now, intent)
    return None if isinstance(answer, Allowed) else answer.code


def pays(amount: int, **changes: Any) -> Any:
    return token_transfer(amount=amount, gas_limit=21_000, max_fee_per_gas=GWEI, max_priority_fee_per_gas=0, **changes)


def approved(amount: int) -> Any:
    return pays(amount, to=COLD)


DEAR = {"gas_limit": 10**6, "max_fee_per_gas": 10 * GWEI}
"""A fee of exactly the cap."""
BATCH: dict[str, Any] = {"via": PAYOUT, "gas_limit": 200_000}
VALID = {"valid_before": NOW + 3_600}

# fmt: off
TABLE = [
    # policy    intent                                                   spent before                  by    code
    # what networks and indexes there are
    (FULL,     pays(1, chain_id=1, sender=HOT_1),                        (),                           (),   "network_not_allowed"),
    (FULL,     pays(1, sender=HOT_1, contract=OTHER),                    (),                           (),   "index_too_high"),
    (FULL,     pays(1, to=KeyRef(Role.DEPOSIT, 5_001)),                  (),                           (),   "index_too_high"),
    (FULL,     pays(1, to=KeyRef(Role.DEPOSIT, 5_000)),                  (),                           (),   None),
    # no rule
    (FULL,     pays(1, contract=OTHER, sender=GAS),                      (),                           (),   "asset_not_listed"),
    (FULL,     anchor(chain_id=CHAIN, sender=HOT),                       (),                           (),   "role_not_allowed"),
    (FULL,     pays(1, sender=GAS),                                      (),                           (),   "role_not_allowed"),
    (FULL,     pays(1, sender=DEPOSIT),                                  (),                           (),   "role_not_allowed"),
    (FULL,     batch(OTHER, legs=legs(1)),                               (),                           (),   "contract_unknown"),
    (FULL,     allowance(STRANGER),                                      (),                           (),   "contract_unknown"),
    (FULL,     deployment(code=b"\1"),                                   (),                           TWO,  "contract_unknown"),
    (FULL,     deployment(nonce=1),                                      (),                           TWO,  "contract_unknown"),
    (FULL,     deployment(),                                             (),                           TWO,  None),
    (FULL,     sweep(to=STRANGER),                                       (),                           (),   "destination_not_listed"),
    (FULL,     sweep(to=KeyRef(Role.HOT, 0)),                            (),                           (),   None),
    (FULL,     sweep(to=GAS),                                            (),                           (),   "destination_not_listed"),
    (FULL,     anchor(to=STRANGER),                                      (),                           (),   "destination_not_listed"),
    (FULL,     anchor(to=ANCHOR),                                        (),                           (),   None),
    (FULL,     top_up(to=HOT),                                           (),                           (),   "destination_not_listed"),
    (FULL,     proof(),                                                  (),                           (),   None),
    (FULL,     proof(sender=GAS),                                        (),                           (),   "role_not_allowed"),
    # a rule of its kind
    (FULL,     top_up(amount=10**18),                                    (top_up(),),                  (),   "top_up_open"),
    (FULL,     authorisation(domain_version="1", **VALID),               (),                           (),   "domain_differs"),
    (FULL,     authorisation(domain_name="USDC", valid_before=NOW),      (),                           (),   "domain_differs"),
    (FULL,     authorisation(valid_before=NOW + 3_601, amount=1_001),    (),                           (),   "validity_too_long"),
    (FULL,     authorisation(valid_before=NOW),                          (),                           (),   "validity_too_long"),
    (FULL,     authorisation(valid_before=NOW + 1),                      (),                           (),   None),
    (FULL,     authorisation(**VALID),                                   (),                           (),   None),
    # fees
    (FULL,     token_transfer(amount=1_001, **DEAR | {"gas_limit": 10**6 + 1}), (),                    (),   "over_fee_cap"),
    (FULL,     token_transfer(amount=1_000, **DEAR),                     (),                           (),   None),
    (FULL,     native_transfer(amount=2 * 10**18, **DEAR),               (native_transfer(**DEAR),) * 5, (), "over_gas_budget"),
    (FULL,     native_transfer(amount=10**17, **DEAR),                   (native_transfer(**DEAR),) * 4, (), None),
    # amounts
    (FULL,     pays(1_001),                                              (pays(1_000), pays(1_000)),   (),   "over_transfer_limit"),
    (FULL,     pays(1_000),                                              (pays(1_000), pays(1_000)),   (),   "over_hour_limit"),
    (FULL,     pays(501),                                                (pays(1_000),),               (),   "over_hour_limit"),
    (FULL,     pays(500),                                                (pays(1_000),),               (),   None),
    (STARTER,  token_transfer(amount=501),                               (pays(1_000), pays(1_000)),   (),   "over_day_limit"),
    (STARTER,  token_transfer(amount=500),                               (pays(1_000), pays(1_000)),   (),   None),
    (STARTER,  native_transfer(amount=10**18 + 1),                       (),                           (),   "over_transfer_limit"),
    (STARTER,  sweep(amount=2**256 - 1),                                 (sweep(amount=2**256 - 1),),  (),   None),
    # approvals
    (FULL,     approved(1),                                              (),                           (),   "approvals_missing"),
    (FULL,     approved(1),                                              (),                           ("ada",), "approvals_missing"),
    (FULL,     approved(10**6),                                          (),                           TWO,  None),
    (FULL,     approved(10**6 + 1),                                      (),                           (),   "over_transfer_limit"),
    (FULL,     deployment(),                                             (),                           ("ada",), "approvals_missing"),
    # legs, each as the transfer that it is
    (FULL,     batch(legs=legs(1_001), contract=TOKEN, **BATCH),         (),                           (),   "over_transfer_limit"),
    (FULL,     batch(legs=legs(1_000, 501), contract=TOKEN, **BATCH),    (),                           (),   "over_hour_limit"),
    (FULL,     batch(legs=legs(1_000, 500), contract=TOKEN, **BATCH),    (),                           (),   None),
    (FULL,     batch(legs=legs(1, to=COLD), contract=TOKEN, **BATCH),    (),                           (),   "approvals_missing"),
    (FULL,     batch(legs=legs(500), contract=TOKEN, **BATCH),           (pays(1_000),),               (),   None),
    (FULL,     batch(legs=legs(501), contract=TOKEN, **BATCH),           (pays(1_000),),               (),   "over_hour_limit"),
    (FULL,     allowance(PAYOUT, amount=1_000),                          (pays(1_000), pays(500)),     (),   None),
    (FULL,     allowance(PAYOUT, amount=501),                            (allowance(PAYOUT, amount=1_000),), (), "over_hour_limit"),
    (FULL,     authorisation(amount=501, **VALID),                       (authorisation(amount=1_000),), (), "over_hour_limit"),
    (FULL,     sweep(amount=501),                                        (authorisation(amount=1_000),), (), "over_hour_limit"),
    # ceilings come last
    (ceilings(token_value=False), pays(1),                               (),                           TWO,  "no_value"),
    (ceilings(until="2027-01-15T08:00:00Z"), pays(1),                    (),                           (),   "no_value"),
    (ceilings(until="2027-01-15T08:00:01Z"), pays(1),                    (),                           (),   None),
    (ceilings(), pays(501),                                              (),                           (),   "over_ceiling"),
    (ceilings(), pays(500),                                              (),                           (),   None),
    (ceilings(), pays(501),                                              (),                           ("ada",), "over_ceiling"),
    (ceilings(), pays(501),                                              (),                           TWO,  None),
    (ceilings(), pays(1_001),                                            (),                           TWO,  "over_transfer_limit"),
    (ceilings(), native_transfer(amount=1),                              (pays(500),),                 (),   "over_ceiling"),
    (ceilings(), native_transfer(amount=10**15),                         (pays(499),),                 (),   None),
    (ceilings(), native_transfer(amount=2 * 10**15 + 1),                 (pays(499),),                 (),   "over_ceiling"),
    (ceilings(network='\nper_day = "10"'), pays(6),                      (),                           (),   "over_ceiling"),
    (ceilings(network='\nper_day = "10"'), pays(5),                      (),                           (),   None),
    (ceilings(), sweep(amount=1_000),                                    (pays(500),),                 (),   None),
    (ceilings(), relay(bytes(65), to=STRANGER, amount=1_000),            (pays(500),),                 (),   None),
    (ceilings(), pays(500, to=DEPOSIT),                                  (pays(500),),                 (),   None),
    (ceilings(), batch(legs=legs(400, 101), contract=TOKEN, **BATCH),    (),                           (),   "over_ceiling"),
    (ceilings(), allowance(PAYOUT, amount=1_000),                        (pays(500),),                 (),   None),
]
# fmt: on


@pytest.mark.parametrize(("policy", "intent", "spent", "by", "told"), TABLE)
def test_every_answer(policy: Policy, intent: Any, spent: Any, by: Any, told: str | None):
    assert code(policy, situation(*spent, by=frozenset(by)), intent) == told


OF_THE_SERVICE = {
    *("approval_expired", "approval_policy_differs", "approval_invalid", "approval_by_maker", "approval_repeated"),
    *("approver_unknown", "scheme_unknown", "maker_unproven", "over_approved_fee"),
    *("allowance_missing", "authorisation_unknown"),
}
"""Shown in test_mandates and test_service."""


def test_every_denial_code_is_listed_and_shown():
    shown = {told for *_, told in TABLE if told is not None} | {"denied_by_rule"}
    assert shown | OF_THE_SERVICE == DENIALS
    assert not shown & OF_THE_SERVICE


def test_a_denial_carries_its_numbers_and_its_rule():
    answer = evaluate(STARTER, situation(pays(1_000), pays(1_000), pays(400)), pays(200))
    assert not isinstance(answer, Allowed)
    assert answer.rule == f"hot pays {TOKEN_TEXT}"
    assert [int(n) for n in re.findall(r"\d+", answer.sentence)] == [200, 2400, 24, 2500]


def rule(name: str, **changes: Any) -> str:
    stated = {"role": '"hot"', "chain_id": CHAIN, "asset": '"native"', "to": '"any"', "per_transfer": '"5"'}
    stated |= {"per_day": '"5"', "fee_wei_max": f'"{FEE_WEI_MAX}"'} | changes
    lines = [f"{key} = {value}" for key, value in stated.items() if value is not None]
    return "\n".join(["[[rules]]", f'name = "{name}"', *lines, ""])


def policy(*rules: str, head: str = "version = 1") -> str:
    return "\n".join([head, "[[networks]]", f"chain_id = {CHAIN}", *rules])


def test_the_first_rule_that_matches_decides():
    listed = f'["{checksummed(STRANGER)}"]'
    no_limits = {"per_transfer": None, "per_day": None, "fee_wei_max": None}
    small, big = rule("small"), rule("big", per_transfer='"500"', per_day='"500"')
    blocked = rule("blocked", to=listed, action='"deny"', **no_limits)
    elsewhere = rule("elsewhere", to=f'["{checksummed(COLD)}"]', action='"deny"', **no_limits)
    asked = native_transfer(amount=50)
    orders = ((small, big), (big, small), (blocked, big), (big, blocked), (blocked,), (), (elsewhere, big))
    answers = [evaluate(parse(policy(*order)), situation(), asked) for order in orders]
    seen = [answer.rule.name if isinstance(answer, Allowed) else answer.code for answer in answers]
    assert seen == ["over_transfer_limit", "big", "denied_by_rule", "big", "denied_by_rule", "asset_not_listed", "big"]


def test_a_leg_is_denied_by_the_rule_that_denies_it_alone():
    text = full_policy().replace(
        "[[rules]]",
        f'''[[rules]]
name = "never"
action = "deny"
role = "hot"
chain_id = {CHAIN}
asset = "{TOKEN_TEXT}"
to = ["{checksummed(STRANGER)}"]

[[rules]]''',
        1,
    )
    denied = evaluate(parse(text), situation(), batch(legs=legs(1), contract=TOKEN, **BATCH))
    assert not isinstance(denied, Allowed)
    assert (denied.code, denied.rule, "leg wdr_leg-0" in denied.sentence) == ("denied_by_rule", "never", True)
    assert code(parse(text), situation(), batch(legs=legs(1, to=OTHER), contract=TOKEN, **BATCH)) is None


def test_an_own_address_is_of_one_generation_and_a_role_is_all_of_them():
    now = situation()
    assert code(FULL, now, sweep(to=KeyRef(Role.HOT, 0))) is None
    assert code(FULL, now, sweep(to=KeyRef(Role.HOT, 0, 2))) == "destination_not_listed"
    assert code(FULL, now, top_up(to=KeyRef(Role.DEPOSIT, 3, 2))) is None
    second = parse(full_policy().replace('"own:hot:0"', '"own:hot.2:0"'))
    assert code(second, now, sweep(to=KeyRef(Role.HOT, 0, 2))) is None
    assert code(second, now, sweep(to=KeyRef(Role.HOT, 0))) == "destination_not_listed"


def test_an_allow_list_reaches_only_its_addresses():
    listed = parse(policy(rule("listed", to=f'["{checksummed(STRANGER)}"]')))
    assert code(listed, situation(), native_transfer(amount=5)) is None
    for to in (TOKEN, HOT):
        assert code(listed, situation(), native_transfer(amount=5, to=to)) == "destination_not_listed"


def above(over: int) -> Policy:
    text = full_policy().replace('name = "token out"', f'name = "token out"\napprovals = 1\napprovals_above = "{over}"')
    return parse(text)


@pytest.mark.parametrize(
    ("spent", "amount", "told"),
    [
        ((), 700, None),
        ((), 701, "approvals_missing"),
        ((300,), 400, None),
        ((300,), 401, "approvals_missing"),
        ((300, 399), 1, None),
        ((300, 400), 1, "approvals_missing"),
    ],
)
def test_splitting_a_payment_saves_no_approval(spent: tuple[int, ...], amount: int, told: str | None):
    before = [pays(one) for one in spent]
    assert code(above(700), situation(*before), pays(amount)) == told
    assert code(above(700), situation(*before, by=frozenset({"ada"})), pays(amount)) is None
    leg = batch(legs=legs(*spent, amount), contract=TOKEN, **BATCH)
    assert code(above(700), situation(), leg) == told, "nor does splitting it into legs"


def test_windows_end_to_the_microsecond():
    for intent, length in ((pays(1_000), HOUR_US), (top_up(), DAY_US)):
        ends = [code(FULL, situation(intent, at_us=NOW_US - length + by), replace(intent, amount=501)) for by in (0, 1)]
        assert ends == [None, "over_hour_limit" if length == HOUR_US else "top_up_open"]


def test_a_top_up_is_open_until_its_address_signs_a_transaction_or_it_is_cancelled():
    again = top_up(subject="gas_2", nonce=1)
    assert code(FULL, situation(top_up(), authorisation(), proof()), again) == "top_up_open"
    assert code(FULL, situation(top_up(), sweep()), again) is None
    assert code(FULL, situation(top_up(), sweep(sender=KeyRef(Role.DEPOSIT, 4))), again) == "top_up_open"
    assert code(FULL, situation(top_up(to=KeyRef(Role.DEPOSIT, 4))), again) is None
    counts = counted(top_up())
    counts.close_top_up(top_up())
    assert not counts.has_open_top_up(CHAIN, DEPOSIT, at_us=NOW_US)


def test_after_a_resync_every_window_is_full_for_a_day():
    limited = (pays(1), native_transfer(amount=1), allowance(PAYOUT, amount=1), top_up(), sweep(amount=1))
    for intent in (*limited, authorisation(amount=1, **VALID)):
        now = situation()
        now.counts.fill(at_us=NOW_US)
        assert code(FULL, now, intent) in ("over_hour_limit", "over_day_limit", "over_gas_budget")
        later = replace(now, window_us=NOW_US + DAY_US - 1)
        assert code(FULL, later, intent) in ("over_hour_limit", "over_day_limit", "over_gas_budget")
        assert code(FULL, replace(now, window_us=NOW_US + DAY_US), intent) is None
    now = situation()
    now.counts.fill(at_us=NOW_US)
    assert code(FULL, now, proof()) is None
    assert code(FULL, now, anchor()) is None, "the gas role has no budget"
    assert code(STARTER, now, sweep()) is None, "what is unlimited stays so"


def test_nobody_knows_what_left_before_a_resync_so_ceilings_need_approvals():
    text = re.sub(
        r'per_(hour|day) = "[0-9]+"\nfee', 'per_day = "115792089237316195423570985008687907853"\nfee', full_policy()
    )
    free = replace(ceilings(), rules=tuple(replace(one, per_hour=2**256, per_day=2**256) for one in parse(text).rules))
    free = replace(free, gas_budgets={})
    now = situation()
    now.counts.fill(at_us=NOW_US)
    assert code(free, now, pays(1)) == "over_ceiling"
    assert code(free, replace(now, approved_by=TWO), pays(1)) is None
    assert code(replace(free, values=()), replace(now, approved_by=TWO), pays(1)) == "no_value"


def test_an_asset_that_has_no_value_any_more_counts_as_over_the_ceiling():
    gone = replace(ceilings(), values=tuple(one for one in ceilings().values if one.asset == "native"))
    assert code(gone, situation(pays(1)), native_transfer(amount=1)) == "over_ceiling"
    assert code(gone, situation(pays(1), at_us=NOW_US - DAY_US), native_transfer(amount=1)) is None
