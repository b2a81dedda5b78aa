"""`onebook keys`: making, backing up, trying, rotating and destroying the signer's keys, at a terminal, offline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from base.entropy import SystemEntropy
from cli import dialogue, key_records
from cli.asking import refuse_half_a_token
from cli.output import Exit, fail, say, show_json, show_table
from custody import keyring, keystore, shares
from custody.ceremony import DrawnKey, PublicKey, draw_keys, store_keys
from custody.derivation import Role
from custody.errors import KeyFileExists, TokenRefused
from custody.intents import keys_name
from custody.keystore import PassphraseWrap, Wrap
from custody.passphrases import Guard
from custody.rolekeys import TOKEN_ROLES
from custody.seeds import Language
from custody.shares import Scheme

if TYPE_CHECKING:
    from custody.pkcs11 import Token as OpenToken

app = typer.Typer(
    help="The signer's keys: ceremony, drill, list, import, rotate, passphrase, destroy.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Keys = Annotated[Path, typer.Option("--keys", help="Folder of the key files.")]
Fd = Annotated[int | None, typer.Option("--passphrase-fd", help="File descriptor to read passphrase or PIN from.")]
Shares = Annotated[
    str | None, typer.Option("--shares", help='Back up as SLIP-39 shares: "2of3", or groups, "2of3,3of5".')
]
Groups = Annotated[int | None, typer.Option("--groups", help="How many of the groups are needed; none: all.", min=1)]
Words = Annotated[int, typer.Option("--words", help="Length of the mnemonics: 12, 15, 18, 21 or 24.")]
Public = Annotated[Path | None, typer.Option("--public", help="Write fingerprints, xpubs and addresses here.")]
FromShares = Annotated[bool, typer.Option("--shares", help="Type SLIP-39 shares instead of a mnemonic.")]
Module = Annotated[Path | None, typer.Option("--pkcs11-module", help="The token maker's PKCS#11 library.")]
Token = Annotated[str | None, typer.Option("--pkcs11-token", help="Label of the token.")]
Generation = Annotated[int, typer.Option("--generation", help="Which one of a role's keys.", min=1, max=99)]
InLanguage = Annotated[
    Language, typer.Option("--language", help="For shares: the word list of the mnemonic that they stand for.")
]

NEXT_STEP = (
    "Next: the signer's policy must name these fingerprints, and the policy's approvers sign it. Copy only the file of "
    "public things to the machine that runs the service."
)
_ROTATED = """Next, in this order; docs/keys.md says more:
  1. Have {name}'s key file and its copy in the signer's folder of keys.
  2. Write a policy of the next version that has under [keys]
     "{name}" = "{fingerprint}"
     and have it signed by `onebook policy sign`; where there are no people, stop the signer and have it accepted by
     `onebook policy accept`.
  3. Put it in the place of the signer's policy, and start the signer again.
  4. Put under [xpubs] of onebook.toml
     "{name}" = "{public}"
     and start the API again, then the worker.
  5. {outcome}"""
_OUTCOMES = {
    Role.DEPOSIT: "`onebook doctor` says that new addresses come from {name}. Keep the lines of the older keys.",
    Role.HOT: "Withdrawals are still paid by the first hot key: nothing pays by {name} of itself yet.",
    Role.GAS: "Gas is still paid by the first gas key: nothing pays by {name} of itself yet.",
}
_LOST = "Whoever has these words has the money. Without them and without the key files it is lost."


@app.command()
def ceremony(
    keys: Keys = Path("keys"),
    role: Annotated[list[Role] | None, typer.Option(help="Only these roles; none: all.")] = None,
    share: Shares = None,
    groups: Groups = None,
    words: Words = 24,
    public: Public = None,
    pkcs11_module: Module = None,
    pkcs11_token: Token = None,
    passphrase_fd: Fd = None,
) -> None:
    """Make new keys: show their backup, word for word or in shares, and only then store them encrypted.

    With a PKCS#11 token, hot and gas keys are made inside it, and it wraps the deposit seed.

    Example: onebook keys ceremony --shares 2of3 --public public.json
    """
    refuse_half_a_token(pkcs11_module, pkcs11_token)
    roles = role or list(Role)
    for each in roles:
        keystore.refuse_taken(keys, each)
    scheme = Scheme.parse(share, groups_needed=groups) if share else None
    dialogue.confirm_offline(shares.WARNING if scheme else None)
    if pkcs11_module and pkcs11_token:
        made = _ceremony_with_token(keys, roles, scheme, words, pkcs11_module, pkcs11_token, passphrase_fd)
    else:
        wrap = PassphraseWrap(dialogue.passphrase(passphrase_fd, prompt="Passphrase for the keys", new=True))
        made = _back_up_and_store(keys, draw_keys(SystemEntropy(), roles, words=words), scheme, wrap)
    _finish(made, public)


@app.command()
def rotate(
    role: Annotated[Role, typer.Argument(help="Whose key is replaced.")],
    keys: Keys = Path("keys"),
    share: Shares = None,
    groups: Groups = None,
    words: Words = 24,
    public: Public = None,
    pkcs11_module: Module = None,
    pkcs11_token: Token = None,
    passphrase_fd: Fd = None,
) -> None:
    """Make a role's next key, for new addresses; the one before stays, so that its addresses can still be swept.

    Example: onebook keys rotate deposit --shares 2of3 --public public-2.json
    """
    refuse_half_a_token(pkcs11_module, pkcs11_token)
    scheme = Scheme.parse(share, groups_needed=groups) if share else None
    dialogue.confirm_offline(shares.WARNING if scheme else None)
    if pkcs11_module and pkcs11_token:
        with _open_token(keys, pkcs11_module, pkcs11_token, passphrase_fd) as token:
            held = [generation for inside, generation in token.present() if inside is role]
            if held:
                made = [key_records.public_of(token.generate(role, held[-1] + 1))]
            else:
                made = _rotate_file(keys, role, scheme, words, token.wrap())
    else:
        made = _rotate_file(keys, role, scheme, words, PassphraseWrap(dialogue.passphrase(passphrase_fd)))
    _finish(made, public, next_step=_after_rotation(made[0]))


@app.command("import")
def import_(
    role: Annotated[Role, typer.Argument(help="Whose key it is.")],
    keys: Keys = Path("keys"),
    from_shares: FromShares = False,
    generation: Generation = 1,
    language: InLanguage = Language.ENGLISH,
    public: Public = None,
    passphrase_fd: Fd = None,
) -> None:
    """Bring a key back from its mnemonic (English or Chinese) or its shares, after comparing the fingerprint.

    Example: onebook keys import deposit --shares
    """
    keystore.refuse_taken(keys, role, generation)
    dialogue.confirm_offline(shares.WARNING if from_shares else None)
    drawn = _typed(role, from_shares, generation, language)
    mark = drawn.public().fingerprint
    expected = dialogue.ask("Fingerprint on the card, at least 16 digits (empty if the key has none yet)")
    if expected:
        keyring.compare_fingerprint(expected, mark)
    elif dialogue.ask(f"Its fingerprint is {_grouped(mark)}. Type yes to take it").lower() != "yes":
        raise typer.Exit(Exit.USAGE)
    passphrase = dialogue.passphrase(passphrase_fd, prompt="Passphrase for the keys", new=True)
    _refuse_another_passphrase(keys, passphrase)
    store_keys(keys, [drawn], wrap=PassphraseWrap(passphrase), entropy=SystemEntropy())
    _finish([drawn.public()], public)


@app.command()
def drill(
    role: Annotated[Role, typer.Argument(help="Whose backup is tried.")],
    keys: Keys = Path("keys"),
    recorded: Annotated[
        Path | None, typer.Option("--recorded", help="The file of public things, or an onebook.toml, to compare with.")
    ] = None,
    from_shares: FromShares = False,
    generation: Generation = 1,
    language: InLanguage = Language.ENGLISH,
) -> None:
    """Try a backup: type it, and see whether it is the key that is recorded. Writes nothing. Exit code 1 if it isn't.

    Without --recorded the fingerprint is compared with the key file's.

    Example: onebook keys drill deposit --shares --recorded public.json
    """
    known = key_records.recorded(recorded, keys, role, generation)
    dialogue.confirm_offline(shares.WARNING if from_shares else None)
    found = _typed(role, from_shares, generation, language).public()
    differences = known.differences(found)
    for address in found.addresses:
        say(f"  {address}")
    if differences:
        for difference in differences:
            say(f"differs: {difference}")
        fail(f"this backup is not that of the {role.value} key in {known.source}", Exit.DISAGREES)
    said = (
        "same fingerprint and first addresses" if known.addresses else "same fingerprint; compare the addresses above"
    )
    say(f"OK: {said} as in {known.source}")


@app.command("list")
def list_(
    keys: Keys = Path("keys"),
    pkcs11_module: Module = None,
    pkcs11_token: Token = None,
    passphrase_fd: Fd = None,
    try_open: Annotated[bool, typer.Option("--open", help="Open each key as the signer would.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Say which keys are there, by what their files say openly. Needs no passphrase; a token needs its PIN.

    With --open they are opened as the signer opens them, and their first addresses shown.

    Example: onebook keys list --json
    """
    refuse_half_a_token(pkcs11_module, pkcs11_token)
    rows = key_records.rows_of_files(keys)
    secret = b""
    if try_open or (pkcs11_module and pkcs11_token):
        secret = dialogue.passphrase(
            passphrase_fd, prompt="PIN of the token" if pkcs11_token else "Passphrase of the keys"
        )
    if pkcs11_module and pkcs11_token:
        rows += key_records.rows_of_token(keys, pkcs11_module, pkcs11_token, secret)
    if try_open:
        roles = [role for role in Role if role in {row["role"] for row in rows}]
        rows = key_records.with_addresses(rows, keys, secret, roles, pkcs11_module, pkcs11_token, dialogue.warn)
    if json:
        show_json(rows)
        return
    columns = ["role", "generation", "fingerprint", "language", "cost", *(["address"] if try_open else []), "problem"]
    show_table("keys", columns, [[row[column] or "" for column in columns] for row in rows], right=[1])
    failures = Guard(keys).failures()
    if failures:
        say(f"{failures} wrong passphrases since the last right one")


@app.command("passphrase")
def change_passphrase(
    keys: Keys = Path("keys"),
    passphrase_fd: Fd = None,
    new_passphrase_fd: Annotated[
        int | None, typer.Option("--new-passphrase-fd", help="File descriptor to read the new passphrase from.")
    ] = None,
) -> None:
    """Change the passphrase of all key files, or raise their cost by giving the same once more.

    Killed in the middle, every key still opens by the old or the new one; done again with both, it goes on.

    Example: onebook keys passphrase --keys wallet/keys
    """
    old = dialogue.passphrase(passphrase_fd)
    if new_passphrase_fd is not None:
        new = dialogue.passphrase(new_passphrase_fd)
    else:
        new = dialogue.new_passphrase("New passphrase")
    with Guard(keys).attempt():
        headers = keyring.change_passphrase(keys, old=old, new=new, entropy=SystemEntropy(), report=say)
    say(f"{len(headers)} keys have the new passphrase; backups of the old files still open by the old one")


@app.command()
def destroy(
    role: Annotated[Role, typer.Argument(help="Whose key is destroyed.")],
    keys: Keys = Path("keys"),
    generation: Generation = 1,
    force: Annotated[bool, typer.Option("--force", help="Also the only key of its role.")] = False,
    pkcs11_module: Module = None,
    pkcs11_token: Token = None,
    passphrase_fd: Fd = None,
) -> None:
    """Overwrite and remove a key's file and its copy, for good. Asks for its fingerprint.

    Example: onebook keys destroy deposit --generation 1
    """
    refuse_half_a_token(pkcs11_module, pkcs11_token)
    if force and dialogue.ask("This may be the role's only key. Type force to go on") != "force":
        raise typer.Exit(Exit.USAGE)
    say("A signer whose journal names this key doesn't start without it; a journal forgets no key.")
    typed = dialogue.ask(f"Fingerprint of the {role.value} key of generation {generation}, at least 16 digits")
    if pkcs11_module and pkcs11_token:
        with _open_token(keys, pkcs11_module, pkcs11_token, passphrase_fd) as token:
            token.destroy(role, generation, typed=typed, force=force)
        say(f"removed the {role.value} key of generation {generation} from the token")
        return
    removed = keyring.destroy(keys, role, generation, typed=typed, entropy=SystemEntropy(), force=force)
    for path in removed:
        say(f"overwrote and removed {path}")
    say("What a disk with wear levelling or a snapshot has kept is out of our reach; docs/keys.md says what to do")


def _typed(role: Role, from_shares: bool, generation: int, language: Language) -> DrawnKey:
    """The key behind words or shares that a person types."""
    if from_shares:
        return DrawnKey(role, shares.restore(dialogue.ask_shares()), language, generation)
    return DrawnKey(role, *dialogue.ask_words(), generation)


def _back_up_and_store(keys: Path, drawn: Sequence[DrawnKey], scheme: Scheme | None, wrap: Wrap) -> list[PublicKey]:
    """Show every key's backup until it was written down; store all of them only then."""
    entropy = SystemEntropy()
    for key in drawn:
        mark = f"{key.role.value} key, generation {key.generation}; fingerprint {_grouped(key.public().fingerprint)}"
        if scheme is None:
            dialogue.show_card([mark, _LOST], key.words.split(), entropy=entropy)
            continue
        for card in shares.split(key.secret, scheme, entropy):
            dialogue.show_card([mark, f"set {card.set_id}, {card.title}"], card.words, entropy=entropy)
    store_keys(keys, drawn, wrap=wrap, entropy=entropy)
    return [key.public() for key in drawn]


def _rotate_file(keys: Path, role: Role, scheme: Scheme | None, words: int, wrap: Wrap) -> list[PublicKey]:
    with Guard(keys).attempt():
        generation = keyring.next_generation(keys, role, wrap=wrap)
    drawn = draw_keys(SystemEntropy(), [role], words=words, generation=generation)
    return _back_up_and_store(keys, drawn, scheme, wrap)


def _open_token(keys: Path, module: Path, label: str, descriptor: int | None) -> OpenToken:
    """The token, to be written to; a wrong PIN is counted beside the key files."""
    from custody.pkcs11 import Token  # here, so that who has no token loads nothing for it

    pin = dialogue.passphrase(descriptor, prompt="PIN of the token")
    keys.mkdir(mode=0o700, parents=True, exist_ok=True)
    with Guard(keys).attempt():
        return Token.open(module, label, pin, writable=True)


def _ceremony_with_token(
    keys: Path, roles: list[Role], scheme: Scheme | None, words: int, module: Path, label: str, descriptor: int | None
) -> list[PublicKey]:
    with _open_token(keys, module, label, descriptor) as token:
        inside = [role for role in roles if role in TOKEN_ROLES]
        held = {role for role, _ in token.present()}
        if held & set(inside):
            raise KeyFileExists(f"the token has keys already ({', '.join(sorted(held))}): none is written over")
        outside = [role for role in roles if role not in TOKEN_ROLES]
        made = []
        if outside:
            token.generate_wrap_key()
            drawn = draw_keys(SystemEntropy(), outside, words=words)
            made += _back_up_and_store(keys, drawn, scheme, token.wrap())
        made += [key_records.public_of(token.generate(role)) for role in inside]
    say("Keys in the token have no words: back them up by the token's own means.")
    return made


def _refuse_another_passphrase(keys: Path, passphrase: bytes) -> None:
    """All files of a folder have one passphrase; a key that is added must not have another."""
    there = keyring.list_keys(keys)
    if any(key.header is not None and key.header.token_key is not None for key in there):
        raise TokenRefused("these files are wrapped by a token: import into a folder of its own")
    if there:
        with Guard(keys).attempt():
            keystore.open_key(keys, there[0].role, passphrase=passphrase, generation=there[0].generation)


def _finish(made: list[PublicKey], public: Path | None, *, next_step: str = NEXT_STEP) -> None:
    for key in made:
        say(f"{key.role.value} generation {key.generation}")
        say(f"  fingerprint {_grouped(key.fingerprint)}")
        say(f"  public      {key.public}")
    if public is not None:
        key_records.write(public, made)
        say(f"wrote {public}: public things only")
    say(next_step)


def _after_rotation(key: PublicKey) -> str:
    """What an operator does once a role's next key is made."""
    name = keys_name(key.role, key.generation)
    outcome = _OUTCOMES[key.role].format(name=name)
    return _ROTATED.format(name=name, fingerprint=key.fingerprint.hex(), public=key.public, outcome=outcome)


def _grouped(mark: bytes) -> str:
    """A fingerprint in groups of four digits, to be compared by eye."""
    text = mark.hex()
    return " ".join(text[start : start + 4] for start in range(0, len(text), 4))
