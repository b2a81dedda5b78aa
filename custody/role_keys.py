"""The keys of one role, wherever they rest: what the signer asks of a key store. No call gives a private key away."""

from typing import Protocol

from custody.derivation import AccountKeys, AddressSource, Role
from custody.transactions import in_memory


class RoleKeys(Protocol):
    """Signs for one role."""

    @property
    def role(self) -> Role: ...

    @property
    def xpub(self) -> str | None:
        """The account's extended public key; None where keys aren't derived."""
        ...

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the account xpub (or of the public key): what people, files and policies compare."""
        ...

    def address(self, index: int) -> bytes:
        """The 20 bytes of address number `index`. Raises IntentInvalid for one that there isn't."""
        ...

    def sign(self, index: int, digest: bytes) -> tuple[int, int, int]:
        """r, s (low) and y parity of a signature over 32 bytes by key number `index`."""
        ...


class SeedKeys:
    """Keys derived in memory from a seed."""

    def __init__(self, account: AccountKeys) -> None:
        self._account = account
        self._source = AddressSource(account.xpub)
        self.role = account.role
        self.xpub: str | None = account.xpub
        self.fingerprint = self._source.fingerprint

    def address(self, index: int) -> bytes:
        return self._source.address(index)

    def sign(self, index: int, digest: bytes) -> tuple[int, int, int]:
        return in_memory(self._account.private_key(index))(digest)

    def __repr__(self) -> str:
        return f"SeedKeys({self.role.value})"
