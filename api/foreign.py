"""Errors of the web framework and of the database, as ours: each is turned once, here."""

from collections.abc import Mapping, Sequence

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from api.errors import InvalidRequest, UnknownPath
from base.errors import OnebookError, Rejected
from db.errors import translate

_ERRORS_MAX = 20
"""Faults of one request that are listed at most."""

_OWN_CODES = {"missing": "missing_field", "extra_forbidden": "unknown_field", "amount_not_text": "amount_not_text"}
"""Pydantic's names of faults that have a code of their own here; the others are `invalid_request`."""


def from_validation(error: RequestValidationError) -> InvalidRequest:
    """What FastAPI found wrong with a request: the first fault in front, all of them listed."""
    faults = [_fault(found) for found in error.errors()[:_ERRORS_MAX]]
    first = faults[0]
    if first["param"] == "" and first["code"] == "missing_field":
        return InvalidRequest("this path takes a JSON body, and none was sent", code="body_missing")
    sentence = f"{first['param'] or 'the body'}: {first['detail']}"
    if len(faults) > 1:
        sentence += f" (and {len(faults) - 1} more, see errors)"
    refusal = InvalidRequest(sentence, code=first["code"], param=first["param"] or None)
    return refusal if len(faults) == 1 else _listing(refusal, faults)


def from_http(error: HTTPException, *, method: str, path: str) -> OnebookError:
    """What the router or the framework refused."""
    match error.status_code:
        case 404:
            return UnknownPath(f"there is nothing at {path[:200]}; /docs lists all paths", path=path[:200])
        case 405:
            allowed = (error.headers or {}).get("Allow", "")
            return Rejected(
                f"{path[:200]} doesn't take {method[:20]}; it takes {allowed}",
                code="method_not_allowed",
                allowed=allowed,
            )
        case _:
            return Rejected(str(error.detail), code="http_error")


def from_anything(error: Exception) -> OnebookError:
    """What an unexpected error means: the database's words are known, all others are internal."""
    return translate(error) or OnebookError(f"{type(error).__name__}: {error}")


def _listing(refusal: InvalidRequest, faults: Sequence[Mapping[str, str]]) -> InvalidRequest:
    refusal.facts = {"errors": [dict(fault) for fault in faults]}
    return refusal


def _fault(found: Mapping[str, object]) -> dict[str, str]:
    kind, place = str(found["type"]), found["loc"]
    assert isinstance(place, Sequence)
    where, *steps = place
    named = steps if where in ("body", "query", "path", "header") else place
    param = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in named)
    return {
        "param": param.removeprefix("."),
        "code": _OWN_CODES.get(kind, "invalid_request"),
        "detail": _sentence(kind, str(found["msg"])),
    }


def _sentence(kind: str, message: str) -> str:
    match kind:
        case "missing":
            return "this field is missing"
        case "extra_forbidden":
            return "there is no such field"
        case _:
            return message[:1].lower() + message[1:]
