"""What starting a command or a process imports: each only what it uses, and none in the middle of its work."""

from pathlib import Path

import pytest

from base.entropy import SystemEntropy
from cli.main import COMMANDS, Commands
from custody.ceremony import create_keys
from custody.transactions import read
from tests.custody.samples import full_policy, native_transfer, policy_text
from tests.support.command import onebook_afresh
from tests.support.signer import LIGHT, PASSPHRASE, start_signer

TELLING = {"PYTHONPROFILEIMPORTTIME": "1"}
"""Python writes a line to standard error for every module that it imports."""

OF_THE_SERVICE = {"web3", "eth_account", "sqlalchemy", "asyncpg", "alembic", "fastapi", "httpx", "lxml", "jinja2"}
OF_KEYS = {"bip_utils", "rlp", "eth_utils"}


def imported(lines: str) -> set[str]:
    """The packages that were imported, out of what Python has written."""
    told = (line.rpartition("|")[2].strip() for line in lines.splitlines() if line.startswith("import time:"))
    return {name.partition(".")[0] for name in told}


def test_the_list_of_commands_says_what_each_says_of_itself():
    said = {name: Commands().get_command(None, name).get_short_help_str(200) for name in COMMANDS}
    assert {name: command.sentence for name, command in COMMANDS.items()} == said


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("--help", 0),
        ("import --help", 0),
        ("signer audit --help", 0),
        ("signer status --socket none", 3),
        ("policy check policy.toml", 0),
        ("serve", 2),
        ("reconcile", 2),
    ],
)
def test_a_command_imports_only_what_it_uses(tmp_path: Path, arguments: str, code: int):
    (tmp_path / "policy.toml").write_text(full_policy())
    ended = onebook_afresh(*arguments.split(), cwd=tmp_path, environment=TELLING)
    assert ended.returncode == code
    found = imported(ended.stderr)
    assert "typer" in found
    assert found & (OF_THE_SERVICE | OF_KEYS) == set()


def test_commands_about_keys_import_nothing_of_the_service(tmp_path: Path):
    create_keys(tmp_path / "keys", passphrase=PASSPHRASE, entropy=SystemEntropy(), cost=LIGHT)
    ended = onebook_afresh("keys", "list", cwd=tmp_path, environment=TELLING)
    assert ended.returncode == 0
    found = imported(ended.stderr)
    assert "custody" in found
    assert found & (OF_THE_SERVICE | OF_KEYS) == set()


@pytest.mark.slow
async def test_a_signer_imports_nothing_any_more_once_it_is_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name, told in TELLING.items():
        monkeypatch.setenv(name, told)
    signer = start_signer(tmp_path, policy_text(), afresh=True)
    try:
        client = signer.client()
        first = await client.sign(native_transfer(), highest=None)
        again = await client.sign(native_transfer(), highest=None)
        await client.close()
    finally:
        signer.stop()
    assert read(first.raw) == read(again.raw)
    before, _, after = signer.log().partition("signer ready\n")
    assert imported(before) >= {"bip_utils", "rlp"}
    assert imported(after) == set()
