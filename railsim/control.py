"""The control API, on its own port: clock, failure switches, webhooks, disputes, settlements."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, fields
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from railsim.calls import Json
from railsim.house import House
from railsim.provider import Provider
from railsim.switches import OUTCOMES, Event, Fault, Mishap, Switch
from railsim.webhooks import Endpoint

KINDS = (*Fault, *Mishap, *Event)
COUNTS = ("times", "skip", "percent", "milliseconds", "seconds")
NUMBER_MAX = 10**9
WAIT_SECONDS_MAX = 60

Act = Callable[[Request, Json], Awaitable[Json]]


class Unfit(Exception):
    """What was asked can't be done: says what, why, and what to do."""


def control_app(house: House) -> Starlette:
    """The ASGI application of the control API."""
    control = _Control(house)

    def route(method: str, path: str, act: Act) -> Route:
        async def endpoint(request: Request) -> Response:
            try:
                raw = await request.body()
                told = json.loads(raw) if raw else {}
                if not isinstance(told, dict):
                    raise Unfit("the body is one JSON object")
                house.world.timeline.run_due()
                return JSONResponse(await act(request, told))
            except json.JSONDecodeError as error:
                return JSONResponse({"error": f"the body isn't JSON: {error}"}, status_code=400)
            except LookupError as error:
                return JSONResponse({"error": str(error.args[0])}, status_code=404)
            except (Unfit, ValueError) as error:
                return JSONResponse({"error": str(error)}, status_code=400)

        return Route(path, endpoint, methods=[method])

    return Starlette(
        routes=[
            route("GET", "/", control.shown),
            route("GET", "/clock", control.clock),
            route("POST", "/clock", control.set_clock),
            route("GET", "/switches", control.switches),
            route("POST", "/switches", control.add_switch),
            route("DELETE", "/switches", control.clear_switches),
            route("DELETE", "/switches/{id}", control.remove_switch),
            route("GET", "/webhooks", control.webhooks),
            route("PUT", "/webhooks/{provider}", control.set_endpoint),
            route("DELETE", "/webhooks/{provider}", control.remove_endpoint),
            route("POST", "/webhooks/release", control.release),
            route("POST", "/webhooks/resend", control.resend),
            route("POST", "/webhooks/wait", control.wait),
            route("POST", "/disputes", control.open_dispute),
            route("POST", "/disputes/{id}", control.end_dispute),
            route("POST", "/settlements", control.settle),
            route("PUT", "/terms/{provider}", control.set_terms),
            route("POST", "/customers/acts", control.act),
        ]
    )


class _Control:
    def __init__(self, house: House) -> None:
        self.house, self.world = house, house.world

    def _provider(self, name: object) -> Provider:
        if name not in self.house.providers:
            raise Unfit(f"provider is one of {', '.join(self.house.providers)}, not {name!r}")
        return self.house.providers[str(name)]

    async def shown(self, request: Request, told: Json) -> Json:
        return self.house.shown()

    async def clock(self, request: Request, told: Json) -> Json:
        timeline = self.world.timeline
        return {"now": timeline.now().isoformat(), "frozen": timeline.is_frozen, "jobs": timeline.waiting}

    async def set_clock(self, request: Request, told: Json) -> Json:
        """`{"at": "2030-01-01T00:00:00Z"}` or `{"advance_seconds": 86400}`; `frozen` (default: as it was)."""
        timeline = self.world.timeline
        _known(told, {"at", "advance_seconds", "frozen"})
        to = timeline.now()
        if "at" in told:
            to = datetime.fromisoformat(str(told["at"]))
            if to.tzinfo is None:
                raise Unfit("at is an instant with its zone, such as 2030-01-31T12:00:00Z")
        to = to.astimezone(UTC) + timedelta(seconds=_whole(told, "advance_seconds", 0))
        timeline.move(to, frozen=_flag(told, "frozen", default=timeline.is_frozen))
        return await self.clock(request, told)

    async def switches(self, request: Request, told: Json) -> Json:
        return {"switches": [one.shown() for one in self.world.switches.standing]}

    async def add_switch(self, request: Request, told: Json) -> Json:
        _known(told, {one.name for one in fields(Switch)} - {"id", "used"})
        kind = str(told.get("kind"))
        if kind not in KINDS:
            raise Unfit(f"kind is one of {', '.join(KINDS)}, not {kind!r}")
        outcome = told.get("outcome", "")
        if kind in list(Event) and outcome not in OUTCOMES[Event(kind)]:
            raise Unfit(f"outcome of {kind} is one of {', '.join(OUTCOMES[Event(kind)])}, not {outcome!r}")
        counts = {name: _whole(told, name, getattr(Switch("", "", ""), name)) for name in COUNTS}
        switch = Switch(
            id=f"sw_{self.world.chance.letters(10)}", kind=kind, provider=self._provider(told.get("provider")).name,
            method=told.get("method"), path=told.get("path"), outcome=outcome, **counts,
        )  # fmt: skip
        self.world.switches.standing.append(switch)
        return switch.shown()

    async def clear_switches(self, request: Request, told: Json) -> Json:
        self.world.switches.standing.clear()
        return {"switches": []}

    async def remove_switch(self, request: Request, told: Json) -> Json:
        standing = self.world.switches.standing
        found = [one for one in standing if one.id == request.path_params["id"]]
        if not found:
            raise LookupError(f"there is no switch {request.path_params['id']}")
        standing.remove(found[0])
        return found[0].shown()

    async def webhooks(self, request: Request, told: Json) -> Json:
        provider = request.query_params.get("provider")
        found = (one for one in self.world.courier.deliveries if provider in (None, one.provider))
        return {"deliveries": [one.shown() for one in found]}

    async def set_endpoint(self, request: Request, told: Json) -> Json:
        provider = self._provider(request.path_params["provider"])
        url = told.get("url")
        if not isinstance(url, str) or not url.startswith(("http://", "https://")):
            raise Unfit("url is where the webhooks go, such as http://127.0.0.1:8080/v1/rails/stripe/webhooks")
        self.world.courier.endpoints[provider.name] = Endpoint(url, provider.sign)
        return {"provider": provider.name, "url": url}

    async def remove_endpoint(self, request: Request, told: Json) -> Json:
        provider = self._provider(request.path_params["provider"])
        self.world.courier.endpoints.pop(provider.name, None)
        return {"provider": provider.name, "url": None}

    async def release(self, request: Request, told: Json) -> Json:
        """Let go a webhook that waits for the next one of its provider."""
        self.world.courier.release(self._provider(told.get("provider")).name)
        return {}

    async def resend(self, request: Request, told: Json) -> Json:
        count = self.world.courier.resend(str(told.get("event_id")))
        if not count:
            raise LookupError(f"no webhook of event {told.get('event_id')} was ever made")
        return {"queued": count}

    async def wait(self, request: Request, told: Json) -> Json:
        """Wait until no webhook is on its way, at most `seconds` (10)."""
        bound = min(_whole(told, "seconds", 10), WAIT_SECONDS_MAX)
        try:
            async with asyncio.timeout(bound):
                await self.world.courier.idle()
        except TimeoutError:
            return {"idle": False}
        return {"idle": True}

    async def open_dispute(self, request: Request, told: Json) -> Json:
        provider = self._provider(told.get("provider"))
        _known(told, {"provider", "payment", "amount", "reason"})
        amount = _whole(told, "amount", 0) or None
        return provider.open_dispute(str(told.get("payment")), amount=amount, reason=told.get("reason"))

    async def end_dispute(self, request: Request, told: Json) -> Json:
        provider = self._provider(told.get("provider"))
        if "won" not in told:
            raise Unfit("won is true or false")
        return provider.end_dispute(request.path_params["id"], won=_flag(told, "won", default=False))

    async def settle(self, request: Request, told: Json) -> Json:
        """Pay out to the merchant's bank what is available; with `everything`, also what isn't yet."""
        provider = self._provider(told.get("provider"))
        return provider.settle(everything=_flag(told, "everything", default=False)) or {"payouts": []}

    async def set_terms(self, request: Request, told: Json) -> Json:
        terms = self._provider(request.path_params["provider"]).terms
        _known(told, {one.name for one in fields(terms)})
        for name, value in told.items():
            known = type(getattr(terms, name))
            if type(value) is not known or (known is int and value < 0):
                raise Unfit(f"{name} is {'true or false' if known is bool else 'a whole number, not below 0'}")
        for name, value in told.items():
            setattr(terms, name, value)
        return asdict(terms)

    async def act(self, request: Request, told: Json) -> Json:
        """What a customer does by hand: `{"provider": "stripe", "act": "authenticate", "id": "pi_..."}`."""
        provider = self._provider(told.get("provider"))
        acts = provider.customer_acts()
        if told.get("act") not in acts:
            raise Unfit(f"a customer of {provider.name} can {', '.join(acts) or 'do nothing'}, not {told.get('act')!r}")
        return acts[told["act"]](str(told.get("id")))


def _known(told: Json, names: set[str]) -> None:
    if unknown := set(told) - names:
        raise Unfit(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(sorted(names))}")


def _whole(told: Json, name: str, default: int) -> int:
    value: Any = told.get(name, default)
    if type(value) is not int or not 0 <= value <= NUMBER_MAX:
        raise Unfit(f"{name} is a whole number of 0 to {NUMBER_MAX}, not {value!r}")
    return value


def _flag(told: Json, name: str, *, default: bool) -> bool:
    value = told.get(name, default)
    if not isinstance(value, bool):
        raise Unfit(f"{name} is true or false, not {value!r}")
    return value
