"""Command ids and content hashes for what users ask and workers do: one id space per book, kept for ever."""

import hashlib
from dataclasses import dataclass

from ledger.canonical import dump


@dataclass(frozen=True, slots=True)
class RequestKey:
    """What makes a request repeatable: the id its command gets, and the hash of what was sent."""

    id: str
    content: bytes


def request_key(*, owner: str, route: str, key: str, body: object) -> RequestKey:
    """The key of a user's request: its id from (owner, route, idempotency key), its content from the body as sent.

    `body` is plain JSON; numbers in it must be integers.
    """
    name = hashlib.sha256("\0".join((owner, route, key)).encode()).hexdigest()
    return RequestKey(id=f"req:{name}", content=content_hash(body))


def key_hash(command_id: str) -> bytes | None:
    """The hash that stands for a user's request in its command's id; None for ids that `request_key` didn't make."""
    prefix, _, name = command_id.partition(":")
    return bytes.fromhex(name) if prefix == "req" else None


def request_id(name: bytes) -> str:
    """The id of the user's request that this hash (`key_hash`) stands for."""
    return f"req:{name.hex()}"


def worker_id(source: str, attempt: int | str) -> str:
    """The id of a worker's command. The prefix is one that `request_key` never gives, so no user can reach it."""
    return f"wrk:{source}:{attempt}"


def import_id(entry: str, attempt: int) -> str:
    """The id of an entry's command when its file is imported for the nth time, from 1; no user can reach it either."""
    return f"imp:{entry}:{attempt}"


def content_hash(body: object) -> bytes:
    """SHA-256 of `body` as canonical JSON (sorted keys, no spaces)."""
    return hashlib.sha256(dump(body)).digest()
