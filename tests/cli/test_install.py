"""A new installation with several networks: by `install`, and as `onebook init` is asked for it."""

import json
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from base.clock import ManualClock
from base.entropy import SeededEntropy
from base.errors import ConfigError
from cli.install import BankChoice, ChainChoice, install
from custody.keystore import Argon2Cost
from custody.policy_file import parse
from db.server import clean
from tests.support.chain import RunningChain, start_local_chain
from tests.support.command import onebook
from wiring.parts import build_registry
from wiring.settings import Settings, load_settings

QUICK = Argon2Cost(memory_kib=64, passes=1, lanes=1)
USDC, DAI = "0x" + "22" * 20, "0x" + "33" * 20
ONE = ChainChoice("one", "http://127.0.0.1:1", 31_337, "0x" + "11" * 32, {"USDC": (USDC, 6)}, 2, 4)
TWO = ChainChoice("two", "http://127.0.0.1:2", 31_338, "0x" + "12" * 32, {"USDC": (USDC, 6), "DAI": (DAI, 18)}, 1, 3)
BOTH = (
    "--chain-url",
    "http://127.0.0.1:1",
    "--network",
    "one",
    "--chain-url",
    "http://127.0.0.1:2",
    "--network",
    "two",
)


def installed(home: Path, *chains: ChainChoice, banks: tuple[BankChoice, ...] = ()) -> Settings:
    made = install(
        home,
        passphrase=b"of the test",
        chains=chains,
        banks=banks,
        clock=ManualClock(datetime(2026, 1, 1, tzinfo=UTC)),
        entropy=SeededEntropy(1),
        cost=QUICK,
    )
    return load_settings(made.config)


def test_one_asset_may_be_on_two_networks(tmp_path):
    registry = build_registry(installed(tmp_path, ONE, TWO))
    assert registry.network("one").final_depth == 4
    assert registry.network("two").final_depth == 3
    assert [registry.by_asset(name, "USDC").contract for name in ("one", "two")] == [USDC, USDC]
    assert [registry.by_asset(name, "ETH").contract for name in ("one", "two")] == [None, None]
    assert registry.by_asset("two", "DAI").decimals == 18


def test_a_day_may_move_as_many_whole_tokens_whatever_their_decimals(tmp_path):
    installed(tmp_path, ONE, TWO)
    policy = parse((tmp_path / "policy.toml").read_text())
    limits = {(rule.chain_id, rule.asset): rule.per_day for rule in policy.rules if rule.name.startswith("hot pays")}
    millions = {(31_337, USDC): 10**12, (31_338, USDC): 10**12, (31_338, DAI): 10**24}
    assert limits == millions | dict.fromkeys(((31_337, "native"), (31_338, "native")), 100 * 10**18)


def test_what_a_bank_account_or_token_is_of_can_be_held_and_has_a_rate(tmp_path):
    banks = (BankChoice("pounds", "NL03MOCK0000000006", "GBP"),)
    plain, more = installed(tmp_path / "plain", ONE), installed(tmp_path / "more", TWO, banks=banks)
    assert [asset.code for asset in plain.assets] == ["USD", "EUR", "USDC", "ETH"]
    assert [asset.code for asset in more.assets] == ["USD", "EUR", "GBP", "USDC", "DAI", "ETH"]
    rates = tomllib.loads((tmp_path / "more" / "rates.toml").read_text())
    assert {pair["base"] for pair in rates["pairs"]} == {asset.code for asset in more.assets} - {"USD"}


@pytest.mark.parametrize(
    ("chains", "banks", "said"),
    [
        ((ONE, ONE), (), "two networks have the same name: one, one"),
        ((ONE, ChainChoice("two", "", 31_337, "", {}, 1, 1)), (), "two networks have the same chain id"),
        ((ChainChoice("one", "", 1, "", {"POL": (USDC, 18)}, 1, 1),), (), "POL isn't known by name"),
        ((), (BankChoice("main", "NL30MOCK0000000005", "CHF"),), "CHF isn't known by name"),
    ],
)
def test_what_cannot_be_installed_is_refused_before_anything_is_written(tmp_path, chains, banks, said):
    with pytest.raises(ConfigError, match=said):
        installed(tmp_path / "house", *chains, banks=banks)
    assert not (tmp_path / "house").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--network", "one"), "--network once for each --chain-url: 1 for 0"),
        (("--chain-url", "http://127.0.0.1:1", "--chain-url", "http://127.0.0.1:2"), "--network once for each"),
        (("--chain-url", "http://127.0.0.1:1", "--start-height", "1", "--start-height", "2"), "2 for 1"),
        (
            (*BOTH, "--token", f"USDC={USDC}:6"),
            "on which network? Write ASSET=0xCONTRACT:DECIMALS@NETWORK",
        ),
        (("--chain-url", "http://127.0.0.1:1", "--token", f"USDC={USDC}:6@two"), "on which network?"),
        (("--chain-url", "http://127.0.0.1:1", "--token", f"USDC={USDC}@evm"), "is no token"),
    ],
)
def test_init_says_in_one_line_which_options_do_not_belong_together(tmp_path, arguments, said):
    ended = onebook("init", "house", *arguments, cwd=tmp_path, environment={"ONEBOOK_SIGNER_PASSPHRASE": "of the test"})
    told = [line for line in ended.stderr.splitlines() if "warning" not in line]
    assert (ended.returncode, len(told)) == (2, 1), ended.stderr
    assert said in told[0]
    assert not (tmp_path / "house").exists()


@pytest.fixture
def chains(tmp_path: Path) -> Iterator[tuple[RunningChain, RunningChain]]:
    with ExitStack() as stack:
        one, two = (stack.enter_context(start_local_chain(tmp_path / name)) for name in ("one", "two"))
        yield one, two


@pytest.mark.slow
def test_init_makes_an_installation_of_two_networks(tmp_path, chains):
    one, two = chains
    one.mine(3)
    arguments = ["init", "house", "--json", "--depth", "5", "--bank", "pounds=NL03MOCK0000000006:GBP"]
    for name, chain in (("one", one), ("two", two)):
        arguments += ["--chain-url", chain.url, "--network", name, "--token", f"USDC={chain.token('USDC')}:6@{name}"]
    arguments += ["--token", f"DAI={two.token('DAI')}:18@two"]
    try:
        ended = onebook(*arguments, cwd=tmp_path, environment={"ONEBOOK_SIGNER_PASSPHRASE": "of the test"})
        assert ended.returncode == 0, ended.stderr
        assert json.loads(ended.stdout)["operator_key"].startswith("ob_")
        settings = load_settings(tmp_path / "house" / "onebook.toml")
    finally:
        clean(tmp_path / "house" / "postgres")
    assert [(net.name, net.chain_id, net.start_height, net.final_depth) for net in settings.networks] == [
        ("one", one.chain_id, one.height(), 10),
        ("two", two.chain_id, two.height(), 10),
    ]
    found = {(placed.asset, placed.network) for placed in settings.deployments}
    assert found == {("USDC", "one"), ("ETH", "one"), ("USDC", "two"), ("DAI", "two"), ("ETH", "two")}
    assert parse((tmp_path / "house" / "policy.toml").read_text()).networks == {one.chain_id, two.chain_id}
