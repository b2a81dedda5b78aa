"""Epochs of what is owed and held: a user's own proofs, what everybody may see, and making one, for the treasurer."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from api.acting import noted
from api.answers import Assets, answer, instant, maybe_instant, money
from api.auth import caller, owner
from api.door import PROBLEMS, resource
from api.errors import UnknownPath
from api.parts import Parts, assets_of
from api.ratelimit import RateLimit
from identity.keys import Principal
from identity.scopes import Scope
from treasury.anchor_states import Anchored
from treasury.errors import NoEpoch
from treasury.solvency_epochs import KnownEpoch
from treasury.solvency_reading import place_of, standing_of, write_bundle
from wiring.services import Services

PUBLIC_SECONDS = 60
"""How long anybody may keep what they read of epochs: only signatures, the seal and the anchor come later."""

router = resource("solvency")
public = APIRouter(prefix="/v1", tags=["solvency"], responses=PROBLEMS)
"""What is read without a key."""

Number = Annotated[int | None, Query(ge=1, lt=2**59, description="An epoch's number; else the latest.")]


class CoverageView(TypedDict):
    asset: str
    owed: str
    held: str
    coverage: str | None
    receivable: str
    in_transit: str
    unassigned: str


class ReserveView(TypedDict):
    asset: str
    amount: str
    standing: str
    place: str


class ListView(TypedDict):
    asset: str
    users: int
    root: str


class BlockView(TypedDict):
    network: str
    chain_id: int
    block_number: int
    block_hash: str
    nodes: int


class AnchorView(TypedDict):
    network: str
    state: str
    tx: str | None
    block_number: int | None
    block_hash: str | None
    sender: str
    to: str


class EpochView(TypedDict):
    epoch: str
    number: int
    digest: str
    seq: int
    booked_at: str
    made_at: str
    lists: list[ListView]
    coverage: list[CoverageView]
    reserves: list[ReserveView]
    networks: list[BlockView]
    untold: list[str]
    seal: int | None
    anchor: AnchorView | None


class EpochList(TypedDict):
    items: list[EpochView]
    has_more: bool


class ControlView(TypedDict):
    network: str
    address: str
    signed: bool
    refusal: str | None


class MadeEpochView(EpochView):
    asked_by: str | None
    controls_at: str | None
    controls: list[ControlView]
    anchor_waiting_for: str | None
    anchor_reason: str | None


class MadeEpochList(TypedDict):
    items: list[MadeEpochView]
    has_more: bool


class OwnProofsView(TypedDict):
    format: str
    published_at: str | None
    epoch: dict[str, object]
    proofs: list[dict[str, object]]


class PublishedView(TypedDict):
    statement: dict[str, object]
    digest: str
    controls: list[dict[str, object]]
    seal: dict[str, object] | None
    anchor: dict[str, object] | None


def epoch_view(epoch: KnownEpoch, assets: Assets) -> EpochView:
    """Amounts are decimals here; the statement itself, which is hashed, has smallest units."""
    told, published = epoch.statement, epoch.published
    return {
        "epoch": told.epoch,
        "number": told.number,
        "digest": epoch.row.digest,
        "seq": told.seq,
        "booked_at": told.booked_at,
        "made_at": instant(epoch.row.made_at),
        "lists": [{"asset": one.asset, "users": one.users, "root": one.root} for one in told.lists],
        "coverage": [
            {
                "asset": one.asset,
                "owed": money(int(one.owed), one.asset, assets),
                "held": money(int(one.held), one.asset, assets),
                "coverage": one.ratio,
                "receivable": money(int(one.receivable), one.asset, assets),
                "in_transit": money(int(one.in_transit), one.asset, assets),
                "unassigned": money(int(one.unassigned), one.asset, assets),
            }
            for one in told.coverage
        ],
        "reserves": [
            {
                "asset": one.asset,
                "amount": money(int(one.amount), one.asset, assets),
                "standing": standing_of(one, published).value,
                "place": place_of(one),
            }
            for one in told.reserves
        ],
        "networks": [
            {
                "network": one.network,
                "chain_id": one.chain_id,
                "block_number": one.block_number,
                "block_hash": one.block_hash,
                "nodes": one.nodes,
            }
            for one in told.networks
        ],
        "untold": list(told.untold),
        "seal": None if published.seal is None else published.seal["seal"]["statement"]["number"],
        "anchor": None if epoch.anchor is None else anchor_view(epoch.anchor),
    }


def anchor_view(anchor: Anchored) -> AnchorView:
    """What everybody may know of it, also while it's in no block."""
    mined = anchor.mined
    return {
        "network": anchor.network,
        "state": anchor.state.value,
        "tx": None if mined is None else mined.tx_hash,
        "block_number": None if mined is None else mined.block_number,
        "block_hash": None if mined is None else mined.block_hash,
        "sender": anchor.sender,
        "to": anchor.to,
    }


def made_epoch_view(epoch: KnownEpoch, assets: Assets) -> MadeEpochView:
    """With who asked for it, what became of each address's signature, and what its anchor lacks."""
    anchor = epoch.anchor
    asked: list[ControlView] = [
        {
            "network": one.network,
            "address": one.owner.address,
            "signed": one.signature is not None,
            "refusal": one.refusal,
        }
        for one in epoch.controls
    ]
    handed: list[ControlView] = [
        {"network": one.network, "address": one.address, "signed": True, "refusal": None} for one in epoch.handed
    ]
    return {
        **epoch_view(epoch, assets),
        "asked_by": epoch.row.asked_by,
        "controls_at": maybe_instant(epoch.row.controls_at),
        "controls": [*asked, *handed],
        "anchor_waiting_for": None if anchor is None else anchor.waiting_for,
        "anchor_reason": None if anchor is None else anchor.reason,
    }


@router.get("/solvency", response_model=OwnProofsView, summary="My proofs that what I am owed is counted")
async def read_own_proofs(
    request: Request, parts: Parts, user: Annotated[str, owner(Scope.WALLET_READ)], epoch: Number = None
) -> Response:
    """The very file that `onebook verify solvency` checks: a proof for each of my assets, and what was published."""
    found = await parts.epochs.epoch(epoch)
    at = parts.epochs_published_at
    if at is None and parts.public_epochs:
        at = f"{str(request.base_url).rstrip('/')}/v1/solvency/epochs/{found.row.number}"
    return _json(write_bundle(parts.epochs.prove_all(found, user), found.published, published_at=at))


@public.get("/solvency/epochs", response_model=EpochList, summary="Every epoch: what was owed and held")
async def list_epochs(
    request: Request,
    parts: Parts,
    limit: Annotated[int, Query(ge=1, le=20, description="Items at most.")] = 5,
    before: Annotated[int | None, Query(ge=1, lt=2**59, description="Epochs with a lower number than this.")] = None,
) -> Response:
    """Needs no key: everybody is shown the same."""
    _let_in(request, parts)
    found, has_more = await _page(parts, before, limit)
    assets = await assets_of(parts)
    return _for_all(answer({"items": [epoch_view(one, assets) for one in found], "has_more": has_more}))


@public.get("/solvency/epochs/{number}", response_model=PublishedView, summary="What was published of an epoch")
async def read_epoch(request: Request, parts: Parts, number: int) -> Response:
    """Needs no key. The statement that the hash is over, in smallest units; signatures; the seal once there is one."""
    _let_in(request, parts)
    if not 0 < number < 2**59:
        raise NoEpoch(f"there is no epoch {str(number)[:20]}", param="number")
    return _for_all(_json((await parts.epochs.epoch(number)).published.document()))


@router.get(
    "/treasury/solvency",
    response_model=MadeEpochList,
    summary="List epochs of what is owed and held",
    dependencies=[caller(Scope.TREASURY_READ)],
)
async def list_made_epochs(
    parts: Parts,
    limit: Annotated[int, Query(ge=1, le=100, description="Items at most.")] = 20,
    before: Annotated[int | None, Query(ge=1, lt=2**59, description="Epochs with a lower number than this.")] = None,
) -> Response:
    found, has_more = await _page(parts, before, limit)
    assets = await assets_of(parts)
    return answer({"items": [made_epoch_view(one, assets) for one in found], "has_more": has_more})


@router.post(
    "/treasury/solvency", response_model=MadeEpochView, status_code=201, summary="Make an epoch of what is owed now"
)
@noted("epoch.make", told="epoch")
async def create_epoch(parts: Parts, treasurer: Annotated[Principal, caller(Scope.TREASURY_WRITE)]) -> Response:
    """Moves nothing, so it needs no Idempotency-Key. Addresses sign it, and a seal covers it, by the worker's steps."""
    made = await parts.epochs.make(asked_by=treasurer.owner)
    return answer(made_epoch_view(made, await assets_of(parts)), status=201)


async def _page(parts: Services, before: int | None, limit: int) -> tuple[list[KnownEpoch], bool]:
    found = await parts.epochs.recent(before=before, limit=limit + 1)
    return found[:limit], len(found) > limit


def _let_in(request: Request, parts: Services) -> None:
    """Count a request without a key by where it comes from. Raises RateExceeded; UnknownPath where nothing is shown."""
    limit: RateLimit = request.app.state.rate_limit
    limit.count_stranger("" if request.client is None else request.client.host, request.state.headers)
    if not parts.public_epochs:
        raise UnknownPath("epochs aren't shown here without a key", path=request.scope["path"])


def _for_all(response: Response) -> Response:
    response.headers["Cache-Control"] = f"public, max-age={PUBLIC_SECONDS}"
    return response


def _json(content: bytes) -> Response:
    return Response(content, media_type="application/json")
