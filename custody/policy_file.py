"""The policy's file: TOML, read strictly. Pure.

Amounts are decimal strings of smallest units (TOML's own integers end at 2**63). Comments and spelling don't change
a policy's fingerprint; an unknown name is an error, never ignored. `docs/custody.md` has the whole of it, by example.

    version = 1
    threshold = 2                   # so many of the people change the policy, lift a freeze, confirm the time

    [[people]]
    name = "ada"
    key = "64 hex digits"           # Ed25519

    [[networks]]
    chain_id = 31337
    name = "local"                  # may be unsaid
    per_day = "500000"              # its ceiling in policy units, if there are ceilings

    [highest_index]                 # addresses beyond these aren't ours to sign for; 0 where unsaid
    deposit = 999999

    [[rules]]                       # top to bottom, first match; what no rule matches is denied
    name = "hot pays withdrawals"
    action = "allow"                # or "deny", without limits; "allow" where unsaid
    kind = "transfer"               # where unsaid; or payout, allowance, sweep, top_up, authorisation, relay,
    role = "hot"                    # deployment, anchor, proof
    chain_id = 31337
    asset = "0x5FbDB2315678afecb367f032d93F642f64180aa3"    # or "native"; not where nothing moves
    to = "any"                      # or "own:hot:0", "own:deposit", "contract:payout", or a list of addresses
    per_transfer = "1000000000"
    per_hour = "2000000000"         # rolling, over all senders and rules of this role, network and asset; may be unsaid
    per_day = "5000000000"
    fee_wei_max = "10000000000000000"
    approvals = 2                   # 0 where unsaid; needed once the day comes to more than
    approvals_above = "3000000000"  # this, 0 where unsaid

    [[first_nonces]]                # only for a sender that paid before this journal began
    chain_id = 31337
    role = "hot"
    index = 0
    nonce = 7

    [keys]                          # fingerprints of the account xpubs; the signer refuses others. A successor that
    hot = "64 hex digits"           # names a later generation ("hot.2") takes it in

    [[contracts]]                   # our own: Keccak-256 of the creation code with its arguments, and who creates it
    name = "payout"
    chain_id = 31337
    code_hash = "64 hex digits"
    deployer = "gas:0"
    nonce = 0

    [[tokens]]                      # EIP-712 domains, for authorisations
    chain_id = 31337
    contract = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
    name = "USD Coin"
    version = "2"

    [ceilings]                      # over all that leaves us; an asset without a value in force is denied then
    per_day = "1000000"
    approvals = 2                   # so many may exceed them

    [[values]]
    chain_id = 31337
    asset = "native"
    units = "3000"                  # policy units
    per = "1000000000000000000"     # for so many smallest units
    until = 2027-01-01T00:00:00Z

    [[gas_budgets]]                 # gas limit x fee of all signatures of a role, in 24 hours
    chain_id = 31337
    role = "hot"
    per_day = "1000000000000000000"

    [[names]]                       # what people are shown; signed with the rest
    chain_id = 31337
    asset = "0x5FbDB2315678afecb367f032d93F642f64180aa3"    # or address = "0x...", without decimals
    name = "USDC"
    decimals = 6
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

from custody.approvals import Person, is_forgeable
from custody.counting import FeeKey
from custody.derivation import MAX_INDEX, Role, checksummed
from custody.errors import IntentInvalid, PolicyInvalid
from custody.intents import GENERATIONS_MAX, NATIVE, KeyRef, keys_name, keys_named
from custody.policy import (
    UNLIMITED,
    Action,
    Anyone,
    Ceilings,
    Contract,
    Kind,
    Label,
    Listed,
    Match,
    Named,
    Own,
    Policy,
    Rule,
    TokenDomain,
    Value,
)

_HEX_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_WHOLE = re.compile(r"0|[1-9][0-9]{0,77}")
UNLIMITED_WORD = "unlimited"
"""How a limit that there isn't is written."""

_TEXT_MAX = 64
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")
_DECIMALS_MAX = 36


@dataclass(frozen=True, slots=True)
class _Form:
    """What rules of a kind say: whose keys, where to, and which of asset, limits and fee."""

    roles: frozenset[Role]
    to: tuple[type[Anyone] | type[Own] | type[Listed] | type[Named], ...] = ()
    has_asset: bool = True
    has_limits: bool = True
    has_fee: bool = True


_EVERY = frozenset(Role)
_HOT, _GAS = frozenset({Role.HOT}), frozenset({Role.GAS})
_HOUSE = _HOT | _GAS
_FORMS: Final[dict[Kind, _Form]] = {
    Kind.TRANSFER: _Form(_HOT, (Anyone, Own, Listed)),
    Kind.PAYOUT: _Form(_HOT, (Named,), has_limits=False),
    Kind.ALLOWANCE: _Form(_HOT, (Named,)),
    Kind.SWEEP: _Form(_EVERY, (Own, Listed)),
    Kind.TOP_UP: _Form(_GAS, (Own,)),
    Kind.AUTHORISATION: _Form(frozenset({Role.DEPOSIT}), (Own, Listed), has_fee=False),
    Kind.RELAY: _Form(_HOUSE, (), has_limits=False),
    Kind.DEPLOYMENT: _Form(_HOUSE, (Named,), has_asset=False, has_limits=False),
    Kind.ANCHOR: _Form(_GAS, (Listed,), has_asset=False, has_limits=False),
    Kind.PROOF: _Form(_EVERY, (Own,), has_asset=False, has_limits=False, has_fee=False),
}
"""The role templates: no rule may make a deposit or gas key pay just anybody."""

_WHERE = {
    Anyone: '"any"',
    Own: '"own:ROLE" or "own:ROLE:INDEX"',
    Listed: "a list of addresses",
    Named: '"contract:NAME"',
}


def parse(text: str) -> Policy:
    """The policy that a TOML text means. Raises PolicyInvalid with the place at fault; unknown names are refused."""
    try:
        told = tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        raise PolicyInvalid(f"the policy isn't TOML: {problem}") from problem
    parts = {"rules", "highest_index", "first_nonces", "keys", "people", "threshold"}
    parts |= {"contracts", "tokens", "ceilings", "values", "gas_budgets", "names"}
    _only(told, "the policy", {"version", "networks"}, parts)
    stated = [_network(entry) for entry in _tables(told, "networks")]
    by_network = _each_once("networks", ((chain_id, ceiling) for chain_id, ceiling, _ in stated))
    networks = frozenset(by_network)
    ceilings = _ceilings(told["ceilings"], by_network) if "ceilings" in told else None
    if ceilings is None and any(ceiling is not None for ceiling in by_network.values()):
        raise PolicyInvalid("networks: per_day is a network's ceiling, and there are no [ceilings]")
    policy = Policy(
        version=_number(told["version"], "version", low=1),
        networks=networks,
        highest_index=_highest(told.get("highest_index", {})),
        first_nonces=_each_once("first_nonces", (_first_nonce(entry) for entry in _tables(told, "first_nonces"))),
        keys={_keys(name): _hash(text, "keys") for name, text in _table(told.get("keys", {}), "keys").items()},
        people=tuple(_person(entry) for entry in _tables(told, "people")),
        threshold=_number(told.get("threshold", 0), "threshold", low=0),
        contracts=tuple(_contract(entry, networks) for entry in _tables(told, "contracts")),
        tokens=tuple(_token(entry, networks) for entry in _tables(told, "tokens")),
        values=tuple(_value(entry, networks) for entry in _tables(told, "values")),
        ceilings=ceilings,
        gas_budgets=_each_once("gas_budgets", (_gas_budget(entry, networks) for entry in _tables(told, "gas_budgets"))),
        rules=tuple(_rule(entry, networks) for entry in _tables(told, "rules")),
        labels=tuple(_label(entry, networks) for entry in _tables(told, "names")),
        network_names={chain_id: name for chain_id, _, name in stated if name is not None},
    )
    _check_whole(policy)
    return policy


def _each_once(what: str, pairs: Iterable[tuple[_Key, _Value]]) -> dict[_Key, _Value]:
    """A mapping of what may be said once only; said again, neither is meant."""
    made: dict[_Key, _Value] = {}
    for key, value in pairs:
        if key in made:
            raise PolicyInvalid(f"{what}: two of them are about the same")
        made[key] = value
    return made


def _check_whole(policy: Policy) -> None:
    """What no part can tell by itself."""
    people = len(policy.people)
    for what, names in (
        ("rules", [rule.name for rule in policy.rules]),
        ("people", [person.name for person in policy.people]),
        ("people's keys", [person.key.hex() for person in policy.people]),
        ("contracts", [f"{one.name} on {one.chain_id}" for one in policy.contracts]),
        ("values", [f"{value.asset} on {value.chain_id}" for value in policy.values]),
        ("tokens", [f"0x{token.contract.hex()} on {token.chain_id}" for token in policy.tokens]),
        ("names' places", [f"{one.place} on {one.chain_id}" for one in policy.labels]),
        ("names", [f"{one.name} on {one.chain_id}" for one in policy.labels]),
    ):
        if len(set(names)) < len(names):
            raise PolicyInvalid(f"two {what} are the same: {next(name for name in names if names.count(name) > 1)}")
    if people and not 1 <= policy.threshold <= people:
        raise PolicyInvalid(f"threshold: 1 to {people}, as many as there are people")
    if not people and policy.threshold:
        raise PolicyInvalid("threshold: there are no people to reach it")
    for rule in policy.rules:
        if rule.approvals > people:
            raise PolicyInvalid(f"rule {rule.name!r}: {rule.approvals} approvals, but there are {people} people")
        if isinstance(rule.to, Named) and all(
            (one.name, one.chain_id) != (rule.to.contract, rule.chain_id) for one in policy.contracts
        ):
            raise PolicyInvalid(f"rule {rule.name!r}: [[contracts]] has no {rule.to.contract!r} on its network")
    if policy.ceilings is not None and policy.ceilings.approvals > people:
        raise PolicyInvalid(f"ceilings: {policy.ceilings.approvals} approvals, but there are {people} people")


def _rule(entry: dict[str, object], networks: frozenset[int]) -> Rule:
    name = entry.get("name")
    if not isinstance(name, str) or not name:
        raise PolicyInvalid("every rule has a name")
    where = f"rule {name!r}"
    kind = _kind(entry.get("kind", Kind.TRANSFER.value), where)
    form, denies = _FORMS[kind], entry.get("action") == Action.DENY
    limits = {"per_transfer", "per_day"} if form.has_limits else set()
    fee = {"fee_wei_max"} if form.has_fee else set()
    stated = {"name", "role", "chain_id"} | ({"asset"} if form.has_asset else set()) | ({"to"} if form.to else set())
    optional = {"action", "kind", "approvals", "approvals_above"} | ({"per_hour"} if form.has_limits else set())
    _only(entry, where, stated | (set() if denies else limits | fee), optional | limits | fee)
    chain_id = _known_network(entry["chain_id"], networks, where)
    role = _role(entry["role"])
    to = _match(entry["to"], where) if form.to else None
    _fits_destination(kind, to, where)
    if not denies:
        _fits_kind(kind, role, to, where)
    return Rule(
        name=name,
        action=_action(entry.get("action", Action.ALLOW.value), where),
        kind=kind,
        role=role,
        chain_id=chain_id,
        asset=_asset(entry["asset"], where) if form.has_asset else None,
        to=to,
        per_transfer=_limit(entry, "per_transfer", to, where) if form.has_limits else UNLIMITED,
        per_hour=_limit(entry, "per_hour", to, where) if "per_hour" in entry else UNLIMITED,
        per_day=_limit(entry, "per_day", to, where) if form.has_limits else UNLIMITED,
        fee_wei_max=_limit(entry, "fee_wei_max", Anyone.ANY, where),
        approvals=_number(entry.get("approvals", 0), f"{where}: approvals", low=0),
        approvals_above=_approvals_above(entry, where),
    )


def _fits_kind(kind: Kind, role: Role, to: Match | None, where: str) -> None:
    form = _FORMS[kind]
    if role not in form.roles:
        roles = " or ".join(sorted(one.value for one in form.roles))
        raise PolicyInvalid(f"{where}: a {kind.value} is made by the {roles} key, not by {role.value}")
    if kind in (Kind.SWEEP, Kind.AUTHORISATION) and isinstance(to, Own) and to.role is Role.DEPOSIT:
        raise PolicyInvalid(f"{where}: what is swept goes to the hot or gas key or to listed addresses")


def _fits_destination(kind: Kind, to: Match | None, where: str) -> None:
    """A destination that no intent of the kind can have would never match, in a deny rule as well."""
    form = _FORMS[kind]
    if form.to and not isinstance(to, form.to):
        wanted = " or ".join(_WHERE[one] for one in form.to)
        raise PolicyInvalid(f"{where}: the destination of a {kind.value} is {wanted}")


def _approvals_above(entry: Mapping[str, object], where: str) -> int:
    above = _amount(entry.get("approvals_above", "0"), f"{where}: approvals_above")
    if above >= UNLIMITED:
        raise PolicyInvalid(f"{where}: approvals_above can't be unlimited: that would need none")
    return above


def _limit(entry: Mapping[str, object], name: str, to: Match | None, where: str) -> int:
    """A limit of a rule; a deny rule has none, so zero. Only what goes to our own addresses may be unlimited."""
    limit = _amount(entry.get(name, "0"), f"{where}: {name}")
    if limit >= UNLIMITED and not isinstance(to, Own):
        raise PolicyInvalid(f"{where}: {name} may be unlimited only for what goes to an own address, and never a fee")
    return limit


def _match(told: object, where: str) -> Match:
    if isinstance(told, list) and told:
        return Listed(frozenset(_address(address, where) for address in told))
    if told == Anyone.ANY:
        return Anyone.ANY
    parts = told.split(":") if isinstance(told, str) else []
    match parts:
        case ["own", role]:
            return Own(_role(role), None)
        case ["own", name, index] if _WHOLE.fullmatch(index) and int(index) <= MAX_INDEX:
            own, generation = keys_named(_keys(name))
            return Own(own, int(index), generation)
        case ["contract", name] if name:
            return Named(name)
    raise PolicyInvalid(f"{where}: to is {', '.join(_WHERE[one] for one in (Anyone, Own, Named))} or {_WHERE[Listed]}")


def _asset(told: object, where: str) -> str:
    return NATIVE if told == NATIVE else "0x" + _address(told, where).hex()


def _address(told: object, where: str) -> bytes:
    if not isinstance(told, str) or not _HEX_ADDRESS.fullmatch(told):
        raise PolicyInvalid(f"{where}: {told!r} isn't an address")
    address = bytes.fromhex(told[2:])
    if told != told.lower() and told != checksummed(address):
        raise PolicyInvalid(f"{where}: {told} has a wrong EIP-55 checksum: a character is mistyped")
    if not any(address):
        raise PolicyInvalid(f"{where}: nobody holds the zero address")
    return address


def _amount(told: object, where: str) -> int:
    if told == UNLIMITED_WORD:
        return UNLIMITED
    if not isinstance(told, str) or not _WHOLE.fullmatch(told) or int(told) >= UNLIMITED:
        raise PolicyInvalid(f'{where}: a string of digits in smallest units, or "unlimited"')
    return int(told)


def _number(told: object, where: str, *, low: int) -> int:
    if type(told) is not int or not low <= told < 2**63:
        raise PolicyInvalid(f"{where}: a whole number of at least {low}")
    return told


def _role(told: object) -> Role:
    if told not in Role.__members__.values():
        raise PolicyInvalid(f"{told!r} isn't a role: deposit, hot or gas")
    return Role(str(told))


def _action(told: object, where: str) -> Action:
    if told not in Action.__members__.values():
        raise PolicyInvalid(f"{where}: action is allow or deny")
    return Action(str(told))


def _kind(told: object, where: str) -> Kind:
    if told not in Kind.__members__.values():
        raise PolicyInvalid(f"{where}: kind is one of {', '.join(kind.value for kind in Kind)}")
    return Kind(str(told))


def _hash(told: object, where: str) -> bytes:
    if not isinstance(told, str) or not re.fullmatch(r"[0-9a-f]{64}", told):
        raise PolicyInvalid(f"{where}: 64 hex digits, in lower case")
    return bytes.fromhex(told)


def _text(told: object, where: str) -> str:
    if not isinstance(told, str) or not 1 <= len(told) <= _TEXT_MAX or not told.isprintable():
        raise PolicyInvalid(f"{where}: a text of 1 to {_TEXT_MAX} characters")
    return told


def _network(entry: dict[str, object]) -> tuple[int, int | None, str | None]:
    _only(entry, "networks", {"chain_id"}, {"name", "per_day"})
    ceiling = _amount(entry["per_day"], "networks: per_day") if "per_day" in entry else None
    name = _text(entry["name"], "networks: name") if "name" in entry else None
    return _number(entry["chain_id"], "networks: chain_id", low=1), ceiling, name


def _label(entry: dict[str, object], networks: frozenset[int]) -> Label:
    where = "names"
    is_asset = "asset" in entry
    _only(entry, where, {"chain_id", "name"} | ({"asset", "decimals"} if is_asset else {"address"}), set())
    decimals = _number(entry["decimals"], f"{where}: decimals", low=0) if is_asset else None
    if decimals is not None and decimals > _DECIMALS_MAX:
        raise PolicyInvalid(f"{where}: decimals are at most {_DECIMALS_MAX}")
    place = _asset(entry["asset"], where) if is_asset else "0x" + _address(entry["address"], where).hex()
    return Label(
        _known_network(entry["chain_id"], networks, where), place, _text(entry["name"], f"{where}: name"), decimals
    )


def _known_network(told: object, networks: frozenset[int], where: str) -> int:
    chain_id = _number(told, f"{where}: chain_id", low=1)
    if chain_id not in networks:
        raise PolicyInvalid(f"{where}: network {chain_id} isn't among the policy's networks")
    return chain_id


def _person(entry: dict[str, object]) -> Person:
    _only(entry, "people", {"name", "key"}, set())
    name, key = _text(entry["name"], "people: name"), _hash(entry["key"], "people: key")
    if is_forgeable(key):
        raise PolicyInvalid(f"people: anybody can sign by the key of {name}: it's a placeholder, or somebody's trick")
    return Person(name, key)


def _contract(entry: dict[str, object], networks: frozenset[int]) -> Contract:
    where = "contracts"
    _only(entry, where, {"name", "chain_id", "code_hash", "deployer", "nonce"}, set())
    return Contract(
        name=_text(entry["name"], f"{where}: name"),
        chain_id=_known_network(entry["chain_id"], networks, where),
        code_hash=_hash(entry["code_hash"], f"{where}: code_hash"),
        deployer=_key(entry["deployer"], f"{where}: deployer"),
        nonce=_number(entry["nonce"], f"{where}: nonce", low=0),
    )


def _token(entry: dict[str, object], networks: frozenset[int]) -> TokenDomain:
    where = "tokens"
    _only(entry, where, {"chain_id", "contract", "name", "version"}, set())
    return TokenDomain(
        _known_network(entry["chain_id"], networks, where),
        _address(entry["contract"], where),
        _text(entry["name"], f"{where}: name"),
        _text(entry["version"], f"{where}: version"),
    )


def _value(entry: dict[str, object], networks: frozenset[int]) -> Value:
    where = "values"
    _only(entry, where, {"chain_id", "asset", "units", "per", "until"}, set())
    until = entry["until"]
    if not isinstance(until, datetime) or until.tzinfo is None:
        raise PolicyInvalid(f"{where}: until is a date with time and zone, as 2027-01-01T00:00:00Z")
    per = _amount(entry["per"], f"{where}: per")
    if not 0 < per < UNLIMITED:
        raise PolicyInvalid(f"{where}: per is at least 1")
    return Value(
        _known_network(entry["chain_id"], networks, where),
        _asset(entry["asset"], where),
        _amount(entry["units"], f"{where}: units"),
        per,
        int(until.timestamp()),
    )


def _ceilings(told: object, by_network: Mapping[int, int | None]) -> Ceilings:
    entry, where = _table(told, "ceilings"), "ceilings"
    _only(entry, where, {"per_day", "approvals"}, set())
    return Ceilings(
        _amount(entry["per_day"], f"{where}: per_day"),
        {chain_id: ceiling for chain_id, ceiling in by_network.items() if ceiling is not None},
        _number(entry["approvals"], f"{where}: approvals", low=1),
    )


def _gas_budget(entry: dict[str, object], networks: frozenset[int]) -> tuple[FeeKey, int]:
    where = "gas_budgets"
    _only(entry, where, {"chain_id", "role", "per_day"}, set())
    key = FeeKey(_role(entry["role"]), _known_network(entry["chain_id"], networks, where))
    return key, _amount(entry["per_day"], f"{where}: per_day")


def _key(told: object, where: str) -> KeyRef:
    parts = told.split(":") if isinstance(told, str) else []
    match parts:
        case [name, index] if _WHOLE.fullmatch(index) and int(index) <= MAX_INDEX:
            role, generation = keys_named(_keys(name))
            return KeyRef(role, int(index), generation)
    raise PolicyInvalid(f'{where}: a key is written "gas:0", of a later generation "gas.2:0"')


def _keys(told: object) -> str:
    """The name of a role's keys of a generation."""
    try:
        return keys_name(*keys_named(told if isinstance(told, str) else ""))
    except IntentInvalid as problem:
        raise PolicyInvalid(
            f"{told!r} isn't a role (deposit, hot, gas), nor a later generation of one (hot.2)"
        ) from problem


def _highest(told: object) -> dict[Role, int]:
    """Index 0 of every role, unless the policy says more."""
    stated = {
        _role(name): _number(index, f"highest_index: {name}", low=0)
        for name, index in _table(told, "highest_index").items()
    }
    return {role: stated.get(role, 0) for role in Role}


def _first_nonce(entry: dict[str, object]) -> tuple[tuple[int, KeyRef], int]:
    where = "first_nonces"
    _only(entry, where, {"chain_id", "role", "index", "nonce"}, {"generation"})
    index = _number(entry["index"], f"{where}: index", low=0)
    if index > MAX_INDEX:
        raise PolicyInvalid(f"{where}: index is at most {MAX_INDEX}")
    generation = _number(entry.get("generation", 1), f"{where}: generation", low=1)
    if generation > GENERATIONS_MAX:
        raise PolicyInvalid(f"{where}: generation is at most {GENERATIONS_MAX}")
    place = (_number(entry["chain_id"], f"{where}: chain_id", low=1), KeyRef(_role(entry["role"]), index, generation))
    return place, _number(entry["nonce"], f"{where}: nonce", low=0)


def _table(told: object, where: str) -> dict[str, object]:
    if not isinstance(told, dict):
        raise PolicyInvalid(f"{where} is a table")
    return told


def _tables(told: dict[str, object], name: str) -> list[dict[str, object]]:
    listed = told.get(name, [])
    if not isinstance(listed, list):
        raise PolicyInvalid(f"{name} is a list of tables: [[{name}]]")
    return [_table(entry, name) for entry in listed]


def _only(told: dict[str, object], where: str, needed: Iterable[str], allowed: Iterable[str]) -> None:
    missing, unknown = set(needed) - told.keys(), told.keys() - set(needed) - set(allowed)
    if missing or unknown:
        odd = (("missing", missing), ("unknown", unknown))  # both: a name that is mistyped is one of each
        what = [f"{word} {', '.join(sorted(names))}" for word, names in odd if names]
        raise PolicyInvalid(f"{where}: {'; '.join(what)}")
