"""A hot address with money, its signer, and a broadcaster on a followed chain: what tests of own transactions share."""

from dataclasses import dataclass, field
from typing import Any

from base.clock import SystemClock
from base.entropy import SystemEntropy
from chain import transaction_store as store
from chain.broadcaster import Broadcaster
from chain.checkpoints import Checkpoint
from chain.networks import GWEI
from chain.payments import Attempt
from chain.signing import OwnAddress, OwnKey, Role
from chain.transaction_states import Kind, State
from chain.transactions import OwnTransaction, Payment, Reserved, cancel, reserve
from db.engine import tx
from tests.chain.support import BOOK, Following
from tests.support.chain import RunningChain
from tests.support.signer import RunningSigner
from wiring.signing import CustodySigner, XpubAddresses

STRANGER = "0x00000000000000000000000000000000deadbeef"


class Killed(Exception):
    """Stands for the process's end."""


@dataclass
class KillAt:
    """Ends the step at the first checkpoint of this name."""

    name: str

    def reached(self, name: str) -> None:
        if name == self.name:
            raise Killed(name)


@dataclass
class Paying:
    """A hot address with money, its signer, and a broadcaster on a followed chain."""

    following: Following
    signer: RunningSigner
    hot: OwnAddress
    broadcaster: Broadcaster
    count: int = field(default=0)

    @property
    def chain(self) -> RunningChain:
        return self.following.chain

    def another(self, checkpoint: Checkpoint | None = None, **changes: Any) -> Broadcaster:
        """A broadcaster as a restarted worker has it."""
        settings: dict[str, Any] = {
            "engine": self.following.engine,
            "network": self.following.network,
            "nodes": [self.following.node],
            "signer": CustodySigner(self.signer.client(seconds=2)),
            "clock": self.following.clock,
            "checkpoint": checkpoint,
            "resend_seconds": 0,
        }
        return Broadcaster(**(settings | changes))

    def payment(
        self, amount: int = 1_000_000, *, asset: str = "USDC", subject: str | None = None, **changes: Any
    ) -> Payment:
        self.count += 1
        settings: dict[str, Any] = {
            "network": self.following.network.name,
            "kind": Kind.WITHDRAWAL,
            "book": BOOK,
            "subject": subject or f"wdr_{self.count}",
            "sender": self.hot,
            "contract": None if asset == "ETH" else self.chain.token(asset).lower(),
            "to": STRANGER,
            "amount": amount,
            "gas_limit": 100_000,
            "fee_wei_max": 100_000 * 100 * GWEI,
        }
        return Payment(**(settings | changes))

    async def reserve(self, payment: Payment) -> Reserved:
        async with tx(self.following.engine) as connection:
            return await reserve(connection, payment, clock=self.following.clock, entropy=SystemEntropy())

    async def pay(self, *args: Any, **changes: Any) -> Reserved:
        return await self.reserve(self.payment(*args, **changes))

    async def cancel(self, reserved: Reserved, reason: str = "a treasurer says so") -> bool:
        subject = (await self.transaction(reserved)).payment.subject
        async with tx(self.following.engine) as connection:
            return await cancel(connection, book=BOOK, subject=subject, reason=reason)

    async def transaction(self, reserved: Reserved) -> OwnTransaction:
        async with tx(self.following.engine) as connection:
            found = await store.by_id(connection, reserved.id)
        assert found is not None
        return found

    async def attempts(self, reserved: Reserved) -> list[Attempt]:
        async with tx(self.following.engine) as connection:
            return (await store.attempts_of(connection, [reserved.id]))[reserved.id]

    async def settle(self, blocks: int = 4) -> None:
        """Mine until nothing that was sent is unfinished, and let both sides see it."""
        for _ in range(10):
            self.chain.mine(blocks)
            await self.following.catch_up()
            await self.broadcaster.step()
            async with tx(self.following.engine) as connection:
                unfinished = await store.open_ones(connection, network=self.following.network.name, limit=100)
            if all(one.state is State.RESERVED for one in unfinished):
                return
        raise AssertionError(f"still unfinished: {unfinished}")

    def paid_to_stranger(self, asset: str = "USDC") -> int:
        return self.chain.balance(asset, STRANGER)


async def start_paying(chain: RunningChain, signer: RunningSigner, following: Following) -> Paying:
    following.clock = SystemClock()
    source = XpubAddresses(signer.xpubs)
    hot = OwnAddress(OwnKey(Role.HOT, 0), source.address(OwnKey(Role.HOT, 0)))
    await following.enrol(hot.address)
    chain.transfer("USDC", hot.address, 100_000_000)
    chain.faucet(hot.address, 10**18)
    await following.catch_up()
    paying = Paying(following, signer, hot, None)  # type: ignore[arg-type]
    paying.broadcaster = paying.another()
    return paying
