"""What `onebook doctor` says of screening, and that a fault of the list or the settings is named with its line."""

import pytest

from base.errors import ConfigError
from cli.commands.doctor import Verdict, _screening_list
from tests.cli.test_token_settings import HEAD, load
from wiring.screening import listed_addresses

ADDRESS = "0x" + "1a" * 20


def told(settings) -> list[tuple[str, Verdict, str]]:
    return [(finding.what, finding.verdict, finding.text) for finding in _screening_list(settings)]


def with_list(path: str) -> str:
    return f'screening_list = "{path}"\n{HEAD}'


def test_the_doctor_says_that_nobody_is_screened_how_many_are_listed_and_what_is_wrong_with_a_list(tmp_path):
    ((what, verdict, text),) = told(load(tmp_path, ""))
    assert (what, verdict) == ("screening", Verdict.MIND)
    assert "nobody is asked about senders and recipients" in text
    assert told(load(tmp_path, "", head=HEAD.replace("[[networks]]", "[[networks]]\n" + oracle(ADDRESS)))) == []
    settings = load(tmp_path, "", head=with_list("listed.txt"))
    ((what, verdict, text),) = told(settings)
    assert (what, verdict) == ("screening list", Verdict.MISSING)
    assert f"{tmp_path / 'listed.txt'} can't be read: No such file" in text
    (tmp_path / "listed.txt").write_text(f"{ADDRESS}\n\nx\n")
    with pytest.raises(ConfigError, match=r"listed\.txt:3: 'x': an address is 0x"):
        listed_addresses(settings)
    (tmp_path / "listed.txt").write_text(f"{ADDRESS}\n")
    assert told(settings) == [("screening list", Verdict.FINE, "1 addresses")]


def oracle(address: str) -> str:
    return f'sanctions_oracle = "{address}"'


def test_an_oracle_at_no_address_is_refused_with_its_line(tmp_path):
    head = HEAD.replace('native_asset = "ETH"', 'native_asset = "ETH"\n' + oracle("0x12"))
    line = head[: head.index("sanctions_oracle")].count("\n") + 1
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, "", head=head)
    assert f"onebook.toml:{line}: networks.0.sanctions_oracle: " in refused.value.message
    assert "an address is 0x and 40 hexadecimal digits" in refused.value.message
