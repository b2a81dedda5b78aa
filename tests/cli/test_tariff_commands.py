"""`onebook tariff`: what can be put in force, what is, and what something costs by it."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from base.clock import SystemClock
from ledger.money import Asset, AssetKind
from ledger.service import PostgresLedger
from tariff.schedule import Tier
from tariff.tiers import Tiers
from tests.api.conftest import RATES
from tests.cli.test_commands import installed
from tests.support import forked
from tests.support.command import onebook
from tests.support.postgres import Database
from wiring.settings import load_settings
from wiring.tariffs import load_tariff

pytestmark = pytest.mark.slow

TARIFF = """
default_tier = "standard"
reference = "USD"
[tiers.standard]
limits.out = { day = "100.00" }
free.transfer = { operations = 3, value = "50.00" }
account_fee = { asset = "EUR", amount = "2.00", short = "owe" }
[tiers.verified]
[[fees]]
operation = "withdrawal"
asset = "USDC"
flat = "0.50"
percent = "0.35"
maximum = "1.00"
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return installed(tmp_path / "wallet").parent


def run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return onebook("tariff", *arguments, cwd=home)


def test_a_new_installation_charges_and_limits_nothing_and_shows_how(home):
    settings = load_settings(home / "onebook.toml")
    tariff = load_tariff(settings)
    assert (tariff.tiers, tariff.is_empty) == ({"standard": Tier("standard")}, True)
    assert run(home, "check", "tariff.toml").returncode == 0
    written = (home / "tariff.toml").read_text()
    lines = [
        line[2:] if line.startswith("# ") and ("=" in line or "[" in line) else line for line in written.splitlines()
    ]
    (home / "all.toml").write_text(
        "\n".join(line for line in lines if not line.startswith("# ")).replace("Of the", "# Of")
    )
    told = run(home, "check", "all.toml")
    assert (told.returncode, told.stdout.strip()) == (0, "all.toml: 2 tiers, 2 rules"), told.stderr


def test_a_tariff_is_refused_with_its_line_before_it_is_in_force(home):
    (home / "next.toml").write_text(TARIFF + '[[fees]]\noperation = "transfer"\npercent = 0.35\n')
    told = run(home, "check", "next.toml")
    assert told.returncode == 2
    assert 'next.toml:17: fees[2].percent: a percentage is a decimal string such as "0.35", not 0.35' in told.stderr


def test_a_reference_that_no_rate_reaches_is_told(home):
    (home / "next.toml").write_text(TARIFF)
    assert run(home, "check", "next.toml").returncode == 0
    (home / "rates.toml").write_text(RATES.replace('"USD"', '"XAU"'))
    told = run(home, "check", "next.toml")
    assert told.returncode == 1
    assert "limits can't be told of USDC: there is no rate from it to USD, the tariff's reference" in told.stdout
    (home / "tariff.toml").write_text(TARIFF)
    found = json.loads(onebook("doctor", "--json", cwd=home).stdout)
    assert any(one["what"] == "tariff" and one["verdict"] == "missing" for one in found)


def test_what_is_in_force_is_shown(home):
    (home / "tariff.toml").write_text(TARIFF)
    shown = json.loads(run(home, "show", "--json").stdout)
    assert shown["rules"] == [
        {
            "rule": "fees[1]",
            "operation": "withdrawal",
            "for": "asset USDC",
            "costs": "0.50 flat, 0.35 %, at most 1.00",
        }
    ]
    assert shown["tiers"]["standard"] == {
        "limits": {"out": "day 100.00 USD"},
        "free": {"transfer": "3 operations and 50.00 USD a month"},
        "account": {"fee": "2.00 EUR a month; short: owe"},
    }
    assert "tier standard (default)" in run(home, "show").stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ("withdrawal", "USDC", "33.333333"),
            {"rule": "fees[1]", "fee": "0.616667", "why": "0.50 flat + 0.35 % of 33.333333 = 0.116667", "free": None},
        ),
        (
            ("withdrawal", "USDC", "1000.00", "--tier", "verified"),
            {"tier": "verified", "fee": "1.00", "why": "0.50 flat + 0.35 % of 1000.00 = 3.50, at most 1.00"},
        ),
        (("transfer", "EUR", "10.00"), {"rule": None, "fee": "0.00", "free": "3 operations and 50.00 USD a month"}),
    ],
)
def test_a_fee_is_explained_step_by_step(home, arguments, expected):
    (home / "tariff.toml").write_text(TARIFF)
    told = json.loads(run(home, "explain", *arguments, "--json").stdout)
    assert {name: told[name] for name in expected} == expected


def test_older_settings_are_explained_too(home):
    config = home / "onebook.toml"
    config.write_text("transfer_fee_basis_points = 35\n" + config.read_text())
    told = json.loads(run(home, "explain", "transfer", "EUR", "10.00", "--json").stdout)
    assert (told["rule"], told["fee"]) == ("transfer_fee_basis_points", "0.04")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("swap", "EUR", "1.00"), "'swap' is no operation; there is transfer"),
        (("transfer", "DOGE", "1.00"), "'DOGE' is no asset here"),
        (("transfer", "EUR", "1.00", "--tier", "gold"), "'gold' is no tier; there is standard"),
    ],
)
def test_what_it_doesnt_know_is_named(home, arguments, says):
    told = run(home, "explain", *arguments)
    assert told.returncode == 2
    assert says in told.stderr


CONFIG = """
[[assets]]
code = "EUR"
kind = "fiat"
scale = 2
"""


@pytest.mark.parametrize("module", ["api.serve", "worker.run"])
async def test_nothing_starts_while_users_are_in_a_tier_that_the_file_lost(tmp_path, database: Database, module):
    ledger = PostgresLedger(database.engine(), clock=SystemClock())
    await ledger.create_book()
    await ledger.register_asset(Asset("EUR", AssetKind.FIAT, 2))
    (tmp_path / "onebook.toml").write_text(CONFIG)
    (tmp_path / "rates.toml").write_text(RATES)
    (tmp_path / "tariff.toml").write_text('default_tier = "standard"\n[tiers.standard]\n[tiers.gold]\n')
    tariff = load_tariff(load_settings(tmp_path / "onebook.toml"))
    tiers = Tiers(database.engine(), book="main", tariff=tariff, clock=SystemClock())
    await tiers.change("usr_alice", to="gold", reason="asked", by="key_1")
    (tmp_path / "tariff.toml").unlink()
    env = os.environ | {"ONEBOOK_CONFIG": str(tmp_path / "onebook.toml"), "ONEBOOK_DATABASE_URL": database.app_url}
    ended = forked.run(f"{module}:main", [module], cwd=forked.PROJECT, env=env, timeout=60)
    assert ended.returncode == 2
    assert "users are in tiers that the tariff hasn't: gold (1 user)" in ended.stderr
