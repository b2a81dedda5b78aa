"""Settings: one `onebook.toml`, each scalar of it overridable by an `ONEBOOK_*` variable. Values; nothing is built.

Paths are relative to the file's own folder. Secrets (database passwords) may stand in the environment alone, or better
in files: see `CREDENTIALS_VARIABLE`.
"""

import os
import tomllib
from collections.abc import Iterator
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic import BaseModel as PydanticModel
from pydantic_core import PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from base.errors import ConfigError, OnebookError
from chain.errors import InvalidAddress
from chain.evm.addresses import parse_address
from chain.networks import GWEI, Encoding, Traces
from chain.payout import LEGS_MAX
from chain.tokens import Quirk
from custody.errors import IntentInvalid
from custody.intents import keys_named
from identity.keys import RATE_PER_MINUTE_MAX
from ledger.errors import InvalidAmount
from ledger.money import SCALE_MAX, Asset, AssetKind, parse_amount
from wallet.batch_rules import LEGS_MIN, WAIT_SECONDS, Terms
from wiring.exchange_settings import ExchangeSettings, exchange_faults
from wiring.places import Path as Place
from wiring.places import line_of
from wiring.rail_settings import RailsSettings
from wiring.treasury_settings import (
    ReconciliationSettings,
    TreasurySettings,
    reconciliation_faults,
    treasury_faults,
)

HOT_SENDERS_MAX = 64
"""Hot addresses that may pay: each may have 16 transactions in flight."""

CONFIG_NAME = "onebook.toml"
CONFIG_VARIABLE = "ONEBOOK_CONFIG"
CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"
"""Names a folder with a file per secret setting, such as `onebook_database_url`: systemd's LoadCredential= sets it,
containers point it to where their secrets are mounted. Between the variable of the same name and onebook.toml."""

Code = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9]{1,11}$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")]


def _keys_name(name: str) -> str:
    try:
        keys_named(name)
    except IntentInvalid as problem:
        raise PydanticCustomError(
            "keys", 'keys are named deposit, hot or gas; later generations "deposit.2"'
        ) from problem
    return name


KeysName = Annotated[str, AfterValidator(_keys_name)]


def _address(text: str) -> str:
    try:
        return parse_address(text)
    except InvalidAddress as error:
        raise ValueError(error.message) from None


Address = Annotated[str, AfterValidator(_address)]
"""An address of a network, in lower case once it's read."""


class _Table(PydanticModel):
    """A table of the file: unknown keys are errors, so that a typing mistake can't be ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class AssetSettings(_Table):
    """An asset of the book. `scale`: decimal digits, fixed once the asset exists."""

    code: Code
    kind: AssetKind
    scale: int = Field(ge=0, le=SCALE_MAX)


class NetworkSettings(_Table):
    """A chain. See `chain.networks.Network` for the meaning and units of each.

    `cold_addresses`: the house's own that no process here has keys of; what they send to the hot address is a refill.
    """

    name: Name
    chain_id: int = Field(gt=0)
    rpc_urls: tuple[str, ...] = Field(min_length=1)
    native_asset: Code
    spendable_depth: int = Field(default=12, ge=1)
    final_depth: int | None = None
    genesis_hash: str | None = None
    start_height: int = Field(default=0, ge=0)
    max_fee_per_gas_cap_gwei: int = Field(default=500, gt=0)
    encoding: Encoding = Encoding.ETHEREUM
    traces: Traces = Traces.ON_SURPLUS
    balances_per_block: int = Field(default=100, ge=0)
    replace_after_seconds: int = Field(default=120, ge=1)
    sanctions_oracle: Address | None = None
    cold_addresses: tuple[Address, ...] = ()

    @property
    def max_fee_per_gas_cap(self) -> int:
        """The cap in wei per gas."""
        return self.max_fee_per_gas_cap_gwei * GWEI


class AuthorisationSettings(_Table):
    """A token's EIP-712 domain, in which its sweeps are authorised (EIP-3009)."""

    name: str = Field(min_length=1, max_length=64)
    version: str = Field(min_length=1, max_length=64)


class DeploymentSettings(_Table):
    """An asset on a network; no `contract` for the network's own coin. Amounts are decimal strings.

    `quirks`: see `chain.tokens.Quirk`. `sweep_threshold`: so much at a deposit address is swept; without one, nothing
    is by itself. `hot_floor`: with less at the hot address a refill up to `hot_target` is asked for.
    """

    asset: Code
    network: Name
    contract: Address | None = None
    decimals: int = Field(ge=0, le=SCALE_MAX)
    deposit_minimum: str | None = None
    withdrawal_minimum: str | None = None
    withdrawal_maximum: str | None = None
    quirks: tuple[Quirk, ...] = ()
    authorisation: AuthorisationSettings | None = None
    sweep_threshold: str | None = None
    hot_floor: str | None = None
    hot_target: str | None = None


class SweepSettings(_Table):
    """How sweeps are done. See `treasury.sweep_policy` for the meaning of each."""

    after_hours: int = Field(default=24 * 7, ge=1, le=24 * 365)
    gas_price_max_gwei: int = Field(default=50, gt=0)
    per_step: int = Field(default=20, ge=1, le=200)
    tries: int = Field(default=6, ge=1, le=100)


class PayoutSettings(_Table):
    """How withdrawals of a network share transactions, through the policy's payout contract there."""

    network: Name
    batches: bool = True
    legs_min: int = Field(default=LEGS_MIN, ge=1, le=LEGS_MAX)
    legs_max: int = Field(default=LEGS_MAX, ge=1, le=LEGS_MAX)
    wait_seconds: int = Field(default=WAIT_SECONDS, ge=0, le=3_600)

    @property
    def terms(self) -> Terms:
        """The same for who gathers them."""
        return Terms(self.legs_min, self.legs_max, timedelta(seconds=self.wait_seconds))


class BankAccountSettings(_Table):
    """One of our bank accounts: its short name in the book, its IBAN, the asset it holds, and how it pays out.

    `holder` is our name there. `virtual_prefix`: see `fiat.bank.virtual`. `payouts`: whether it pays them; their fee
    and bounds are decimal strings of its asset.
    """

    name: Name
    iban: str
    asset: Code
    holder: str = Field(default="Onebook", min_length=1, max_length=70)
    bic: str | None = Field(default=None, pattern=r"^[A-Z0-9]{8}([A-Z0-9]{3})?$")
    virtual_prefix: str | None = Field(default=None, pattern=r"^[0-9]{1,20}$")
    payouts: bool = True
    payout_fee: str | None = None
    payout_minimum: str | None = None
    payout_maximum: str | None = None


class BankSettings(_Table):
    """The folder through which files come from banks and go there, and how payouts are put into files.

    Without a folder nothing is paid out, and files come in by upload and command alone.
    """

    folder: Path | None = None
    payouts_per_file: int = Field(default=500, ge=1, le=10_000)
    payout_wait_seconds: int = Field(default=60, ge=0, le=86_400)
    payout_silent_days: int = Field(default=5, ge=1, le=90)


_EVERY = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


class AnchorSettings(_Table):
    """On which network sealed epochs' hashes are written, and to which address, which the signer's policy lists."""

    network: Name
    to: Address


class SolvencySettings(_Table):
    """Epochs of what is owed and held. `folder`: where their files are. `every`: how often the worker makes one.

    `deposit_addresses`: so many of a network's are named, with what they hold, and sign. `public`: whether anybody may
    read epochs without a key. `published_at`: where everybody sees them, told in users' files. `anchor`: where their
    hashes are written; None: on no chain.
    """

    folder: Path = Path("solvency")
    every: str | None = Field(default=None, pattern=r"^([1-9][0-9]m|[1-9][0-9]{0,2}[hd])$")
    deposit_addresses: int = Field(default=0, ge=0, le=1_000)
    public: bool = True
    published_at: str | None = Field(default=None, pattern=r"^https?://[!-~]{1,500}$")
    anchor: AnchorSettings | None = None

    @property
    def interval(self) -> timedelta | None:
        """`every` as time; None: the worker makes none."""
        return None if self.every is None else int(self.every[:-1]) * _EVERY[self.every[-1]]


class MetricsSettings(_Table):
    """Where the worker serves its metrics, amounts among them; port 0: nowhere. Taken: the next free one above it.

    `every_seconds`: scrapes within that time share one measurement.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=9464, ge=0, le=65535)
    every_seconds: int = Field(default=15, ge=1, le=3_600)


class Environment(StrEnum):
    """LIVE: real value. TEST: a book of its own without any, in which the sandbox may credit users."""

    LIVE = "live"
    TEST = "test"


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
    personal_key: Path = Path("personal.key")
    personal_keys: SecretStr | None = None
    rates: Path = Path("rates.toml")
    tariff: Path = Path("tariff.toml")
    screening_list: Path | None = None
    hot_senders: int = Field(default=1, ge=1, le=HOT_SENDERS_MAX)
    worker_pause_ms: int = Field(default=500, ge=10, le=60_000)
    transfer_fee_basis_points: int = Field(default=0, ge=0, le=10_000)
    xpubs: dict[KeysName, str] = Field(default_factory=dict)
    assets: tuple[AssetSettings, ...] = Field(min_length=1)
    networks: tuple[NetworkSettings, ...] = ()
    deployments: tuple[DeploymentSettings, ...] = ()
    payouts: tuple[PayoutSettings, ...] = ()
    bank_accounts: tuple[BankAccountSettings, ...] = ()
    bank: BankSettings = BankSettings()
    sweeps: SweepSettings = SweepSettings()
    treasury: TreasurySettings = TreasurySettings()
    reconciliation: ReconciliationSettings = ReconciliationSettings()
    solvency: SolvencySettings = SolvencySettings()
    metrics: MetricsSettings = MetricsSettings()
    environment: Environment = Environment.LIVE
    rails: RailsSettings = RailsSettings()
    exchange: ExchangeSettings = ExchangeSettings()
    _file: Path | None = PrivateAttr(None)
    _text: str = PrivateAttr("")

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
        credentials = SecretsSettingsSource(settings_cls, _credentials())
        return env_settings, credentials, init_settings  # a variable overrides a credential, and that the file

    def path(self, path: Path) -> Path:
        """A path of the file, made absolute."""
        return self.home / path

    @property
    def pkcs11(self) -> tuple[Path, str] | None:
        """The PKCS#11 module, absolute, and the token's label; None where all keys are in files."""
        if self.pkcs11_module is None or self.pkcs11_token is None:
            return None
        return self.path(self.pkcs11_module), self.pkcs11_token

    def where(self, *place: str | int) -> str:
        """File and line of a setting such as `deployments`, 1, `decimals`; where no file was read, its name."""
        named = ".".join(map(str, place))
        return named if self._file is None else _where(self._file, self._text, place)


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
        text = path.read_text(encoding="utf-8")
        told: dict[str, Any] = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}") from error
    try:
        settings = Settings(home=path.parent, **told)
    except SettingsError as error:  # names the setting, never the value
        if isinstance(error.__cause__, OSError):
            raise ConfigError(f"a credential can't be read: {error.__cause__}") from None
        raise ConfigError(
            f"a variable ONEBOOK_... or a credential onebook_... that is a table must hold it as JSON: {error}"
        ) from None
    except ValidationError as error:
        faults = "; ".join(
            f"{_where(path, text, fault['loc'])}: {fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors()
        )
        raise ConfigError(faults) from None
    settings._file, settings._text = path, text
    if faults := "; ".join(_contradictions(settings)):
        raise ConfigError(faults)
    return settings


def _credentials() -> str | None:
    """The folder of credentials, None where none is named. Raises ConfigError."""
    folder = os.environ.get(CREDENTIALS_VARIABLE)
    if folder and not Path(folder).is_dir():
        raise ConfigError(f"{CREDENTIALS_VARIABLE} names {folder}, which is no folder")
    return folder or None


def _unfit_amounts(settings: Settings, number: int, entry: DeploymentSettings) -> Iterator[str]:
    """Amounts of sweeps and refills that aren't whole units of the deployment."""
    for key in ("sweep_threshold", "hot_floor", "hot_target"):
        told = getattr(entry, key)
        if told is not None:
            try:
                parse_amount(told, Asset(entry.asset, AssetKind.CRYPTO, entry.decimals))
            except OnebookError as fault:
                yield f"{settings.where('deployments', number, key)}: {fault.message}"


def _where(path: Path, text: str, place: Place) -> str:
    """`onebook.toml:12: deployments.1.decimals`; without a line where a variable set it."""
    line = line_of(text, place)
    return f"{path}{'' if line is None else f':{line}'}: {'.'.join(map(str, place))}"


def _contradictions(settings: Settings) -> Iterator[str]:
    """What deployments and payouts say that the rest of the file doesn't bear."""
    networks = {network.name for network in settings.networks}
    scales = {asset.code: asset.scale for asset in settings.assets}
    seen: dict[tuple[str, str, str | None], int] = {}
    for number, entry in enumerate(settings.deployments):
        if entry.network not in networks:
            known = ", ".join(sorted(networks)) or "none"
            yield f"{settings.where('deployments', number, 'network')}: no network {entry.network}; there is {known}"
        if entry.asset not in scales:
            yield f"{settings.where('deployments', number, 'asset')}: no asset {entry.asset}; add it under [[assets]]"
        elif entry.decimals > scales[entry.asset]:
            yield (
                f"{settings.where('deployments', number, 'decimals')}: {entry.decimals} decimals, but {entry.asset} has"
                f" scale {scales[entry.asset]}, and must hold every amount on chain"
            )
        else:
            for key, fault in _bound_faults(entry, scales[entry.asset]):
                yield f"{settings.where('deployments', number, key)}: {fault}"
        if entry.contract is None and entry.quirks:
            yield f"{settings.where('deployments', number, 'quirks')}: the network's own coin has no quirks"
        if entry.contract is None and entry.authorisation is not None:
            where = settings.where("deployments", number, "authorisation")
            yield f"{where}: only tokens are swept by authorisation; the network's own coin pays its own gas"
        yield from _unfit_amounts(settings, number, entry)
        if entry.hot_target is not None and entry.hot_floor is None:
            yield f"{settings.where('deployments', number, 'hot_target')}: give the hot_floor that asks for it too"
        for key in ("asset", "contract"):
            what = (key, entry.network, getattr(entry, key))
            first = seen.setdefault(what, number)
            if first != number:
                here, earlier = settings.where("deployments", number, key), settings.where("deployments", first)
                yield f"{here}: {what[2] or 'the own coin'} stands on {entry.network} already, at {earlier}"
    assets = {asset.code: Asset(asset.code, asset.kind, asset.scale) for asset in settings.assets}
    yield from exchange_faults(settings.exchange, assets, networks, settings.where)
    yield from treasury_faults(settings.treasury, assets, settings.exchange.reference, settings.where)
    yield from reconciliation_faults(settings.reconciliation, settings.where)
    if (anchor := settings.solvency.anchor) is not None:
        where = settings.where("solvency", "anchor", "network")
        if anchor.network not in networks:
            yield f"{where}: no network {anchor.network}; there is {', '.join(sorted(networks)) or 'none'}"
        elif not any(one.network == anchor.network and one.contract is None for one in settings.deployments):
            yield f"{where}: the own coin of {anchor.network} has no [[deployments]], so its gas couldn't be booked"
    told: dict[str, int] = {}
    for number, payout in enumerate(settings.payouts):
        if payout.network not in networks:
            known = ", ".join(sorted(networks)) or "none"
            yield f"{settings.where('payouts', number, 'network')}: no network {payout.network}; there is {known}"
        if payout.legs_min > payout.legs_max:
            where = settings.where("payouts", number, "legs_min")
            yield f"{where}: {payout.legs_min} legs at least, but {payout.legs_max} at most (legs_max)"
        if (first := told.setdefault(payout.network, number)) != number:
            here, earlier = settings.where("payouts", number, "network"), settings.where("payouts", first)
            yield f"{here}: payouts of {payout.network} stand at {earlier} already"


def _bound_faults(entry: DeploymentSettings, scale: int) -> Iterator[tuple[str, str]]:
    """Keys whose amounts can't be read, or between which nothing lies; each with why."""
    asset, read = Asset(entry.asset, AssetKind.CRYPTO, scale), dict[str, int]()
    for key in ("deposit_minimum", "withdrawal_minimum", "withdrawal_maximum"):
        text = getattr(entry, key)
        if text is not None:
            try:
                read[key] = parse_amount(text, asset)
            except InvalidAmount as error:
                yield key, error.message
    least, most = read.get("withdrawal_minimum", 1), read.get("withdrawal_maximum")
    if most is not None and most < least:
        yield (
            "withdrawal_maximum",
            f"{entry.withdrawal_maximum} is below withdrawal_minimum ({entry.withdrawal_minimum}), so nothing could be"
            " withdrawn; raise it",
        )
