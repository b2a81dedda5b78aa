"""Whether a policy lets an intent be signed: first match, then limits, windows, ceilings and approvals. Pure.

What is refused says a stable code and a sentence with the numbers. Not here: what a policy consists of (policy), whose
signatures count (approvals), nonces (nonces).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from custody.counting import AssetKey, Counts, FeeKey, ValueKey, leaves_us, value_key
from custody.intents import (
    AUTHORISATION_SECONDS,
    Authorisation,
    Deployment,
    First,
    KeyRef,
    NativeTransfer,
    PayoutBatch,
    TokenTransfer,
    TopUp,
    Transfer,
    asset_of,
    keys_of,
)
from custody.policy import (
    UNLIMITED,
    Action,
    Anyone,
    Ceilings,
    Contract,
    Kind,
    Listed,
    Named,
    Own,
    Policy,
    Rule,
    TokenDomain,
)
from custody.transactions import created_address

DENIALS: Final = frozenset(
    {
        *("network_not_allowed", "index_too_high", "asset_not_listed", "role_not_allowed", "destination_not_listed"),
        *("contract_unknown", "domain_differs", "validity_too_long", "denied_by_rule", "top_up_open"),
        *("over_transfer_limit", "over_hour_limit", "over_day_limit", "over_ceiling", "no_value"),
        *("over_fee_cap", "over_gas_budget", "over_approved_fee"),
        *("approvals_missing", "approval_expired", "approval_policy_differs", "approval_invalid", "approval_by_maker"),
        *("approval_repeated", "approver_unknown", "scheme_unknown", "maker_unproven"),
        *("allowance_missing", "authorisation_unknown"),
    }
)
"""Every code by which a subject that has no signature is refused for what it is. Such a refusal says that nothing was
ever signed for its subject; one with any other code says nothing of that kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What the signer knows beside the policy: what it has counted, the time, who approved, and its own addresses."""

    counts: Counts
    window_us: int
    seconds: int
    approved_by: frozenset[str] = frozenset()
    own_addresses: Mapping[KeyRef, bytes] = field(default_factory=dict)
    """Addresses of the keys that create the policy's contracts."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """The rule that speaks for an intent; of a batch, the batch's own rule."""

    rule: Rule


@dataclass(frozen=True, slots=True)
class Denied:
    """Why not, as a stable code and a sentence with the numbers; `rule` when one matched."""

    code: str
    sentence: str
    rule: str | None = None


def evaluate(policy: Policy, situation: Situation, intent: First) -> Allowed | Denied:
    """Whether `policy` lets an intent be signed for the first time."""
    if intent.chain_id not in policy.networks:
        return Denied("network_not_allowed", f"the policy knows no network {intent.chain_id}")
    for key in keys_of(intent):
        if key.index > policy.highest_index.get(key.role, -1):
            return Denied("index_too_high", f"{key} is beyond the policy's highest index of that role")
    rule = speaking_rule(policy, situation, intent)
    if rule is None:
        return _no_rule(policy, intent)
    if rule.action is Action.DENY:
        return Denied("denied_by_rule", f"rule {rule.name!r} denies it", rule.name)
    denied = _as_its_kind(policy, situation, rule, intent) or _fees(policy, situation, rule, intent)
    denied = denied or _limits(situation, rule, intent)
    if denied is None and isinstance(intent, PayoutBatch):
        denied = _legs(policy, situation, intent)
    denied = denied or _ceilings(policy, situation, intent)
    return denied or Allowed(rule)


def speaking_rule(policy: Policy, situation: Situation, intent: First) -> Rule | None:
    """The first rule that speaks of an intent, whatever it says of it."""
    return next((rule for rule in policy.rules if _matches(policy, situation, rule, intent)), None)


def rule_kind(intent: First) -> Kind:
    """Which rules speak of an intent."""
    if isinstance(intent, NativeTransfer | TokenTransfer):
        return Kind.TRANSFER
    return Kind.PAYOUT if isinstance(intent, PayoutBatch) else Kind(intent.kind)


def contract_address(contract: Contract, own_addresses: Mapping[KeyRef, bytes]) -> bytes | None:
    """Where a contract of the policy comes to lie; None when its creator's address isn't known."""
    creator = own_addresses.get(contract.deployer)
    return None if creator is None else created_address(creator, contract.nonce)


# --- matching --------------------------------------------------------------------------------------------------------


def _matches(policy: Policy, situation: Situation, rule: Rule, intent: First) -> bool:
    asked = (rule_kind(intent), intent.sender.role, intent.chain_id, asset_of(intent))
    if asked != (rule.kind, rule.role, rule.chain_id, rule.asset):
        return False
    return rule.to is None or _reaches(policy, situation, rule, intent)


def _reaches(policy: Policy, situation: Situation, rule: Rule, intent: First) -> bool:
    match rule.to:
        case Anyone():
            return True
        case Own(role=role, index=index, generation=generation):
            to = intent.sender if rule.kind is Kind.PROOF else getattr(intent, "to", None)
            if not isinstance(to, KeyRef) or to.role is not role:
                return False
            return index is None or (to.index, to.generation) == (index, generation)
        case Listed(addresses=addresses):
            return getattr(intent, "to", None) in addresses
        case Named(contract=name):
            contract = next(
                (one for one in policy.contracts if (one.name, one.chain_id) == (name, rule.chain_id)), None
            )
            if contract is None:
                return False
            if isinstance(intent, Deployment):
                placed = (intent.code_hash, intent.sender, intent.nonce)
                return placed == (contract.code_hash, contract.deployer, contract.nonce)
            asked = getattr(intent, "via", None) or getattr(intent, "spender", None)
            return asked is not None and asked == contract_address(contract, situation.own_addresses)
    return False


def _no_rule(policy: Policy, intent: First) -> Denied:
    """The last rule of every policy: block all. Says what was missing first."""
    kind, asset, role = rule_kind(intent), asset_of(intent), intent.sender.role.value
    what = asset or kind.value
    concerned = [r for r in policy.rules if (r.kind, r.chain_id, r.asset) == (kind, intent.chain_id, asset)]
    if not concerned:
        sentence = f"no rule speaks of a {kind.value} of {what} on network {intent.chain_id}"
        return Denied("asset_not_listed", sentence)
    if all(rule.role is not intent.sender.role for rule in concerned):
        return Denied("role_not_allowed", f"no rule lets the {role} key make a {kind.value} of {what}")
    if isinstance(intent, Deployment) or kind in (Kind.PAYOUT, Kind.ALLOWANCE):
        return Denied("contract_unknown", f"the contract of this {kind.value} isn't the policy's")
    return Denied("destination_not_listed", f"no rule lets the {role} key make a {kind.value} of {what} there")


# --- limits ----------------------------------------------------------------------------------------------------------


def _as_its_kind(policy: Policy, situation: Situation, rule: Rule, intent: First) -> Denied | None:
    """What only some kinds must fulfil."""
    if isinstance(intent, TopUp) and situation.counts.has_open_top_up(
        intent.chain_id, intent.to, at_us=situation.window_us
    ):
        return Denied("top_up_open", f"{intent.to} was topped up and has signed nothing since", rule.name)
    if isinstance(intent, Authorisation):
        stated = TokenDomain(intent.chain_id, intent.contract, intent.domain_name, intent.domain_version)
        if stated not in policy.tokens:
            return Denied("domain_differs", "the policy has no such EIP-712 domain for this token", rule.name)
        left = intent.valid_before - situation.seconds
        if not 0 < left <= AUTHORISATION_SECONDS:
            sentence = f"an authorisation is valid for at most {AUTHORISATION_SECONDS} s, this one for {left}"
            return Denied("validity_too_long", sentence, rule.name)
    return None


def _fees(policy: Policy, situation: Situation, rule: Rule, intent: First) -> Denied | None:
    fee = intent.fee_wei_max
    if fee > rule.fee_wei_max:
        sentence = f"gas limit x fee is {fee} wei, the limit is {rule.fee_wei_max}"
        return Denied("over_fee_cap", sentence, rule.name)
    key = FeeKey(intent.sender.role, intent.chain_id)
    excess = gas_excess(policy, situation, key, fee)
    return None if excess is None else Denied("over_gas_budget", excess, rule.name)


def gas_excess(policy: Policy, situation: Situation, key: FeeKey, fee_wei: int) -> str | None:
    """Why a fee doesn't fit into its role's budget, if so."""
    budget = policy.gas_budgets.get(key)
    if budget is None or not fee_wei:
        return None
    spent = situation.counts.fees_in_day(key, at_us=situation.window_us)
    if spent + fee_wei <= budget:
        return None
    return f"{fee_wei} wei of gas after {_spelled(spent)} in 24 hours is over the budget of {budget}"


def _limits(situation: Situation, rule: Rule, intent: First, *, before: int = 0) -> Denied | None:
    """Whether an amount fits its rule; `before` is what the same signature moves beside it."""
    key = value_key(intent)
    amount = getattr(intent, "amount", 0)
    denied = None if key is None else _amounts(situation, rule, key, amount, before)
    if denied is not None:
        return denied
    if rule.approvals > len(situation.approved_by):
        day = 0 if key is None else situation.counts.spent_in_day(key, at_us=situation.window_us)
        if key is None or day + before + amount > rule.approvals_above:
            return _approvals_missing(rule.approvals, situation, rule.name)
    return None


def _amounts(situation: Situation, rule: Rule, key: ValueKey, amount: int, before: int) -> Denied | None:
    if amount > rule.per_transfer:
        sentence = f"{amount} is over the limit of {rule.per_transfer} per transfer"
        return Denied("over_transfer_limit", sentence, rule.name)
    counts, at_us = situation.counts, situation.window_us
    for code, period, limit, spent_within in (
        ("over_hour_limit", "an hour", rule.per_hour, counts.spent_in_hour),
        ("over_day_limit", "24 hours", rule.per_day, counts.spent_in_day),
    ):
        if limit >= UNLIMITED:
            continue
        spent = spent_within(key, at_us=at_us) + before
        if spent + amount > limit:
            sentence = f"{amount} after {_spelled(spent)} in {period} is over the limit of {limit}"
            return Denied(code, sentence, rule.name)
    return None


def _legs(policy: Policy, situation: Situation, batch: PayoutBatch) -> Denied | None:
    """Each leg as the transfer that it is, in order, each after the ones before it."""
    before = 0
    for leg in batch.legs:
        transfer = _leg_transfer(batch, leg.to, leg.amount)
        rule = speaking_rule(policy, situation, transfer)
        if rule is None:
            denied: Denied | None = _no_rule(policy, transfer)
        elif rule.action is Action.DENY:
            denied = Denied("denied_by_rule", f"rule {rule.name!r} denies it", rule.name)
        else:
            denied = _limits(situation, rule, transfer, before=before)
        if denied is not None:
            return Denied(denied.code, f"leg {leg.subject}: {denied.sentence}", denied.rule)
        before += leg.amount
    return None


def _leg_transfer(batch: PayoutBatch, to: bytes, amount: int) -> Transfer:
    common = {
        "subject": batch.subject,
        "attempt": batch.attempt,
        "chain_id": batch.chain_id,
        "sender": batch.sender,
        "nonce": batch.nonce,
        "gas_limit": batch.gas_limit,
        "max_fee_per_gas": batch.max_fee_per_gas,
        "max_priority_fee_per_gas": batch.max_priority_fee_per_gas,
    }
    if batch.contract is None:
        return NativeTransfer(**common, to=to, amount=amount)  # type: ignore[arg-type]
    return TokenTransfer(**common, contract=batch.contract, to=to, amount=amount)  # type: ignore[arg-type]


def _ceilings(policy: Policy, situation: Situation, intent: First) -> Denied | None:
    """Ceilings in policy units, over all that leaves us; enough approvals exceed them."""
    ceilings, key = policy.ceilings, value_key(intent)
    if ceilings is None or key is None or not leaves_us(intent):
        return None
    asset = AssetKey(key.chain_id, key.asset)
    if _worth(policy, situation, asset, 0) is None:
        return Denied("no_value", f"the policy has no value in force for {key.asset} on network {key.chain_id}")
    outflow = situation.counts.outflow_in_day(at_us=situation.window_us)
    exceeded = "nobody knows what has left since the journal was taken up again"
    if outflow is not None:
        outflow[asset] = outflow.get(asset, 0) + intent.amount  # type: ignore[union-attr]  # what leaves has an amount
        worth = {one: _worth(policy, situation, one, amount) for one, amount in outflow.items()}
        exceeded = _exceeded(ceilings, worth, key.chain_id)
    if exceeded and len(situation.approved_by) < ceilings.approvals:
        return Denied("over_ceiling", f"{exceeded}; {ceilings.approvals} approvals can exceed it")
    return None


def _exceeded(ceilings: Ceilings, worth: Mapping[AssetKey, int | None], chain_id: int) -> str:
    known = {asset: value for asset, value in worth.items() if value is not None}
    for asset in worth.keys() - known.keys():
        return f"what left of {asset.asset} on network {asset.chain_id} has no value in force any more"
    network = sum(value for asset, value in known.items() if asset.chain_id == chain_id)
    for total, ceiling, where in (
        (sum(known.values()), ceilings.per_day, "in all"),
        (network, ceilings.by_network.get(chain_id, UNLIMITED), f"on network {chain_id}"),
    ):
        if total > ceiling:
            return f"{total} policy units in 24 hours {where} are over the ceiling of {ceiling}"
    return ""


def _worth(policy: Policy, situation: Situation, asset: AssetKey, amount: int) -> int | None:
    """What went out of an asset is worth, by the policy's value; None when it has none in force."""
    for value in policy.values:
        if (value.chain_id, value.asset) == (asset.chain_id, asset.asset) and situation.seconds < value.until:
            return value.of(amount)
    return None


def _approvals_missing(needed: int, situation: Situation, rule: str) -> Denied:
    given = len(situation.approved_by)
    return Denied("approvals_missing", f"{needed} approvals are needed, {given} are there", rule)


def _spelled(spent: int) -> str:
    return "a full window" if spent >= UNLIMITED else str(spent)
