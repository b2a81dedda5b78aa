"""What people paste where an address belongs, told apart by its form, so that each mistake gets its own answer. Pure.

Nothing of what was pasted is repeated in an answer or a log: it may be the key to all that its owner has.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from chain.errors import InvalidAddress
from chain.evm.addresses import parse_address

DIGITS = 40
"""Hexadecimal digits of an address."""

KEY_DIGITS = frozenset({64, 128})
"""Of a private key, a transaction's hash, or a whole seed."""

WORDS_LEAST = 12
"""A recovery phrase (BIP-39) has at least so many."""

_HEX = re.compile(r"[0-9a-fA-F]+", re.ASCII)
_BASE58 = r"[1-9A-HJ-NP-Za-km-z]"
_EXTENDED_KEY = re.compile(rf"[xyztuv](prv|pub){_BASE58}{{100,}}", re.ASCII)
_WALLET_IMPORT = re.compile(rf"[5KL9c]{_BASE58}{{50,51}}", re.ASCII)
_ICAP = re.compile(r"XE[0-9]{2}[0-9A-Z]{16,31}", re.ASCII)
_IBAN = re.compile(r"[A-Z]{2}[0-9]{2}[0-9A-Z]{11,30}", re.ASCII)
_LINK = re.compile(r"[a-z][a-z0-9+.-]*:.+", re.ASCII | re.IGNORECASE | re.DOTALL)
_NAME = re.compile(r"[^\s/:@.]+(\.[^\s/:@.]+)*\.[^\W\d_]{2,}")

_ELSEWHERE: tuple[tuple[str, re.Pattern[str]], ...] = (
    # the first that fits; bech32 before base58, and the chains with a first letter of their own before those without
    ("Bitcoin", re.compile(r"(bc|tb|bcrt)1[02-9ac-hj-np-z]{11,87}", re.ASCII | re.IGNORECASE)),
    ("Litecoin", re.compile(r"ltc1[02-9ac-hj-np-z]{11,87}", re.ASCII | re.IGNORECASE)),
    ("Cardano", re.compile(r"addr1[02-9ac-hj-np-z]{20,}", re.ASCII | re.IGNORECASE)),
    ("Tron", re.compile(rf"T{_BASE58}{{33}}", re.ASCII)),
    ("Bitcoin", re.compile(rf"[13]{_BASE58}{{24,34}}", re.ASCII)),
    ("Litecoin", re.compile(rf"[LM]{_BASE58}{{32,33}}", re.ASCII)),
    ("XRP Ledger", re.compile(rf"r{_BASE58}{{24,34}}", re.ASCII)),
    ("Solana", re.compile(rf"{_BASE58}{{32,44}}", re.ASCII)),
)
"""Other chains' addresses by their form (BIP-173, Base58Check); not checked further, since none of them can be paid."""


@dataclass(frozen=True, slots=True)
class _Form:
    """A form that is no address: how it's recognised, and what is said of it."""

    code: str
    fits: Callable[[str], bool]
    says: str


def read_address(text: str, *, param: str = "address") -> str:
    """The lower-case form of an address that somebody gave.

    All lower and all upper case carry no checksum and are taken; mixed case must carry the right one (EIP-55). Raises
    InvalidAddress with a code for each wrong form, and never with the text itself.
    """
    stripped = text.strip()
    for form in _SECRETS:
        if form.fits(stripped):
            raise InvalidAddress(form.says, code=form.code, param=param)
    if text != stripped or len(text.split()) > 1:
        raise InvalidAddress("there is a blank or a line break in the address", code="address_with_blanks", param=param)
    if not text:
        raise InvalidAddress("the address is empty", code="address_missing", param=param)
    for form in _FORMS:
        if form.fits(text):
            raise InvalidAddress(form.says, code=form.code, param=param)
    for chain, pattern in _ELSEWHERE:
        if pattern.fullmatch(text):
            raise InvalidAddress(
                f"this looks like an address of {chain}, a chain that isn't paid from here",
                code="address_of_another_chain",
                param=param,
                chain=chain,
            )
    _check_digits(text, param)
    return parse_address(text, param=param)


def has_checksum(text: str) -> bool:
    """Whether the address's letters carry one: both cases stand in it (EIP-55)."""
    digits = text[2:]
    return digits not in (digits.lower(), digits.upper())


def _check_digits(text: str, param: str) -> None:
    """Raise what is wrong with the digits of what begins, or should begin, with 0x."""
    if not text.startswith("0x"):
        bare = text[2:] if text[:2] == "0X" else text
        if len(bare) == DIGITS and _HEX.fullmatch(bare):
            raise InvalidAddress("the address doesn't begin with 0x", code="address_without_prefix", param=param)
        return
    digits = text[2:]
    wrong = next((place for place, digit in enumerate(digits, 3) if not _HEX.fullmatch(digit)), None)
    if wrong is not None:
        raise InvalidAddress(
            f"character {wrong} of the address isn't a hexadecimal digit (0-9, a-f)",
            code="address_not_hex",
            param=param,
            position=wrong,
        )
    if len(digits) != DIGITS:
        how = "short" if len(digits) < DIGITS else "long"
        raise InvalidAddress(
            f"the address is too {how}: it has {len(digits)} hexadecimal digits after 0x, an address has {DIGITS}",
            code="address_length",
            param=param,
            digits=len(digits),
            expected=DIGITS,
        )


def _is_key_or_hash(text: str) -> bool:
    digits = text[2:] if text[:2] in ("0x", "0X") else text
    return len(digits) in KEY_DIGITS and _HEX.fullmatch(digits) is not None


def _is_phrase(text: str) -> bool:
    words = text.split()
    return len(words) >= WORDS_LEAST and all(word.isalpha() for word in words)


def _is_key_text(text: str) -> bool:
    return bool(_EXTENDED_KEY.fullmatch(text) or _WALLET_IMPORT.fullmatch(text))


def _is_iban(text: str) -> bool:
    return _IBAN.fullmatch(text) is not None


_SECRETS = (
    _Form(
        "hash_or_private_key",
        _is_key_or_hash,
        "this has the form of a transaction's hash or of a private key, not of an address",
    ),
    _Form("secret_pasted", _is_phrase, "this has the form of a recovery phrase, not of an address"),
    _Form("secret_pasted", _is_key_text, "this has the form of a key, not of an address"),
)
"""What may be somebody's secret: looked at first, so that no other answer can tell anything of it."""

_FORMS = (
    _Form(
        "address_is_icap",
        lambda text: _ICAP.fullmatch(text) is not None,
        "this is an ICAP code (it begins with XE), which isn't read here",
    ),
    _Form("address_is_iban", _is_iban, "this looks like a bank account's IBAN; a withdrawal pays over a chain"),
    _Form(
        "address_is_link",
        lambda text: _LINK.fullmatch(text) is not None,
        "this is a link or carries a network's name before the address",
    ),
    _Form(
        "address_is_handle",
        lambda text: text.startswith("@"),
        "this is the handle of a user here: a transfer reaches them at once and costs no network fee",
    ),
    _Form(
        "address_is_name",
        lambda text: _NAME.fullmatch(text) is not None,
        "this is a name; names (ENS) aren't looked up here, since whoever owns one can change where it leads",
    ),
)
