"""Talking with a person about secrets: lines in and out, hidden where a passphrase is typed, a screen that is cleared.

Works with a pipe instead of a terminal, line by line. What is typed here never becomes an argument or a log line.
"""

import getpass
import sys
from collections.abc import Sequence
from functools import cache

import typer

from base.entropy import Entropy
from cli.output import Exit, fail
from custody import hardening
from custody.errors import MnemonicInvalid, SharesInvalid
from custody.passphrases import checked, told_passphrase
from custody.seeds import ReadWords, read_words
from custody.shares import ReadShare, missing, read_share

_CLEAR = "\x1b[2J\x1b[3J\x1b[H"
"""Clears the screen and, where the terminal knows it, what was scrolled away."""
_TRIES_MAX = 3
_SHARES_MAX = 64


def tell(text: str = "") -> None:
    """A line for the person, at once and unwrapped: words that are written down mustn't be broken by us."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def warn(sentence: str) -> None:
    """A warning, on standard error."""
    sys.stderr.write(f"onebook: warning: {sentence}\n")


def clear() -> None:
    """Take what is on the screen away, before somebody else looks at it."""
    tell(_CLEAR if sys.stdout.isatty() else "-" * 20)


def ask(prompt: str) -> str:
    """One line that the person types, without spaces at its ends. Ends the command when there is none."""
    return _line(prompt).strip()


def ask_hidden(prompt: str) -> bytes:
    """One line that isn't shown while it is typed."""
    if sys.stdin.isatty():
        return checked(getpass.getpass(f"{prompt}: ").encode())
    return checked(_line(prompt).encode())


def passphrase(descriptor: int | None, *, prompt: str = "Passphrase of the keys", new: bool = False) -> bytes:
    """The passphrase (or PIN): from the descriptor, the systemd credential or the environment, else asked for.

    A `new` one that is typed is asked for twice.
    """
    _harden()
    told = told_passphrase(descriptor, warn)
    if told is not None:
        return told
    return new_passphrase(prompt) if new else ask_hidden(prompt)


def new_passphrase(prompt: str) -> bytes:
    """A passphrase that is typed twice alike."""
    for _ in range(_TRIES_MAX):
        typed = ask_hidden(prompt)
        if ask_hidden("Once more, to be sure") == typed:
            return typed
        tell("They differ; once more.")
    return fail("the passphrase wasn't typed twice alike; nothing was done", Exit.USAGE)


def show_card(title: Sequence[str], words: Sequence[str], *, entropy: Entropy) -> None:
    """Show words alone on the screen, take them away, and ask for two of them: so it's known that they were written."""
    for _ in range(_TRIES_MAX):
        clear()
        for line in title:
            tell(line)
        tell()
        for start in range(0, len(words), 4):
            tell("  ".join(f"{place:2}. {word:12}" for place, word in enumerate(words[start : start + 4], start + 1)))
        tell()
        ask("Write this card down by hand, then press Enter")
        clear()
        known = _knows(words, entropy)
        clear()
        if known:
            return
        tell("That wasn't it. The card is shown once more.")
        ask("Press Enter")
    fail("the words weren't typed back; nothing was stored, begin again with pen and paper", Exit.USAGE)


def ask_words() -> ReadWords:
    """A mnemonic, asked for until it is one; what is wrong is explained by the words' places."""
    for _ in range(_TRIES_MAX):
        try:
            read = read_words(ask("Words of the mnemonic, on one line"))
        except MnemonicInvalid as problem:
            clear()
            tell(problem.message)
        else:
            clear()
            return read
    return fail("these words are no mnemonic; nothing was done", Exit.USAGE)


def ask_shares() -> list[ReadShare]:
    """Shares until they are enough. A bad one is named and asked for again; those before it stay."""
    shares: list[ReadShare] = []
    for _ in range(_SHARES_MAX):
        try:
            read = read_share(ask(f"Words of share {len(shares) + 1}, on one line"), len(shares) + 1)
            lacking = missing([*shares, read])
        except SharesInvalid as problem:
            clear()
            tell(problem.message)
            continue
        shares.append(read)
        clear()
        tell(f"share {read.place} of set {read.set_id} is read; {lacking or 'that is enough'}")
        if lacking is None:
            return shares
    return fail("these shares are no key; nothing was done", Exit.USAGE)


@cache
def _harden() -> None:
    """Before the first secret is in memory."""
    hardening.harden(warn)


def _line(prompt: str) -> str:
    sys.stdout.write(f"{prompt}: ")
    sys.stdout.flush()
    line = sys.stdin.readline()
    if not line:
        fail("the input ended before the command had all its answers; nothing more was done", Exit.USAGE)
    return line.removesuffix("\n")


def _knows(words: Sequence[str], entropy: Entropy) -> bool:
    """Whether the person types two words back, at places drawn by chance."""
    first = entropy.draw(1)[0] % len(words)
    second = (first + 1 + entropy.draw(1)[0] % (len(words) - 1)) % len(words)
    return all(ask(f"Word {place + 1} of the card").lower() == words[place] for place in sorted((first, second)))


def confirm_offline(warning: str | None = None) -> None:
    """What a person should know before secrets are on the screen."""
    _harden()
    tell(
        "This shows or asks for secrets. Do it on a computer without a network, alone, and with no camera in the room."
    )
    if warning is not None:
        tell(f"\nWarning. {warning}\n")
    if ask("Type yes to go on").lower() != "yes":
        raise typer.Exit(Exit.USAGE)
