"""Carries reserved payments to final evidence: price, sign, store, send the same bytes, watch. One step at a time.

A step does each of these for all that are due for it, and each commits before the next begins: the attempts are stored
before the signer is asked, the bytes before a node gets them. So a worker killed anywhere goes on with the same bytes,
and many payments cost few tx. What is mined, and what it cost, is read off the follower's blocks, never off a node's
receipt. Not here: why something is paid, who pays it, and how it is booked.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import groupby
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from chain import store as blocks
from chain import transaction_store as store
from chain.asking import Answered, Asker
from chain.checkpoints import Checkpoint, NoCheckpoint
from chain.desk import Desk, Move
from chain.errors import NodeMisbehaved, NodeUnavailable, SignerRefused
from chain.evm.node import Node
from chain.fees import Market
from chain.foreign import UNDER_REVIEW
from chain.networks import Network
from chain.payments import Attempt, OwnTransaction
from chain.queues import SenderQueues
from chain.sending import Sent, together
from chain.signing import OwnAddress, Signer
from chain.status import network_status
from chain.store import Followed
from chain.successors import Lack, first_attempt, next_attempt
from chain.transaction_states import Event, Kind, State, WaitingFor, advance
from chain.trials import Trial, try_payments
from chain.watching import seen
from db.engine import tx
from db.errors import translate

OPEN_PER_STEP = 2_000
"""Unfinished transactions that one step looks at."""

RESEND_SECONDS = 30
"""After so long nodes are asked whether they still have a transaction that isn't mined; who hasn't gets it again."""

GAP_SECONDS = 5
"""The same for the lowest nonce of a sender that isn't mined: all others wait for it."""

Item = TypeVar("Item")
Bytes = tuple[OwnTransaction, Attempt]
"""A transaction and the signed attempt of it that is handed in."""


@dataclass(frozen=True, slots=True)
class Moved:
    """How many transactions a step brought further, by the state they reached; empty when there was nothing to do."""

    states: tuple[tuple[str, State], ...]

    def __bool__(self) -> bool:
        return bool(self.states)


ANY_SENDER_PAYS = frozenset({Kind.WITHDRAWAL, Kind.BATCH, Kind.ALLOWANCE})
"""What another hot address pays as well, or what only belongs to such."""


class Broadcaster:
    """Pays on `network` through its first node (or pool). Several processes may run one each: one at a time works."""

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
        replace_seconds: int | None = None,
    ) -> None:
        """`replace_seconds`: after how long an attempt is outbid, where it isn't as the network says."""
        self.network = network
        self._engine = engine
        self._node = nodes[0]
        self._clock = clock
        self._checkpoint = checkpoint or NoCheckpoint()
        stalled = network.replace_after_seconds if replace_seconds is None else replace_seconds
        self._asker = Asker(signer, network, self._checkpoint)
        self._resend_after = timedelta(seconds=min(resend_seconds, network.replace_after_seconds))
        self._repair_after = timedelta(seconds=min(resend_seconds, GAP_SECONDS))
        self._replace_after = timedelta(seconds=stalled)

    async def step(self) -> Moved:
        """Look at every unfinished transaction once: record what the chain shows, then sign and send what may be.

        A stalled one keeps its state and says what it waits for. Does nothing while another process is at it, or before
        the network was followed; signs and sends nothing while the network is halted, or for a halted sender. Raises
        WrongChain (nothing is signed), NodeUnavailable and NodeMisbehaved when the node can't be asked at all, and what
        `db.errors` says of the database.
        """
        desk = Desk(self._engine, self.network.name, self._clock)
        try:
            async with self._turn() as mine:
                at = await self._followed() if mine else None
                if at is not None:
                    await desk.load(OPEN_PER_STEP)
                    await self._watch(at, desk)
                    await desk.leave_out_halted()
                has_work = any(one.state is not State.MINED for one in desk.unfinished)
                if at is not None and has_work and not await self._halted():
                    await self._push(at, desk)
        except (SQLAlchemyError, OSError) as error:
            raise translate(error) or error from error
        return Moved(tuple(desk.moved))

    async def enrol(self, sender: OwnAddress) -> None:
        """Let the nonces of `sender` begin where the chain says, unless they have begun. Do so before it first pays."""
        first = await self._node.next_nonce(sender.address)
        async with tx(self._engine) as connection:
            await store.begin_nonces(connection, network=self.network.name, sender=sender.address, first=first)

    async def _watch(self, at: Followed, desk: Desk) -> None:
        """Record what became of each unfinished transaction on chain."""
        moves: list[Move] = []
        for one in desk.transactions:
            now = seen(
                one,
                desk.attempts[one.id],
                desk.evidence.get(one.id),
                final_height=at.final_height,
                next_nonce=desk.next_nonces.get(one.payment.sender.address, 0),
            )
            if now is not None:
                moves.append((one, now))
                if now.mined is not None:
                    self._checkpoint.reached("mined.seen")
                    if now.state is not State.MINED:
                        self._checkpoint.reached("final.seen")
        unmined = [now.id for one, now in moves if one.state is State.MINED and now.mined is None]
        await desk.save(moves, unsent=unmined)

    async def _push(self, at: Followed, desk: Desk) -> None:
        """Make, sign and send what may be, in the order of nonces per sender."""
        try:
            await self._node.check(at.genesis_hash)
            await self._give_back(desk)
            waiting = await self._make_attempts(desk)
            signed = await self._sign(desk)
            underpriced = await self._send(desk, signed, keep_waiting=waiting)
            if underpriced:
                await self._outbid_at_once(desk, underpriced)
        except (NodeUnavailable, NodeMisbehaved):
            async with tx(self._engine) as connection:
                await store.all_wait(connection, network=at.network, waiting_for=WaitingFor.NODE)
            raise

    async def _give_back(self, desk: Desk) -> None:
        """What the signer was never asked for, and a person doesn't want paid, or another sender may pay, ends here."""
        unasked = [one for one in desk.unfinished if one.state is State.RESERVED and not desk.attempts[one.id]]
        unwanted = {one.id: f"cancelled before it was signed: {one.cancelling}" for one in unasked if one.cancelling}
        held_up = [one for one in unasked if _sender(one) in desk.halted and one.payment.kind in ANY_SENDER_PAYS]
        words = {one.id: UNDER_REVIEW for one in held_up} | unwanted
        for one in sorted(unasked, key=lambda one: one.nonce or 0, reverse=True):
            if one.id in words:
                self._checkpoint.reached("giving_back.before")
                await desk.free_nonce(one, Event.GIVEN_BACK, words[one.id])
        if words:
            await desk.load(OPEN_PER_STEP)

    # What is offered

    async def _make_attempts(self, desk: Desk) -> set[str]:
        """First attempts of what may be signed now, and those that outbid or cancel others: stored, not yet signed.

        Returns the ids of those whose attempts could be outbid or cancelled, but aren't.
        """
        queues = SenderQueues(desk.transactions, desk.attempts)
        unpriced = [one for one in desk.transactions if one.state is State.RESERVED]
        overdue = [one for one in desk.transactions if self._wants_successor(one, desk.attempts[one.id], queues)]
        if not unpriced and not overdue:
            return set()
        market = await self._node.market()
        waits, successors = self._successors(desk, overdue, market)
        await desk.wait(waits)
        await desk.insert(successors)
        if successors:
            self._checkpoint.reached("replacement.stored")
        await self._price(desk, unpriced, queues, market)
        return {one.id for one, _, _ in waits}

    def _successors(
        self, desk: Desk, overdue: Sequence[OwnTransaction], market: Market, *, is_underpriced: bool = False
    ) -> tuple[list[tuple[OwnTransaction, WaitingFor, str]], list[Attempt]]:
        waits, successors = [], []
        for one in overdue:
            made = next_attempt(one, desk.attempts[one.id][-1], market, self.network, is_underpriced=is_underpriced)
            if isinstance(made, Attempt):
                successors.append(made)
            elif made is not None:
                waits.append((one, *made))
        return waits, successors

    def _wants_successor(self, transaction: OwnTransaction, attempts: Sequence[Attempt], queues: SenderQueues) -> bool:
        """Whether it's to be cancelled and isn't yet, or has waited long enough for the market to be asked again."""
        if transaction.state not in (State.SIGNED, State.BROADCAST):
            return False
        newest = attempts[-1]
        if transaction.cancelling is not None and not newest.cancels:
            return True
        overdue = newest.sent_at is not None and self._clock.now() - newest.sent_at >= self._replace_after
        return newest.raw is not None and overdue and self._due(transaction, newest, queues)

    async def _price(
        self, desk: Desk, unpriced: Sequence[OwnTransaction], queues: SenderQueues, market: Market
    ) -> None:
        """The first attempts, committed; those that can't be made say why, and hold up the later ones of their sender.

        What would fail on chain isn't signed: it gives its nonce back, and whoever asked for it decides.
        """
        held = await self._held([one for one in unpriced if not desk.attempts[one.id] and queues.may_sign(one)])
        made: list[tuple[OwnTransaction, Attempt]] = []
        waits: list[tuple[OwnTransaction, WaitingFor, str]] = []
        for one in unpriced:
            if not queues.may_sign(one):
                continue
            if (known := next((asked for asked in desk.attempts[one.id] if asked.is_asked), None)) is not None:
                queues.count(one, known)
                continue
            attempt = first_attempt(one, market, self.network)
            lack = _lacking(one, attempt, held, queues) if isinstance(attempt, Attempt) else attempt
            if lack is not None:
                waits.append((one, *lack))
                queues.block(one)
            elif isinstance(attempt, Attempt):
                queues.count(one, attempt)
                made.append((one, attempt))
        failing = await self._failing([one for one, _ in made])
        stopped = {one.payment.sender.address: one.nonce or 0 for one in sorted(failing, key=_nonce, reverse=True)}
        await desk.wait(waits)
        await desk.insert(
            [attempt for one, attempt in made if _nonce(one) < stopped.get(_sender(one), _nonce(one) + 1)]
        )
        for one in sorted(failing, key=_nonce, reverse=True):
            await desk.free_nonce(one, Event.GIVEN_BACK, failing[one])
        if failing:
            await desk.load(OPEN_PER_STEP)

    async def _held(self, transactions: Sequence[OwnTransaction]) -> dict[tuple[str | None, str], int]:
        """What their senders hold of what they pay, and of the native coin."""
        asked = {(contract, _sender(one)) for one in transactions for contract in (one.payment.contract, None)}
        ordered = sorted(asked, key=lambda pair: (pair[1], pair[0] or ""))
        return dict(zip(ordered, await self._node.holdings(ordered), strict=True))

    async def _failing(self, transactions: Sequence[OwnTransaction]) -> dict[OwnTransaction, str]:
        """Those withdrawals that would fail on chain at the newest block, and why."""
        tried = [one for one in transactions if one.payment.kind is Kind.WITHDRAWAL and one.payment.order is None]
        trials = [
            Trial(_sender(one), one.payment.contract, one.payment.recipient, one.payment.amount, one.payment.gas_limit)
            for one in tried
        ]
        failures = await try_payments(self._node, trials)
        return {one: failure.words for one, failure in zip(tried, failures, strict=True) if failure is not None}

    async def _outbid_at_once(self, desk: Desk, underpriced: Sequence[OwnTransaction]) -> None:
        """No node takes the newest attempt: what follows is stored, signed and sent, whatever the market says."""
        waits, successors = self._successors(desk, underpriced, await self._node.market(), is_underpriced=True)
        await desk.wait(waits)
        await desk.insert(successors)
        if successors:
            self._checkpoint.reached("replacement.stored")
            await self._send(desk, await self._sign(desk), keep_waiting={one.id for one, _, _ in waits})

    # Signing

    async def _sign(self, desk: Desk) -> list[Bytes]:
        """Have signed what is stored for it, each sender's in the order of nonces; the bytes are stored at once.

        Senders are asked for side by side: the signer commits what comes together together.
        """
        queues = SenderQueues(desk.transactions, desk.attempts)
        asked = [(one, attempt) for one in desk.transactions if (attempt := self._to_sign(desk, one, queues))]
        rounds = [list(mine) for _, mine in groupby(asked, key=lambda pair: _sender(pair[0]))]
        answers = await _side_by_side(self._asker.ask_in_order(mine, desk) for mine in rounds)
        answered = [answer for mine in answers for answer in mine]
        signed = [answer for answer in answered if answer.signed is not None]
        moves: list[Move] = [(answer.transaction, answer.as_signed()) for answer in signed]
        stalled = [answer for answer in answered if answer.stalls]
        moves += [(answer.transaction, answer.as_stalled()) for answer in stalled]
        await desk.save(moves, signed=[(answer.attempt, answer.signed) for answer in signed if answer.signed])
        if signed:
            self._checkpoint.reached("stored")
        for answer in answered:
            if isinstance(answer.problem, SignerRefused):
                await self._refused(desk, answer, answer.problem)
        return [(answer.as_signed(), answer.attempt) for answer in signed]

    def _to_sign(self, desk: Desk, transaction: OwnTransaction, queues: SenderQueues) -> Attempt | None:
        """What the signer is to be asked for it: again only when its bytes are due, where there are some already."""
        attempts = desk.attempts[transaction.id]
        if not attempts or not attempts[-1].is_asked or transaction.state is State.MINED:
            return None
        signed = next((attempt for attempt in reversed(attempts) if attempt.raw is not None), None)
        is_new = transaction.waiting_for is not WaitingFor.SIGNER
        return attempts[-1] if signed is None or is_new or self._due(transaction, signed, queues) else None

    async def _refused(self, desk: Desk, answer: Answered, refused: SignerRefused) -> None:
        """A no to the first attempt ends it, and frees its nonce; one to a later attempt leaves the others at work."""
        self._checkpoint.reached("refused.seen")
        if answer.transaction.state is State.RESERVED:
            await desk.free_nonce(
                answer.transaction,
                Event.REFUSED,
                refused.message,
                refused=answer.attempt,
                journal=refused.journal,
                code=refused.code,
            )
            return
        await desk.note_refused(answer.attempt, refused.journal)
        await desk.wait([(answer.transaction, WaitingFor.FEE, refused.message)])

    # Sending

    async def _send(self, desk: Desk, fresh: Sequence[Bytes], *, keep_waiting: set[str]) -> list[OwnTransaction]:
        """Hand in what was just signed, and what is due, to every node that hasn't got it; returns the underpriced.

        Each sender's in the order of nonces, senders side by side.
        """
        queues = SenderQueues(desk.transactions, desk.attempts)
        due = [pair for one in desk.transactions if (pair := self._to_send(desk, one, fresh, queues)) is not None]
        rounds = [list(mine) for _, mine in groupby(due, key=lambda pair: _sender(pair[0]))]
        outcomes = await _side_by_side(self._hand_in(mine) for mine in rounds)
        handed = [pair for mine in outcomes for pair in mine]
        moves: list[Move] = []
        for one, attempt, sent in handed:
            newest = desk.attempts[one.id][-1]
            is_stalled = one.id in keep_waiting or (attempt is not newest and newest.is_asked)
            moves.append((one, _after_sending(one, sent, is_stalled=is_stalled)))
        await desk.save(moves, sent=[attempt for _, attempt, _ in handed])
        return [after for (_, after), (_, _, sent) in zip(moves, handed, strict=True) if sent.is_underpriced]

    def _to_send(
        self, desk: Desk, transaction: OwnTransaction, fresh: Sequence[Bytes], queues: SenderQueues
    ) -> Bytes | None:
        """The newest bytes, when they're due; a payment's never where it's to be cancelled."""
        if transaction.state not in (State.SIGNED, State.BROADCAST):
            return None
        newest = next(attempt for attempt in reversed(desk.attempts[transaction.id]) if attempt.raw is not None)
        if transaction.cancelling is not None and not newest.cancels:
            return None
        is_fresh = any(attempt.tx_hash == newest.tx_hash for _, attempt in fresh)
        return (transaction, newest) if is_fresh or self._due(transaction, newest, queues) else None

    async def _hand_in(self, mine: Sequence[Bytes]) -> list[tuple[OwnTransaction, Attempt, Sent]]:
        found = []
        for one, attempt in mine:
            assert attempt.raw is not None
            self._checkpoint.reached("sending.before")
            was_sent = one.state is State.BROADCAST and attempt.sent_at is not None
            handed = await self._node.hand_in(attempt.raw, unless=attempt.tx_hash if was_sent else None)
            self._checkpoint.reached("sending.after")
            found.append((one, attempt, together(handed)))
        return found

    def _due(self, transaction: OwnTransaction, attempt: Attempt, queues: SenderQueues) -> bool:
        """Whether it's time to hand the bytes in (again)."""
        patience = self._repair_after if queues.is_first(transaction) else self._resend_after
        return attempt.last_sent_at is None or self._clock.now() - attempt.last_sent_at >= patience

    async def _halted(self) -> bool:
        async with tx(self._engine) as connection:
            return (await network_status(connection, self.network)).halted is not None

    async def _followed(self) -> Followed | None:
        async with tx(self._engine) as connection:
            return await blocks.followed(connection, self.network.name)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[bool]:
        """Whether it's ours to work now: no other process does."""
        name = turn(self.network.name)
        async with self._engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            mine = await blocks.try_lock(connection, name)
            try:
                yield mine
            finally:
                if mine:
                    await blocks.unlock(connection, name)


def turn(network: str) -> str:
    """The name of the session lock under which payments of `network` are worked on."""
    return f"pay {network}"


def _lacking(
    transaction: OwnTransaction,
    attempt: Attempt,
    held: dict[tuple[str | None, str], int],
    queues: SenderQueues,
) -> Lack | None:
    """What the sender is short of, beside what is already on its way: its own money first, then gas."""
    payment, gas, sender = transaction.payment, attempt.gas_limit * attempt.bid.max_fee_per_gas, _sender(transaction)
    free = held[payment.contract, sender] - queues.committed(sender, payment.contract)
    if free < payment.spends:
        return WaitingFor.FUNDS, f"{sender} has {max(0, free)} units free, the payment needs {payment.spends}"
    if payment.contract is None:
        free -= payment.spends
    else:
        free = held[None, sender] - queues.committed(sender, None)
    if free < gas:
        return WaitingFor.GAS, f"{sender} has {max(0, free)} wei free for gas, the payment may need {gas}"
    return None


def _after_sending(transaction: OwnTransaction, sent: Sent, *, is_stalled: bool) -> OwnTransaction:
    """Where it stands once its bytes were handed in; one that waits for a better attempt goes on waiting for that."""
    state = advance(transaction.state, Event.SENT) if sent.out else transaction.state
    if is_stalled:
        return replace(transaction, state=state)
    return replace(transaction, state=state, waiting_for=sent.waiting_for, refusal=sent.words)


def _sender(transaction: OwnTransaction) -> str:
    return transaction.payment.sender.address


def _nonce(transaction: OwnTransaction) -> int:
    return -1 if transaction.nonce is None else transaction.nonce


async def _side_by_side(works: Iterable[Awaitable[Item]]) -> list[Item]:
    """All of these at once; each comes to its end, also when another one fails."""
    found = await asyncio.gather(*works, return_exceptions=True)
    for one in found:
        if isinstance(one, BaseException):
            raise one
    return [one for one in found if not isinstance(one, BaseException)]
