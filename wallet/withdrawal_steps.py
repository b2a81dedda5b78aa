"""What the worker does with withdrawals: all that stand at the same point are taken a state further together.

Each of its moves is one tx, or one group commit, however many withdrawals it's about; killed between any two it goes on
from what is committed. Who pays is chosen before a nonce is taken, so that one that can't be paid waits without being
in the others' way. What ends a withdrawal is booked with the block that proves it. Signing and sending are the chain's.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from chain.checkpoints import Checkpoint
from chain.networks import Registry
from chain.screening import Screening
from db.engine import tx
from ledger.engine import Ledger
from wallet import withdrawal_store
from wallet.resources import Withdrawal
from wallet.withdrawal_approvals import Approving
from wallet.withdrawal_following import WithdrawalFollowing
from wallet.withdrawal_moves import WithdrawalMoves
from wallet.withdrawal_paying import Gathering, HotSenders, WithdrawalPaying
from wallet.withdrawal_states import WithdrawalState

BATCH = 500
"""Open withdrawals that one step looks at; the next step takes the next ones."""

_S = WithdrawalState
_FOLLOWED = (_S.NONCE_RESERVED, _S.SIGNED, _S.BROADCAST, _S.MINED, _S.NEEDS_REVIEW)


class WithdrawalSteps:
    """Brings open withdrawals to their end."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        ledger: Ledger,
        registry: Registry,
        senders: HotSenders,
        screening: Mapping[str, Screening],
        gathering: Gathering | None = None,
        approving: Approving | None = None,
        clock: Clock,
        entropy: Entropy,
        checkpoint: Checkpoint,
    ) -> None:
        self._engine = engine
        self._ledger = ledger
        self._checkpoint = checkpoint
        moves = WithdrawalMoves(engine, ledger=ledger, registry=registry, clock=clock, checkpoint=checkpoint)
        self._paying = WithdrawalPaying(
            engine,
            moves,
            ledger=ledger,
            registry=registry,
            senders=senders,
            screening=screening,
            gathering=gathering,
            approving=approving,
            clock=clock,
            entropy=entropy,
            checkpoint=checkpoint,
        )
        self._following = WithdrawalFollowing(
            engine, moves, ledger=ledger, registry=registry, approving=approving, clock=clock
        )
        self._looked_at: str | None = None

    @property
    def screening(self) -> dict[str, Screening]:
        """By network, who is asked about recipients; nobody where there is none."""
        return self._paying.screening

    async def objections(self, network: str, recipients: Sequence[str]) -> Mapping[str, str]:
        """What is known against these addresses as of the newest block. Raises Unavailable when it can't be told."""
        return await self._paying.objections(network, recipients)

    async def step(self) -> int:
        """Take up to five hundred open withdrawals one state further, where the outside allows; how many moved."""
        async with tx(self._engine) as connection:
            found = await withdrawal_store.load_open_withdrawals(
                connection, self._ledger.book, after=self._looked_at, limit=BATCH
            )
        self._looked_at = found[-1].id if len(found) == BATCH else None
        moves: tuple[tuple[tuple[WithdrawalState, ...], Callable[[list[Withdrawal]], Awaitable[int]]], ...] = (
            (_FOLLOWED, self._following.follow),
            ((_S.APPROVED,), self._paying.reserve),
            ((_S.AWAITING_APPROVAL,), self._paying.hear),
            ((_S.SCREENED,), self._paying.approve),
            ((_S.HELD,), self._paying.screen),
        )
        moved = 0
        for states, move in moves:
            mine = [withdrawal for withdrawal in found if withdrawal.state in states]
            if not mine:
                continue
            for withdrawal in mine:
                self._checkpoint.reached(f"withdrawal.{withdrawal.state}.before")
            moved += await move(mine)
            for withdrawal in mine:
                self._checkpoint.reached(f"withdrawal.{withdrawal.state}.after")
        return moved
