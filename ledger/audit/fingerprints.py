"""Whether two collections hold the same values, whatever their order and however many, in the memory of one number.

A function that is drawn when an audit begins, and that nobody knows, turns every value into a number of 128 bits; the
numbers are added. Two collections that differ have the same sum by chance only, one in 2^128: nobody could prepare a
match. The function is BLAKE2b under a key for rows, and a CBC-MAC by AES for ids, which takes thousands at once. Pure.
"""

import hashlib
import struct
from collections.abc import Sequence

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

SECRET_BYTES = 32
"""Length of what the function is drawn with."""

KEY_BYTES = 16
"""Length of an id's key, and of a block of AES."""

_SEQ_BYTES = 8


def add_rows(rows: Sequence[bytes], secret: bytes) -> int:
    """The sum over rows of any length."""
    return sum(int.from_bytes(hashlib.blake2b(row, key=secret, digest_size=16).digest()) for row in rows)


def add_ids(keys: Sequence[bytes], seqs: Sequence[int], secret: bytes) -> int:
    """The sum over ids: each by its key and its command's seq."""
    return _add(b"".join(keys), _blocks(struct.pack(f">{len(seqs)}q", *seqs), 0, _SEQ_BYTES, _SEQ_BYTES), secret)


def add_id_rows(rows: bytes, secret: bytes, *, key_at: int, seq_at: int, width: int) -> int:
    """The sum over ids that stand in rows of one width, key and seq at the same places in each."""
    keys, seqs = _blocks(rows, key_at, KEY_BYTES, width), _blocks(rows, seq_at, _SEQ_BYTES, width)
    return _add(keys, seqs, secret)


def _add(keys: bytes, seqs: bytes, secret: bytes) -> int:
    """The sum of the MACs over a block of `keys` and the block of `seqs` at the same place."""
    encrypt = Cipher(AES(secret), ECB()).encryptor().update  # noqa: S305 - each block is a value by itself
    mixed = int.from_bytes(encrypt(keys)) ^ int.from_bytes(seqs)
    halves: tuple[int, ...] = struct.unpack(f">{len(keys) // 8}Q", encrypt(mixed.to_bytes(len(keys))))
    return (sum(halves[::2]) << 64) + sum(halves[1::2])


def _blocks(rows: bytes, at: int, size: int, width: int) -> bytes:
    """The field of `size` bytes at the same place in each row, behind zeros up to a block."""
    blocks = bytearray(len(rows) // width * KEY_BYTES)
    for byte in range(size):
        blocks[KEY_BYTES - size + byte :: KEY_BYTES] = rows[at + byte :: width]
    return bytes(blocks)
