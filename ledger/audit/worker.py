"""A process that checks ranges of a journal for an audit: jobs come in on standard input, results go out on output.

Both are pickles behind their length in eight bytes. The first says where the database is and which snapshot to read.
It loads little, so that it starts in a fraction of a second. The database's address never stands on a command line.

Started by `ledger.audit.crew`.
"""

import asyncio
import gc
import pickle
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import asyncpg

from ledger.audit.ranges import RangeAudit, RangeJob, RangeResult
from ledger.audit.rows import IN_ORDER, NAMES, Chunk, read_chunk
from ledger.copying import SESSION, copied, rows_of

CHUNK = 20_000
"""Commands read at a time; bounds the memory of a worker."""

SEQ_END = 2**62
"""Beyond every seq."""


@dataclass(frozen=True, slots=True)
class Setup:
    """Where the database is (arguments of `asyncpg.connect`), the snapshot to read, and the book's number in rows."""

    connect: dict[str, Any]
    snapshot: str
    number: int


async def check_range(
    connection: "asyncpg.Connection[Any]", job: RangeJob, names: Mapping[bytes, bytes], *, chunk: int = CHUNK
) -> RangeResult:
    """Read and check one range over a connection that stands in the audit's tx."""
    check = RangeAudit(job, names)
    starts = range(job.after, job.through, chunk) or [job.after]
    stretches = [(start, min(start + chunk, job.through)) for start in starts]
    if job.is_first:
        stretches[0] = -SEQ_END, stretches[0][1]
    if job.is_last:
        stretches[-1] = stretches[-1][0], SEQ_END

    def begin(after: int, through: int) -> asyncio.Task[Chunk]:
        return asyncio.create_task(read_chunk(connection, job.number, after=after, through=through))

    reading = begin(*stretches[0])
    try:
        for following in stretches[1:]:
            read = await reading
            reading = begin(*following)
            await asyncio.sleep(0)  # sends the query: the server writes rows while we check those before
            check.take(read)
        check.take(await reading)
    finally:
        await end(reading)
    return check.finish()


async def end(task: asyncio.Task[Any]) -> None:
    """Leave nothing of a task behind that uses a connection; what it came to was taken, or another error counts."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def load_names(connection: "asyncpg.Connection[Any]", number: int) -> dict[bytes, bytes]:
    """Every account's name by its number, as rows write both."""
    names: dict[bytes, bytes] = {}
    for row in rows_of(await copied(connection, NAMES, number)):
        account, _, name = row.partition(b"\t")
        names[account] = name
    return names


def write_frame(stream: BinaryIO, value: object) -> None:
    """Write one pickle behind its length."""
    content = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    stream.write(len(content).to_bytes(8) + content)
    stream.flush()


def read_frame(stream: BinaryIO) -> Any:
    """The next pickle; None where the stream ends."""
    length = stream.read(8)
    return pickle.loads(stream.read(int.from_bytes(length))) if len(length) == 8 else None  # noqa: S301 - our parent's


async def _serve(setup: Setup) -> None:
    connection = await asyncpg.connect(**setup.connect)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            await connection.execute(f"SET TRANSACTION SNAPSHOT '{setup.snapshot}'")
            await connection.execute(f"{SESSION}; {IN_ORDER}; SET LOCAL idle_in_transaction_session_timeout = 0")
            names = await load_names(connection, setup.number)
            while (job := read_frame(sys.stdin.buffer)) is not None:
                write_frame(sys.stdout.buffer, await check_range(connection, job, names))
    finally:
        await connection.close()


def main() -> None:
    """Serve the audit whose setup comes first on standard input."""
    gc.disable()  # rows make no cycles, and there are millions of them
    asyncio.run(_serve(read_frame(sys.stdin.buffer)))
