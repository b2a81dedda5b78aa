"""The root of every error that Onebook raises on purpose.

OnebookError
├── Rejected         expected: the caller asked for what can't be done; carries the numbers that explain it
│   └── NotFound     there is no such thing, or not for this caller
├── Unavailable      something outside (database, node, signer, rail) can't answer now; trying again can help
├── ConfigError      the configuration can't work; says which setting, why, and what to do
└── BrokenInvariant  a bug or tampering: abort and page somebody, never an answer to a user
"""

from typing import ClassVar


class OnebookError(Exception):
    """An error with a stable `code`, a sentence for people, and the numbers that explain it.

    `facts` are plain strings, ints or lists, fit for an RFC 9457 problem (`required`, `available`, ...). `param` names
    the request field at fault, where there is one.
    """

    default_code: ClassVar[str] = "internal"

    def __init__(self, message: str, *, code: str | None = None, param: str | None = None, **facts: object) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.param = param
        self.facts = facts


class Rejected(OnebookError):
    default_code = "rejected"


class NotFound(Rejected):
    default_code = "not_found"


class Unavailable(OnebookError):
    default_code = "unavailable"


class ConfigError(OnebookError):
    default_code = "config"


class BrokenInvariant(OnebookError):
    default_code = "broken_invariant"
