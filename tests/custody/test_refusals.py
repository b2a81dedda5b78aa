"""Which no comes first, what a freeze stops, and that a halt and a freeze outlive the process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from custody.approvals import freeze_statement, lift_statement, time_statement
from custody.derivation import Role
from custody.intents import KeyRef, Leg
from custody.journal import TakenBack
from tests.custody.bench import PAYOUT, Bench, benched, signed_by
from tests.custody.clocks import DAY, HOUR, MINUTE, SECOND, ManualClocks
from tests.custody.samples import (
    CHAIN,
    COLD,
    TOKEN,
    allowance,
    anchor,
    batch,
    cancel,
    dearer,
    legs,
    native_transfer,
    sweep,
    token_transfer,
    top_up,
)

TOKEN_TEXT = "0x" + TOKEN.hex()


def test_each_no_comes_before_those_after_it(bench: Bench):
    """One question that is wrong in every way; each way put right, the next no is heard."""
    paid = token_transfer()
    assert isinstance(bench.sign(paid), bytes)
    seen = bench.journal.head
    heard: list[Any] = []
    bench.clocks.wall_us -= HOUR
    bench.freeze("ada")
    wrong = {"subject": "wdr_2", "nonce": 7, "amount": 10**6}

    def ask(highest: Any = (seen.sequence, seen.hash), **changes: Any) -> None:
        heard.append(bench.sign(token_transfer(**wrong | changes), list(highest) if highest else None))

    bench.service._keys = {name: keys for name, keys in bench.service._keys.items() if name != "hot"}
    held = bench.service._keys
    ask((1, b""))
    ask()
    bench.clocks.wall_us += HOUR
    ask()
    bench.freeze("ada", "ben", lifted=True)
    ask()
    bench.again()
    assert held.keys() != bench.service._keys.keys()
    heard.append(bench.sign(token_transfer(amount=501, to=COLD, nonce=9)))
    heard.append(bench.sign(token_transfer(amount=501, to=COLD, nonce=9, attempt=2)))
    ask()
    heard.append(bench.sign(batch(PAYOUT, contract=TOKEN, legs=legs(100), nonce=9)))
    ask(amount=1)
    ask(amount=1, nonce=0)
    ask(amount=1, nonce=1)
    expected = ["malformed", "clock_behind", "frozen", "role_not_held", "attempt_differs", "second_nonce"]
    expected += ["over_transfer_limit", "allowance_missing", "nonce_not_next", "nonce_taken"]
    assert heard[:-1] == expected
    assert isinstance(heard[-1], bytes)


def test_a_halt_comes_first_and_outlives_a_restart(bench: Bench):
    assert isinstance(bench.sign(token_transfer()), bytes)
    head = bench.journal.head
    bench.clocks.wall_us -= HOUR
    assert bench.sign(token_transfer(), [head.sequence + 1, bytes(32)]) == "journal_behind", "before the clocks"
    for _ in range(2):
        for highest in (None, [head.sequence, head.hash]):
            assert bench.sign(token_transfer(), highest) == "journal_halted", "not even a repeat"
            assert bench.sign(token_transfer(chain_id=1), highest) == "journal_halted"
        told = bench.ask(call="reserve", keys="deposit", count=1, highest=None)
        assert told["refused"]["code"] == "journal_halted"
        bench.again()
    assert bench.rows("halted") == 1
    bench.clocks.wall_us += HOUR
    assert bench.freeze("ada") == "ok", "stopping more is always possible"
    assert bench.freeze("ada", "ben", lifted=True) == "ok"
    bench.resync()
    assert bench.sign(token_transfer(), None)
    assert isinstance(bench.sign(token_transfer()), bytes)
    assert bench.sign(token_transfer(subject="wdr_2", nonce=1)) == "over_gas_budget", "every window is full"
    bench.clocks.advance(DAY)
    assert isinstance(bench.sign(token_transfer(subject="wdr_2", nonce=1)), bytes)


ASKED: dict[str, Callable[[], Any]] = {
    "token": lambda: token_transfer(subject="wdr_2", nonce=1),
    "native": lambda: native_transfer(subject="wdr_3", nonce=1),
    "swept": sweep,
    "anchored": anchor,
    "gas": lambda: top_up(nonce=1),
    "repeat": token_transfer,
    "replaced": lambda: token_transfer(**dearer(token_transfer())),
    "cancelled": lambda: cancel(**dearer(token_transfer())),
    "allowed": lambda: allowance(PAYOUT, nonce=1),
}
TOKENS = {"token", "swept", "repeat", "replaced", "allowed"}
SCOPES: list[tuple[int | None, str | None, set[str]]] = [
    (None, None, set(ASKED)),
    (CHAIN, None, set(ASKED)),
    (CHAIN, TOKEN_TEXT, TOKENS),
    (CHAIN, "native", {"native", "gas"}),
    (1, None, set()),
    (1, TOKEN_TEXT, set()),
]


@pytest.mark.parametrize(("chain_id", "asset", "stopped"), SCOPES)
def test_f80_one_approver_stops_all_a_network_or_an_asset(
    bench: Bench, chain_id: int | None, asset: str | None, stopped: set[str]
):
    assert isinstance(bench.sign(token_transfer()), bytes)
    assert bench.freeze("cleo", chain_id=chain_id, asset=asset) == "ok"
    bench.again()
    for name in stopped:
        assert bench.sign(ASKED[name]()) == "frozen", name
    for name in ASKED:
        if name not in stopped and name not in ("native", "allowed", "cancelled"):
            assert isinstance(bench.sign(ASKED[name]()), bytes), name
    assert bench.freeze("cleo", lifted=True, chain_id=chain_id, asset=asset) == "approvals_missing"
    assert bench.freeze("cleo", "ada", lifted=True, chain_id=chain_id, asset=asset) == "ok"
    assert isinstance(bench.sign(token_transfer()), bytes)
    bench.again()
    assert isinstance(bench.sign(token_transfer()), bytes), "and it stays lifted"


def test_freezes_are_lifted_one_by_one(bench: Bench):
    assert bench.freeze("ada", "ben", lifted=True) == "not_frozen"
    assert bench.freeze("ada") == "ok"
    assert bench.freeze("ada", chain_id=CHAIN) == "ok"
    assert bench.freeze("ada", "ben", lifted=True, chain_id=CHAIN, asset="native") == "not_frozen"
    assert bench.freeze("ada", "ben", lifted=True) == "ok"
    assert bench.sign(token_transfer()) == "frozen"
    assert bench.freeze("ben", "cleo", lifted=True, chain_id=CHAIN) == "ok"
    assert isinstance(bench.sign(token_transfer()), bytes)


def test_a_statement_counts_once_and_as_what_it_is(bench: Bench):
    first = bench.journal.serial
    freeze = {"chain_id": None, "asset": None, "serial": first}
    statement = freeze_statement(serial=first, chain_id=None, asset=None)

    def ask(call: str, names: tuple[str, ...], signed: bytes = statement, **changes: Any) -> str:
        told = bench.ask(**{"call": call, **freeze, "signatures": signed_by(names, signed)} | changes)
        return "ok" if "ok" in told else str(told["refused"]["code"])

    assert ask("freeze", ()) == "approvals_missing"
    assert ask("freeze", ("ada",), serial="0-0123456789abcdef") == "serial_differs", "of another signer"
    assert ask("freeze", ("ada",), chain_id=CHAIN) == "approval_invalid"
    assert ask("freeze", ("ada",), lift_statement(serial=first, chain_id=None, asset=None)) == "approval_invalid"
    assert ask("freeze", ("ada", "ada")) == "approval_repeated"
    assert ask("freeze", ("ada",), signatures=[["eve", "ed25519", bytes(64)]]) == "approver_unknown"
    assert ask("freeze", ("ada",), signatures=[["ada", "rsa", bytes(64)]]) == "scheme_unknown"
    assert ask("freeze", ("ada",), signatures=[["ada", "ed25519"]]) == "intent_invalid"
    assert ask("lift", ("ada", "ben")) == "approval_invalid"
    assert not bench.journal.frozen
    assert ask("freeze", ("ada",)) == "ok"
    assert ask("freeze", ("ada",)) == "serial_differs", "the same again is a replay"
    second = bench.journal.serial
    again = lift_statement(serial=second, chain_id=None, asset=None)
    assert ask("lift", ("ada", "ben"), again, serial=second) == "ok"
    assert ask("freeze", ("ada",)) == "serial_differs"
    assert ask("lift", ("ada", "ben"), again, serial=second) == "serial_differs"
    third = bench.journal.serial
    bench.again()
    assert bench.journal.serial == third
    assert [serial.split("-")[0] for serial in (first, second, third)] == ["0", "1", "2"]
    assert len({serial.split("-")[1] for serial in (first, second, third)}) == 1


def test_statements_hold_at_the_signer_that_they_were_signed_for_alone(bench: Bench, tmp_path: Path):
    """Two installations with the same people, as a test system and the real one may be."""
    clocks = ManualClocks()
    clocks.advance(SECOND)
    with benched(tmp_path / "other", clocks=clocks) as other:
        assert other.journal.serial != bench.journal.serial
        for call, names in (("freeze", ("ada",)), ("lift", ("ada", "ben"))):
            make = freeze_statement if call == "freeze" else lift_statement
            scope: dict[str, Any] = {"chain_id": None, "asset": None, "serial": bench.journal.serial}
            asked = {"call": call, **scope, "signatures": signed_by(names, make(**scope))}
            assert other.ask(**asked)["refused"]["code"] == "serial_differs"
            moved = asked | {"serial": other.journal.serial}
            assert other.ask(**moved)["refused"]["code"] == "approval_invalid"
            assert "ok" in bench.ask(**asked)


def test_f55_a_clock_that_was_set_stops_it_until_two_confirm(bench: Bench):
    assert isinstance(bench.sign(token_transfer()), bytes)
    bench.clocks.wall_us += HOUR
    for _ in range(2):
        assert bench.sign(token_transfer(subject="wdr_2", nonce=1)) == "clock_drifts"
        assert bench.sign(token_transfer()) == "clock_drifts", "not even a repeat"
        bench.again()
    first = bench.journal.serial
    assert bench.confirm_time("ada") == "approvals_missing"
    assert bench.confirm_time("ada", "ben", seconds=bench.clocks.wall_us // SECOND - 61) == "time_differs"
    assert bench.confirm_time("ada", "ben", seconds=bench.clocks.wall_us // SECOND + 61) == "time_differs"
    assert bench.confirm_time("ada", "ben", seconds=bench.clocks.wall_us // SECOND + 60) == "ok"
    assert isinstance(bench.sign(token_transfer(subject="wdr_2", nonce=1)), bytes)
    statement = time_statement(serial=first, seconds=bench.clocks.wall_us // SECOND)
    told = bench.ask(
        call="confirm_time",
        seconds=bench.clocks.wall_us // SECOND,
        serial=first,
        signatures=signed_by(("ada", "ben"), statement),
    )
    assert told["refused"]["code"] == "serial_differs"


def test_f55_pushed_clocks_and_reboots_refill_no_window(bench: Bench):
    for number, amount in enumerate((1_000, 500)):
        assert isinstance(bench.sign(token_transfer(subject=f"wdr_{number}", nonce=number, amount=amount)), bytes)
    for _ in range(30):
        bench.clocks.reboot(down_us=2 * HOUR)
        bench.again()
    asked = token_transfer(subject="wdr_9", nonce=2, amount=1_000)
    bench.clocks.advance(MINUTE)
    assert isinstance(bench.sign(asked), bytes), "the one hour that a reboot may refill"
    assert bench.sign(token_transfer(subject="wdr_10", nonce=3, amount=1)) == "over_day_limit"
    assert bench.confirm_time("ada", "ben") == "ok"
    assert isinstance(bench.sign(token_transfer(subject="wdr_10", nonce=3, amount=1)), bytes)


def test_f55_expiries_go_by_a_time_that_never_falls(bench: Bench):
    bench.clocks.advance(DAY)
    assert isinstance(bench.sign(token_transfer()), bytes)
    at = bench.journal.last.at_us
    bench.clocks.wall_us -= SECOND
    assert isinstance(bench.sign(token_transfer(subject="wdr_2", nonce=1)), bytes)
    assert bench.journal.last.at_us == at


def test_what_a_resync_took_back_is_answered_with_those_bytes_only(bench: Bench, tmp_path: Path):
    paid = token_transfer()
    with benched(tmp_path / "lost", bench.text) as lost:
        raw = lost.sign(paid)
    bench.sign(anchor(), [99, bytes(32)])
    back = TakenBack("wdr_1", 1, paid.sender, CHAIN, 0, raw)
    bench.resync(back)
    assert bench.sign(paid) == raw
    assert bench.sign(token_transfer(amount=501)) == "taken_back"
    assert bench.sign(token_transfer(**dearer(paid))) == "taken_back"
    assert bench.sign(cancel(**dearer(paid))) == "taken_back"
    bench.clocks.advance(DAY)
    assert bench.sign(token_transfer(subject="wdr_2")) == "nonce_taken"
    assert isinstance(bench.sign(token_transfer(subject="wdr_2", nonce=1)), bytes)
    assert bench.sign(batch(PAYOUT, legs=(Leg("wdr_1", COLD, 5),), nonce=2)) == "subject_used"


def test_another_role_than_is_held_is_refused_by_name(bench: Bench):
    bench.service._keys = {Role.GAS: bench.service._keys[Role.GAS]}
    assert bench.sign(token_transfer()) == "role_not_held"
    assert bench.sign(top_up(to=KeyRef(Role.DEPOSIT, 1))) == "role_not_held"
    assert isinstance(bench.sign(anchor()), bytes)
