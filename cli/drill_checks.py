"""What a drill looks at in the database that was put back, by the code that the service runs. No other is asked."""

from collections.abc import Iterator
from pathlib import Path

from base.clock import Clock
from base.errors import OnebookError
from base.progress import Progress
from chain import restores
from chain.address_sample import draw_sample
from cli.drill_sheet import require_none
from custody.intents import keys_name
from custody.journal_audit import JournalReading
from custody.rolekeys import address_source
from db.engine import tx
from fiat.personal import Vault, load_vault
from fiat.sealed_sample import try_to_open
from ledger.audit import audit
from ledger.money import Asset
from ledger.sealing import last_seal
from ledger.seals import PUBLIC_NAME, load_seal_key, parse_public_key, read_seal, seal_numbers, seal_path
from treasury.book_check import BookCheck
from treasury.signature_audit import STORING_SECONDS, compare_stored
from treasury.signature_store import load_attempts, load_chain_ids, load_unanswered
from treasury.solvency_epochs import statement_of
from treasury.solvency_files import check_files
from treasury.solvency_store import EpochRow, load_epochs
from wiring.backups import Manifest
from wiring.operations import build_audit_log
from wiring.parts import Parts

ADDRESSES_MAX = 20_000
"""So many addresses are derived once more; of a longer list these are drawn at random."""

SEALED_MAX = 1_000
"""So many rows of each table are opened."""

_EPOCHS_AT_ONCE = 100


async def audit_book(parts: Parts, manifest: Manifest, progress: Progress) -> str:
    """Every row is what the journal says, up to where the manifest says, under the seals that lie beside the dump."""
    settings = parts.settings
    folder = settings.path(settings.seals)
    async with tx(parts.engine) as connection:
        newest = await last_seal(connection, settings.book)
    sealed = 0 if newest is None else newest.seal.number
    seq = await parts.ledger.last_seq()
    require_none(
        [
            f"the {what} of the restored book is {found}, the manifest says {wanted}"
            for what, found, wanted in (("last seq", seq, manifest.seq), ("last seal", sealed, manifest.seals))
            if found != wanted
        ]
    )
    numbers = seal_numbers(folder, settings.book)
    lacking = sorted(set(range(1, sealed + 1)) - set(numbers))
    require_none([f"the file of seal {number} is missing" for number in lacking])
    outside = [read_seal(seal_path(folder, settings.book, number)) for number in numbers]
    assets = {asset.code: Asset(asset.code, asset.kind, asset.scale) for asset in settings.assets}
    with progress.bar("auditing", seq) as advance:
        done = 0

        def told(checked: int, _: int) -> None:
            nonlocal done
            advance(checked - done)
            done = checked

        report = await audit(
            parts.engine,
            settings.book,
            outside=outside,
            trusted=_trusted(settings.path(settings.seal_key), folder / PUBLIC_NAME),
            assets=assets,
            progress=told,
        )
    require_none([f"{one.where}: {one.what} is {one.found}, not {one.expected}" for one in report.disagreements])
    beside = "each compared with its file" if outside else "none yet"
    return f"{report.commands} commands, {report.lines} lines, {report.accounts} accounts; seals: {sealed}, {beside}"


def _trusted(key: Path, public: Path) -> tuple[bytes, ...]:
    """Who may have signed seals: our own key; without it, the public key that lies beside them."""
    if key.exists():
        return (load_seal_key(key).public,)
    return (parse_public_key(str(public)),) if public.exists() else ()


async def compare_audit_log(parts: Parts) -> str:
    """What people did is what the book's records sealed of it."""
    require_none([f"row {one.row} is {one.what}" for one in await build_audit_log(parts).differences()])
    return "each row is what was sealed of it"


async def add_up(parts: Parts, clock: Clock) -> str:
    """Counters, holds and what the lines of each account come to are the same; assets sum to zero."""
    check = BookCheck(parts.settings.book)
    async with tx(parts.engine) as connection:
        await check.begin(connection)
        seen = await check.check(connection, whole=True, now=clock.now())
    require_none(
        [
            f"{one.reason.value} {one.account} {one.asset}: {one.found}, the lines say {one.expected}"
            for one in seen.findings
        ]
    )
    return f"{seen.accounts} accounts hold what their lines come to, and each asset sums to zero"


async def compare_signatures(parts: Parts, reading: JournalReading, clock: Clock) -> str:
    """All that the database has of the signer's answers is in the journal, and all that it must have is there.

    What was signed after the dump isn't a fault: `onebook recover` rebuilds it.
    """
    chain_ids = {network.name: network.chain_id for network in parts.registry.networks.values()}
    async with tx(parts.engine) as connection:
        attempts, named = await load_attempts(connection), await load_chain_ids(connection)
        unanswered = await load_unanswered(connection)
        through = await restores.through(connection)
    known = 0 if through is None else through[0]
    stored = {(attempt.subject, attempt.attempt) for attempt in attempts}
    unknown = [one for one in reading.signed if (one.subject, one.attempt) not in stored]
    later = [one for one in unknown if one.sequence > known or (one.subject, one.attempt) in unanswered]
    reading.signed = [one for one in reading.signed if one not in later]
    now_us = int((clock.now().timestamp() + STORING_SECONDS) * 1_000_000)  # nothing of a backup is being stored still
    differences = list(compare_stored(reading, attempts, named | chain_ids, now_us=now_us))
    require_none([one.sentence for one in differences])
    count = sum(attempt.raw is not None for attempt in attempts)
    behind = f"; {len(later)} were answered after the dump, `onebook recover` rebuilds them" if later else ""
    return f"{count} signatures in the database, each as the journal has it{behind}"


async def derive_addresses(parts: Parts) -> str:
    """Each address is the one that the recorded public key derives at its index."""
    sources = {name: address_source(public) for name, public in parts.settings.xpubs.items()}
    async with tx(parts.engine) as connection:
        sample = await draw_sample(connection, most=ADDRESSES_MAX)
    faults = []
    for own in sample.taken:
        name = keys_name(own.key.role, own.key.generation)  # type: ignore[arg-type]
        if name not in sources:
            faults.append(f"{own.key} {own.address}: no public key of {name} is recorded under [xpubs]")
        elif (derived := "0x" + sources[name].address(own.key.index).hex()) != own.address:
            faults.append(f"{own.key} is {own.address} in the database, its key derives {derived}")
    require_none(faults)
    which = "all" if len(sample.taken) == sample.total else f"{len(sample.taken)}, drawn at random,"
    return f"{which} of {sample.total} addresses are those of the recorded keys"


async def open_personal(parts: Parts) -> str:
    """The key of personal data opens what is sealed."""
    settings = parts.settings
    path, given = settings.path(settings.personal_key), settings.personal_keys
    vault: Vault | None = None
    if path.is_file():
        vault = load_vault(path)
    elif given is not None:
        vault = load_vault(path, given=given.get_secret_value())
    async with tx(parts.engine) as connection:
        opened = await try_to_open(connection, vault, book=settings.book, most=SEALED_MAX)
    require_none(opened.closed)
    if not opened.sealed:
        return "nothing is sealed" + ("" if vault is None else "; the key can be read")
    source = "personal.key" if path.is_file() else "ONEBOOK_PERSONAL_KEYS, which no backup holds,"
    return f"{source} opens {opened.tried} of {opened.sealed} sealed rows, one of each key that sealed among them"


def _epoch_faults(folder: Path, row: EpochRow) -> Iterator[str]:
    try:
        check_files(folder, statement_of(row))
    except OnebookError as problem:
        yield f"epoch {row.number}: {problem.message}"


async def check_epochs(parts: Parts) -> str:
    """The files of each epoch are those of what was published of it."""
    settings, before, faults, count = parts.settings, None, list[str](), 0
    folder = settings.path(settings.solvency.folder)
    while True:
        async with tx(parts.engine) as connection:
            rows = await load_epochs(connection, settings.book, before=before, limit=_EPOCHS_AT_ONCE)
        for row in rows:
            faults += _epoch_faults(folder, row)
        count += len(rows)
        if len(rows) < _EPOCHS_AT_ONCE:
            break
        before = rows[-1].number
    require_none(faults)
    return f"epochs: {count}, each with its key and its trees" if count else "none was made"
