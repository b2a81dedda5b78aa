"""A house on a real database: a book with five assets, rates, a scripted network with three of them."""

from contextlib import suppress
from dataclasses import dataclass

import pytest

from base.errors import NotFound
from chain import addresses
from chain.fees import Bid, FeeEstimate
from chain.networks import Deployment, Network, Registry
from chain.signing import OwnKey, Role
from db.engine import tx
from exchange.rates_file import parse_rates
from ledger.accounts import house_account, user_account
from ledger.commands import Post, Posting, alone
from ledger.memory import MemoryLedger
from ledger.money import Asset, AssetKind
from ledger.outcomes import require_accepted
from ledger.requests import request_key
from ledger.service import PostgresLedger
from tests.wallet.scripted_chain import DerivedAddresses, ScriptedChain
from wallet.conversions import Conversions
from wallet.deposit_addresses import DepositAddresses
from wallet.deposits import Deposits
from wallet.quotes import Quotes
from wallet.withdrawals import Withdrawals

ALICE, BOB = "usr_alice", "usr_bob"
USDC = "0x" + "c5" * 20
DAI = "0x" + "da" * 20

ASSETS = (
    Asset("USD", AssetKind.FIAT, 2),
    Asset("EUR", AssetKind.FIAT, 2),
    Asset("USDC", AssetKind.STABLECOIN, 6),
    Asset("DAI", AssetKind.STABLECOIN, 18),
    Asset("ETH", AssetKind.CRYPTO, 18),
)

RATES = """
as_of = 2026-01-01T00:00:00Z
max_age_seconds = 86400
spread_basis_points = 50
pivot = "USD"

[[pairs]]
base = "EUR"
quote = "USD"
rate = "1.0842"

[[pairs]]
base = "USDC"
quote = "USD"
rate = "1"
spread_basis_points = 0

[[pairs]]
base = "ETH"
quote = "USD"
rate = "2500.50"
"""


class FixedRates:
    """Rates from a text, as fresh as the clock."""

    async def current(self):
        return parse_rates(RATES)


class FixedFees:
    """65,000 gas at 20 gwei at most; `above_cap` imitates a network that costs more than the house pays."""

    above_cap = False

    async def estimate(self, deployment, *, sender, to, amount, tried=True):
        gas = 65_000
        bid = Bid(10 * 10**9, 10**9)
        return None if self.above_cap else FeeEstimate(gas, bid, gas * 5 * 10**9, gas * 20 * 10**9)


class OneSender:
    """The first hot address pays everything: the scripted chain has no node that could tell what it holds."""

    def __init__(self, engine):
        self.engine = engine

    async def assign(self, network, wanted):
        async with tx(self.engine) as connection:
            hot = await addresses.house(connection, key=OwnKey(Role.HOT, 0))
        return [hot for _ in wanted]


class KnownPeople:
    """A directory of two."""

    handles: dict[str, str]

    def __init__(self):
        self.handles = {"@alice": ALICE, "@bob": BOB}

    async def resolve(self, who):
        if who in self.handles:
            return self.handles[who]
        if who in (ALICE, BOB):
            return who
        raise NotFound(f"there is no user {who}", param="recipient")

    async def resolve_all(self, named):
        found = {}
        for who in named:
            with suppress(NotFound):
                found[who] = await self.resolve(who)
        return found


@dataclass
class House:
    """Everything a test of the wallet needs, put together."""

    ledger: PostgresLedger
    registry: Registry
    chain: ScriptedChain
    quotes: Quotes
    conversions: Conversions
    addresses: DepositAddresses
    deposits: Deposits
    withdrawals: Withdrawals
    fees: FixedFees
    hot: str

    async def balance(self, account: str) -> int:
        found = await self.ledger.account(account)
        return 0 if found is None else found.balance

    async def user(self, owner: str, asset: str):
        return await self.ledger.account(user_account(owner, asset))

    async def assert_sums_to_zero(self) -> None:
        for code in await self.ledger.assets():
            assert sum(account.balance for account in await self.ledger.accounts(asset=code)) == 0, code


def key(name: str, body: object = None, owner: str = ALICE):
    return request_key(owner=owner, route="/test", key=name, body=body)


async def fund(ledger, account: str, amount: int, *, name: str) -> None:
    """Put value into an account, out of the house's capital."""
    asset = account.rsplit("/", 1)[1]
    source = house_account("capital", asset)
    await ledger.ensure_open(account, source)
    (outcomes,) = await ledger.submit(
        alone(Post(id=f"test:fund:{name}", postings=(Posting(source, account, asset, amount),)))
    )
    require_accepted(outcomes)


@pytest.fixture
def memory(clock):
    ledger = MemoryLedger(clock)
    for asset in ASSETS:
        ledger.known_assets[asset.code] = asset
    return ledger


@pytest.fixture
def people():
    return KnownPeople()


@pytest.fixture
async def house(database, clock, entropy):
    engine = database.engine()
    ledger = PostgresLedger(engine, clock=clock)
    await ledger.create_book()
    for asset in ASSETS:
        await ledger.register_asset(asset)
    network = Network(
        name="local", chain_id=31337, rpc_urls=("http://unused",), native_asset="ETH", spendable_depth=2, final_depth=4
    )
    registry = Registry(
        [network],
        [
            Deployment(asset="USDC", network="local", contract=USDC, decimals=6, deposit_minimum=1_000_000),
            Deployment(asset="DAI", network="local", contract=DAI, decimals=6),
            Deployment(asset="ETH", network="local", contract=None, decimals=18),
        ],
    )
    chain = ScriptedChain(engine, network, clock)
    await chain.begin(**{USDC: 6, DAI: 6})
    source = DerivedAddresses()
    async with tx(engine) as connection:
        hot = await addresses.enrol(connection, source, key=OwnKey(Role.HOT, 0), clock=clock)
    fees, rates = FixedFees(), FixedRates()
    quotes = Quotes(engine, ledger=ledger, rates=rates, clock=clock, entropy=entropy)
    return House(
        ledger=ledger,
        registry=registry,
        chain=chain,
        quotes=quotes,
        conversions=Conversions(engine, ledger=ledger, quotes=quotes, clock=clock),
        addresses=DepositAddresses(engine, book=ledger.book, registry=registry, source=source, clock=clock),
        deposits=Deposits(engine, ledger=ledger, registry=registry, clock=clock, entropy=entropy),
        withdrawals=Withdrawals(
            engine,
            ledger=ledger,
            registry=registry,
            fees=fees,
            rates=rates,
            senders=OneSender(engine),
            clock=clock,
            entropy=entropy,
            minimums={("local", "USDC"): 500_000},
        ),
        fees=fees,
        hot=hot.address,
    )
