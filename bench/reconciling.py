"""Reconciling a million accounts with themselves, and a hundred thousand addresses with a local anvil.

Accounts, lines and what was seen of the chain are written straight into a book's tables, as many entries would have
left them. Then everything is compared anew (`reconcile_1m_s`), and after one more block what changed
(`reconcile_cycle_s`): both from the first question to the last row of the record.
"""

import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx

from base.clock import SystemClock
from base.entropy import SeededEntropy
from base.errors import BrokenInvariant
from base.progress import Progress
from bench.frame import Options, median
from bench.stage import BOOK, FOLDER, Place, Stage
from chain import local
from chain.evm.node import Node
from chain.evm.pool import Pool
from chain.evm.rpc import HttpRpc
from chain.follower import Follower
from chain.local import LocalChain, NodeKind
from chain.networks import Deployment, Network, Registry
from ledger.commands import OpenAccount, alone
from ledger.money import Asset, AssetKind
from ledger.requests import worker_id
from treasury.reconciliation import Reconciler
from treasury.records import Reconciliation

ACCOUNTS, _QUICK_ACCOUNTS = 1_000_000, 20_000
ADDRESSES, _QUICK_ADDRESSES = 100_000, 2_000
CYCLES = 5
"""Blocks after each of which what changed is reconciled; the figure is the median."""

FIGURES = ("reconcile_1m_s", "reconcile_cycle_s")

_ETHER = Asset("ETH", AssetKind.CRYPTO, 18)
_NETWORK = "bench"
_CUSTODY, _CAPITAL = f"house/custody:{_NETWORK}:deposit/ETH", "house/capital/ETH"
_HELD = 10**18
"""What each address holds, and each account: an ether, in wei."""

_FIRST_ACCOUNT = 1_000
"""Accounts' numbers below it are the stage's own."""

_TOGETHER = 2_000
"""Balances that the node is told in one batch."""

_USERS = """
    INSERT INTO ledger_accounts
    SELECT $1::integer, $2::integer + n, true, false, false, 'usr_' || lpad(n::text, 26, '0') || '/wallet/ETH',
           'usr_' || lpad(n::text, 26, '0'), 'wallet', 'ETH', 0, 0, $4::numeric, 0, 0
      FROM generate_series(1, $3::integer) n
"""
_LINES = """
    INSERT INTO ledger_lines (seq, book, debit, credit, line, kind, amount, debit_balance, credit_balance)
    SELECT $5::bigint + n, $1::integer, debit, $2::integer + n, 0, 'posted', $4::numeric, -$4::numeric * times,
           $4::numeric
      FROM generate_series(1, $3::integer) n,
           LATERAL (SELECT CASE WHEN n <= $6::integer THEN $7::integer ELSE $8::integer END AS debit,
                           CASE WHEN n <= $6::integer THEN n ELSE n - $6::integer END AS times) AS by
"""
_EVIDENCE = """
    INSERT INTO ledger_evidence (seq, book, block_number, network, block_hash, tx_hash, place)
    SELECT $2::bigint + n, $1::integer, $4::bigint, $5, $6, 'tx ' || n + $7::integer, 'value'
      FROM generate_series(1, $3::integer) n
"""
_SEEN = """
    INSERT INTO chain_observations (network, block_hash, tx_hash, place, block_number, sender, recipient, amount,
                                    orphaned, revision, seen_at)
    SELECT $1, $2, 'tx ' || n, 'value', $3::bigint, '0x' || repeat('0', 40), '0x' || lpad(to_hex(n), 40, '0'),
           $5::numeric, false, 1, now()
      FROM generate_series($6::integer, $4::integer) n
"""
_OWN = """
    INSERT INTO chain_addresses (family, address, role, generation, key_index, book, owner, issued_at)
    SELECT 'evm', '0x' || lpad(to_hex(n), 40, '0'), 'deposit', 1, n, $1, 'usr_' || lpad(n::text, 26, '0'), now()
      FROM generate_series($3::integer, $2::integer) n
"""
_FIRST_ADDRESS = 0x10000
"""Addresses are small numbers, but none that means something to the chain."""


@dataclass(frozen=True, slots=True)
class _World:
    """A book and a chain that agree."""

    reconciler: Reconciler
    follower: Follower
    url: str


async def measure(stage: Stage, options: Options, progress: Progress) -> AsyncIterator[tuple[str, float, str]]:
    """The figures that are wanted: name, value, unit."""
    if not options.wants_any(*FIGURES):
        return
    folder = Path(tempfile.mkdtemp(prefix="reconciling-", dir=FOLDER))
    try:
        with LocalChain.start(NodeKind.ANVIL, folder, port=None) as anvil:
            async with stage.book() as place:
                rpc = HttpRpc(anvil.url)
                world = await _prepare(place, anvil, rpc, options, progress)
                try:
                    began = time.perf_counter()
                    _must_agree(await world.reconciler.run(told=progress.note), options)
                    yield "reconcile_1m_s", time.perf_counter() - began, "s"
                    spent = [await _cycle(world, options) for _ in range(1 if options.quick else CYCLES)]
                    yield "reconcile_cycle_s", median(spent), "s"
                finally:
                    await world.follower.close()
                    await rpc.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _cycle(world: _World, options: Options) -> float:
    """One more block, then a run over what changed."""
    local.mine(world.url, 1)
    await world.follower.step()
    began = time.perf_counter()
    _must_agree(await world.reconciler.run_changes(), options)
    return time.perf_counter() - began


def _must_agree(run: Reconciliation, options: Options) -> None:
    accounts = _QUICK_ACCOUNTS if options.quick else ACCOUNTS
    if not run.clean or run.checks < accounts or not run.networks:
        raise BrokenInvariant(f"what was made to agree doesn't: {run.breaks[:3]} {run.networks}")


async def _prepare(place: Place, anvil: LocalChain, rpc: HttpRpc, options: Options, progress: Progress) -> _World:
    accounts, addresses = (_QUICK_ACCOUNTS, _QUICK_ADDRESSES) if options.quick else (ACCOUNTS, ADDRESSES)
    with progress.bar("balances on chain", addresses) as advance:
        for done in _fund(anvil.url, addresses):
            advance(done)
    height = local.mine(anvil.url, 1)
    network = Network(
        name=_NETWORK,
        chain_id=anvil.chain_id,
        rpc_urls=(anvil.url,),
        native_asset="ETH",
        spendable_depth=1,
        final_depth=1,
        start_height=height,
    )
    pool = Pool(network, [Node(network, rpc)])
    clock = SystemClock()
    follower = Follower(engine=place.engine, network=network, nodes=pool, clock=clock)
    await follower.step()
    block_hash = str(local.rpc(anvil.url, "eth_getBlockByNumber", hex(height), False)["hash"])
    await place.ledger.register_asset(_ETHER)
    opened = [alone(OpenAccount(id=worker_id("open", name), account=name)) for name in (_CUSTODY, _CAPITAL)]
    await place.ledger.submit(*opened)
    progress.note(f"writing {accounts} accounts and their lines")
    await _write(place, accounts, addresses, height, block_hash)
    reconciler = Reconciler(
        place.engine,
        ledger=place.ledger,
        registry=Registry([network], [Deployment(asset="ETH", network=_NETWORK, contract=None, decimals=18)]),
        nodes={_NETWORK: pool},
        banks=[],
        clock=clock,
        entropy=SeededEntropy(options.seed),
    )
    return _World(reconciler, follower, anvil.url)


def _fund(url: str, addresses: int) -> Iterator[int]:
    """Give each address its ether, by the node's own means."""
    with httpx.Client(timeout=60) as client:
        for start in range(0, addresses, _TOGETHER):
            part = range(start, min(start + _TOGETHER, addresses))
            calls = [
                {
                    "jsonrpc": "2.0",
                    "id": n,
                    "method": "anvil_setBalance",
                    "params": [f"0x{_FIRST_ADDRESS + n:040x}", hex(_HELD)],
                }
                for n in part
            ]
            client.post(url, json=calls).raise_for_status()
            yield len(part)


async def _write(place: Place, accounts: int, addresses: int, height: int, block_hash: str) -> None:
    """Each account has one line: the first ones from custody, each with its transfer; the others from capital."""
    connection = await asyncpg.connect(place.admin_url, server_settings={"synchronous_commit": "off"})
    try:
        book, seq = await connection.fetchrow("SELECT number, seq FROM ledger_books WHERE book = $1", BOOK)
        find = "SELECT account FROM ledger_accounts WHERE book = $1 AND name = $2"
        custody, capital = [await connection.fetchval(find, book, name) for name in (_CUSTODY, _CAPITAL)]
        held, last = str(_HELD), _FIRST_ADDRESS + addresses - 1
        await connection.execute(_USERS, book, _FIRST_ACCOUNT, accounts, held)
        await connection.execute(_LINES, book, _FIRST_ACCOUNT, accounts, held, seq, addresses, custody, capital)
        first = _FIRST_ADDRESS - 1
        await connection.execute(_EVIDENCE, book, seq, addresses, height, _NETWORK, block_hash, first)
        await connection.execute(_SEEN, _NETWORK, block_hash, height, last, held, _FIRST_ADDRESS)
        await connection.execute(_OWN, BOOK, last, _FIRST_ADDRESS)
        for account, count in ((custody, addresses), (capital, accounts - addresses)):
            raised = "UPDATE ledger_accounts SET debits_posted = $3::numeric WHERE book = $1 AND account = $2"
            await connection.execute(raised, book, account, str(_HELD * count))
        await connection.execute(
            "UPDATE ledger_books SET seq = seq + $2, accounts = $3 WHERE number = $1",
            book,
            accounts,
            _FIRST_ACCOUNT + accounts,
        )
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()
