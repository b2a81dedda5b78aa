"""What people paste where an address belongs: each wrong form is told apart, and nothing of it is repeated."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.catalogue import CATALOGUE
from chain.errors import InvalidAddress
from chain.evm.addresses import show_address
from wallet.address_forms import has_checksum, read_address
from wallet.recipients import WarningCode

GOOD = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
SECRET = "4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318"
PHRASE = "legal winner thank year wave sausage worth useful legal winner thank yellow"

WRONG = [
    # what was pasted                                         code                        says
    ("",                                                      "address_missing",          "empty"),
    ("0x",                                                    "address_length",           "too short"),
    ("0x123",                                                 "address_length",           "3 hexadecimal digits"),
    (GOOD[:-1],                                               "address_length",           "has 39"),
    (GOOD + "0",                                              "address_length",           "too long"),
    ("0x" + "g" * 40,                                         "address_not_hex",          "character 3 "),
    (GOOD[:-1] + "O",                                         "address_not_hex",          "character 42 "),
    (GOOD[:-1] + "８",                                        "address_not_hex",          "character 42 "),
    (GOOD[2:],                                                "address_without_prefix",   "begin with 0x"),
    ("0X" + GOOD[2:],                                         "address_without_prefix",   "begin with 0x"),
    (" " + GOOD,                                              "address_with_blanks",      "blank"),
    (GOOD + "\n",                                             "address_with_blanks",      "blank"),
    (GOOD[:20] + " " + GOOD[20:],                             "address_with_blanks",      "blank"),
    (GOOD[:-1] + "9",                                         "wrong_checksum",           "mistyped"),
    ("0x" + GOOD[2:].swapcase(),                              "wrong_checksum",           "mistyped"),
    ("0x" + "0" * 40,                                         "zero_address",             "zero address"),
    ("vitalik.eth",                                           "address_is_name",          "ENS"),
    ("pay.alice.example.xyz",                                 "address_is_name",          "ENS"),
    ("@bob",                                                  "address_is_handle",        "transfer"),
    ("ethereum:" + GOOD + "@1?value=1e18",                    "address_is_link",          "link"),
    ("eth:" + GOOD,                                           "address_is_link",          "network's name"),
    ("https://etherscan.io/address/" + GOOD,                  "address_is_link",          "link"),
    ("XE7338O073KYGTWWZN0F2WZ0R8PX5ZPPZS",                    "address_is_icap",          "ICAP"),
    ("XE81ETHXREGGAVOFYORK",                                  "address_is_icap",          "ICAP"),
    ("DE89370400440532013000",                                "address_is_iban",          "IBAN"),
    ("GB82WEST12345698765432",                                "address_is_iban",          "IBAN"),
    ("1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",                    "address_of_another_chain", "Bitcoin"),
    ("3J98t1WpEZ73CNmQviecrnyiWrnqRhWNLy",                    "address_of_another_chain", "Bitcoin"),
    ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",            "address_of_another_chain", "Bitcoin"),
    ("BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4",            "address_of_another_chain", "Bitcoin"),
    ("ltc1qw508d6qejxtdg4y5r3zarvary0c5xw7kgmn4n9",           "address_of_another_chain", "Litecoin"),
    ("TJRabPrwbZy45sbavfcjinPJC18kjpRTv8",                    "address_of_another_chain", "Tron"),
    ("rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh",                    "address_of_another_chain", "XRP"),
    ("7EqQdEULxWcraVx3mXKFjc84LhCkMGZCkRuDpvcMwJeK",          "address_of_another_chain", "Solana"),
    ("0x" + SECRET,                                           "hash_or_private_key",      "private key"),
    (SECRET,                                                  "hash_or_private_key",      "private key"),
    (SECRET.upper() + " ",                                    "hash_or_private_key",      "private key"),
    (SECRET + SECRET,                                         "hash_or_private_key",      "private key"),
    (PHRASE,                                                  "secret_pasted",            "recovery phrase"),
    ("5HueCGU8rMjxEXxiPuD5BDku4MkFqeZyd4dZ1jvhTVqvbTLvyTJ",   "secret_pasted",            "a key"),
    ("xprv9s21ZrQH143K3QTDL4LXw2F7HEK3wJUD2nW2nRk4stbPy6cq3jPPqjiChkVvvNKmPGJxWUtg6LnF5kejMRNNU3TGtRBeJgk33yuGBxrMPHi",
                                                              "secret_pasted",            "a key"),
    ("nobody",                                                "invalid_address",          "hexadecimal"),
    ("12345",                                                 "invalid_address",          "hexadecimal"),
]  # fmt: skip


@pytest.mark.parametrize(("pasted", "code", "says"), WRONG)
def test_each_wrong_form_has_its_own_answer_which_repeats_nothing_of_it(pasted, code, says):
    with pytest.raises(InvalidAddress) as refused:
        read_address(pasted)
    error = refused.value
    assert (error.code, error.param) == (code, "address")
    assert says in error.message
    if len(pasted) > 6:
        assert pasted.strip()[:6] not in error.message.replace("address", "")
        assert pasted not in repr(error.facts)


@settings(deadline=None)
@given(st.one_of(st.text(), st.from_regex(r"0x[0-9a-fA-F]{38,42}", fullmatch=True)))
def test_whatever_is_pasted_is_an_address_or_refused(pasted):
    try:
        found = read_address(pasted)
    except InvalidAddress:
        return
    assert found == pasted.lower()
    assert pasted in (found, "0x" + found[2:].upper(), show_address(found))


def test_without_mixed_case_no_checksum_is_asked_for_and_that_is_said():
    for text, checked in ((GOOD, True), (GOOD.lower(), False), ("0x" + GOOD[2:].upper(), False)):
        assert read_address(text) == GOOD.lower()
        assert has_checksum(text) is checked


def test_every_wrong_form_and_every_warning_has_its_page():
    codes = {code for _, code, _ in WRONG} | {code.refusal for code in WarningCode}
    assert codes - CATALOGUE.keys() == set()
