"""The database compared with a real signer's journal: what it has forgotten halts it, what it knows doesn't."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete

from base.entropy import SystemEntropy
from chain import restores, tables
from chain import transaction_store as store
from chain.fees import Bid
from chain.networks import Network
from chain.payments import Payment
from chain.rebuilding import JournalAttempt, JournalPayment, rebuild_sender
from chain.signing import OwnAddress, OwnKey, Role
from chain.transaction_states import Kind
from custody.client import SignerClient
from custody.errors import SignerRefused, SignerUnavailable
from db.engine import tx
from tests.custody.samples import policy_text, token_transfer
from tests.support.signer import RunningSigner, start_signer
from tests.wallet.scripted_chain import ScriptedChain
from treasury.journal_watch import EVERY, JournalWatch

pytestmark = pytest.mark.slow


@pytest.fixture
def signer(tmp_path: Path) -> Iterator[RunningSigner]:
    running = start_signer(tmp_path / "signer", policy_text())
    yield running
    running.stop()


class Watched:
    """A database, a signer, and the watch between them."""

    def __init__(self, engine: Any, signer: RunningSigner, clock: Any) -> None:
        self.engine, self.signer, self.clock = engine, signer, clock
        self.client: SignerClient = signer.client(seconds=2)
        self.watch = self.fresh()

    def fresh(self) -> JournalWatch:
        """As another process would look."""
        return JournalWatch(self.engine, journal=self.client, clock=self.clock)

    async def sign(self, number: int, *, stored: bool = True) -> None:
        """The signer signs; `stored`: as the worker does, the attempt before and its answer after."""
        intent = token_transfer(subject=f"wdr_{number}", nonce=number)
        if stored:
            await self.store(number, answered=None)
        signed = await self.client.sign(intent, highest=None)
        if stored:
            await self.store(number, answered=(signed.raw, signed.sequence, signed.head))

    async def store(self, number: int, *, answered: tuple[bytes, int, bytes] | None) -> None:
        raw, sequence, head = answered or (None, 0, b"")
        attempt = JournalAttempt(
            attempt=1,
            kind="pay",
            gas_limit=65_000,
            bid=Bid(10, 1),
            raw=raw,
            tx_hash=None if raw is None else f"0x{number}",
            sequence=sequence,
            head=head,
            at=self.clock.now(),
        )
        hot = OwnAddress(OwnKey(Role.HOT, 0), "0x" + "ab" * 20)
        payment = Payment(
            network="local",
            kind=Kind.WITHDRAWAL,
            book="main",
            subject=f"wdr_{number}",
            sender=hot,
            contract=None,
            to="0x" + "cd" * 20,
            amount=1,
            gas_limit=65_000,
            fee_wei_max=10**15,
        )
        async with tx(self.engine) as connection:
            await rebuild_sender(
                connection,
                hot,
                network="local",
                signed=[JournalPayment(payment=payment, nonce=number, attempts=(attempt,))],
                next_nonce=number + 1,
                refusals={},
                clock=self.clock,
                entropy=SystemEntropy(),
            )

    async def forget(self) -> None:
        """As if the database's files were put back: nothing of any payment is left."""
        async with tx(self.engine) as connection:
            for table in (tables.attempts, tables.transactions, tables.nonces):
                await connection.execute(delete(table))

    async def halt(self) -> restores.Halt | None:
        async with tx(self.engine) as connection:
            return await restores.halt(connection)


@pytest.fixture
async def watched(database, signer, clock):
    engine = database.engine(owner=True)
    network = Network(
        name="local", chain_id=31337, rpc_urls=("http://unused",), native_asset="ETH", spendable_depth=2, final_depth=4
    )
    await ScriptedChain(engine, network, clock).begin()
    made = Watched(engine, signer, clock)
    yield made
    await made.client.close()


async def test_f47_what_is_stored_before_it_is_signed_is_never_missing(watched: Watched):
    for number in range(3):
        await watched.sign(number)
        assert await watched.watch.look() is False
    await watched.store(3, answered=None)  # killed before the signer was asked
    await watched.client.sign(token_transfer(subject="wdr_3", nonce=3), highest=None)  # and after it had signed
    assert await watched.fresh().look() is False
    async with tx(watched.engine) as connection:
        head = await store.journal_head(connection)
    assert head is not None
    assert (await watched.halt(), head[0] > 0) == (None, True)


async def test_f47_one_payment_that_is_not_known_halts_the_database(watched: Watched):
    await watched.sign(0)
    await watched.sign(1, stored=False)
    assert await watched.watch.step() == 1
    found = await watched.halt()
    assert found is not None
    assert found.why == "the signer's journal has payments that this database hasn't (wdr_1)"
    assert await watched.watch.step() == 0, "it looks at most every two seconds"
    watched.clock.advance(EVERY)
    await watched.sign(2, stored=False)
    assert await watched.watch.step() == 1


async def test_f47_a_database_that_knows_nothing_any_more_is_told_all_of_it(watched: Watched):
    for number in range(5):
        await watched.sign(number)
    with pytest.raises(SignerRefused):  # a row beyond all that is stored, so that the process has read on
        await watched.client.sign(token_transfer(subject="wdr_9", nonce=5, amount=10**30), highest=None)
    assert await watched.watch.look() is False
    await watched.forget()
    assert await watched.watch.look() is True, "put back beneath a process that had looked already"
    found = await watched.halt()
    assert found is not None
    assert "(wdr_0, wdr_1, wdr_2 and 2 more)" in found.why


async def test_f47_after_a_recovery_the_journal_is_looked_at_from_there_on(watched: Watched):
    await watched.sign(0, stored=False)
    assert await watched.fresh().look() is True
    status = await watched.client.status()
    async with tx(watched.engine) as connection:
        await restores.settled(connection, (status.sequence, status.head), now=watched.clock.now())
    assert (await watched.fresh().look(), await watched.halt()) == (False, None)
    await watched.sign(1, stored=False)
    assert await watched.fresh().look() is True


async def test_f47_a_row_that_the_journal_has_not_got_counts_as_none_seen(watched: Watched):
    await watched.sign(0, stored=False)
    status = await watched.client.status()
    async with tx(watched.engine) as connection:
        await restores.settled(connection, (status.sequence, b"\1" * 32), now=watched.clock.now())
    assert await watched.fresh().look() is True, "another journal is read from its first row"


async def test_a_signer_that_is_away_halts_nothing(watched: Watched, signer: RunningSigner):
    signer.stop()
    with pytest.raises(SignerUnavailable):
        await watched.watch.look()
    assert await watched.halt() is None
