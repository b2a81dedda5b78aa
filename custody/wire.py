"""How client and signer talk: length-prefixed frames of deterministic CBOR, one question and one answer at a time.

A frame is 4 bytes of length (big-endian) and at most 64 KiB of body. A body is read only if it is canonical: encoded
again it gives the same bytes; so unknown tags, floats, doubled keys and padding are refused. Every wait has a bound.
"""

import asyncio
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import cbor2

from custody.errors import IntentInvalid

VERSION: Final = 1
"""Of the protocol; stands in every frame."""

FRAME_BYTES_MAX: Final = 64 * 1024
"""A signing question is about 300 bytes; 1,000 addresses in an answer are 22 KiB."""

FRAME_SECONDS: Final = 5.0
"""The longest that one frame may take on its way, once its first byte is there."""

_SOCKET_PATH_MAX: Final = 107
"""The longest path that fits a Unix socket's address on Linux, in bytes."""

_DEPTH_MAX = 7
_LENGTH_BYTES = 4
_BIGNUM_TAG = 2


class FrameTooLarge(IntentInvalid):
    default_code = "frame_too_large"


def _refuse_tag(*_: object) -> object:
    raise ValueError("tags other than an unsigned bignum aren't part of the protocol")


_LEAVES = frozenset({str, bytes, int, bool, type(None)})
_REFUSED_TAGS = {tag: _refuse_tag for tag in (*range(1100), 43000, 55799) if tag != _BIGNUM_TAG}


def encode(message: Mapping[str, object]) -> bytes:
    """A message as one frame, the version added."""
    body = cbor2.dumps({"v": VERSION, **message}, canonical=True)
    if len(body) > FRAME_BYTES_MAX:
        raise FrameTooLarge(f"a frame has at most {FRAME_BYTES_MAX} bytes, this one {len(body)}")
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


def decode(body: bytes) -> dict[str, object]:
    """The message in a frame's body, without the version. Raises IntentInvalid unless it's canonical and of ours."""
    try:
        told = cbor2.loads(
            body,
            tag_hook=_refuse_tag,
            semantic_decoders=_REFUSED_TAGS,
            max_depth=_DEPTH_MAX,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
        )
        same = cbor2.dumps(told, canonical=True) == body
    except (cbor2.CBORError, ValueError, TypeError, RecursionError, OverflowError) as problem:
        raise IntentInvalid("the frame isn't deterministic CBOR", code="malformed") from problem
    if not same or not isinstance(told, dict) or not _is_plain(told):
        raise IntentInvalid("the frame isn't a map in deterministic CBOR", code="malformed")
    version = told.pop("v", None)
    if type(version) is not int or version != VERSION:
        raise IntentInvalid(f"this side speaks version {VERSION} of the protocol", code="version_unknown")
    return told


def _is_plain(told: object) -> bool:
    """Whether it is made of maps with text keys, lists, text, bytes, whole numbers, true, false and null only."""
    if type(told) is dict:
        if not all(type(name) is str for name in told):
            return False
        parts: Iterable[object] = told.values()
    elif type(told) is list:
        parts = told
    else:
        return type(told) in _LEAVES
    return all(type(part) in _LEAVES or _is_plain(part) for part in parts)


async def read_body(reader: asyncio.StreamReader, *, first_byte_seconds: float) -> bytes:
    """The next frame's body.

    Waits at most `first_byte_seconds` for the frame to begin and FRAME_SECONDS for the rest of it. Raises TimeoutError,
    asyncio.IncompleteReadError at the stream's end, and FrameTooLarge before a single byte of such a body is read.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(first_byte_seconds) as bound:
        head = await reader.readexactly(1)
        bound.reschedule(loop.time() + FRAME_SECONDS)
        head += await reader.readexactly(_LENGTH_BYTES - 1)
        length = int.from_bytes(head, "big")
        if length > FRAME_BYTES_MAX:
            raise FrameTooLarge(f"a frame has at most {FRAME_BYTES_MAX} bytes, this one {length}")
        return await reader.readexactly(length)


async def write_frame(writer: asyncio.StreamWriter, frame: bytes) -> None:
    """Send a frame; raises TimeoutError when the other side doesn't take it within FRAME_SECONDS."""
    writer.write(frame)
    if not writer.transport.get_write_buffer_size() and not writer.is_closing():
        return  # the kernel has it all
    async with asyncio.timeout(FRAME_SECONDS):
        await writer.drain()


@contextmanager
def socket_address(path: Path) -> Iterator[str]:
    """A spelling of `path` that fits a Unix socket's address, however deep its folder lies."""
    if len(os.fsencode(path)) <= _SOCKET_PATH_MAX:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
