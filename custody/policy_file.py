"""The policy's file: TOML, read strictly; and a first one to start from. Pure.

Amounts are decimal strings of smallest units (TOML's own integers end at 2**63). Comments and spelling don't change
a policy's fingerprint; an unknown name is an error, never ignored.

    version = 1

    [[networks]]
    chain_id = 31337

    [highest_index]                 # addresses beyond these aren't ours to sign for; 0 where unsaid
    deposit = 999999

    [[rules]]                       # top to bottom, first match; what no rule matches is denied
    name = "hot pays withdrawals"
    action = "allow"                # or "deny", without limits; "allow" where unsaid
    role = "hot"
    chain_id = 31337
    asset = "0x5FbDB2315678afecb367f032d93F642f64180aa3"    # or "native"
    to = "any"                      # or "own:hot:0", "own:deposit", or a list of addresses
    per_transfer = "1000000000"
    per_day = "5000000000"          # rolling 24 hours, over all senders and rules of this role, network and asset
    fee_wei_max = "10000000000000000"

    [[first_nonces]]                # only for a sender that paid before this journal began
    chain_id = 31337
    role = "hot"
    index = 0
    nonce = 7

    [keys]                          # fingerprints of the account xpubs; the signer refuses others
    hot = "64 hex digits"
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from custody.derivation import MAX_INDEX, Role, checksummed
from custody.errors import PolicyInvalid
from custody.intents import NATIVE, KeyRef
from custody.policy import UNLIMITED, Action, Anyone, Listed, Match, Own, Policy, Rule

_HEX_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_WHOLE = re.compile(r"0|[1-9][0-9]{0,77}")
_UNLIMITED_WORD = "unlimited"


def parse(text: str) -> Policy:
    """The policy that a TOML text means. Raises PolicyInvalid with the place at fault; unknown names are refused."""
    try:
        told = tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        raise PolicyInvalid(f"the policy isn't TOML: {problem}") from problem
    _only(told, "the policy", {"version", "networks"}, {"rules", "highest_index", "first_nonces", "keys"})
    networks = frozenset(_network(entry) for entry in _tables(told, "networks"))
    policy = Policy(
        version=_number(told["version"], "version", low=1),
        networks=networks,
        highest_index=_highest(told.get("highest_index", {})),
        first_nonces=dict(_first_nonce(entry) for entry in _tables(told, "first_nonces")),
        keys={_role(name): _fingerprint(text) for name, text in _table(told.get("keys", {}), "keys").items()},
        rules=tuple(_rule(entry, networks) for entry in _tables(told, "rules")),
    )
    if len({rule.name for rule in policy.rules}) < len(policy.rules):
        raise PolicyInvalid("two rules have the same name")
    return policy


def _rule(entry: dict[str, object], networks: frozenset[int]) -> Rule:
    name = entry.get("name")
    if not isinstance(name, str) or not name:
        raise PolicyInvalid("every rule has a name")
    where = f"rule {name!r}"
    limits = {"per_transfer", "per_day", "fee_wei_max"}
    denies = entry.get("action") == Action.DENY
    _only(
        entry, where, {"name", "role", "chain_id", "asset", "to"} | (set() if denies else limits), {"action"} | limits
    )
    chain_id = _number(entry["chain_id"], f"{where}: chain_id", low=1)
    if chain_id not in networks:
        raise PolicyInvalid(f"{where}: network {chain_id} isn't among the policy's networks")
    role, to = _role(entry["role"]), _match(entry["to"], where)
    if not denies:
        _fits_role(role, to, where)
    return Rule(
        name=name,
        action=_action(entry.get("action", Action.ALLOW.value), where),
        role=role,
        chain_id=chain_id,
        asset=_asset(entry["asset"], where),
        to=to,
        per_transfer=_limit(entry, "per_transfer", to, where),
        per_day=_limit(entry, "per_day", to, where),
        fee_wei_max=_limit(entry, "fee_wei_max", Anyone.ANY, where),
    )


def _fits_role(role: Role, to: Match, where: str) -> None:
    """The role templates: no rule may make a deposit or gas key pay just anybody."""
    if role is Role.DEPOSIT and isinstance(to, Anyone):
        raise PolicyInvalid(f"{where}: a deposit key pays only its sweep target: own:hot:0 or a list of addresses")
    if role is Role.GAS and not isinstance(to, Own):
        raise PolicyInvalid(f"{where}: the gas key pays only own addresses: own:deposit or own:hot")


def _limit(entry: Mapping[str, object], name: str, to: Match, where: str) -> int:
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
        case ["own", role, index] if _WHOLE.fullmatch(index) and int(index) <= MAX_INDEX:
            return Own(_role(role), int(index))
    raise PolicyInvalid(f'{where}: to is "any", "own:<role>", "own:<role>:<index>" or a list of addresses')


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
    if told == _UNLIMITED_WORD:
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


def _fingerprint(told: object) -> bytes:
    if not isinstance(told, str) or not re.fullmatch(r"[0-9a-f]{64}", told):
        raise PolicyInvalid("keys: a fingerprint is 64 hex digits")
    return bytes.fromhex(told)


def _network(entry: dict[str, object]) -> int:
    _only(entry, "networks", {"chain_id"}, {"name"})
    return _number(entry["chain_id"], "networks: chain_id", low=1)


def _highest(told: object) -> dict[Role, int]:
    """Index 0 of every role, unless the policy says more."""
    stated = {
        _role(name): _number(index, f"highest_index: {name}", low=0)
        for name, index in _table(told, "highest_index").items()
    }
    return {role: stated.get(role, 0) for role in Role}


def _first_nonce(entry: dict[str, object]) -> tuple[tuple[int, KeyRef], int]:
    where = "first_nonces"
    _only(entry, where, {"chain_id", "role", "index", "nonce"}, set())
    index = _number(entry["index"], f"{where}: index", low=0)
    if index > MAX_INDEX:
        raise PolicyInvalid(f"{where}: index is at most {MAX_INDEX}")
    place = (_number(entry["chain_id"], f"{where}: chain_id", low=1), KeyRef(_role(entry["role"]), index))
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
        what = f"missing {', '.join(sorted(missing))}" if missing else f"unknown {', '.join(sorted(unknown))}"
        raise PolicyInvalid(f"{where}: {what}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much may leave: at once, and within any 24 hours; smallest units."""

    per_transfer: int
    per_day: int


def starter_policy(
    *,
    chain_id: int,
    tokens: Mapping[str, Limits],
    native: Limits,
    top_ups: Limits,
    fee_wei_max: int,
    fingerprints: Mapping[Role, bytes] | None = None,
    highest_deposit_index: int = 999_999,
) -> str:
    """The text of a first policy for one network.

    The hot key (index 0) pays `tokens` (by contract) and the native coin to anybody within their limits; deposit keys
    pay only the hot address; the gas key tops up deposit and hot addresses within `top_ups` of the native coin.
    `fee_wei_max` caps gas limit x fee of each transaction. Raises PolicyInvalid when an argument makes no policy.
    """
    assets = [(NATIVE, native), *tokens.items()]
    hot = [("hot pays", "hot", asset, "any", limits.per_transfer, limits.per_day) for asset, limits in assets]
    sweeps = [("deposits are swept:", "deposit", asset, "own:hot:0", UNLIMITED, UNLIMITED) for asset, _ in assets]
    gas = [
        (f"gas for {role}:", "gas", NATIVE, to, top_ups.per_transfer, top_ups.per_day)
        for role, to in (("deposits", "own:deposit"), ("hot", "own:hot:0"))
    ]
    parts = [
        "# What the signer may sign. Rules are read top to bottom, the first match decides, the rest is denied.",
        "# Amounts are in smallest units. After a change the signer wants it accepted with the keys' passphrase.",
        "version = 1",
        f"\n[[networks]]\nchain_id = {chain_id}",
        f"\n[highest_index]\ndeposit = {highest_deposit_index}\nhot = 0\ngas = 0",
        *(_rule_text(chain_id, fee_wei_max, *row) for row in (*hot, *sweeps, *gas)),
    ]
    if fingerprints:
        parts.append("\n[keys]\n" + "\n".join(f'{role.value} = "{mark.hex()}"' for role, mark in fingerprints.items()))
    text = "\n".join(parts) + "\n"
    parse(text)
    return text


def _rule_text(
    chain_id: int, fee_wei_max: int, name: str, role: str, asset: str, to: str, per_transfer: int, per_day: int
) -> str:
    return f"""
[[rules]]
name = "{name} {asset}"
role = "{role}"
chain_id = {chain_id}
asset = "{asset}"
to = "{to}"
per_transfer = "{_amount_text(per_transfer)}"
per_day = "{_amount_text(per_day)}"
fee_wei_max = "{fee_wei_max}\""""


def _amount_text(amount: int) -> str:
    return _UNLIMITED_WORD if amount >= UNLIMITED else str(amount)
