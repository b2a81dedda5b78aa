"""Why something is frozen, until when, and what its owner is told of it. Pure."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from ledger.commands import FreezeScope


class FreezeReason(StrEnum):
    COURT_ORDER = "court_order"
    FRAUD_SUSPECTED = "fraud_suspected"
    SANCTIONS = "sanctions"
    USER_REQUEST = "user_request"
    INCIDENT = "incident"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingFreeze:
    """One reason to freeze a target, lifted or not. `target`: an account's name, an owner's id, an asset's code, a
    network, rail or bank account."""

    id: str
    scope: FreezeScope
    target: str
    reason_code: FreezeReason
    reason: str
    set_by: str
    set_at: datetime
    expires_at: datetime | None = None
    lifted_at: datetime | None = None
    lifted_by: str | None = None
    lift_reason: str | None = None
    replayed: bool = False

    @property
    def stands(self) -> bool:
        return self.lifted_at is None
