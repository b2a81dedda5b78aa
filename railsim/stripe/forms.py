"""Stripe's form bodies and queries (`card[number]=4242&expand[]=charge`) as nested objects; typed reading."""

from urllib.parse import parse_qsl

from railsim.calls import Answer, Json, Refused

DEPTH_MAX = 6


def parse_form(text: str) -> Json:
    """Nested objects of a form body; every leaf is a string."""
    found: Json = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        head, _, rest = name.partition("[")
        keys = [head, *(part.rstrip("]") for part in rest.split("["))] if rest else [head]
        if len(keys) > DEPTH_MAX:
            raise invalid(f"Invalid request: {name} is nested too deeply.", param=name)
        place = found
        for key in keys[:-1]:
            inner = place.setdefault(key, {})
            if not isinstance(inner, dict):
                raise invalid(f"Invalid request: {name} is given twice.", param=name)
            place = inner
        last = keys[-1] if keys[-1] else str(len(place))
        place[last] = value
    plain: Json = _listed(found)
    return plain


def _listed(value: Json) -> Json:
    """Objects whose keys are 0, 1, 2 ... are lists."""

    def of(inner: object) -> object:
        if not isinstance(inner, dict):
            return inner
        if inner and all(key.isdigit() for key in inner):
            return [of(inner[key]) for key in sorted(inner, key=int)]
        return {key: of(item) for key, item in inner.items()}

    return {key: of(item) for key, item in value.items()}


def invalid(message: str, *, param: str | None = None, code: str | None = None, status: int = 400) -> Refused:
    """Stripe's `invalid_request_error`."""
    error: Json = {"type": "invalid_request_error", "message": message}
    if param is not None:
        error["param"] = param
    if code is not None:
        error["code"] = code
        error["doc_url"] = f"https://stripe.com/docs/error-codes/{code.replace('_', '-')}"
    return Refused(Answer(status, {"error": error}))


def required(body: Json, name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise invalid(f"Missing required param: {name}.", param=name, code="parameter_missing")
    return value


def text(body: Json, name: str) -> str | None:
    value = body.get(name)
    return value if isinstance(value, str) and value else None


def whole(body: Json, name: str, *, least: int = 1, most: int = 99_999_999) -> int | None:
    """A whole number within bounds, if it is there."""
    value = body.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not value.lstrip("-").isdigit():
        raise invalid(f"Invalid integer: {value}", param=name, code="parameter_invalid_integer")
    if not least <= int(value) <= most:
        raise invalid(f"This value must be between {least} and {most}.", param=name, code="parameter_invalid_integer")
    return int(value)


def flag(body: Json, name: str) -> bool:
    value = body.get(name, "false")
    if value not in ("true", "false"):
        raise invalid(f"Invalid boolean: {value}", param=name)
    return bool(value == "true")


def choice(body: Json, name: str, allowed: tuple[str, ...], default: str) -> str:
    value = body.get(name) or default
    if value not in allowed:
        raise invalid(f"Invalid {name}: must be one of {', '.join(allowed)}", param=name)
    return str(value)


def metadata(body: Json) -> dict[str, str]:
    value = body.get("metadata") or {}
    if not isinstance(value, dict) or len(value) > 50 or not all(isinstance(item, str) for item in value.values()):
        raise invalid("Invalid metadata: at most 50 keys with text.", param="metadata")
    return dict(value)
