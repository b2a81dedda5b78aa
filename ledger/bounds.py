"""What a group of commands may be at all: bounds on its size and its texts, checked before it's queued. Pure.

A refusal by the book is an outcome and is remembered; what stands here nobody can mean, or no row could hold, so it's
an error of the caller and leaves no trace.
"""

from collections.abc import Iterable

from ledger.accounts import split_account_id
from ledger.commands import Charge, Command, Group, Hold, OpenAccount, Post, Record, Settle
from ledger.errors import InvalidCommand
from ledger.money import AMOUNT_END

COMMANDS_MAX = 10_000
"""Commands of a group."""

POSTINGS_MAX = 10_000
"""Postings of a command; a line's number is a smallint."""

TEXT_MAX = 500
"""Characters of an id, of a subject, of a limit's counter."""

PAIRS_MAX, KEY_MAX, VALUE_MAX = 50, 100, 4_000
"""Metadata: pairs, characters of a key, characters of a value."""


def check_group(group: Group) -> None:
    """Raise InvalidCommand for what nobody can mean, before it's queued beside others' commands."""
    commands = group.commands
    if len(commands) != 1 and len({command.id for command in commands}) != max(1, len(commands)):
        raise InvalidCommand("a group needs at least one command, and each an id of its own")
    if len(commands) > COMMANDS_MAX:
        raise InvalidCommand(f"a group has at most {COMMANDS_MAX} commands; this one has {len(commands)}")
    if group.content is not None and len(group.content) != 32:
        raise InvalidCommand("a group's content is a SHA-256: 32 bytes")
    for command in commands:
        _check_text("id", command.id, most=TEXT_MAX)
        if command.subject is not None:
            _check_text("subject", command.subject, most=TEXT_MAX)
        if command.metadata:
            _check_metadata(command)
        match command:
            case Post() | Hold():
                _check_entry(command)
            case Settle():
                _check_owing_nothing(command)
            case Record() if command.charges:
                _check_charges(command.charges)
            case OpenAccount():
                split_account_id(command.account)
            case _:
                pass


def _check_entry(command: Post | Hold) -> None:
    if len(command.postings) > POSTINGS_MAX:
        raise InvalidCommand(f"a command has at most {POSTINGS_MAX} postings; this one has {len(command.postings)}")
    _check_owing_nothing(command)
    _check_charges(command.charges)
    if type(command) is Post and command.bounds:
        if len(command.bounds) > POSTINGS_MAX:
            raise InvalidCommand(f"a command names at most {POSTINGS_MAX} bounds of accounts")
        for bound in command.bounds:
            split_account_id(bound.account)
            if any(end is not None and not -AMOUNT_END < end < AMOUNT_END for end in (bound.least, bound.most)):
                raise InvalidCommand("a bound is a whole number nearer to zero than 2^256")
    if type(command) is Hold and any(p.debit_rest or p.credit_rest for p in command.postings):
        raise InvalidCommand("a hold's postings name both accounts; only an entry may leave a rest")


def _check_charges(charges: Iterable[Charge]) -> None:
    for charge in charges:
        _check_text("counter", charge.counter, most=TEXT_MAX)


def _check_owing_nothing(command: Post | Hold | Settle) -> None:
    if len(command.owing_nothing) > POSTINGS_MAX:
        raise InvalidCommand(f"a command names at most {POSTINGS_MAX} accounts that owe nothing")
    for account in command.owing_nothing:
        split_account_id(account)


def _check_metadata(command: Command) -> None:
    if len(command.metadata) > PAIRS_MAX:
        raise InvalidCommand(f"metadata has at most {PAIRS_MAX} pairs", param="metadata")
    for key, value in command.metadata.items():
        _check_text("a key of metadata", key, most=KEY_MAX)
        if value:
            _check_text("a value of metadata", value, most=VALUE_MAX)


def _check_text(what: str, said: str, *, most: int) -> None:
    """A text that isn't empty, isn't too long, and can be stored."""
    if not 0 < len(said) <= most:
        raise InvalidCommand(f"{what} has 1 to {most} characters; this one has {len(said)}")
    if not said.isprintable() and any(char == "\0" or "\ud800" <= char <= "\udfff" for char in said):
        raise InvalidCommand(f"{what} may hold no NUL character and no half of a surrogate pair")
