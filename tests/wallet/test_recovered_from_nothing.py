"""F47 at its worst: no backup at all. An empty database, the old signer's journal, and the chain, all real.

The recovery is broken off after each of its parts; begun again it goes on.
"""

from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from base.entropy import SystemEntropy
from chain.evm.addresses import show_address
from chain.transaction_store import lock_nonces
from custody.derivation import Role
from custody.intents import KeyRef, NativeTransfer
from db.engine import tx
from db.server import Running
from ledger.accounts import user_account
from ledger.owing import receivable_account
from tests.support.chain import RunningChain, start_local_chain
from tests.support.postgres import Database, fresh_database
from tests.support.recovery import Killed, look, recover
from tests.support.signer import RunningSigner, generous_policy, start_signer
from tests.support.whole_house import WholeHouse, whole_house
from wiring.recovery_items import Part

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PARTS = ("halted", "followed", "sender", "transactions", "booked", "withdrawal", "withdrawals")


@pytest.fixture
def anvil(tmp_path: Path) -> Iterator[RunningChain]:
    with start_local_chain(tmp_path) as chain:
        yield chain


@pytest.fixture
def signer(tmp_path: Path, anvil: RunningChain) -> Iterator[RunningSigner]:
    running = start_signer(tmp_path / "signer", generous_policy(anvil.chain_id, anvil.token("USDC").lower()))
    yield running
    running.stop()


@pytest.fixture
async def empty(postgres: Running) -> AsyncIterator[Database]:
    """Another database, which knows nothing."""
    async with fresh_database(postgres) as fresh:
        yield fresh


async def withdraw(house: WholeHouse, usdc: str, *, key: str | None = None) -> tuple[str, str, dict[str, str]]:
    """Ask for a payment to a new address; the withdrawal's id, the address, and the request."""
    to = show_address("0x" + SystemEntropy().draw(20).hex())
    body = {"asset": "USDC", "network": "local", "address": to, "amount": usdc}
    asked = await house.alice.post("/v1/withdrawals", body, key=key or usdc)
    assert asked.status_code == 201, asked.text
    return asked.json()["id"], to, body


async def state_of(house: WholeHouse, withdrawal: str) -> str:
    return str((await house.alice.get(f"/v1/withdrawals/{withdrawal}")).json()["state"])


async def test_f47_an_empty_database_learns_from_journal_and_chain_what_was_paid(
    anvil: RunningChain, signer: RunningSigner, database: Database, empty: Database, tmp_path: Path
):
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
    async with whole_house(anvil, database, tmp_path / "first", signer=signer) as house:
        hot = "0x" + signer.address(Role.HOT).hex()
        anvil.faucet(hot, 1_000 * 10**6, "USDC")
        anvil.faucet(hot, 10**18, "ETH")
        anvil.transfer("USDC", await house.address(house.alice), 100_000_000)
        await house.work(blocks=4)
        paid, to, _ = await withdraw(house, "10.00")
        await house.work()
        await house.work(blocks=4)
        assert await state_of(house, paid) == "final"
        sent, then, _ = await withdraw(house, "20.00")
        await house.work()
        owner, left = house.alice.user, Decimal(await house.balance(house.alice))
        assert owner is not None

    async with whole_house(anvil, empty, tmp_path / "second", signer=signer) as house:
        await house.work()
        await house.parts.gate.look()
        assert (await house.alerts())["needs_recovery"]["text"].startswith(
            f"the signer's journal has payments that this database hasn't ({paid}, {sent})"
        )
        refused = await house.alice.post("/v1/transfers", {"recipient": "@bob", "asset": "USDC", "amount": "1.00"})
        assert refused.json()["code"] == "needs_recovery"
        found = await look(house, signer)
        assert {one.subject: (one.part, one.owner) for one in found.items} == {
            paid: (Part.REBUILD, owner),
            sent: (Part.REBUILD, owner),
        }
        assert {one.note for one in found.items} == {"its user isn't known here any more"}
        assert all(one.shortage > one.amount for one in found.items if one.amount), "they have nothing here"

        for part in PARTS:
            with pytest.raises(Killed):
                await recover(house, signer, killed_after=part)
            assert await house.parts.gate.look() is not None, f"killed after {part} it stays halted"
        done = await recover(house, signer)
        assert (done.left, await house.parts.gate.look()) == ((), None)
        assert not (await look(house, signer)).is_needed

        await house.work()
        await house.work(blocks=4)
        assert [anvil.balance("USDC", address) for address in (to, then)] == [10_000_000, 20_000_000]
        states = {one.id: one.state for one in await house.services.withdrawals.list_for(owner)}
        assert states == {paid: "final", sent: "final"}
        ledger = house.services.ledger
        debt, account = (
            await ledger.account(receivable_account(owner, "USDC")),
            await ledger.account(user_account(owner, "USDC")),
        )
        assert debt is not None
        assert account is not None
        fees = sum(one.fee or 0 for one in await house.services.withdrawals.list_for(owner))
        assert (account.balance, -debt.balance) == (0, 30_000_000 + fees), "the unused of the highest fee repaid itself"
        assert left < 100 - 10, "the old database knew of it"
        await house.require_agreement()

        anvil.transfer("USDC", await house.address(house.alice), 50_000_000)
        await house.work(blocks=4)
        more, there, _ = await withdraw(house, "5.00")
        await house.work()
        await house.work(blocks=4)
        assert (await state_of(house, more), anvil.balance("USDC", there)) == ("final", 5_000_000)
        await house.require_agreement()


async def test_f47_what_nobody_can_rebuild_keeps_the_halt_until_a_person_has_seen_to_it(
    anvil: RunningChain, signer: RunningSigner, empty: Database, tmp_path: Path
):
    client = signer.client()
    moved = NativeTransfer(
        subject="mov_1",
        attempt=1,
        chain_id=anvil.chain_id,
        sender=KeyRef(Role.HOT, 0),
        nonce=0,
        gas_limit=21_000,
        max_fee_per_gas=10**10,
        max_priority_fee_per_gas=10**9,
        to=b"\xde" * 20,
        amount=1,
    )
    signed = await client.sign(moved, highest=None)
    await client.close()
    async with whole_house(anvil, empty, tmp_path, signer=signer) as house:
        await house.work()
        (item,) = (await look(house, signer)).items
        assert (item.subject, item.part, item.raw) == ("mov_1", Part.BY_HAND, signed.raw)
        for _ in range(2):
            done = await recover(house, signer)
            assert [(one.subject, one.note) for one in done.left] == [
                ("mov_1", "a payment of the house's own: book what it paid")
            ]
            assert await house.parts.gate.look() is not None
        done = await recover(house, signer, leave=("mov_1",))
        assert (done.left, await house.parts.gate.look()) == ((), None)
        again = await look(house, signer)
        assert (again.is_needed, again.items) == (False, ())
        await house.work()
        assert await house.parts.gate.look() is None, "the watch doesn't find it again"
        async with tx(house.parts.engine) as connection:
            sender = "0x" + signer.address(Role.HOT).hex()
            assert await lock_nonces(connection, network="local", sender=sender) == 1
