"""The text of a first policy to start from. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from custody.derivation import Role
from custody.intents import NATIVE
from custody.policy import UNLIMITED
from custody.policy_file import UNLIMITED_WORD, parse


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
    gas_per_day: int | None = None,
    names: Mapping[str, tuple[str, int]] | None = None,
) -> str:
    """The text of a first policy for one network.

    The hot key (index 0) pays `tokens` (by contract) and the native coin to anybody within their limits; deposit keys
    pay only the hot address; the gas key tops up deposit and hot addresses within `top_ups` of the native coin.
    `fee_wei_max` caps gas limit x fee of each transaction, `gas_per_day` their sum for each role. `names` are what
    people are shown for assets, and their decimals. Raises PolicyInvalid when an argument makes no policy.
    """
    assets = [(NATIVE, native), *tokens.items()]
    hot = [
        ("hot pays", "transfer", "hot", asset, "any", limits.per_transfer, limits.per_day) for asset, limits in assets
    ]
    sweeps = [
        ("deposits are swept:", "sweep", "deposit", asset, "own:hot:0", UNLIMITED, UNLIMITED) for asset, _ in assets
    ]
    gas = [
        (f"gas for {role}:", "top_up", "gas", NATIVE, to, top_ups.per_transfer, top_ups.per_day)
        for role, to in (("deposits", "own:deposit"), ("hot", "own:hot:0"))
    ]
    parts = [
        "# What the signer may sign. Rules are read top to bottom, the first match decides, the rest is denied.",
        "# Amounts are in smallest units. After a change the signer wants it accepted with the keys' passphrase.",
        "version = 1",
        f"\n[[networks]]\nchain_id = {chain_id}",
        f"\n[highest_index]\ndeposit = {highest_deposit_index}\nhot = 0\ngas = 0",
        *(_budget_text(chain_id, role, gas_per_day) for role in Role if gas_per_day is not None),
        *(_rule_text(chain_id, fee_wei_max, *row) for row in (*hot, *sweeps, *gas)),
    ]
    parts += [
        f'\n[[names]]\nchain_id = {chain_id}\nasset = "{asset}"\nname = "{name}"\ndecimals = {decimals}'
        for asset, (name, decimals) in (names or {}).items()
    ]
    if fingerprints:
        parts.append("\n[keys]\n" + "\n".join(f'{role.value} = "{mark.hex()}"' for role, mark in fingerprints.items()))
    text = "\n".join(parts) + "\n"
    parse(text)
    return text


def _budget_text(chain_id: int, role: Role, per_day: int) -> str:
    return f'\n[[gas_budgets]]\nchain_id = {chain_id}\nrole = "{role.value}"\nper_day = "{per_day}"'


def _rule_text(
    chain_id: int,
    fee_wei_max: int,
    name: str,
    kind: str,
    role: str,
    asset: str,
    to: str,
    per_transfer: int,
    per_day: int,
) -> str:
    return f"""
[[rules]]
name = "{name} {asset}"
kind = "{kind}"
role = "{role}"
chain_id = {chain_id}
asset = "{asset}"
to = "{to}"
per_transfer = "{_amount_text(per_transfer)}"
per_day = "{_amount_text(per_day)}"
fee_wei_max = "{fee_wei_max}\""""


def _amount_text(amount: int) -> str:
    return UNLIMITED_WORD if amount >= UNLIMITED else str(amount)
