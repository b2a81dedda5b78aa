"""What several sources' rates come to: which are fresh, which agree, whether the result may be believed. Pure.

The median of the sources that are fresh and near to each other: one source that lies or stands still doesn't move it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

import msgspec

from exchange.rates import AHEAD, Doubt, Pair, PairName, Rates, Unknown, gaining_round
from exchange.ratios import BASIS_POINTS, of_fraction, parse_ratio, stored
from exchange.terms import Agreement, Terms


class Reading(msgspec.Struct, frozen=True):
    """What a source says of a pair: one whole `base` is worth `rate` (an exact ratio as text) whole `quote`."""

    source: str
    base: str
    quote: str
    rate: str
    as_of: datetime

    @property
    def value(self) -> Fraction:
        return parse_ratio(self.rate).fraction


class Believed(msgspec.Struct, frozen=True):
    """A pair's rate that was agreed on. `as_of`: the oldest reading in it; `at`: when it was believed last."""

    rate: str
    as_of: datetime
    sources: tuple[str, ...]
    at: datetime | None = None

    @property
    def believed_at(self) -> datetime:
        """A reading may be older than its snapshot by hours. Snapshots of before don't tell it."""
        return self.at or self.as_of


class Jump(msgspec.Struct, frozen=True):
    """A level that is far from what was believed, and since when it has been told."""

    rate: str
    since: datetime


class Snapshot(msgspec.Struct, frozen=True):
    """All that was known at `at`: what each source said, what is believed of it, and what waits to be.

    `failed`: sources that didn't answer, and why.
    """

    id: str
    at: datetime
    readings: tuple[Reading, ...]
    believed: Mapping[str, Believed]
    jumps: Mapping[str, Jump] = {}
    failed: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Judged:
    """What readings of one pair come to: a rate, or why there is none. `jump`: what waits to be believed."""

    believed: Believed | None
    unknown: Unknown | None
    jump: Jump | None = None


def pair_name(name: PairName) -> str:
    return f"{name[0]}/{name[1]}"


def judge(
    readings: Sequence[Reading], *, now: datetime, rule: Agreement, last: Believed | None, jump: Jump | None
) -> Judged:
    """Judge one pair's readings at `now`; `last` is what was believed of it before, `jump` what waited."""
    fresh = [one for one in readings if -AHEAD <= now - one.as_of <= rule.max_age]
    if len(fresh) < rule.sources_min:
        ages = {one.source: int((now - one.as_of).total_seconds()) for one in readings}
        return _unknown(Doubt.STALE, rule, len(fresh), ages=ages, max_age_seconds=int(rule.max_age.total_seconds()))
    middle = median(one.value for one in fresh)
    near = [one for one in fresh if off_basis_points(one.value, middle) <= rule.deviation_basis_points]
    if len(near) < rule.sources_min or 2 * len(near) <= len(fresh):
        off = {one.source: _rounded(off_basis_points(one.value, middle)) for one in fresh}
        told = {one.source: _shown(one.value) for one in fresh}
        bound = rule.deviation_basis_points
        return _unknown(Doubt.DEVIATING, rule, len(near), rates=told, off_basis_points=off, most_basis_points=bound)
    rate = median(one.value for one in near)
    found = Believed(
        rate=stored(of_fraction(rate)),
        as_of=min(one.as_of for one in near),
        sources=tuple(sorted(one.source for one in near)),
        at=now,
    )
    if last is None or (jump is None and now - last.believed_at > rule.jump_hold):
        return Judged(found, None)
    moved = off_basis_points(rate, parse_ratio(last.rate).fraction)
    if moved <= rule.jump_basis_points:
        return Judged(found, None)
    since, level = now, found.rate
    if jump is not None and off_basis_points(rate, parse_ratio(jump.rate).fraction) <= rule.jump_basis_points:
        since, level = jump.since, jump.rate  # measured from where it came to: what creeps on hasn't stayed
    if now - since >= rule.jump_hold:
        return Judged(found, None)
    unknown = Unknown(
        Doubt.JUMPED,
        {
            "rate": _shown(rate),
            "last_rate": _shown(parse_ratio(last.rate).fraction),
            "moved_basis_points": _rounded(moved),
            "most_basis_points": rule.jump_basis_points,
            "believed_at": (since + rule.jump_hold).isoformat(),
        },
    )
    return Judged(None, unknown, Jump(rate=level, since=since))


def take_snapshot(
    id: str,
    readings: Sequence[Reading],
    *,
    now: datetime,
    rule: Agreement,
    before: Snapshot | None,
    failed: Mapping[str, str] | None = None,
) -> Snapshot:
    """What these readings come to after `before`.

    What was believed of a pair stays on record while it's doubted: the next reading is compared with it.
    """
    believed: dict[str, Believed] = dict(before.believed) if before else {}
    jumps: dict[str, Jump] = {}
    for name, told in by_pair(readings, known=_pairs_of(before)).items():
        key = pair_name(name)
        judged = judge(
            told,
            now=now,
            rule=rule,
            last=before.believed.get(key) if before else None,
            jump=before.jumps.get(key) if before else None,
        )
        if judged.believed is not None:
            believed[key] = judged.believed
        elif judged.jump is not None:
            jumps[key] = judged.jump
    return Snapshot(id=id, at=now, readings=tuple(readings), believed=believed, jumps=jumps, failed=dict(failed or {}))


def rates_of(snapshot: Snapshot, *, now: datetime, terms: Terms) -> Rates:
    """The rates that may be used at `now`, with the terms' spreads. Pairs that contradict others aren't among them."""
    rule = terms.agreement
    pairs: dict[PairName, Pair] = {}
    unknown: dict[PairName, Unknown] = {}
    oldest = now
    for name, told in by_pair(snapshot.readings, known=_pairs_of(snapshot)).items():
        key = pair_name(name)
        judged = judge(told, now=now, rule=rule, last=snapshot.believed.get(key), jump=snapshot.jumps.get(key))
        if judged.believed is None:
            unknown[name] = judged.unknown or Unknown(Doubt.STALE, {})
            continue
        own = terms.pair(*name)
        pairs[name] = Pair(*name, parse_ratio(judged.believed.rate), own.spread_basis_points, own.tiers)
        oldest = min(oldest, judged.believed.as_of)
    for kept in _pairs_of(snapshot):  # told once, and by nobody any more
        base, _, quote = kept.partition("/")
        if (base, quote) not in pairs:
            unknown.setdefault(
                (base, quote), Unknown(Doubt.STALE, {"sources_usable": 0, "sources_min": rule.sources_min})
            )
    rates = Rates(snapshot.id, oldest, rule.max_age, terms.reference, pairs, unknown)
    while (gain := gaining_round(rates)) is not None:
        for name in [name for name in pairs if rates.pivot not in name and set(name) <= set(gain)] or list(pairs):
            del pairs[name]
            unknown[name] = Unknown(Doubt.CONTRADICTING, {"round": " to ".join(gain)})
    return rates


def by_pair(readings: Iterable[Reading], *, known: Collection[str] = ()) -> dict[PairName, list[Reading]]:
    """Readings by pair, one of each source: what it tells first.

    A pair that is told both ways round is one. It stands as it's `known` (names of pairs), whoever tells it first now:
    what was believed of it is found by its name. One that isn't known stands as it was told first.
    """
    found: dict[PairName, dict[str, Reading]] = {}
    for one in readings:
        name, turned = (one.base, one.quote), (one.quote, one.base)
        if turned in found or (pair_name(turned) in known and pair_name(name) not in known):
            rate = stored(parse_ratio(one.rate).inverse())
            one, name = msgspec.structs.replace(one, base=one.quote, quote=one.base, rate=rate), turned
        found.setdefault(name, {}).setdefault(one.source, one)
    return {name: list(told.values()) for name, told in found.items()}


def _pairs_of(snapshot: Snapshot | None) -> Collection[str]:
    """Names of the pairs that something was believed of."""
    return snapshot.believed.keys() if snapshot else ()


def median(values: Iterable[Fraction]) -> Fraction:
    """The middle one; of an even number, the middle between the two middle ones. Exact."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else Fraction(ordered[half - 1] + ordered[half], 2)


def off_basis_points(value: Fraction, middle: Fraction) -> Fraction:
    """How far `value` is from `middle`, in basis points of `middle`, exactly."""
    return Fraction(abs(value - middle), middle) * BASIS_POINTS


def _unknown(doubt: Doubt, rule: Agreement, usable: int, **facts: object) -> Judged:
    return Judged(None, Unknown(doubt, {"sources_usable": usable, "sources_min": rule.sources_min, **facts}))


def _rounded(value: Fraction) -> int:
    """Up, so that what is told to be too far is told to be beyond the bound."""
    return -(-value.numerator // value.denominator)


def _shown(value: Fraction) -> str:
    return str(of_fraction(value))
