"""What makes a process ready: each check looks at one thing and says in a sentence what is wrong with it."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from base.errors import OnebookError
from chain.restores import Gate
from db.engine import tx
from ledger.service import PostgresLedger
from wiring.services import Check


def database_check(engine: AsyncEngine) -> Check:
    """The database answers, and has the schema of this version."""
    from db.migrate import head  # here, at the API's start: nothing else of the service needs alembic

    wanted = head()

    async def check() -> str | None:
        try:
            async with tx(engine) as connection:
                found = (await connection.execute(text("SELECT version_num FROM alembic_version"))).scalar_one_or_none()
        except OnebookError as error:
            return f"the database can't be used ({error.code})"
        return None if found == wanted else f"the database has schema {found}, this version needs {wanted}"

    return check


def recovery_check(gate: Gate) -> Check:
    """The database knows all that was paid: it wasn't put back from a backup, or was recovered since."""

    async def check() -> str | None:
        found = await gate.look()
        return None if found is None else f"{found.why}: run `onebook recover`"

    return check


def book_check(ledger: PostgresLedger) -> Check:
    """The book could be written when that was last tried: reading may go on where a disk is full."""

    async def check() -> str | None:
        return None if ledger.trouble is None else f"the book can't be written ({ledger.trouble})"

    return check
