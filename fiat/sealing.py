"""Seals anew what is personal in the database: what older versions kept in clear, and what an older key sealed."""

from collections.abc import Callable

from sqlalchemy.ext.asyncio import AsyncEngine

from db.engine import tx
from fiat import payout_store, store
from fiat.personal import Vault
from fiat.rails import sealed as rails
from fiat.rails.tables import payment_methods, webhooks
from fiat.tables import lines, payouts

ROWS_PER_TX = 500
"""Rows sealed in one tx, so that none is locked for long."""


class Sealing:
    """Goes through all rows, a part at a time; cut off, it's simply done again."""

    def __init__(self, engine: AsyncEngine, vault: Vault, *, book: str) -> None:
        self._engine = engine
        self._vault = vault
        self._book = book

    async def seal_in_clear(self) -> int:
        """Seal what an older version kept in clear; how many rows."""
        total = 0
        for part in (self._lines_in_clear, self._methods_in_clear):
            while count := await part():
                total += count
        return total

    async def seal_all(self, *, sealed: Callable[[int], None] = lambda _: None) -> int:
        """Seal what stands in clear or is sealed by an older key; how many rows. `sealed` is told of each part."""
        total = 0
        in_clear = (self._lines_in_clear, self._methods_in_clear)
        for part in (*in_clear, self._lines, self._payouts, self._methods, self._bodies):
            while count := await part():
                sealed(count)
                total += count
        return total

    async def _lines_in_clear(self) -> int:
        async with tx(self._engine) as connection:
            found = await store.lines_in_clear(connection, self._book, limit=ROWS_PER_TX)
            for line, personal in found:
                secret = self._vault.seal(personal, book=self._book, table=lines.name, row=line)
                await store.reseal_line(connection, self._book, line, secret)
        return len(found)

    async def _lines(self) -> int:
        async with tx(self._engine) as connection:
            found = await store.lines_sealed_by_others(connection, self._book, self._vault.head, limit=ROWS_PER_TX)
            for line, old in found:
                personal = self._vault.open(old, book=self._book, table=lines.name, row=line)
                secret = self._vault.seal(personal, book=self._book, table=lines.name, row=line)
                await store.reseal_line(connection, self._book, line, secret)
        return len(found)

    async def _payouts(self) -> int:
        async with tx(self._engine) as connection:
            found = await payout_store.sealed_by_others(connection, self._book, self._vault.head, limit=ROWS_PER_TX)
            for payout, old in found:
                personal = self._vault.open(old, book=self._book, table=payouts.name, row=payout)
                secret = self._vault.seal(personal, book=self._book, table=payouts.name, row=payout)
                mark = self._vault.mark(payout_store.read_opened(personal).number)
                await payout_store.reseal(connection, self._book, payout, secret, mark)
        return len(found)

    async def _methods_in_clear(self) -> int:
        async with tx(self._engine) as connection:
            found = await rails.methods_in_clear(connection, self._book, limit=ROWS_PER_TX)
            for method, personal in found:
                secret = self._vault.seal(personal, book=self._book, table=payment_methods.name, row=method)
                await rails.reseal_method(connection, self._book, method, secret)
        return len(found)

    async def _methods(self) -> int:
        async with tx(self._engine) as connection:
            found = await rails.methods_sealed_by_others(connection, self._book, self._vault.head, limit=ROWS_PER_TX)
            for method, old in found:
                secret = self._anew(old, payment_methods.name, method)
                await rails.reseal_method(connection, self._book, method, secret)
        return len(found)

    async def _bodies(self) -> int:
        async with tx(self._engine) as connection:
            found = await rails.bodies_sealed_by_others(connection, self._book, self._vault.head, limit=ROWS_PER_TX)
            for webhook, old in found:
                secret = self._anew(old, webhooks.name, webhook)
                await rails.reseal_body(connection, self._book, webhook, secret)
        return len(found)

    def _anew(self, old: bytes, table: str, row: str) -> bytes:
        personal = self._vault.open(old, book=self._book, table=table, row=row)
        return self._vault.seal(personal, book=self._book, table=table, row=row)
