"""Counting and judging against a second opinion: plain lists of (time, amount), summed anew at every question.

The model is written from docs and the policy's text; it knows nothing of windows, sums or deques.
"""

import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from custody.counting import Counted, Counts
from custody.derivation import Role
from custody.intents import KeyRef
from custody.judging import Allowed, Situation, evaluate
from custody.policy_file import parse
from tests.custody.bench import PAYOUT, address
from tests.custody.clocks import DAY, HOUR, MINUTE, START
from tests.custody.samples import (
    CHAIN,
    COLD,
    DEPOSIT,
    FEE_WEI_MAX,
    GAS,
    GWEI,
    STRANGER,
    TOKEN,
    allowance,
    authorisation,
    batch,
    full_policy,
    legs,
    native_transfer,
    sweep,
    token_transfer,
)

HISTORIES, STEPS = 60, 60
TOKEN_TEXT = "0x" + TOKEN.hex()
TEXT = (
    full_policy()
    .replace("[highest_index]\n", "[highest_index]\nhot = 1\n")
    .replace('name = "token out"', 'name = "token out"\napprovals = 1\napprovals_above = "2000"')
    + f"""
[ceilings]
per_day = "4000"
approvals = 2

[[values]]
chain_id = {CHAIN}
asset = "{TOKEN_TEXT}"
units = "3"
per = "2"
until = 2030-01-01T00:00:00Z

[[values]]
chain_id = {CHAIN}
asset = "native"
units = "1"
per = "{10**15}"
until = 2030-01-01T00:00:00Z
"""
)
POLICY = parse(TEXT)
WEI = 10**18


@dataclass
class Model:
    """What was signed: (time, amount) by what limits are about, and wei of fees."""

    moved: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    left: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    fees: list[tuple[int, int]] = field(default_factory=list)
    full_until: int = 0

    def verdict(self, intent: Any, now: int, by: int) -> str | None:
        """The code of the first limit that is passed, None when none is."""
        fee = intent.fee_wei_max
        full = now < self.full_until
        if fee > FEE_WEI_MAX:
            return "over_fee_cap"
        if intent.sender.role is Role.HOT and fee and (full or total(self.fees, now, DAY) + fee > 5 * FEE_WEI_MAX):
            return "over_gas_budget"
        parts = (
            [(leg.to, leg.amount) for leg in intent.legs]
            if intent.kind == "payout_batch"
            else [(target(intent), intent.amount)]
        )
        before = 0
        for to, amount in parts:
            told = self._part(intent, to, amount, before, now, by)
            if told:
                return told
            before += amount
        if intent.kind in ("token_transfer", "native_transfer", "payout_batch") and not isinstance(
            target(intent), KeyRef
        ):
            worth = 0
            for asset, units, per in ((TOKEN_TEXT, 3, 2), ("native", 1, 10**15)):
                gone = total(self.left.get(asset, []), now, DAY) + (intent.amount if asset == asset_name(intent) else 0)
                worth += -(-gone * units // per)
            if (full or worth > 4_000) and by < 2:
                return "over_ceiling"
        return None

    def _part(self, intent: Any, to: Any, amount: int, before: int, now: int, by: int) -> str | None:
        token = asset_name(intent) != "native"
        pays = intent.kind in ("token_transfer", "native_transfer", "payout_batch")
        if pays and token and to == COLD:
            most, hour, day, approvals, above = 10**6, None, 10**6, 2, 0
        elif pays and not token:
            most, hour, day, approvals, above = WEI, None, 5 * WEI, 0, 0
        else:
            most, hour, day = 1_000, 1_500, 2_500
            approvals, above = (1, 2_000) if pays else (0, 0)
        entries = self.moved.get(purse(intent), [])
        full = now < self.full_until
        if amount > most:
            return "over_transfer_limit"
        if hour is not None and (full or total(entries, now, HOUR) + before + amount > hour):
            return "over_hour_limit"
        today = total(entries, now, DAY) + before + amount
        if full or today > day:
            return "over_day_limit"
        if approvals > by and today > above:
            return "approvals_missing"
        return None

    def add(self, intent: Any, now: int) -> None:
        if intent.fee_wei_max and intent.sender.role is Role.HOT:
            self.fees.append((now, intent.fee_wei_max))
        self.moved.setdefault(purse(intent), []).append((now, intent.amount))
        if intent.kind in ("token_transfer", "native_transfer", "payout_batch") and not isinstance(
            target(intent), KeyRef
        ):
            self.left.setdefault(asset_name(intent), []).append((now, intent.amount))


def total(entries: list[tuple[int, int]], now: int, length: int) -> int:
    return sum(amount for at, amount in entries if now - length < at <= now)


def target(intent: Any) -> Any:
    return getattr(intent, "to", None)


def asset_name(intent: Any) -> str:
    contract = getattr(intent, "contract", None)
    return "native" if contract is None else "0x" + contract.hex()


def purse(intent: Any) -> str:
    """What amounts are summed over: everything that a role moves of an asset, allowances apart."""
    return f"{intent.sender.role} {asset_name(intent)} {intent.kind == 'allowance'}"


def some_intent(draw: random.Random, number: int) -> Any:
    fees = {
        "gas_limit": draw.choice([21_000, 100_000, 10**6, 10**6 + 1]),
        "max_fee_per_gas": draw.choice([1, GWEI, 10 * GWEI]),
    }
    common = {"subject": f"wdr_{number}", "nonce": number, "max_priority_fee_per_gas": 0, **fees}
    hot = {"sender": KeyRef(Role.HOT, draw.randrange(2))}
    small = draw.choice([1, 100, 333, 500, 999, 1_000, 1_001])
    deposit = {"sender": KeyRef(Role.DEPOSIT, draw.randrange(3)), "amount": small}
    to = draw.choice([STRANGER, STRANGER, COLD, DEPOSIT])
    amounts = [draw.choice([1, 100, 400, 1_001]) for _ in range(draw.randrange(1, 5))]
    native = draw.choice([WEI // 1_000, WEI // 3, WEI, WEI + 1])
    match draw.randrange(8):
        case 0 | 1 | 2:
            amount = draw.choice([10**5, 10**6, 10**6 + 1]) if to == COLD and draw.random() < 0.3 else small
            return token_transfer(**common, **hot, to=to, amount=amount)
        case 3:
            return native_transfer(**common, **hot, to=to, amount=native)
        case 4:
            return batch(PAYOUT, **common, **hot, contract=TOKEN, legs=legs(*amounts, to=draw.choice([STRANGER, COLD])))
        case 5:
            return allowance(PAYOUT, **common | {"subject": f"alw_{number}"}, **hot, amount=small)
        case 6:
            return sweep(**common | deposit)
        case _:
            return authorisation(subject=f"swp_{number}", **deposit, valid_before=START // 1_000_000 + 10**6)


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_every_limit_agrees_with_plain_lists_over_random_histories(seed: int):
    """What is allowed is signed, so that later answers depend on earlier ones; the seed repeats a history."""
    draw = random.Random(seed)
    counts, model, now = Counts(), Model(), START
    told: list[str | None] = []
    if draw.random() < 0.15:
        counts.fill(at_us=now)
        model.full_until = now + DAY
    for number in range(STEPS):
        now += draw.choice([0, 1, MINUTE, 20 * MINUTE, HOUR - 1, HOUR, 3 * HOUR, 12 * HOUR, DAY - 1])
        intent = some_intent(draw, number)
        by = draw.choice([0, 0, 1, 2])
        seconds = START // 1_000_000 + 10**6 - 60 if intent.kind == "authorisation" else now // 1_000_000
        situation = Situation(
            counts=counts,
            window_us=now,
            seconds=seconds,
            approved_by=frozenset(("ada", "ben")[:by]),
            own_addresses={GAS: address(GAS)},
        )
        answer = evaluate(POLICY, situation, intent)
        code = None if isinstance(answer, Allowed) else answer.code
        assert code == model.verdict(intent, now, by), f"seed {seed}, step {number}: {intent}"
        told.append(code)
        if code is None:
            counts.add(Counted(intent, intent.fee_wei_max), at_us=now)
            model.add(intent, now)
    SEEN.update(told)


SEEN: set[str | None] = set()


def test_those_histories_reach_every_limit():
    """Runs by itself too: it plays them again when they were played in another process."""
    for seed in range(HISTORIES if len(SEEN) < 8 else 0):
        test_every_limit_agrees_with_plain_lists_over_random_histories(seed)
    limits = {"over_transfer_limit", "over_hour_limit", "over_day_limit", "over_ceiling", "approvals_missing"}
    assert {None, "over_fee_cap", "over_gas_budget", *limits} == SEEN
