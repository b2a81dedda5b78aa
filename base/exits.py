"""How our processes end: one code for each kind of reason, the same for commands, API and worker."""

from enum import IntEnum

from base.errors import BrokenInvariant, ConfigError, OnebookError, Unavailable


class Exit(IntEnum):
    """Exit codes of every command and process."""

    OK = 0
    DISAGREES = 1
    """The command ran and found that something doesn't agree, or a request was refused."""
    USAGE = 2
    """Wrong arguments or configuration; nothing was done."""
    UNAVAILABLE = 3
    """Something that is needed doesn't answer; try again."""
    BROKEN = 4
    """An invariant is broken: look before going on."""


def exit_code(error: OnebookError) -> Exit:
    """The exit code of an error's kind."""
    match error:
        case ConfigError():
            return Exit.USAGE
        case Unavailable():
            return Exit.UNAVAILABLE
        case BrokenInvariant():
            return Exit.BROKEN
        case _:
            return Exit.DISAGREES
