"""What several people say about the signer itself: each signs the same statement, one of them sends all signatures."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from base.errors import ConfigError
from cli.asking import ask_for, read_text, write_new
from cli.output import say
from cli.policies import person_of, policy_path, read_policy, socket_path
from custody import approver_keys
from custody.approval_requests import signed_from_text, signed_to_text
from custody.approvals import Signature
from custody.client import SignerClient
from wiring.settings import Settings

Told = TypeVar("Told")

Send = Callable[[SignerClient, str, Sequence[Signature]], Awaitable[None]]
"""Hands signatures over a statement with that serial to the signer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """Who signs: the key that is here, and what others wrote to files. With `out` the signature only goes there."""

    key: Path | None
    others: Sequence[Path]
    out: Path | None
    policy: Path | None
    passphrase_fd: int | None
    settings: Settings | None

    def signatures(self, statement: bytes) -> list[Signature]:
        """All signatures over `statement` that are here. Raises ConfigError when there is none."""
        found = [self._other(path, statement) for path in self.others]
        if self.key is not None:
            found.append(self._own(self.key, statement))
        if not found:
            raise ConfigError("nobody signs: give your key with --key, or others' signatures with --with")
        return found

    def sign_only(self, statement: bytes) -> bool:
        """Whether only a signature into `out` was wanted; then it's there."""
        if self.out is None:
            return False
        if self.key is None:
            raise ConfigError("--out writes your signature: give your key with --key")
        signature = self._own(self.key, statement)
        write_new(self.out, signed_to_text(statement, signature))
        say(f"{self.out}: signed by {signature.by}; whoever sends it gives it with --with")
        return True

    def _own(self, path: Path, statement: bytes) -> Signature:
        policy = read_policy(policy_path(self.policy, self.settings, option="--policy"))
        person = person_of(policy, approver_keys.read_header(path), path)
        passphrase = ask_for(f"the key of {person.name}", self.passphrase_fd)
        return approver_keys.open_key(path, passphrase=passphrase).sign(statement, name=person.name)

    def _other(self, path: Path, statement: bytes) -> Signature:
        under, signature = signed_from_text(read_text(path))
        if under != statement:
            raise ConfigError(f"{path} is signed for something else: another serial, time, network or asset")
        return signature


def client_of(socket: Path | None, settings: Settings | None) -> SignerClient:
    """The signer's client; where there is a configuration, only its keys' answers are believed."""
    xpubs = None if settings is None else {str(name): public for name, public in settings.xpubs.items()}
    return SignerClient(socket_path(socket, settings), xpubs=xpubs or None)


def asked(client: SignerClient, question: Callable[[SignerClient], Awaitable[Told]]) -> Told:
    """The answer to one question, the connection closed."""

    async def ask() -> Told:
        try:
            return await question(client)
        finally:
            await client.close()

    return asyncio.run(ask())


def say_together(
    people: People, *, serial: str | None, socket: Path | None, statement: Callable[[str], bytes], send: Send
) -> bool:
    """Sign what `statement` makes of the signer's serial, and send it, or (False) only write the signature down."""
    if serial is None or people.out is None:
        client = client_of(socket, people.settings)
        serial = asked(client, SignerClient.status).serial
    made = statement(serial)
    if people.sign_only(made):
        return False
    signatures, known = people.signatures(made), serial
    asked(client_of(socket, people.settings), lambda client: send(client, known, signatures))
    return True
