"""A tariff is read exactly, and what can't be meant is refused with its line."""

import pytest

from tariff.errors import TariffInvalid
from tariff.schedule import Allowance, Limit, Operation, Short, Sum, percent
from tests.tariff.samples import HEAD, read

WHOLE = """
default_tier = "standard"
reference = "EUR"

[tiers.standard]
free.transfer = { operations = 10, value = "500.00" }
account_fee = { asset = "EUR", amount = "2.00", short = "owe" }

[tiers.standard.limits.out]
operation = "1000.00"
day = "2500.00"

[tiers.verified]

[[fees]]
operation = "withdrawal"
percent = "0.35"

[[fees]]
operation = "withdrawal"
tier = "verified"
asset = "USDC"
network = "base"
flat = "0.50"
percent = "0.1"
minimum = "1"
maximum = "25.00"
"""


def test_everything_is_read_exactly():
    tariff = read(WHOLE)
    standard = tariff.tiers["standard"]
    assert tariff.default_tier == "standard"
    assert standard.limits == {Sum.OUT: Limit(operation=1000_00, day=2500_00)}
    assert standard.free == {Operation.TRANSFER: Allowance(10, 500_00)}
    fee = standard.account_fee
    assert fee is not None
    assert (fee.asset, fee.amount, fee.short) == ("EUR", 2_00, Short.OWE)
    general, special = tariff.rules
    assert (general.percent, general.flat, general.maximum) == (percent("0.35", 35, 2), 0, None)
    assert (special.flat, special.minimum, special.maximum) == (500_000, 1_000_000, 25_000_000)
    assert special.named == {"tier": "verified", "asset": "USDC", "place": "base"}


def rule(*lines: str) -> str:
    return HEAD + "\n[[fees]]\n" + "\n".join(lines) + "\n"


def tier(*lines: str) -> str:
    return HEAD + "\n".join(lines) + "\n"


ON = 'operation = "transfer"'
BAD = [
    ("not = [valid", None, "tariff.toml: "),
    ("", None, "there is no tier"),
    ('default_tier = "gold"\n[tiers.standard]\n', 1, "'gold' is no tier; there is standard"),
    ("surprise = 1\n" + HEAD, 1, "unknown key"),
    (rule('operation = "trnsfer"', 'percent = "1"'), 8, "'trnsfer' is none of transfer, hold"),
    (rule('operation = "deposit"', 'percent = "1"'), 8, "'deposit' is none of transfer, hold"),
    (tier("free.deposit = { operations = 1 }"), 6, "'deposit' is none of transfer, hold"),
    (rule(ON, 'tier = "gold"', 'percent = "1"'), 9, "'gold' is no tier"),
    (rule(ON, 'asset = "DOGE"', 'percent = "1"'), 9, "'DOGE' is no asset; there is ETH, EUR, USD, USDC"),
    (rule(ON, "percent = 0.35"), 9, 'a percentage is a decimal string such as "0.35", not 0.35'),
    (rule(ON, "percent = 1"), 9, "not 1"),
    (rule(ON, 'percent = "-1"'), 9, "decimal string"),
    (rule(ON, 'percent = "100.01"'), 9, "at most 100 percent"),
    (rule(ON, 'percent = "1e2"'), 9, "decimal string"),
    (rule(ON, 'flat = "1.00"'), 9, "name the rule's asset"),
    (rule(ON, 'asset = "EUR"', 'flat = "-1.00"'), 10, "no sign"),
    (rule(ON, 'asset = "EUR"', "flat = 1.0"), 10, "not 1.0"),
    (rule(ON, 'asset = "EUR"', 'flat = "1.005"'), 10, "3 decimals; EUR has 2"),
    (rule(ON, 'asset = "EUR"', 'minimum = "2.00"', 'maximum = "1.00"'), 11, "the maximum is below the minimum"),
    (rule(ON, 'asset = "EUR"', 'flat = "2.00"', 'maximum = "1.00"'), 11, "below the flat part"),
    (rule(ON, 'asset = "EUR"'), 7, "nothing is told"),
    (rule(ON, 'percent = "1"', 'network = "local"'), 10, "goes over no network"),
    (
        rule('operation = "withdrawal"', 'percent = "1"', 'network = "mars"'),
        10,
        "'mars' is no network of a withdrawal here",
    ),
    (rule('operation = "payout"', 'percent = "1"', 'rail = "swift"'), 10, "'swift' is no rail of a payout here"),
    (rule('operation = "top_up"', 'percent = "1"', 'rail = "bank"'), 10, "there is sandbox, stripe"),
    (rule(ON, 'percent = "1"', 'colour = "red"'), 10, "unknown key"),
    (rule(ON, 'percent = "1"', "[[fees]]", ON, 'percent = "2"'), 10, "fees[1] and fees[2] are for the same"),
    (
        rule(ON, 'tier = "standard"', 'percent = "1"', "[[fees]]", ON, 'asset = "EUR"', 'percent = "2"'),
        11,
        "both fit a transfer (tier standard, asset EUR), and neither is more specific",
    ),
    (tier('limits.out = { day = "10.00", month = "5.00" }'), 6, "can't be more than"),
    (tier("limits.out = { }"), 6, "no cap is told"),
    (tier('limits.out = { day = "0" }'), 6, "more than zero"),
    (tier('limits.out = { week = "10.00" }'), 6, "unknown key"),
    (tier('limits.in = { day = "10.00" }'), 6, "'in' is none of out"),
    (tier("free.transfer = { operations = 0 }"), 6, "from 1"),
    (tier("free.transfer = { operations = 1.5 }"), 6, "whole number"),
    (tier("free.transfer = { }"), 6, "nothing is told"),
    (tier('account_fee = { asset = "EUR", amount = "0", short = "owe" }'), 6, "more than zero"),
    (tier('account_fee = { asset = "EUR", amount = "1.00", short = "beg" }'), 6, "'beg' is none of waive"),
    ('default_tier = "a"\n[tiers.a]\nlimits.out = { day = "1" }\n', 3, "there is none: write reference"),
    ('default_tier = "a"\nreference = "DOGE"\n[tiers.a]\n', 2, "'DOGE' is no asset"),
    ('default_tier = "A B"\n[tiers."A B"]\n', None, "a tier's name"),
]


@pytest.mark.parametrize(("text", "line", "says"), BAD, ids=[says[:40] for _, _, says in BAD])
def test_what_cant_be_meant_is_refused_with_its_line(text, line, says):
    with pytest.raises(TariffInvalid) as refused:
        read(text)
    assert says in refused.value.message
    if line is not None:
        assert refused.value.message.startswith(f"tariff.toml:{line}: "), refused.value.message


def test_a_rule_for_just_that_ends_the_doubt():
    doubtful = rule(ON, 'tier = "standard"', 'percent = "1"', "[[fees]]", ON, 'asset = "EUR"', 'percent = "2"')
    both = "\n".join(["[[fees]]", ON, 'tier = "standard"', 'asset = "EUR"', 'percent = "3"'])
    tariff = read(doubtful + both)
    found = [tariff.rule_for(Operation.TRANSFER, "standard", asset, None) for asset in ("EUR", "USD")]
    assert [one.name if one else None for one in found] == ["fees[3]", "fees[1]"]


def test_a_hold_costs_what_a_transfer_does_unless_it_has_rules_of_its_own():
    tariff = read(rule(ON, 'percent = "1"'))
    assert tariff.rule_for(Operation.HOLD, "standard", "EUR", None) == tariff.rules[0]
    own = read(rule(ON, 'percent = "1"', "[[fees]]", 'operation = "hold"', 'percent = "0"'))
    assert own.rule_for(Operation.HOLD, "standard", "EUR", None) == own.rules[1]
