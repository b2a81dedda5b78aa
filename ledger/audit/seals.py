"""Seals against the journal: roots recomputed, the chain, signatures, and what was kept outside. Pure."""

from collections.abc import Collection, Mapping, Sequence

from ledger.audit.report import SEALS, Findings, Place
from ledger.audit.whole import Whole
from ledger.errors import ProofInvalid
from ledger.seals import SignedSeal


def compare_seals(
    whole: Whole, stored: Sequence[SignedSeal], *, trusted: Collection[bytes], outside: Sequence[SignedSeal]
) -> None:
    """Compare seals with the roots recomputed, with each other, with their signatures, and with those kept outside.

    Where a range wasn't read (before the last seal, in an audit since then) its root isn't judged.
    """
    findings, previous = whole.findings, None
    for expected_number, signed in enumerate(stored, start=1):
        seal = signed.seal
        where, place = f"seal {seal.number}", Place(SEALS, seal.number)
        first = previous.last_seq + 1 if previous else 1
        findings.expect(place, where, "number", expected=expected_number, found=seal.number)
        findings.expect(place, where, "first_seq", expected=first, found=seal.first_seq)
        size, root = whole.roots.get(seal.last_seq, (None, None))
        if root is not None:
            findings.expect(place, where, "commands", expected=size, found=seal.size)
            findings.expect(place, where, "root", expected=root.hex(), found=seal.root.hex())
        if seal.last_seq > whole.through:
            findings.add(place, where, "last_seq", expected=f"<= {whole.through}", found=seal.last_seq)
        before = None if previous is None else previous.digest().hex()
        findings.expect(
            place, where, "previous", expected=before, found=None if seal.previous is None else seal.previous.hex()
        )
        _check_signature(findings, signed, trusted)
        previous = seal
    _compare_outside(findings, {signed.seal.number: signed for signed in stored}, outside, trusted)


def _compare_outside(
    findings: Findings, stored: Mapping[int, SignedSeal], outside: Sequence[SignedSeal], trusted: Collection[bytes]
) -> None:
    for kept in outside:
        where, place = f"seal {kept.seal.number}", Place(SEALS, kept.seal.number)
        found = stored.get(kept.seal.number)
        if found is None:
            findings.add(place, where, "row", expected=f"root {kept.seal.root.hex()}, kept outside", found="missing")
            continue
        terms, theirs = kept.seal.terms(), found.seal.terms()
        for name in terms:
            findings.expect(place, where, f"{name} (kept outside)", expected=terms[name], found=theirs[name])
        _check_signature(findings, kept, trusted)


def _check_signature(findings: Findings, signed: SignedSeal, trusted: Collection[bytes]) -> None:
    try:
        signed.check(trusted)
    except ProofInvalid as error:
        where, place = f"seal {signed.seal.number}", Place(SEALS, signed.seal.number)
        findings.add(place, where, "signature", expected="one of its statement by a trusted key", found=error.message)
