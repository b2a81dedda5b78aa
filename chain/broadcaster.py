"""Carries reserved payments to final evidence: price, sign, store, send the same bytes, watch. One step at a time.

Each durable step commits before the next begins, so a worker killed anywhere goes on with the same bytes: the attempt
is stored before the signer is asked, the bytes before a node gets them. What is mined, and what it cost, is read off
the follower's blocks, never off a node's receipt. Not here: why something is paid, and how it is booked.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.errors import BrokenInvariant
from chain import store as blocks
from chain import transaction_store as store
from chain.checkpoints import Checkpoint, NoCheckpoint
from chain.errors import (
    FeeTooLow,
    InsufficientFunds,
    NodeMisbehaved,
    NodeRefused,
    NodeUnavailable,
    NonceTooLow,
    ReplacementUnderpriced,
    SignerConflict,
    SignerRefused,
    SignerUnavailable,
)
from chain.evm.node import Node
from chain.evm.signed import check_signed
from chain.fees import Bid, cap_per_gas, first_bid, is_outdone, outbid
from chain.networks import Network
from chain.payments import Attempt, Mined, OnChain, OwnTransaction
from chain.queues import SenderQueues
from chain.signing import OwnAddress, Signed, Signer, TransferIntent
from chain.store import Followed
from chain.transaction_states import Event, State, WaitingFor, advance
from db.engine import tx
from db.errors import translate

OPEN_PER_STEP = 200
"""Unfinished transactions that one step looks at."""

RESEND_SECONDS = 30
"""After so long a node is asked whether it still has a transaction that isn't mined; if not, it gets it again."""

REPLACE_SECONDS = 120
"""After so long without being mined an attempt is outbid, if the market has left it behind."""

PAY = "pay"
"""The kind of an attempt that carries the payment out; the other kind cancels it."""

_Moves = list[tuple[str, State]]


@dataclass(frozen=True, slots=True)
class Moved:
    """How many transactions a step brought further, by the state they reached; empty when there was nothing to do."""

    states: tuple[tuple[str, State], ...]

    def __bool__(self) -> bool:
        return bool(self.states)


class Broadcaster:
    """Pays on `network` through its first node. Several processes may run one each: one at a time works."""

    def __init__(
        self,
        *,
        engine: AsyncEngine,
        network: Network,
        nodes: Sequence[Node],
        signer: Signer,
        clock: Clock,
        checkpoint: Checkpoint | None = None,
        resend_seconds: int = RESEND_SECONDS,
        replace_seconds: int = REPLACE_SECONDS,
    ) -> None:
        self.network = network
        self._engine = engine
        self._node = nodes[0]
        self._signer = signer
        self._clock = clock
        self._checkpoint = checkpoint or NoCheckpoint()
        self._resend_after = timedelta(seconds=resend_seconds)
        self._replace_after = timedelta(seconds=replace_seconds)

    async def step(self) -> Moved:
        """Look at every unfinished transaction once: record what the chain shows, then sign and send what may be.

        A stalled one keeps its state and says what it waits for. Does nothing while another process is at it, or before
        the network was followed; signs and sends nothing while the network is halted. Raises WrongChain (nothing is
        signed), NodeUnavailable and NodeMisbehaved when the node can't be asked at all, and what `db.errors` says of
        the database.
        """
        moved: _Moves = []
        try:
            async with self._turn() as mine:
                at = await self._followed() if mine else None
                if at is not None:
                    await self._watch(at, moved)
                if at is not None and at.halted is None:
                    await self._push(at, moved)
        except (SQLAlchemyError, OSError) as error:
            raise translate(error) or error from error
        return Moved(tuple(moved))

    async def enrol(self, sender: OwnAddress) -> None:
        """Let the nonces of `sender` begin where the chain says, unless they have begun. Do so before it first pays."""
        first = await self._node.next_nonce(sender.address)
        async with tx(self._engine) as connection:
            await store.begin_nonces(connection, network=self.network.name, sender=sender.address, first=first)

    # What the chain shows

    async def _watch(self, at: Followed, moved: _Moves) -> None:
        """Record what became of each unfinished transaction on chain."""
        async with tx(self._engine) as connection:
            transactions = await store.open_ones(connection, network=at.network, limit=OPEN_PER_STEP)
            ids = [transaction.id for transaction in transactions]
            attempts = await store.attempts_of(connection, ids)
            found = await store.evidence(connection, ids)
        for transaction in transactions:
            await self._look(at, transaction, attempts[transaction.id], found.get(transaction.id), moved)

    async def _look(
        self,
        at: Followed,
        transaction: OwnTransaction,
        attempts: Sequence[Attempt],
        found: OnChain | None,
        moved: _Moves,
    ) -> None:
        ours = next((attempt for attempt in attempts if found and attempt.tx_hash == found.tx_hash), None)
        if found is not None and ours is not None:
            await self._record_mined(at, transaction, ours, found, moved)
        elif transaction.state is State.MINED:
            await self._record_unmined(transaction, moved)
        elif found is not None and found.block_number <= at.final_height:
            words = f"nonce {transaction.nonce} was used up by {found.tx_hash}, which isn't one of our attempts"
            await self._change(transaction, advance(transaction.state, Event.DISPLACED), moved, refusal=words)

    async def _record_mined(
        self, at: Followed, transaction: OwnTransaction, ours: Attempt, found: OnChain, moved: _Moves
    ) -> None:
        mined = Mined(
            attempt=ours.attempt,
            tx_hash=found.tx_hash,
            block_number=found.block_number,
            block_hash=found.block_hash,
            succeeded=found.succeeded,
            gas_used=found.gas_used,
            effective_gas_price=found.effective_gas_price,
            fee_wei=found.fee_wei,
        )
        final = mined.block_number <= at.final_height
        if transaction.mined == mined and not final:
            return
        self._checkpoint.reached("mined.seen")
        state = advance(transaction.state, Event.MINED)
        if final:
            self._checkpoint.reached("final.seen")
            state = advance(state, _ending(ours, mined))
        await self._change(transaction, state, moved, **store.mined_columns(mined))

    async def _record_unmined(self, transaction: OwnTransaction, moved: _Moves) -> None:
        """A reorganisation took its block: the same bytes are sent again at once."""
        state = advance(transaction.state, Event.UNMINED)
        async with tx(self._engine) as connection:
            await store.forget_sending(connection, transaction.id)
            columns = store.mined_columns(None)
            await store.change(connection, transaction, state, now=self._clock.now(), **columns)
        moved.append((transaction.id, state))

    # What is to be done

    async def _push(self, at: Followed, moved: _Moves) -> None:
        """Sign and send what may be, in the order of nonces per sender; one that stalls holds up those after it."""
        async with tx(self._engine) as connection:
            transactions = await store.open_ones(connection, network=at.network, limit=OPEN_PER_STEP)
            attempts = await store.attempts_of(connection, [transaction.id for transaction in transactions])
        if all(transaction.state is State.MINED for transaction in transactions):
            return
        try:
            await self._node.check(at.genesis_hash)
            await self._push_each(transactions, attempts, moved)
        except (NodeUnavailable, NodeMisbehaved):
            async with tx(self._engine) as connection:
                await store.all_wait(connection, network=at.network, waiting_for=WaitingFor.NODE)
            raise

    async def _push_each(
        self, transactions: Sequence[OwnTransaction], attempts: dict[str, list[Attempt]], moved: _Moves
    ) -> None:
        queues = SenderQueues(transactions, attempts)
        for transaction in transactions:
            tried = [attempt for attempt in attempts[transaction.id] if not attempt.refused]
            match transaction.state:
                case State.RESERVED if queues.may_sign(transaction):
                    signed = await self._sign(transaction, tried[-1] if tried else None, queues, moved)
                    if signed is None:
                        queues.block(transaction)
                        continue
                    queues.count(*signed)
                    await self._send(*signed, moved)
                case State.SIGNED if self._due(tried[-1]):
                    await self._send(transaction, tried[-1], moved)
                case State.BROADCAST:
                    await self._attend(transaction, attempts[transaction.id], moved)
                case _:
                    pass

    async def _attend(self, transaction: OwnTransaction, attempts: Sequence[Attempt], moved: _Moves) -> None:
        """See that what was sent gets mined: the newest signed bytes stay with the node until a successor is signed."""
        newest, signed = attempts[-1], next(attempt for attempt in reversed(attempts) if attempt.raw is not None)
        if not self._due(signed):
            return
        is_stalled = newest.raw is None and not newest.refused
        if is_stalled and await self._sign_replacement(transaction, newest, moved):
            return
        await self._send_if_dropped(transaction, signed, moved, is_stalled=is_stalled)
        if newest is signed and self._overdue(signed):
            await self._replace(transaction, signed, moved)

    async def _sign(
        self, transaction: OwnTransaction, attempt: Attempt | None, queues: SenderQueues, moved: _Moves
    ) -> tuple[OwnTransaction, Attempt] | None:
        """Have the transaction signed and the bytes stored; None if it stalls or was refused."""
        attempt = attempt or await self._price(transaction, queues)
        if attempt is None:
            return None
        try:
            signed, tx_hash = await self._ask(transaction, attempt)
        except SignerRefused as refused:
            await self._refuse(transaction, attempt, refused, moved)
            return None
        except (SignerConflict, SignerUnavailable) as problem:
            await self._wait(transaction, WaitingFor.SIGNER, problem.message)
            return None
        await self._store(transaction, attempt, signed, tx_hash, advance(transaction.state, Event.SIGNED), moved)
        return replace(transaction, state=State.SIGNED), replace(attempt, raw=signed.raw, tx_hash=tx_hash)

    async def _ask(self, transaction: OwnTransaction, attempt: Attempt) -> tuple[Signed, str]:
        """The signer's answer to a stored attempt, and the hash that it gives. Raises what the signer does."""
        payment, intent = transaction.payment, self._intent(transaction, attempt)
        async with tx(self._engine) as connection:
            highest = await store.journal_head(connection)
        self._checkpoint.reached("signing.before")
        signed = await self._signer.sign(intent, highest=highest)
        self._checkpoint.reached("signing.after")
        return signed, check_signed(signed.raw, intent, sender=payment.sender.address, recipient=payment.recipient)

    async def _replace(self, transaction: OwnTransaction, latest: Attempt, moved: _Moves) -> None:
        """Outbid an attempt that the market has left behind; at the cap the same bytes stay, and it waits."""
        market = await self._node.market()
        if not is_outdone(latest.bid, market):
            return
        cap = self._cap(transaction)
        bid = outbid(latest.bid, market, tip_floor=self.network.tip_floor, cap=cap)
        if bid is None:
            await self._wait(transaction, WaitingFor.FEE, f"a replacement would offer more than {cap} wei")
            return
        attempt = replace(
            latest, attempt=latest.attempt + 1, bid=bid, tx_hash=None, raw=None, sent_at=None, last_sent_at=None
        )
        async with tx(self._engine) as connection:
            await store.insert_attempt(connection, attempt, network=self.network.name, now=self._clock.now())
        self._checkpoint.reached("replacement.stored")
        await self._sign_replacement(transaction, attempt, moved)

    async def _sign_replacement(self, transaction: OwnTransaction, attempt: Attempt, moved: _Moves) -> bool:
        """Have a stored replacement signed and send it. A no (False) leaves the attempts before it at work."""
        try:
            signed, tx_hash = await self._ask(transaction, attempt)
        except SignerRefused as refused:
            async with tx(self._engine) as connection:
                await store.note_journal(connection, attempt, refused.journal or (0, b""))
            await self._wait(transaction, WaitingFor.FEE, refused.message)
            return False
        except (SignerConflict, SignerUnavailable) as problem:
            await self._wait(transaction, WaitingFor.SIGNER, problem.message)
            return False
        await self._store(transaction, attempt, signed, tx_hash, transaction.state, moved)
        await self._send(transaction, replace(attempt, raw=signed.raw, tx_hash=tx_hash), moved)
        return True

    async def _price(self, transaction: OwnTransaction, queues: SenderQueues) -> Attempt | None:
        """The first attempt, committed; None (and what is waited for) while gas is too dear or money is short."""
        payment = transaction.payment
        cap = self._cap(transaction)
        bid = first_bid(await self._node.market(), tip_floor=self.network.tip_floor, cap=cap)
        if bid is None:
            await self._wait(transaction, WaitingFor.FEE, f"gas costs more than {cap} wei now")
            return None
        lacking = await self._lacking(transaction, bid, queues)
        if lacking is not None:
            await self._wait(transaction, *lacking)
            return None
        assert transaction.nonce is not None
        attempt = Attempt(
            transaction=transaction.id,
            attempt=1,
            kind=PAY,
            nonce=transaction.nonce,
            gas_limit=payment.gas_limit,
            bid=bid,
            tx_hash=None,
            raw=None,
            sent_at=None,
            last_sent_at=None,
        )
        async with tx(self._engine) as connection:
            await store.insert_attempt(connection, attempt, network=self.network.name, now=self._clock.now())
        return attempt

    async def _lacking(
        self, transaction: OwnTransaction, bid: Bid, queues: SenderQueues
    ) -> tuple[WaitingFor, str] | None:
        """What the sender is short of, beside what is already on its way: its own money first, then gas."""
        payment, gas = transaction.payment, transaction.payment.gas_limit * bid.max_fee_per_gas
        sender, native = payment.sender.address, payment.contract is None
        free = await self._node.balance(payment.contract, sender) - queues.committed(sender, payment.contract)
        if free < payment.amount:
            return WaitingFor.FUNDS, f"{sender} has {max(0, free)} units free, the payment needs {payment.amount}"
        if native:
            free -= payment.amount
        else:
            free = await self._node.balance(None, sender) - queues.committed(sender, None)
        if free < gas:
            return WaitingFor.GAS, f"{sender} has {max(0, free)} wei free for gas, the payment may need {gas}"
        return None

    def _cap(self, transaction: OwnTransaction) -> int:
        """The most that an attempt may offer, in wei per gas."""
        payment = transaction.payment
        return cap_per_gas(
            network_cap=self.network.max_fee_per_gas_cap, fee_wei_max=payment.fee_wei_max, gas_limit=payment.gas_limit
        )

    def _intent(self, transaction: OwnTransaction, attempt: Attempt) -> TransferIntent:
        payment = transaction.payment
        return TransferIntent(
            subject=payment.subject,
            attempt=attempt.attempt,
            chain_id=self.network.chain_id,
            sender=payment.sender.key,
            nonce=attempt.nonce,
            gas_limit=attempt.gas_limit,
            max_fee_per_gas=attempt.bid.max_fee_per_gas,
            max_priority_fee_per_gas=attempt.bid.tip,
            contract=payment.contract,
            to=payment.to.key if isinstance(payment.to, OwnAddress) else payment.to,
            amount=payment.amount,
            claims=payment.claims,
        )

    async def _store(
        self,
        transaction: OwnTransaction,
        attempt: Attempt,
        signed: Signed,
        tx_hash: str,
        state: State,
        moved: _Moves,
    ) -> None:
        """The signed bytes, before anything is sent."""
        now = self._clock.now()
        async with tx(self._engine) as connection:
            await store.store_signed(connection, attempt, signed, tx_hash=tx_hash, now=now)
            await store.change(connection, transaction, state, now=now, waiting_for=None, refusal=None)
        if state is not transaction.state:
            moved.append((transaction.id, state))
        self._checkpoint.reached("stored")

    async def _refuse(
        self, transaction: OwnTransaction, attempt: Attempt, refused: SignerRefused, moved: _Moves
    ) -> None:
        """The signer's no ends it; each later nonce of the sender, none of them asked for yet, moves down by one."""
        state, now, payment = advance(transaction.state, Event.REFUSED), self._clock.now(), transaction.payment
        self._checkpoint.reached("refused.seen")
        async with tx(self._engine) as connection:
            last = await store.lock_nonces(connection, network=payment.network, sender=payment.sender.address)
            if refused.journal is not None:
                await store.note_journal(connection, attempt, refused.journal)
            await store.change(
                connection, transaction, state, now=now, nonce=None, waiting_for=None, refusal=refused.message
            )
            for later in await store.above(connection, transaction):
                if later.state is not State.RESERVED or later.nonce is None:
                    raise BrokenInvariant(f"{later.id} was signed before {transaction.id}, which has the lower nonce")
                await store.change(connection, later, later.state, now=now, nonce=later.nonce - 1)
            await store.set_next_nonce(
                connection, network=payment.network, sender=payment.sender.address, nonce=last - 1
            )
        moved.append((transaction.id, state))

    async def _send_if_dropped(
        self, transaction: OwnTransaction, attempt: Attempt, moved: _Moves, *, is_stalled: bool
    ) -> None:
        """Hand the bytes in again unless the node has them; then nothing is waited for, but what `is_stalled` says."""
        assert attempt.tx_hash is not None
        if not await self._node.knows(attempt.tx_hash):
            await self._send(transaction, attempt, moved)
            return
        async with tx(self._engine) as connection:
            await store.note_sent(connection, attempt, now=self._clock.now())
        if transaction.waiting_for is not None and not is_stalled:
            await self._change(transaction, transaction.state, moved, waiting_for=None, refusal=None)

    async def _send(self, transaction: OwnTransaction, attempt: Attempt, moved: _Moves) -> None:
        """Hand the stored bytes to the node, once. No answer isn't a no: they may have been taken."""
        assert attempt.raw is not None
        self._checkpoint.reached("sending.before")
        waiting_for, words, taken = None, None, True
        try:
            await self._node.send(attempt.raw)
        except NonceTooLow:
            pass  # an attempt of ours is mined, or a stranger's: the follower's blocks will tell
        except NodeRefused as refused:
            waiting_for, words, taken = _lack_behind(refused), refused.message, False
        except (NodeUnavailable, NodeMisbehaved) as problem:
            waiting_for, words = WaitingFor.NODE, problem.message
        self._checkpoint.reached("sending.after")
        state, now = advance(transaction.state, Event.SENT) if taken else transaction.state, self._clock.now()
        async with tx(self._engine) as connection:
            await store.note_sent(connection, attempt, now=now)
            await store.change(connection, transaction, state, now=now, waiting_for=waiting_for, refusal=words)
        if state is not transaction.state:
            moved.append((transaction.id, state))

    def _due(self, attempt: Attempt) -> bool:
        """Whether it's time to hand the bytes in (again)."""
        return attempt.last_sent_at is None or self._clock.now() - attempt.last_sent_at >= self._resend_after

    def _overdue(self, attempt: Attempt) -> bool:
        """Whether it has waited long enough for the market to be asked again."""
        return attempt.sent_at is not None and self._clock.now() - attempt.sent_at >= self._replace_after

    async def _wait(self, transaction: OwnTransaction, waiting_for: WaitingFor, words: str) -> None:
        if (transaction.waiting_for, transaction.refusal) == (waiting_for, words):
            return
        async with tx(self._engine) as connection:
            await store.change(
                connection,
                transaction,
                transaction.state,
                now=self._clock.now(),
                waiting_for=waiting_for,
                refusal=words,
            )

    async def _change(self, transaction: OwnTransaction, state: State, moved: _Moves, **columns: object) -> None:
        changed = {"waiting_for": None, "refusal": None, **columns}
        async with tx(self._engine) as connection:
            await store.change(connection, transaction, state, now=self._clock.now(), **changed)
        if state is not transaction.state:
            moved.append((transaction.id, state))

    async def _followed(self) -> Followed | None:
        async with tx(self._engine) as connection:
            return await blocks.followed(connection, self.network.name)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[bool]:
        """Whether it's ours to work now: no other process does."""
        name = f"pay {self.network.name}"
        async with self._engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            mine = await blocks.try_lock(connection, name)
            try:
                yield mine
            finally:
                if mine:
                    await blocks.unlock(connection, name)


def _ending(attempt: Attempt, mined: Mined) -> Event:
    if attempt.kind != PAY:
        return Event.FINAL_CANCELLED
    return Event.FINAL_PAID if mined.succeeded else Event.FINAL_REVERTED


def _lack_behind(refused: NodeRefused) -> WaitingFor:
    """What a transaction lacks that a node won't take."""
    match refused:
        case InsufficientFunds():
            return WaitingFor.GAS
        case FeeTooLow() | ReplacementUnderpriced():
            return WaitingFor.FEE
        case _:
            return WaitingFor.NODE
