"""Questions that come together: the outcome is that of asking one by one, and both flushes are shared."""

import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from custody.intents import KeyRef, Leg
from custody.transactions import read
from tests.custody.bench import PAYOUT, Bench, benched, question
from tests.custody.clocks import HOUR, MINUTE
from tests.custody.samples import (
    COLD,
    DEPOSIT,
    STRANGER,
    TOKEN,
    allowance,
    anchor,
    batch,
    cancel,
    dearer,
    deployment,
    legs,
    mandate,
    native_transfer,
    proof,
    sweep,
    token_transfer,
    top_up,
)


def test_the_same_question_twice_at_once_is_signed_once(bench: Bench):
    asked = question(token_transfer())
    first, second, third = bench.service.answer_all([asked, asked, asked])
    assert first == second == third
    assert (bench.rows("intent"), bench.rows("signed")) == (1, 1)
    assert bench.service.answer(asked) == first


def test_a_refusal_between_two_good_ones_stops_neither(bench: Bench):
    told = bench.together(
        question(token_transfer()),
        question(token_transfer(subject="wdr_2", nonce=1, amount=1_001)),
        b"nonsense",
        question(token_transfer(subject="wdr_3", nonce=1)),
    )
    assert [told[1], told[2]] == ["over_transfer_limit", "malformed"]
    assert [read(raw).transaction.nonce for raw in (told[0], told[3])] == [0, 1]
    assert bench.rows("refused") == 2


def test_a_chain_of_nonces_and_a_replacement_fit_into_one_batch(bench: Bench):
    first = token_transfer()
    told = bench.together(
        question(first),
        question(token_transfer(**dearer(first))),
        question(allowance(PAYOUT, nonce=1)),
        question(batch(PAYOUT, contract=TOKEN, nonce=2)),
        question(token_transfer(subject="wdr_leg-1", nonce=3)),
        question(batch(PAYOUT, subject="bat_2", nonce=3, legs=(Leg("wdr_1", STRANGER, 1),))),
        question(token_transfer(subject="wdr_9", nonce=4)),
        question(token_transfer(subject="wdr_9", nonce=3)),
    )
    assert told[4:7] == ["subject_used", "subject_used", "nonce_not_next"]
    assert all(isinstance(raw, bytes) for raw in (*told[:4], told[7]))


def test_limits_count_within_a_batch(bench: Bench):
    told = bench.together(*(question(token_transfer(subject=f"wdr_{n}", nonce=n, amount=700)) for n in range(3)))
    assert told[2] == "over_hour_limit"
    assert all(isinstance(raw, bytes) for raw in told[:2])


def test_answers_stand_in_the_order_of_the_questions(bench: Bench):
    asked = [question(token_transfer(subject=f"wdr_{n}", nonce=n, amount=n + 1)) for n in range(6)]
    told = [read(raw).transaction for raw in bench.together(*asked)]
    assert [one.nonce for one in told] == list(range(6))
    assert [int.from_bytes(one.payload[-32:], "big") for one in told] == list(range(1, 7))


def test_each_answer_s_row_is_there(bench: Bench):
    for told in bench.service.answer_all([question(token_transfer()), b"", question(sweep())]):
        row = bench.journal.rows(first=int(str(told["sequence"])), count=1)[0]
        assert row.hash == told["head"]
        assert row.kind in ("signed", "refused")


def test_a_batch_whose_signatures_cannot_be_kept_is_finished_later(bench: Bench):
    """The second flush fails: the intents are there, and the same questions get their bytes."""
    asked = [question(token_transfer()), question(token_transfer(subject="wdr_2", nonce=1))]
    with sqlite3.connect(bench.path) as other:
        other.execute(
            "CREATE TRIGGER no BEFORE INSERT ON rows WHEN NEW.kind = 'signed' BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    with pytest.raises(sqlite3.Error):
        bench.service.answer_all(asked)
    assert (bench.rows("intent"), bench.rows("signed")) == (2, 0)
    other.execute("DROP TRIGGER no")
    other.close()
    told = bench.together(*asked)
    assert (bench.rows("intent"), bench.rows("signed")) == (2, 2)
    bench.again()
    assert bench.together(*asked) == told


def some_question(draw: random.Random) -> bytes:
    nonce, number = draw.randrange(4), draw.randrange(5)
    subject = {"subject": f"wdr_{number}", "nonce": nonce}
    amount = draw.choice([1, 400, 1_000, 1_001])
    attempt: dict[str, Any] = draw.choice([{}, {}, dearer(token_transfer()), dearer(token_transfer(), attempt=3)])
    treasury: Any = draw.choice([token_transfer(**subject, to=COLD, amount=5), deployment()])
    intent: Any = draw.choice(
        [
            token_transfer(**subject | attempt, amount=amount),
            native_transfer(**subject | attempt),
            cancel(**subject | attempt),
            sweep(subject=f"swp_{number}", sender=KeyRef(DEPOSIT.role, number), nonce=draw.randrange(2), amount=amount),
            top_up(subject=f"gas_{number}", nonce=nonce),
            anchor(subject=f"anc_{number}", nonce=nonce),
            proof(subject=f"prf_{number}"),
            allowance(PAYOUT, subject=f"alw_{number}", nonce=nonce, batch=f"bat_{number}"),
            batch(PAYOUT, subject=f"bat_{number}", contract=TOKEN, nonce=nonce, legs=legs(300)),
        ]
    )
    if draw.random() < 0.2:
        said = mandate(treasury, approvers=draw.choice([(), ("ada",), ("ada", "ben"), ("cleo", "ada")]))
        return question(treasury, mandate=said)
    return draw.choice([b"nonsense", question(intent)]) if draw.random() < 0.05 else question(intent)


@pytest.mark.parametrize("seed", range(6))
def test_asking_together_is_asking_one_by_one(tmp_path: Path, seed: int):
    draw = random.Random(seed)
    with benched(tmp_path / "together") as together, benched(tmp_path / "single") as single:
        heard: list[Any] = []
        for _ in range(12):
            asked = [some_question(draw) for _ in range(draw.randrange(1, 9))]
            told = together.together(*asked)
            assert told == [single.together(one)[0] for one in asked], f"seed {seed}"
            heard += told
            step = draw.choice([0, MINUTE, HOUR])
            together.clocks.advance(step)
            single.clocks.advance(step)
            if draw.random() < 0.2:
                together.again()
        assert sum(isinstance(one, bytes) for one in heard) > 2
        kinds = ("intent", "successor", "signed", "refused")
        assert [together.rows(kind) for kind in kinds] == [single.rows(kind) for kind in kinds]
