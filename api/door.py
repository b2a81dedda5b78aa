"""A router behind the door: what every resource under `/v1` has in common."""

from typing import Any

from fastapi import APIRouter, Security
from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

from api.auth import Door, bearer


@with_config(ConfigDict(extra="allow"))
class ProblemView(TypedDict, total=False):
    """RFC 9457, with what to do, and the numbers that explain it beside these."""

    type: str
    title: str
    status: int
    detail: str
    remedy: str
    code: str
    request_id: str
    param: str


_PROBLEM = {"model": ProblemView, "content": {"application/problem+json": {}}}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "Refused: `code` and `detail` say what, why and what to do.", **_PROBLEM},
    "5XX": {"description": "Not possible now; try again after `Retry-After`.", **_PROBLEM},
}
"""What every resource may answer instead."""


def resource(tag: str, *, door: type[Door] = Door) -> APIRouter:
    """An empty router for resources under `/v1`: a key is needed, errors are problems."""
    return APIRouter(prefix="/v1", tags=[tag], route_class=door, dependencies=[Security(bearer)], responses=PROBLEMS)
