"""Own transactions put back from the signer's journal: nonces, attempts, bytes, refusals, on a real database."""

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from base.errors import BrokenInvariant
from chain import rebuilding, tables, transactions
from chain import transaction_store as store
from chain.desk import Desk
from chain.errors import LeadershipLost
from chain.fees import Bid
from chain.networks import Network
from chain.payments import Payment
from chain.rebuilding import JournalAttempt, JournalPayment, JournalRefusal, Rebuilt
from chain.signing import OwnAddress, OwnKey, Role
from chain.transaction_states import Event, Kind, State
from db.engine import tx
from tests.wallet.scripted_chain import ScriptedChain

pytestmark = pytest.mark.slow

HOT = OwnAddress(OwnKey(Role.HOT, 0), "0x" + "ab" * 20)


def payment(subject: str) -> Payment:
    return Payment(
        network="local",
        kind=Kind.WITHDRAWAL,
        book="main",
        subject=subject,
        sender=HOT,
        contract=None,
        to="0x" + "cd" * 20,
        amount=5,
        gas_limit=21_000,
        fee_wei_max=10**15,
    )


class Ledger:
    """A database with a network, and the rows of the one sender."""

    def __init__(self, engine: Any, clock: Any, entropy: Any) -> None:
        self.engine, self.clock, self.entropy = engine, clock, entropy

    async def reserve(self, subject: str, *, asked: bool = False) -> None:
        async with tx(self.engine) as connection:
            made = await transactions.reserve(connection, payment(subject), clock=self.clock, entropy=self.entropy)
            if asked:
                known = await store.by_id(connection, made.id)
                assert known is not None
                assert known.nonce is not None
                attempt = rebuilding._attempt(known.id, known.nonce, self.attempt(subject))
                await store.insert_attempts(connection, [attempt], network="local", now=self.clock.now())

    def attempt(self, subject: str, number: int = 1, *, raw: bool = True, kind: str = "pay") -> JournalAttempt:
        return JournalAttempt(
            attempt=number,
            kind=kind,
            gas_limit=21_000,
            bid=Bid(number * 100, number * 10),
            raw=f"{subject}/{number}".encode() if raw else None,
            tx_hash=f"0x{subject}/{number}" if raw else None,
            sequence=10 * number,
            head=bytes([number]) * 32,
            at=self.clock.now(),
        )

    def signed(self, subject: str, nonce: int, *attempts: JournalAttempt) -> JournalPayment:
        return JournalPayment(payment=payment(subject), nonce=nonce, attempts=attempts or (self.attempt(subject),))

    async def rebuild(
        self, *signed: JournalPayment, following: int | None = None, refused: tuple[str, ...] = ()
    ) -> Rebuilt:
        if following is None and signed:
            following = max(one.nonce for one in signed) + 1
        async with tx(self.engine) as connection:
            return await rebuilding.rebuild_sender(
                connection,
                HOT,
                network="local",
                signed=signed,
                next_nonce=following,
                refusals={subject: JournalRefusal("over a limit", 7, b"\7" * 32) for subject in refused},
                clock=self.clock,
                entropy=self.entropy,
            )

    async def rows(self) -> dict[str, tuple[int | None, State, list[tuple[int, int, bytes | None]]]]:
        """By subject: nonce, state, and (attempt, nonce, bytes) of each attempt."""
        made = tables.transactions
        async with tx(self.engine) as connection:
            known = [store.transaction_of(row) for row in await connection.execute(select(made))]
            attempts = await store.attempts_of(connection, [one.id for one in known])
        return {
            one.payment.subject: (
                one.nonce,
                one.state,
                [(tried.attempt, tried.nonce, tried.raw) for tried in attempts[one.id]],
            )
            for one in known
        }

    async def next_nonce(self) -> int:
        async with tx(self.engine) as connection:
            return await store.lock_nonces(connection, network="local", sender=HOT.address)


@pytest.fixture
async def ledger(database, clock, entropy):
    engine = database.engine()
    network = Network(
        name="local", chain_id=31337, rpc_urls=("http://unused",), native_asset="ETH", spendable_depth=2, final_depth=4
    )
    await ScriptedChain(engine, network, clock).begin()
    return Ledger(engine, clock, entropy)


async def test_f47_forgotten_transactions_have_their_nonces_and_bytes_again(ledger):
    signed = (ledger.signed("wdr_a", 3), ledger.signed("wdr_b", 4))
    assert await ledger.rebuild(*signed) == Rebuilt(transactions=2, attempts=2)
    rows = {
        "wdr_a": (3, State.SIGNED, [(1, 3, b"wdr_a/1")]),
        "wdr_b": (4, State.SIGNED, [(1, 4, b"wdr_b/1")]),
    }
    assert (await ledger.rows(), await ledger.next_nonce()) == (rows, 5)
    assert await ledger.rebuild(*signed) == Rebuilt(), "again changes nothing"
    assert (await ledger.rows(), await ledger.next_nonce()) == (rows, 5)
    await ledger.reserve("wdr_c")
    assert (await ledger.rows())["wdr_c"] == (5, State.RESERVED, [])


async def test_f47_later_attempts_and_cancellations_of_a_known_one_are_added(ledger):
    await ledger.rebuild(ledger.signed("wdr_a", 0))
    more = (ledger.attempt("wdr_a", 2), ledger.attempt("wdr_a", 3, kind="cancel"))
    assert await ledger.rebuild(ledger.signed("wdr_a", 0, ledger.attempt("wdr_a"), *more)) == Rebuilt(attempts=2)
    nonce, state, attempts = (await ledger.rows())["wdr_a"]
    assert (nonce, state, [number for number, _, _ in attempts]) == (0, State.BROADCAST, [1, 2, 3])


async def test_f47_what_was_only_reserved_moves_up_behind_what_was_signed(ledger):
    await ledger.reserve("wdr_a", asked=True)
    await ledger.reserve("wdr_b")
    done = await ledger.rebuild(ledger.signed("wdr_x", 0), ledger.signed("wdr_y", 1))
    assert (done.transactions, done.moved) == (2, 2)
    rows = await ledger.rows()
    assert [rows[one][0] for one in ("wdr_x", "wdr_y", "wdr_a", "wdr_b")] == [0, 1, 2, 3]
    assert rows["wdr_a"][2] == [(1, 2, None)], "an attempt that was never signed has its new nonce"
    assert await ledger.next_nonce() == 4


async def test_f47_what_the_signer_refused_is_refused_and_its_nonce_is_free(ledger):
    for subject in ("wdr_a", "wdr_b", "wdr_c"):
        await ledger.reserve(subject)
    done = await ledger.rebuild(ledger.signed("wdr_b", 0), refused=("wdr_a",))
    assert (done.transactions, done.refused) == (0, 1)
    rows = await ledger.rows()
    assert {subject: row[:2] for subject, row in rows.items()} == {
        "wdr_a": (None, State.REFUSED),
        "wdr_b": (0, State.SIGNED),
        "wdr_c": (1, State.RESERVED),
    }
    assert await ledger.next_nonce() == 2


async def test_f47_two_that_changed_places_get_the_journal_s(ledger):
    await ledger.reserve("wdr_a")
    await ledger.reserve("wdr_b")
    done = await ledger.rebuild(ledger.signed("wdr_b", 0), ledger.signed("wdr_a", 1))
    assert (done.moved, done.attempts) == (2, 2)
    assert {subject: row[:2] for subject, row in (await ledger.rows()).items()} == {
        "wdr_a": (1, State.SIGNED),
        "wdr_b": (0, State.SIGNED),
    }


async def test_f47_without_anything_signed_what_is_reserved_keeps_its_nonces(ledger):
    await ledger.reserve("wdr_a")
    await ledger.reserve("wdr_b")
    assert await ledger.rebuild() == Rebuilt()
    assert [row[0] for row in (await ledger.rows()).values()] == [0, 1]
    assert await ledger.rebuild(refused=("wdr_a",)) == Rebuilt(refused=1, moved=1)
    assert ((await ledger.rows())["wdr_b"][0], await ledger.next_nonce()) == (0, 1)


async def test_f47_an_intent_that_was_journalled_without_bytes_is_asked_for_again(ledger):
    done = await ledger.rebuild(ledger.signed("wdr_a", 0, ledger.attempt("wdr_a", raw=False)))
    assert done == Rebuilt(transactions=1, attempts=1)
    assert (await ledger.rows())["wdr_a"] == (0, State.RESERVED, [(1, 0, None)])


async def test_f47_a_stored_attempt_gets_the_bytes_that_the_journal_has(ledger):
    await ledger.reserve("wdr_a", asked=True)
    assert await ledger.rebuild(ledger.signed("wdr_a", 0)) == Rebuilt(attempts=1)
    assert (await ledger.rows())["wdr_a"] == (0, State.SIGNED, [(1, 0, b"wdr_a/1")])


async def test_f47_other_bytes_than_the_journal_s_stop_it(ledger):
    await ledger.rebuild(ledger.signed("wdr_a", 0))
    altered = JournalAttempt(
        **{
            name: getattr(ledger.attempt("wdr_a"), name)
            for name in ("attempt", "kind", "gas_limit", "bid", "sequence", "head", "at")
        },
        raw=b"other",
        tx_hash="0xother",
    )
    with pytest.raises(BrokenInvariant, match="has other bytes here than in the signer's journal"):
        await ledger.rebuild(ledger.signed("wdr_a", 0, altered))


async def test_f47_what_was_signed_from_another_address_than_it_is_reserved_at_moves_there_and_leaves_no_gap(ledger):
    """Given back after the backup, and signed from the second hot address: the first one's nonces close up."""
    await ledger.reserve("wdr_a")
    await ledger.reserve("wdr_b")
    elsewhere = {"wdr_a": "0x" + "77" * 20}
    async with tx(ledger.engine) as connection:
        given_back = await rebuilding.give_back_elsewhere(connection, "local", elsewhere, now=ledger.clock.now())
    assert given_back == 1
    rows = await ledger.rows()
    assert (rows["wdr_a"][:2], rows["wdr_b"][:2]) == ((None, State.GIVEN_BACK), (0, State.RESERVED))
    assert await ledger.next_nonce() == 1
    async with tx(ledger.engine) as connection:
        same = {"wdr_b": HOT.address}
        assert await rebuilding.give_back_elsewhere(connection, "local", same, now=ledger.clock.now()) == 0


async def test_f47_what_was_signed_in_a_batch_has_no_nonce_of_its_own_any_more(ledger):
    """Given back after the backup, and paid with others: the nonces behind it close up."""
    await ledger.reserve("wdr_a")
    await ledger.reserve("wdr_b")
    async with tx(ledger.engine) as connection:
        in_batches = {"wdr_a": "bat_1", "wdr_unknown": "bat_1"}
        assert await rebuilding.give_back_elsewhere(connection, "local", in_batches, now=ledger.clock.now()) == 1
    rows = await ledger.rows()
    assert (rows["wdr_a"][:2], rows["wdr_b"][:2]) == ((None, State.GIVEN_BACK), (0, State.RESERVED))


async def test_f46_a_nonce_is_not_freed_once_another_worker_has_had_something_signed(ledger):
    """Its own look at the attempts is older than the other one's attempt."""
    await ledger.reserve("wdr_a")
    desk = Desk(ledger.engine, "local", ledger.clock)
    await desk.load(10)
    (seen,) = desk.transactions
    attempt = rebuilding._attempt(seen.id, 0, ledger.attempt("wdr_a"))
    async with tx(ledger.engine) as connection:
        await store.insert_attempts(connection, [attempt], network="local", now=ledger.clock.now())
    with pytest.raises(LeadershipLost):
        await desk.free_nonce(seen, Event.GIVEN_BACK, "it would fail")
    assert (await ledger.rows())["wdr_a"][:2] == (0, State.RESERVED)
    moved = replace(attempt, attempt=2, nonce=1)
    async with tx(ledger.engine) as connection:
        with pytest.raises(LeadershipLost):
            await store.insert_attempts(connection, [moved], network="local", now=ledger.clock.now())
