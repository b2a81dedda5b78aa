"""Writes alerts to the worker's log: each when it comes up, and when its cause has gone."""

from datetime import datetime, timedelta

import structlog

from base.clock import Clock
from treasury.alerts import Alert, AlertCode, Alerts, Severity

EVERY = timedelta(seconds=5)
"""How often they are looked at."""

log = structlog.get_logger()


class AlertLog:
    """The step. After a restart it tells of all that stand."""

    def __init__(self, alerts: Alerts, *, clock: Clock) -> None:
        self._alerts = alerts
        self._clock = clock
        self._told: dict[tuple[AlertCode, str], Alert] = {}
        self._looked_at: datetime | None = None

    async def step(self) -> int:
        """Look, if it's time to; how many came up or went."""
        now = self._clock.now()
        if self._looked_at is not None and now - self._looked_at < EVERY:
            return 0
        open_ = {(alert.code, alert.subject): alert for alert in await self._alerts.open()}
        came = [alert for key, alert in open_.items() if key not in self._told]
        gone = [alert for key, alert in self._told.items() if key not in open_]
        for alert in came:
            tell = log.critical if alert.severity is Severity.CRITICAL else log.warning
            tell("alert", code=alert.code.value, subject=alert.subject, text=alert.text)
        for alert in gone:
            log.info("alert has ended", code=alert.code.value, subject=alert.subject)
        self._told, self._looked_at = open_, now
        return len(came) + len(gone)
