"""The policy's file: every part, every complaint of its reader once, and a fingerprint of the meaning alone."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from custody.approvals import Person
from custody.counting import FeeKey
from custody.derivation import Role, checksummed
from custody.errors import PolicyInvalid
from custody.intents import KeyRef
from custody.policy import Anyone, Ceilings, Contract, Kind, Listed, Named, Own, TokenDomain, Value, spell
from custody.policy_file import parse
from tests.custody.samples import (
    CHAIN,
    FEE_WEI_MAX,
    GAS,
    PEOPLE,
    STRANGER,
    TOKEN,
    deployment,
    full_policy,
    policy_text,
)

TOKEN_TEXT = "0x" + TOKEN.hex()
ADDRESS = f'["{checksummed(STRANGER)}"]'
CODE_HASH = deployment().code_hash.hex()


def table(name: str, /, **said: Any) -> str:
    return "\n".join([f"[[{name}]]", *(f"{key} = {value}" for key, value in said.items() if value is not None), ""])


def rule(name: str, **changes: Any) -> str:
    stated = {"role": '"hot"', "chain_id": CHAIN, "asset": '"native"', "to": '"any"', "per_transfer": '"5"'}
    return table("rules", name=f'"{name}"', **stated | {"per_day": '"5"', "fee_wei_max": f'"{FEE_WEI_MAX}"'} | changes)


def policy(*parts: str, head: str = "version = 1", network: str = "") -> str:
    return "\n".join([head, f"[[networks]]\nchain_id = {CHAIN}\n{network}", *parts])


def contract(**changes: Any) -> str:
    stated = {"name": '"payout"', "chain_id": CHAIN, "code_hash": f'"{CODE_HASH}"', "deployer": '"gas:0"', "nonce": 0}
    return table("contracts", **stated | changes)


def token(**changes: Any) -> str:
    stated = {"chain_id": CHAIN, "contract": f'"{TOKEN_TEXT}"', "name": '"USD Coin"', "version": '"2"'}
    return table("tokens", **stated | changes)


def value(**changes: Any) -> str:
    stated = {"chain_id": CHAIN, "asset": '"native"', "units": '"3"', "per": '"7"', "until": "2027-01-01T00:00:00Z"}
    return table("values", **stated | changes)


def budget(**changes: Any) -> str:
    return table("gas_budgets", **{"chain_id": CHAIN, "role": '"hot"', "per_day": '"5"'} | changes)


def nonce(**changes: Any) -> str:
    return table("first_nonces", **{"chain_id": CHAIN, "role": '"hot"', "index": 0, "nonce": 7} | changes)


def person(name: str = "ada", **changes: Any) -> str:
    key = PEOPLE.get(name, PEOPLE["ada"]).public_key().public_bytes_raw().hex()
    return table("people", **{"name": f'"{name}"', "key": f'"{key}"'} | changes)


NO_LIMITS: dict[str, Any] = {"per_transfer": None, "per_day": None}
ONE = "version = 1\nthreshold = 1"
CEILINGS = '[ceilings]\nper_day = "1000"\napprovals = 1\n'

MISTAKES = [
    # the file
    ("version = ", "TOML"),
    ("", "the policy: missing networks, version"),
    (policy(head="version = 0"), "version: a whole number of at least 1"),
    (policy(head="version = true"), "version: a whole number"),
    (policy(head=f"version = {2**63}"), "version: a whole number"),
    (policy(head="version = 1\nsurprise = 1"), "unknown surprise"),
    ("version = 1\nnetworks = 1", "networks is a list of tables"),
    ("version = 1\nnetworks = [1]", "networks is a table"),
    ("highest_index = 1\n" + policy(), "highest_index is a table"),
    # networks
    ("version = 1\n[[networks]]", "networks: missing chain_id"),
    ("version = 1\n[[networks]]\nchain_id = 0", "networks: chain_id"),
    (policy(network="surprise = 1"), "networks: unknown surprise"),
    (policy(network='per_day = "5"'), "there are no [ceilings]"),
    (policy(network=f"[[networks]]\nchain_id = {CHAIN}"), "networks: two of them"),
    # rules
    (policy(table("rules", role='"hot"')), "every rule has a name"),
    (policy(rule("")), "every rule has a name"),
    (policy(rule("a", chain_id=1)), "network 1 isn't among"),
    (policy(rule("a", chain_id='"1"')), "chain_id: a whole number"),
    (policy(rule("a", surprise=1)), "unknown surprise"),
    (policy(rule("a", per_day=None)), "missing per_day"),
    (policy(rule("a", per_day="5")), "per_day: a string of digits"),
    (policy(rule("a", per_day='"-5"')), "per_day: a string of digits"),
    (policy(rule("a", per_day='"5.0"')), "per_day: a string of digits"),
    (policy(rule("a", per_day='"1e3"')), "per_day: a string of digits"),
    (policy(rule("a", per_day='"05"')), "per_day: a string of digits"),
    (policy(rule("a", per_hour='""')), "per_hour: a string of digits"),
    (policy(rule("a", per_transfer=f'"{2**256}"')), "per_transfer: a string of digits"),
    (policy(rule("a", per_transfer='"unlimited"')), "per_transfer may be unlimited only"),
    (policy(rule("a", per_hour='"unlimited"')), "per_hour may be unlimited only"),
    (policy(rule("a", to='"own:hot"', fee_wei_max='"unlimited"')), "fee_wei_max may be unlimited only"),
    (policy(rule("a", to='"own:cold"')), "'cold' isn't a role"),
    (policy(rule("a", to='"own:hot:-1"')), "to is"),
    (policy(rule("a", to='"own:hot:99999999999"')), "to is"),
    (policy(rule("a", to='"own:hot:01"')), "to is"),
    (policy(rule("a", to='"contract:"')), "to is"),
    (policy(rule("a", to="[]")), "to is"),
    (policy(rule("a", to="1")), "to is"),
    (policy(rule("a", to='["0x1234"]')), "isn't an address"),
    (policy(rule("a", to="[1]")), "isn't an address"),
    (policy(rule("a", to='["0x70997970C51812dc3A010C7d01b50e0d17dc79c8"]')), "EIP-55 checksum"),
    (policy(rule("a", to=f'["0x{"0" * 40}"]')), "zero address"),
    (policy(rule("a", asset='"USDC"')), "isn't an address"),
    (policy(rule("a", role='"cold"')), "'cold' isn't a role"),
    (policy(rule("a", action='"maybe"')), "action is allow or deny"),
    (policy(rule("a", kind='"hash"')), "kind is one of transfer, payout"),
    (policy(rule("a", approvals=-1)), "approvals: a whole number of at least 0"),
    (policy(rule("a", approvals_above="5")), "approvals_above: a string of digits"),
    (policy(rule("a", approvals=1)), "1 approvals, but there are 0 people"),
    (policy(rule("a"), rule("a")), "two rules are the same: a"),
    # what a kind may do
    (policy(rule("a", role='"deposit"')), "a transfer is made by the hot key, not by deposit"),
    (policy(rule("a", kind='"sweep"')), 'the destination of a sweep is "own:ROLE"'),
    (policy(rule("a", kind='"sweep"', to='"own:deposit"')), "what is swept goes to the hot or gas key"),
    (policy(rule("a", kind='"authorisation"', to='"own:hot"', fee_wei_max=None)), "made by the deposit key"),
    (policy(rule("a", kind='"top_up"', to='"own:hot"')), "a top_up is made by the gas key"),
    (policy(rule("a", kind='"top_up"', role='"gas"', to=ADDRESS)), "the destination of a top_up"),
    (policy(rule("a", kind='"payout"', to=ADDRESS, **NO_LIMITS)), 'the destination of a payout is "contract:NAME"'),
    (policy(rule("a", kind='"payout"', to='"contract:payout"')), "unknown per_day, per_transfer"),
    (policy(rule("a", kind='"anchor"', role='"gas"', asset=None, to='"any"', **NO_LIMITS)), "a list of addresses"),
    (policy(rule("a", kind='"anchor"', role='"gas"', to=ADDRESS, **NO_LIMITS)), "unknown asset"),
    (policy(rule("a", kind='"relay"', role='"gas"', **NO_LIMITS)), "unknown to"),
    (policy(rule("a", kind='"proof"', asset=None, to='"own:hot:0"', **NO_LIMITS)), "unknown fee_wei_max"),
    (policy(rule("a", kind='"payout"', to='"contract:payout"', **NO_LIMITS)), "has no 'payout' on its network"),
    # the other parts
    (policy("[highest_index]", "hot = -1"), "highest_index: hot"),
    (policy("[highest_index]", "cold = 1"), "'cold' isn't a role"),
    (policy("[keys]", 'hot = "abc"'), "keys: 64 hex digits"),
    (policy("[keys]", f'hot = "{"AB" * 32}"'), "in lower case"),
    (policy(nonce(index=2**31)), "index is at most"),
    (policy(nonce(nonce=-1)), "first_nonces: nonce"),
    (policy(nonce(surprise=1)), "first_nonces: unknown surprise"),
    (policy(nonce(), nonce(nonce=8)), "first_nonces: two of them"),
    (policy(contract(name='""')), "contracts: name: a text of 1 to 64"),
    (policy(contract(deployer='"gas"')), 'a key is written "gas:0"'),
    (policy(contract(deployer=1)), 'a key is written "gas:0"'),
    (policy(contract(code_hash='"0x"')), "contracts: code_hash"),
    (policy(contract(chain_id=1)), "contracts: network 1"),
    (policy(contract(), contract(nonce=1)), "two contracts are the same: payout on 31337"),
    (policy(token(version='"2\\n"')), "tokens: version: a text"),
    (policy(token(contract='"native"')), "isn't an address"),
    (policy(token(), token(version='"1"')), "two tokens are the same"),
    (policy(value(until="2027-01-01")), "until is a date with time and zone"),
    (policy(value(until="2027-01-01T00:00:00")), "until is a date with time and zone"),
    (policy(value(per='"0"')), "per is at least 1"),
    (policy(value(per='"unlimited"')), "per is at least 1"),
    (policy(value(), value(units='"4"')), "two values are the same: native on 31337"),
    (policy(budget(role='"cold"')), "'cold' isn't a role"),
    (policy(budget(chain_id=1)), "gas_budgets: network 1"),
    (policy(budget(), budget(per_day='"6"')), "gas_budgets: two of them"),
    (policy('[ceilings]\nper_day = "5"'), "ceilings: missing approvals"),
    (policy('[ceilings]\nper_day = "5"\napprovals = 0'), "ceilings: approvals"),
    (policy(CEILINGS), "ceilings: 1 approvals, but there are 0 people"),
    ("ceilings = 1\n" + policy(), "ceilings is a table"),
    # people
    (policy(person()), "threshold: 1 to 1, as many as there are people"),
    (policy(person(), head="version = 1\nthreshold = 2"), "threshold: 1 to 1"),
    (policy(head=ONE), "there are no people to reach it"),
    (policy(person(), person(), head=ONE), "two people are the same: ada"),
    (policy(person(), person("eve"), head=ONE), "two people's keys are the same"),
    (policy(person(key='"abc"'), head=ONE), "people: key: 64 hex digits"),
    (policy(person(key=f'"{"00" * 32}"'), head=ONE), "anybody can sign by the key of ada"),
    (policy(person("a\\n"), head=ONE), "people: name: a text"),
    (policy(person(role='"chief"'), head=ONE), "people: unknown role"),
]


@pytest.mark.parametrize(("text", "told"), MISTAKES)
def test_a_policy_that_cannot_be_meant_is_refused(text: str, told: str):
    with pytest.raises(PolicyInvalid, match=re.escape(told)):
        parse(text)


EVERYTHING = policy(
    person(),
    person("ben"),
    "[highest_index]\ndeposit = 9",
    nonce(),
    f'[keys]\nhot = "{"ab" * 32}"',
    contract(),
    token(),
    CEILINGS,
    value(),
    value(asset=f'"{TOKEN_TEXT}"'),
    budget(),
    budget(role='"gas"'),
    rule("listed", to=f'["{checksummed(STRANGER)}", "{checksummed(TOKEN)}"]', approvals=2, approvals_above='"3"'),
    rule("own", to='"own:deposit"', per_transfer='"unlimited"', per_day='"unlimited"', per_hour='"4"'),
    rule("one", to='"own:hot:0"'),
    rule("named", kind='"payout"', to='"contract:payout"', **NO_LIMITS),
    rule("relayed", kind='"relay"', to=None, role='"gas"', **NO_LIMITS),
    rule("denied", action='"deny"', fee_wei_max=None, **NO_LIMITS),
    rule("any", kind='"transfer"', action='"allow"'),
    head="version = 3\nthreshold = 2",
    network='name = "local"\nper_day = "500"',
)


def test_every_part_is_read_as_it_is_meant():
    read = parse(EVERYTHING)
    assert (read.version, read.threshold, read.networks) == (3, 2, frozenset({CHAIN}))
    assert read.people[0] == Person("ada", PEOPLE["ada"].public_key().public_bytes_raw())
    assert read.highest_index == {Role.DEPOSIT: 9, Role.HOT: 0, Role.GAS: 0}
    assert read.first_nonce(CHAIN, KeyRef(Role.HOT, 0)) == 7
    assert read.first_nonce(CHAIN, KeyRef(Role.HOT, 1)) == 0
    assert read.keys == {Role.HOT: b"\xab" * 32}
    assert read.contracts == (Contract("payout", CHAIN, bytes.fromhex(CODE_HASH), GAS, 0),)
    assert read.tokens == (TokenDomain(CHAIN, TOKEN, "USD Coin", "2"),)
    assert read.ceilings == Ceilings(1000, {CHAIN: 500}, 1)
    assert read.values[0] == Value(CHAIN, "native", 3, 7, 1_798_761_600)
    assert [read.values[0].of(amount) for amount in (0, 1, 7, 8)] == [0, 1, 3, 4]
    assert read.gas_budgets == {FeeKey(Role.HOT, CHAIN): 5, FeeKey(Role.GAS, CHAIN): 5}
    by = {one.name: one for one in read.rules}
    assert (by["listed"].to, by["listed"].approvals) == (Listed(frozenset({STRANGER, TOKEN})), 2)
    assert (by["own"].to, by["own"].per_hour, by["own"].per_day) == (Own(Role.DEPOSIT, None), 4, 2**256)
    assert (by["one"].to, by["named"].to, by["any"].to) == (Own(Role.HOT, 0), Named("payout"), Anyone.ANY)
    assert (by["relayed"].to, by["relayed"].kind, by["any"].per_hour) == (None, Kind.RELAY, 2**256)
    assert [spell(by[name].to) for name in ("own", "one", "named", "any")] == [  # type: ignore[arg-type]
        *("own:deposit", "own:hot:0", "contract:payout", "any")
    ]


def test_a_policy_for_every_kind_and_the_starter_are_read():
    assert {one.kind for one in parse(full_policy()).rules} == set(Kind)
    marks = {role: bytes([place]) * 32 for place, role in enumerate(Role)}
    assert parse(policy_text(fingerprints=marks)).keys == marks
    assert parse(policy_text()).people == ()


def test_a_starter_for_several_networks_says_of_each_what_its_own_would():
    both = parse(policy_text(chain_ids=(CHAIN, 7)))
    assert both.networks == {CHAIN, 7}
    for chain_id in (CHAIN, 7):
        alone = parse(policy_text(chain_ids=(chain_id,)))
        ours = [rule for rule in both.rules if rule.chain_id == chain_id]
        assert [replace(rule, name=rule.name.removesuffix(f" on {chain_id}")) for rule in ours] == list(alone.rules)
        assert {key for key in both.gas_budgets if key.chain_id == chain_id} == alone.gas_budgets.keys()
    assert (both.highest_index, both.version) == (parse(policy_text()).highest_index, 1)


def turned(name: str) -> str:
    """The tables of a name in the other order."""
    parts = re.split(r"(?m)^(?=\[)", EVERYTHING)
    places = [place for place, part in enumerate(parts) if part.startswith(f"[[{name}]]")]
    assert len(places) > 1 or name in ("tokens", "contracts", "first_nonces")
    for place, other in zip(places, [parts[place] for place in reversed(places)], strict=True):
        parts[place] = other
    return "".join(parts)


SAME: dict[str, Callable[[], str]] = {
    "a comment": lambda: "# a comment\n" + EVERYTHING.replace(" = ", "="),
    "spelling of addresses": lambda: EVERYTHING.replace(TOKEN_TEXT, checksummed(TOKEN)).replace(
        checksummed(STRANGER), "0x" + STRANGER.hex()
    ),
    "order within a list": lambda: EVERYTHING.replace(
        f'["{checksummed(STRANGER)}", "{checksummed(TOKEN)}"]', f'["{checksummed(TOKEN)}", "{checksummed(STRANGER)}"]'
    ),
    "what is so where unsaid": lambda: EVERYTHING.replace("deposit = 9", "deposit = 9\nhot = 0"),
    "another zone of the same time": lambda: EVERYTHING.replace("2027-01-01T00:00:00Z", "2027-01-01T02:00:00+02:00"),
    **{f"order of {name}": (lambda name=name: turned(name)) for name in ("people", "values", "gas_budgets")},  # type: ignore[misc]
}


@pytest.mark.parametrize("what", SAME)
def test_fingerprint_is_of_the_meaning_not_of_the_spelling(what: str):
    text = SAME[what]()
    assert text != EVERYTHING
    assert parse(text).fingerprint == parse(EVERYTHING).fingerprint


CHANGES = [
    ("version = 3", "version = 4"),
    ("threshold = 2", "threshold = 1"),
    ('name = "ben"', 'name = "bea"'),
    (PEOPLE["ben"].public_key().public_bytes_raw().hex(), PEOPLE["cleo"].public_key().public_bytes_raw().hex()),
    ("deposit = 9", "deposit = 8"),
    ("nonce = 7", "nonce = 8"),
    ("index = 0\nnonce = 7", "index = 1\nnonce = 7"),
    ('role = "hot"\nindex', 'role = "gas"\nindex'),
    ("ab" * 32, "ac" * 32),
    (CODE_HASH, "ab" * 32),
    ('deployer = "gas:0"', 'deployer = "gas:1"'),
    ('deployer = "gas:0"\nnonce = 0', 'deployer = "gas:0"\nnonce = 1'),
    ('"USD Coin"', '"USD"'),
    ('version = "2"', 'version = "1"'),
    ('per_day = "1000"', 'per_day = "1001"'),
    ("approvals = 1", "approvals = 2"),
    ('per_day = "500"', 'per_day = "501"'),
    ('\nper_day = "500"', ""),
    ('units = "3"', 'units = "4"'),
    ('per = "7"', 'per = "8"'),
    ("2027-01-01T00:00:00Z", "2027-01-01T00:00:01Z"),
    ('role = "hot"\nper_day = "5"', 'role = "hot"\nper_day = "6"'),
    ('name = "listed"', 'name = "other"'),
    (f'"{checksummed(STRANGER)}", ', ""),
    ("approvals = 2", "approvals = 1"),
    ('approvals_above = "3"', 'approvals_above = "4"'),
    ('per_hour = "4"', 'per_hour = "5"'),
    ('"own:deposit"\nper_transfer = "unlimited"', '"own:deposit"\nper_transfer = "6"'),
    ('"own:hot:0"', '"own:hot"'),
    ('kind = "relay"', 'kind = "relay"\napprovals = 1'),
    ('action = "deny"', 'action = "deny"\nper_day = "7"'),
    ('action = "allow"', 'action = "deny"'),
    (f'fee_wei_max = "{FEE_WEI_MAX}"', f'fee_wei_max = "{FEE_WEI_MAX + 1}"'),
]


def test_every_meaning_has_its_own_fingerprint():
    texts = [EVERYTHING.replace(old, new, 1) for old, new in CHANGES]
    assert EVERYTHING not in texts
    first, last = EVERYTHING.index("[[rules]]"), EVERYTHING.rindex("[[rules]]")
    texts.append(EVERYTHING[:first] + EVERYTHING[last:] + EVERYTHING[first:last])
    prints = {parse(text).fingerprint for text in [EVERYTHING, *texts]}
    assert len(prints) == len(CHANGES) + 2, "the order of rules is a meaning"
