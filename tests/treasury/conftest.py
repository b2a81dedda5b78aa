"""The wallet's house with its treasury. The node that tells balances is scripted as the blocks are."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import pytest

from fiat.bank.records import Discontinuity
from tests.wallet.conftest import House, house  # noqa: F401 - a fixture
from treasury.adjustments import Adjustments
from treasury.breaks import Breaks
from treasury.inflows import Inflows
from treasury.outflows import Outflows
from treasury.reconciliation import Reconciler


@dataclass
class ScriptedNode:
    """Tells the balances that the test set, whatever the block."""

    held: dict[tuple[str | None, str], int] = field(default_factory=lambda: defaultdict(int))
    error: Exception | None = None

    async def balances(self, owners, *, block):
        if self.error is not None:
            raise self.error
        return [self.held[contract, address] for contract, address in owners]


@dataclass(frozen=True)
class Told:
    """A bank's closing balance."""

    account: str
    asset: str
    balance: int
    statement: str = "S1"
    coming: str | None = None
    discontinuities: tuple[Discontinuity, ...] = ()


@dataclass
class ScriptedBank:
    """Tells the closing balances that the test set."""

    told: list[Told] = field(default_factory=list)

    async def closing_balances(self):
        return self.told


@dataclass
class Treasury:
    """Treasury's services over a house."""

    house: House
    inflows: Inflows
    outflows: Outflows
    adjustments: Adjustments
    reconciler: Reconciler
    breaks: Breaks
    node: ScriptedNode
    bank: ScriptedBank

    async def work(self) -> None:
        """Step everything until nothing moves."""
        for _ in range(30):
            if not await self.house.deposits.step() + await self.inflows.step() + await self.house.withdrawals.step():
                return
        raise AssertionError("the house never came to rest")


@pytest.fixture
def treasury(house, database, clock, entropy):  # noqa: F811 - the fixture
    engine, node, bank = database.engine(), ScriptedNode(), ScriptedBank()
    common: dict[str, Any] = {"ledger": house.ledger, "clock": clock, "entropy": entropy}
    outflows = Outflows(engine, registry=house.registry, **common)
    return Treasury(
        house=house,
        inflows=Inflows(engine, registry=house.registry, **common),
        outflows=outflows,
        adjustments=Adjustments(engine, **common),
        reconciler=Reconciler(
            engine, registry=house.registry, nodes={"local": node}, banks=[bank], outflows=outflows, **common
        ),
        breaks=Breaks(engine, **common),
        node=node,
        bank=bank,
    )
