"""Secrets from files: a folder that systemd or a container names, with a file per setting."""

from pathlib import Path

import pytest

from base.errors import ConfigError
from tests.support.command import onebook
from wiring.settings import Settings, load_settings

ASSETS = '[[assets]]\ncode = "EUR"\nkind = "fiat"\nscale = 2\n'


@pytest.fixture
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "credentials"
    folder.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    monkeypatch.delenv("ONEBOOK_DATABASE_URL", raising=False)
    return folder


def settings(home: Path, more: str = "") -> Settings:
    (home / "onebook.toml").write_text(more + ASSETS)
    return load_settings(home / "onebook.toml")


def url(told: Settings) -> str | None:
    return None if told.database_url is None else told.database_url.get_secret_value()


def test_a_credential_goes_before_the_file_and_a_variable_before_both(
    tmp_path: Path, credentials: Path, monkeypatch: pytest.MonkeyPatch
):
    assert url(settings(tmp_path, 'database_url = "of the file"\n')) == "of the file"
    (credentials / "onebook_database_url").write_text("of the credential\n")
    assert url(settings(tmp_path, 'database_url = "of the file"\n')) == "of the credential"
    monkeypatch.setenv("ONEBOOK_DATABASE_URL", "of the variable")
    assert url(settings(tmp_path, 'database_url = "of the file"\n')) == "of the variable"


def test_a_table_of_secrets_is_json_and_what_is_none_says_so_without_the_value(tmp_path: Path, credentials: Path):
    (credentials / "onebook_rails").write_text('{"sandbox": {"webhook_secret": "of the sandbox, 32 letters long"}}')
    assert settings(tmp_path, 'environment = "test"\n').rails.sandbox is not None
    (credentials / "onebook_rails").write_text("sk_live_secret")
    with pytest.raises(ConfigError, match="must hold it as JSON") as refused:
        settings(tmp_path)
    assert "sk_live" not in refused.value.message


def test_credentials_of_others_are_none_of_ours(tmp_path: Path, credentials: Path):
    (credentials / "onebook-signer-passphrase").write_text("of the signer")
    (credentials / "database_url").write_text("of another program")
    assert url(settings(tmp_path)) is None


def test_a_folder_that_is_missing_or_a_credential_that_cannot_be_read_is_told(
    tmp_path: Path, credentials: Path, monkeypatch: pytest.MonkeyPatch
):
    (credentials / "onebook_database_url").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="credential"):
        settings(tmp_path)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "gone"))
    with pytest.raises(ConfigError, match="gone, which is no folder"):
        settings(tmp_path)


def test_what_is_shown_of_the_configuration_hides_them(tmp_path: Path, credentials: Path):
    (credentials / "onebook_database_url").write_text("postgresql://app:hidden@db/onebook")
    settings(tmp_path)
    shown = onebook("config", cwd=tmp_path, environment={"CREDENTIALS_DIRECTORY": str(credentials)})
    assert shown.returncode == 0, shown.stderr
    assert "hidden" not in shown.stdout
    assert "database_url" in shown.stdout
