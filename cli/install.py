"""Making an installation: its folder with configuration, keys, policy and the signer's journal. Starts no server."""

from collections.abc import Mapping
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
from custody.policy_starter import Limits, PayoutContract, starter_policy
from fiat.personal import KEY_NAME as PERSONAL_KEY_NAME
from fiat.personal import make_key_file
from ledger.seals import KEY_NAME, make_seal_key
from wiring.settings import CONFIG_NAME, Environment

ASSETS = (
    {"code": "USD", "kind": "fiat", "scale": 2},
    {"code": "EUR", "kind": "fiat", "scale": 2},
    {"code": "USDC", "kind": "stablecoin", "scale": 6},
    {"code": "ETH", "kind": "crypto", "scale": 18},
)
"""What a new installation can hold; more are added in its configuration."""

_MILLION_USDC = 10**6 * 10**6
_ETHER = 10**18
_templates = Templates(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    undefined=StrictUndefined,
    keep_trailing_newline=True,
    autoescape=False,  # noqa: S701 - TOML, not HTML; every value is ours
)


@dataclass(frozen=True, slots=True)
class ChainChoice:
    """The one EVM network of a new installation. `tokens`: asset -> (contract, decimals there)."""

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
    chain: ChainChoice | None,
    banks: tuple[BankChoice, ...],
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

    `rails`: each payment provider's settings by its name, as in the file. `exchange`: TOML of `[exchange]`.
    """
    config = home / CONFIG_NAME
    if config.exists():
        raise ConfigError(f"{config} is there already: an installation is never written over", code="already_installed")
    home.mkdir(parents=True, exist_ok=True)
    created = create_keys(home / "keys", passphrase=passphrase, entropy=entropy, cost=cost)
    fingerprints = {role: key.fingerprint for role, key in created.items()}
    make_seal_key(home / KEY_NAME)
    make_key_file(home / PERSONAL_KEY_NAME)
    if chain is not None:
        text = _policy(chain, fingerprints, hot_senders)
        write_atomically(home / "policy.toml", text.encode())
        enrol(home / "journal.sqlite", keys_of(created), parse(text), clocks=SystemClocks())
    _render(home, "rates.toml", as_of=clock.now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
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
        assets=ASSETS,
        networks=[chain] if chain else [],
        deployments=_deployments(chain) if chain else [],
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


def _policy(chain: ChainChoice, fingerprints: Mapping[Role, bytes], hot_senders: int) -> str:
    """Small change per transfer and day, as a start; the operator raises it knowingly."""
    named = chain.tokens.items()
    return starter_policy(
        chain_id=chain.chain_id,
        tokens={
            contract: Limits(per_transfer=_MILLION_USDC // 10, per_day=_MILLION_USDC)
            for contract, _ in chain.tokens.values()
        },
        native=Limits(per_transfer=10 * _ETHER, per_day=100 * _ETHER),
        top_ups=Limits(per_transfer=_ETHER // 10, per_day=_ETHER),
        fee_wei_max=300_000 * 500 * GWEI,
        fingerprints=fingerprints,
        gas_per_day=3 * _ETHER // 2,
        payout=PayoutContract(code_hash=bytes(keccak(payout_code().creation)), fee_wei_max=_ETHER),
        hot_senders=hot_senders,
        names={NATIVE: ("ETH", 18)} | {contract: (asset, decimals) for asset, (contract, decimals) in named},
    )


def _deployments(chain: ChainChoice) -> list[dict[str, object]]:
    native: dict[str, object] = {
        "asset": "ETH",
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
