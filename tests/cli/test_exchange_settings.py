"""Sources of rates that are configured wrongly are refused with file, line and reason."""

from pathlib import Path

import pytest

from base.errors import ConfigError
from wiring.settings import load_settings

HEAD = """
[[assets]]
code = "ETH"
kind = "crypto"
scale = 18

[[assets]]
code = "USD"
kind = "fiat"
scale = 2

[exchange]
reference = "USD"

[[exchange.sources]]
name = "feed"
kind = "http"
"""

ETHER = '{ base = "ETH", quote = "USD", rate = "/0" }'
TURNED = '{ base = "USD", quote = "ETH", rate = "/1" }'
UNKNOWN = '{ base = "ETHH", quote = "USD", rate = "/0" }'


@pytest.mark.parametrize(
    ("url", "pairs", "reason"),
    [
        ("https://rates.example/", [ETHER, ETHER], "ETH and USD must be two, and once in a source"),
        ("https://rates.example/", [ETHER, TURNED], "USD and ETH must be two, and once in a source"),
        ("https://rates.example/", [UNKNOWN], "no asset ETHH"),
        ("http://localhost:80@rates.example/", [ETHER], "plain http only on this machine"),
        ("https://[rates.example/", [ETHER], "this is no URL"),
    ],
)
def test_a_source_that_cant_be_meant_is_refused(tmp_path: Path, url: str, pairs: list[str], reason: str):
    (tmp_path / "onebook.toml").write_text(f'{HEAD}url = "{url}"\npairs = [{", ".join(pairs)}]\n')
    with pytest.raises(ConfigError) as refused:
        load_settings(tmp_path / "onebook.toml")
    assert reason in str(refused.value)
    assert "onebook.toml" in str(refused.value)


def test_plain_http_is_for_this_machine(tmp_path: Path):
    (tmp_path / "onebook.toml").write_text(f'{HEAD}url = "http://[::1]:8080/rates"\npairs = [{ETHER}]\n')
    assert load_settings(tmp_path / "onebook.toml").exchange.sources[0].name == "feed"


def test_an_assets_exposure_is_told_once(tmp_path: Path):
    bounds = "".join(f'[[exchange.exposures]]\nasset = "ETH"\n{bound}\n' for bound in ('least = "1"', 'most = "9"'))
    head = HEAD.partition("[[exchange.sources]]")[0]
    (tmp_path / "onebook.toml").write_text(head + bounds)
    with pytest.raises(ConfigError, match="ETH has its bounds already"):
        load_settings(tmp_path / "onebook.toml")
