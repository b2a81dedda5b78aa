"""One run: everything is started, the plan is played, all comes to rest, and the checker looks. See docs/chaos.md.

python -m tests.chaos --seconds 600 --seed 7
"""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from tests.chaos.book_view import connected
from tests.chaos.checker import Difference, Kind, check
from tests.chaos.crowd import Crowd, in_time
from tests.chaos.faults import Striker
from tests.chaos.house import HOT_SENDERS, NETWORK, House, make_house
from tests.chaos.outside import BLOCK_SECONDS, LISTED_PAYER, Outside
from tests.chaos.plan import AT_WORKERS, FINAL_DEPTH, LIES, Plan, ToChain, ToHouse
from tests.chaos.records import Facts
from tests.faults.lies import Kind as Lie
from tests.faults.lying_node import lying_node
from tests.support.chain import start_local_chain
from wiring.payouts import Payouts

WITHDRAWALS_FINAL, BATCHED, REORGS, KILLS = 20, 2, 5, 5
"""Per minute at least."""

STOCK = {"USDC": 500_000, "ETH": 300}
"""What the house brings to its hot addresses: whole units, half of them for the exchange."""

GAS_ETH = 5
"""And to its gas address."""

START_USDC, START_ETH = 1_000 * 10**6, 10**18
"""What each user is paid at first, in smallest units."""

USERS_PER_BLOCK = 20
"""So many are paid at first in one block: to trace a block transaction by transaction takes the square of its size."""

SAY_SECONDS = 5.0
DRAIN_SECONDS, STANDSTILL_SECONDS = 300.0, 75.0
"""How long coming to rest may take: at all, and without anything coming any further."""

SETTLE_SECONDS = 240.0
"""How long the beginning may take until everybody's money is there."""

LOOK_SECONDS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What came of a run. It passed when nothing is missing and nothing differs."""

    seed: int
    counts: Counter[str]
    missed: tuple[str, ...]
    differences: tuple[Difference | str, ...]

    @property
    def passed(self) -> bool:
        return not self.missed and not self.differences

    def line(self) -> str:
        """The run in one line."""
        counts = ", ".join(f"{count} {what}" for what, count in self.counts.items())
        return (
            f"seed {self.seed}: {counts}; floors missed: {'; '.join(self.missed) or 'none'};"
            f" differences: {len(self.differences) or 'none'}"
        )


@dataclass(slots=True)
class Run:
    """A run under way."""

    plan: Plan
    house: House
    outside: Outside
    crowd: Crowd
    striker: Striker
    say: Callable[[str], None]
    begun: float = 0.0
    unrest: list[str] = field(default_factory=list)
    """What hasn't come to rest, as last seen."""
    last_payment: int = -1
    """The height by which the outside world had paid all that it pays."""
    states: Counter[str] = field(default_factory=Counter)
    """Withdrawals by state, as last seen."""
    batched: int = 0
    """Of the final ones, those that shared a transaction."""

    @property
    def left(self) -> float:
        return self.begun + self.plan.seconds - asyncio.get_running_loop().time()

    # Playing

    async def play(self) -> None:
        """All scripts side by side, to the plan's end; strikes at workers beside those at the rest of the house."""
        self.begun = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(in_time(tasks, self.plan.paying, self._pay, begun=self.begun))
            tasks.create_task(in_time(tasks, self.plan.lying, self.striker.lie, begun=self.begun))
            tasks.create_task(self._one_by_one(self.plan.chain, self.striker.strike_chain))
            for at_workers in (True, False):
                strikes = [one for one in self.plan.house if (one.what in AT_WORKERS) is at_workers]
                tasks.create_task(self._one_by_one(strikes, self.striker.strike_house))

    async def _pay(self, asked: Any) -> None:
        await self.outside.pay(asked, self.crowd.addresses[asked.user], hot=self.house.hot[0])

    async def _one_by_one(self, strikes: Iterable[Any], do: Callable[[Any], Awaitable[None]]) -> None:
        """Each after the one before, no earlier than planned; none once the time is up."""
        for strike in strikes:
            await asyncio.sleep(max(0.0, self.begun + strike.at - asyncio.get_running_loop().time()))
            if self.left <= 0:
                return
            await do(strike)

    async def tell(self, stop: asyncio.Event) -> None:
        """A line now and then."""
        while not stop.is_set():
            await self.look()
            left = f"{self.left:.0f} s left" if self.left > 0 else f"coming to rest ({', '.join(self.unrest)})"
            kinds = len(+self.striker.count())
            open_ = self.states.total() - sum(self.states[state] for state in ENDED)
            self.say(
                f"{left}: {self.states['final']} withdrawals final, {open_} under way, {len(self.crowd.asked)} asked,"
                f" {self.outside.made['payments']} payments in; {self.striker.reorgs} reorganisations,"
                f" {self.striker.kills} kills, {kinds} kinds of faults"
            )
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), SAY_SECONDS)

    async def look(self) -> None:
        rows = await self.query("SELECT state, count(*) FROM wallet_withdrawals GROUP BY state")
        if rows is not None:
            self.states = Counter(dict(rows))
        rows = await self.query("SELECT count(*) FROM wallet_batch_legs WHERE result = 'paid'")
        if rows is not None:
            self.batched = rows[0][0]

    async def query(self, statement: str, *values: object) -> list[Any] | None:
        """Rows, or None while the database is away."""
        try:
            connection = await asyncpg.connect(self.house.running.admin_url, timeout=5)
            try:
                return list(await connection.fetch(statement, *values))
            finally:
                await connection.close(timeout=5)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
            return None

    # Coming to rest

    async def come_to_rest(self, asking: "asyncio.Task[None]") -> list[str]:
        """Wait until every request has its answer and its end, and all is final and booked; what hasn't, in the end."""
        loop = asyncio.get_running_loop()
        begun = moved_at = loop.time()
        unrest, before = ["it wasn't looked at"], [""]
        while unrest and loop.time() < min(begun + DRAIN_SECONDS, moved_at + STANDSTILL_SECONDS):
            if unrest != before:
                before, moved_at = unrest, loop.time()
            await asyncio.sleep(LOOK_SECONDS)
            unrest = await self._unrest() if asking.done() else ["requests without an answer"]
            self.unrest = unrest
        self.crowd.given_up.set()
        await asking
        await self.look()
        return unrest

    async def _unrest(self) -> list[str]:
        found = await self.query(_UNREST, self.last_payment)
        if found is None:
            return ["the database doesn't answer"]
        return [f"{count} {what}" for what, count in found if count]

    async def is_taken_in(self) -> bool:
        """Whether the follower has the last block."""
        rows = await self.query("SELECT height FROM chain_networks WHERE network = $1", NETWORK)
        return rows is not None and [row["height"] for row in rows] == [await self.outside.height()]

    async def behind(self) -> list[str]:
        """Whether the last block is taken in and all that it makes final is booked."""
        height = await self.outside.height()
        rows = await self.query("SELECT height, halted FROM chain_networks WHERE network = $1", NETWORK)
        if not rows or rows[0]["height"] != height or rows[0]["halted"]:
            return [f"the follower is at {rows and dict(rows[0])}, the chain at {height}"]
        return await self._unrest()


ENDED = ("final", "rejected", "cancelled", "reverted")

_UNREST = """
    SELECT 'withdrawals under way', count(*) FROM wallet_withdrawals
     WHERE state NOT IN ('final', 'rejected', 'cancelled', 'reverted')
    UNION ALL SELECT 'own transactions under way', count(*) FROM chain_transactions
     WHERE state IN ('reserved', 'signed', 'broadcast', 'mined')
    UNION ALL SELECT 'sweeps under way', count(*) FROM treasury_sweeps
     WHERE state NOT IN ('final', 'unsweepable', 'needs_review', 'dropped')
    UNION ALL SELECT 'deposits under way', count(*) FROM wallet_deposits
     WHERE state IN ('pending', 'credited', 'under_review', 'surplus')
        OR (state IN ('below_minimum', 'quarantined', 'sender_listed') AND entry IS NULL)
    UNION ALL SELECT 'deposits not recorded', count(*) FROM chain_observations o
      JOIN chain_addresses a ON a.address = o.recipient AND a.role = 'deposit' AND a.owner IS NOT NULL
     WHERE NOT o.orphaned AND o.attached_to IS NULL AND NOT EXISTS (
           SELECT FROM wallet_deposits d WHERE d.network = o.network AND d.tx_hash = o.tx_hash AND d.place = o.place
              AND d.block_hash = o.block_hash AND d.state NOT IN ('orphaned', 'reversed'))
       AND NOT EXISTS (SELECT FROM chain_transactions t WHERE t.tx_hash = o.tx_hash AND t.kind <> 'withdrawal')
    UNION ALL SELECT 'addresses whose ether was not looked at', count(*) FROM chain_addresses a
     WHERE (a.owner IS NOT NULL OR a.role IN ('hot', 'gas')) AND NOT EXISTS (
           SELECT FROM chain_coin_balances c WHERE c.address = a.address AND c.block_number >= $1)
    UNION ALL SELECT 'disagreements of nodes', count(*) FROM chain_disagreements WHERE ended_at IS NULL
"""


async def run(plan: Plan, folder: Path, *, say: Callable[[str], None] = print, faults: Sequence[str] = ()) -> Ending:
    """Play the plan on a new installation in `folder`, and look what came of it. Everything has ended on return."""
    say(f"seed {plan.seed}: {plan.seconds:.0f} s, {plan.users} users, {plan.workers} workers")
    async with opened(plan, folder, say=say, faults=faults) as under_way:
        return await finish(under_way, await act(under_way))


@asynccontextmanager
async def opened(
    plan: Plan, folder: Path, *, say: Callable[[str], None] = print, faults: Sequence[str] = ()
) -> AsyncIterator[Run]:
    """A run whose processes are up, whose users have money, and whose chain makes blocks; nothing of the plan yet."""
    started = time.monotonic()
    async with AsyncExitStack() as stack:
        chain = stack.enter_context(start_local_chain(folder))
        stack.callback(lambda: chain.node.stop())  # a restarted node is another one than was entered
        outside = Outside(chain, folder)
        stack.push_async_callback(outside.close)
        outside.furnish()
        liar = await stack.enter_async_context(lying_node(chain.url, passing=outside.gate.passing))
        honest = await stack.enter_async_context(lying_node(chain.url, passing=outside.gate.passing))
        liar.lie(Lie.REPLACEMENT, times=None)
        listed = [chain.accounts[LISTED_PAYER].lower(), *plan.listed_recipients]
        house = await make_house(folder / "house", chain, urls=[liar.url, honest.url], listed=listed, faults=faults)
        stack.callback(house.stop)
        house.start(workers=plan.workers)
        crowd = Crowd(house.api_url, outside)
        stack.push_async_callback(crowd.close)
        striker = Striker(house, outside, liar, random.Random(f"{plan.seed} ways"))
        under_way = Run(plan, house, outside, crowd, striker, say)
        async with _beside(outside.make_blocks, house.watch):
            say(f"processes are up after {time.monotonic() - started:.1f} s")
            await _furnish(under_way)
            say(f"everybody has money after {time.monotonic() - started:.1f} s")
            yield under_way


async def act(under_way: Run) -> list[str]:
    """Play the plan and let all come to rest; what didn't."""
    run, loop = under_way, asyncio.get_running_loop()
    async with asyncio.TaskGroup() as tasks, _beside(run.tell):
        asking = tasks.create_task(_ask_all(run))
        await run.play()
        if run.plan.lying:
            minutes = run.plan.minutes
            await run.striker.make_up(reorgs=REORGS * minutes, kills=KILLS * minutes, each=floor_of_kinds(run.plan))
        run.striker.liar.be_honest()
        run.last_payment = await run.outside.height() + 1
        begun = loop.time()
        unrest = await run.come_to_rest(asking)
        run.say(f"at rest after {loop.time() - begun:.0f} s")
    return unrest


async def finish(under_way: Run, unrest: Sequence[str]) -> Ending:
    """Make the last block final, have the checker look, and count."""
    run = under_way
    async with run.outside.still():
        behind = [] if unrest else await _all_final(run)
        async with connected(run.house.running.admin_url) as connection:
            differences = await check(facts_of(run), connection)
            house_says = [] if unrest or behind else await _house_says(run)
            if differences or unrest or behind or house_says:
                await _keep_rows(connection, run.house.home / "rows")
    await run.look()
    said: list[Difference | str] = [
        *differences,
        *(f"{Kind.UNFINISHED}: {what}" for what in (*unrest, *behind)),
        *(f"a process ended by itself: {what}" for what in run.house.deserted),
        *house_says,
    ]
    for one in said:
        run.say(f"DIFFERENCE {one}")
    ending = Ending(seed=run.plan.seed, counts=_counts(run), missed=tuple(_missed(run)), differences=tuple(said))
    for name, count in sorted(run.striker.count().items()):
        run.say(f"{count:6} {name}")
    for name, count in sorted(run.striker.points.items()):
        run.say(f"{count:6} worker killed at {name}")
    for name, count in sorted(run.crowd.told.items()):
        run.say(f"{count:6} told to users: {name}")
    run.say(ending.line())
    return ending


async def _keep_rows(connection: "asyncpg.Connection[Any]", folder: Path) -> None:
    """Every table as it is now, a file of JSON lines for each: where a run differs, somebody will want to know why."""
    folder.mkdir(exist_ok=True)
    tables = await connection.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
    )
    for (table,) in tables:
        rows = await connection.fetch(f'SELECT row_to_json(t)::text FROM "{table}" t')
        (folder / f"{table}.jsonl").write_text("".join(f"{row[0]}\n" for row in rows))


async def _all_final(run: Run) -> list[str]:
    """Blocks are made, as few as it takes, until the last is taken in and nothing is under way any more.

    What becomes final may begin something of its own: a sweep. What is behind, when that doesn't end.
    """
    deadline, sent, last = time.monotonic() + DRAIN_SECONDS, -1, await run.outside.height()
    behind = ["nothing was looked at"]
    while time.monotonic() < deadline:
        rows = await run.query("SELECT count(*) FROM chain_transactions")
        if rows and rows[0][0] != sent:
            sent, last = rows[0][0], await run.outside.height()
        if await run.outside.height() > last + FINAL_DEPTH and not behind:
            return []
        if behind == [] or await run.is_taken_in():
            await run.outside.rpc("evm_mine")
        behind = await _until_none(run.behind, seconds=BLOCK_SECONDS)
    return behind


def facts_of(run: Run) -> Facts:
    """What the checker needs to know."""
    chain, crowd = run.outside.chain, run.crowd
    return Facts(
        node_url=chain.url,
        book=run.house.settings.book,
        network=NETWORK,
        native="ETH",
        tokens={chain.token("USDC").lower(): "USDC"},
        hot=run.house.hot,
        addresses=dict(zip(crowd.addresses, crowd.ids, strict=True)),
        minimums={"USDC": 10**6, "ETH": 10**15},
        listed={chain.accounts[LISTED_PAYER].lower()},
        asked=tuple(crowd.asked),
    )


# Counting


def floor_of_kinds(plan: Plan) -> int:
    """How often each kind of fault must have come about: once in each whole minute."""
    return max(1, int(plan.minutes))


def _missed(run: Run) -> list[str]:
    minutes = run.plan.minutes
    happened = run.striker.count()
    floors = {
        "withdrawals final": (run.states["final"], WITHDRAWALS_FINAL * minutes),
        "withdrawals by batches": (run.batched, BATCHED * minutes),
        "reorganisations": (run.striker.reorgs, REORGS * minutes),
        "kills": (run.striker.kills, KILLS * minutes),
    }
    kinds = [kind.value for group in (sorted(LIES), ToChain, ToHouse) for kind in group]
    floors |= {kind: (happened[kind], floor_of_kinds(run.plan)) for kind in kinds}
    return [f"{had} of {floor:g} {what}" for what, (had, floor) in floors.items() if had < floor]


def _counts(run: Run) -> Counter[str]:
    told = run.crowd.told
    counts = Counter[str]()
    for state, count in sorted(run.states.items()):
        counts[f"withdrawals {state}"] = count
    counts["withdrawals by batches"] = run.batched
    counts["transfers"] = told["transfer accepted"]
    counts["conversions"] = told["convert accepted"]
    counts["payments in"] = run.outside.made["payments"]
    counts["blocks"] = run.outside.made["blocks"]
    counts["reorganisations"] = run.striker.reorgs
    counts["kills"] = run.striker.kills
    counts["lies"] = run.striker.liar.told.total()
    counts["kinds of faults"] = len(+run.striker.count())
    return counts


# Beginning and end


async def _furnish(run: Run) -> None:
    """The house's own money, booked as capital and as the exchange's stock; the users and theirs."""
    outside, house, crowd = run.outside, run.house, run.crowd
    await crowd.gather(run.plan.users, house.operator_key)
    treasury = await crowd.must("/v1/api-keys", {"label": "t", "scopes": ["treasury"]}, secret=house.operator_key)
    crowd.treasurer = treasury["secret"]
    for hot in house.hot:
        await outside.send(0, hot, value=STOCK["ETH"] * 10**18 // HOT_SENDERS)
        await outside.send_token("USDC", 1, hot, STOCK["USDC"] * 10**6 // HOT_SENDERS)
    await outside.send(0, house.gas, value=GAS_ETH * 10**18)
    for number, address in enumerate(crowd.addresses):
        await outside.send_token("USDC", 1 + number % 2, address, START_USDC)
        await outside.send(3 + number % 3, address, value=START_ETH)
        if number % USERS_PER_BLOCK == USERS_PER_BLOCK - 1:
            await outside.mine()
    await outside.mine(FINAL_DEPTH + 1)
    wanted = run.plan.users * 2

    async def arrived() -> list[str]:
        rows = await run.query("SELECT count(*) FROM wallet_deposits WHERE state IN ('credited', 'final')")
        booked = await run.query("SELECT count(*) FROM treasury_inflows")
        inflows = len(STOCK) * HOT_SENDERS + 1
        if rows and booked and rows[0][0] >= wanted and booked[0][0] >= inflows:
            return []
        return [f"{rows and rows[0][0]} of {wanted} deposits, {booked and booked[0][0]} of {inflows} inflows"]

    left = await _until_none(arrived, seconds=SETTLE_SECONDS)
    assert not left, f"the beginning takes too long: {left}"
    await house.create_payout_contract(_stands)
    for asset, whole in STOCK.items():
        for part, purpose in enumerate(("capital", "fx")):
            await crowd.must(
                "/v1/treasury/adjustments",
                {
                    "asset": asset,
                    "amount": str(whole // 2),
                    "debit": "suspense",
                    "credit": purpose,
                    "reason": "opening",
                },
                secret=crowd.treasurer,
                key=f"opening-{asset}-{part}",
            )


async def _stands(payouts: Payouts) -> None:
    async def missing() -> list[str]:
        standing = await payouts.standing()
        return [] if standing.stands else [f"the payout contract isn't there: {standing.refusal or standing.problem}"]

    left = await _until_none(missing, seconds=SETTLE_SECONDS)
    assert not left, left


async def _ask_all(run: Run) -> None:
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(in_time(tasks, run.plan.asking, run.crowd.ask, begun=loop.time()))


async def _house_says(run: Run) -> list[str]:
    """What the house's own reconciliation finds, beside the checker."""
    found = await run.crowd.must("/v1/treasury/reconciliations", None, secret=run.crowd.treasurer, key="last")
    return [f"reconciliation: {one}" for one in found["breaks"]] + [
        f"reconciliation skipped {one['network']}: {one['skipped']}" for one in found["networks"] if one["skipped"]
    ]


async def _until_none(look: Callable[[], Awaitable[list[str]]], *, seconds: float) -> list[str]:
    """What `look` still finds after so long; nothing as soon as it finds nothing."""
    deadline = time.monotonic() + seconds
    while (found := await look()) and time.monotonic() < deadline:
        await asyncio.sleep(LOOK_SECONDS)
    return found


@asynccontextmanager
async def _beside(*loops: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """These run until the block is left; one that fails ends the block."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for loop in loops:
            tasks.create_task(loop(stop))
        try:
            yield
        finally:
            stop.set()
