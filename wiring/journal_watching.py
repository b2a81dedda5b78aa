"""Looking whether the signer's journal has payments that this database doesn't know."""

from base.errors import Unavailable
from custody.client import SignerClient
from treasury.journal_watch import JournalSource, JournalWatch
from wiring.parts import Parts


def build_journal_watch(parts: Parts, journal: JournalSource) -> JournalWatch:
    """Compares the signer's journal with what this database knows of it."""
    return JournalWatch(parts.engine, journal=journal, clock=parts.clock)


async def look_at_journal(parts: Parts, *, seconds: float = 2.0) -> None:
    """Halt this database if the signer's journal, where it can be asked, has payments that aren't known here.

    Who can't ask relies on the worker, which looks again and again.
    """
    if not parts.settings.networks or not parts.settings.xpubs:
        return
    client = SignerClient(parts.settings.path(parts.settings.signer_socket), seconds=seconds)
    try:
        await build_journal_watch(parts, client).look()
    except Unavailable:
        return
    finally:
        await client.close()
