"""The command line by hand: what it says and how it exits, rightly and wrongly used."""

import json
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import bootstrap
from base.clock import ManualClock
from base.entropy import SeededEntropy
from base.errors import ConfigError
from chain.local import ChainRecord
from cli.install import BankChoice, ChainChoice, install
from cli.main import COMMANDS, Commands, app
from custody.keystore import Argon2Cost
from tests.support.command import PROGRAM, onebook, onebook_afresh
from wiring.parts import build_registry
from wiring.settings import load_settings

QUICK = Argon2Cost(memory_kib=8 * 1024, passes=1, lanes=1)


def installed(home: Path) -> Path:
    chain = ChainChoice(
        name="local",
        url="http://127.0.0.1:1",
        chain_id=31337,
        genesis_hash="0x" + "11" * 32,
        tokens={"USDC": ("0x" + "22" * 20, 6)},
        spendable_depth=2,
        final_depth=4,
    )
    made = install(
        home,
        passphrase=b"of the test",
        chains=[chain],
        banks=(BankChoice("main", "NL30MOCK0000000005", "EUR"),),
        clock=ManualClock(datetime(2026, 1, 1, tzinfo=UTC)),
        entropy=SeededEntropy(1),
        cost=QUICK,
    )
    return made.config


def commands() -> Iterator[list[str]]:
    """Every command as its words."""

    def below(words: list[str], command: object) -> Iterator[list[str]]:
        inner = vars(command).get("commands", {})
        if not inner:
            yield words
        for word, deeper in inner.items():
            yield from below([*words, word], deeper)

    for name in COMMANDS:
        yield from below([name], Commands().get_command(None, name))


@pytest.mark.parametrize("command", list(commands()), ids=" ".join)
def test_each_command_explains_itself_with_an_example(command):
    answer = CliRunner().invoke(app, [*command, "--help"])
    assert answer.exit_code == 0
    assert "Example: onebook" in answer.output or "Example: ONEBOOK_" in answer.output


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "there is no onebook.toml"),
        ("book = ", "is not valid TOML"),
        ("book = 'main'\n", "assets: Field required"),
        ("bok = 'main'\n[[assets]]\ncode='USD'\nkind='fiat'\nscale=2\n", "bok: Extra inputs are not permitted"),
        ("[[assets]]\ncode='usd'\nkind='fiat'\nscale=2\n", "assets.0.code"),
        ("[[assets]]\ncode='USD'\nkind='money'\nscale=2\n", "assets.0.kind"),
        ("[[assets]]\ncode='USD'\nkind='fiat'\nscale=31\n", "assets.0.scale"),
    ],
)
def test_a_wrong_configuration_is_refused_with_its_place(tmp_path, text, said):
    if text is not None:
        (tmp_path / "onebook.toml").write_text(text)
    answer = onebook("reconcile", cwd=tmp_path)
    assert answer.returncode == 2
    assert said in answer.stderr
    assert answer.stderr.count("\n") == 1


def test_without_a_running_service_it_says_how_to_get_one(tmp_path):
    installed(tmp_path)
    answer = onebook_afresh("audit", cwd=tmp_path)
    assert answer.returncode == 2
    assert "onebook up" in answer.stderr


def test_a_variable_overrides_the_file(tmp_path, monkeypatch):
    config = installed(tmp_path)
    assert load_settings(config).api_port == 8080
    monkeypatch.setenv("ONEBOOK_API_PORT", "9090")
    assert load_settings(config).api_port == 9090


def test_a_variable_that_is_no_table_is_refused_without_its_value(tmp_path, monkeypatch):
    config = installed(tmp_path)
    monkeypatch.setenv("ONEBOOK_RAILS", "sk_live_secret")
    with pytest.raises(ConfigError, match=r'must hold it as JSON.*"rails"') as refused:
        load_settings(config)
    assert "sk_live" not in f"{refused.value.message}{refused.value.__cause__}"


@pytest.mark.parametrize(
    ("line", "told"),
    [('"deposit.02" = "x"', 'later generations "deposit.2"'), ('cold = "x"', "xpubs.cold"), ("hot.2 = 3", "Cannot")],
)
def test_a_public_key_recorded_under_no_keys_name_is_named(tmp_path, line, told):
    config = installed(tmp_path)
    config.write_text(config.read_text().replace("\n[[assets]]", f"{line}\n\n[[assets]]", 1))
    with pytest.raises(ConfigError, match=told):
        load_settings(config)


def test_secrets_are_not_shown(tmp_path):
    installed(tmp_path)
    url = "postgresql://onebook_app:hunter2@127.0.0.1/onebook"
    answer = onebook("config", "--json", cwd=tmp_path, environment={"ONEBOOK_DATABASE_URL": url})
    assert answer.returncode == 0
    assert json.loads(answer.stdout)["book"] == "main"
    assert "hunter2" not in answer.stdout + answer.stderr


def test_an_installation_is_never_written_over(tmp_path):
    config = installed(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match="never written over"):
        installed(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert config in before


def test_an_installation_reads_back_as_it_was_chosen(tmp_path):
    settings = load_settings(installed(tmp_path))
    registry = build_registry(settings)
    assert registry.network("local").final_depth == 4
    assert registry.by_asset("local", "USDC").contract == "0x" + "22" * 20
    assert settings.bank_accounts[0].iban == "NL30MOCK0000000005"
    assert set(settings.xpubs) == {"deposit", "hot", "gas"}
    policy = tomllib.loads((tmp_path / "policy.toml").read_text())
    assert policy["networks"] == [{"chain_id": 31337}]


def test_only_their_owner_can_read_an_installations_files(tmp_path):
    installed(tmp_path / "house")
    for path in (tmp_path / "house").rglob("*"):
        if path.is_file():
            assert path.stat().st_mode & 0o077 == 0, path


def test_a_fresh_machine_that_has_everything_is_told_nothing():
    assert bootstrap.problems() == []


@pytest.mark.slow
def test_a_chain_by_hand(tmp_path):
    up = subprocess.Popen(
        [str(PROGRAM), "chain", "up", "--kind", "anvil", "--json"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    try:
        assert up.stdout is not None
        lines = [up.stdout.readline()]
        while lines[-1] != "}\n":  # the document's last line
            assert lines[-1], "the chain ended before it was up"
            lines.append(up.stdout.readline())
        record = json.loads("".join(lines))
        assert ChainRecord.read(tmp_path / ".onebook" / "chain") is not None
        address = record["accounts"][5]
        assert onebook("chain", "mine", "3", cwd=tmp_path).returncode == 0
        paid = onebook("chain", "faucet", address, "25", "--asset", "USDC", cwd=tmp_path)
        assert paid.returncode == 0, paid.stderr
        status = onebook("chain", "status", "--json", cwd=tmp_path)
        assert json.loads(status.stdout)["chain_id"] == record["chain_id"]
        for wrong, said in (
            (("0xabc", "1"), "0xabc"),
            ((address, "1.0000001", "--asset", "USDC"), "decimals"),
            ((address, "1", "--asset", "XYZ"), "has no XYZ"),
        ):
            refused = onebook("chain", "faucet", *wrong, cwd=tmp_path)
            assert refused.returncode in (1, 2)
            assert said in refused.stderr
        blocks_by_hand(tmp_path)
        second = onebook("chain", "up", cwd=tmp_path)
        assert second.returncode == 2
        assert record["url"] in second.stderr
    finally:
        up.send_signal(signal.SIGINT)
        up.wait(timeout=20)
    down = onebook("chain", "status", cwd=tmp_path)
    assert down.returncode == 2
    assert "onebook chain up" in down.stderr


def blocks_by_hand(folder: Path) -> None:
    """Time, snapshots and another branch, and what each says of a wrong word: one line."""

    def told(*arguments: str) -> Any:
        ended = onebook("chain", *arguments, "--json", cwd=folder)
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    taken = onebook("chain", "snapshot", "take", "before", cwd=folder)
    assert taken.returncode == 0, taken.stderr
    before = told("status")
    assert onebook("chain", "time", "+3d", "--mine", cwd=folder).returncode == 0
    assert told("status")["head_time"] == before["head_time"] + 3 * 86_400
    assert onebook("chain", "time", "2035-01-31T12:00:00Z", cwd=folder).returncode == 0
    assert onebook("chain", "mine", cwd=folder).returncode == 0
    assert onebook("chain", "time", cwd=folder).stdout.endswith("2035-01-31T12:00:00Z (2053857600)\n")
    assert told("reorg", "2") == {"height": before["head"] + 2, "ancestor": before["head"], "kept": [], "dropped": []}
    assert [one["name"] for one in told("snapshot", "list")] == ["before"]
    back = onebook("chain", "snapshot", "revert", "before", cwd=folder)
    assert f"a reorganisation down to block {before['head']}" in back.stdout
    assert told("status")["head_hash"] == before["head_hash"]
    for wrong, code, said in (
        (("mine", "-3"), 2, "1 to 10000 blocks can be mined at once, not -3"),
        (("mine", "many"), 1, "blocks is a whole number such as 3, not 'many'"),
        (("time", "-5"), 1, "a chain's time only goes forward"),
        (("time", "2001-01-01T00:00:00Z"), 1, "a chain's time only goes forward"),
        (("time", "2035-01-31"), 1, "'2035-01-31' is no time"),
        (("time", "+9999999d"), 1, "year 9999"),
        (("reorg", "-1"), 1, "at least one block, not -1"),
        (("reorg", "1.5"), 1, "depth is a whole number"),
        (("reorg", "5000"), 1, "blocks can be replaced, not 5000"),
        (("snapshot", "revert", "after"), 1, "no snapshot 'after'; there are: before"),
        (("snapshot", "take", "before"), 1, "there is a snapshot 'before' already"),
    ):
        ended = onebook("chain", *wrong, cwd=folder)
        assert (ended.returncode, ended.stderr.count("\n"), said in ended.stderr) == (code, 1, True), ended.stderr


def test_commands_that_ask_no_node_load_no_library_for_it():
    """It takes longer to import than they take to run."""
    program = (
        "import sys; import cli.main, wiring.assemble, wiring.steps, wiring.recovery\n"
        "print(sorted({'web3', 'eth_account', 'py_ecc'} & sys.modules.keys()))\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "[]\n"
