"""Periods, for the treasurer: what was closed, by whom, in spite of what; and closing the next one."""

from typing import Annotated

from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict

from api.acting import Acting
from api.answers import answer, instant, maybe_instant
from api.auth import caller
from api.door import resource
from api.errors import InvalidRequest
from api.idempotency import IdempotencyKey
from api.instants import Instant
from api.paging import Onward, listing
from api.parts import Parts
from api.schemas import Asked
from identity.keys import Principal
from identity.scopes import Scope
from treasury.operations.period_names import Period
from treasury.operations.period_store import ClosedPeriod

router = resource("treasury")


class OpenItemView(TypedDict):
    item: str
    detail: str


class PeriodView(TypedDict):
    id: str
    period: str | None
    state: str
    closed_until: str
    closed_at: str
    closed_by: str
    confirmed_by: str | None
    seq: int
    reason: str
    open_items: list[OpenItemView]


class PeriodList(TypedDict):
    closed_until: str | None
    items: list[PeriodView]
    has_more: bool


class OpenItems(TypedDict):
    period: str
    until: str
    items: list[OpenItemView]
    has_more: bool


class PeriodToClose(Asked):
    """A period to close, for good: by its name, or up to an instant."""

    period: str | None = Field(
        default=None, max_length=20, examples=["2026-10"], description="A month, or a day such as 2026-10-31."
    )
    until: Instant | None = Field(default=None, description="Instead: the first instant that stays open (RFC 3339).")
    reason: str = Field(max_length=1000, examples=["October is reported"])

    def read(self, parts: Parts) -> Period:
        """Which one is meant. Raises InvalidRequest, PeriodUnfit."""
        if (self.period is None) == (self.until is None):
            raise InvalidRequest("give period or until: one of them", param="period")
        return Period(self.until) if self.until is not None else parts.periods.named(str(self.period))

    def subject(self, period: Period) -> str:
        """The same for the audit log."""
        return self.period or instant(period.until)


def period_view(period: ClosedPeriod) -> PeriodView:
    """`seq` is the closing's place in the book; `open_items` is what stood open, where it was closed all the same."""
    return {
        "id": period.id,
        "period": period.name,
        "state": "closed",
        "closed_until": instant(period.until),
        "closed_at": instant(period.closed_at),
        "closed_by": period.closed_by,
        "confirmed_by": period.confirmed_by,
        "seq": period.seq,
        "reason": period.reason,
        "open_items": [{"item": one["item"], "detail": one["detail"]} for one in period.open_items],
    }


@router.post("/treasury/periods", response_model=PeriodView, summary="Close a period, for good")
async def close_period(
    parts: Parts,
    key: IdempotencyKey,
    asked: PeriodToClose,
    treasurer: Annotated[Principal, caller(Scope.TREASURY_WRITE)],
    acts: Acting,
) -> Response:
    """What comes later with a date in it takes effect at its end, so that what was reported stays. Refused while
    something stands open in it: closing it all the same takes two people (POST /v1/treasury/proposals/periods)."""
    period = asked.read(parts)
    async with acts.booking("period.close", key, subject=asked.subject(period), reason=asked.reason) as noted:
        closed = await parts.periods.close(
            key=key, treasurer=treasurer.acts_as, period=period, reason=asked.reason, noted=noted
        )
    return answer(period_view(closed), replayed=closed.replayed)


@router.get(
    "/treasury/periods",
    response_model=PeriodList,
    summary="List what was closed, and until when the book is closed",
    dependencies=[caller(Scope.TREASURY_READ)],
)
async def list_periods(parts: Parts, page: Onward) -> Response:
    found = await parts.periods.recent(before=page.starting_after, limit=page.limit + 1)
    shown = listing(found[: page.limit], len(found) > page.limit, period_view)
    return answer({**shown, "closed_until": maybe_instant(await parts.periods.closed_until())})


@router.get(
    "/treasury/periods/{period}/open-items",
    response_model=OpenItems,
    summary="What stands open in a month or day: to be settled before it's closed",
    dependencies=[caller(Scope.TREASURY_READ)],
)
async def list_open_items(parts: Parts, period: str) -> Response:
    named = parts.periods.named(period)
    items = await parts.periods.open_items(named.until)
    return answer({"period": period, "until": instant(named.until), "items": items, "has_more": False})
