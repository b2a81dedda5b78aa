"""`onebook bank`: files in, and the key of personal data."""

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from base.errors import OnebookError
from cli.options import Config, Json
from cli.output import Exit, fail, say, show_json
from wiring.running import with_database
from wiring.settings import Settings, find_config, load_settings

if TYPE_CHECKING:
    from fiat.bank.records import StatementReceipt

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Files of our banks, and the key of personal data.",
)


@app.command(name="import")
def import_files(
    files: Annotated[list[Path], typer.Argument(help="camt.053, camt.054, MT940, pain.002 or pacs.004.")],
    config: Config = None,
    json: Json = False,
) -> None:
    """Take in files as a bank delivered them: credit users, settle payouts, put the rest into suspense.

    Each file is checked whole before anything of it is booked; the same again, or overlapping ones, book nothing twice.
    A refused file stops no other; exit code 1 if one was refused.

    Example: onebook bank import statements/*.xml
    """
    results = asyncio.run(_import(load(config), files))
    refused = [result for result in results if isinstance(result, OnebookError)]
    if json:
        show_json([_document(result) for result in results])
    else:
        for result in results:
            say(f"refused: {result.message}" if isinstance(result, OnebookError) else told(result))
            for warning in () if isinstance(result, OnebookError) else result.warnings:
                say(f"  mind: {warning}")
    if refused:
        raise typer.Exit(Exit.DISAGREES)


@app.command()
def scan(config: Config = None, json: Json = False) -> None:
    """Take in what stands in the folder's `in/` now, as the worker does; for a folder that no worker watches.

    Example: onebook bank scan
    """
    taken = asyncio.run(_scan(load(config)))
    show_json({"taken": taken}) if json else say(f"{taken} files taken")


@app.command()
def withdraw(
    file: Annotated[str, typer.Argument(help="The payment file's name, as it stands in out/.")],
    config: Config = None,
    json: Json = False,
) -> None:
    """Take a payment file out of `out/`, so that the bank never gets it; it's kept in `withdrawn/`.

    Its payouts become `unknown` after payout_silent_days; a treasurer then ends each as failed.

    Example: onebook bank withdraw PYB01JD3V0000000000000000000.pain001.xml
    """
    place = asyncio.run(_withdraw(load(config), file))
    show_json({"withdrawn": str(place)}) if json else say(f"withdrawn: {place}")


@app.command()
def resume(config: Config = None, json: Json = False) -> None:
    """Take the folder that is there for this database's own, after payouts halted since it was lost or exchanged.

    Only once the bank has told of every payment file that it has, and what was paid is matched (docs/bank.md).

    Example: onebook bank resume
    """
    name = asyncio.run(_resume(load(config)))
    show_json({"memory": name}) if json else say(f"payouts go on with the folder's memory {name}")


@app.command(name="new-key")
def new_key(
    config: Config = None,
    add: Annotated[bool, typer.Option("--add", help="Add a key to the file: it seals from now on.")] = False,
) -> None:
    """Make the key file of personal data, or add a key to it. Back it up apart from the database.

    After --add restart all processes, then run `onebook bank rekey`.

    Example: onebook bank new-key --add
    """
    from fiat.personal import add_key, make_key_file

    settings = load_settings(find_config(config))
    path = settings.path(settings.personal_key)
    if add:
        if not path.exists():
            fail(f"there is no {path} to add a key to; leave out --add to make it", Exit.USAGE)
        say(f"key {add_key(path)} added to {path}; restart, then `onebook bank rekey`")
        return
    make_key_file(path)
    say(f"wrote {path}: back it up apart from the database")


@app.command()
def rekey(
    config: Config = None,
    drop_old: Annotated[
        bool, typer.Option("--drop-old", help="Afterwards remove all but the newest key from the file.")
    ] = False,
) -> None:
    """Seal all personal data by the newest key. Cut off, it's simply done again.

    Example: onebook bank rekey --drop-old
    """
    from fiat.personal import drop_keys_but

    settings = load(config)
    count, newest = asyncio.run(_rekey(settings))
    say(f"{count} rows sealed by key {newest}")
    if drop_old:
        gone = drop_keys_but(settings.path(settings.personal_key), newest)
        say(f"{gone} older keys removed: backups of the database from before need the old key file")


def load(config: Path | None) -> Settings:
    """The settings, with the database's address."""
    return with_database(load_settings(find_config(config)))


def told(receipt: "StatementReceipt") -> str:
    """One line about what a file did."""
    if receipt.replayed:
        return f"{receipt.file} ({receipt.format}) was taken in before; nothing was done"
    if receipt.messages:
        (message,) = receipt.messages
        return (
            f"{receipt.file} ({receipt.format}): {message.told} payments, {message.accepted} accepted,"
            f" {message.rejected} rejected, {message.moved} payouts moved"
        )
    sums = {
        name: sum(getattr(statement, name) for statement in receipt.statements)
        for name in ("credited", "paid", "returned", "suspended", "known", "ahead")
    }
    ahead = f", {sums['ahead']} wait for their statement" if sums["ahead"] else ""
    return (
        f"{receipt.file} ({receipt.format}): {sums['credited']} credited, {sums['paid']} payouts paid,"
        f" {sums['returned']} returned, {sums['suspended']} to suspense, {sums['known']} known already{ahead}"
    )


def _document(result: "StatementReceipt | OnebookError") -> dict[str, object]:
    if isinstance(result, OnebookError):
        return {"refused": result.code, "message": result.message, **result.facts}
    return asdict(result)


async def _import(settings: Settings, files: list[Path]) -> "list[StatementReceipt | OnebookError]":
    from base.progress import Progress
    from fiat.errors import StatementRefused
    from wiring.banking import build_bank
    from wiring.parts import open_parts

    results: list[StatementReceipt | OnebookError] = []
    async with open_parts(settings, name="onebook bank import") as parts:
        rail = build_bank(parts)
        with Progress() as progress:
            for file in files:
                try:
                    results.append(await rail.import_path(file, progress=progress))
                except StatementRefused as refusal:
                    results.append(refusal)
    return results


async def _scan(settings: Settings) -> int:
    from base.errors import ConfigError
    from fiat.bank.drop import DropFolder
    from wiring.banking import bank_folder, build_bank
    from wiring.parts import open_parts

    folder = bank_folder(settings)
    if folder is None:
        raise ConfigError("there is no folder of bank files: set [bank] folder", param="bank.folder")
    async with open_parts(settings, name="onebook bank scan") as parts:
        drop = DropFolder(folder, build_bank(parts), clock=parts.clock)
        return await drop.take_all()


async def _withdraw(settings: Settings, file: str) -> Path:
    from wiring.banking import require_bank_files
    from wiring.parts import open_parts

    async with open_parts(settings, name="onebook bank withdraw") as parts:
        return require_bank_files(parts).withdraw(file)


async def _resume(settings: Settings) -> str:
    from wiring.banking import bank_memory, require_bank_files
    from wiring.parts import open_parts

    async with open_parts(settings, name="onebook bank resume") as parts:
        memory = bank_memory(parts, require_bank_files(parts))
        name = await memory.accept()
        await memory.require()
        return name


async def _rekey(settings: Settings) -> tuple[int, str]:
    from base.progress import Progress
    from wiring.banking import build_sealing, build_vault
    from wiring.parts import open_parts

    async with open_parts(settings, name="onebook bank rekey") as parts:
        with Progress() as progress, progress.bar("sealing", None) as sealed:
            count = await build_sealing(parts).seal_all(sealed=sealed)
        return count, build_vault(settings).newest
