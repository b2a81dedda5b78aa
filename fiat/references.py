"""Payment references: what a payer writes so that the bank's line names the user. Pure.

A reference is an ISO 11649 creditor reference: `RF`, two check digits (ISO 7064 mod 97-10), then ours: `OB` and ten
characters of Crockford's base 32. One wrong character or two swapped ones never give another valid reference.
"""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from base.entropy import Entropy

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32: no I, L, O or U, which people misread."""

_BODY_LENGTH = 10
"""Characters after `OB`: 50 random bits, so that nobody guesses another's."""

_CANDIDATE = re.compile(rf"(?=RF([0-9OIL]{{2}})[O0]B([0-9A-Z]{{{_BODY_LENGTH}}}))")
_NOISE = re.compile(r"[^0-9A-Z]")
_MISREAD = str.maketrans("OIL", "011")


@dataclass(frozen=True, slots=True)
class Found:
    """The valid references in some text, and whether something there looks like one but fails its check digits."""

    references: frozenset[str]
    misspelt: bool


def new_reference(entropy: Entropy) -> str:
    """A fresh reference in its plain form: 16 letters and digits, such as `RF18OB7K2M9QX4AC`."""
    return _with_check_digits("".join(_ALPHABET[byte & 31] for byte in entropy.draw(_BODY_LENGTH)))


def show(reference: str) -> str:
    """The reference in groups of four, as ISO 11649 prints it."""
    return " ".join(reference[start : start + 4] for start in range(0, len(reference), 4))


def find_references(texts: Iterable[str]) -> Found:
    """Every valid reference of ours in `texts`, each searched as a whole.

    Spaces, dashes, line breaks, case, full-width letters and the misreadings O for 0, I and L for 1 don't matter.
    """
    valid: set[str] = set()
    candidates = 0
    for text in texts:
        compact = _NOISE.sub("", unicodedata.normalize("NFKC", text).upper())
        for match in _CANDIDATE.finditer(compact):
            candidates += 1
            check, body = (part.translate(_MISREAD) for part in match.groups())
            if (reference := _with_check_digits(body)) == f"RF{check}OB{body}":
                valid.add(reference)
    return Found(frozenset(valid), misspelt=bool(candidates) and not valid)


def _with_check_digits(body: str) -> str:
    """ISO 11649: with `RF` and the digits moved to the end and letters as 10 to 35, the number is 1 modulo 97."""
    remainder = int("".join(str(int(character, 36)) for character in f"OB{body}RF00")) % 97
    return f"RF{98 - remainder:02}OB{body}"
