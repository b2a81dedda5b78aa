"""F47 where payments shared a transaction: batches that a restored database has forgotten, wholly or by some legs.

All real: PostgreSQL and its own backups, signer, chain. What the journal and the chain know is the measure.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import pytest

from chain import rebuilding
from chain.evm.addresses import show_address
from chain.transactions import find_all
from db.engine import tx
from db.server import Running
from ledger.accounts import user_account
from ledger.owing import receivable_account
from tests.support.backups import name_in, put_back, take_dump
from tests.support.chain import RunningChain, start_local_chain
from tests.support.postgres import Database, fresh_database
from tests.support.recovery import Killed, look, recover
from tests.support.signer import RunningSigner
from tests.support.whole_house import WholeHouse
from tests.wallet.batch_house import ask, batch_house, batch_rows, coin_batch, finish, now, open_house, units
from tests.wallet.batch_world import batch_signer
from tests.wallet.conftest import key
from wiring.recovery_items import Part

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(300)]

PARTS = ("halted", "followed", "sender", "transactions", "booked", "batch", "leg", "withdrawal", "withdrawals")


@pytest.fixture
def anvil(tmp_path: Path) -> Iterator[RunningChain]:
    with start_local_chain(tmp_path) as chain:
        yield chain


@pytest.fixture
def signer(anvil: RunningChain, tmp_path: Path) -> Iterator[RunningSigner]:
    with batch_signer(tmp_path, anvil) as running:
        yield running


@pytest.fixture
async def empty(postgres: Running) -> AsyncIterator[Database]:
    """Another database, which knows nothing."""
    async with fresh_database(postgres) as fresh:
        yield fresh


async def test_f47_batches_that_an_empty_database_never_knew_end_as_the_chain_says(
    anvil: RunningChain, signer: RunningSigner, database: Database, empty: Database, tmp_path: Path
):
    async with batch_house(anvil, signer, database, tmp_path / "first") as house:
        await open_house(house, signer)
        tokens = [await ask(house, f"t{n}", f"{n}.00") for n in range(1, 4)]
        await house.work(only="withdrawals")
        await house.work(only="withdrawals")
        await house.work(only="batches")
        anvil.as_token_owner("USDC", "blacklist(address)", tokens[1]["to"])
        coins = await coin_batch(house)
        await finish(house)
        first = [*tokens, *coins]
        before = await now(house, first)
        assert [one.state for one in before] == ["final", "reverted", "final", "reverted", "final"]
        later = [await ask(house, f"l{n}", f"1{n}.00") for n in range(2)]
        await house.work()
        assert {one.state for one in await now(house, later)} == {"mined"}
        owner, known = house.alice.user, await batch_rows(house)
        assert owner is not None
        assert [one.contract is None for one in known[0]] == [False, True, False]
        await house.require_agreement()

    asked = [*first, *later]
    async with batch_house(anvil, signer, empty, tmp_path / "second") as house:
        await house.work()
        found = await look(house, signer)
        parts = {one.subject: one.part for one in found.items}
        assert parts.keys() >= {one["id"] for one in asked} | {one.id for one in known[0]}
        assert {parts[one["id"]] for one in asked} == {Part.REBUILD}
        legs = {one.subject: one for one in found.items if one.batch is not None}
        assert legs.keys() == {one["id"] for one in asked}
        assert {one.owner for one in legs.values()} == {owner}
        for part in PARTS:
            with pytest.raises(Killed):
                await recover(house, signer, killed_after=part)
            assert await house.parts.gate.look() is not None, f"killed after {part} it stays halted"
        done = await recover(house, signer)
        assert (done.left, await house.parts.gate.look()) == ((), None)
        again = await look(house, signer)
        assert (again.is_needed, again.items) == (False, ())
        await finish(house)
        after = await now(house, asked, owner)
        assert [one.state for one in after] == ["final", "reverted", "final", "reverted", "final", "final", "final"]
        assert [one.fee for one in after[:5]] == [one.fee for one in before], "each bears what it bore"
        assert [one.tx_hash for one in after[:5]] == [one.tx_hash for one in before]
        made, rows = await batch_rows(house)
        assert [(one.id, one.outcome, one.cost_wei) for one in made[:2]] == [
            (one.id, one.outcome, one.cost_wei) for one in known[0][:2]
        ]
        assert [(one.withdrawal, one.result) for one in rows[:5]] == [
            (one.withdrawal, one.result) for one in known[1][:5]
        ]
        assert [one.result for one in rows[5:]] == ["paid"] * 2
        assert [anvil.balance("USDC", one["to"]) for one in (*tokens, *later)] == [
            *(1_000_000, 0, 3_000_000),
            *(10_000_000, 11_000_000),
        ]
        assert [anvil.balance("ETH", one["to"]) for one in coins] == [1, 10**16 + 1]
        for asset in ("USDC", "ETH"):
            spent = sum(one.amount + one.fee for one in after if one.asset == asset and one.state == "final")
            assert -await units(house, receivable_account(owner, asset)) == spent, "all that the book lacked is owed"
            assert await units(house, user_account(owner, asset)) == 0
            assert await house.house("in-transit:local:out", asset) == 0
        await house.require_agreement()


@asynccontextmanager
async def restored(
    anvil: RunningChain, signer: RunningSigner, database: Database, postgres: Running, folder: Path, before: WholeHouse
) -> AsyncIterator[WholeHouse]:
    """The house once its database is what it was when `folder`/dump was taken."""
    await put_back(postgres, name_in(database.app_url), folder / "dump")
    async with batch_house(anvil, signer, database, folder / "house", again=before) as house:
        await house.parts.gate.look()
        yield house


async def test_f47_legs_that_the_backup_knows_move_on_and_what_was_given_up_stands_in_suspense(
    anvil: RunningChain, signer: RunningSigner, database: Database, postgres: Running, tmp_path: Path
):
    async with batch_house(anvil, signer, database, tmp_path / "house") as before:
        await open_house(before, signer)
        held = [await ask(before, f"h{n}", f"{n}.00") for n in (1, 2)]
        take_dump(postgres, name_in(database.app_url), tmp_path / "dump")
        forgotten = await ask(before, "f", "4.00")
        asked = [*held, forgotten]
        await before.work()
        (batch,), legs = await batch_rows(before)
        assert [leg.withdrawal for leg in legs] == [one["id"] for one in asked]
        await finish(before)
        ended = await now(before, asked)
        assert [one.state for one in ended] == ["final"] * 3

    async with restored(anvil, signer, database, postgres, tmp_path, before) as house:
        given_up = await house.services.withdrawals.cancel(
            key=key("before the halt was seen"), owner=house.alice.user or "", withdrawal=held[1]["id"]
        )
        assert given_up.state == "cancelled"
        await house.work()
        assert await house.parts.gate.look() is not None
        found = {one.subject: (one.part, one.batch) for one in (await look(house, signer)).items}
        assert [found.get(one["id"]) for one in asked] == [
            (Part.MOVE_ON, batch.id),
            (Part.BY_HAND, batch.id),
            (Part.REBUILD, batch.id),
        ]
        for part in PARTS:
            with pytest.raises(Killed):
                await recover(house, signer, killed_after=part)
        for _ in range(2):
            done = await recover(house, signer)
            (left,) = done.left
            assert (left.subject, left.batch, await house.parts.gate.look() is not None) == (
                held[1]["id"],
                batch.id,
                True,
            )
            assert "is cancelled here" in (left.note or "")
        done = await recover(house, signer, leave=(held[1]["id"],))
        assert (done.left, await house.parts.gate.look()) == ((), None)
        again = await look(house, signer)
        assert (again.is_needed, again.items) == (False, ())
        await finish(house)
        after = await now(house, asked)
        assert [one.state for one in after] == ["final", "cancelled", "final"]
        assert [one.fee for one in (after[0], after[2])] == [one.fee for one in (ended[0], ended[2])]
        assert [anvil.balance("USDC", one["to"]) for one in asked] == [1_000_000, 2_000_000, 4_000_000]
        assert await house.house("suspense") == -2_000_000 + 1_000_000_000, (
            "what the third one took, and what came at first"
        )
        assert await units(house, receivable_account(house.alice.user or "", "USDC")) == 0
        left_to_her = Decimal(100) - 1 - 4 - sum(Decimal(one.fee) / 10**6 for one in (after[0], after[2]))
        assert Decimal(await house.balance(house.alice)) == left_to_her
        await house.require_agreement()
        for one in (held[0], forgotten):
            repeated = await house.alice.post("/v1/withdrawals", one["body"], key=one["key"])
            assert (repeated.status_code, repeated.json()["id"]) == (201, one["id"])
            other = await house.alice.post("/v1/withdrawals", one["body"] | {"amount": "0.50"}, key=one["key"])
            assert (other.status_code, one["id"] in other.text) == (422, True)


@pytest.mark.parametrize("traces", ["on_surplus", "never"])
async def test_f47_a_refund_that_nobody_could_tell_of_is_in_the_book_once(
    anvil: RunningChain, signer: RunningSigner, database: Database, empty: Database, tmp_path: Path, traces: str
):
    """The chain was taken in anew by a house with neither batch nor policy: what came back is a trace or a surplus."""
    async with batch_house(anvil, signer, database, tmp_path / "first") as house:
        await open_house(house, signer)
        coins = await coin_batch(house)
        await finish(house)
        assert [one.state for one in await now(house, coins)] == ["reverted", "final"]
        owner = house.alice.user
        assert owner is not None
    none = tmp_path / "none.toml"
    async with batch_house(anvil, signer, empty, tmp_path / "second", policy=none, network={"traces": traces}) as house:
        await house.work()
        assert (await recover(house, signer)).left == ()
        await finish(house)
        assert [one.state for one in await now(house, coins, owner)] == ["reverted", "final"]
        assert await house.house("in-transit:local:out", "ETH") == 0
        run = await house.services.reconciler.run()
        surpluses = [] if traces == "on_surplus" else [("surplus", 10**16)]
        assert ([(one.reason, one.found) for one in run.breaks], run.in_flight) == (surpluses, ())


async def test_f47_a_batch_left_by_hand_pays_nobody_twice_and_is_rebuilt_once_its_token_is_configured(
    anvil: RunningChain, signer: RunningSigner, database: Database, postgres: Running, tmp_path: Path
):
    async with batch_house(anvil, signer, database, tmp_path / "house") as before:
        await open_house(before, signer)
        asked = [await ask(before, f"h{n}", f"{n}.00") for n in (1, 2)]
        take_dump(postgres, name_in(database.app_url), tmp_path / "dump")
        await finish(before)
        (batch,), _ = await batch_rows(before)
    await put_back(postgres, name_in(database.app_url), tmp_path / "dump")
    wrong = {"contract": show_address("0x" + "ee" * 20)}
    async with batch_house(anvil, signer, database, tmp_path / "house", again=before, usdc=wrong) as house:
        await house.work()
        found = await look(house, signer)
        (item,) = [one for one in found.items if one.part is Part.BY_HAND]
        assert (item.subject, "isn't configured" in (item.note or "")) == (batch.id, True)
        assert found.in_batches == tuple(sorted(one["id"] for one in asked))
        assert (await recover(house, signer, leave=(batch.id,))).left == ()
        await finish(house)
        assert {one.state for one in await now(house, asked)} == {"needs_review"}
        assert [anvil.balance("USDC", one["to"]) for one in asked] == [1_000_000, 2_000_000]
    async with batch_house(anvil, signer, database, tmp_path / "house", again=before) as house:
        found = await look(house, signer)
        assert {one.subject: one.part for one in found.items} == {
            batch.id: Part.REBUILD,
            **{one["id"]: Part.MOVE_ON for one in asked},
        }
        assert (await recover(house, signer)).left == ()
        await finish(house)
        assert [one.state for one in await now(house, asked)] == ["final"] * 2
        assert [anvil.balance("USDC", one["to"]) for one in asked] == [1_000_000, 2_000_000]
        await house.require_agreement()


async def test_f47_what_the_backup_had_reserved_alone_is_paid_by_its_batch_and_not_once_more(
    anvil: RunningChain, signer: RunningSigner, database: Database, postgres: Running, tmp_path: Path
):
    """Given back after the backup, as for a halted sender, and then paid together."""
    async with batch_house(anvil, signer, database, tmp_path / "house") as before:
        await open_house(before, signer)
        asked = []
        for n in (1, 2):
            asked.append(await ask(before, f"r{n}", f"{n}.00"))
            await before.work(only="withdrawals")
        assert {one.state for one in await now(before, asked)} == {"nonce_reserved"}
        take_dump(postgres, name_in(database.app_url), tmp_path / "dump")
        async with tx(before.parts.engine) as connection:
            elsewhere = dict.fromkeys([one["id"] for one in asked], "nowhere")
            at = before.parts.clock.now()
            assert await rebuilding.give_back_elsewhere(connection, "local", elsewhere, now=at) == 2
        await before.steps["withdrawals"]()
        await before.steps["batches"]()
        await finish(before)
        (batch,), legs = await batch_rows(before)
        assert [(leg.withdrawal, leg.result) for leg in legs] == [(one["id"], "paid") for one in asked]
        ended = await now(before, asked)
    async with restored(anvil, signer, database, postgres, tmp_path, before) as house:
        await house.work()
        found = {one.subject: (one.part, one.batch) for one in (await look(house, signer)).items}
        assert [found.get(one["id"]) for one in asked] == [(Part.MOVE_ON, batch.id)] * 2
        assert (await recover(house, signer)).left == ()
        async with tx(house.parts.engine) as connection:
            ids = [one["id"] for one in asked]
            assert await find_all(connection, book="main", subjects=ids) == {}, "nobody asks the signer for them alone"
        await finish(house)
        assert [(one.state, one.tx_hash, one.fee) for one in await now(house, asked)] == [
            ("final", one.tx_hash, one.fee) for one in ended
        ]
        assert [anvil.balance("USDC", one["to"]) for one in asked] == [1_000_000, 2_000_000]
        await house.require_agreement()
