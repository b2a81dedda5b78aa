"""What changes from one policy to the next, in words, and which way: what is loosened mustn't hide. Pure."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from custody.policy import UNLIMITED, Action, Policy, Rule
from custody.policy_warnings import is_within
from custody.vocabulary import Vocabulary, instant_text

_Key = TypeVar("_Key")
_Item = TypeVar("_Item")


class Way(StrEnum):
    """Which way a change goes."""

    LOOSER = "looser"
    """More may be signed, by more, for longer, or with fewer of the people."""
    TIGHTER = "tighter"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Change:
    """One difference."""

    way: Way
    sentence: str


def diff(old: Policy, new: Policy) -> list[Change]:
    """All that changes in meaning from `old` to `new`, loosened things first."""
    found = [
        *_version(old, new),
        *_people(old, new),
        *_keys(old, new),
        *_networks(old, new),
        *_rules(old, new),
        *_ceilings(old, new),
        *_listed(old, new),
        *_labels(old, new),
    ]
    order = (Way.LOOSER, Way.OTHER, Way.TIGHTER)
    return sorted(found, key=lambda change: order.index(change.way))


def _version(old: Policy, new: Policy) -> Iterator[Change]:
    if new.version != old.version:
        yield Change(Way.OTHER, f"version {old.version} -> {new.version}")
    if new.fingerprint != old.fingerprint and new.version != old.version + 1:
        yield Change(
            Way.OTHER, f"a successor of version {old.version} has version {old.version + 1}: it won't be accepted"
        )


def _people(old: Policy, new: Policy) -> Iterator[Change]:
    before, after = ({one.name: one.key for one in policy.people} for policy in (old, new))
    for name in after.keys() - before.keys():
        yield Change(Way.LOOSER, f"{name} joins the people: their signature counts")
    for name in before.keys() - after.keys():
        yield Change(Way.TIGHTER, f"{name} leaves the people")
    for name in after.keys() & before.keys():
        if after[name] != before[name]:
            yield Change(Way.LOOSER, f"{name} has another key: whoever holds it signs in their name")
    if before and not after:
        yield Change(Way.LOOSER, "no people are left: the keys' passphrase alone changes the policy")
    elif new.threshold != old.threshold:
        way = Way.LOOSER if new.threshold < old.threshold else Way.TIGHTER
        yield Change(way, f"threshold {old.threshold} -> {new.threshold}")


def _keys(old: Policy, new: Policy) -> Iterator[Change]:
    for name, mark in _changed(old.keys, new.keys):
        if name in old.keys:
            said = "isn't named any more" if mark is None else "is another"
            yield Change(Way.LOOSER, f"the fingerprint of the {name} key {said}")
        elif mark is not None and "." in name:
            yield Change(Way.OTHER, f"a new key, {name}, signs beside the older ones: fingerprint {mark.hex()}")
        else:
            yield Change(Way.TIGHTER, f"the fingerprint of the {name} key is named")
    for role, index in _changed(old.highest_index, new.highest_index):
        before = old.highest_index.get(role, -1)
        way = Way.LOOSER if index is not None and index > before else Way.TIGHTER
        yield Change(way, f"highest index of {role}: {before} -> {index}")
    for (chain_id, key), nonce in _changed(old.first_nonces, new.first_nonces):
        told = f"{old.first_nonces.get((chain_id, key), 0)} -> {nonce or 0}"
        yield Change(Way.OTHER, f"first nonce of {key} on network {chain_id}: {told}")


def _networks(old: Policy, new: Policy) -> Iterator[Change]:
    for chain_id in sorted(new.networks - old.networks):
        yield Change(Way.LOOSER, f"network {chain_id} is new")
    for chain_id in sorted(old.networks - new.networks):
        yield Change(Way.TIGHTER, f"network {chain_id} is gone")


# --- rules -----------------------------------------------------------------------------------------------------------


def _rules(old: Policy, new: Policy) -> Iterator[Change]:
    before, after = ({rule.name: rule for rule in policy.rules} for policy in (old, new))
    words = Vocabulary(new)
    for name, rule in after.items():
        if name not in before:
            way = Way.LOOSER if rule.action is Action.ALLOW else Way.TIGHTER
            yield Change(way, f"rule {name!r} is new: {words.rule(rule)}")
        elif _place(rule) != _place(before[name]):
            said = f"{Vocabulary(old).rule(before[name])} -> {words.rule(rule)}"
            yield Change(Way.LOOSER, f"rule {name!r} speaks of something else: {said}")
        else:
            yield from _rule(before[name], rule, words)
    for name, rule in before.items():
        if name not in after:
            way = Way.TIGHTER if rule.action is Action.ALLOW else Way.LOOSER
            yield Change(way, f"rule {name!r} is gone: {Vocabulary(old).rule(rule)}")
    yield from _order(old, new)


def _place(rule: Rule) -> tuple[object, ...]:
    return rule.kind, rule.role, rule.chain_id, rule.asset


def _rule(old: Rule, new: Rule, words: Vocabulary) -> Iterator[Change]:
    where, chain_id, asset = f"rule {new.name!r}", new.chain_id, new.asset
    if old.action is not new.action:
        way = Way.LOOSER if new.action is Action.ALLOW else Way.TIGHTER
        yield Change(way, f"{where}: {old.action.value} -> {new.action.value}: {words.rule(new)}")
        return
    if old.to != new.to:
        is_narrower = is_within(new.to, old.to)
        narrows = is_narrower if new.action is Action.ALLOW else is_within(old.to, new.to)
        said = f"{words.match(chain_id, old.to)} -> {words.match(chain_id, new.to)}"
        yield Change(Way.TIGHTER if narrows else Way.LOOSER, f"{where}: destination {said}")
    if new.action is Action.DENY:
        return

    def spell(units: int) -> str:
        return words.quantity(chain_id, asset, units) if asset is not None else str(units)

    for what, before, after, text in (
        ("at once", old.per_transfer, new.per_transfer, spell),
        ("an hour", old.per_hour, new.per_hour, spell),
        ("a day", old.per_day, new.per_day, spell),
        ("fee", old.fee_wei_max, new.fee_wei_max, lambda wei: words.fee(chain_id, wei)),
        ("approvals needed above", old.approvals_above, new.approvals_above, spell),
    ):
        if before != after:
            way = Way.LOOSER if after > before else Way.TIGHTER
            yield Change(way, f"{where}: {what} {text(before)} -> {text(after)}")
    if old.approvals != new.approvals:
        way = Way.LOOSER if new.approvals < old.approvals else Way.TIGHTER
        yield Change(way, f"{where}: approvals {old.approvals} -> {new.approvals}")


def _order(old: Policy, new: Policy) -> Iterator[Change]:
    """Rules that speak of the same things in another order: the first match decides, so this may loosen."""
    before, after = ({rule.name: rule for rule in policy.rules} for policy in (old, new))
    kept = [name for name in before if name in after and _place(before[name]) == _place(after[name])]
    for place in dict.fromkeys(_place(before[name]) for name in kept):
        was = [name for name in kept if _place(before[name]) == place]
        now = [name for name in after if name in was]
        if was != now:
            yield Change(Way.LOOSER, f"the order of rules changes: {_spell(was)} -> {_spell(now)}")


def _spell(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)


# --- what is listed --------------------------------------------------------------------------------------------------


def _ceilings(old: Policy, new: Policy) -> Iterator[Change]:
    before, after = old.ceilings, new.ceilings
    if before is None or after is None:
        if after is not None:
            yield Change(Way.TIGHTER, f"there is a ceiling now: {after.per_day} policy units a day")
        elif before is not None:
            yield Change(Way.LOOSER, f"the ceiling of {before.per_day} policy units a day is gone")
        return
    yield from _limit("ceiling a day", before.per_day, after.per_day)
    for chain_id in sorted(before.by_network.keys() | after.by_network.keys()):
        limits = (one.by_network.get(chain_id, UNLIMITED) for one in (before, after))
        yield from _limit(f"ceiling a day on network {chain_id}", *limits)
    if before.approvals != after.approvals:
        way = Way.LOOSER if after.approvals < before.approvals else Way.TIGHTER
        yield Change(way, f"approvals that exceed the ceilings: {before.approvals} -> {after.approvals}")


def _limit(what: str, before: int, after: int) -> Iterator[Change]:
    if before != after:
        told = ("none" if limit >= UNLIMITED else str(limit) for limit in (before, after))
        yield Change(Way.LOOSER if after > before else Way.TIGHTER, f"{what}: {' -> '.join(told)}")


def _listed(old: Policy, new: Policy) -> Iterator[Change]:
    for key in sorted(old.gas_budgets.keys() | new.gas_budgets.keys()):
        budgets = (policy.gas_budgets.get(key, UNLIMITED) for policy in (old, new))
        yield from _limit(f"gas budget of the {key.role.value} keys on network {key.chain_id} in wei a day", *budgets)
    yield from _set("contract", old.contracts, new.contracts, lambda one: f"{one.name} on network {one.chain_id}")
    yield from _set(
        "EIP-712 domain", old.tokens, new.tokens, lambda one: f"{one.name!r} {one.version} of 0x{one.contract.hex()}"
    )
    before, after = ({(one.chain_id, one.asset): one for one in policy.values} for policy in (old, new))
    for (chain_id, asset), value in _changed(before, after):
        where = f"value of {asset} on network {chain_id}"
        known = before.get((chain_id, asset))
        if value is None or known is None:
            way, said = (Way.TIGHTER, "is gone") if value is None else (Way.LOOSER, "is new")
            yield Change(way, f"the {where} {said}")
            continue
        if value.units * known.per != known.units * value.per:
            way = Way.LOOSER if value.units * known.per < known.units * value.per else Way.TIGHTER
            told = f"{known.units} for {known.per} -> {value.units} for {value.per}"
            yield Change(way, f"the {where}: {told} smallest units; less counts as less under the ceilings")
        if value.until != known.until:
            way = Way.LOOSER if value.until > known.until else Way.TIGHTER
            yield Change(way, f"the {where} ends {instant_text(known.until)} -> {instant_text(value.until)}")


def _set(what: str, old: Sequence[_Item], new: Sequence[_Item], name: Callable[[_Item], str]) -> Iterator[Change]:
    for one in new:
        if one not in old:
            yield Change(Way.LOOSER, f"{what} {name(one)} is new or another than before")
    names = {name(one) for one in new}
    for one in old:
        if name(one) not in names:
            yield Change(Way.TIGHTER, f"{what} {name(one)} is gone")


def _labels(old: Policy, new: Policy) -> Iterator[Change]:
    before, after = ({(one.chain_id, one.place): one for one in policy.labels} for policy in (old, new))
    for (chain_id, place), label in _changed(before, after):
        known = before.get((chain_id, place))
        told = ("nothing" if one is None else _label(one.name, one.decimals) for one in (known, label))
        misleads = known is not None and label is not None and known.decimals != label.decimals
        way = Way.LOOSER if misleads else Way.OTHER
        yield Change(way, f"{place} on network {chain_id} is shown as: {' -> '.join(told)}")
    for chain_id, name in _changed(old.network_names, new.network_names):
        yield Change(Way.OTHER, f"network {chain_id} is shown as: {old.network_names.get(chain_id)} -> {name}")


def _label(name: str, decimals: int | None) -> str:
    return name if decimals is None else f"{name} with {decimals} decimals"


def _changed(old: Mapping[_Key, _Item], new: Mapping[_Key, _Item]) -> Iterator[tuple[_Key, _Item | None]]:
    """What is other in `new`, None for what is gone."""
    for key in sorted(old.keys() | new.keys(), key=str):
        if old.get(key) != new.get(key):
            yield key, new.get(key)
