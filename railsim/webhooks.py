"""Webhooks on their way: a queue per provider, sent in order, with the mishaps that were switched on."""

import asyncio
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from railsim.calls import Json
from railsim.clock import Timeline
from railsim.switches import Mishap, Switches

RETRY_SECONDS = (60, 300, 1_800, 7_200, 43_200)
"""Simulated seconds until a webhook that wasn't taken is sent again; then no more."""

SEND_TIMEOUT_SECONDS = 10.0
POLL_SECONDS = 0.005
HISTORY_MAX = 100_000

Sign = Callable[..., dict[str, str]]


@dataclass(slots=True)
class Delivery:
    """One webhook and what became of it. `state`: queued, waiting, delivered, dropped, failed."""

    provider: str
    event_id: str
    event_type: str
    body: bytes
    state: str = "queued"
    attempts: int = 0
    statuses: list[int] = field(default_factory=list)
    """Answers of the receiver; 0 is none."""
    badly_signed: bool = False
    milliseconds: int = 0

    def shown(self) -> Json:
        return {name: getattr(self, name) for name in self.__slots__ if name != "body"} | {
            "body": json.loads(self.body)
        }


@dataclass(slots=True)
class Endpoint:
    """Where a provider's webhooks go."""

    url: str
    sign: Sign


class Courier:
    """Sends webhooks. Without an endpoint an event is only listed by its provider's API."""

    def __init__(self, timeline: Timeline, switches: Switches) -> None:
        self._timeline = timeline
        self._switches = switches
        self.endpoints: dict[str, Endpoint] = {}
        self.deliveries: deque[Delivery] = deque(maxlen=HISTORY_MAX)
        self._queue: deque[Delivery] = deque()
        self._held: dict[str, Delivery] = {}
        self._wake = asyncio.Event()
        self._sending = 0

    def post(self, provider: str, event_id: str, event_type: str, payload: Any) -> None:
        """Take an event's webhook; its mishap is decided now."""
        if provider not in self.endpoints:
            return
        delivery = Delivery(provider, event_id, event_type, json.dumps(payload, separators=(",", ":")).encode())
        self.deliveries.append(delivery)
        switch = self._switches.take(Mishap, provider, "", event_type)
        match switch.kind if switch else None:
            case Mishap.DROPPED:
                delivery.state = "dropped"
            case Mishap.DUPLICATED:
                self._enqueue(delivery)
                twin = Delivery(provider, event_id, event_type, delivery.body)
                self.deliveries.append(twin)
                self._enqueue(twin)
            case Mishap.REORDERED if provider not in self._held:
                delivery.state = "waiting"
                self._held[provider] = delivery
                return
            case Mishap.LATE:
                assert switch is not None
                delivery.state = "waiting"
                self._timeline.after(switch.seconds, lambda: self._enqueue(delivery))
            case Mishap.BADLY_SIGNED:
                delivery.badly_signed = True
                self._enqueue(delivery)
            case Mishap.SLOW:
                assert switch is not None
                delivery.milliseconds = switch.milliseconds
                self._enqueue(delivery)
            case _:
                self._enqueue(delivery)
        self.release(provider)

    def release(self, provider: str) -> None:
        """Let go what waited for the next one."""
        held = self._held.pop(provider, None)
        if held is not None:
            self._enqueue(held)

    def resend(self, event_id: str) -> int:
        """Queue all deliveries of an event once more. Returns how many there are."""
        again = [one for one in self.deliveries if one.event_id == event_id]
        for one in again:
            self._enqueue(one)
        return len(again)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is on its way: neither in the queue nor with a receiver."""
        return not self._queue and not self._sending

    def _enqueue(self, delivery: Delivery) -> None:
        delivery.state = "queued"
        self._queue.append(delivery)
        self._wake.set()

    async def idle(self) -> None:
        """Wait until nothing is on its way."""
        while not self.is_idle:  # noqa: ASYNC110 - asked by tests only; sending need not tell them
            await asyncio.sleep(POLL_SECONDS)

    async def run(self) -> None:
        """Send what comes, one after the other, until cancelled."""
        async with httpx.AsyncClient(timeout=SEND_TIMEOUT_SECONDS, trust_env=False) as client:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._queue:
                    self._sending = 1
                    try:
                        await self._send(client, self._queue.popleft())
                    finally:
                        self._sending = 0

    async def _send(self, client: httpx.AsyncClient, delivery: Delivery) -> None:
        endpoint = self.endpoints.get(delivery.provider)
        if endpoint is None:
            delivery.state = "dropped"
            return
        if delivery.milliseconds:
            await asyncio.sleep(delivery.milliseconds / 1000)
        signed = endpoint.sign(delivery.body, endpoint.url, badly=delivery.badly_signed)
        headers = {"content-type": "application/json", "user-agent": f"railsim/{delivery.provider}", **signed}
        delivery.attempts += 1
        try:
            answer = await client.post(endpoint.url, content=delivery.body, headers=headers)
            status = answer.status_code
        except httpx.HTTPError:
            status = 0
        delivery.statuses.append(status)
        if 200 <= status < 300:
            delivery.state = "delivered"
        elif delivery.attempts <= len(RETRY_SECONDS):
            delivery.state = "waiting"
            self._timeline.after(RETRY_SECONDS[delivery.attempts - 1], lambda: self._enqueue(delivery))
        else:
            delivery.state = "failed"
