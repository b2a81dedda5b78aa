"""Payment references: what a payer writes so that the bank's line names the user. Pure.

A reference is an ISO 11649 creditor reference: `RF`, two check digits (ISO 7064 mod 97-10), then ours: `OB` and ten
digits. One wrong digit or two neighbours swapped never give another valid reference (letters in the body would lose
that: `1B` and `B1` are the same modulo 97).
"""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from base.entropy import Entropy

_BODY_DIGITS = 10
"""Digits after `OB`: with a million users, a typing error that passes the check hits somebody once in ten thousand."""

_CANDIDATE = re.compile(rf"(?=RF([0-9OIL]{{2}})[O0]B([0-9A-Z]{{{_BODY_DIGITS}}}))")
_NOISE = re.compile(r"[^0-9A-Z]")
_MISREAD = str.maketrans("OIL", "011")


@dataclass(frozen=True, slots=True)
class Found:
    """The valid references in some text, and whether something there looks like one but fails its check digits."""

    references: frozenset[str]
    misspelt: bool


def new_reference(entropy: Entropy) -> str:
    """A fresh reference in its plain form: 16 letters and digits, such as `RF96OB2718281828`."""
    return _with_check_digits(f"{int.from_bytes(entropy.draw(16)) % 10**_BODY_DIGITS:0{_BODY_DIGITS}}")


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
            reference = f"RF{check}OB{body}"
            if body.isdigit() and reference == _with_check_digits(body):
                valid.add(reference)
    return Found(frozenset(valid), misspelt=bool(candidates) and not valid)


def _with_check_digits(body: str) -> str:
    """ISO 11649: with `RF` and the digits moved to the end and letters as 10 to 35, the number is 1 modulo 97."""
    remainder = int("".join(str(int(character, 36)) for character in f"OB{body}RF00")) % 97
    return f"RF{98 - remainder:02}OB{body}"
