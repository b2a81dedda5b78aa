"""Legs that a person must end, on a real chain with a real signer: by what their batch's own transaction shows."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from chain import local
from chain.evm.addresses import show_address
from custody.derivation import Role as CustodyRole
from db.engine import tx
from db.server import Running
from ledger.accounts import Account, user_account
from tests.support.backups import name_in, put_back, take_dump
from tests.support.chain import RunningChain, start_local_chain
from tests.support.postgres import Database
from tests.support.recovery import look, recover
from tests.support.signer import RunningSigner
from tests.support.whole_house import WholeHouse
from tests.wallet.batch_house import ask, batch_house, batch_rows, coin_batch, finish, now, open_house
from tests.wallet.batch_world import batch_signer
from tests.wallet.foreign_world import stolen

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

OTHER_LEGS = (
    """UPDATE chain_transactions SET "order" = jsonb_set("order", '{legs,0,amount}', '"1"') WHERE kind = 'batch'"""
)


@pytest.fixture
def anvil(tmp_path: Path) -> Iterator[RunningChain]:
    with start_local_chain(tmp_path) as chain:
        yield chain


@pytest.fixture
def signer(anvil: RunningChain, tmp_path: Path) -> Iterator[RunningSigner]:
    with batch_signer(tmp_path, anvil) as running:
        yield running


@pytest.fixture
async def house(
    anvil: RunningChain, signer: RunningSigner, database: Database, tmp_path: Path
) -> AsyncIterator[WholeHouse]:
    async with batch_house(anvil, signer, database, tmp_path / "house") as made:
        await open_house(made, signer)
        yield made


async def alter(house: WholeHouse, statement: str, **named: Any) -> None:
    """Somebody's hand in the database."""
    async with tx(house.parts.engine) as connection:
        await connection.execute(text(statement), named)


async def resolve(house: WholeHouse, asked: dict[str, Any], outcome: str, tx_hash: str | None = None) -> Any:
    """The answer to a treasurer's resolution."""
    body = {"outcome": outcome, "reason": "looked at"} | ({} if tx_hash is None else {"tx_hash": tx_hash})
    return await house.treasurer.post(f"/v1/treasury/withdrawals/{asked['id']}/resolutions", body)


async def refused(house: WholeHouse, asked: dict[str, Any], outcome: str, tx_hash: str | None = None) -> str:
    """Why the chain doesn't bear this out."""
    answer = await resolve(house, asked, outcome, tx_hash)
    assert (answer.status_code, answer.json()["code"]) == (409, "resolution_refused"), answer.text
    return str(answer.json()["detail"])


async def wallet(house: WholeHouse, asset: str) -> Account:
    """Alice's account."""
    found = await house.services.ledger.account(user_account(house.alice.user or "", asset))
    assert found is not None
    return found


async def under_review(house: WholeHouse) -> dict[str, dict[str, Any]]:
    return {one["id"]: one for one in await house.items(house.treasurer, "/v1/treasury/withdrawals")}


async def mined(house: WholeHouse) -> None:
    """All that waits is in one batch, which is mined."""
    await house.work()
    (batch, *_), _ = await batch_rows(house)
    assert batch.state == "open"


async def test_legs_of_an_unclear_token_batch_are_resolved_by_its_own_logs_each_once(house, anvil):
    """The record tells other legs than the contract's events: nothing is believed, and a person goes by the logs."""
    twice = [await ask(house, "a", "1.00")]
    twice.append(await ask(house, "b", "1.00", to=twice[0]["to"]))
    once = [await ask(house, "c", "3.00"), await ask(house, "d", "4.00")]
    for step in ("withdrawals", "withdrawals", "batches"):
        await house.work(only=step)
    anvil.as_token_owner("USDC", "blacklist(address)", once[1]["to"])
    await mined(house)
    await alter(house, OTHER_LEGS)
    await finish(house)
    asked = [*twice, *once]
    (batch,), legs = await batch_rows(house)
    assert (batch.state, batch.outcome, [leg.result for leg in legs]) == ("ended", "final", ["unclear"] * 4)
    listed = await under_review(house)
    assert listed.keys() == {one["id"] for one in asked}
    (tx_hash,) = {one["found"]["nonce_used_up"]["tx_hash"] for one in listed.values()}
    assert [one["carries_out"] for one in listed[twice[0]["id"]]["found"]["payments"]] == [batch.id] * 2

    assert "paid the recipient at log:" in await refused(house, once[0], "returned")
    assert "shows no payment of 4000000 units" in await refused(house, once[1], "paid", tx_hash)
    assert "is on record that paid USDC" in await refused(house, once[0], "paid", "0x" + "5e" * 32)
    answers = await asyncio.gather(*(resolve(house, one, "paid", tx_hash) for one in twice))
    for one, answer in zip(twice, answers, strict=True):
        if answer.status_code != 201:  # both looked at the same log: the second one looks again
            answer = await resolve(house, one, "paid", tx_hash)
        assert (answer.status_code, answer.json()["state"]) == (201, "final"), answer.text
    assert (await resolve(house, once[0], "paid", tx_hash)).json()["state"] == "final"
    assert (await resolve(house, once[1], "returned")).json()["state"] == "reverted"
    for one in asked:
        assert "only one that needs review is ended by hand" in await refused(house, one, "returned")
    ended = await now(house, asked)
    assert sum(one.fee_wei for one in ended) == batch.cost_wei
    assert all(0 < one.fee <= one.fee_highest for one in ended[:3])
    assert ended[3].fee == 0
    _, legs = await batch_rows(house)
    assert [leg.result for leg in legs] == ["paid", "paid", "paid", "failed"]
    assert [anvil.balance("USDC", one["to"]) for one in asked] == [2_000_000, 2_000_000, 3_000_000, 0]
    left = 100_000_000 - 5_000_000 - sum(one.fee for one in ended)
    account = await wallet(house, "USDC")
    assert (account.balance, account.debits_pending) == (left, 0)
    assert await house.house("in-transit:local:out") == 0
    await house.require_agreement()


async def test_legs_of_an_unclear_coin_batch_are_resolved_by_the_contract_s_events(house, anvil):
    coins = await coin_batch(house)
    await mined(house)
    await alter(house, OTHER_LEGS)
    await finish(house)
    listed = await under_review(house)
    assert listed.keys() == {one["id"] for one in coins}
    (tx_hash,) = {one["found"]["nonce_used_up"]["tx_hash"] for one in listed.values()}
    assert "shows no payment" in await refused(house, coins[0], "paid", tx_hash)
    assert "paid the recipient at log:" in await refused(house, coins[1], "returned")
    assert "only that one's transaction can have paid it" in await refused(house, coins[1], "paid", "0x" + "5e" * 32)
    assert await house.house("in-transit:local:out", "ETH") == -2 * 10**16
    assert (await resolve(house, coins[1], "paid", tx_hash)).json()["state"] == "final"
    assert await house.house("in-transit:local:out", "ETH") == -(10**16)
    assert (await resolve(house, coins[0], "returned")).json()["state"] == "reverted"
    assert await house.house("in-transit:local:out", "ETH") == 0
    assert [anvil.balance("ETH", one["to"]) for one in coins] == [1, 10**16 + 1]
    ended = await now(house, coins)
    account = await wallet(house, "ETH")
    assert (account.balance, account.debits_pending) == (10**18 - 10**16 - ended[1].fee, 0)
    assert "only one that needs review is ended by hand" in await refused(house, coins[0], "returned")
    await house.require_agreement()


async def test_f34_legs_of_a_batch_whose_nonce_others_used_are_paid_by_them_or_returned(house, anvil, signer):
    """Another installation with the same keys pays one of them with the batch's nonce; the batch can't be mined."""
    anvil.set_automine(False)
    asked = [await ask(house, f"{n}", f"{n}.00") for n in (1, 2)]
    await house.work()
    thief = stolen(signer, CustodyRole.HOT)
    wanted = {
        "chainId": anvil.chain_id,
        "nonce": 1 + int(anvil.rpc("eth_getTransactionCount", thief.address, "latest"), 16),  # after the allowance
        "to": anvil.token("USDC"),
        "value": 0,
        "data": local.encode_call("transfer(address,uint256)", show_address(asked[0]["to"]), 1_000_000),
        "gas": 100_000,
        "maxFeePerGas": 10**12,
        "maxPriorityFeePerGas": 10**11,
    }
    raw = thief.sign_transaction(wanted).raw_transaction.to_0x_hex()
    theirs = str(anvil.rpc("eth_sendRawTransaction", raw))
    anvil.mine(1)
    await finish(house)
    listed = await under_review(house)
    assert listed.keys() == {one["id"] for one in asked}
    assert "say `paid` and name it" in await refused(house, asked[0], "returned")
    assert (await resolve(house, asked[0], "paid", theirs)).json()["state"] == "final"
    assert "is on record that paid USDC" in await refused(house, asked[1], "paid", theirs)
    assert (await resolve(house, asked[1], "returned")).json()["state"] == "cancelled"
    await finish(house)
    (batch,), legs = await batch_rows(house)
    assert (batch.state, batch.outcome, [leg.result for leg in legs]) == ("ended", "lost", ["lost"] * 2)
    assert [anvil.balance("USDC", one["to"]) for one in asked] == [1_000_000, 0]
    assert await house.house("in-transit:local:out") == 0
    account = await wallet(house, "USDC")
    assert account.debits_pending == 0
    run = await house.services.reconciler.run()
    assert ([one.reason for one in run.breaks], run.in_flight) == ([], ())


@pytest.mark.parametrize("outcome", ["paid", "returned"])
async def test_f47_a_leg_that_a_recovery_could_not_rebuild_is_held_until_a_person_resolves_it(
    anvil: RunningChain,
    signer: RunningSigner,
    database: Database,
    postgres: Running,
    tmp_path: Path,
    outcome: str,
):
    """Its row in the backup tells another recipient than was signed: neither paid again nor released by itself."""
    async with batch_house(anvil, signer, database, tmp_path / "house") as before:
        await open_house(before, signer)
        asked = [await ask(before, f"{n}", f"{n}.00") for n in (1, 2)]
        take_dump(postgres, name_in(database.app_url), tmp_path / "dump")
        await finish(before)
        suspense = await before.house("suspense")
    await put_back(postgres, name_in(database.app_url), tmp_path / "dump")
    async with batch_house(anvil, signer, database, tmp_path / "house", again=before) as house:
        mine, other = asked[0]["id"], "0x" + "0d" * 20
        address = "UPDATE wallet_withdrawals SET address = :to WHERE id = :id"
        await alter(house, address, to=other, id=mine)
        await house.work()
        found = await look(house, signer)
        assert found.in_batches == (mine,)
        (left,) = (await recover(house, signer)).left
        assert (left.subject, "another recipient" in (left.note or "")) == (mine, True)
        assert (await recover(house, signer, leave=(mine,))).left == ()
        await finish(house)
        assert [one.state for one in await now(house, asked)] == ["needs_review", "final"]
        cancelled = await house.alice.post(f"/v1/withdrawals/{mine}/cancel")
        assert cancelled.status_code == 409, cancelled.text
        assert await house.house("suspense") == suspense - 1_000_000
        listed = (await under_review(house))[mine]
        tx_hash = listed["found"]["nonce_used_up"]["tx_hash"]
        assert "shows no payment" in await refused(house, asked[0], "paid", tx_hash)
        if outcome == "paid":
            await alter(house, address, to=asked[0]["to"].lower(), id=mine)
            assert "paid the recipient at log:" in await refused(house, asked[0], "returned")
            assert (await resolve(house, asked[0], "paid", tx_hash)).json()["state"] == "final"
            assert await house.house("suspense") == suspense, "what it took was this one's"
        else:
            assert (await resolve(house, asked[0], "returned")).json()["state"] == "reverted"
            assert await house.house("suspense") == suspense - 1_000_000, "who has it, the house must find out"
        await finish(house)
        account = await wallet(house, "USDC")
        assert (account.debits_pending, await house.house("in-transit:local:out")) == (0, 0)
        assert anvil.balance("USDC", asked[0]["to"]) == 1_000_000
        await house.require_agreement()
