"""BIP-32/44 on secp256k1: `m/44'/60'/role'/0/i`, one account per role, addresses without a private key from its xpub.

Separate seeds per role, and separate accounts as well, so that no xpub of one role says anything about another. Nothing
but the signer's process holds an `AccountKeys`. Accounts and xpubs are read and written by bip-utils, which is strict;
the one step that is taken a million times, from an account's external chain to its children, is libsecp256k1's.

bip-utils is imported with the first account that is read: it takes as long as all the rest that a command needs.
"""

import hmac
from enum import StrEnum
from hashlib import sha256
from typing import Final

from coincurve import PrivateKey, PublicKey
from Crypto.Hash import keccak as _keccak

from custody.errors import IntentInvalid, NoKeyAtIndex, XpubInvalid

MAX_INDEX = 2**31 - 1
"""The highest index that BIP-32 derives without hardening."""

_ACCOUNT_DEPTH = 3
"""m / purpose' / coin' / account'."""

_EXTERNAL: Final = 0
"""The chain for addresses that others pay to (BIP-44)."""

_ADDRESS_BYTES: Final = 20


class Role(StrEnum):
    """What a seed is for. Cold has none here: it is watch-only."""

    DEPOSIT = "deposit"
    HOT = "hot"
    GAS = "gas"


_ACCOUNT = {Role.DEPOSIT: 0, Role.HOT: 1, Role.GAS: 2}


def account_path(role: Role) -> str:
    """The BIP-44 account of a role, on Ethereum's coin type (60) for every EVM network."""
    return f"m/44'/60'/{_ACCOUNT[role]}'"


class Children:
    """What BIP-32 adds to a parent's key for each of its children that aren't hardened."""

    def __init__(self, public_key: bytes, chain_code: bytes) -> None:
        self._mac = hmac.new(chain_code, public_key, "sha512")  # keyed and fed once; copied for each child

    def tweak(self, index: int) -> bytes:
        """I_L of child `index`: the 32 bytes to add to the parent's key, as a scalar or times the generator.

        Raises IntentInvalid for an index that is negative or hardened.
        """
        mac = self._mac.copy()
        mac.update(_checked(index).to_bytes(4, "big"))
        return mac.digest()[:32]


class AccountKeys:
    """The private keys of one role, from its seed; derives on demand and prints nothing of itself."""

    def __init__(self, role: Role, seed: bytes) -> None:
        from bip_utils import Bip32Slip10Secp256k1

        account = Bip32Slip10Secp256k1.FromSeed(seed).DerivePath(account_path(role))
        external = account.ChildKey(_EXTERNAL)
        self.role = role
        self.xpub: str = account.PublicKey().ToExtended()
        self._parent = PrivateKey(external.PrivateKey().Raw().ToBytes())
        self._children = Children(self._parent.public_key.format(), external.ChainCode().ToBytes())

    def private_key(self, index: int) -> bytes:
        """The 32 secret bytes of `m/44'/60'/role'/0/index`. Raises NoKeyAtIndex, IntentInvalid."""
        return child_secret(self._parent, self._children.tweak(index))

    def __repr__(self) -> str:
        return f"AccountKeys({self.role.value})"


class AddressSource:
    """Derives a role's addresses from its account xpub (`m/44'/60'/role'`), as `/0/i`."""

    def __init__(self, xpub: str) -> None:
        from bip_utils import Base58ChecksumError, Bip32KeyError, Bip32Slip10Secp256k1

        try:
            account = Bip32Slip10Secp256k1.FromExtendedKey(xpub)
        except (Base58ChecksumError, Bip32KeyError, ValueError) as problem:
            raise XpubInvalid("this isn't an extended public key") from problem
        if not account.IsPublicOnly() or account.Depth().ToInt() != _ACCOUNT_DEPTH:
            raise XpubInvalid("an account-level extended public key is needed (m/44'/60'/role')")
        external = account.ChildKey(_EXTERNAL)
        public_key = external.PublicKey().RawCompressed().ToBytes()
        self.xpub = xpub
        self._parent = PublicKey(public_key)
        self._children = Children(public_key, external.ChainCode().ToBytes())

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the xpub's text: what people and files compare."""
        return fingerprint(self.xpub)

    def address(self, index: int) -> bytes:
        """The 20 bytes of address number `index`. Raises NoKeyAtIndex, IntentInvalid."""
        return address_of(child_point(self._parent, self._children.tweak(index)))

    def checksummed(self, index: int) -> str:
        """Address number `index` in EIP-55 spelling."""
        return checksummed(self.address(index))


def child_secret(parent: PrivateKey, tweak: bytes) -> bytes:
    """The child's secret: parent + tweak, modulo the order. Raises NoKeyAtIndex (BIP-32: skip to the next index)."""
    try:
        return parent.add(tweak).secret
    except ValueError:
        raise _no_key() from None  # nothing of the parent into a traceback


def child_point(parent: PublicKey, tweak: bytes) -> bytes:
    """The child's uncompressed public key (65 bytes): parent + tweak * G. Raises NoKeyAtIndex."""
    try:
        return parent.add(tweak).format(compressed=False)
    except ValueError:
        raise _no_key() from None


def fingerprint(xpub: str) -> bytes:
    """SHA-256 of an account xpub's text."""
    return sha256(xpub.encode("ascii")).digest()


def keccak(message: bytes) -> bytes:
    """Keccak-256 as Ethereum means it, the padding of before SHA-3. Straight from where eth_utils gets it."""
    return _keccak.new(data=message, digest_bits=256).digest()


def address_of(public_key: bytes) -> bytes:
    """The Ethereum address (20 bytes) of an uncompressed public key (65 bytes, first 0x04)."""
    return keccak(public_key[1:])[-_ADDRESS_BYTES:]


def checksummed(address: bytes) -> str:
    """EIP-55 spelling of a 20-byte address: a letter is a capital where the hash of the digits has 8 or more."""
    digits = address.hex()
    marks = keccak(digits.encode("ascii")).hex()
    return "0x" + "".join(digit.upper() if mark > "7" else digit for digit, mark in zip(digits, marks, strict=False))


def _no_key() -> NoKeyAtIndex:
    """I_L isn't below the order, or the sum is the point at infinity (or zero): one index in 2**127."""
    return NoKeyAtIndex("BIP-32 gives no key at this index: take the next one")


def _checked(index: int) -> int:
    if not 0 <= index <= MAX_INDEX:
        raise IntentInvalid(f"an address index is 0 to {MAX_INDEX}, not {index}", code="index_out_of_range")
    return index
