"""One book and one sandbox, driven step by step; between the two a line that loses questions and answers when told."""

from collections import deque
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import ManualClock
from base.entropy import Entropy
from db.engine import tx
from fiat.personal import NoVault, Vault
from fiat.rails.booking import FeeBearer, provider_account
from fiat.rails.desk import Desk, Rails
from fiat.rails.errors import EffectUnknown, RateLimited
from fiat.rails.inbox import Inbox
from fiat.rails.sandbox import Sandbox
from fiat.rails.sandbox_acts import SandboxActs, SandboxDelivery
from fiat.rails.sandbox_record import Event, Record
from fiat.rails.sealed import sealer_of
from fiat.tables import top_ups
from fiat.top_ups import TopUp
from ledger.accounts import house_account, user_account
from ledger.commands import Post, Posting, Void, alone
from ledger.outcomes import require_accepted
from ledger.owing import receivable_account
from ledger.requests import RequestKey, request_key
from ledger.service import PostgresLedger
from tariff.desk import Desk as TariffDesk
from wallet.receivables import Receivables
from wiring.rails import RailServices, services_of

ADA, BEN = "usr_ada", "usr_ben"
SECRET = "a secret of the sandbox"

ASKED = frozenset(
    {
        *("create_payment", "proceed", "capture", "cancel", "fetch_payment", "find_payment"),
        "recover_payment",
        *("refund", "fetch_refund", "recover_refund", "fetch_dispute", "list_disputes", "list_refunds"),
    }
)


class Line:
    """A rail behind a bad line: `faults` are what happens to the next calls. It's the outside world that misbehaves."""

    def __init__(self, rail: Sandbox) -> None:
        self._rail = rail
        self.faults: deque[str] = deque()
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        asked = getattr(self._rail, name)
        if name not in ASKED:
            return asked

        async def call(*args: Any, **more: Any) -> Any:
            self.calls.append(name)
            fault = self.faults.popleft() if self.faults else ""
            if fault == "limited":
                raise RateLimited("too many requests", retry_after=7)
            if fault == "before":
                raise EffectUnknown("the connection was lost")
            answer = await asked(*args, **more)
            if fault == "after":
                raise EffectUnknown("the answer was lost")
            return answer

        return call


@dataclass
class World:
    """The book, the provider, and what lies between them."""

    ledger: PostgresLedger
    clock: ManualClock
    record: Record
    sandbox: Sandbox
    line: Line
    acts: SandboxActs
    rails: RailServices
    engine: AsyncEngine
    numbers: int = 0
    sent: list[Event] = field(default_factory=list)

    def key(self, name: str = "") -> RequestKey:
        """A new request's key, or that of the request called so."""
        self.numbers += 1
        name = name or str(self.numbers)
        return request_key(owner=ADA, route="POST /test", key=name, body={"n": name})

    async def top_up(self, amount: int = 10_000, method: str | None = "tok_visa", **more: Any) -> TopUp:
        return await self.rails.top_ups.request(
            key=more.pop("key", None) or self.key(),
            owner=more.pop("owner", ADA),
            rail="sandbox",
            asset="EUR",
            amount=amount,
            method=method,
            **more,
        )

    async def again(self, top_up: TopUp) -> TopUp:
        return await self.rails.top_ups.get(top_up.owner, top_up.id)

    async def older(self, top_up: TopUp) -> None:
        """Make it one that an older version asked for."""
        await make_older(self.engine, self.ledger, top_up)

    async def deliver(self) -> int:
        """All that the provider has to tell, and what follows from it."""
        async with self.record.session() as session:
            events = await session.unsent(limit=1000)
            await session.sent(events)
        self.sent += events
        for event in events:
            await self.receive(event)
        return await self.work()

    async def receive(self, event: Event) -> bool:
        return await self.rails.inbox.receive("sandbox", self.sandbox.sign(event.body))

    async def work(self) -> int:
        """One round of every step."""
        steps = (
            self.rails.effects.step,
            self.rails.top_ups.steps.step,
            self.rails.refunds.step,
            self.rails.effects.look_through,
            self.rails.settlements.step,
            Receivables(self.ledger).step,
        )
        return sum([await step() for step in steps])

    async def until_quiet(self, rounds: int = 28) -> None:
        """Let hours pass and everybody work until nothing is left to do, at most a day and some: by then whatever waits
        for its payer was given up. What is only authorised is looked at for ever."""
        self.line.faults.clear()
        for _ in range(rounds):
            self.clock.advance(timedelta(seconds=3601))
            await self.acts.tick()
            if not await self.deliver():
                return

    async def balance(self, account: str) -> int:
        found = await self.ledger.account(account)
        return 0 if found is None else found.balance

    async def has(self, owner: str = ADA) -> int:
        return await self.balance(user_account(owner, "EUR"))

    async def owes(self, owner: str = ADA) -> int:
        return -await self.balance(receivable_account(owner, "EUR"))

    async def at_provider(self) -> int:
        """What our book says that the provider owes us."""
        return -await self.balance(provider_account("sandbox", "EUR"))

    async def fees(self) -> int:
        return -await self.balance(house_account("rail-fees", "EUR"))

    async def spend(self, amount: int, owner: str = ADA) -> None:
        """The user's money goes to somebody else."""
        accounts = user_account(owner, "EUR"), user_account(BEN, "EUR")
        await self.ledger.ensure_open(*accounts)
        self.numbers += 1
        post = Post(id=f"test:spend:{self.numbers}", postings=(Posting(*accounts, "EUR", amount),))
        (outcomes,) = await self.ledger.submit(alone(post))
        require_accepted(outcomes)


async def make_older(engine: AsyncEngine, ledger: PostgresLedger, top_up: TopUp) -> None:
    """As if it had been asked for before anything was held for top-ups, or taken."""
    assert top_up.hold is not None
    (outcomes,) = await ledger.submit(alone(Void(id=f"test:older:{top_up.id}", hold=top_up.hold)))
    require_accepted(outcomes)
    async with tx(engine) as connection:
        change = update(top_ups).where(top_ups.c.id == top_up.id).values(hold=None, service_fee=0)
        await connection.execute(change)


def make_world(
    engine: AsyncEngine,
    ledger: PostgresLedger,
    clock: ManualClock,
    entropy: Entropy,
    vault: Vault | None = None,
    *,
    bearer: FeeBearer = FeeBearer.HOUSE,
    accounts: tuple[str, ...] = (),
    tariff: TariffDesk | None = None,
) -> World:
    """`accounts`: our bank accounts, whose lines are matched to settlements without a person."""
    record = Record(engine, book=ledger.book, clock=clock)
    sandbox = Sandbox(record, clock=clock, secret=SECRET)
    line = Line(sandbox)
    desk = Desk(
        engine=engine,
        ledger=ledger,
        rails=Rails([line]),
        vault=vault or NoVault("this world reads no bank lines"),
        clock=clock,
        entropy=entropy,
        bearer=bearer,
        accounts=accounts,
        tariff=tariff or TariffDesk(),
    )
    inbox = Inbox(desk, sealer=sealer_of(desk.vault))
    acts = SandboxActs(sandbox, record, clock=clock)
    delivery = SandboxDelivery(sandbox, acts, record, inbox)
    rails = services_of(desk, inbox, acts=acts, delivery=delivery)
    return World(ledger, clock, record, sandbox, line, acts, rails, engine)
