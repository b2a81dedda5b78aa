"""Settings of sweeps and refills: what they come to, and what is refused with file and line."""

from datetime import timedelta

import pytest

from base.errors import ConfigError
from tests.cli.test_token_settings import FIRST_LINE, deployment, load
from treasury.refills import Floor
from treasury.sweep_policy import SweepRule
from wiring.parts import build_registry
from wiring.sweeps import cold_addresses, hot_floors, sweep_rules

DOMAIN = '\nauthorisation = { name = "USD Coin", version = "2" }\n'


def test_thresholds_floors_and_domains_reach_who_sweeps(tmp_path):
    text = deployment(sweep_threshold="250.5", hot_floor="1000", hot_target="5000").rstrip("\n") + DOMAIN
    settings = load(tmp_path, text + "[sweeps]\nafter_hours = 5\n")
    registry = build_registry(settings)
    network = registry.network("local")
    rule = SweepRule(threshold=250_500_000, after=timedelta(hours=5))
    assert sweep_rules(settings, registry, network) == {"USDC": rule}
    assert hot_floors(settings) == {("local", "USDC"): Floor(1_000_000_000, 5_000_000_000)}
    assert cold_addresses(settings) == {"local": frozenset()}
    domain = registry.by_asset("local", "USDC").domain
    assert domain is not None
    assert (domain.name, domain.version) == ("USD Coin", "2")


def test_without_them_nothing_is_swept_or_asked_for(tmp_path):
    settings = load(tmp_path, deployment())
    registry = build_registry(settings)
    assert sweep_rules(settings, registry, registry.network("local")) == {}
    assert hot_floors(settings) == {}
    assert registry.by_asset("local", "USDC").domain is None


@pytest.mark.parametrize(
    ("keys", "line", "said"),
    [
        ({"sweep_threshold": "1.0000001"}, 5, "deployments.1.sweep_threshold"),
        ({"sweep_threshold": "much"}, 5, "deployments.1.sweep_threshold"),
        ({"hot_target": "5"}, 5, "give the hot_floor"),
    ],
)
def test_an_amount_that_cannot_be_is_refused_with_its_line(tmp_path, keys, line, said):
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, deployment(**keys))
    assert f"onebook.toml:{FIRST_LINE + line}" in str(refused.value)
    assert said in str(refused.value)


def test_a_target_below_its_floor_is_refused(tmp_path):
    settings = load(tmp_path, deployment(hot_floor="5", hot_target="4"))
    with pytest.raises(ConfigError, match="the target is below the floor"):
        hot_floors(settings)


def test_the_own_coin_is_not_swept_by_authorisation(tmp_path):
    with pytest.raises(ConfigError, match="the network's own coin pays its own gas"):
        load(tmp_path, 'authorisation = { name = "Ether", version = "1" }\n')
