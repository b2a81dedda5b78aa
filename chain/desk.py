"""What a step of the broadcaster has before it: transactions and attempts as they stand; every change commits first.

A shell without decisions. Whatever a step changes it changes here, in few tx however much it is: what is in memory is
what was committed, so a worker killed between any two calls goes on from the database.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.errors import BrokenInvariant
from chain import foreign_store
from chain import transaction_store as store
from chain.foreign import UNDER_REVIEW
from chain.payments import Attempt, OnChain, OwnTransaction
from chain.signing import Signed
from chain.transaction_states import OPEN, Event, State, WaitingFor, advance
from db.engine import tx

Move = tuple[OwnTransaction, OwnTransaction]
"""A transaction as it was, and as it is from now on."""


@dataclass(slots=True)
class Desk:
    """The unfinished transactions of a network, by sender and nonce. `moved`: (id, state) of each that changed it."""

    engine: AsyncEngine
    network: str
    clock: Clock
    attempts: dict[str, list[Attempt]] = field(default_factory=dict)
    evidence: dict[str, OnChain] = field(default_factory=dict)
    moved: list[tuple[str, State]] = field(default_factory=list)
    next_nonces: dict[str, int] = field(default_factory=dict)
    """By sender, its nonce at the final block in which it was last looked at."""
    halted: frozenset[str] = frozenset()
    """Senders for which nothing is done any more, once they were left out."""
    highest: tuple[int, bytes] | None = None
    """The highest (sequence, head) of the signer's journal that any answer carried."""
    _open: dict[str, OwnTransaction] = field(default_factory=dict)

    @property
    def transactions(self) -> list[OwnTransaction]:
        """The unfinished ones, but for those of halted senders."""
        return [one for one in self._open.values() if one.payment.sender.address not in self.halted]

    @property
    def unfinished(self) -> list[OwnTransaction]:
        """All of them."""
        return list(self._open.values())

    async def load(self, limit: int) -> None:
        """Read all of it."""
        async with tx(self.engine) as connection:
            found = await store.open_ones(connection, network=self.network, limit=limit)
            self._open = {transaction.id: transaction for transaction in found}
            ids = list(self._open)
            senders = {one.payment.sender.address for one in found}
            # Before the evidence: a nonce that was used by then has its transaction on record when that is read.
            nonces = await foreign_store.final_nonces(connection, self.network, senders)
            self.next_nonces = {sender: nonce for sender, (nonce, _) in nonces.items()}
            self.attempts = await store.attempts_of(connection, ids)
            self.evidence = await store.evidence(connection, ids)
            self.highest = await store.journal_head(connection)

    async def leave_out_halted(self) -> None:
        """What halted senders have under way says so, and is left alone from now on."""
        async with tx(self.engine) as connection:
            halted = frozenset(await foreign_store.halted_senders(connection, self.network))
        held = [one for one in self.transactions if one.payment.sender.address in halted]
        await self.wait([(one, WaitingFor.APPROVAL, UNDER_REVIEW) for one in held if one.state is not State.MINED])
        self.halted = halted

    async def save(
        self,
        moves: Sequence[Move],
        *,
        signed: Sequence[tuple[Attempt, Signed]] = (),
        sent: Sequence[Attempt] = (),
        unsent: Sequence[str] = (),
    ) -> None:
        """One tx: transactions move on, attempts got their bytes, were handed in, or (`unsent`) are to be at once."""
        changed = [(before, after) for before, after in moves if before != after]
        if not (changed or signed or sent or unsent):
            return
        now = self.clock.now()
        async with tx(self.engine) as connection:
            await store.save(connection, changed, now=now)
            await store.store_signed(connection, signed, now=now)
            await store.note_sent(connection, sent, now=now)
            await store.forget_sending(connection, unsent)
        for before, after in changed:
            self._put(before, after)
        for attempt, _ in signed:
            self._put_attempt(attempt)
        for attempt in sent:
            self._put_attempt(replace(attempt, sent_at=attempt.sent_at or now, last_sent_at=now))
        for id in unsent:
            self.attempts[id] = [replace(attempt, last_sent_at=None) for attempt in self.attempts[id]]

    async def insert(self, attempts: Sequence[Attempt]) -> None:
        """What the signer is about to be asked, before it is."""
        if not attempts:
            return
        async with tx(self.engine) as connection:
            await store.insert_attempts(connection, attempts, network=self.network, now=self.clock.now())
        for attempt in attempts:
            self.attempts[attempt.transaction].append(attempt)

    async def wait(self, waits: Sequence[tuple[OwnTransaction, WaitingFor, str]]) -> None:
        """They keep their states and say what they wait for."""
        await self.save([(one, replace(one, waiting_for=lack, refusal=words)) for one, lack, words in waits])

    async def note_refused(self, attempt: Attempt, journal: tuple[int, bytes] | None) -> None:
        """The signer won't sign this one of several attempts."""
        async with tx(self.engine) as connection:
            await store.note_journal(connection, attempt, journal or (0, b""))
        self._put_attempt(replace(attempt, refused=True))

    async def free_nonce(
        self,
        transaction: OwnTransaction,
        event: Event,
        words: str,
        *,
        refused: Attempt | None = None,
        journal: tuple[int, bytes] | None = None,
        code: str | None = None,
    ) -> None:
        """It ends unsigned; each later nonce of its sender, none of them signed yet, moves down by one. One tx.

        Raises LeadershipLost if another worker has something asked of the signer for it meanwhile.
        """
        state, now, payment = advance(transaction.state, event), self.clock.now(), transaction.payment
        ended = replace(transaction, state=state, nonce=None, waiting_for=None, refusal=words, refusal_code=code)
        async with tx(self.engine) as connection:
            last = await store.lock_nonces(connection, network=payment.network, sender=payment.sender.address)
            await store.require_unasked(connection, transaction, but=refused)
            if refused is not None and journal is not None:
                await store.note_journal(connection, refused, journal)
            later = await store.above(connection, transaction)
            await store.save(connection, [(transaction, ended)], now=now)
            for one in later:
                if one.state is not State.RESERVED or one.nonce is None:
                    raise BrokenInvariant(f"{one.id} was signed before {transaction.id}, which has the lower nonce")
                await store.lower_nonce(connection, one, now=now)
            await store.set_next_nonce(
                connection, network=payment.network, sender=payment.sender.address, nonce=last - 1
            )
        self._put(transaction, ended)

    def _put(self, before: OwnTransaction, after: OwnTransaction) -> None:
        if after.state is not before.state:
            self.moved.append((after.id, after.state))
        if after.state in OPEN:
            self._open[after.id] = after
        else:
            del self._open[after.id]

    def _put_attempt(self, attempt: Attempt) -> None:
        mine = self.attempts[attempt.transaction]
        self.attempts[attempt.transaction] = [attempt if one.attempt == attempt.attempt else one for one in mine]
