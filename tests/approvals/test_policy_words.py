"""What a policy's people are told of it: what nobody meant, and what gets looser from one to the next."""

from datetime import UTC, datetime

import pytest

from custody.policy import Policy
from custody.policy_diff import Change, Way, diff
from custody.policy_file import parse
from custody.policy_warnings import warnings
from custody.vocabulary import Vocabulary, decimal, in_pieces
from tests.custody.samples import CHAIN, COLD, STRANGER, TOKEN, full_policy, people_text, policy_text

NOW = int(datetime(2026, 12, 1, tzinfo=UTC).timestamp())
TOKEN_TEXT = "0x" + TOKEN.hex()
KEYS = "\n[keys]\n" + "\n".join(
    f'{role} = "{role.encode().hex().ljust(64, "0")}"' for role in ("deposit", "hot", "gas")
)
NAMES = f"""
[[names]]
chain_id = {CHAIN}
asset = "{TOKEN_TEXT}"
name = "USDC"
decimals = 6

[[names]]
chain_id = {CHAIN}
address = "0x{COLD.hex()}"
name = "cold"
"""
BUDGETS = "".join(
    f'\n[[gas_budgets]]\nchain_id = {CHAIN}\nrole = "{role}"\nper_day = "1"\n' for role in ("deposit", "gas")
)


def ceilings(until: str = "2027-06-01T00:00:00Z") -> str:
    values = "".join(
        f'\n[[values]]\nchain_id = {CHAIN}\nasset = "{asset}"\nunits = "1"\nper = "1"\nuntil = {until}\n'
        for asset in (TOKEN_TEXT, "native")
    )
    return f'\n[ceilings]\nper_day = "1000"\napprovals = 2\n{values}'


SOUND = full_policy(extra=KEYS + NAMES + BUDGETS + ceilings()).replace(
    f"[[networks]]\nchain_id = {CHAIN}", f'[[networks]]\nchain_id = {CHAIN}\nname = "local"\nper_day = "1000"'
)


def rule(name: str, to: str, action: str = "allow", **more: str) -> str:
    said = {"per_transfer": "5", "per_day": "10", "fee_wei_max": "1"} | more if action == "allow" else {}
    limits = "".join(f'{key} = "{value}"\n' for key, value in said.items())
    return (
        f'\n[[rules]]\nname = "{name}"\naction = "{action}"\nrole = "hot"\nchain_id = {CHAIN}\nasset = "{TOKEN_TEXT}"\n'
        f"to = {to}\n{limits}"
    )


def test_a_sound_policy_has_no_warning():
    assert warnings(parse(SOUND), now=NOW) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (policy_text(), "there are no people"),
        (policy_text(), "is unlimited"),
        (SOUND.replace("threshold = 2", "threshold = 1"), "threshold is 1"),
        (SOUND.replace("threshold = 2", "threshold = 3"), "one lost key and the policy can't be changed"),
        (full_policy(), "[keys] lacks deposit, hot, gas"),
        (full_policy(), "there are no ceilings"),
        (full_policy(), "no gas budget for the gas keys"),
        (full_policy(extra=ceilings()), f"network {CHAIN} has no ceiling of its own"),
        (SOUND + rule("late", '"any"'), "rule 'late' is never reached: 'token out' comes first"),
        (SOUND + rule("late", f'["0x{STRANGER.hex()}"]'), "rule 'late' is never reached: 'token out' comes first"),
        (SOUND + rule("late", '"own:hot:0"', "deny"), "rule 'late' is never reached: 'token out'"),
        (SOUND.replace('to = "own:hot:0"', 'to = "own:hot:9"'), "beyond the highest index"),
        (SOUND.replace('per_day = "2500"', 'per_day = "10"'), "per_transfer is over per_day"),
        (SOUND.replace("2027-06-01", "2026-12-20"), "ends in 19 days"),
        (SOUND.replace("2027-06-01", "2026-11-20"), "has ended"),
        (SOUND.replace("approvals = 2\nper", "approvals = 3\nper"), "its maker can't be one of"),
    ],
)
def test_what_nobody_meant_is_said(text: str, said: str):
    assert any(said in sentence for sentence in warnings(parse(text), now=NOW)), warnings(parse(text), now=NOW)


def test_a_list_is_covered_by_several_lists_before_it():
    two = rule("one", f'["0x{COLD.hex()}"]') + rule("two", f'["0x{STRANGER.hex()}"]')
    both = rule("both", f'["0x{COLD.hex()}", "0x{STRANGER.hex()}"]')
    base = f"version = 1\n{people_text()}\n[[networks]]\nchain_id = {CHAIN}\n"
    assert any("'both' is never reached" in said for said in warnings(parse(base + two + both), now=NOW))
    half = base + rule("one", f'["0x{COLD.hex()}"]') + both
    assert not any("'both' is never" in said for said in warnings(parse(half), now=NOW))


LOOSER = [
    ("threshold = 2", "threshold = 1", "threshold 2 -> 1"),
    ('per_transfer = "1000"', 'per_transfer = "1001"', "at once 0.001 USDC -> 0.001001 USDC"),
    ('per_hour = "1500"\n', "", "an hour 0.0015 USDC -> any amount"),
    ('per_day = "2500"', 'per_day = "2501"', "a day"),
    ('fee_wei_max = "10000000000000000"', 'fee_wei_max = "10000000000000001"', "fee 0.01 coins ->"),
    ("approvals = 2\nper", "approvals = 1\nper", "rule 'to cold': approvals 2 -> 1"),
    ("approvals = 2\nper", 'approvals = 2\napprovals_above = "9"\nper', "approvals needed above"),
    (f"to = ['0x{COLD.hex()}']", f'to = ["0x{COLD.hex()}", "0x{STRANGER.hex()}"]', "rule 'to cold': destination"),
    (f"to = ['0x{COLD.hex()}']", 'to = "any"', "-> anybody"),
    ("deposit = 5000", "deposit = 5001", "highest index of deposit: 5000 -> 5001"),
    ('[ceilings]\nper_day = "1000"', '[ceilings]\nper_day = "1001"', "ceiling a day: 1000 -> 1001"),
    ('name = "local"\nper_day = "1000"', 'name = "local"', f"ceiling a day on network {CHAIN}: 1000 -> none"),
    ('units = "1"', 'units = "0"', "less counts as less"),
    ("2027-06-01", "2028-06-01", "ends 2027-06-01"),
    (
        'role = "hot"\nper_day = "50000000000000000"',
        'role = "hot"\nper_day = "60000000000000000"',
        "gas budget of the hot",
    ),
    ("decimals = 6", "decimals = 8", "USDC with 6 decimals -> USDC with 8 decimals"),
    ('version = "2"', 'version = "3"', "EIP-712 domain 'USD Coin' 3"),
    ("nonce = 0", "nonce = 1", f"contract payout on network {CHAIN} is new or another"),
]


@pytest.mark.parametrize(("before", "after", "said"), LOOSER)
def test_what_gets_looser_is_said_loudly(before: str, after: str, said: str):
    old, new = parse(SOUND), parse(SOUND.replace(before, after))
    assert old.fingerprint != new.fingerprint, "the sample has it"
    assert any(change.way is Way.LOOSER and said in change.sentence for change in diff(old, new)), diff(old, new)
    assert any(change.way is not Way.OTHER for change in diff(new, old))


def test_rules_and_people_that_come_and_go():
    old, new = parse(SOUND), parse(SOUND + rule("more", f'["0x{STRANGER.hex()}"]'))
    assert _ways(old, new) == {("looser", "rule 'more' is new")}
    assert _ways(new, old) == {("tighter", "rule 'more' is gone")}
    denied = parse(SOUND + rule("never", f'["0x{STRANGER.hex()}"]', "deny"))
    assert _ways(old, denied) == {("tighter", "rule 'never' is new")}
    assert _ways(denied, old) == {("looser", "rule 'never' is gone")}
    fewer = parse(SOUND.replace('name = "cleo"', 'name = "dora"'))
    assert _ways(old, fewer) == {("looser", "dora joins the people"), ("tighter", "cleo leaves the people")}
    first, second = rule("a", f'["0x{STRANGER.hex()}"]'), rule("b", f'["0x{COLD.hex()}"]')
    assert ("looser", "the order of rules changes") in _ways(
        parse(SOUND + first + second), parse(SOUND + second + first)
    )


def test_a_key_of_a_later_generation_joins_the_older_ones():
    mark = "ab" * 32
    old, new = parse(SOUND), parse(SOUND.replace("[keys]\n", f'[keys]\n"deposit.2" = "{mark}"\n'))
    joins = Change(Way.OTHER, f"a new key, deposit.2, signs beside the older ones: fingerprint {mark}")
    assert joins in diff(old, new)
    assert _ways(old, new) == set()
    assert _ways(new, old) == {("looser", "the fingerprint of the deposit.2 key isn't named any more")}
    unstated = parse(SOUND.replace(KEYS, ""))
    assert {way for way, _ in _ways(unstated, old)} == {"tighter"}


def _ways(old: Policy, new: Policy) -> set[tuple[str, str]]:
    changes = [change for change in diff(old, new) if change.way is not Way.OTHER]
    return {(change.way.value, change.sentence.split(":")[0]) for change in changes}


def test_spelling_changes_nothing_and_a_version_that_skips_is_said():
    assert diff(parse(SOUND), parse("# a comment\n" + SOUND)) == []
    skipped = diff(parse(SOUND), parse(SOUND.replace("version = 1", "version = 3", 1)))
    assert any("won't be accepted" in change.sentence for change in skipped)


def test_amounts_and_addresses_are_written_for_reading():
    words = Vocabulary(parse(SOUND))
    assert words.amount(CHAIN, TOKEN_TEXT, 12_500_001) == "12.500001 USDC"
    assert words.amount(CHAIN, "native", 10**18) == "1 coins"
    assert words.amount(1, TOKEN_TEXT, 5).startswith("5 smallest units of 0x5FbD")
    assert words.address(CHAIN, COLD) == "0x3C44 CdDd B6a9 00fa 2b58 5dd2 99e0 3d12 FA42 93BC (cold)"
    assert in_pieces(STRANGER).count(" ") == 9
    assert (decimal(0, 6), decimal(1, 6), decimal(10**6, 6), decimal(7, 0)) == ("0", "0.000001", "1", "7")
