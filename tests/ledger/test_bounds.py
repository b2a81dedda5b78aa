"""What nobody can mean is an error of its caller at once: it's neither queued nor remembered."""

import pytest

from ledger.bounds import COMMANDS_MAX, KEY_MAX, PAIRS_MAX, POSTINGS_MAX, TEXT_MAX, VALUE_MAX, check_group
from ledger.commands import Charge, Group, Hold, OpenAccount, Post, Posting, alone
from ledger.errors import InvalidCommand

POSTING = Posting(debit="usr_a/wallet/USD", credit="usr_b/wallet/USD", asset="USD", amount=1)


def post(name="c", **more):
    return Post(id=name, postings=(POSTING,), **more)


@pytest.mark.parametrize(
    "group",
    [
        Group(()),
        Group((post("same"), post("same"))),
        Group(tuple(post(f"c{n}") for n in range(COMMANDS_MAX + 1))),
        alone(post("")),
        alone(post("x" * (TEXT_MAX + 1))),
        alone(post("nul\0")),
        alone(post("half \ud800")),
        alone(post(subject="")),
        alone(post(subject="s" * (TEXT_MAX + 1))),
        alone(post(metadata={f"k{n}": "v" for n in range(PAIRS_MAX + 1)})),
        alone(post(metadata={"": "v"})),
        alone(post(metadata={"k" * (KEY_MAX + 1): "v"})),
        alone(post(metadata={"k": "v" * (VALUE_MAX + 1)})),
        alone(post(metadata={"k": "\udfff"})),
        alone(post(charges=(Charge("", 1, 2),))),
        alone(Post(id="c", postings=(POSTING,) * (POSTINGS_MAX + 1))),
        alone(Hold(id="c", postings=(Posting("a/b/USD", "c/d/USD", "USD", 1, debit_rest="e/f/USD"),))),
        alone(OpenAccount(id="c", account="no account")),
    ],
)
def test_what_nobody_can_mean_is_an_error(group):
    with pytest.raises(InvalidCommand):
        check_group(group)


@pytest.mark.parametrize(
    "group",
    [
        alone(post("x" * TEXT_MAX)),
        alone(post(subject="a name\nin two lines, 中文 und Öl 🙂")),
        alone(post(metadata={"empty": "", "long": "v" * VALUE_MAX})),
        Group(tuple(post(f"c{n}") for n in range(COMMANDS_MAX))),
    ],
)
def test_what_can_be_stored_passes(group):
    check_group(group)
