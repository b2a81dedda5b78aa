"""Alerts, for the treasurer: what stands still or is missing, and since when."""

from starlette.responses import Response
from typing_extensions import TypedDict

from api.answers import answer, maybe_instant
from api.auth import caller
from api.door import resource
from api.parts import Parts
from identity.scopes import Scope
from treasury.alerts import Alert

router = resource("treasury")


class AlertView(TypedDict):
    code: str
    severity: str
    subject: str
    text: str
    since: str | None


class AlertList(TypedDict):
    items: list[AlertView]
    has_more: bool


def alert_view(alert: Alert) -> AlertView:
    return {
        "code": alert.code.value,
        "severity": alert.severity.value,
        "subject": alert.subject,
        "text": alert.text,
        "since": maybe_instant(alert.since),
    }


@router.get(
    "/treasury/alerts",
    response_model=AlertList,
    summary="List what somebody has to look at now",
    dependencies=[caller(Scope.TREASURY_READ)],
)
async def list_alerts(parts: Parts) -> Response:
    return answer({"items": [alert_view(alert) for alert in await parts.alerts.open()], "has_more": False})
