"""Request bodies, read strictly: JSON that means one thing only, and text that every store can keep."""

import json
import math
from collections.abc import Iterable
from email.message import Message

from starlette.requests import Request

from api.errors import BodyTooLarge, MalformedBody, WrongContentType
from base.nesting import is_nested_within

JSON_BYTES_MAX = 64 * 1024
"""A JSON body's largest size, where a route doesn't allow more."""

_DEPTH_MAX = 20


async def read_json(request: Request, *, bytes_max: int = JSON_BYTES_MAX) -> object:
    """The request's JSON body, parsed once; later readers of the request get the same value.

    Raises WrongContentType, and MalformedBody for anything that isn't plain JSON: a name twice in one object, numbers
    that aren't finite, half characters.
    """
    raw = await read_body(request, bytes_max=bytes_max)
    if not raw:
        return None
    _require_json(request)
    parsed = parse_json(raw)
    request._json = parsed
    return parsed


async def read_body(request: Request, *, bytes_max: int) -> bytes:
    """The request's whole body, read once. Raises BodyTooLarge as soon as more than `bytes_max` came."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > bytes_max:
            raise BodyTooLarge(f"the body is larger than {bytes_max} bytes", bytes_max=bytes_max)
        parts.append(part)
    request._body = b"".join(parts)  # what a second reader of the same request is given
    return request._body


def parse_json(raw: bytes) -> object:
    """`raw` as JSON values. Raises MalformedBody."""
    is_shallow = raw.count(b"{") + raw.count(b"[") < _DEPTH_MAX
    if not is_shallow and not is_nested_within(raw, _DEPTH_MAX):
        raise MalformedBody(f"the body is nested more than {_DEPTH_MAX} levels deep")
    try:
        parsed: object = _decoder.decode(raw.decode("utf-8"))
    except json.JSONDecodeError as error:
        raise MalformedBody(
            f"the body isn't JSON: {error.msg} in line {error.lineno}, column {error.colno}",
            line=error.lineno,
            column=error.colno,
        ) from None
    except UnicodeDecodeError as error:
        raise MalformedBody(f"the body isn't UTF-8 from byte {error.start} on") from None
    except (ValueError, RecursionError):
        raise MalformedBody("the body has a number that is too long, or is nested too deeply") from None
    if not (is_shallow and raw.isascii() and b"\\u" not in raw):  # else no text can hold what it mustn't
        _check_text(parsed, _DEPTH_MAX)
    return parsed


def is_plain_text(text: str) -> bool:
    """Whether `text` is made of whole characters and has no NUL: what PostgreSQL can keep."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:  # half of a surrogate pair
            return False
    return "\0" not in text


def _require_json(request: Request) -> None:
    said = request.headers.get("content-type", "")
    if said == "application/json":
        return
    declared = Message()
    declared["content-type"] = said
    kind = declared.get_content_type() if declared["content-type"] else ""
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise WrongContentType(
            f"this path takes JSON: send Content-Type: application/json, not {kind or 'none'}",
            expected="application/json",
        )


def _unique(pairs: Iterable[tuple[str, object]]) -> dict[str, object]:
    fields: dict[str, object] = {}
    for name, value in pairs:
        if name in fields:
            raise MalformedBody(f"the body has {name[:40]!r} twice in one object", param=name[:40])
        fields[name] = value
    return fields


def _refuse_constant(name: str) -> object:
    raise MalformedBody(f"the body has {name}, which is no JSON number")


def _finite(text: str) -> float:
    finite = float(text)
    if not math.isfinite(finite):
        raise MalformedBody("the body has a number that is too large")
    return finite


def _check_text(value: object, depth: int) -> None:
    if depth == 0:
        raise MalformedBody(f"the body is nested more than {_DEPTH_MAX} levels deep")
    match value:
        case str():
            if not is_plain_text(value):
                raise MalformedBody("the body has text with a NUL or half a character in it")
        case dict():
            for name, inner in value.items():
                _check_text(name, depth - 1)
                _check_text(inner, depth - 1)
        case list():
            for inner in value:
                _check_text(inner, depth - 1)


_decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite)
