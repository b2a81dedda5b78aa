import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.entropy import SeededEntropy
from fiat.references import find_references, new_reference, show

REFERENCE = new_reference(SeededEntropy(1))
references = st.integers(0, 2**64).map(lambda seed: new_reference(SeededEntropy(seed)))


def found(*texts):
    return find_references(texts).references


@given(references)
def test_a_reference_is_an_iso_11649_creditor_reference(reference):
    digits = "".join(str(int(c, 36)) for c in reference[4:] + reference[:4])
    assert len(reference) == 16
    assert int(digits) % 97 == 1


@pytest.mark.parametrize(
    "text",
    [
        REFERENCE,
        show(REFERENCE),
        show(REFERENCE).lower(),
        f"Top-up for Ada, ref. {show(REFERENCE).replace(' ', '-')}, thanks!",
        REFERENCE[:9] + "\n" + REFERENCE[9:],
        "/".join(REFERENCE),
        "RF " + REFERENCE[2:],
        "".join(chr(ord(c) + 0xFEE0) for c in REFERENCE),
        "\u00a0".join(show(REFERENCE).split()),
        REFERENCE.replace("0", "O").replace("1", "l"),
        f"2025{REFERENCE}2026",
    ],
)
def test_a_reference_is_found_however_it_is_typed(text):
    assert found(text) == {REFERENCE}


@given(references)
def test_one_wrong_digit_is_never_another_reference(reference):
    for place in (2, 3, *range(6, 16)):
        for digit in set("0123456789") - {reference[place]}:
            assert not found(reference[:place] + digit + reference[place + 1 :])


@given(references)
def test_two_swapped_digits_are_never_another_reference(reference):
    for place in (2, *range(6, 15)):
        swapped = reference[:place] + reference[place + 1] + reference[place] + reference[place + 2 :]
        assert found(swapped) == ({reference} if swapped == reference else set())


def test_a_misspelt_reference_is_told_from_none():
    wrong = REFERENCE[:-1] + ("7" if REFERENCE[-1] != "7" else "8")
    assert find_references([wrong]).misspelt
    assert find_references([REFERENCE[:9] + "X" + REFERENCE[10:]]).misspelt
    assert not find_references(["invoice 4711, RF18 5390 0754 7034"]).misspelt
    assert not find_references([f"{wrong} {REFERENCE}"]).misspelt


@given(references, references)
def test_two_references_are_both_found(one, other):
    assert found(f"{one} and {other}") == {one, other}
    assert found(one, other) == {one, other}


@given(st.text(max_size=200))
def test_any_text_can_be_searched(text):
    assert not found(text) or "RF" in text.upper()
