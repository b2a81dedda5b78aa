"""Whether anything was written in the database, without looking at any table.

A word that is the same at two moments says that no tx which wrote anything ended between them: whoever found nothing to
do at the first finds nothing at the second, unless time or the world outside gave him something. A word that differs
says less: the write may have been anybody's, in any database of the server.
"""

from sqlalchemy.ext.asyncio import AsyncEngine

from db.engine import driver


async def state(engine: AsyncEngine) -> str:
    """The database's present word: which tx have ended, and which are under way. Raises what `db.errors` says of it."""
    async with driver(engine) as connection:
        return str(await connection.fetchval("SELECT pg_current_snapshot()"))
