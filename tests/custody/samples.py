"""Policies with known limits, people who may approve, and intents that they allow."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from custody.approvals import Mandate, approval_statement, maker_statement, sign_statement
from custody.derivation import Role
from custody.intents import (
    Allowance,
    Anchor,
    Authorisation,
    Cancel,
    Deployment,
    First,
    KeyRef,
    Leg,
    NativeTransfer,
    PayoutBatch,
    ProofOfControl,
    Relay,
    Sweep,
    TokenTransfer,
    TopUp,
)
from custody.policy_file import parse
from custody.policy_starter import Limits, NetworkStart, starter_policy

CHAIN = 31_337
TOKEN = bytes.fromhex("5fbdb2315678afecb367f032d93f642f64180aa3")
STRANGER = bytes.fromhex("70997970c51812dc3a010c7d01b50e0d17dc79c8")
GWEI = 10**9
FEE_WEI_MAX = 10**16
TOKEN_LIMITS = Limits(per_transfer=1_000, per_day=2_500)
NATIVE_LIMITS = Limits(per_transfer=10**18, per_day=5 * 10**18)
HOT = KeyRef(Role.HOT, 0)
GAS = KeyRef(Role.GAS, 0)
DEPOSIT = KeyRef(Role.DEPOSIT, 3)
COLD = bytes.fromhex("3c44cdddb6a900fa2b585dd299e03d12fa4293bc")
ANCHOR = bytes.fromhex("90f79bf6eb2c4f870365e785982e1f101e93b906")
PAYOUT_CODE = bytes.fromhex("600a600c600039600a6000f3602a60005260206000f3")
"""Creation code of some contract; the tests of the signer need no more of it than its hash."""

PEOPLE = {name: Ed25519PrivateKey.from_private_bytes(name.encode().ljust(32, b"\0")) for name in ("ada", "ben", "cleo")}
"""Approvers, their keys made from their names: for tests only."""


def policy_text(*, chain_ids: Sequence[int] = (CHAIN,), **changes: Any) -> str:
    networks = [
        NetworkStart(
            chain_id=chain_id,
            tokens={"0x" + TOKEN.hex(): TOKEN_LIMITS},
            native=NATIVE_LIMITS,
            top_ups=Limits(per_transfer=10**17, per_day=10**18),
            fee_wei_max=FEE_WEI_MAX,
        )
        for chain_id in chain_ids
    ]
    return starter_policy(*networks, **({"highest_deposit_index": 5_000} | changes))


_COMMON: dict[str, Any] = {
    "subject": "wdr_1",
    "attempt": 1,
    "chain_id": CHAIN,
    "sender": HOT,
    "nonce": 0,
    "gas_limit": 60_000,
    "max_fee_per_gas": 30 * GWEI,
    "max_priority_fee_per_gas": 2 * GWEI,
}


def token_transfer(**changes: Any) -> TokenTransfer:
    return TokenTransfer(**(_COMMON | {"contract": TOKEN, "to": STRANGER, "amount": 500} | changes))


def native_transfer(**changes: Any) -> NativeTransfer:
    return NativeTransfer(**(_COMMON | {"to": STRANGER, "amount": 10**17} | changes))


def cancel(**changes: Any) -> Cancel:
    return Cancel(**(_COMMON | changes))


def dearer(intent: Any, *, attempt: int = 2, **changes: Any) -> dict[str, Any]:
    """The fields of a replacement's fees."""
    return {
        "attempt": attempt,
        "max_fee_per_gas": intent.max_fee_per_gas * 2,
        "max_priority_fee_per_gas": intent.max_priority_fee_per_gas * 2,
    } | changes


def sweep(**changes: Any) -> Sweep:
    return Sweep(
        **(_COMMON | {"subject": "swp_1", "sender": DEPOSIT, "contract": TOKEN, "to": HOT, "amount": 500} | changes)
    )


def top_up(**changes: Any) -> TopUp:
    return TopUp(**(_COMMON | {"subject": "gas_1", "sender": GAS, "to": DEPOSIT, "amount": 10**16} | changes))


def legs(*amounts: int, to: bytes = STRANGER) -> tuple[Leg, ...]:
    return tuple(Leg(f"wdr_leg-{place}", to, amount) for place, amount in enumerate(amounts))


def batch(via: bytes, **changes: Any) -> PayoutBatch:
    stated = {"subject": "bat_1", "via": via, "contract": None, "legs": legs(100, 200), "gas_limit": 200_000}
    return PayoutBatch(**(_COMMON | stated | changes))


def allowance(spender: bytes, **changes: Any) -> Allowance:
    stated = {"subject": "alw_1", "spender": spender, "contract": TOKEN, "amount": 300, "batch": "bat_1"}
    return Allowance(**(_COMMON | stated | changes))


def deployment(**changes: Any) -> Deployment:
    return Deployment(
        **(_COMMON | {"subject": "dep_1", "sender": GAS, "code": PAYOUT_CODE, "gas_limit": 300_000} | changes)
    )


def anchor(**changes: Any) -> Anchor:
    return Anchor(**(_COMMON | {"subject": "anc_1", "sender": GAS, "to": ANCHOR, "root": bytes(range(32))} | changes))


def authorisation(**changes: Any) -> Authorisation:
    """Valid for too long: give `valid_before`."""
    stated: dict[str, Any] = {"subject": "swp_1", "chain_id": CHAIN, "sender": DEPOSIT, "contract": TOKEN}
    stated |= {"to": HOT, "amount": 500}
    domain: dict[str, Any] = {"domain_name": "USD Coin", "domain_version": "2", "valid_before": 2**40}
    return Authorisation(**(stated | domain | changes))


def proof(**changes: Any) -> ProofOfControl:
    stated: dict[str, Any] = {"subject": "prf_1", "chain_id": CHAIN, "sender": HOT, "epoch": "7"}
    stated |= {"root": bytes(range(32))}
    return ProofOfControl(**(stated | changes))


def relay(signature: bytes, /, **changes: Any) -> Relay:
    """Of the authorisation above."""
    own = authorisation()
    stated = {"subject": "rly_1", "sender": GAS, "authorisation": own.subject, "contract": TOKEN, "owner": own.sender}
    told = {"to": own.to, "amount": own.amount, "valid_before": own.valid_before, "signature": signature}
    return Relay(**(_COMMON | stated | told | changes))


def mandate(
    intent: First,
    *,
    maker: str = "cleo",
    approvers: Iterable[str] = ("ada", "ben"),
    not_after: int = 2**39,
    fee_wei_max: int = FEE_WEI_MAX,
    policy_version: int = 1,
    policy_fingerprint: bytes | None = None,
) -> Mandate:
    """What these people sign about an intent, under the full policy unless another is given; the maker's own signature
    unless it's a user's withdrawal."""
    said = Mandate(
        maker=maker,
        not_after=not_after,
        fee_wei_max=fee_wei_max,
        policy_version=policy_version,
        policy_fingerprint=policy_fingerprint or full_policy_fingerprint(),
    )
    made_by = None
    if maker in PEOPLE:
        made_by = sign_statement(maker, PEOPLE[maker], maker_statement(intent, said))
    approvals = tuple(sign_statement(name, PEOPLE[name], approval_statement(intent, said)) for name in approvers)
    return replace(said, made_by=made_by, approvals=approvals)


@cache
def full_policy_fingerprint() -> bytes:
    """What a signer with the full policy knows it by."""
    return parse(full_policy()).fingerprint


def people_text(threshold: int = 2) -> str:
    """The people of a policy."""
    listed = (
        f'[[people]]\nname = "{name}"\nkey = "{key.public_key().public_bytes_raw().hex()}"\n'
        for name, key in PEOPLE.items()
    )
    return f"threshold = {threshold}\n" + "\n".join(listed)


def full_policy(*, version: int = 1, extra: str = "") -> str:
    """A policy with a rule for every kind. The hot key pays the cold address with two approvals, strangers a little.

    `extra` is appended: more rules.
    """
    token, rules = "0x" + TOKEN.hex(), []

    def rule(name: str, kind: str, role: str, **said: object) -> None:
        lines = [f'name = "{name}"', f'kind = "{kind}"', f'role = "{role}"', f"chain_id = {CHAIN}"]
        for key, value in said.items():
            lines.append(f'{key} = "{value}"' if isinstance(value, str) else f"{key} = {value}")
        rules.append("[[rules]]\n" + "\n".join(lines) + "\n")

    fee = {"fee_wei_max": str(FEE_WEI_MAX)}
    some = {"per_transfer": "1000", "per_hour": "1500", "per_day": "2500"}
    much = {"per_transfer": "1000000", "per_day": "1000000"}
    wei = {"per_transfer": str(10**18), "per_day": str(5 * 10**18)}
    rule("to cold", "transfer", "hot", asset=token, to=["0x" + COLD.hex()], approvals=2, **much, **fee)
    rule("token out", "transfer", "hot", asset=token, to="any", **some, **fee)
    rule("native out", "transfer", "hot", asset="native", to="any", **wei, **fee)
    for asset in (token, "native"):
        rule(f"batch {asset}", "payout", "hot", asset=asset, to="contract:payout", **fee)
        rule(f"swept {asset}", "sweep", "deposit", asset=asset, to="own:hot:0", **some, **fee)
    rule("allowance", "allowance", "hot", asset=token, to="contract:payout", **some, **fee)
    rule("gas", "top_up", "gas", asset="native", to="own:deposit", per_transfer=str(10**17), per_day=str(10**18), **fee)
    rule("authorised", "authorisation", "deposit", asset=token, to="own:hot:0", **some)
    rule("relayed", "relay", "gas", asset=token, **fee)
    rule("deployed", "deployment", "gas", to="contract:payout", approvals=2, **fee)
    rule("anchored", "anchor", "gas", to=["0x" + ANCHOR.hex()], **fee)
    rule("proven", "proof", "hot", to="own:hot:0")
    code_hash = deployment().code_hash.hex()
    parts = [
        f"version = {version}",
        people_text(),
        f"[[networks]]\nchain_id = {CHAIN}",
        "[highest_index]\ndeposit = 5000",
        f'[[contracts]]\nname = "payout"\nchain_id = {CHAIN}\ncode_hash = "{code_hash}"\ndeployer = "gas:0"\nnonce = 0',
        f'[[tokens]]\nchain_id = {CHAIN}\ncontract = "{token}"\nname = "USD Coin"\nversion = "2"',
        f'[[gas_budgets]]\nchain_id = {CHAIN}\nrole = "hot"\nper_day = "{5 * FEE_WEI_MAX}"',
        *rules,
    ]
    return "\n\n".join(parts) + extra
