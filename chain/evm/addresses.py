"""Ethereum addresses as text: lower-case inside, with the checksum of EIP-55 outside. Pure."""

import re

from eth_hash.auto import keccak

from base.rlp import encode_list, encode_number, encode_string
from chain.errors import InvalidAddress

ZERO = "0x" + "00" * 20
"""Nobody holds it; tokens use it as the counterpart of minting and burning."""

_FORM = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)


def parse_address(text: str, *, param: str = "address") -> str:
    """The lower-case form of an address. One in mixed case must carry the right checksum (EIP-55).

    Raises InvalidAddress for another form, a wrong checksum, and the zero address.
    """
    if not isinstance(text, str) or not _FORM.fullmatch(text):
        raise InvalidAddress("an address is 0x and 40 hexadecimal digits", param=param)
    digits = text[2:]
    if digits not in (digits.lower(), digits.upper()) and show_address(text) != text:
        raise InvalidAddress(
            "the address's checksum (its capital letters) is wrong: a character is mistyped",
            code="wrong_checksum",
            param=param,
        )
    if text.lower() == ZERO:
        raise InvalidAddress("nobody holds the zero address", code="zero_address", param=param)
    return text.lower()


def show_address(address: str) -> str:
    """The form for people, with its checksum (EIP-55)."""
    from eth_utils.address import to_checksum_address  # most commands show none

    return str(to_checksum_address(address))


def created_address(creator: str, nonce: int) -> str:
    """The lower-case address of the contract that `creator` makes with its transaction number `nonce`.

    Yellow Paper, 7: the last 20 bytes of keccak(rlp([creator, nonce])).
    """
    made = encode_list((encode_string(bytes.fromhex(creator[2:])), encode_number(nonce)))
    return "0x" + keccak(made)[-20:].hex()
