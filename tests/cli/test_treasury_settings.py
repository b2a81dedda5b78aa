"""Settings of reconciliation and of what is moved by hand: what they come to, what is refused with file and line."""

import re
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest

from base.errors import ConfigError
from treasury.break_alerts import AGED_AFTER
from treasury.operations.manual_limits import ManualLimit, ManualLimits
from treasury.records import BreakReason
from treasury.timing import Timing
from wiring.operations import manual_limits
from wiring.settings import Settings, load_settings

ASSETS = """
[[assets]]
code = "EUR"
kind = "fiat"
scale = 2

[[assets]]
code = "ETH"
kind = "crypto"
scale = 18
"""
FIRST_LINE = ASSETS.count("\n") + 1
"""Where a table's heading stands; a fault names it, or the line of a key below it."""


def load(folder, text: str) -> Settings:
    (folder / "onebook.toml").write_text(ASSETS + text)
    return load_settings(folder / "onebook.toml")


def test_without_settings_reconciliation_goes_on_as_ever(tmp_path):
    timing = load(tmp_path, "").reconciliation.timing()
    assert timing == Timing(
        every=timedelta(seconds=10),
        at_least_every=timedelta(minutes=1),
        rails_every=timedelta(minutes=1),
        unbooked_after=timedelta(minutes=10),
        runs_all=timedelta(hours=1),
        runs_kept=timedelta(days=90),
        samples_all=timedelta(days=2),
        samples_kept=timedelta(days=400),
        critical_after=AGED_AFTER,
    )
    assert timing.critical_after[BreakReason.CHAIN_DIFFERS] == timedelta(hours=1)


def test_every_time_can_be_set_and_one_kind_leaves_the_others(tmp_path):
    text = '[reconciliation]\nevery = "30s"\nat_least_every = "5m"\nrails_every = "2h"\nruns_kept = "400d"\n'
    text += '[reconciliation.critical_after]\nbank_differs = "4d"\n'
    timing = load(tmp_path, text).reconciliation.timing()
    assert (timing.every, timing.at_least_every) == (timedelta(seconds=30), timedelta(minutes=5))
    assert (timing.rails_every, timing.runs_kept) == (timedelta(hours=2), timedelta(days=400))
    assert timing.critical_after == {**AGED_AFTER, BreakReason.BANK_DIFFERS: timedelta(days=4)}


TIMES = "a time above zero, as a whole number and a unit"
WRONG = [
    # table, line, what is wrong with it
    ("reconciliation", 'every = "0s"', TIMES),
    ("reconciliation", 'every = "-5s"', TIMES),
    ("reconciliation", "every = 10", TIMES),
    ("reconciliation", 'samples_kept = "1y"', TIMES),
    ("reconciliation", 'runs_kept = "1.5d"', TIMES),
    ("reconciliation", 'every = "2m"', "every is longer than at_least_every"),
    ("reconciliation", 'runs_all = "91d"', "runs_all is longer than runs_kept"),
    ("reconciliation", 'samples_kept = "1d"', "samples_all is longer than samples_kept"),
    ("reconciliation", 'evry = "30s"', "Extra inputs are not permitted"),
    ("reconciliation.critical_after", 'chain_difers = "1h"', "there is no kind of break chain_difers"),
    ("reconciliation.critical_after", 'chain_differs = "0m"', TIMES),
    ("reconciliation.critical_after", 'counter_drift = "1h"', "it's critical at once"),
    ("treasury.manual_worth", 'per_day = "1.00"', "there is no [exchange] reference"),
    ("treasury.manual_worth", 'asset = "XYZ"', "there is no asset XYZ"),
    ("treasury.manual_worth", 'asset = "EUR"', "without any it limits nothing"),
    ("treasury.manual_worth", 'asset = "EUR"\nper_day = "1.001"', "manual_worth.per_day"),
    ("treasury.manual_worth", 'asset = "EUR"\nper_entry = "-1"', "manual_worth.per_entry"),
]


@pytest.mark.parametrize(("table", "line", "words"), WRONG)
def test_what_makes_no_sense_is_refused_with_its_place(tmp_path, table, line, words):
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, f"[{table}]\n{line}\n")
    assert words in refused.value.message
    assert re.search(rf"onebook\.toml:({FIRST_LINE}|{FIRST_LINE + 1}|{FIRST_LINE + 2}): {table}", refused.value.message)


def test_limits_by_hand_are_told_in_smallest_units_with_the_exchanges_reference_where_none_is_named(tmp_path):
    text = '[treasury]\ntime_zone = "Europe/Berlin"\n[treasury.manual_worth]\nper_entry = "12.50"\n'
    text += '[[treasury.manual]]\nasset = "ETH"\nper_day = "0.5"\n[exchange]\nreference = "EUR"\n'
    limits = manual_limits(load(tmp_path, text))
    assert limits.worth is not None
    assert (limits.worth.reference.code, limits.worth.limit) == ("EUR", ManualLimit(per_entry=12_50))
    assert (limits.by_asset, limits.zone) == ({"ETH": ManualLimit(per_day=5 * 10**17)}, ZoneInfo("Europe/Berlin"))
    assert manual_limits(load(tmp_path, "")) == ManualLimits({}, ZoneInfo("UTC"))


def test_an_assets_second_limit_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="EUR has a limit already"):
        load(tmp_path, '[[treasury.manual]]\nasset = "EUR"\n[[treasury.manual]]\nasset = "EUR"\n')
