"""RFC 9457 problems: the one place that knows which HTTP status an error has, and explains each to whoever met it.

A problem's `type` names the page that explains it. An error whose code has no row takes the row of its class. What went
wrong inside (5xx by our own fault) is never told in its own words.
"""

from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import JSONResponse

from api.answers import Assets
from api.catalogue import CATALOGUE
from api.problem import Problem
from base.errors import BrokenInvariant, ConfigError, NotFound, OnebookError, Rejected, Unavailable
from ledger.errors import RefusedByBook
from ledger.money import Asset, format_amount

MEDIA_TYPE = "application/problem+json"

RETRY_SECONDS = 2
"""What `Retry-After` says when the error itself doesn't know better."""

AMOUNT_FACTS = frozenset(
    {
        "amount",
        "available",
        "balance",
        "cap",
        "difference",
        "fee",
        "fee_accepted",
        "fee_highest",
        "held",
        "in_use",
        "least",
        "most",
        "sell_at_least",
        "maximum",
        "minimum",
        "nearest",
        "owed",
        "proposed_for",
        "remaining",
        "required",
        "sold",
        "total",
        "used",
    }
)
"""Facts that are smallest units of an asset, and are shown as decimal strings once the asset is known."""


ALIASES: Mapping[str, str] = {"id_conflict": "idempotency_key_reused", "wrong_network": "not_on_network"}
"""Codes that mean something plainer to whoever calls this API."""

_BY_CLASS: tuple[tuple[type[OnebookError], str], ...] = (
    (NotFound, "not_found"),
    (Rejected, "rejected"),
    (Unavailable, "unavailable"),
    (ConfigError, "config"),
    (BrokenInvariant, "broken_invariant"),
)


def problem_of(error: OnebookError) -> Problem:
    """The row that explains `error`: its code's, else its class's; `internal` for what has neither."""
    row = CATALOGUE.get(ALIASES.get(error.code, error.code))
    if row is not None:
        return row
    return next((CATALOGUE[code] for kind, code in _BY_CLASS if isinstance(error, kind)), CATALOGUE["internal"])


def asset_of(error: OnebookError, body: object) -> str | None:
    """Code of the asset that the error's amounts are in: told by its facts, else by the request's body."""
    asset, account = error.facts.get("asset"), error.facts.get("account")
    if isinstance(asset, str):
        return asset
    if isinstance(account, str) and account.count("/") == 2:
        return account.rpartition("/")[2]
    fields = body if isinstance(body, dict) else {}
    named = fields.get("asset", fields.get("sell"))
    return named if isinstance(named, str) else None


def response_for(
    error: OnebookError, *, request_id: str, assets: Assets | None = None, body: object = None
) -> JSONResponse:
    """The answer that tells a caller of `error`."""
    row = problem_of(error)
    content = problem_view(error, request_id=request_id, assets=assets, body=body)
    return JSONResponse(content, row.status, headers=_headers(error, row), media_type=MEDIA_TYPE)


def problem_view(
    error: OnebookError, *, request_id: str, assets: Assets | None = None, body: object = None
) -> dict[str, object]:
    """The problem as plain JSON; amounts as decimal strings where the asset is known."""
    row = problem_of(error)
    code = asset_of(error, body)
    asset = (assets or {}).get(code) if code else None
    facts = {} if row.private else {name: _shown(name, value, asset) for name, value in error.facts.items()}
    if asset is not None and AMOUNT_FACTS & facts.keys():
        facts["asset"] = asset.code
    content: dict[str, object] = {
        **facts,
        "type": f"/problems/{row.code}",
        "title": row.title,
        "status": row.status,
        "detail": _detail(error, row, facts),
        "remedy": row.remedy,
        "code": row.code,
        "request_id": request_id,
    }
    if error.param is not None:
        content["param"] = error.param
    return content


def _detail(error: OnebookError, row: Problem, facts: Mapping[str, object]) -> str:
    """One sentence for this very case. The book's own words name commands, so its numbers are put into ours."""
    if row.private:
        return row.why
    if not isinstance(error, RefusedByBook):
        return error.message
    if row.code == "insufficient_funds" and "asset" in facts:
        return f"this needs {facts['required']} {facts['asset']}; {facts['available']} {facts['asset']} is available"
    return row.why


def _shown(name: str, value: object, asset: Asset | None) -> object:
    match value:
        case bool() | None:
            return value
        case int() if name in AMOUNT_FACTS and asset is not None:
            return format_amount(value, asset)
        case int() if abs(value) >= 2**53:
            return str(value)  # beyond what JSON readers keep exactly
        case int():
            return value
        case str() if name in AMOUNT_FACTS and asset is not None and value.isdecimal():
            return format_amount(int(value), asset)
        case dict():
            return {str(key): _shown(str(key), inner, asset) for key, inner in value.items()}
        case list() | tuple():
            return [_shown(name, item, asset) for item in value]
        case _:
            return str(value)


def _headers(error: OnebookError, row: Problem) -> dict[str, str]:
    match row.status:
        case HTTPStatus.UNAUTHORIZED if row.code == "no_key":
            return {"WWW-Authenticate": 'Bearer realm="onebook"'}
        case HTTPStatus.UNAUTHORIZED:
            return {
                "WWW-Authenticate": f'Bearer realm="onebook", error="invalid_token", error_description="{row.title}"'
            }
        case HTTPStatus.TOO_MANY_REQUESTS | HTTPStatus.SERVICE_UNAVAILABLE | HTTPStatus.CONFLICT:
            if row.status == HTTPStatus.CONFLICT and "retry_after" not in error.facts:
                return {}
            wait = error.facts.get("retry_after", RETRY_SECONDS)
            return {"Retry-After": str(wait)}
        case _:
            return {}
