"""Asking people: passphrases at a terminal or from a file descriptor (never an argument), yes or no, a word to type."""

import json
import os
import stat
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from base.errors import ConfigError
from cli.output import Exit, fail
from custody.passphrases import PASSPHRASE_ENV

PASSPHRASE_BYTES_MAX: Final = 1024

PassphraseFd = Annotated[
    int | None, typer.Option("--passphrase-fd", help="A file descriptor to read the passphrase from; else it's asked.")
]


def ask_for(what: str, descriptor: int | None, *, confirm: bool = False) -> bytes:
    """The passphrase of `what`, without one newline at its end: read from `descriptor`, else asked at the terminal."""
    if descriptor is not None:
        try:
            with os.fdopen(descriptor, "rb") as stream:
                told = stream.read(PASSPHRASE_BYTES_MAX + 1).removesuffix(b"\n")
        except OSError as problem:
            raise ConfigError(f"file descriptor {descriptor} can't be read: {problem.strerror}") from problem
    elif sys.stdin.isatty():
        told = str(typer.prompt(f"Passphrase of {what}", hide_input=True, confirmation_prompt=confirm)).encode()
    else:
        fail(f"no terminal to ask for the passphrase of {what}: run in one, or give --passphrase-fd", Exit.USAGE)
    if not 1 <= len(told) <= PASSPHRASE_BYTES_MAX:
        raise ConfigError(f"a passphrase has 1 to {PASSPHRASE_BYTES_MAX} bytes")
    return told


def ask_passphrase(*, confirm: bool, token: str | None = None) -> bytes:
    """The signer's passphrase, or the PIN of its token: from ONEBOOK_SIGNER_PASSPHRASE with a warning, else asked."""
    told = os.environ.get(PASSPHRASE_ENV)
    if told:
        sys.stderr.write(f"onebook: warning: the passphrase comes from {PASSPHRASE_ENV}; others may read that\n")
        return told.encode()
    if not sys.stdin.isatty():
        fail(f"no terminal to ask for the signer's passphrase: run in one, or set {PASSPHRASE_ENV}", Exit.USAGE)
    wanted = "Passphrase of the keys" if token is None else f"PIN of the token {token!r}"
    return str(typer.prompt(wanted, hide_input=True, confirmation_prompt=confirm)).encode()


def agree(question: str) -> None:
    """Go on only with a yes; anything else, and no answer, ends the command: nothing was done."""
    _type(f"{question} [y/N]", {"y", "yes"})


def type_again(what: str, wanted: str) -> None:
    """Go on only if `wanted` is typed exactly."""
    _type(f"Type {what} ({wanted}) to go on", {wanted})


def read_text(path: Path) -> str:
    """A file's text. Raises ConfigError."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        said = problem.strerror if isinstance(problem, OSError) else "it isn't UTF-8"
        raise ConfigError(f"{path} can't be read: {said}") from problem


def write_new(path: Path, text: str) -> None:
    """Write a file that isn't there yet, mode 0600. Raises ConfigError."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, stat.S_IRUSR | stat.S_IWUSR)
    except OSError as problem:
        raise ConfigError(f"{path} can't be written: {problem.strerror}") from problem
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)


def json_text(document: object) -> str:
    """A document as a file has it."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def whole_number(option: str, told: str) -> int:
    """A whole number of any length. Raises ConfigError."""
    if not (told.isascii() and told.isdecimal() and len(told) <= 60):
        raise ConfigError(f"{option} is a whole number, not {told[:60]!r}")
    return int(told)


def refuse_half_a_token(module: Path | None, token: str | None) -> None:
    """Raises ConfigError when only one of the options that name a PKCS#11 token was given."""
    if (module is None) != (not token):
        raise ConfigError("--pkcs11-module and --pkcs11-token go together: give both, or neither")


def _type(prompt: str, wanted: set[str]) -> None:
    sys.stderr.write(f"{prompt}: ")
    sys.stderr.flush()
    if sys.stdin.readline().strip() not in wanted:
        fail("not agreed: nothing was done", Exit.DISAGREES)
