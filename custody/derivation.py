"""BIP-32/44 on secp256k1: `m/44'/60'/role'/0/i`, one account per role, addresses without a private key from its xpub.

Separate seeds per role, and separate accounts as well, so that no xpub of one role says anything about another. Nothing
but the signer's process holds an `AccountKeys`.
"""

from enum import StrEnum
from hashlib import sha256

from bip_utils import Base58ChecksumError, Bip32KeyError, Bip32Slip10Secp256k1
from eth_utils import keccak, to_checksum_address  # type: ignore[attr-defined]

from custody.errors import IntentInvalid, XpubInvalid

MAX_INDEX = 2**31 - 1
"""The highest index that BIP-32 derives without hardening."""

_ACCOUNT_DEPTH = 3
"""m / purpose' / coin' / account'."""


class Role(StrEnum):
    """What a seed is for. Cold has none here: it is watch-only."""

    DEPOSIT = "deposit"
    HOT = "hot"
    GAS = "gas"


_ACCOUNT = {Role.DEPOSIT: 0, Role.HOT: 1, Role.GAS: 2}


def account_path(role: Role) -> str:
    """The BIP-44 account of a role, on Ethereum's coin type (60) for every EVM network."""
    return f"m/44'/60'/{_ACCOUNT[role]}'"


class AccountKeys:
    """The private keys of one role, from its seed; derives on demand and prints nothing of itself."""

    def __init__(self, role: Role, seed: bytes) -> None:
        account = Bip32Slip10Secp256k1.FromSeed(seed).DerivePath(account_path(role))
        self.role = role
        self.xpub: str = account.PublicKey().ToExtended()
        self._external = account.ChildKey(0)

    def private_key(self, index: int) -> bytes:
        """The 32 secret bytes of `m/44'/60'/role'/0/index`."""
        child = self._external.ChildKey(_checked(index))
        return bytes(child.PrivateKey().Raw().ToBytes())

    def __repr__(self) -> str:
        return f"AccountKeys({self.role.value})"


class AddressSource:
    """Derives a role's addresses from its account xpub (`m/44'/60'/role'`), as `/0/i`."""

    def __init__(self, xpub: str) -> None:
        try:
            account = Bip32Slip10Secp256k1.FromExtendedKey(xpub)
        except (Base58ChecksumError, Bip32KeyError, ValueError) as problem:
            raise XpubInvalid("this isn't an extended public key") from problem
        if not account.IsPublicOnly() or account.Depth().ToInt() != _ACCOUNT_DEPTH:
            raise XpubInvalid("an account-level extended public key is needed (m/44'/60'/role')")
        self.xpub = xpub
        self._external = account.ChildKey(0)  # kept: deriving it again would double the work per address

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the xpub's text: what people and files compare."""
        return fingerprint(self.xpub)

    def address(self, index: int) -> bytes:
        """The 20 bytes of address number `index`."""
        return address_of(self._external.ChildKey(_checked(index)).PublicKey().RawUncompressed().ToBytes())

    def checksummed(self, index: int) -> str:
        """Address number `index` in EIP-55 spelling."""
        return checksummed(self.address(index))


def fingerprint(xpub: str) -> bytes:
    """SHA-256 of an account xpub's text."""
    return sha256(xpub.encode("ascii")).digest()


def address_of(public_key: bytes) -> bytes:
    """The Ethereum address (20 bytes) of an uncompressed public key (65 bytes, first 0x04)."""
    return keccak(public_key[1:])[-20:]


def checksummed(address: bytes) -> str:
    """EIP-55 spelling of a 20-byte address."""
    return str(to_checksum_address(address))


def _checked(index: int) -> int:
    if not 0 <= index <= MAX_INDEX:
        raise IntentInvalid(f"an address index is 0 to {MAX_INDEX}, not {index}", code="index_out_of_range")
    return index
