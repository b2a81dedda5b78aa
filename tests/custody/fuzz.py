"""Fuzzes what the signer reads: valid questions altered in structure or in bytes, and bytes of no meaning.

    python -m tests.custody.fuzz --seconds 60 --seed 7

Each is given to the decoders in this process, which may raise nothing but IntentInvalid, and to a real signer through
its socket. A model of the policy, written apart from it, says which signatures may come back. It fails on any other
exception, on a signature that the model doesn't expect, on an answer that isn't one, and on a signer that has died.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cbor2

from custody import wire
from custody.approvals import mandate_from, mandate_map
from custody.claims import claims_from
from custody.errors import IntentInvalid
from custody.intents import PayoutBatch, from_map, to_map
from custody.policy_file import parse
from tests.custody.attacks.stage import Line, swap
from tests.custody.fuzz_model import Model, Unexpected
from tests.custody.samples import (
    CHAIN,
    COLD,
    FEE_WEI_MAX,
    GWEI,
    STRANGER,
    anchor,
    authorisation,
    batch,
    cancel,
    deployment,
    full_policy,
    mandate,
    native_transfer,
    proof,
    sweep,
    token_transfer,
    top_up,
)
from tests.support.signer import RunningSigner, start_signer

ODD: tuple[Any, ...] = (
    *(0, 1, -1, 23, 24, 255, 256, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 2**128, 2**255, 2**256 - 1),
    *(2**256, 2**2000, 2**20_000, -(2**63), -(2**64), -(2**300)),
    *(True, False, None, 0.0, -0.0, 1.5, float("nan"), float("inf"), 1e300, cbor2.undefined),
    *("", "x", "wdr_1", "wdr_1\n", "native", "hot", "\x00", "\U0001f4b0" * 20, "٣", "a" * 5000),
    *(b"", b"\0", bytes(20), bytes(19), bytes(21), bytes(32), bytes(33), bytes(64), bytes(65), bytes(3000), STRANGER),
    *([], [[]], [None], {}, {"": ""}, {"kind": "proof"}, ["hot", 0], ["hot", 2**31], ["deposit", -1], ["cold", 0]),
    *(cbor2.CBORTag(2, b"\1"), cbor2.CBORTag(32, "x"), cbor2.CBORTag(55799, 1), cbor2.CBORSimpleValue(99)),
)
"""What stands where something else was expected."""

DECODED_ALONE = 10
"""Bodies that only the decoders see, for each that the signer is asked as well: that costs a flush."""


@dataclass
class Fuzz:
    """One run against one signer."""

    signer: RunningSigner
    draw: random.Random
    counts: Counter[str] = field(default_factory=Counter)

    def run(self, seconds: float) -> Counter[str]:
        model = Model(self.signer)
        with closing(Line(self.signer)) as line:
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                for _ in range(DECODED_ALONE):
                    self.decode(self.body(model))
                body = self.body(model)
                self.decode(body)
                self.ask(body, line, model)
        if self.signer.child.poll() is not None or "couldn't be judged" in self.signer.log():
            raise Unexpected(f"the signer died, or fell over a question: {self.signer.log()[-2000:]}")
        if model.journalled() != model.count:
            raise Unexpected(f"the journal has {model.journalled()} signatures, {model.count} came back")
        return self.counts

    def decode(self, body: bytes) -> None:
        """The decoders by themselves: each says IntentInvalid, or gives what encodes to the same again."""
        try:
            told = wire.decode(body)
        except IntentInvalid:
            self.counts["undecoded"] += 1
            return
        if wire.encode(told)[4:] != body:
            raise Unexpected(f"decoded, but not canonical: {body.hex()}")
        for name, read, write in (
            ("intent", from_map, to_map),
            ("mandate", mandate_from, mandate_map),
            ("claims", claims_from, dict),
        ):
            try:
                made = read(told.get(name))
            except IntentInvalid:
                continue
            if write(made) != told[name]:  # type: ignore[arg-type]
                raise Unexpected(f"read as something else than it says: {told[name]!r}")
            self.counts[f"read {name}"] += 1

    def ask(self, body: bytes, line: Line, model: Model) -> None:
        """The same through the socket; what would halt the signer for good is left out."""
        if model.would_halt(body):
            return
        answer = line.answer(body)
        if answer is None:
            if len(body) <= wire.FRAME_BYTES_MAX:
                raise Unexpected(f"no answer to {body.hex()}")
            self.counts["too large"] += 1
        elif "refused" in answer:
            self.counts[answer["refused"]["code"]] += 1
        elif "ok" in answer and "raw" in answer["ok"]:
            model.signed(body, answer["ok"]["raw"])
            self.counts["signed"] += 1
        elif "ok" in answer or answer.get("failed", {}).get("code") == "busy":
            self.counts["answered"] += 1
        else:
            raise Unexpected(f"{answer} to {body.hex()}")

    # --- bodies ------------------------------------------------------------------------------------------------------

    def body(self, model: Model) -> bytes:
        kind = self.draw.random()
        if kind < 0.03:
            return self.draw.randbytes(self.draw.choice((1, 2, 3, 10, 100, 1000)))
        told = self.question(model)
        if kind < 0.13:
            return _canonical(told)
        if kind < 0.75:
            for _ in range(self.draw.choice((1, 1, 1, 2, 3))):
                told = self.altered(told)
            return _canonical(told) if self.draw.random() < 0.9 else _encoded(told)
        raw = bytearray(_canonical(told))
        for _ in range(self.draw.choice((1, 1, 2, 4))):
            self.alter_bytes(raw)
        return bytes(raw)

    def question(self, model: Model) -> dict[str, Any]:
        draw = self.draw
        made = draw.choice(MAKERS)(model)
        asked: dict[str, Any] = {"v": 1, "call": "sign", "intent": to_map(made), "highest": None}
        if made.kind == "deployment" or getattr(made, "to", None) == COLD or draw.random() < 0.2:
            asked["mandate"] = mandate_map(mandate(made, policy_fingerprint=parse(policy()).fingerprint))
            model.approve(made)
        if draw.random() < 0.1:
            whose = {"account": "user", "asset": "USDC", "amount": "1", "key_hash": bytes(32)}
            asked["claims"] = [whose] * len(made.legs) if isinstance(made, PayoutBatch) else whose
        if draw.random() < 0.15:
            asked = {"v": 1, **draw.choice(OTHERS)}
        return asked

    def altered(self, told: Any) -> Any:
        """A copy with one node replaced, removed, renamed, doubled or exchanged."""
        places = list(_places(told))
        if not places:
            return told
        path = self.draw.choice(places)
        other = self.draw.choice(places)
        copy = _copied(told)
        parent = _at(copy, path[:-1])
        match self.draw.randrange(8):
            case 0 | 1 | 2:
                parent[path[-1]] = self.draw.choice(ODD)
            case 3:
                del parent[path[-1]]
            case 4 if isinstance(parent, dict):
                parent[self.draw.choice((path[-1] + "x", "kind", "amount", "to", "nonce", ""))] = parent.pop(path[-1])
            case 5 if isinstance(parent, list):
                parent.extend(parent[: self.draw.randrange(1, 120)])
            case 6:
                parent[path[-1]] = _copied(_at(told, other))
            case _:
                parent[path[-1]] = self.nudged(parent[path[-1]])
        return copy

    def nudged(self, value: Any) -> Any:
        match value:
            case bool() | None:
                return 0
            case int():
                return value + self.draw.choice((-1, 1, 2**32, 10**12 * value))
            case bytes() if value:
                place = self.draw.randrange(len(value))
                return value[:place] + bytes([value[place] ^ (1 << self.draw.randrange(8))]) + value[place + 1 :]
            case str() if value:
                place = self.draw.randrange(len(value))
                return value[:place] + self.draw.choice("az09_-\n٣") + value[place + 1 :]
            case _:
                return [value]

    def alter_bytes(self, raw: bytearray) -> None:
        if not raw:
            return
        start, size = self.draw.randrange(len(raw)), self.draw.choice((1, 1, 2, 8, 40))
        match self.draw.randrange(5):
            case 0:
                raw[start] ^= 1 << self.draw.randrange(8)
            case 1:
                del raw[start : start + size]
            case 2:
                raw[start:start] = self.draw.randbytes(size)
            case 3:
                raw[start:start] = raw[start : start + size]
            case _:
                raw[start] = self.draw.choice((0xBF, 0x9F, 0xFF, 0xF7, 0xF9, 0xFB, 0xC2, 0xC3, 0xDB, 0x5B, 0x7B, 0x9B))


def _near(model: Model, maker: Callable[..., Any], **changes: Any) -> Any:
    made = maker(**changes)
    gas = {"max_fee_per_gas": GWEI, "max_priority_fee_per_gas": 1, "nonce": model.next_nonce(made.sender)}
    return maker(**({"subject": model.fresh(made.subject)} | gas | changes))


MAKERS: tuple[Callable[[Model], Any], ...] = (
    lambda m: _near(m, token_transfer, amount=1),
    lambda m: _near(m, token_transfer, amount=1, to=COLD),
    lambda m: _near(m, native_transfer, amount=1),
    lambda m: _near(m, lambda **c: batch(m.payout, legs=m.legs(), **c)),
    lambda m: _near(m, sweep, amount=1),
    lambda m: _near(m, top_up, amount=1),
    lambda m: _near(m, deployment),
    lambda m: _near(m, anchor),
    lambda m: proof(subject=m.fresh("prf")),
    lambda m: authorisation(subject=m.fresh("swp"), valid_before=int(time.time()) + 1800, amount=1),
    lambda m: m.again(token_transfer(subject="wdr_none")),
    lambda m: m.dearer(cancel(subject="wdr_none")),
)
OTHERS: tuple[dict[str, Any], ...] = (
    {"call": "status"},
    {"call": "rows", "first": 1, "count": 2},
    {"call": "addresses", "keys": "deposit", "first": 0, "count": 3},
    {"call": "reserve", "keys": "deposit", "count": 1, "highest": None},
    {"call": "freeze", "chain_id": CHAIN, "asset": None, "serial": 0, "signatures": [["ada", "ed25519", bytes(64)]]},
    {"call": "lift", "chain_id": None, "asset": None, "serial": 0, "signatures": [["ada", "ed25519", bytes(64)]] * 2},
    {"call": "confirm_time", "seconds": 1, "serial": 0, "signatures": []},
)


def _places(told: Any, path: tuple[Any, ...] = ()) -> Any:
    """Every node below the top, by its path."""
    inner = told.items() if isinstance(told, dict) else enumerate(told) if isinstance(told, list) else ()
    for name, value in inner:
        yield (*path, name)
        yield from _places(value, (*path, name))


def _at(told: Any, path: tuple[Any, ...]) -> Any:
    for name in path:
        told = told[name]
    return told


def _copied(told: Any) -> Any:
    if isinstance(told, dict):
        return {name: _copied(value) for name, value in told.items()}
    return [_copied(value) for value in told] if isinstance(told, list) else told


def _canonical(told: Any) -> bytes:
    return bytes(cbor2.dumps(told, canonical=True))[: 2**17]


def _encoded(told: Any) -> bytes:
    return bytes(cbor2.dumps(told))[: 2**17]


def policy() -> str:
    """The full policy with limits that a long run doesn't reach: the model counts no windows."""
    text = full_policy()
    for old, new in (('per_hour = "1500"', f'per_hour = "{10**30}"'), ('per_day = "2500"', f'per_day = "{10**30}"')):
        text = swap(old, new)(text)
    return swap(f'per_day = "{5 * FEE_WEI_MAX}"', f'per_day = "{10**40}"')(text)


def fuzz(folder: Path, seconds: float, seed: int) -> Counter[str]:
    """A run on a new signer; raises Unexpected."""
    signer = start_signer(folder, policy(), afresh=True)
    try:
        return Fuzz(signer, random.Random(seed)).run(seconds)
    finally:
        signer.stop()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.custody.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    told = parser.parse_args()
    print(f"fuzz: {told.seconds:.0f} s, --seed {told.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        try:
            counts = fuzz(Path(folder), told.seconds, told.seed)
        except Exception as problem:
            print(f"fuzz: FAILED with --seed {told.seed}: {type(problem).__name__}: {problem}", file=sys.stderr)
            raise
    for name, count in counts.most_common():
        print(f"{count:9} {name}")
    print("fuzz: nothing unexpected")
    return 0


if __name__ == "__main__":
    sys.exit(main())
