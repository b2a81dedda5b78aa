"""Many connections at once for one nonce, one subject, one limit, one approval: real sockets, one winner."""

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from custody import wire
from custody.intents import KeyRef
from tests.custody.attacks.stage import Answer, Scene, question
from tests.custody.samples import COLD, sweep, token_transfer
from tests.support.signer import RunningSigner

pytestmark = pytest.mark.slow

RACERS = 40


async def race(signer: RunningSigner, questions: list[Answer]) -> list[Answer]:
    """All questions at the same moment, each on a connection of its own."""
    streams = [await asyncio.open_unix_connection(str(signer.socket)) for _ in questions]
    for (_, writer), asked in zip(streams, questions, strict=True):
        writer.write(wire.encode(asked))
    bodies = await asyncio.gather(*(wire.read_body(reader, first_byte_seconds=30) for reader, _ in streams))
    for _, writer in streams:
        writer.close()
    return [wire.decode(body) for body in bodies]


def outcomes(answers: list[Any]) -> Counter[str]:
    return Counter("signed" if "ok" in told else told["refused"]["code"] for told in answers)


async def test_f46_of_many_who_race_for_one_nonce_one_gets_it(attacked: RunningSigner, scene: Scene):
    asked = [question(scene.make(token_transfer, amount=1, nonce=0)) for _ in range(RACERS)]
    assert outcomes(await race(attacked, asked)) == {"signed": 1, "nonce_taken": RACERS - 1}
    assert scene.rows("SELECT count(*) FROM rows WHERE kind = 'signed' AND chain_id = ?", scene.chain) == [(1,)]


async def test_f46_of_many_who_race_for_one_withdrawal_one_pays_it(attacked: RunningSigner, scene: Scene):
    one = scene.make(token_transfer, amount=1)
    asked = [question(replace(one, to=bytes([1 + place]) * 20)) for place in range(RACERS)]
    assert outcomes(await race(attacked, asked)) == {"signed": 1, "attempt_differs": RACERS - 1}


async def test_of_many_who_race_for_one_limit_no_more_than_fit_are_signed(attacked: RunningSigner, scene: Scene):
    """100 each of 1,500 in the hour, from as many deposit keys and as two kinds: no nonce orders them."""
    asked = [
        question(replace(scene.authorisation(amount=100), sender=KeyRef(scene.authorisation().sender.role, place)))
        for place in range(RACERS // 2)
    ]
    asked += [
        question(scene.make(sweep, amount=100, sender=KeyRef(scene.authorisation().sender.role, place)))
        for place in range(RACERS // 2)
    ]
    assert outcomes(await race(attacked, asked)) == {"signed": 15, "over_hour_limit": RACERS - 15}


async def test_of_many_who_race_with_one_approval_one_gets_it(attacked: RunningSigner, scene: Scene):
    one = scene.make(token_transfer, subject="cld_race", to=COLD, amount=900)
    good = scene.mandate(one)
    asked = [question(replace(one, gas_limit=60_000 + place, attempt=1 + place), good) for place in range(RACERS)]
    told = outcomes(await race(attacked, asked))
    assert told["signed"] == 1
    assert told.keys() <= {"signed", "attempt_too_low", "terms_differ", "fees_not_higher"}


async def test_the_same_question_on_many_connections_gets_the_same_bytes(attacked: RunningSigner, scene: Scene):
    """The accepted twin of all races."""
    answers = await race(attacked, [question(scene.make(token_transfer, subject="wdr_twin", amount=1))] * RACERS)
    assert len({told["ok"]["raw"] for told in answers}) == 1
