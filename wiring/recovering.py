"""Recovering a database that was put back from a backup: chain, book and wallet in the one order that is right.

1. Halted: it's written down that something is missing, if it isn't. One tx.
2. Read on: the chain is taken in, so that there is evidence. A tx per block.
3. Transactions: what was signed has its nonces and bytes again, and so our own moves are known as such. A tx per
   sender, while no broadcaster works.
4. Booked: deposits and inflows since the backup. Group commits.
5. Withdrawals: hold, key and row of each, and the rows of batches. A group commit each.
6. Settled: all that was signed is known, the halt ends. One tx.

Killed in between, it's begun again and goes on: each part does what is still to be done.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from base.errors import Unavailable
from base.progress import Progress
from chain import rebuilding as transactions
from chain import restores
from chain import store as chain_store
from chain.broadcaster import turn
from chain.checkpoints import Checkpoint, NoCheckpoint
from chain.networks import Network, Registry
from chain.rebuilding import JournalPayment, Rebuilt
from chain.signing import OwnAddress
from chain.transaction_states import Kind
from custody.signed_subjects import SubjectReading
from db.engine import tx
from wallet.batch_rebuilding import BatchRebuilding
from wallet.errors import CannotRebuild
from wallet.rebuilding import Rebuilding
from wiring.journal_payments import own_key
from wiring.recovery_items import About, Done, Item, Outlook, Part
from wiring.recovery_looking import Found, Looking, as_known, leg_by_hand
from wiring.signing import XpubAddresses

ROUNDS_MAX = 100_000
"""Batches of one part; more than any chain has."""

TURN_SECONDS = 60
"""The longest wait for a worker that is at its payments."""

MISSING = "payments that the signer's journal has are missing here"

Step = Callable[[], Awaitable[int]]


class AnotherIsAtIt(Unavailable):
    default_code = "recovering_already"


class Recovering:
    """Recovers the database of one book."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        registry: Registry,
        addresses: XpubAddresses,
        looking: Looking,
        withdrawals: Rebuilding,
        batches: BatchRebuilding,
        following: Mapping[str, Step],
        booking: Mapping[str, Step],
        clock: Clock,
        entropy: Entropy,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        """`following` are the steps that take the chain in, `booking` those that book what came.

        `checkpoint` is told after each part: `recover.halted`, `.followed`, `.sender`, `.transactions`, `.booked`,
        `.withdrawal` (or batch), `.withdrawals`, `.settled`.
        """
        self._engine = engine
        self._registry = registry
        self._addresses = addresses
        self._looking = looking
        self._withdrawals = withdrawals
        self._batches = batches
        self._following = following
        self._booking = booking
        self._clock = clock
        self._entropy = entropy
        self._checkpoint = checkpoint or NoCheckpoint()

    async def outlook(self, progress: Progress) -> Outlook:
        """Look, and change nothing. Raises SignerUnavailable, JournalUnfit."""
        return (await self._looking.look(SubjectReading(), progress)).outlook

    async def run(self, progress: Progress, *, leave: Sequence[str] = ()) -> Done:
        """Do it, or go on with it. `leave`: subjects that a person sees to, so that they stop nothing.

        Raises what `outlook` does, AnotherIsAtIt, what nodes and the database do (run it again).
        """
        async with self._engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            if not await chain_store.try_lock(connection, "recover"):
                raise AnotherIsAtIt("another process is recovering this database: wait for its end")
            try:
                return await self._run(progress, frozenset(leave))
            finally:
                await chain_store.unlock(connection, "recover")

    async def _run(self, progress: Progress, leave: frozenset[str]) -> Done:
        found = await self._looking.look(SubjectReading(), progress)
        if not found.outlook.is_needed:
            return Done(transactions=Rebuilt(), booked=0, withdrawals=0, left=())
        async with tx(self._engine) as connection:
            await restores.note_missing(connection, MISSING, now=self._clock.now())
        self._checkpoint.reached("recover.halted")
        await self._all("taking in blocks", self._following, progress)
        self._checkpoint.reached("recover.followed")
        async with self._no_broadcaster():
            found = await self._looking.look(
                found.reading, progress
            )  # what was signed until the halt was seen everywhere
            left = tuple(one for one in _by_hand(found.outlook) if one.subject not in leave)
            rebuilt = await self._rebuild_transactions(found, progress)
            await self._withdrawals.leave_to_a_person(found.outlook.in_batches)
        self._checkpoint.reached("recover.transactions")
        booked = await self._all("booking what came", self._booking, progress)
        self._checkpoint.reached("recover.booked")
        withdrawals, refused = await self._rebuild_withdrawals(found, progress)
        self._checkpoint.reached("recover.withdrawals")
        left += tuple(one for one in refused if one.subject not in leave)
        if not left:
            async with tx(self._engine) as connection:
                await restores.settled(connection, found.reading.head, now=self._clock.now())
            self._checkpoint.reached("recover.settled")
        return Done(transactions=rebuilt, booked=booked, withdrawals=withdrawals, left=left)

    # Doing

    async def _all(self, what: str, steps: Mapping[str, Step], progress: Progress) -> int:
        """Call the steps until none of them moves anything; how much they moved."""
        moved = 0
        with progress.bar(what, None) as advance:
            for _ in range(ROUNDS_MAX):
                now = sum([await step() for step in steps.values()])
                if not now:
                    return moved
                moved += now
                advance(now)
        raise Unavailable(f"{what}: after {ROUNDS_MAX} rounds there is still something to do; run it again")

    @asynccontextmanager
    async def _no_broadcaster(self) -> AsyncIterator[None]:
        """No worker signs or sends meanwhile. One that is at it ends its step first."""
        async with AsyncExitStack() as stack:
            connection = await stack.enter_async_context(self._engine.connect())
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            for network in sorted(self._registry.networks):
                await _take_turn(connection, network)
                stack.push_async_callback(chain_store.unlock, connection, turn(network))
            yield

    async def _rebuild_transactions(self, found: Found, progress: Progress) -> Rebuilt:
        """Without what is by hand, of which nothing is known here then: what it moved is a foreign outflow."""
        done = Rebuilt()
        await self._give_back_elsewhere(found)
        by_place = _by_place(one for one in found.payments.values() if one.subject not in found.by_hand)
        with progress.bar("rebuilding transactions", len(found.payments)) as advance:
            for network in self._registry.networks.values():
                for sender in await self._senders(network, found):
                    done += await self._rebuild_sender(network, sender, by_place, found)
                    self._checkpoint.reached("recover.sender")
                    advance(len(by_place.get((network.name, sender.address), ())))
        return done

    async def _give_back_elsewhere(self, found: Found) -> None:
        """What is reserved here and was signed from another address, or in a batch, has no nonce here any more."""
        signed = found.payments.values()
        for network in self._registry.networks:
            places = {one.subject: one.payment.sender.address for one in signed if one.payment.network == network}
            async with tx(self._engine) as connection:
                await transactions.give_back_elsewhere(
                    connection, network, found.in_batches | places, now=self._clock.now()
                )

    async def _senders(self, network: Network, found: Found) -> list[OwnAddress]:
        """Whoever signed what is missing on this network, or has something reserved there."""
        async with tx(self._engine) as connection:
            senders = {one.address: one for one in await transactions.senders_of(connection, network.name)}
        for key in {own_key(one.sender) for one in found.missing if one.chain_id == network.chain_id}:
            if key.keys in self._addresses.fingerprints:
                address = self._addresses.address(key).lower()
                senders[address] = OwnAddress(key, address)
        return [senders[address] for address in sorted(senders)]

    async def _rebuild_sender(
        self,
        network: Network,
        sender: OwnAddress,
        by_place: Mapping[tuple[str, str], Sequence[JournalPayment]],
        found: Found,
    ) -> Rebuilt:
        nonces = {(chain, own_key(key)): nonce for (chain, key), nonce in found.reading.next_nonces().items()}
        signed = {one.subject: one for one in by_place.get((network.name, sender.address), ())}
        async with tx(self._engine) as connection:
            for own in await transactions.reserved_by(connection, network.name, sender):
                known = found.reading.subjects.get(own.payment.subject)
                if known is not None and known.subject not in signed:
                    signed[known.subject] = as_known(known, own)
            return await transactions.rebuild_sender(
                connection,
                sender,
                network=network.name,
                signed=sorted(signed.values(), key=lambda one: one.nonce),
                next_nonce=nonces.get((network.chain_id, sender.key)),
                refusals=found.refusals,
                clock=self._clock,
                entropy=self._entropy,
            )

    async def _rebuild_withdrawals(self, found: Found, progress: Progress) -> tuple[int, list[Item]]:
        """How many were put back or moved on, alone or in batches, and those that the book refused after all."""
        done, refused = 0, list[Item]()
        wanted = [one for one in found.outlook.items if one.batch is None and one.part in (Part.REBUILD, Part.MOVE_ON)]
        with progress.bar("rebuilding withdrawals", len(wanted)) as advance:
            for item in wanted:
                signed, payment = found.reading.subjects[item.subject], found.payments[item.subject]
                try:
                    if payment.payment.kind is Kind.BATCH:
                        moved, legs = await self._batches.rebuild(payment)
                        done, refused = done + moved, refused + [leg_by_hand(signed, leg) for leg in legs]
                    else:
                        done += await self._withdrawals.rebuild(payment)
                except CannotRebuild as problem:
                    refused.append(About(signed).item(Part.BY_HAND, note=problem.message))
                self._checkpoint.reached("recover.withdrawal")
                advance(1)
        return done, refused


def _by_hand(outlook: Outlook) -> list[Item]:
    return [one for one in outlook.items if one.part is Part.BY_HAND]


def _by_place(payments: Iterable[JournalPayment]) -> dict[tuple[str, str], list[JournalPayment]]:
    """Payments by network and sender's address."""
    placed: dict[tuple[str, str], list[JournalPayment]] = {}
    for one in payments:
        placed.setdefault((one.payment.network, one.payment.sender.address), []).append(one)
    return placed


async def _take_turn(connection: AsyncConnection, network: str) -> None:
    try:
        async with asyncio.timeout(TURN_SECONDS):
            while not await chain_store.try_lock(connection, turn(network)):  # noqa: ASYNC110
                await asyncio.sleep(0.05)  # it's another process that has it
    except TimeoutError as problem:
        raise AnotherIsAtIt(f"a worker is at the payments of {network} for {TURN_SECONDS} s: stop it") from problem
