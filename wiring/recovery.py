"""Building what brings a database back to what signer and chain know: recovering, re-anchoring."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chain.checkpoints import Checkpoint
from treasury.journal_watch import JournalSource
from wallet.batch_rebuilding import BatchRebuilding
from wallet.rebuilding import Rebuilding
from wiring.exchange import build_rates
from wiring.parts import Parts, build_identity
from wiring.reanchoring import Reanchoring
from wiring.recovering import Recovering
from wiring.recovery_looking import Looking
from wiring.steps import only_looks, open_steps
from wiring.wallet import build_deposits, build_inflows, build_outflows


def build_reanchoring(parts: Parts, network: str, *, checkpoint: Checkpoint | None = None) -> Reanchoring:
    """Re-anchors this book's `network`. Raises NotOnNetwork."""
    return Reanchoring(
        parts.engine,
        ledger=parts.ledger,
        network=parts.registry.network(network),
        pool=parts.nodes[network],
        deposits=build_deposits(parts),
        inflows=build_inflows(parts),
        outflows=build_outflows(parts),
        clock=parts.clock,
        checkpoint=checkpoint,
    )


@asynccontextmanager
async def open_recovering(
    parts: Parts, journal: JournalSource, *, checkpoint: Checkpoint | None = None
) -> AsyncIterator[Recovering]:
    """Recovers this book's database from the signer's journal. At the end the followers' locks are let go."""
    async with open_steps(parts, None) as steps:
        following = {name: step for name, step in steps.items() if only_looks(name) and ":" in name}
        withdrawals = Rebuilding(
            parts.engine,
            ledger=parts.ledger,
            registry=parts.registry,
            rates=build_rates(parts.settings, parts.engine, parts.clock),
            clock=parts.clock,
        )
        batches = BatchRebuilding(
            parts.engine,
            ledger=parts.ledger,
            registry=parts.registry,
            withdrawals=withdrawals,
            clock=parts.clock,
            checkpoint=checkpoint,
        )
        yield Recovering(
            parts.engine,
            registry=parts.registry,
            addresses=parts.addresses,
            looking=Looking(
                parts.engine,
                book=parts.settings.book,
                registry=parts.registry,
                addresses=parts.addresses,
                journal=journal,
                withdrawals=withdrawals,
                batches=batches,
                directory=build_identity(parts),
            ),
            withdrawals=withdrawals,
            batches=batches,
            following=following,
            booking={**following, "deposits": build_deposits(parts).step, "inflows": build_inflows(parts).step},
            clock=parts.clock,
            entropy=parts.entropy,
            checkpoint=checkpoint,
        )
