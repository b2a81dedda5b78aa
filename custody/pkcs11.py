"""Keys in a PKCS#11 token: hot and gas keys that are made there and never leave, and the key that wraps the seed.

Tokens know no BIP-32, so a role on a token is one key with index 0; deposit addresses need a seed, which rests in a
key file wrapped by the token's AES key. No call here reads a private key, and keys that could be read are refused.
Their backup is the token's own affair: there are no words.

A token holds, by label: "onebook hot 1" (role and generation) as a key pair, "onebook wrap" as an AES key. The PIN is
given in the same ways as a passphrase.

Not here: choosing between files and a token (stores).
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import pkcs11
from pkcs11 import Attribute, GCMParams, KeyType, MechanismFlag, ObjectClass
from pkcs11 import Mechanism as Mechanisms
from pkcs11.exceptions import (
    NoSuchKey,
    NoSuchToken,
    PinIncorrect,
    PinInvalid,
    PinLenRange,
    PinLocked,
    PKCS11Error,
    UserAlreadyLoggedIn,
)
from pkcs11.util.ec import encode_named_curve_parameters

from base.entropy import Entropy
from custody.derivation import Role
from custody.errors import (
    KeyFileExists,
    KeyFileLocked,
    KeyFileMissing,
    KeyNeeded,
    TokenRefused,
    TokenUnavailable,
    XpubInvalid,
)
from custody.keyring import compare_fingerprint
from custody.keystore import LOCKED, KeyFileHeader
from custody.rolekeys import TOKEN_ROLES, Signature, SingleAddress, checked_digest, recoverable, single
from custody.seeds import Language

WRAP_LABEL: Final = "onebook wrap"

_LABEL: Final = re.compile(rf"onebook ({'|'.join(TOKEN_ROLES)}) ([1-9][0-9]?)")
_GCM_TAG_BITS: Final = 128
_NONCE_BYTES: Final = 12
_OCTET_STRING: Final = b"\x04\x41"
"""DER of an OCTET STRING of 65 bytes, as which CKA_EC_POINT gives a public key."""


class Token:
    """A token, logged in. One per process: PKCS#11 knows a login per process only."""

    def __init__(self, session: pkcs11.Session) -> None:
        self._session = session

    @classmethod
    def open(cls, module: Path, label: str, pin: bytes, *, writable: bool = False) -> Self:
        """Load the vendor's module and log in to the token of that label.

        Raises TokenUnavailable (no module, no such token), TokenRefused (the PIN is locked), and KeyFileLocked, with
        its constant text, for a wrong PIN.
        """
        try:
            text = pin.decode()
        except UnicodeDecodeError:
            raise KeyFileLocked(LOCKED) from None
        with _spoken(f"opening the token {label!r}"):
            return cls(_token(module, label).open(user_pin=text, rw=writable))

    def close(self) -> None:
        """Log out."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def generate(self, role: Role, generation: int = 1) -> "TokenKeys":
        """Make a role's key pair in the token, not to be extracted. Raises KeyFileExists, TokenRefused."""
        if role not in TOKEN_ROLES:
            raise TokenRefused(
                f"{role.value} needs many addresses, and a token derives none: its seed goes into a file"
            )
        if (role, generation) in self.present():
            raise KeyFileExists(f"the token has a {role.value} key of generation {generation}: none is written over")
        curve = {Attribute.EC_PARAMS: encode_named_curve_parameters("secp256k1")}
        with _spoken("making a secp256k1 key"):
            self._session.create_domain_parameters(KeyType.EC, curve, local=True).generate_keypair(
                store=True,
                label=_label(role, generation),
                id=_label(role, generation).encode(),
                capabilities=MechanismFlag.SIGN | MechanismFlag.VERIFY,
                private_template={Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False, Attribute.DERIVE: False},
            )
        return self.keys(role, generation)

    def generate_wrap_key(self) -> None:
        """Make the AES key that wraps seeds, unless the token has it. Raises TokenRefused."""
        if self._has(ObjectClass.SECRET_KEY, WRAP_LABEL):
            return
        with _spoken("making an AES key"):
            self._session.generate_key(
                KeyType.AES,
                256,
                store=True,
                label=WRAP_LABEL,
                id=WRAP_LABEL.encode(),
                capabilities=MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT,
                template={Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False},
            )

    def present(self) -> list[tuple[Role, int]]:
        """The (role, generation) of every key pair of ours in the token, in order."""
        with _spoken("listing keys"):
            labels = [str(key[Attribute.LABEL]) for key in self._session.get_objects(_PRIVATE)]
        found = {(Role(match[1]), int(match[2])) for match in map(_LABEL.fullmatch, labels) if match is not None}
        return sorted(found, key=lambda key: (list(Role).index(key[0]), key[1]))

    def keys(self, role: Role, generation: int = 1) -> "TokenKeys":
        """A role's key. Raises KeyFileMissing, and TokenRefused when it could be read or was made elsewhere."""
        with _spoken("reading a key's attributes"):
            private = self._one(ObjectClass.PRIVATE_KEY, _label(role, generation))
            public = self._one(ObjectClass.PUBLIC_KEY, _label(role, generation))
            _refuse_readable(private, f"the {role.value} key")
            point = bytes(public[Attribute.EC_POINT])
        return TokenKeys(role, generation, private, _single(point))

    def destroy(self, role: Role, generation: int, *, typed: str, force: bool = False) -> None:
        """Remove a role's key pair from the token, for good. `typed` is its fingerprint as a person typed it.

        Raises KeyFileMissing, FingerprintDiffers, KeyNeeded when it is the role's only key there and not forced.
        """
        compare_fingerprint(typed, self.keys(role, generation).fingerprint)
        if [held for held in self.present() if held[0] is role] == [(role, generation)] and not force:
            raise KeyNeeded(
                f"this is the token's only {role.value} key: what lies at its address would be out of reach"
            )
        with _spoken("destroying a key"):
            for kind in (ObjectClass.PRIVATE_KEY, ObjectClass.PUBLIC_KEY):
                self._one(kind, _label(role, generation)).destroy()

    def wrap(self) -> "TokenWrap":
        """The wrap of seeds by this token. Raises KeyFileMissing, TokenRefused."""
        with _spoken("reading a key's attributes"):
            key = self._one(ObjectClass.SECRET_KEY, WRAP_LABEL)
            _refuse_readable(key, "the wrapping key")
        return TokenWrap(key)

    def _has(self, kind: ObjectClass, label: str) -> bool:
        with _spoken("listing keys"):
            return any(True for _ in self._session.get_objects({Attribute.CLASS: kind, Attribute.LABEL: label}))

    def _one(self, kind: ObjectClass, label: str) -> pkcs11.Object:
        found = list(self._session.get_objects({Attribute.CLASS: kind, Attribute.LABEL: label}))
        if len(found) > 1:
            raise TokenRefused(f"the token has {len(found)} objects {label!r}: remove those that aren't ours")
        if not found:
            raise KeyFileMissing(f"the token has no key {label!r}: make it with `onebook keys ceremony --pkcs11-token`")
        return found[0]


_PRIVATE: Final = {Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.KEY_TYPE: KeyType.EC}


class TokenKeys:
    """A role's one key in a token; looks to the signer like keys from a file."""

    def __init__(self, role: Role, generation: int, key: pkcs11.Object, public: SingleAddress) -> None:
        self._key = key
        self._single = public
        self.role = role
        self.generation = generation
        self.public = public.public
        self.fingerprint = public.fingerprint

    def address(self, index: int) -> bytes:
        return self._single.address(index)

    def sign(self, index: int, digest: bytes) -> Signature:
        self.address(index)
        digest = checked_digest(digest)
        with _spoken("signing"):
            told = self._key.sign(digest, mechanism=Mechanisms.ECDSA)  # type: ignore[attr-defined]
        r, s = int.from_bytes(told[:32], "big"), int.from_bytes(told[32:], "big")
        return recoverable(r, s, digest=digest, public_key=self._single.uncompressed)

    def __repr__(self) -> str:
        return f"TokenKeys({self.role.value}, generation {self.generation})"


@dataclass(frozen=True, slots=True)
class TokenWrap:
    """AES-256-GCM by a key that stays in the token; the file's header is authenticated as with a passphrase."""

    _key: pkcs11.Object

    def header(
        self, role: Role, mark: bytes, *, generation: int, language: Language, entropy: Entropy
    ) -> KeyFileHeader:
        nonce = entropy.draw(_NONCE_BYTES)
        return KeyFileHeader(role, mark, None, b"", nonce, generation, language, token_key=WRAP_LABEL)

    def seal(self, header: KeyFileHeader, secret: bytes) -> bytes:
        with _spoken("wrapping a seed (AES-GCM)"):
            return bytes(
                self._key.encrypt(  # type: ignore[attr-defined]
                    secret, mechanism=Mechanisms.AES_GCM, mechanism_param=_gcm(header)
                )
            )

    def open(self, header: KeyFileHeader, sealed: bytes) -> bytes | None:
        if header.token_key != WRAP_LABEL:
            return None
        try:
            return bytes(
                self._key.decrypt(  # type: ignore[attr-defined]
                    sealed, mechanism=Mechanisms.AES_GCM, mechanism_param=_gcm(header)
                )
            )
        except PKCS11Error:  # tokens have several names for a tag that doesn't fit
            return None


def _token(module: Path, label: str) -> pkcs11.Token:
    """The token of that label in the vendor's library. Raises TokenUnavailable, PKCS11Error."""
    try:
        library = pkcs11.lib(str(module))
    except PKCS11Error as problem:
        if type(problem) is not PKCS11Error:  # it was loaded, and can't begin
            raise
        why = f"can't be loaded ({str(problem).rsplit(': ', 1)[-1]})" if module.exists() else "isn't there"
        raise TokenUnavailable(
            f"the PKCS#11 module {module} {why}: install the token's software, or correct its path (pkcs11_module in "
            "onebook.toml, --pkcs11-module)"
        ) from problem
    return library.get_token(token_label=label)


def _gcm(header: KeyFileHeader) -> GCMParams:
    return GCMParams(header.nonce, header.encode(), _GCM_TAG_BITS)


def _label(role: Role, generation: int) -> str:
    return f"onebook {role.value} {generation}"


def _single(point: bytes) -> SingleAddress:
    """The key behind a CKA_EC_POINT, which tokens give bare or as a DER OCTET STRING."""
    try:
        return single(point.removeprefix(_OCTET_STRING))
    except XpubInvalid as problem:
        raise TokenRefused("the token shows a public key that isn't on the curve secp256k1") from problem


def _refuse_readable(key: pkcs11.Object, name: str) -> None:
    """Only a key that was made in the token and could never be read is used."""
    wanted = {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False, Attribute.LOCAL: True}
    wanted |= {Attribute.ALWAYS_SENSITIVE: True, Attribute.NEVER_EXTRACTABLE: True}
    wrong = [attribute.name for attribute, value in wanted.items() if bool(key[attribute]) is not value]
    if wrong:
        raise TokenRefused(
            f"{name} in the token could have been read outside of it ({', '.join(wrong)}): make one inside instead"
        )


@contextmanager
def _spoken(doing: str) -> Iterator[None]:
    """PKCS#11's errors as ours; a wrong PIN sounds like a wrong passphrase."""
    try:
        yield
    except (PinIncorrect, PinInvalid, PinLenRange):
        raise KeyFileLocked(LOCKED) from None
    except PinLocked as problem:
        raise TokenRefused("the token locked its PIN after wrong ones: unlock it with the officer's PIN") from problem
    except NoSuchToken as problem:
        raise TokenUnavailable(f"{doing}: no such token; is it plugged in, and is the label right?") from problem
    except NoSuchKey as problem:
        raise KeyFileMissing(f"{doing}: the token has no such key") from problem
    except UserAlreadyLoggedIn as problem:
        raise TokenUnavailable(f"{doing}: this process has it open already") from problem
    except (pkcs11.MechanismInvalid, pkcs11.FunctionNotSupported, pkcs11.DomainParamsInvalid) as problem:
        raise TokenRefused(f"{doing}: the token can't do that ({type(problem).__name__})") from problem
    except PKCS11Error as problem:
        raise TokenUnavailable(f"{doing}: the token failed ({type(problem).__name__} {problem})".rstrip()) from problem
