"""Failure switches: what goes wrong with which requests and webhooks, and how later events of money end."""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from railsim.chance import Chance


class Fault(StrEnum):
    """What a request meets. `before` and `after` tell whether it has its effect."""

    TIMEOUT_BEFORE = "timeout_before"
    TIMEOUT_AFTER = "timeout_after"
    CLOSED_BEFORE = "closed_before"
    CLOSED_AFTER = "closed_after"
    ERROR_BEFORE = "error_before"
    """HTTP 500 without an effect."""
    ERROR_AFTER = "error_after"
    """HTTP 500 although it had its effect."""
    RATE_LIMITED = "rate_limited"
    """HTTP 429."""
    LATENCY = "latency"
    """Answered after `milliseconds` of real time."""


class Mishap(StrEnum):
    """What happens to a webhook."""

    SLOW = "webhook_slow"
    """`milliseconds` of real time pass first."""
    DROPPED = "webhook_dropped"
    DUPLICATED = "webhook_duplicated"
    REORDERED = "webhook_reordered"
    """It goes after the next one."""
    LATE = "webhook_late"
    """It goes `seconds` of simulated time later."""
    BADLY_SIGNED = "webhook_badly_signed"


class Event(StrEnum):
    """What ends otherwise than well: `outcome` says how, `seconds` after how much simulated time."""

    REFUND = "refund"
    """Outcomes: `failed`, `pending`."""
    PAYOUT = "payout"
    """A payout to a person (PayPal). Outcomes: `failed`, `pending`, `returned`, `unclaimed`, `denied`."""
    SETTLEMENT = "settlement"
    """A payout to the merchant's bank. Outcomes: `failed`, `pending`, `returned`."""
    CHARGE = "charge"
    """A capture. Outcomes: `pending` (PayPal)."""


OUTCOMES = {
    Event.REFUND: ("failed", "pending"),
    Event.PAYOUT: ("failed", "pending", "returned", "unclaimed", "denied"),
    Event.SETTLEMENT: ("failed", "pending", "returned"),
    Event.CHARGE: ("pending",),
}


@dataclass(slots=True)
class Switch:
    """One thing to go wrong, `times` times, after `skip` matches passed, each with a chance of `percent`."""

    id: str
    kind: str
    provider: str
    method: str | None = None
    path: str | None = None
    """A regular expression, found anywhere in the path of a request or in a webhook's event type."""
    times: int = 1
    skip: int = 0
    percent: int = 100
    milliseconds: int = 0
    seconds: int = 0
    outcome: str = ""
    used: int = 0

    def shown(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class Switches:
    """All switches that are set. The oldest one that fits is used first."""

    chance: Chance
    standing: list[Switch] = field(default_factory=list)

    def take(self, kinds: type[StrEnum] | StrEnum, provider: str, method: str, path: str) -> Switch | None:
        """The switch that this meets, used up by one; None if it meets none."""
        wanted = {kinds} if isinstance(kinds, StrEnum) else set(kinds)
        for switch in self.standing:
            if switch.kind not in wanted or switch.provider != provider or switch.used >= switch.times:
                continue
            if switch.method not in (None, method) or not (switch.path is None or re.search(switch.path, path)):
                continue
            if switch.skip:
                switch.skip -= 1
                continue
            if switch.percent < 100 and self.chance.below(100) >= switch.percent:
                continue
            switch.used += 1
            return switch
        return None
