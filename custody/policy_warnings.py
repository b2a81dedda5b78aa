"""What a policy says that its people may not have meant. Pure; a policy with warnings is still a policy."""

from collections.abc import Iterator, Sequence
from typing import Final

from custody.counting import FeeKey
from custody.derivation import Role
from custody.policy import UNLIMITED, Action, Anyone, Kind, Listed, Match, Own, Policy, Rule

EXPIRY_SECONDS: Final = 30 * 24 * 3600
"""Values that end within this time are warned of."""

PEOPLE_WANTED: Final = 3
"""With fewer, a lost key and an absent maker leave nobody to approve."""

_LEAVING: Final = frozenset({Kind.TRANSFER})


def warnings(policy: Policy, *, now: int) -> list[str]:
    """Sentences, the gravest first; `now` in Unix seconds."""
    return [
        *_of_people(policy),
        *_of_keys(policy),
        *_of_reach(policy),
        *_of_limits(policy),
        *_of_ceilings(policy, now),
    ]


def covering(rules: Sequence[Rule], rule: Rule) -> Rule | None:
    """The last of those `rules`, all before it, that together take everything from `rule`; None when something is left.

    What a rule speaks of counts, not whether it allows or denies: the first match decides.
    """
    alike = [one for one in rules if _place(one) == _place(rule)]
    for earlier in alike:
        if is_within(rule.to, earlier.to):
            return earlier
    if isinstance(rule.to, Listed):
        left = set(rule.to.addresses)
        for earlier in alike:
            if isinstance(earlier.to, Listed):
                left -= earlier.to.addresses
            if not left:
                return earlier
    return None


def is_within(inner: Match | None, outer: Match | None) -> bool:
    """Whether every destination of `inner` is one of `outer`."""
    match outer:
        case None | Anyone():
            return True
        case Own(role=role, index=index, generation=generation):
            if not isinstance(inner, Own) or inner.role is not role:
                return False
            return index is None or (inner.index, inner.generation) == (index, generation)
        case Listed(addresses=addresses):
            return isinstance(inner, Listed) and inner.addresses <= addresses
        case _:
            return inner == outer


def _place(rule: Rule) -> tuple[Kind, Role, int, str | None]:
    return rule.kind, rule.role, rule.chain_id, rule.asset


def _of_people(policy: Policy) -> Iterator[str]:
    people = len(policy.people)
    if not people:
        yield "there are no people: the keys' passphrase changes the policy, and nobody can freeze or approve"
        return
    if people < PEOPLE_WANTED:
        yield f"there are {people} people, fewer than {PEOPLE_WANTED}: one lost key may leave nobody to approve"
    if policy.threshold == 1:
        yield "the threshold is 1: each of the people alone changes the policy and lifts a freeze"
    elif policy.threshold == people:
        yield f"the threshold is {people}, all of the people: one lost key and the policy can't be changed any more"
    for rule in policy.rules:
        if rule.action is Action.ALLOW and rule.approvals == people:
            yield f"rule {rule.name!r} needs {people} approvals: its maker can't be one of the {people} people"


def _of_keys(policy: Policy) -> Iterator[str]:
    missing = [role.value for role in Role if role not in policy.keys]
    if missing:
        yield f"[keys] lacks {', '.join(missing)}: the policy doesn't say for which keys it was made"


def _of_reach(policy: Policy) -> Iterator[str]:
    for number, rule in enumerate(policy.rules):
        earlier = covering(policy.rules[:number], rule)
        if earlier is not None:
            yield f"rule {rule.name!r} is never reached: {earlier.name!r} comes first and takes all that it speaks of"
        match rule.to:
            case Own(role=role, index=int(index)) if index > policy.highest_index.get(role, -1):
                yield f"rule {rule.name!r} is never reached: {role.value}:{index} is beyond the highest index"
            case _:
                pass
        if rule.action is Action.ALLOW and not rule.per_transfer:
            yield f"rule {rule.name!r} allows nothing: per_transfer is 0"
        elif rule.per_day < rule.per_transfer < UNLIMITED:
            yield f"rule {rule.name!r}: per_transfer is over per_day, so never reached"
    for chain_id in sorted(policy.networks - {rule.chain_id for rule in policy.rules}):
        yield f"no rule speaks of network {chain_id}: nothing is signed there"


def _of_limits(policy: Policy) -> Iterator[str]:
    for rule in policy.rules:
        if rule.action is Action.DENY or rule.kind in (Kind.PAYOUT, Kind.RELAY) or rule.asset is None:
            continue
        if UNLIMITED in (rule.per_transfer, rule.per_day):
            yield f"rule {rule.name!r} is unlimited: all of an address may move at once, to our own addresses"
    paying = {
        FeeKey(rule.role, rule.chain_id)
        for rule in policy.rules
        if rule.action is Action.ALLOW and rule.kind not in (Kind.AUTHORISATION, Kind.PROOF)
    }
    for key in sorted(paying - policy.gas_budgets.keys()):
        yield f"no gas budget for the {key.role.value} keys on network {key.chain_id}: only each rule caps fees"


def _of_ceilings(policy: Policy, now: int) -> Iterator[str]:
    leaving = {
        (rule.chain_id, rule.asset)
        for rule in policy.rules
        if rule.action is Action.ALLOW and rule.kind in _LEAVING and not isinstance(rule.to, Own)
    }
    if policy.ceilings is None:
        if leaving:
            yield "there are no ceilings: what may leave in a day is the sum of all rules"
        return
    known = {(value.chain_id, value.asset) for value in policy.values}
    for chain_id, asset in sorted(leaving - known, key=str):
        yield f"{asset} on network {chain_id} has no value, so none of it may leave while there are ceilings"
    for value in policy.values:
        if value.until <= now:
            yield f"the value of {value.asset} on network {value.chain_id} has ended: none of it may leave"
        elif value.until <= now + EXPIRY_SECONDS:
            days = (value.until - now) // 86_400
            yield f"the value of {value.asset} on network {value.chain_id} ends in {days} days; then none may leave"
    for chain_id in sorted(policy.networks - policy.ceilings.by_network.keys()):
        yield f"network {chain_id} has no ceiling of its own"
