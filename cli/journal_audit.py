"""What `onebook signer audit` does: the signer's journal, checked here, against the database and the chain."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from base.errors import ConfigError
from base.progress import Progress
from cli.output import say, show_json
from cli.policies import read_policy
from cli.signer_people import client_of
from custody.client import SignerClient
from custody.derivation import AddressSource, Role
from custody.errors import JournalTampered
from custody.intent_json import key_named
from custody.journal import TakenBack
from custody.journal_audit import JournalReading, SignedTransaction
from custody.journal_copy import journal_copy
from custody.journal_file import Head
from custody.policy import Policy
from custody.resync import Missing
from custody.rolekeys import SingleAddress, address_source
from db.engine import tx
from treasury.signature_audit import Difference, OnChain, Reason, compare_chain, compare_stored
from treasury.signature_store import Sent, StoredAttempt, load_attempts, load_chain_ids, load_sent
from wiring.parts import Parts, open_parts
from wiring.settings import Settings

_ROWS_AT_ONCE = 200
_HASHES_AT_ONCE = 100

Sources = Mapping[str, AddressSource | SingleAddress]
"""Addresses by the name of the keys."""

Told = Callable[[int], None]
"""How a progress bar is told of so many steps."""


@dataclass(slots=True)
class Found:
    """An audit's outcome."""

    rows: int = 0
    head: str = ""
    transactions: int = 0
    messages: int = 0
    attempts: int = 0
    networks: list[str] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    missing: Missing = field(default_factory=lambda: Missing((), None))


async def audit_journal(settings: Settings, journal: Path | None, *, none: bool) -> Found:
    """Read the signer's journal, or this one, or none, and compare. Raises OnebookError when it can't."""
    policy = read_policy(settings.path(settings.policy))
    with Progress() as progress:
        reading = JournalReading()
        client = client_of(None, settings)
        try:
            if journal is not None:
                read_copy(journal, reading, progress)
            elif not none:
                await _read_signer(client, reading, progress)
            async with open_parts(settings, name="onebook signer audit") as parts:
                async with tx(parts.engine) as connection:
                    stored = await load_attempts(connection), await load_chain_ids(connection)
                    sent = await load_sent(connection)
                if journal is None and not none:  # what was signed meanwhile may be stored already
                    await _read_signer(client, reading, progress)
                return await _compare(parts, policy, reading, stored, sent, progress)
        finally:
            await client.close()


async def _read_signer(client: SignerClient, reading: JournalReading, progress: Progress) -> None:
    """Every row up to where the journal stands now."""
    end = (await client.status()).sequence
    first = reading.head.sequence + 1
    if end < first:
        return
    with progress.bar("reading the journal", end - first + 1) as advance:
        while first <= end and reading.flaw is None:
            rows = await client.rows(first=first, count=min(_ROWS_AT_ONCE, end - first + 1))
            if not rows:
                reading.flaw = f"the signer says that its journal has {end} rows, and gives none from {first} on"
            for row in rows:
                reading.take(row)
            first += len(rows)
            advance(len(rows))


def read_copy(path: Path, reading: JournalReading, progress: Progress) -> None:
    """Every row of the journal in a file; where it isn't what was written, the reading's flaw says so."""
    try:
        _take_copy(path, reading, progress)
    except JournalTampered as problem:
        reading.flaw = problem.message


def _take_copy(path: Path, reading: JournalReading, progress: Progress) -> None:
    with journal_copy(path) as copy, progress.bar("reading the journal", copy.head.sequence) as advance:
        while rows := copy.rows(first=reading.head.sequence + 1, count=_ROWS_AT_ONCE):
            for row in rows:
                reading.take(row)
            advance(len(rows))


async def _compare(
    parts: Parts,
    policy: Policy,
    reading: JournalReading,
    stored: tuple[list[StoredAttempt], dict[str, int]],
    sent: list[Sent],
    progress: Progress,
) -> Found:
    """`stored`: the attempts, and the chain id of each network that they name."""
    attempts, named = stored
    chain_ids = {network.name: network.chain_id for network in parts.registry.networks.values()}
    now_us = time.time_ns() // 1_000
    found = Found(
        rows=reading.head.sequence,
        head=reading.head.hash.hex(),
        transactions=len(reading.signed),
        messages=reading.messages,
        attempts=sum(attempt.raw is not None for attempt in attempts),
    )
    found.differences += compare_stored(reading, attempts, named | chain_ids, now_us=now_us)
    found.missing = _missing(found.differences, attempts, named | chain_ids)
    if reading.flaw is not None:
        return found
    sources = {str(name): address_source(public) for name, public in parts.settings.xpubs.items()}
    with progress.bar("asking the chain", len(reading.signed)) as advance:
        for name, chain_id in chain_ids.items():
            signed = [one for one in reading.signed if one.chain_id == chain_id]
            seen = await _seen(parts, name, signed, sources, advance)
            first_nonces = {str(key): nonce for (chain, key), nonce in policy.first_nonces.items() if chain == chain_id}
            on_network = [one for one in sent if one.network == name]
            found.differences += compare_chain(signed, seen, on_network, first_nonces=first_nonces, now_us=now_us)
            found.networks.append(name)
    return found


async def _seen(parts: Parts, name: str, signed: list[SignedTransaction], sources: Sources, advance: Told) -> OnChain:
    """What the network's nodes say of the house's senders, of everybody who signed, and of what was signed."""
    node = parts.nodes[name]
    await node.check(None)
    senders = {one.sender for one in signed} | {
        f"{role.value}:0" for role in (Role.HOT, Role.GAS) if role.value in sources
    }
    mined: dict[str, int] = {}
    for sender in sorted(senders):
        key = key_named(sender)
        if key.keys not in sources:
            raise ConfigError(f"the configuration has no public key of {key.keys}, which has signed")
        address = sources[key.keys].address(key.index)
        mined[sender] = await node.next_nonce("0x" + address.hex())
    placed: dict[str, int | None] = {}
    for start in range(0, len(signed), _HASHES_AT_ONCE):
        part = signed[start : start + _HASHES_AT_ONCE]
        placed |= await node.placed([one.tx_hash for one in part])
        advance(len(part))
    return OnChain(mined, placed)


def _missing(differences: list[Difference], attempts: list[StoredAttempt], chain_ids: dict[str, int]) -> Missing:
    """What the database has and the journal lacks."""
    lacking = {one.subject for one in differences if one.reason in (Reason.NOT_IN_JOURNAL, Reason.JOURNAL_BEHIND)}
    found = []
    for attempt in attempts:
        if attempt.raw is not None and attempt.subject in lacking:
            key = key_named(attempt.key)
            chain_id = chain_ids.get(attempt.network, 0)
            found.append(TakenBack(attempt.subject, attempt.attempt, key, chain_id, attempt.nonce, attempt.raw))
    heads = [Head(one.sequence, one.head) for one in attempts if one.sequence is not None and one.head is not None]
    return Missing(tuple(found), max(heads, default=None))


def show_found_json(found: Found) -> None:
    """Print one JSON document."""
    document = asdict(found)
    document["missing"] = [f"{one.subject} attempt {one.attempt}" for one in found.missing.transactions]
    show_json(document | {"clean": not found.differences})


def show_found(found: Found) -> None:
    """Print each difference, and what was looked at."""
    for one in found.differences:
        say(f"{one.reason.value:20} {one.sentence}")
    told = f"{found.rows} rows to {found.head[:16]}, {found.transactions} transactions and {found.messages} messages"
    say(
        f"{told} signed; {found.attempts} attempts in the database; networks {', '.join(found.networks) or 'not asked'}"
    )
    say(f"{len(found.differences)} difference{'' if len(found.differences) == 1 else 's'}")
