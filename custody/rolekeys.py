"""What the signer needs of a role's keys, wherever they are: a fingerprint, addresses, signatures. Never a key.

Two kinds look the same: HD keys out of a key file (`HdKeys`, any index) and a single key inside a PKCS#11 token
(`custody.pkcs11.TokenKeys`, index 0 only, since tokens know no BIP-32).

`public` is the text that names a role's keys: an account xpub, or "secp256k1:" and the compressed public key in hex
for a single key. The fingerprint is its SHA-256, in both cases.
"""

import re
from functools import lru_cache
from typing import Final, NamedTuple, Protocol

from coincurve import PrivateKey, PublicKey

from custody.derivation import AccountKeys, AddressSource, Role, address_of, checksummed, fingerprint
from custody.errors import IntentInvalid, TokenRefused, XpubInvalid

ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
"""The order of secp256k1 (SEC 2)."""

TOKEN_ROLES: Final = (Role.HOT, Role.GAS)
"""Roles whose key can be in a token."""

_SINGLE: Final = re.compile(r"secp256k1:(0[23][0-9a-f]{64})")
_DIGEST_BYTES: Final = 32
_KEYS_AT_HAND: Final = 64
"""Derived keys that are kept: the few that sign all the time. They're no more secret than the seed beside them."""


class Signature(NamedTuple):
    """An ECDSA signature as Ethereum has it: `s` in the lower half, `y_parity` 0 or 1 leads back to the key."""

    r: int
    s: int
    y_parity: int


class RoleKeys(Protocol):
    """The keys of one role and generation. Addresses are named (role, generation, index)."""

    @property
    def role(self) -> Role: ...

    @property
    def generation(self) -> int: ...

    @property
    def public(self) -> str:
        """The account xpub, or "secp256k1:" and a compressed public key for a single key."""
        ...

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of `public`: what the policy names and people compare."""
        ...

    def address(self, index: int) -> bytes:
        """The 20 bytes of address number `index`. Raises IntentInvalid for an index that these keys don't have."""
        ...

    def sign(self, index: int, digest: bytes) -> Signature:
        """The signature of a 32-byte hash by key number `index`, low-s, which leads back to that key's address.

        Each signature is held against the key before anybody sees it: one that a fault spoilt could give the key away.
        Raises IntentInvalid like `address`.
        """
        ...


class HdKeys:
    """A role's keys derived from a seed that is held in this process."""

    def __init__(self, account: AccountKeys, *, generation: int = 1) -> None:
        self._account = account
        self._key = lru_cache(maxsize=_KEYS_AT_HAND)(self._derive)
        self._source = AddressSource(account.xpub)
        self.role = account.role
        self.generation = generation
        self.public = account.xpub
        self.fingerprint = self._source.fingerprint

    def address(self, index: int) -> bytes:
        return self._source.address(index)

    def sign(self, index: int, digest: bytes) -> Signature:
        key, public = self._key(index)
        signature = key.sign_recoverable(checked_digest(digest), hasher=None)
        found = PublicKey.from_signature_and_message(signature, digest, hasher=None)
        if found.format() != public:
            raise AssertionError("a signature doesn't lead back to its key: it isn't given away")
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
        assert s <= ORDER // 2, "libsecp256k1 signs low-s"
        return Signature(r, s, signature[64])

    def _derive(self, index: int) -> tuple[PrivateKey, bytes]:
        """A private key and its compressed public key, which lies at the address that everybody derives."""
        key = PrivateKey(self._account.private_key(index))
        public = key.public_key
        if address_of(public.format(compressed=False)) != self.address(index):
            raise AssertionError("the private and the public derivation give different addresses")
        return key, public.format()

    def __repr__(self) -> str:
        return f"HdKeys({self.role.value}, generation {self.generation})"


class SingleAddress:
    """The one address of a role whose key is in a token; beside `AddressSource`, for those who hold no keys."""

    def __init__(self, public: str) -> None:
        match = _SINGLE.fullmatch(public)
        try:
            self._key = PublicKey(bytes.fromhex(match[1] if match else ""))
        except ValueError as problem:
            raise XpubInvalid('a single key is written "secp256k1:" and its compressed public key in hex') from problem
        self.public = public
        self._address = address_of(self._key.format(compressed=False))

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the text."""
        return fingerprint(self.public)

    @property
    def uncompressed(self) -> bytes:
        """The public key's 65 bytes."""
        return self._key.format(compressed=False)

    def address(self, index: int) -> bytes:
        """The 20 bytes of address 0; there is no other. Raises IntentInvalid."""
        if index != 0:
            raise IntentInvalid(
                f"a role whose key is in a token has index 0 alone, not {index}: tokens derive no further keys",
                code="index_not_on_token",
            )
        return self._address

    def checksummed(self, index: int) -> str:
        """Address 0 in EIP-55 spelling."""
        return checksummed(self.address(index))


def address_source(public: str) -> AddressSource | SingleAddress:
    """The addresses behind the public text of a role, for those who hold no keys. Raises XpubInvalid."""
    return SingleAddress(public) if public.startswith("secp256k1:") else AddressSource(public)


def single(uncompressed: bytes) -> SingleAddress:
    """The single key whose public key has these 65 bytes. Raises XpubInvalid."""
    try:
        return SingleAddress("secp256k1:" + PublicKey(uncompressed).format(compressed=True).hex())
    except ValueError as problem:
        raise XpubInvalid("this isn't a public key on secp256k1") from problem


def recoverable(r: int, s: int, *, digest: bytes, public_key: bytes) -> Signature:
    """A foreign signer's (r, s) as Ethereum needs it: s brought into the lower half (EIP-2), the parity found by
    recovering the public key (65 bytes). Raises TokenRefused when neither parity leads to that key.
    """
    if not (0 < r < ORDER and 0 < s < ORDER):
        raise TokenRefused("the token gave something that is no signature")
    low = min(s, ORDER - s)
    for parity in (0, 1):
        compact = r.to_bytes(32, "big") + low.to_bytes(32, "big") + bytes([parity])
        try:
            found = PublicKey.from_signature_and_message(compact, digest, hasher=None)
        except Exception:  # noqa: S112 - coincurve's plain Exception: no point has that x and parity, so try the other
            continue
        if found.format(compressed=False) == public_key:
            return Signature(r, low, parity)
    raise TokenRefused("the token gave a signature by another key than the one it shows")


def checked_digest(digest: bytes) -> bytes:
    """`digest`, once it has 32 bytes. Raises IntentInvalid."""
    if len(digest) != _DIGEST_BYTES:
        raise IntentInvalid(f"a hash of {_DIGEST_BYTES} bytes is signed, not {len(digest)} bytes", code="digest_length")
    return digest
