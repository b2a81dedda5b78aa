"""Settings: one `onebook.toml`, each scalar of it overridable by an `ONEBOOK_*` variable. Values; nothing is built.

Paths are relative to the file's own folder. Secrets (database passwords) may stand in the environment alone.
"""

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel as PydanticModel
from pydantic import ConfigDict, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from base.errors import ConfigError
from chain.networks import GWEI
from identity.keys import RATE_PER_MINUTE_MAX
from ledger.money import SCALE_MAX, AssetKind

CONFIG_NAME = "onebook.toml"
CONFIG_VARIABLE = "ONEBOOK_CONFIG"

Code = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9]{1,11}$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")]


class _Table(PydanticModel):
    """A table of the file: unknown keys are errors, so that a typing mistake can't be ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class AssetSettings(_Table):
    """An asset of the book. `scale`: decimal digits, fixed once the asset exists."""

    code: Code
    kind: AssetKind
    scale: int = Field(ge=0, le=SCALE_MAX)


class NetworkSettings(_Table):
    """A chain. See `chain.networks.Network` for the meaning and units of each."""

    name: Name
    chain_id: int = Field(gt=0)
    rpc_urls: tuple[str, ...] = Field(min_length=1)
    native_asset: Code
    spendable_depth: int = Field(default=12, ge=1)
    final_depth: int | None = None
    genesis_hash: str | None = None
    start_height: int = Field(default=0, ge=0)
    max_fee_per_gas_cap_gwei: int = Field(default=500, gt=0)

    @property
    def max_fee_per_gas_cap(self) -> int:
        """The cap in wei per gas."""
        return self.max_fee_per_gas_cap_gwei * GWEI


class DeploymentSettings(_Table):
    """An asset on a network; no `contract` for the network's own coin. The minimums are decimal strings."""

    asset: Code
    network: Name
    contract: str | None = None
    decimals: int = Field(ge=0, le=SCALE_MAX)
    deposit_minimum: str | None = None
    withdrawal_minimum: str | None = None

    @field_validator("contract")
    @classmethod
    def _lower(cls, contract: str | None) -> str | None:
        return None if contract is None else contract.lower()


class BankAccountSettings(_Table):
    """One of our bank accounts: its short name in the book, its IBAN, the asset it holds."""

    name: Name
    iban: str
    asset: Code


class Settings(BaseSettings):
    """All settings of one installation. `home` is the folder that the file stands in."""

    model_config = SettingsConfigDict(env_prefix="ONEBOOK_", extra="forbid", frozen=True)

    home: Path
    book: str = "main"
    database_url: SecretStr | None = None
    database_owner_url: SecretStr | None = None
    database_pool: int = Field(default=10, ge=2, le=200)
    api_host: str = "127.0.0.1"
    api_port: int = Field(default=8080, ge=1, le=65535)
    public_books: bool = False
    requests_per_minute: int = Field(default=600, ge=1, le=RATE_PER_MINUTE_MAX)
    signer_socket: Path = Path("run/signer.sock")
    keys: Path = Path("keys")
    pkcs11_module: Path | None = None
    pkcs11_token: str | None = Field(default=None, min_length=1, validate_default=True)
    policy: Path = Path("policy.toml")
    journal: Path = Path("journal.sqlite")
    logs: Path = Path("logs")
    seals: Path = Path("seals")
    seal_key: Path = Path("seal.key")
    rates: Path = Path("rates.toml")
    worker_pause_ms: int = Field(default=500, ge=10, le=60_000)
    transfer_fee_basis_points: int = Field(default=0, ge=0, le=10_000)
    xpubs: dict[Literal["deposit", "hot", "gas"], str] = Field(default_factory=dict)
    assets: tuple[AssetSettings, ...] = Field(min_length=1)
    networks: tuple[NetworkSettings, ...] = ()
    deployments: tuple[DeploymentSettings, ...] = ()
    bank_accounts: tuple[BankAccountSettings, ...] = ()

    @field_validator("pkcs11_token")
    @classmethod
    def _with_module(cls, token: str | None, info: ValidationInfo) -> str | None:
        if "pkcs11_module" in info.data and (token is None) != (info.data["pkcs11_module"] is None):
            raise PydanticCustomError("pkcs11", "pkcs11_module and pkcs11_token go together: give both, or neither")
        return token

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings  # a variable overrides the file

    def path(self, path: Path) -> Path:
        """A path of the file, made absolute."""
        return self.home / path

    @property
    def pkcs11(self) -> tuple[Path, str] | None:
        """The PKCS#11 module, absolute, and the token's label; None where all keys are in files."""
        if self.pkcs11_module is None or self.pkcs11_token is None:
            return None
        return self.path(self.pkcs11_module), self.pkcs11_token


def find_config(named: Path | None = None) -> Path:
    """The configuration to use: the one named, that of ONEBOOK_CONFIG, else onebook.toml here. Raises ConfigError."""
    chosen = named or (Path(os.environ[CONFIG_VARIABLE]) if os.environ.get(CONFIG_VARIABLE) else Path(CONFIG_NAME))
    if not chosen.is_file():
        raise ConfigError(
            f"there is no {chosen}: `onebook init` writes one, {CONFIG_VARIABLE} or --config names another",
            code="no_configuration",
        )
    return chosen.resolve()


def load_settings(named: Path | None = None) -> Settings:
    """Read and check the configuration. Raises ConfigError, which names the file and each setting at fault."""
    path = find_config(named)
    try:
        told: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}") from error
    try:
        return Settings(home=path.parent, **told)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise ConfigError(f"{path}: {faults}") from None
