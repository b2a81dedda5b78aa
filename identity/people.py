"""A person as Onebook knows one: an id, a handle that others can type, a name to show. Pure."""

import re
from dataclasses import dataclass
from datetime import datetime

from identity.errors import InvalidHandle, InvalidKeyRequest

HANDLE = re.compile(r"[a-z0-9_]{3,32}", re.ASCII)

PERSON = re.compile(r"[a-z][a-z0-9-]{1,31}", re.ASCII)

NAME_LENGTH_MAX = 100
"""Characters that a display name may have."""

ID_PREFIX = "usr"


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who holds accounts. `handle` is lower case; people write it `@handle`, in any case."""

    id: str
    handle: str
    name: str
    created_at: datetime


def parse_handle(text: str, *, param: str = "handle") -> str:
    """The handle that was meant, in lower case, without its `@`. Raises InvalidHandle.

    One that begins like a user id is refused, so that text never means two users.
    """
    handle = text.removeprefix("@").lower()
    if not HANDLE.fullmatch(handle):
        raise InvalidHandle(f"{text[:40]!r} is no handle: use 3 to 32 of a-z, 0-9 and _", param=param)
    if handle.startswith(f"{ID_PREFIX}_"):
        raise InvalidHandle(f"a handle can't begin with {ID_PREFIX}_, as user ids do", param=param)
    return handle


def parse_person(text: str) -> str:
    """One of the house's people, as their keys name them. Raises InvalidKeyRequest.

    It has no underscore, so that it's never taken for the id of a key or a user.
    """
    if not PERSON.fullmatch(text):
        raise InvalidKeyRequest(
            f"{text[:40]!r} names no person: use 2 to 32 of a-z, 0-9 and -, a letter first", param="person"
        )
    return text


def parse_name(text: str) -> str:
    """A display name: trimmed, on one line, printable. Raises InvalidHandle with code `invalid_name`."""
    name = text.strip()
    if not name or len(name) > NAME_LENGTH_MAX or not name.isprintable():
        raise InvalidHandle(
            f"a display name is 1 to {NAME_LENGTH_MAX} printable characters", code="invalid_name", param="name"
        )
    return name
