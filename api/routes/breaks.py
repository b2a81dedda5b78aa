"""Breaks, for the treasurer: whose they are, what may be behind them, and how two people resolve one."""

from datetime import datetime
from functools import partial
from typing import Annotated, Literal

from fastapi import Query
from pydantic import Field, model_validator
from starlette.responses import Response
from typing_extensions import TypedDict

from api.acting import Acting
from api.amounts import AmountText
from api.answers import Assets, answer, instant, maybe_instant, maybe_money, money
from api.auth import caller
from api.door import resource
from api.errors import InvalidRequest
from api.idempotency import IdempotencyKey
from api.instants import Instant
from api.paging import Onward, listing
from api.parts import Parts, assets_of
from api.schemas import Asked
from identity.keys import Principal
from identity.scopes import Scope
from ledger.money import parse_amount
from treasury.break_alerts import Ages, aged
from treasury.break_records import HistoryLine, Resolution, ResolutionKind
from treasury.break_states import BreakState
from treasury.break_store import Wanted
from treasury.breaks import BreakFile
from treasury.records import Break, BreakReason, Cause

router = resource("treasury")

Treasurer = Annotated[Principal, caller(Scope.TREASURY_WRITE)]

ME = "me"
"""Stands for the caller's own key, as a break's owner."""


class CauseView(TypedDict):
    code: str
    likelihood: str
    sentence: str
    evidence: list[str]


class BreakView(TypedDict):
    id: str
    reason: str
    state: str
    explained: bool
    account: str
    asset: str
    expected: str
    found: str
    difference: str
    network: str | None
    detail: str | None
    at: str | None
    owner: str | None
    causes: list[CauseView]
    evidence: list[str]
    age_seconds: int
    aged: bool
    first_seen_at: str
    last_seen_at: str
    accepted_until: str | None
    resolved_at: str | None


class BreakList(TypedDict):
    items: list[BreakView]
    has_more: bool


class HistoryView(TypedDict):
    number: int
    at: str
    by: str | None
    kind: str
    words: str


class ResolutionView(TypedDict):
    id: str
    break_id: str
    kind: str
    state: str
    asset: str
    difference: str
    against: str | None
    amount: str | None
    until: str | None
    reason: str
    proposed_by: str
    proposed_at: str
    decided_by: str | None
    decided_at: str | None
    entry: str | None


class BreakDetailView(BreakView):
    history: list[HistoryView]
    resolutions: list[ResolutionView]


class NewOwner(Asked):
    """Who looks after a break: a person, a treasury key's id, `me`, or null for nobody."""

    owner: str | None = Field(max_length=64, examples=["me", "key_01jd3v5q8m2c7x9k4n6p0r1s2t"])


class NewNote(Asked):
    """What is to stay in the break's history."""

    note: str = Field(max_length=1000, examples=["the bank says that the line comes tomorrow"])


class NewResolution(Asked):
    """How a break is to be resolved: by an entry, or until a date by taking it as a matter of time."""

    kind: Literal["entry", "acceptance"]
    against: str | None = Field(
        default=None, max_length=100, examples=["suspense"], description="Of an entry: the house's purpose opposite."
    )
    amount: AmountText | None = Field(default=None, description="Of an entry: at most the difference, which is meant.")
    until: Instant | None = Field(default=None, description="Of an acceptance: when it ends.")
    reason: str = Field(max_length=1000, examples=["the bank's fee of November, told by phone"])

    @model_validator(mode="after")
    def _of_its_kind(self) -> "NewResolution":
        if self.kind == "entry" and (self.against is None or self.until is not None):
            raise ValueError("an entry needs `against`, and has no `until`")
        if self.kind == "acceptance" and (self.until is None or self.against is not None or self.amount is not None):
            raise ValueError("an acceptance needs `until`, and moves nothing")
        return self


def cause_view(cause: Cause) -> CauseView:
    return {
        "code": cause.code.value,
        "likelihood": cause.likelihood.value,
        "sentence": cause.sentence,
        "evidence": list(cause.evidence),
    }


def break_view(entry: Break, assets: Assets, *, now: datetime, ages: Ages) -> BreakView:
    """`difference` is `found` less `expected`; the likeliest cause comes first; `aged`: open for longer than it may."""
    return {
        "id": entry.id,
        "reason": entry.reason.value,
        "state": entry.state_at(now).value,
        "explained": entry.explained(now),
        "account": entry.account,
        "asset": entry.asset,
        "expected": money(entry.expected, entry.asset, assets),
        "found": money(entry.found, entry.asset, assets),
        "difference": money(entry.difference, entry.asset, assets),
        "network": entry.network or None,
        "detail": entry.detail or None,
        "at": entry.at or None,
        "owner": entry.owner,
        "causes": [cause_view(cause) for cause in entry.causes],
        "evidence": list(entry.evidence),
        "age_seconds": int(entry.age(now).total_seconds()),
        "aged": aged(entry, now, ages),
        "first_seen_at": instant(entry.first_seen_at),
        "last_seen_at": instant(entry.last_seen_at),
        "accepted_until": maybe_instant(None if entry.lapsed(now) else entry.accepted_until),
        "resolved_at": maybe_instant(entry.resolved_at),
    }


def resolution_view(resolution: Resolution, asset: str, assets: Assets) -> ResolutionView:
    """`difference` is the break's when it was proposed; `entry` names the command that posted it."""
    return {
        "id": resolution.id,
        "break_id": resolution.break_id,
        "kind": resolution.kind.value,
        "state": resolution.state.value,
        "asset": asset,
        "difference": money(resolution.difference, asset, assets),
        "against": resolution.against,
        "amount": maybe_money(resolution.amount, asset, assets),
        "until": maybe_instant(resolution.until),
        "reason": resolution.reason,
        "proposed_by": resolution.proposed_by,
        "proposed_at": instant(resolution.proposed_at),
        "decided_by": resolution.decided_by,
        "decided_at": maybe_instant(resolution.decided_at),
        "entry": resolution.entry,
    }


def detail_view(file: BreakFile, assets: Assets, *, now: datetime, ages: Ages) -> BreakDetailView:
    return {
        **break_view(file.entry, assets, now=now, ages=ages),
        "history": [_line(line) for line in file.history],
        "resolutions": [resolution_view(one, file.entry.asset, assets) for one in file.resolutions],
    }


def _line(line: HistoryLine) -> HistoryView:
    return {
        "number": line.number,
        "at": instant(line.at),
        "by": line.by,
        "kind": line.kind.value,
        "words": line.words,
    }


@router.get(
    "/treasury/breaks",
    response_model=BreakList,
    summary="List what doesn't agree, the oldest first",
    dependencies=[caller(Scope.TREASURY_READ)],
)
async def list_breaks(
    parts: Parts,
    page: Onward,
    all: Annotated[bool, Query(description="Resolved ones too.")] = False,
    state: Annotated[list[BreakState] | None, Query(description="In one of these states.")] = None,
    kind: Annotated[BreakReason | None, Query(description="Of this kind: the break's `reason`.")] = None,
    network: Annotated[
        str | None, Query(max_length=64, description="On this network; a provider's is `rail:NAME`.")
    ] = None,
    owner: Annotated[
        str | None, Query(max_length=64, description="That this person, or key of nobody, looks after.")
    ] = None,
) -> Response:
    wanted = Wanted(tuple(state or ()), everything=all, reason=kind, network=network, owner=owner)
    found = await parts.breaks.list(wanted, after=page.starting_after, limit=page.limit + 1)
    view = partial(break_view, assets=await assets_of(parts), now=parts.clock.now(), ages=parts.break_ages)
    return answer(listing(found[: page.limit], len(found) > page.limit, view))


@router.get(
    "/treasury/breaks/{break_id}",
    response_model=BreakDetailView,
    summary="One break: its causes, evidence, history and resolutions",
    dependencies=[caller(Scope.TREASURY_READ)],
)
async def read_break(parts: Parts, break_id: str) -> Response:
    return await _shown(parts, break_id)


@router.post("/treasury/breaks/{break_id}/owner", response_model=BreakDetailView, summary="Say who looks after a break")
async def change_owner(parts: Parts, break_id: str, asked: NewOwner, treasurer: Treasurer, acts: Acting) -> Response:
    """Moves nothing, so it needs no Idempotency-Key."""
    owner = treasurer.acts_as if asked.owner == ME else asked.owner
    if owner is not None and owner != treasurer.acts_as:
        owner = await _treasurer(parts, owner)
    async with acts.doing("break.own", subject=break_id[:64], detail=owner):
        await parts.breaks.own(break_id, owner=owner, by=treasurer.acts_as)
    return await _shown(parts, break_id)


@router.post(
    "/treasury/breaks/{break_id}/notes",
    response_model=BreakDetailView,
    status_code=201,
    summary="Add a note to a break's history",
)
async def create_note(parts: Parts, break_id: str, asked: NewNote, treasurer: Treasurer, acts: Acting) -> Response:
    """Moves nothing, so it needs no Idempotency-Key. A note stays: nobody can change or delete it."""
    async with acts.doing("break.note", subject=break_id[:64]):
        await parts.breaks.note(break_id, words=asked.note, by=treasurer.acts_as)
    return await _shown(parts, break_id, status=201)


@router.post(
    "/treasury/breaks/{break_id}/resolutions",
    response_model=ResolutionView,
    status_code=201,
    summary="Propose how a break is resolved; another treasurer confirms it",
)
async def create_resolution(
    parts: Parts, break_id: str, asked: NewResolution, treasurer: Treasurer, acts: Acting
) -> Response:
    """Moves nothing until it's confirmed, so it needs no Idempotency-Key; one proposal waits at a time."""
    entry = (await parts.breaks.get(break_id)).entry
    assets = await assets_of(parts, entry.asset)
    by, reason = treasurer.acts_as, asked.reason
    amount = None if asked.amount is None else parse_amount(asked.amount, assets[entry.asset])
    async with acts.doing("break.propose", subject=entry.id, reason=reason) as doing:
        if asked.until is not None:
            made = await parts.breaks.propose_acceptance(break_id, until=asked.until, reason=reason, by=by)
        else:
            against = asked.against or ""
            made = await parts.breaks.propose_entry(break_id, against=against, amount=amount, reason=reason, by=by)
        doing.detail = made.id
    return answer(resolution_view(made, entry.asset, assets), status=201)


@router.post(
    "/treasury/resolutions/{resolution}/confirm",
    response_model=ResolutionView,
    summary="Confirm what another treasurer proposed; its entry is posted",
)
async def confirm_resolution(
    parts: Parts, resolution: str, key: IdempotencyKey, treasurer: Treasurer, acts: Acting
) -> Response:
    known = await parts.breaks.resolution(resolution)
    if known.kind is ResolutionKind.ACCEPTANCE:
        async with acts.doing("break.accept", subject=resolution):
            return await _decided(parts, await parts.breaks.confirm(resolution, key=key, by=treasurer.acts_as))
    async with acts.booking("break.confirm", key, subject=resolution) as noted:
        return await _decided(parts, await parts.breaks.confirm(resolution, key=key, by=treasurer.acts_as, noted=noted))


@router.post(
    "/treasury/resolutions/{resolution}/withdraw",
    response_model=ResolutionView,
    summary="Take a proposal back, whoever made it",
)
async def withdraw_resolution(parts: Parts, resolution: str, treasurer: Treasurer, acts: Acting) -> Response:
    """Moves nothing, so it needs no Idempotency-Key."""
    async with acts.doing("break.withdraw", subject=resolution[:64]):
        return await _decided(parts, await parts.breaks.withdraw(resolution, by=treasurer.acts_as))


async def _shown(parts: Parts, id: str, *, status: int = 200) -> Response:
    file, assets = await parts.breaks.get(id), await assets_of(parts)
    view = detail_view(file, assets, now=parts.clock.now(), ages=parts.break_ages)
    return answer(view, status=status)


async def _decided(parts: Parts, resolution: Resolution) -> Response:
    asset = (await parts.breaks.get(resolution.break_id)).entry.asset
    view = resolution_view(resolution, asset, await assets_of(parts, asset))
    return answer(view, replayed=resolution.replayed)


async def _treasurer(parts: Parts, owner: str) -> str:
    """Who looks after a break, of a person or a key's id. Raises UnknownKey, and InvalidRequest for one who couldn't do
    anything about it."""
    if await parts.identity.staff_keys(owner, scope=Scope.TREASURY_WRITE):
        return owner
    key = await parts.identity.key(owner)
    if key.revoked_at is not None or Scope.TREASURY_WRITE not in key.scopes:
        raise InvalidRequest(f"{owner} may not write for the treasury", code="owner_unfit", param="owner")
    return key.acts_as
