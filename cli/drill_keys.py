"""What a drill looks at of the signer's things: its journal, its key files, its policy. No database, no server."""

from pathlib import Path

from base.clock import Clock
from base.progress import Progress
from cli.drill_sheet import Failed, Skipped, require_none
from cli.journal_audit import read_copy
from cli.policies import read_policy
from custody import keyring, keystore
from custody.derivation import Role, fingerprint
from custody.errors import KeyFileMissing
from custody.intents import keys_name, keys_named
from custody.journal_audit import JournalReading
from exchange.rates_file import RatesFile
from wiring.backups import JOURNAL, JournalTold, Manifest
from wiring.settings import Settings
from wiring.tariffs import load_tariff

SINGLE = "secp256k1:"
"""Begins the public text of a key inside a token (`custody.rolekeys`)."""


def read_settings(settings: Settings, clock: Clock) -> str:
    """The files that people wrote can be read, and the policy's keys are those whose public keys are recorded."""
    tariff = load_tariff(settings)
    told = [f"book {settings.book}", f"{len(tariff.rules)} rules in the tariff"]
    if settings.path(settings.rates).is_file():
        RatesFile(settings.path(settings.rates), clock=clock).load()
    if settings.networks:
        policy = read_policy(settings.path(settings.policy))
        recorded = {name: fingerprint(public) for name, public in settings.xpubs.items()}
        require_none(
            [
                f"the policy's key {name} isn't the one whose public key is recorded under [xpubs]"
                for name, mark in sorted(policy.keys.items())
                if name in recorded and recorded[name] != mark
            ]
        )
        told.append(f"policy version {policy.version}")
    return ", ".join(told)


def read_journal(path: Path, told: JournalTold, reading: JournalReading, progress: Progress) -> str:
    """Every row fits the one before it, up to the one that the manifest names."""
    read_copy(path, reading, progress)
    if reading.flaw is not None:
        raise Failed(reading.flaw)
    sequence, mark = reading.head
    if sequence != told.sequence:
        raise Failed(f"{JOURNAL} ends at row {sequence}, the manifest says {told.sequence}")
    if mark.hex() != told.hash:
        raise Failed(f"row {sequence} of {JOURNAL} isn't the one that the manifest names")
    return f"{sequence} rows, each fits the one before it; {len(reading.signed)} transactions"


def list_key_files(settings: Settings, manifest: Manifest) -> str:
    """Each recorded public key has its file and the copy of it, by what these say openly."""
    if not manifest.keys:
        raise Skipped("the backup was made without keys: keep them elsewhere, and try those (`onebook keys drill`)")
    listed = {keys_name(key.role, key.generation): key for key in keyring.list_keys(settings.path(settings.keys))}
    faults = []
    for name, public in settings.xpubs.items():
        if public.startswith(SINGLE):
            continue
        key = listed.get(name)
        if key is None:
            faults.append(f"{name}: there is no key file, but its public key is recorded under [xpubs]")
        elif key.header is None:
            faults.append(f"{name}: {key.problem}")
        elif key.header.fingerprint != fingerprint(public):
            faults.append(f"{name}: the key file is of another seed than the public key under [xpubs]")
        elif key.problem is not None and not key.header.weak:
            faults.append(f"{name}: {key.problem}")
    require_none(faults)
    in_tokens = [name for name, public in settings.xpubs.items() if public.startswith(SINGLE)]
    beside = f"; in a token, not in the backup: {', '.join(in_tokens)}" if in_tokens else ""
    return f"{', '.join(listed) or 'none'}: each of the seed that is recorded{beside}"


def open_keys(settings: Settings, manifest: Manifest, passphrase: bytes | None) -> str:
    """The passphrase opens each key file, and what is in it derives the recorded public key."""
    if not manifest.keys:
        raise Skipped("the backup was made without keys")
    if passphrase is None:
        raise Skipped("no passphrase was given: --open-keys asks for it")
    folder, faults, opened = settings.path(settings.keys), list[str](), list[str]()
    for name, public in settings.xpubs.items():
        role, generation = keys_named(name)
        if public.startswith(SINGLE):
            continue
        try:
            if _is_wrapped_by_token(folder, role, generation):
                continue
            key = keystore.open_key(folder, role, passphrase=passphrase, generation=generation)
        except Exception as problem:
            faults.append(f"{name}: {getattr(problem, 'message', problem)}")
            continue
        if key.account().xpub == public:
            opened.append(name)
        else:
            faults.append(f"{name}: what is in the key file derives another public key than the recorded one")
    require_none(faults)
    if not opened:
        raise Skipped("no key here opens by a passphrase")
    return f"{', '.join(opened)}: opened, each derives its recorded public key"


def _is_wrapped_by_token(folder: Path, role: Role, generation: int) -> bool:
    for key in keyring.list_keys(folder):
        if (key.role, key.generation) == (role, generation):
            return key.header is not None and key.header.token_key is not None
    raise KeyFileMissing(f"there is no key file of {keys_name(role, generation)}")
