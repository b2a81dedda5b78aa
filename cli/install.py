"""Making an installation: its folder with configuration, keys, policy and the signer's journal. Starts no server."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path

from eth_hash.auto import keccak
from jinja2 import Environment as Templates
from jinja2 import FileSystemLoader, StrictUndefined

from base.clock import Clock
from base.entropy import Entropy
from base.errors import ConfigError
from base.files import write_atomically
from chain.networks import GWEI
from chain.payout import payout_code
from custody.ceremony import create_keys, keys_of
from custody.clocks import SystemClocks
from custody.derivation import Role
from custody.enrolment import enrol
from custody.intents import NATIVE
from custody.keystore import Argon2Cost
from custody.policy_file import parse
from custody.policy_starter import Limits, NetworkStart, PayoutContract, starter_policy
from fiat.personal import KEY_NAME as PERSONAL_KEY_NAME
from fiat.personal import make_key_file
from ledger.seals import KEY_NAME, make_seal_key
from wiring.settings import CONFIG_NAME, Environment


@dataclass(frozen=True, slots=True)
class KnownAsset:
    """An asset that needs no more than its name. `rate`: what one is worth in USD, as an example to begin with."""

    code: str
    kind: str
    scale: int
    rate: str | None


KNOWN = {
    asset.code: asset
    for asset in (
        KnownAsset("USD", "fiat", 2, None),
        KnownAsset("EUR", "fiat", 2, "1.0842"),
        KnownAsset("GBP", "fiat", 2, "1.2705"),
        KnownAsset("USDC", "stablecoin", 6, "1.0000"),
        KnownAsset("DAI", "stablecoin", 18, "1.0000"),
        KnownAsset("ETH", "crypto", 18, "3150.25"),
    )
}
"""What `onebook init` can be asked for by name; others are added in the configuration."""

ALWAYS = frozenset({"USD", "EUR", "USDC", "ETH"})
"""What every new installation can hold, whether or not a token or bank account of it was named."""

COIN = "ETH"
"""What gas is paid in on every network that an installation begins with."""

_MILLION = 10**6
_ETHER = 10**18
_templates = Templates(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    undefined=StrictUndefined,
    keep_trailing_newline=True,
    autoescape=False,  # noqa: S701 - TOML, not HTML; every value is ours
)


@dataclass(frozen=True, slots=True)
class ChainChoice:
    """An EVM network of a new installation. `tokens`: asset -> (contract, decimals there)."""

    name: str
    url: str
    chain_id: int
    genesis_hash: str
    tokens: Mapping[str, tuple[str, int]]
    spendable_depth: int
    final_depth: int
    start_height: int = 0
    replace_after_seconds: int = 120


@dataclass(frozen=True, slots=True)
class BankChoice:
    """One of our bank accounts."""

    name: str
    iban: str
    asset: str


@dataclass(frozen=True, slots=True)
class Installed:
    """A new installation. `words` are the only backup of its seeds, by role: to be shown once and kept nowhere."""

    config: Path
    fingerprints: dict[str, str]
    words: dict[str, str] = field(repr=False)


def install(
    home: Path,
    *,
    passphrase: bytes,
    chains: Sequence[ChainChoice],
    banks: Sequence[BankChoice],
    clock: Clock,
    entropy: Entropy,
    api_port: int = 8080,
    requests_per_minute: int = 600,
    worker_pause_ms: int = 500,
    hot_senders: int = 1,
    cost: Argon2Cost | None = None,
    logs: Path = Path("logs"),
    public_books: bool = False,
    bank_folder: Path | None = None,
    environment: Environment = Environment.LIVE,
    rails: Mapping[str, Mapping[str, object]] | None = None,
    exchange: str = "",
) -> Installed:
    """Write a new installation into `home`. Raises ConfigError when one is there already: nothing is overwritten.

    `rails`: each payment provider's settings by its name, as in the file. `exchange`: TOML of `[exchange]`. Raises
    ConfigError also for an asset that isn't KNOWN and for two networks of one name or chain id, before anything is
    written.
    """
    config = home / CONFIG_NAME
    if config.exists():
        raise ConfigError(f"{config} is there already: an installation is never written over", code="already_installed")
    _must_differ(chains)
    assets = _assets(chains, banks)
    home.mkdir(parents=True, exist_ok=True)
    created = create_keys(home / "keys", passphrase=passphrase, entropy=entropy, cost=cost)
    fingerprints = {role: key.fingerprint for role, key in created.items()}
    make_seal_key(home / KEY_NAME)
    make_key_file(home / PERSONAL_KEY_NAME)
    if chains:
        text = _policy(chains, fingerprints, hot_senders)
        write_atomically(home / "policy.toml", text.encode())
        enrol(home / "journal.sqlite", keys_of(created), parse(text), clocks=SystemClocks())
    as_of = clock.now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    _render(home, "rates.toml", as_of=as_of, assets=[asset for asset in assets if asset.rate is not None])
    _render(home, "tariff.toml")
    _render(
        home,
        CONFIG_NAME,
        api_port=api_port,
        requests_per_minute=requests_per_minute,
        worker_pause_ms=worker_pause_ms,
        hot_senders=hot_senders,
        signer_socket="run/signer.sock",
        logs=str(logs),
        public_books=public_books,
        xpubs={role.value: key.xpub for role, key in created.items()},
        assets=assets,
        coin=COIN,
        networks=chains,
        deployments=[deployment for chain in chains for deployment in _deployments(chain)],
        bank_accounts=banks,
        bank_folder=bank_folder,
        environment=environment.value,
        rails=rails or {},
        exchange=exchange,
    )
    return Installed(
        config=config,
        fingerprints={role.value: mark.hex() for role, mark in fingerprints.items()},
        words={role.value: key.words for role, key in created.items()},
    )


def _must_differ(chains: Sequence[ChainChoice]) -> None:
    for what, told in (("name", [one.name for one in chains]), ("chain id", [one.chain_id for one in chains])):
        if len(set(told)) < len(told):
            raise ConfigError(f"two networks have the same {what}: {', '.join(map(str, told))}")


def _assets(chains: Sequence[ChainChoice], banks: Sequence[BankChoice]) -> list[KnownAsset]:
    """Those that every installation has, and those that a token or a bank account is of."""
    named = {asset for chain in chains for asset in chain.tokens} | {bank.asset for bank in banks}
    if unknown := sorted(named - KNOWN.keys()):
        raise ConfigError(
            f"{unknown[0]} isn't known by name, only {', '.join(KNOWN)}: make the installation without it and add it to"
            " onebook.toml ([[assets]], docs/configuration.md)",
            code="unknown_asset",
        )
    return [asset for asset in KNOWN.values() if asset.code in ALWAYS | named]


def _policy(chains: Sequence[ChainChoice], fingerprints: Mapping[Role, bytes], hot_senders: int) -> str:
    """Small change per transfer and day, as a start; the operator raises it knowingly."""
    return starter_policy(*map(_network_start, chains), fingerprints=fingerprints, hot_senders=hot_senders)


def _network_start(chain: ChainChoice) -> NetworkStart:
    tokens = chain.tokens.items()
    return NetworkStart(
        chain_id=chain.chain_id,
        tokens={
            contract: Limits(per_transfer=_MILLION // 10 * 10**decimals, per_day=_MILLION * 10**decimals)
            for _, (contract, decimals) in tokens
        },
        native=Limits(per_transfer=10 * _ETHER, per_day=100 * _ETHER),
        top_ups=Limits(per_transfer=_ETHER // 10, per_day=_ETHER),
        fee_wei_max=300_000 * 500 * GWEI,
        gas_per_day=3 * _ETHER // 2,
        payout=PayoutContract(code_hash=bytes(keccak(payout_code().creation)), fee_wei_max=_ETHER),
        names={NATIVE: (COIN, 18)} | {contract: (asset, decimals) for asset, (contract, decimals) in tokens},
    )


def _deployments(chain: ChainChoice) -> list[dict[str, object]]:
    native: dict[str, object] = {
        "asset": COIN,
        "network": chain.name,
        "contract": None,
        "decimals": 18,
        "deposit_minimum": "0.001",
    }
    return [native] + [
        {
            "asset": asset,
            "network": chain.name,
            "contract": contract,
            "decimals": decimals,
            "deposit_minimum": "1.00",
        }
        for asset, (contract, decimals) in chain.tokens.items()
    ]


def _render(home: Path, name: str, **values: object) -> None:
    text = _templates.get_template(name).render(**values)
    write_atomically(home / name, text.encode(), mode=0o600)
