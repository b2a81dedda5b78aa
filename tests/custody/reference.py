"""A second opinion on keys: BIP-39 seeds and BIP-32 derivation written from the standards with hashlib and coincurve.

It shares nothing with custody/ but the curve; the tests hold it against the published vectors first.
"""

import hashlib
import hmac
from typing import NamedTuple

from coincurve import PrivateKey
from eth_utils import keccak  # type: ignore[attr-defined]

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
HARD = 2**31
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


class Node(NamedTuple):
    key: bytes
    chain: bytes
    depth: int
    parent: bytes
    number: int

    def child(self, number: int) -> "Node":
        start = b"\0" + self.key if number >= HARD else self.public()
        digest = hmac.new(self.chain, start + number.to_bytes(4, "big"), hashlib.sha512).digest()
        secret = (int.from_bytes(digest[:32], "big") + int.from_bytes(self.key, "big")) % ORDER
        return Node(secret.to_bytes(32, "big"), digest[32:], self.depth + 1, self.mark(), number)

    def path(self, *numbers: int) -> "Node":
        node = self
        for number in numbers:
            node = node.child(number)
        return node

    def public(self, *, compressed: bool = True) -> bytes:
        return PrivateKey(self.key).public_key.format(compressed=compressed)

    def mark(self) -> bytes:
        return hashlib.new("ripemd160", hashlib.sha256(self.public()).digest()).digest()[:4]

    def xpub(self) -> str:
        return self._extended(bytes.fromhex("0488b21e"), self.public())

    def xprv(self) -> str:
        return self._extended(bytes.fromhex("0488ade4"), b"\0" + self.key)

    def address(self) -> bytes:
        return keccak(self.public(compressed=False)[1:])[-20:]

    def _extended(self, version: bytes, key: bytes) -> str:
        body = version + bytes([self.depth]) + self.parent + self.number.to_bytes(4, "big") + self.chain + key
        number = int.from_bytes(body + hashlib.sha256(hashlib.sha256(body).digest()).digest()[:4], "big")
        text = ""
        while number:
            number, digit = divmod(number, 58)
            text = _BASE58[digit] + text
        return text


def master(seed: bytes) -> Node:
    digest = hmac.new(b"Bitcoin seed", seed, hashlib.sha512).digest()
    return Node(digest[:32], digest[32:], 0, bytes(4), 0)


def seed_of(words: str, passphrase: str = "") -> bytes:
    return hashlib.pbkdf2_hmac("sha512", words.encode(), b"mnemonic" + passphrase.encode(), 2048)
