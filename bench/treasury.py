"""The area `treasury`: a million users' balances read from a book at one seq and hashed into a tree; proofs out of it.

Reconciling as many accounts and a chain with them: `bench.reconciling`. A long statement: `bench.reporting`.

Users' accounts are written straight into a book's table, as many entries would have left them: only reading them and
what comes after is measured, from the first question to the file with all nodes. The asset has eighteen decimals, so
that sums are long.
"""

import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import asyncpg

from base.clock import SystemClock
from base.entropy import SeededEntropy
from base.ids import new_id
from base.progress import Progress
from bench import reconciling, reporting
from bench.frame import Better, Figure, Options, Report, median, number
from bench.machine import describe_machine, describe_server, forget_highest, highest_mib
from bench.stage import BOOK, Place, Stage, prepare, server
from ledger.accounts import WALLET
from ledger.money import Asset, AssetKind
from treasury.solvency import read_owed, snapshot, tree_of
from treasury.solvency_files import drafted
from treasury.solvency_proofs import read_proof, verify, write_proof
from treasury.solvency_tree import KEY_BYTES, SumTree

USERS, _QUICK_USERS = 1_000_000, 50_000
PROOFS = 1_000
"""Users whose proofs are written and checked."""

TARGETS = {
    "tree_1m_s": 15.0,
    "tree_1m_mib": 2048.0,
    "proof_bytes": 3072.0,
    "proof_verify_ms": 50.0,
    "reconcile_1m_s": 60.0,
    "reconcile_cycle_s": 2.0,
    "report_300k_mib": 64.0,
}
"""What figures may be at most."""

_TREES = ("tree_1m_s", "tree_1m_mib", "proof_bytes", "proof_verify_ms")

_ETHER = Asset("ETH", AssetKind.CRYPTO, 18)
_AMOUNT_MAX = 10**24
"""A million ether: the largest balance."""

_FIRST_ACCOUNT = 1_000
"""Accounts' numbers below it are the stage's own."""

_COLUMNS = (
    *("book", "account", "limited", "frozen", "closed", "name", "owner", "purpose", "asset", "credit_line"),
    *("debits_posted", "credits_posted", "debits_pending", "credits_pending"),
)
_CHUNK = 50_000


@dataclass(frozen=True, slots=True)
class _Built:
    """A tree, how long it took from the book to the file of its nodes, and what memory it needed at most."""

    tree: SumTree
    seconds: float
    mib: float


async def measure(options: Options, progress: Progress) -> Report:
    """Read and hash all users, write and check the proofs of some; reconcile."""
    users = _QUICK_USERS if options.quick else USERS
    values: dict[str, tuple[float, str]] = {}
    with server("treasury") as running:
        stage = await prepare(running, accounts=1, seed=options.seed, progress=progress)
        if options.wants_any(*_TREES):
            values |= await _trees(stage, users, options, progress)
        async for name, value, unit in reconciling.measure(stage, options, progress):
            values[name] = value, unit
        if options.wants(reporting.FIGURE):
            values[reporting.FIGURE] = await reporting.measure(stage, options, progress), "MiB"
        settings: dict[str, object] = {
            "postgresql": await describe_server(running.admin_url),
            "run": {"users": users, "proofs": PROOFS, "seed": options.seed, "quick": options.quick},
        }
    figures = [
        Figure(name, value, unit, TARGETS[name], Better.LOWER)
        for name, (value, unit) in values.items()
        if options.wants(name)
    ]
    for figure in figures:
        progress.note(f"{figure.name}: {number(figure.value)} {figure.unit}")
    return Report(area="treasury", machine=describe_machine(), settings=settings, at=datetime.now(UTC), figures=figures)


async def _trees(stage: Stage, users: int, options: Options, progress: Progress) -> dict[str, tuple[float, str]]:
    """Trees of all users, and proofs out of them: value and unit by figure."""
    entropy = SeededEntropy(options.seed)
    owners = [new_id("usr", SystemClock(), entropy) for _ in range(users)]
    async with stage.book() as place:
        await _keep(place, owners, Random(options.seed), progress)  # noqa: S311 - repeatable on purpose
        runs = [await _build(place, users, progress) for _ in range(1 if options.quick else 3)]
    length, milliseconds = _prove(runs[-1].tree, Random(options.seed).sample(owners, PROOFS))  # noqa: S311
    return {
        "tree_1m_s": (median([run.seconds for run in runs]), "s"),
        "tree_1m_mib": (max(run.mib for run in runs), "MiB"),
        "proof_bytes": (float(length), "bytes"),
        "proof_verify_ms": (milliseconds, "ms"),
    }


async def _keep(place: Place, owners: list[str], random: Random, progress: Progress) -> None:
    """Give each owner an account with a random balance."""
    await place.ledger.register_asset(_ETHER)
    connection = await asyncpg.connect(place.admin_url)
    try:
        book = await connection.fetchval("SELECT number FROM ledger_books WHERE book = $1", BOOK)
        with progress.bar("users' accounts", len(owners)) as advance:
            for start in range(0, len(owners), _CHUNK):
                rows = [
                    (
                        *(book, _FIRST_ACCOUNT + start + nth, True, False, False, f"{owner}/{WALLET}/ETH", owner),
                        *(WALLET, "ETH", 0, 0, random.randrange(_AMOUNT_MAX), 0, 0),
                    )
                    for nth, owner in enumerate(owners[start : start + _CHUNK])
                ]
                await connection.copy_records_to_table("ledger_accounts", records=rows, columns=_COLUMNS)
                advance(len(rows))
        await connection.execute("VACUUM ANALYZE ledger_accounts")
    finally:
        await connection.close()


async def _build(place: Place, users: int, progress: Progress) -> _Built:
    """From the book to the root, and all nodes on disk."""
    with (
        tempfile.TemporaryDirectory() as folder,
        drafted(Path(folder), BOOK, bytes(KEY_BYTES)) as draft,
        draft.spool() as spool,
        progress.bar("hashing leaves and nodes", 2 * users) as advance,
    ):
        forget_highest()
        began = time.perf_counter()
        async with snapshot(place.engine) as connection:
            owed = await read_owed(connection, BOOK, spool)
        tree = tree_of(owed, _ETHER.code, spool, number=1, key=draft.key, told=advance)
        draft.keep(tree)
        return _Built(tree, time.perf_counter() - began, highest_mib())


def _prove(tree: SumTree, owners: list[str]) -> tuple[int, float]:
    """The longest of these owners' proofs in bytes, and milliseconds to read and check one."""
    written = [write_proof(tree.inclusion(owner)) for owner in owners]
    spent = []
    for content, owner in zip(written, owners, strict=True):
        began = time.perf_counter()
        verify(read_proof(content), owner=owner, epoch=tree.terms.epoch, root=tree.root)
        spent.append((time.perf_counter() - began) * 1000)
    return max(map(len, written)), median(spent)
