"""The signer's client: asks, waits a bounded time, and believes an answer only if it is to that very attempt.

An answer must decode to the transaction that the intent means (chain, nonce, destination, value, call, gas, fees), or
be a signature over its message, and recover to the address that the pinned xpub derives. It holds no key. A connection
that the signer closed while idle is opened anew at once, any other failure by the next call; asking twice is harmless,
since the signer answers the same.
"""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from base import tracing
from custody import wire
from custody.approvals import Mandate, Signature, mandate_map, signature_list
from custody.derivation import AddressSource, Role, fingerprint
from custody.errors import IntentInvalid, SignerMismatch, SignerRefused, SignerUnavailable, XpubInvalid
from custody.intents import Authorisation, Intent, KeyRef, ProofOfControl, to_map
from custody.journal_file import Head, Row
from custody.messages import message_digest, message_signer
from custody.rolekeys import SingleAddress, address_source
from custody.transactions import build, read_as

_ADDRESSES_KEPT: Final = 4096

ANSWER_SECONDS: Final = 10.0
"""The longest that one call waits for its answer, connecting included."""


@dataclass(frozen=True, slots=True)
class Signed:
    """Raw bytes as they are to be sent, and their hash; of a message its signature of 65 bytes, and what it's over.

    Commit (sequence, head) with the attempt: it's the signer's journal row.
    """

    raw: bytes
    tx_hash: bytes
    sequence: int
    head: bytes


@dataclass(frozen=True, slots=True)
class SignerStatus:
    """What a signer says of itself."""

    keys: Mapping[str, str]
    """The public text of its keys (an account xpub, or a single public key) by name: `hot`, `hot.2`."""
    policy_fingerprint: bytes
    policy_version: int
    networks: tuple[int, ...]
    sequence: int
    head: bytes
    people: tuple[str, ...] = ()
    threshold: int = 0
    contracts: tuple[tuple[str, int, bytes | None], ...] = ()
    """(name, chain id, address) of the policy's contracts."""
    serial: str = ""
    """What statements about the signer itself must carry."""
    frozen: tuple[tuple[int | None, str | None], ...] = ()
    """(chain id, asset) of each freeze; None is all."""
    halted: bool = False
    clock: str | None = None
    """Why the signer doesn't trust its clocks, if so."""

    @property
    def fingerprints(self) -> dict[str, bytes]:
        """SHA-256 of each public text."""
        return {name: fingerprint(public) for name, public in self.keys.items()}


@dataclass(slots=True)
class SignerClient:
    """Talks to the signer at `socket_path`; safe to share among tasks, which take turns.

    `xpubs` pins the keys (public texts by name) whose signatures are accepted. Without them the first answer's are
    pinned for this client's life, which doesn't notice a socket that was replaced before that: services pass what
    `init` recorded.
    """

    socket_path: Path
    xpubs: Mapping[Role, str] | Mapping[str, str] | None = None
    seconds: float = ANSWER_SECONDS
    _stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = field(default=None, init=False, repr=False)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False, repr=False)
    _addresses: dict[KeyRef, bytes] = field(default_factory=dict, init=False, repr=False)
    _sources: dict[str, AddressSource | SingleAddress] = field(default_factory=dict, init=False, repr=False)

    async def status(self) -> SignerStatus:
        """The signer's keys, policy and journal head. Raises SignerUnavailable, SignerMismatch for other keys."""
        told = await self._ask({"call": "status"})
        try:
            status = _status(told)
        except (KeyError, TypeError, ValueError) as problem:
            raise SignerMismatch("the signer's status makes no sense: another program sits at its socket") from problem
        if self.xpubs is None:
            self.xpubs = dict(status.keys)
        if others := [str(name) for name, public in self.xpubs.items() if status.keys.get(str(name)) != public]:
            raise SignerMismatch(
                f"the signer has other keys than this service knows ({', '.join(others)}): a rotated key isn't accepted"
                " there yet, or somebody else listens at its socket"
            )
        return status

    async def sign(
        self,
        intent: Intent,
        *,
        highest: tuple[int, bytes] | None,
        mandate: Mandate | None = None,
        claims: Mapping[str, object] | Sequence[Mapping[str, object] | None] | None = None,
    ) -> Signed:
        """The signed transaction (or message) of `intent`; asked again, the same bytes.

        `highest` is the highest (sequence, head) that any answer carried, None before the first. `mandate` is what
        people signed about it, `claims` what the journal is to remember of whose it is; of a batch, whose each leg is.
        Raises SignerRefused, SignerUnavailable, SignerMismatch when the answer isn't to this attempt or by this key.
        """
        if self.xpubs is None:
            await self.status()
        question: dict[str, object] = {"call": "sign", "intent": to_map(intent)}
        question["highest"] = list(highest) if highest else None
        if mandate is not None:
            question["mandate"] = mandate_map(mandate)
        if claims is not None:
            question["claims"] = dict(claims) if isinstance(claims, Mapping) else list(claims)
        told = await self._ask(question)
        try:
            raw, head = _ok(told)["raw"], _head(told)
            signed, signer, name = self._read(intent, raw if isinstance(raw, bytes) else b"")
        except (KeyError, TypeError, IntentInvalid) as problem:
            raise SignerMismatch("the signer's answer isn't what was asked for") from problem
        if signer != self._address(intent.sender):
            raise SignerMismatch(f"the answer isn't signed by {intent.sender}")
        return Signed(signed, name, head.sequence, head.hash)

    def _read(self, intent: Intent, raw: bytes) -> tuple[bytes, bytes, bytes]:
        """The bytes, who signed them, and the hash that they are known by."""
        if isinstance(intent, Authorisation | ProofOfControl):
            digest = message_digest(intent, self._address)
            return raw, message_signer(digest, raw), digest
        signed = read_as(build(intent, self._address), raw)
        return signed.raw, signed.sender, signed.tx_hash

    async def addresses(self, keys: str, *, first: int, count: int) -> list[bytes]:
        """The signer's own derivation of `count` addresses (at most 1,000) from index `first`, 20 bytes each.

        `keys` is a role, or a later generation's name (`deposit.2`).
        """
        told = await self._ask({"call": "addresses", "keys": str(keys), "first": first, "count": count})
        listed = _ok(told).get("addresses")
        if not isinstance(listed, list) or len(listed) != count or not all(isinstance(one, bytes) for one in listed):
            raise SignerMismatch("the signer's answer isn't a list of addresses")
        return listed

    async def reserve(self, keys: str, *, count: int, highest: tuple[int, bytes] | None) -> int:
        """Have `count` address indexes of these keys (at most 1,000) given away for ever; the first of them."""
        seen = list(highest) if highest else None
        told = await self._ask({"call": "reserve", "keys": str(keys), "count": count, "highest": seen})
        first = _ok(told).get("first")
        if type(first) is not int:
            raise SignerMismatch("the signer's answer isn't an index")
        return first

    async def rows(self, *, first: int, count: int) -> list[Row]:
        """Rows of the journal from a sequence on: as many as fit into an answer, none at its end."""
        told = await self._ask({"call": "rows", "first": first, "count": count})
        listed = _ok(told).get("rows")
        if not isinstance(listed, list) or not all(isinstance(row, list) for row in listed):
            raise SignerMismatch("the signer's answer isn't a list of rows")
        try:
            return [Row(*row) for row in listed]
        except TypeError as problem:
            raise SignerMismatch("the signer's answer isn't a list of rows") from problem

    async def freeze(self, *, chain_id: int | None, asset: str | None, serial: str, by: Signature) -> None:
        """Stop signing: everything, a network, or an asset on it, by any one approver's signature."""
        await self._ask(_freezing("freeze", chain_id, asset, serial, [by]))

    async def lift(self, *, chain_id: int | None, asset: str | None, serial: str, by: Sequence[Signature]) -> None:
        """Take a freeze back, by as many signatures as change the policy."""
        await self._ask(_freezing("lift", chain_id, asset, serial, by))

    async def confirm_time(self, *, seconds: int, serial: str, by: Sequence[Signature]) -> None:
        """Say what time it is (Unix seconds), by as many signatures as change the policy."""
        signatures = [signature_list(one) for one in by]
        await self._ask({"call": "confirm_time", "seconds": seconds, "serial": serial, "signatures": signatures})

    async def close(self) -> None:
        """End the connection, if there is one."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream[1].close()
            with contextlib.suppress(OSError):
                await stream[1].wait_closed()

    def _address(self, key: KeyRef) -> bytes:
        assert self.xpubs is not None
        if key in self._addresses:
            return self._addresses[key]
        if key.keys not in self._sources:
            public = {str(name): text for name, text in self.xpubs.items()}.get(key.keys)
            if public is None:
                raise XpubInvalid(f"no public key of {key.keys} is known to this service")
            self._sources[key.keys] = address_source(public)
        if len(self._addresses) >= _ADDRESSES_KEPT:
            self._addresses.clear()
        self._addresses[key] = address = self._sources[key.keys].address(key.index)
        return address

    async def _ask(self, question: Mapping[str, object]) -> dict[str, object]:
        """One question, one answer, within `seconds`. A connection that failed in any way is never used again."""
        frame = wire.encode(question)
        try:
            with tracing.child(f"signer {question['call']}", tracing.Kind.CLIENT):
                async with asyncio.timeout(self.seconds), self._turn:
                    told = await self._exchange(frame)
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as problem:
            reason = "it didn't answer in time" if isinstance(problem, TimeoutError) else "nobody answers at its socket"
            raise SignerUnavailable(f"the signer can't be reached: {reason}") from problem
        except IntentInvalid as problem:
            raise SignerMismatch("what answers at the signer's socket doesn't speak its protocol") from problem
        _raise_if_no(told)
        return told

    async def _exchange(self, frame: bytes) -> dict[str, object]:
        fresh = self._stream is None
        stream, self._stream = self._stream or await self._connect(), None
        try:
            await wire.write_frame(stream[1], frame)
            told = wire.decode(await wire.read_body(stream[0], first_byte_seconds=self.seconds))
        except (ConnectionError, asyncio.IncompleteReadError):
            stream[1].close()
            if fresh:
                raise
            return await self._exchange(frame)  # an idle connection that the signer had closed: a new one, once
        except BaseException:
            stream[1].close()
            raise
        self._stream = stream
        return told

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        with wire.socket_address(self.socket_path) as address:
            return await asyncio.open_unix_connection(address)


def _raise_if_no(told: Mapping[str, object]) -> None:
    match told:
        case {"refused": {"code": str(code), "sentence": str(sentence), "rule": rule}}:
            head = _head(told)
            named = rule if isinstance(rule, str) else None
            raise SignerRefused(code, sentence, rule=named, sequence=head.sequence, head=head.hash)
        case {"failed": {"code": str(code), "sentence": str(sentence)}}:
            raise SignerUnavailable(f"the signer can't work now: {sentence}", code=code)
    _ok(told)


def _ok(told: Mapping[str, object]) -> dict[str, object]:
    answer = told.get("ok")
    if not isinstance(answer, dict):
        raise SignerMismatch("the signer's answer is neither a yes nor a no")
    return answer


def _head(told: Mapping[str, object]) -> Head:
    sequence, head = told.get("sequence"), told.get("head")
    if type(sequence) is not int or not isinstance(head, bytes):
        raise SignerMismatch("the signer's answer doesn't say where its journal stands")
    return Head(sequence, head)


def _freezing(
    call: str, chain_id: int | None, asset: str | None, serial: str, by: Sequence[Signature]
) -> dict[str, object]:
    signatures = [signature_list(one) for one in by]
    return {"call": call, "chain_id": chain_id, "asset": asset, "serial": serial, "signatures": signatures}


def _status(told: Mapping[str, object]) -> SignerStatus:
    answer: dict[str, Any] = _ok(told)
    head = _head(told)
    keys, policy, version = (answer[name] for name in ("keys", "policy", "policy_version"))
    if not (isinstance(keys, dict) and isinstance(policy, bytes) and isinstance(version, int)):
        raise TypeError("status fields have other types")
    return SignerStatus(
        keys={str(name): str(public) for name, public in keys.items()},
        policy_fingerprint=policy,
        policy_version=version,
        networks=tuple(answer["networks"]),
        sequence=head.sequence,
        head=head.hash,
        people=tuple(answer["people"]),
        threshold=int(answer["threshold"]),
        contracts=tuple((name, chain_id, address) for name, chain_id, address in answer["contracts"]),
        serial=str(answer["serial"]),
        frozen=tuple((chain_id, asset) for chain_id, asset in answer["frozen"]),
        halted=bool(answer["halted"]),
        clock=answer["clock"],
    )
