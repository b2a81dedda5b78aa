"""What is found at an own address, by what it was, what it sent, and what it is now."""

import pytest

from chain.coins import shortage
from chain.foreign import (
    AccountState,
    Departure,
    Finding,
    Kind,
    KnownState,
    OpenFinding,
    Sent,
    delegate_of,
    foreign_outflow,
    foreign_transaction,
    judge,
    state_of,
)
from chain.observations import NOBODY, BlockRef
from chain.signing import Role

BLOCK = BlockRef(9, "0xb9", "0xb8")
OWN = "0x" + "01" * 20
CODE, OTHER_CODE = "0x" + "c0" * 32, "0x" + "c1" * 32


def known(role: Role = Role.HOT, block: int = 5, nonce: int = 3, code: str | None = None) -> KnownState:
    return KnownState(OWN, role, block, nonce, code)


def new(role: Role) -> KnownState:
    return KnownState(OWN, role)


@pytest.mark.parametrize(
    ("before", "told", "sent", "found"),
    [
        (known(), AccountState(3), Sent(0, 2), []),
        (known(), AccountState(5), Sent(2, 4), []),
        (known(), AccountState(6), Sent(2, 4), [(Kind.NONCE, "5 to 6")]),
        (known(), AccountState(4), Sent(2, 4), [(Kind.NONCE, "5 to 4")]),
        (known(), AccountState(3, CODE), Sent(0, 2), [(Kind.CODE, f"{CODE} at 3")]),
        (known(code=CODE), AccountState(3, CODE), Sent(0, 2), []),
        (known(code=CODE), AccountState(3), Sent(0, 2), []),
        (known(code=CODE), AccountState(3, OTHER_CODE), Sent(0, 2), [(Kind.CODE, f"{OTHER_CODE} at 3")]),
        (known(), AccountState(4, CODE), Sent(), [(Kind.CODE, f"{CODE} at 4"), (Kind.NONCE, "3 to 4")]),
        # looked at for the first time
        (new(Role.DEPOSIT), AccountState(0), Sent(), []),
        (new(Role.DEPOSIT), AccountState(1), Sent(), [(Kind.NONCE, "0 to 1")]),
        (new(Role.DEPOSIT), AccountState(2), Sent(2, 1), []),
        (new(Role.HOT), AccountState(7), Sent(), []),
        (new(Role.HOT), AccountState(7), Sent(1, 6), []),
        (new(Role.GAS), AccountState(8), Sent(1, 6), [(Kind.NONCE, "7 to 8")]),
        (new(Role.GAS), AccountState(8, CODE), Sent(1, 7), [(Kind.CODE, f"{CODE} at 8")]),
    ],
)
def test_f48_code_and_nonce_are_what_we_caused_or_found(before, told, sent, found):
    assert [(one.kind, one.what) for one in judge(before, told, sent, BLOCK)] == found


def test_a_delegation_names_whose_code_runs_and_other_code_is_none():
    target = "ab" * 20
    assert delegate_of(f"0xEF0100{target}") == "0x" + target
    assert [delegate_of(code) for code in ("", "0x", "0xef0100", "0xef0101" + target, "0xef0100" + target + "00")] == [
        None
    ] * 5
    (found,) = judge(known(), AccountState(3, CODE, "0x" + target), Sent(0, 2), BLOCK)
    assert found.words == f"it has code in block 9: that of 0x{target} by an EIP-7702 authorisation"


def test_each_finding_is_known_by_what_it_is_and_says_it():
    sent = foreign_transaction(OWN, "0xaa", 4, BLOCK)
    assert (sent.what, sent.tx_hash) == ("0xaa", "0xaa")
    assert sent.words == "transaction 0xaa with its nonce 4 in block 9 is none of ours"
    drawn = foreign_outflow(Departure(OWN, "0xbb", "log:2", "0xcc", "0xdd", 7, 9, "0xb9"))
    assert (drawn.kind, drawn.what, drawn.tx_hash) == (Kind.OUTFLOW, "0xbb/log:2", "0xbb")
    assert drawn.words == "7 units of 0xcc went to 0xdd in transaction 0xbb, which is none of ours"
    short = shortage(BLOCK, OWN, 7)
    missing = foreign_outflow(Departure(OWN, short.tx_hash, short.place, None, short.recipient, 7, 9, "0xb9"))
    assert (missing.kind, missing.tx_hash, short.recipient) == (Kind.BALANCE, None, NOBODY)
    assert missing.words == "7 wei are missing in block 9, and nothing recorded took them"


def test_what_is_accepted_is_named_by_all_that_is_open_in_any_order(clock):
    def opened(seq: int, what: str) -> OpenFinding:
        finding = Finding(
            address=OWN, kind=Kind.TRANSACTION, what=what, block_number=9, block_hash="0xb9", words="", tx_hash=what
        )
        return OpenFinding(seq, "local", finding, clock.now())

    both = [opened(1, "0xaa"), opened(2, "0xbb")]
    assert state_of(both) == state_of(both[::-1]) != state_of(both[:1])
