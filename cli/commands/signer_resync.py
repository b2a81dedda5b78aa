"""`onebook signer resync`: gives a journal back what it signed and no longer knows, or begins a lost one again."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from base.errors import ConfigError
from cli.asking import PassphraseFd, agree, read_text
from cli.key_places import KeyPlace, Pkcs11Module, Pkcs11Token, key_place
from cli.output import say
from cli.policies import journal_path, policy_path, read_policy
from cli.signer_people import People
from custody.clocks import SystemClocks
from custody.derivation import fingerprint
from custody.errors import JournalMissing
from custody.intents import KeyRef
from custody.journal import Journal
from custody.journal_file import Head
from custody.policy import Policy
from custody.resync import (
    Plan,
    begin_again,
    plan,
    read_missing,
    take_up,
    take_up_by_keys,
)
from custody.rolekeys import address_source
from wiring.settings import Settings, find_config, load_settings

KeysPassphraseFd = Annotated[
    int | None, typer.Option("--keys-passphrase-fd", help="A file descriptor to read the keys' passphrase or PIN from.")
]


def resync(
    file: Annotated[
        Path, typer.Argument(help="The missing transactions, as `onebook signer audit --missing` writes them.")
    ],
    new_journal: Annotated[
        bool, typer.Option("--new-journal", help="The journal is lost: begin a new one with the policy's file.")
    ] = False,
    journal: Annotated[
        Path | None, typer.Option("--journal", help="The signer's journal; else the configured.")
    ] = None,
    keys: Annotated[Path | None, typer.Option("--keys", help="Folder of the key files; else the configured.")] = None,
    pkcs11_module: Pkcs11Module = None,
    pkcs11_token: Pkcs11Token = None,
    policy: Annotated[
        Path | None, typer.Option("--policy", help="The policy in force; else the configured one.")
    ] = None,
    key: Annotated[Path | None, typer.Option("--key", help="Your approver key.")] = None,
    with_: Annotated[list[Path] | None, typer.Option("--with", help="Another's signature; may be repeated.")] = None,
    sign_only: Annotated[bool, typer.Option("--sign-only", help="Sign into --out; another takes it up.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Where --sign-only writes the signature.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    passphrase_fd: PassphraseFd = None,
    keys_passphrase_fd: KeysPassphraseFd = None,
    config: Annotated[Path | None, typer.Option("--config", help="The configuration: it has the public keys.")] = None,
) -> None:
    """Take up a journal that is behind what clients have seen, or was lost. Offline: the signer must be stopped.

    The people of the policy sign what is taken back, as many as change it; without people the keys' passphrase does.
    Afterwards every limit counts as used up for 24 hours.

    Example: onebook signer resync missing.json --key ada.approver --with ben.signature
    """
    if sign_only != (out is not None):
        raise ConfigError("--sign-only and --out go together: your signature goes there, for another to use")
    settings = load_settings(find_config(config))
    people = People(key=key, others=with_ or [], out=out, policy=policy, passphrase_fd=passphrase_fd, settings=settings)
    found = read_policy(policy_path(policy, settings, option="--policy"))
    place, where = journal_path(journal, settings), key_place(keys, pkcs11_module, pkcs11_token, settings)
    missing = read_missing(read_text(file), _addresses(settings))
    with _opened(place, new=new_journal) as opened:
        if opened is not None:
            _check_xpubs(settings, opened.enrolment.fingerprints)
        planned = plan(missing, found, opened)
        _show(planned, place, new=new_journal)
        if people.sign_only(planned.statement):
            return
        if not yes:
            agree("Take it up?")
        if opened is None:
            head = _begin(place, where, planned, found, people, settings, keys_passphrase_fd)
        elif opened.enrolment.people:
            head = take_up(opened, planned, signatures=people.signatures(planned.statement))
        else:
            with where.opened(opened.enrolment.fingerprints, where.ask(keys_passphrase_fd)) as held:
                head = take_up_by_keys(opened, planned, held)
    say(f"taken up; the journal's head is row {head.sequence}, {head.hash.hex()}. All limits are used up for 24 hours")


@contextmanager
def _opened(path: Path, *, new: bool) -> Iterator[Journal | None]:
    if new:
        yield None
        return
    if not path.exists():
        raise JournalMissing(f"{path} is missing: put it back, or say --new-journal to begin it again")
    journal = Journal.open(path, SystemClocks())
    try:
        yield journal
    finally:
        journal.close()


def _begin(
    place: Path,
    where: KeyPlace,
    planned: Plan,
    found: Policy,
    people: People,
    settings: Settings,
    keys_passphrase_fd: int | None,
) -> Head:
    signatures = people.signatures(planned.statement) if found.people else []
    with where.opened(_fingerprints(settings), where.ask(keys_passphrase_fd)) as held:
        return begin_again(place, planned, found, held, signatures=signatures, clocks=SystemClocks())


def _addresses(settings: Settings) -> Callable[[KeyRef], bytes]:
    sources = {str(name): address_source(public) for name, public in settings.xpubs.items()}

    def address_of(key: KeyRef) -> bytes:
        if key.keys not in sources:
            raise ConfigError(f"the configuration has no public key of {key.keys}")
        return sources[key.keys].address(key.index)

    return address_of


def _fingerprints(settings: Settings) -> dict[str, bytes]:
    return {str(name): fingerprint(public) for name, public in settings.xpubs.items()}


def _check_xpubs(settings: Settings, fingerprints: Mapping[str, bytes]) -> None:
    if any(fingerprints.get(name) != mark for name, mark in _fingerprints(settings).items()):
        raise ConfigError("the configuration's extended public keys aren't those of this journal or these keys")


def _show(planned: Plan, place: Path, *, new: bool) -> None:
    say(f"{'a new journal' if new else 'the journal'} at {place}, head {planned.head.hex()}")
    for one in planned.taken:
        say(f"  takes back {one.subject} attempt {one.attempt}: nonce {one.nonce} of {one.sender} on {one.chain_id}")
    for told in planned.known:
        say(f"  knows already {told}")
    say(f"{len(planned.taken)} transactions are taken back; their digest is {planned.digest.hex()}")
