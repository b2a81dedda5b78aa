"""What was measured, as Prometheus' gauges; the list of them is docs/operations/metrics.md. Pure.

Amounts are in whole units of their asset. A gauge is a float, so a figure may be off in its sixteenth digit; exact ones
are those of `onebook positions`.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from prometheus_client.core import GaugeMetricFamily

from db.queues import Waiting
from ledger.money import Asset
from treasury.lags import Lags
from treasury.position import FIGURES, Outside
from treasury.positions import Standing
from treasury.records import BreakReason
from treasury.valuing import Valuation
from wiring.measures import Measured

SETTLING = frozenset({"withdrawals", "own_transactions", "settlements"})
"""Queues whose oldest tells how far a network or a provider is behind with settling."""


def gauges(measured: Measured) -> Iterator[GaugeMetricFamily]:
    """All of them."""
    yield _one("onebook_measured_timestamp_seconds", "When all of this was measured.", measured.at.timestamp())
    yield from _of_positions(measured.standing)
    if measured.standing.valuation is not None:
        yield from _of_values(measured.standing.valuation)
    yield from _of_lags(measured.lags, measured.at)
    yield from _of_breaks(measured.lags, measured.at)
    yield from _of_queues(measured.queues, measured.at)


def _of_positions(standing: Standing) -> Iterator[GaugeMetricFamily]:
    assets = standing.assets
    figures = _family("onebook_position", "A figure of an asset's position.", "asset", "figure")
    balanced = _family("onebook_balanced", "1 while the asset's figures add up.", "asset")
    covered = _family("onebook_covered", "1 while what is held reaches for what is owed and on its way out.", "asset")
    ratio = _family("onebook_coverage_ratio", "Held, of what is owed and on its way out.", "asset")
    custody = _family("onebook_custody", "Held by own addresses of a role.", "asset", "network", "role")
    banks = _family("onebook_bank_balance", "Held at a bank account, by the book.", "asset", "account")
    providers = _family("onebook_provider_balance", "Held at a payment provider, by the book.", "asset", "provider")
    transit = _family("onebook_in_transit", "On its way over a network or rail.", "asset", "place", "direction")
    for position in standing.positions:
        asset = assets[position.asset]
        for figure in FIGURES:
            figures.add_metric([asset.code, figure], _units(getattr(position, figure), asset))
        balanced.add_metric([asset.code], float(position.balanced))
        covered.add_metric([asset.code], float(position.covered))
        if position.coverage.whole > 0:
            ratio.add_metric([asset.code], position.coverage.part / position.coverage.whole)
        for place in position.custody:
            custody.add_metric([asset.code, place.network, place.role], _units(place.amount, asset))
        _add(banks, position.banks, asset)
        _add(providers, position.providers, asset)
        for way in position.transits:
            transit.add_metric([asset.code, way.place, way.direction], _units(way.amount, asset))
    yield from (figures, balanced, covered, ratio, custody, banks, providers, transit)
    yield from _of_hot(standing)


def _add(family: GaugeMetricFamily, places: Iterable[Outside], asset: Asset) -> None:
    for place in places:
        family.add_metric([asset.code, place.name], _units(place.amount, asset))


def _of_hot(standing: Standing) -> Iterator[GaugeMetricFamily]:
    labels = ("asset", "network")
    held = _family("onebook_hot", "Held by hot addresses.", *labels)
    share = _family("onebook_hot_share_ratio", "The hot addresses' share of what own addresses hold.", *labels)
    floor = _family("onebook_hot_floor", "What must lie at hot addresses.", *labels)
    target = _family("onebook_hot_target", "What is to lie at hot addresses.", *labels)
    for hot in standing.hot:
        place, asset = [hot.asset, hot.network], standing.assets[hot.asset]
        held.add_metric(place, _units(hot.hot, asset))
        if hot.custody > 0:
            share.add_metric(place, hot.hot / hot.custody)
        if hot.floor is not None:
            floor.add_metric(place, _units(hot.floor, asset))
        if hot.target is not None:
            target.add_metric(place, _units(hot.target, asset))
    coins = _family("onebook_gas_coins", "Coins where a network's gas is paid from.", *labels)
    days = _family("onebook_gas_runway_days", "How long they last at the pace of the last week.", *labels)
    for runway in standing.runways:
        place = [runway.asset, runway.network]
        coins.add_metric(place, _units(runway.coins, standing.assets[runway.asset]))
        if runway.tenths is not None:
            days.add_metric(place, runway.tenths / 10)
    yield from (held, share, floor, target, coins, days)


def _of_values(valuation: Valuation) -> Iterator[GaugeMetricFamily]:
    unit = valuation.reference
    values = _family("onebook_position_value", "A figure's worth in one asset.", "asset", "figure", "reference")
    sums = _family("onebook_value", "A figure's worth over all assets that have a rate.", "figure", "reference")
    unvalued = _family("onebook_unvalued", "1 for an asset that has no rate: it's in no sum.", "asset")
    for asset, figures in valuation.values.items():
        for figure, value in figures.items():
            values.add_metric([asset, figure, unit.code], _units(value, unit))
    for figure, value in valuation.totals.items():
        sums.add_metric([figure, unit.code], _units(value, unit))
    for asset in valuation.unvalued:
        unvalued.add_metric([asset], 1)
    yield from (values, sums, unvalued)
    if valuation.age is not None:
        yield _one("onebook_rates_age_seconds", "Age of the oldest rate in them.", valuation.age.total_seconds())


def _of_lags(lags: Lags, now: datetime) -> Iterator[GaugeMetricFamily]:
    height = _family("onebook_chain_height", "The newest block that was taken in.", "network")
    final = _family("onebook_chain_final_height", "The newest of them that is final.", "network")
    blocks = _family("onebook_follower_lag_blocks", "Blocks that a node told of and weren't taken in.", "network")
    seconds = _family("onebook_follower_lag_seconds", "Age of the newest block that was taken in.", "network")
    halted = _family("onebook_chain_halted", "1 while the network is halted.", "network")
    for follower in lags.followers:
        at = follower.status
        height.add_metric([at.network], at.height)
        final.add_metric([at.network], at.final_height)
        blocks.add_metric([at.network], at.behind)
        halted.add_metric([at.network], float(at.halted is not None))
        if follower.block_at is not None:
            seconds.add_metric([at.network], _age(follower.block_at, now))
    statement = _family("onebook_statement_lag_seconds", "Since the end of a bank statement's last day.", "account")
    for lag in lags.statements:
        statement.add_metric([lag.account], lag.at(now).total_seconds())
    yield from (height, final, blocks, seconds, halted, statement)
    yield _one("onebook_unsealed_commands", "Commands of the book that no seal covers.", lags.unsealed)
    age = 0.0 if lags.unsealed_since is None else _age(lags.unsealed_since, now)
    yield _one("onebook_unsealed_seconds", "Age of the oldest of them; 0: none.", age)
    yield _one("onebook_epoch", "The newest epoch of proofs of solvency; 0: none.", lags.epoch)
    if lags.epoch_at is not None:
        yield _one("onebook_epoch_age_seconds", "Its age.", _age(lags.epoch_at, now))


def _of_breaks(lags: Lags, now: datetime) -> Iterator[GaugeMetricFamily]:
    standing = {one.reason: one for one in lags.breaks}
    counts = _family("onebook_breaks", "Breaks that stand.", "kind", "explained")
    oldest = _family("onebook_break_oldest_seconds", "Age of the oldest break of a kind; 0: none.", "kind")
    for reason in BreakReason:
        one = standing.get(reason)
        counts.add_metric([reason, "true"], 0 if one is None else one.explained)
        counts.add_metric([reason, "false"], 0 if one is None else one.count - one.explained)
        oldest.add_metric([reason], 0 if one is None else _age(one.oldest, now))
    yield from (counts, oldest)
    if lags.run is not None:
        judged = _family("onebook_reconcile_judged", "1 if the newest run could compare it, 0 if it couldn't.", "place")
        for place in lags.run.networks:
            judged.add_metric([place.network], float(place.skipped is None))
        yield judged
        yield _one("onebook_reconcile_checks", "What the newest run compared.", lags.run.checks)
        yield _one("onebook_reconcile_age_seconds", "Its age.", _age(lags.run.finished_at, now))


def _of_queues(waiting: Sequence[Waiting], now: datetime) -> Iterator[GaugeMetricFamily]:
    labels = ("queue", "place", "state")
    counts = _family("onebook_queue_items", "What waits in a queue.", *labels)
    oldest = _family("onebook_queue_oldest_seconds", "How long the oldest of it has waited.", *labels)
    settling = _family("onebook_settlement_lag_seconds", "Age of the oldest payment that isn't final.", "place")
    lags: dict[str, float] = {}
    for one in waiting:
        place, age = [one.queue, one.place, one.state], 0.0 if one.oldest is None else _age(one.oldest, now)
        counts.add_metric(place, one.count)
        oldest.add_metric(place, age)
        if one.queue in SETTLING and one.place:
            lags[one.place] = max(lags.get(one.place, 0.0), age)
    for where, lag in sorted(lags.items()):
        settling.add_metric([where], lag)
    yield from (counts, oldest, settling)


def _age(at: datetime, now: datetime) -> float:
    return max(0.0, (now - at).total_seconds())


def _units(amount: int, asset: Asset) -> float:
    """Whole units: the float nearest to the exact figure."""
    return float(amount / 10**asset.scale)


def _family(name: str, words: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, words, labels=labels)


def _one(name: str, words: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, words, value=value)
