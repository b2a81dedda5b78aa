"""Deposits over a chain: addresses to pay to, and what arrived."""

from functools import partial
from typing import Annotated

from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict

from api.answers import Assets, answer, instant, maybe_money
from api.auth import owner
from api.door import resource
from api.paging import Wanted, listing
from api.parts import Parts, assets_of
from api.schemas import Asked
from chain.evm.addresses import show_address
from identity.scopes import Scope
from wallet.resources import Deposit, DepositAddress

router = resource("deposits")


class DepositAddressView(TypedDict):
    address: str
    networks: list[str]


class DepositAddressList(TypedDict):
    items: list[DepositAddressView]
    has_more: bool


class DepositView(TypedDict):
    id: str
    state: str
    asset: str | None
    amount: str | None
    network: str
    contract: str | None
    sender: str
    address: str
    tx_hash: str | None
    place: str
    block_number: int
    block_hash: str
    seen_at: str
    updated_at: str


class DepositList(TypedDict):
    items: list[DepositView]
    has_more: bool


class NewDepositAddress(Asked):
    """An address to be given: the same one again if you have one that serves the network."""

    network: str = Field(max_length=64, examples=["local"])


def address_view(address: DepositAddress) -> DepositAddressView:
    return {"address": show_address(address.address), "networks": list(address.networks)}


def deposit_view(deposit: Deposit, assets: Assets) -> DepositView:
    """As its user sees it."""
    return {
        "id": deposit.id,
        "state": deposit.state.shown.value,
        "asset": deposit.asset,
        "amount": maybe_money(deposit.amount, deposit.asset, assets),
        "network": deposit.network,
        "contract": deposit.contract,
        "sender": show_address(deposit.sender),
        "address": show_address(deposit.address),
        "tx_hash": deposit.evidence.transaction,
        "place": deposit.place,
        "block_number": deposit.block_number,
        "block_hash": deposit.block_hash,
        "seen_at": instant(deposit.seen_at),
        "updated_at": instant(deposit.updated_at),
    }


@router.post("/deposit-addresses", response_model=DepositAddressView, status_code=201, summary="Get your address")
async def create_deposit_address(
    parts: Parts, asked: NewDepositAddress, user: Annotated[str, owner(Scope.DEPOSITS_WRITE)]
) -> Response:
    return answer(address_view(await parts.deposit_addresses.issue(user, asked.network)), status=201)


@router.get("/deposit-addresses", response_model=DepositAddressList, summary="List your addresses")
async def list_deposit_addresses(parts: Parts, user: Annotated[str, owner(Scope.WALLET_READ)]) -> Response:
    items = [address_view(address) for address in await parts.deposit_addresses.list_for(user)]
    return answer({"items": items, "has_more": False})


@router.get("/deposits", response_model=DepositList, summary="List what arrived for you")
async def list_deposits(parts: Parts, page: Wanted, user: Annotated[str, owner(Scope.WALLET_READ)]) -> Response:
    found = await page.of(partial(parts.deposits.list_for, user))
    return answer(listing(*found, partial(deposit_view, assets=await assets_of(parts))))


@router.get("/deposits/{deposit}", response_model=DepositView, summary="Read a deposit")
async def read_deposit(parts: Parts, deposit: str, user: Annotated[str, owner(Scope.WALLET_READ)]) -> Response:
    return answer(deposit_view(await parts.deposits.get(user, deposit), await assets_of(parts)))
