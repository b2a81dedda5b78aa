"""The tariff as a TOML text: what users pay, what is free, what they may move. Pure.

    default_tier = "standard"
    reference = "EUR"                   # what limits and free values are told in

    [tiers.standard]
    free.transfer = { operations = 10, value = "500.00" }
    limits.out = { operation = "1000.00", day = "2500.00", month = "10000.00" }
    account_fee = { asset = "EUR", amount = "2.00", short = "owe" }

    [[fees]]
    operation = "transfer"
    tier = "standard"                   # left out: any; so for asset, and network or rail
    asset = "EUR"
    percent = "0.35"                    # a string, so that it is exact
    minimum = "0.10"
    maximum = "5.00"

No float is ever made of an amount or a percentage: TOML's own numbers are refused. So is what can't be meant, with the
line: unknown names, a minimum above its maximum, two rules of which neither is more specific.
"""

import re
import tomllib
from collections.abc import Collection, Mapping
from typing import Any

from base.errors import Rejected
from ledger.money import Asset, parse_amount
from tariff.errors import TariffInvalid
from tariff.schedule import (
    NOTHING,
    AccountFee,
    Allowance,
    Limit,
    Operation,
    Percent,
    Rule,
    Short,
    Sum,
    Tariff,
    Tier,
    contradiction,
    percent,
)

_TOP_KEYS = frozenset({"default_tier", "reference", "tiers", "fees"})
_TIER_KEYS = frozenset({"free", "limits", "account_fee"})
_RULE_KEYS = frozenset({"operation", "tier", "asset", "network", "rail", "flat", "percent", "minimum", "maximum"})
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}", re.ASCII)
_PERCENT = re.compile(r"([0-9]{1,3})(?:\.([0-9]{1,20}))?", re.ASCII)

ON_NETWORKS = frozenset({Operation.WITHDRAWAL})
ON_RAILS = frozenset({Operation.PAYOUT, Operation.TOP_UP})

_Place = tuple[str | int, ...]


class _Fault(ValueError):
    """What is wrong, and where in the file."""

    def __init__(self, place: _Place, says: str) -> None:
        super().__init__(says)
        self.place = place


def parse_tariff(
    text: str,
    *,
    assets: Mapping[str, Asset],
    networks: Collection[str] = (),
    rails: Collection[str] = (),
    providers: Collection[str] = (),
    source: str = "tariff",
) -> Tariff:
    """The tariff that a TOML text (form: module docstring) declares. Raises TariffInvalid, which names the line.

    `assets`, `networks`, `rails` (of payouts), `providers` (of top-ups): what this installation has.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise TariffInvalid(f"{source}: {error}") from error
    try:
        places = dict.fromkeys(ON_NETWORKS, networks) | {Operation.PAYOUT: rails, Operation.TOP_UP: providers}
        return _Reader(assets, places).tariff(table)
    except _Fault as fault:
        line = line_of(text, fault.place)
        where = f"{source}:{line}" if line is not None else source
        named = _named(fault.place)
        raise TariffInvalid(f"{where}: {named + ': ' if named else ''}{fault}", line=line) from None


def _named(place: _Place) -> str:
    """`fees[2].percent`, `tiers.standard.limits.out`; rules are counted from 1."""
    shown = ""
    for part in place:
        shown += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if shown else part
    return shown


class _Reader:
    """Reads one file for one installation."""

    def __init__(self, assets: Mapping[str, Asset], places: Mapping[Operation, Collection[str]]) -> None:
        """`places`: by operation, the networks or rails that it may go over."""
        self._assets = assets
        self._places = places
        self._reference: Asset | None = None

    def tariff(self, table: Mapping[str, Any]) -> Tariff:
        _only(table, _TOP_KEYS, ())
        if "reference" in table:
            self._reference = self._asset(table["reference"], ("reference",))
        told = _table(table.get("tiers", {}), ("tiers",))
        if not told:
            raise _Fault(("tiers",), "there is no tier: write [tiers.standard] at least")
        tiers = {name: self._tier(name, entry) for name, entry in told.items()}
        default = table.get("default_tier")
        if default not in tiers:
            raise _Fault(("default_tier",), f"{default!r} is no tier; there is {', '.join(tiers)}")
        fees = table.get("fees", [])
        if not isinstance(fees, list):
            raise _Fault(("fees",), "rules are written as [[fees]]")
        rules = [self._rule(number, entry, tiers) for number, entry in enumerate(fees)]
        if (found := contradiction(rules)) is not None:
            raise _ambiguous(rules, *found)
        return Tariff(tiers, str(default), tuple(rules), self._reference)

    # Tiers

    def _tier(self, name: str, entry: object) -> Tier:
        place = ("tiers", name)
        if not _NAME.fullmatch(name):
            raise _Fault(place, "a tier's name is 1 to 40 of a-z, 0-9, _ and -")
        told = _table(entry, place)
        _only(told, _TIER_KEYS, place)
        limits, free = (
            _table(told.get("limits", {}), (*place, "limits")),
            _table(told.get("free", {}), (*place, "free")),
        )
        return Tier(
            name,
            limits={
                _one_of(Sum, what, (*place, "limits", what)): self._limit(entry, (*place, "limits", what))
                for what, entry in limits.items()
            },
            free={
                _one_of(Operation, what, (*place, "free", what)): self._allowance(entry, (*place, "free", what))
                for what, entry in free.items()
            },
            account_fee=self._account_fee(told["account_fee"], (*place, "account_fee"))
            if "account_fee" in told
            else None,
        )

    def _limit(self, entry: object, place: _Place) -> Limit:
        told = _table(entry, place)
        _only(told, frozenset({"operation", "day", "month"}), place)
        found = {key: self._in_reference(value, (*place, key)) for key, value in told.items()}
        limit = Limit(**found)
        if not found:
            raise _Fault(place, "no cap is told: give operation, day or month")
        wider = [cap for cap in (limit.operation, limit.day, limit.month) if cap is not None]
        if wider != sorted(wider):
            raise _Fault(place, "what one operation may be worth can't be more than a day's sum, nor that a month's")
        return limit

    def _allowance(self, entry: object, place: _Place) -> Allowance:
        told = _table(entry, place)
        _only(told, frozenset({"operations", "value"}), place)
        operations = told.get("operations")
        if "operations" in told and (type(operations) is not int or not 0 < operations < 10**9):
            raise _Fault((*place, "operations"), "operations must be a whole number from 1")
        if not told:
            raise _Fault(place, "nothing is told: give operations, value or both")
        value = self._in_reference(told["value"], (*place, "value")) if "value" in told else None
        return Allowance(operations, value)

    def _account_fee(self, entry: object, place: _Place) -> AccountFee:
        told = _table(entry, place)
        _only(told, frozenset({"asset", "amount", "short"}), place)
        asset = self._asset(told.get("asset"), (*place, "asset"))
        return AccountFee(
            asset.code,
            _amount(told.get("amount"), asset, (*place, "amount"), least=1),
            _one_of(Short, told.get("short"), (*place, "short")),
        )

    # Rules

    def _rule(self, number: int, entry: object, tiers: Mapping[str, Tier]) -> Rule:
        place: _Place = ("fees", number)
        told = _table(entry, place)
        _only(told, _RULE_KEYS, place)
        operation = _one_of(Operation, told.get("operation"), (*place, "operation"))
        tier = told.get("tier")
        if tier is not None and tier not in tiers:
            raise _Fault((*place, "tier"), f"{tier!r} is no tier; there is {', '.join(tiers)}")
        asset = self._asset(told["asset"], (*place, "asset")) if "asset" in told else None
        units = {}
        for key in ("flat", "minimum", "maximum"):
            if key in told and asset is None:
                raise _Fault((*place, key), f"{key} is an amount of the asset moved: name the rule's asset")
            if key in told and asset is not None:
                units[key] = _amount(told[key], asset, (*place, key))
        if not {"flat", "percent", "minimum"} & told.keys():
            raise _Fault(place, 'nothing is told: give flat, percent or minimum (percent = "0": free)')
        if "maximum" in units and units["maximum"] < units.get("minimum", 0):
            raise _Fault((*place, "maximum"), "the maximum is below the minimum")
        if "maximum" in units and units["maximum"] < units.get("flat", 0):
            raise _Fault((*place, "maximum"), "the maximum is below the flat part, which could never be taken")
        return Rule(
            name=f"fees[{number + 1}]",
            operation=operation,
            tier=tier,
            asset=None if asset is None else asset.code,
            place=self._where(told, operation, place),
            percent=_percent(told["percent"], (*place, "percent")) if "percent" in told else NOTHING,
            **units,
        )

    def _where(self, told: Mapping[str, Any], operation: Operation, place: _Place) -> str | None:
        """The network or the rail that a rule is for."""
        for key, operations in (("network", ON_NETWORKS), ("rail", ON_RAILS)):
            if key in told:
                if operation not in operations:
                    raise _Fault((*place, key), f"a {operation} goes over no {key}: leave it out")
                if told[key] not in (known := self._places[operation]):
                    there = ", ".join(sorted(known)) or "none"
                    raise _Fault((*place, key), f"{told[key]!r} is no {key} of a {operation} here; there is {there}")
                return str(told[key])
        return None

    # Parts

    def _asset(self, code: object, place: _Place) -> Asset:
        if not isinstance(code, str) or code not in self._assets:
            raise _Fault(place, f"{code!r} is no asset; there is {', '.join(sorted(self._assets))}")
        return self._assets[code]

    def _in_reference(self, told: object, place: _Place) -> int:
        if self._reference is None:
            raise _Fault(place, 'this is told in the reference, and there is none: write reference = "EUR" at the top')
        return _amount(told, self._reference, place, least=1)


def _ambiguous(rules: list[Rule], one: Rule, other: Rule) -> _Fault:
    place: _Place = ("fees", rules.index(other))
    if one.named == other.named:
        return _Fault(place, f"{one.name} and {other.name} are for the same: keep one of them")
    both = ", ".join(f"{kind} {name}" for kind, name in {**one.named, **other.named}.items())
    return _Fault(
        place,
        f"{one.name} and {other.name} both fit a {one.operation} ({both}), and neither is more specific: add a rule for"
        " just that",
    )


def _percent(told: object, place: _Place) -> Percent:
    found = _PERCENT.fullmatch(told) if isinstance(told, str) else None
    if found is None:
        raise _Fault(place, f'a percentage is a decimal string such as "0.35", not {told!r}')
    whole, decimals = found.group(1), found.group(2) or ""
    units = int(whole + decimals)
    if units > 100 * 10 ** len(decimals):
        raise _Fault(place, "a fee is at most 100 percent")
    return percent(str(told), units, len(decimals))


def _amount(told: object, asset: Asset, place: _Place, *, least: int = 0) -> int:
    if not isinstance(told, str):
        raise _Fault(place, f'an amount is a decimal string such as "12.50", not {told!r}')
    try:
        return parse_amount(told, asset, least=least)
    except Rejected as error:
        raise _Fault(place, error.message) from None


def _one_of(kind: Any, told: object, place: _Place) -> Any:
    if not isinstance(told, str) or told not in list(kind):
        raise _Fault(place, f"{told!r} is none of {', '.join(kind)}")
    return kind(told)


def _table(told: object, place: _Place) -> Mapping[str, Any]:
    if not isinstance(told, dict):
        raise _Fault(place, "is no table")
    return told


def _only(table: Mapping[str, object], known: frozenset[str], place: _Place) -> None:
    if unknown := sorted(set(table) - known):
        raise _Fault((*place, unknown[0]), f"unknown key; known are {', '.join(sorted(known))}")


def line_of(text: str, place: _Place) -> int | None:
    """The line, from 1, of the innermost part of `place` that is found: a rule by its number, a tier's tables by name.

    Keys may be dotted (`limits.out`) or stand in an inline table; then it's the line where the outer one is.
    """
    lines = text.splitlines()
    match place:
        case ("fees", int(number), *rest):
            heads = [at for at, line in enumerate(lines) if re.match(r"\s*\[\[\s*fees\s*\]\]", line)]
            if number >= len(heads):
                return None
            return _key(lines, heads[number] + 1, rest) or heads[number] + 1
        case ("tiers", *rest):
            for length in range(len(rest), -1, -1):
                head = r"\s*\.\s*".join(re.escape(str(part)) for part in ("tiers", *rest[:length]))
                for at, line in enumerate(lines):
                    if re.match(rf"\s*\[\s*{head}\s*\]", line):
                        return _key(lines, at + 1, rest[length:]) or at + 1
            return None
        case _:
            return _key(lines, 0, place)


def _key(lines: list[str], start: int, path: Collection[str | int]) -> int | None:
    """The line of the longest beginning of a (dotted) key in the table whose content begins at `start`, from 0."""
    parts = [str(part) for part in path]
    for length in range(len(parts), 0, -1):
        key = r"\s*\.\s*".join(re.escape(part) for part in parts[:length])
        for at in range(start, len(lines)):
            if re.match(r"\s*\[", lines[at]):
                break
            if re.match(rf"\s*{key}\s*(=|\.)", lines[at]):
                return at + 1
    return None
