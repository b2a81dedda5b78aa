"""Tokens that are configured wrongly are refused with file, line and reason, by the file alone or by the chain."""

from pathlib import Path

import pytest

from base.errors import ConfigError
from chain.networks import Registry
from chain.tokens import Quirk
from tests.support.chain import start_local_chain
from tests.support.contracts import create
from tests.support.tokens import named
from wiring.parts import build_registry, open_parts
from wiring.places import line_of
from wiring.settings import Settings, load_settings
from wiring.token_checks import refuse_misfits, token_misfits

USDC, DAI = "0x" + "c5" * 20, "0x" + "da" * 20

HEAD = """
[[assets]]
code = "ETH"
kind = "crypto"
scale = 18

[[assets]]
code = "USDC"
kind = "stablecoin"
scale = 6

[[networks]]
name = "local"
chain_id = 31337
rpc_urls = ["http://127.0.0.1:9"]
native_asset = "ETH"

[[deployments]]
asset = "ETH"
network = "local"
decimals = 18
"""

FIRST_LINE = HEAD.count("\n") + 2
"""Where the first deployment that a test adds begins."""


def deployment(**keys: object) -> str:
    told = {"asset": "USDC", "network": "local", "contract": USDC, "decimals": 6} | keys
    lines = [f"{key} = {str(value) if isinstance(value, int | list) else f'{value!r}'}" for key, value in told.items()]
    return "\n".join(["", "[[deployments]]", *lines, ""])


def load(folder: Path, text: str, *, head: str = HEAD) -> Settings:
    (folder / "onebook.toml").write_text(head + text)
    return load_settings(folder / "onebook.toml")


def test_quirks_reach_the_registry(tmp_path):
    settings = load(tmp_path, deployment(quirks=["fee_on_transfer", "pause"]))
    registry: Registry = build_registry(settings)
    assert registry.by_asset("local", "USDC").quirks == {Quirk.FEE_ON_TRANSFER, Quirk.PAUSE}
    assert registry.by_asset("local", "ETH").quirks == frozenset()


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        (deployment(network="lokal"), 3, "deployments.1.network: no network lokal; there is local"),
        (deployment(asset="USDT"), 2, "deployments.1.asset: no asset USDT; add it under [[assets]]"),
        (deployment(decimals=8), 5, "deployments.1.decimals: 8 decimals, but USDC has scale 6"),
        (deployment(decimals=-1), 5, "deployments.1.decimals: Input should be greater than or equal to 0"),
        (deployment(contract="0x12"), 4, "an address is 0x and 40 hexadecimal digits"),
        (deployment(contract="0x00000000000000000000000000000000dEaDbeef"), 4, "checksum"),
        (deployment(contract="0x" + "00" * 20), 4, "nobody holds the zero address"),
        (deployment(quirks=["feeontransfer"]), 6, "deployments.1.quirks.0: Input should be 'fee_on_transfer'"),
        (deployment(withdrawal_maximum="1,5"), 6, "deployments.1.withdrawal_maximum: '1,5' is not an amount"),
        (deployment(withdrawal_minimum="0.0000001"), 6, "has 7 decimals; USDC has 6"),
        (
            deployment(withdrawal_minimum="5.00", withdrawal_maximum="4.99"),
            7,
            "4.99 is below withdrawal_minimum (5.00)",
        ),
        (deployment(decimal=6), 6, "deployments.1.decimal: Extra inputs are not permitted"),
    ],
)
def test_a_deployment_that_cannot_be_is_refused_with_its_line(tmp_path, text, line, reason):
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, text)
    assert f"onebook.toml:{FIRST_LINE + line - 1}: " in refused.value.message
    assert reason in refused.value.message
    assert "\n" not in refused.value.message


def test_what_stands_twice_is_refused_with_both_lines(tmp_path):
    text = deployment() + deployment(contract=DAI)
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, text)
    second = FIRST_LINE + deployment().count("\n") + 1
    assert f"onebook.toml:{second}: deployments.2.asset: USDC stands on local already" in refused.value.message
    assert f"onebook.toml:{FIRST_LINE}: deployments.1" in refused.value.message
    text = deployment() + deployment(asset="ETH", contract=USDC.upper().replace("X", "x"))
    with pytest.raises(ConfigError, match=f"{USDC} stands on local already"):
        load(tmp_path, text)
    own_coin = '\n[[deployments]]\nasset = "USDC"\nnetwork = "local"\ndecimals = 6\n'
    with pytest.raises(ConfigError, match="the own coin stands on local already"):
        load(tmp_path, own_coin)


def test_the_own_coin_has_no_quirks(tmp_path):
    head = HEAD.rstrip() + '\nquirks = ["pause"]\n'
    with pytest.raises(
        ConfigError, match=r"onebook.toml:\d+: deployments.0.quirks: the network's own coin has no quirks"
    ):
        load(tmp_path, "", head=head)


@pytest.mark.parametrize(
    ("text", "path", "line"),
    [
        ("a = 1\n[[t]]\nx = 1\n[[t]]\ny = 2\n", ("t", 1, "y"), 5),
        ("a = 1\n[[t]]\nx = 1\n[[t]]\ny = 2\n", ("t", 1, "x"), 4),  # the table, where the key isn't
        ("a = 1\n[[t]]\nx = 1\n", ("t", 5, "x"), None),
        ("t = [{x = 1}, {x = 2}]\n", ("t", 1, "x"), 1),
        ("\n[ s ]\n'k' = 1\n", ("s", "k"), 3),
        ("b = 1\n", ("b",), 1),
        ("[s]\nb = 1\n", ("b",), None),  # that one is of s
        ("[a]\nk = 0\n[a.b]\nk = 1\n", ("a", "b", "k"), 4),
        ("[a]\n[a.b]\nk = 1\n", ("a", "b", "x"), 2),
        ("[[a.b]]\nk = 1\n[[a.b]]\nj = 2\n", ("a", "b", 1, "j"), 4),
        ("[a]\nb = {k = 1}\n", ("a", "b", "k"), 2),
        ("", (), None),
    ],
)
def test_lines_are_found_in_the_text(text, path, line):
    assert line_of(text, path) == line


def test_the_bounds_of_a_withdrawal_may_meet_and_may_be_left_out(tmp_path):
    for bounds in ({}, {"withdrawal_maximum": "0.000001"}, {"withdrawal_minimum": "5", "withdrawal_maximum": "5.00"}):
        (_, usdc) = load(tmp_path, deployment(**bounds)).deployments
        assert usdc.withdrawal_maximum == bounds.get("withdrawal_maximum")


@pytest.mark.slow
async def test_what_the_chain_contradicts_is_refused_with_its_line(tmp_path, database):
    with start_local_chain(tmp_path) as chain:
        head = HEAD.replace("http://127.0.0.1:9", chain.url).replace("31337", str(chain.chain_id))
        head = f'database_url = "{database.app_url}"\n' + head
        line = FIRST_LINE + 1
        for contract, at, reason in (
            (chain.token("USDC").lower(), None, None),
            (DAI, line + 3, "there is no contract at this address"),
            (create(chain, "Accepts"), line + 3, "the contract there is no token: it tells no decimals"),
            (
                named(chain, "Plain", "PLN", decimals=4).address,
                line + 4,
                "the contract has 4 decimals, configured are 6",
            ),
        ):
            settings = load(tmp_path, deployment(contract=contract), head=head)
            async with open_parts(settings, name="test") as parts:
                if reason is None:
                    assert await token_misfits(parts) == []
                    continue
                with pytest.raises(ConfigError) as refused:
                    await refuse_misfits(parts)
            assert refused.value.message.endswith(f": USDC: {reason}")
            assert f"onebook.toml:{at}: deployments.1." in refused.value.message


@pytest.mark.slow
async def test_a_node_that_does_not_answer_refuses_nothing(tmp_path, database):
    settings = load(tmp_path, deployment(), head=f'database_url = "{database.app_url}"\n' + HEAD)
    async with open_parts(settings, name="test") as parts:
        assert "doesn't answer" in (await refuse_misfits(parts) or "")
