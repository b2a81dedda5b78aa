"""What an epoch says is held: at one final block, by two nodes, with nothing kept where that can't be told."""

from dataclasses import dataclass, field
from datetime import date, timedelta

import pytest

from base.errors import Unavailable
from chain import addresses
from chain.controls import Controls
from chain.errors import SignerRefused, SignerUnavailable
from chain.signing import OwnKey, Role, Signed
from custody.derivation import AccountKeys
from custody.derivation import Role as CustodyRole
from custody.messages import encode_signature, proof_digest
from custody.transactions import in_memory
from db.engine import tx
from fiat.bank.records import ClosingBalance
from fiat.rails.balances import RailStanding
from ledger.accounts import house_account, user_account
from ledger.sealing import SealBook
from ledger.seals import make_seal_key
from tests.treasury.scripted_pool import ScriptedPool
from tests.wallet.conftest import ALICE, BOB, USDC, fund, house  # noqa: F401 - a fixture
from tests.wallet.scripted_chain import digest
from treasury.errors import ChainUnsettled, NoEpoch, ReservesUnavailable
from treasury.solvency_epochs import Epochs
from treasury.solvency_reading import Standing, check_published, place_of, standing_of
from treasury.solvency_reserves import Reserves
from treasury.solvency_statements import AtAddress
from wiring.signing import XpubAddresses

pytestmark = pytest.mark.slow

SEED = bytes(range(64))
COLD = "0x" + "cc" * 20


@dataclass
class Banks:
    """Tells what the test says."""

    told: list[ClosingBalance] = field(default_factory=list)

    async def closing_balances(self):
        return self.told


@dataclass
class Rails:
    """Tells what the test says."""

    told: list[RailStanding] = field(default_factory=list)

    async def rail_balances(self):
        return self.told


@dataclass
class Keys:
    """Signs as the signer does, by the keys of one seed; `refuses` and `away` are its other answers."""

    refuses: set[OwnKey] = field(default_factory=set)
    away: bool = False
    asked: list[OwnKey] = field(default_factory=list)

    async def prove(self, intent, *, highest):
        self.asked.append(intent.owner)
        if self.away:
            raise SignerUnavailable("the signer can't be reached")
        if intent.owner in self.refuses:
            raise SignerRefused("no rule speaks of a proof", code="asset_not_listed", journal=(9, bytes(32)))
        keys = AccountKeys(CustodyRole(intent.owner.role.value), SEED)
        address = bytes.fromhex(KNOWN.address(intent.owner)[2:])
        said = proof_digest(address, chain_id=intent.chain_id, epoch=str(intent.epoch), root=intent.root)
        signature = encode_signature(*in_memory(keys.private_key(intent.owner.index))(said))
        return Signed(signature, 7 + len(self.asked), bytes([len(self.asked)]) * 32)


KNOWN = XpubAddresses({str(role): AccountKeys(role, SEED).xpub for role in CustodyRole})


@dataclass
class Stand:
    """A house with money at every kind of place, and what tells of it."""

    epochs: Epochs
    pool: ScriptedPool
    banks: Banks
    rails: Rails
    keys: Keys
    house: object
    hot: str
    deposits: list[str]

    async def refused(self, error, match):
        """Making an epoch is refused so, and nothing is kept."""
        with pytest.raises(error, match=match):
            await self.epochs.make()
        with pytest.raises(NoEpoch):
            await self.epochs.epoch()
        assert not list(self.epochs._folder.glob("main/*"))


@pytest.fixture
async def stand(house, database, clock, entropy, tmp_path):  # noqa: F811 - the fixture
    """Alice is owed 50 USDC and half an ether, Bob 10 USDC and 3 EUR; what is held is another matter."""
    engine = database.engine()
    async with tx(engine) as connection:
        hot = await addresses.enrol(connection, KNOWN, key=OwnKey(Role.HOT, 1), clock=clock)
        gas = await addresses.enrol(connection, KNOWN, key=OwnKey(Role.GAS, 0), clock=clock)
        deposits = [
            await addresses.issue(connection, KNOWN, owner=who, book="main", clock=clock) for who in (ALICE, BOB)
        ]
    for who, asset, amount in (
        (ALICE, "USDC", 50_000_000),
        (ALICE, "ETH", 5 * 10**17),
        (BOB, "USDC", 10_000_000),
        (BOB, "EUR", 300),
    ):
        await fund(house.ledger, user_account(who, asset), amount, name=f"{who}-{asset}")
    await fund(house.ledger, house_account("suspense", "USDC"), 7, name="suspense")
    await house.chain.mine_empty(6)
    pool, banks, rails, keys = ScriptedPool(house.chain), Banks(), Rails(), Keys()
    found = [one.address for one in deposits]
    pool.held |= {(USDC, hot.address): 40_000_000, (None, gas.address): 10**18, (USDC, COLD): 5_000_000}
    pool.held |= {(USDC, found[0]): 12_000_000, (USDC, found[1]): 1_000_000, (None, found[1]): 3}
    banks.told = [ClosingBalance(account="main", asset="EUR", balance=299, as_of=date(2026, 1, 1), statement="S1")]
    rails.told = [
        RailStanding(rail="stripe", balances={"EUR": 2, "USD": 0}, leaving={}, unjudged=None),
        RailStanding(rail="paypal", balances={}, leaving={}, unjudged="it doesn't answer"),
    ]
    epochs = Epochs(
        engine,
        ledger=house.ledger,
        registry=house.registry,
        reserves=Reserves(
            registry=house.registry,
            nodes={"local": pool},
            banks=[banks],
            rails=rails,
            cold={"local": [COLD]},
            named_deposits=1,
        ),
        folder=tmp_path,
        clock=clock,
        entropy=entropy,
        controls=Controls(engine, signer=keys, clock=clock),
    )
    return Stand(epochs, pool, banks, rails, keys, house, hot.address, found)


def ratios(epoch):
    return {one.asset: (one.owed, one.held, one.ratio, one.unassigned) for one in epoch.statement.coverage}


async def test_coverage_is_what_is_held_by_what_is_owed_rounded_down(stand):
    epoch = await stand.epochs.make()
    assert ratios(epoch) == {
        "ETH": (str(5 * 10**17), str(10**18 + 3), "2.000000", "0"),
        "EUR": ("300", "301", "1.003333", "0"),
        "USDC": ("60000000", "58000000", "0.966666", "7"),
    }
    assert epoch.statement.untold == ("paypal",)


async def test_each_reserve_says_where_it_is_and_how_it_is_shown(stand):
    await stand.epochs.make()
    assert await stand.epochs.end_step() == 1
    epoch = await stand.epochs.epoch()
    told = {
        (place_of(one), one.asset): (one.amount, str(standing_of(one, epoch.published)))
        for one in epoch.statement.reserves
    }
    assert told == {
        (f"hot address {stand.hot} on local", "USDC"): ("40000000", "proven"),
        (f"gas address {KNOWN.address(OwnKey(Role.GAS, 0))} on local", "ETH"): (str(10**18), "proven"),
        (f"cold address {COLD} on local", "USDC"): ("5000000", "stated"),
        (f"deposit address {stand.deposits[0]} on local", "USDC"): ("12000000", "proven"),
        ("1 deposit addresses on local", "USDC"): ("1000000", "stated"),
        ("1 deposit addresses on local", "ETH"): ("3", "stated"),
        ("bank main by statement S1 of 2026-01-01", "EUR"): ("299", "attested"),
        ("provider stripe", "EUR"): ("2", "attested"),
    }
    assert sum(int(one.amount) for one in epoch.statement.reserves if one.asset == "USDC") == 58_000_000
    by_asset = {one.asset: one.by_standing for one in check_published(epoch.published)}
    assert by_asset["USDC"] == {Standing.PROVEN: 52_000_000, Standing.STATED: 6_000_000}
    assert by_asset["EUR"] == {Standing.ATTESTED: 301}


async def test_balances_are_those_of_the_final_block_through_which_the_book_has_come(stand):
    epoch = await stand.epochs.make()
    (block,) = epoch.statement.networks
    final = stand.house.chain.height - 3
    assert (block.block_number, block.block_hash) == (final, stand.house.chain.hashes[final])
    assert (block.chain_id, block.nodes) == (31337, 1)


async def test_deposit_addresses_are_named_only_as_far_as_is_set(stand):
    reserves = (await stand.epochs.make()).statement.reserves
    named = [one.address for one in reserves if isinstance(one, AtAddress) and one.role == "deposit"]
    assert named == [stand.deposits[0]], "the one with the greatest share"


async def test_what_the_policy_refuses_stays_stated_and_is_not_asked_again(stand):
    stand.keys.refuses = {OwnKey(Role.GAS, 0)}
    await stand.epochs.make()
    await stand.epochs.end_step()
    await stand.epochs.end_step()
    assert len(stand.keys.asked) == 3
    epoch = await stand.epochs.epoch()
    assert [one.refusal for one in epoch.controls if one.refusal] == ["asset_not_listed: no rule speaks of a proof"]
    assert len(epoch.published.controls) == 2
    check_published(epoch.published)


async def test_a_signer_that_is_away_is_asked_again_and_what_is_signed_stays(stand):
    await stand.epochs.make()
    stand.keys.away = True
    with pytest.raises(SignerUnavailable):
        await stand.epochs.end_step()
    assert (await stand.epochs.epoch()).row.controls_at is None
    stand.keys.away = False
    assert await stand.epochs.end_step() == 1
    assert len((await stand.epochs.epoch()).published.controls) == 3


async def test_a_seal_over_the_command_is_told_with_the_epoch(stand, database, clock, tmp_path):
    epoch = await stand.epochs.make()
    key = make_seal_key(tmp_path / "seal.key")
    sealing = SealBook(database.engine(), book="main", key=key, folder=tmp_path / "seals", clock=clock)
    await stand.epochs.end_step()
    assert (await stand.epochs.epoch()).published.seal is None
    assert await sealing.step() == 1
    assert await stand.epochs.end_step() == 1
    assert await stand.epochs.end_step() == 0, "nothing is left to do"
    published = (await stand.epochs.epoch()).published
    assert (published.digest, published.seal["seal"]["statement"]["number"]) == (epoch.row.digest, 1)


async def test_an_epoch_is_made_by_schedule_and_not_before_its_time(stand, clock):
    assert await stand.epochs.step() == 0, "without a schedule none is made"
    stand.epochs._every = timedelta(days=1)
    assert await stand.epochs.step() == 1
    clock.advance(timedelta(hours=23))
    assert await stand.epochs.step() == 0
    clock.advance(timedelta(hours=1))
    assert await stand.epochs.step() == 1
    assert (await stand.epochs.epoch()).row.number == 2


async def test_an_epoch_that_cannot_be_made_keeps_no_earlier_one_from_being_signed(stand, clock):
    stand.epochs._every = timedelta(days=1)
    await stand.epochs.step()
    clock.advance(timedelta(days=1))
    stand.pool.lags = 1
    with pytest.raises(ReservesUnavailable):
        await stand.epochs.step()
    assert await stand.epochs.end_step() == 1
    assert len((await stand.epochs.epoch(1)).published.controls) == 3


async def test_it_is_told_who_is_asked_for_what_is_held_before_they_answer(stand):
    heard: list[tuple[str, int, int]] = []
    await stand.epochs.make(told=lambda *words: heard.append(words))
    nodes = [(step, total) for about, step, total in heard if about == "asking the nodes of local what is held"]
    assert nodes[0][0] == 0
    assert sum(step for step, _ in nodes) == nodes[0][1] > 0
    providers = [(step, total) for about, step, total in heard if about == "asking payment providers what they owe us"]
    assert providers == [(0, 1), (1, 1)]
    assert heard[-1] == ("stating it in the book", 1, 1)

    heard.clear()
    stand.pool.forgetful = True
    with pytest.raises(ReservesUnavailable):
        await stand.epochs.make(told=lambda *words: heard.append(words))
    assert heard[-1] == ("asking the nodes of local what is held", 0, nodes[0][1]), "so it's seen where it stopped"


# Faults


async def test_an_epoch_is_refused_while_a_reorg_is_under_way(stand):
    height = stand.house.chain.height
    stand.pool.branch = {height: digest("another")}
    await stand.refused(ChainUnsettled, "a reorg of local is under way")


async def test_an_epoch_is_refused_where_the_final_block_is_another(stand):
    stand.pool.branch = {stand.house.chain.height - 3: digest("another")}
    await stand.refused(ChainUnsettled, "a reorg of local is under way")


async def test_an_epoch_is_refused_when_the_chain_turns_while_it_is_read(stand):
    async def turning(asked):
        found = [stand.pool.held[None, address] for address, _ in asked]
        await stand.house.chain.reorg(5, halted="reorg_below_final")
        return found

    stand.pool.coins_witnessed = turning
    await stand.refused(ChainUnsettled, "changed while its balances were read")


async def test_an_epoch_is_refused_on_a_halted_network(stand):
    await stand.house.chain.reorg(1, halted="reorg_below_final")
    await stand.refused(ChainUnsettled, "network local is halted")


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"lags": 1}, ReservesUnavailable, "the nodes of local are at block 5, the book is at 6"),
        ({"ahead": 3}, ReservesUnavailable, "the book is 3 blocks behind the nodes of local"),
        ({"torn": True}, ReservesUnavailable, "the nodes of local disagree about block 3"),
        ({"forgetful": True}, ReservesUnavailable, "no two nodes of local tell what"),
        ({"error": Unavailable("every node rests")}, Unavailable, "every node rests"),
    ],
)
async def test_an_epoch_is_refused_where_nodes_lag_are_down_or_disagree(stand, change, error, match):
    for name, value in change.items():
        setattr(stand.pool, name, value)
    await stand.refused(error, match)


async def test_a_network_that_was_never_followed_or_has_no_final_block_is_named(stand, database):
    chain = stand.house.chain
    await chain.reorg(chain.height, halted=None)
    async with tx(database.engine(admin=True)) as connection:
        await connection.exec_driver_sql("UPDATE chain_networks SET final_height = -1")
    await stand.refused(ReservesUnavailable, "no block of network local is final yet")
