"""Reports of periods: the house's for the treasurer, a user's own statement; JSON, CSV, XLSX, PDF."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Query
from starlette.responses import Response, StreamingResponse
from typing_extensions import TypedDict

from api.auth import caller, owner
from api.door import resource
from api.errors import InvalidRequest
from api.instants import Instant
from api.parts import Parts
from identity.scopes import Scope
from treasury.reports.model import ReportKind
from treasury.reports.render.rendering import Form, file_name, render
from treasury.reports.render.words import Language
from treasury.reports.service import Asked

router = resource("reports")

SEQ_MAX = 2**63 - 1
MEMORY_BYTES = 4 * 1024 * 1024
"""A report up to this size waits in memory until it's sent, a larger one in a nameless file."""

CHUNK_BYTES = 256 * 1024

_FORMS: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            form.media_type.partition(";")[0]: {"schema": {"type": "string", "format": "binary"}}
            for form in Form
            if form is not Form.JSON
        }
    }
}


class NoteView(TypedDict):
    code: str
    about: str


ReportView = TypedDict(
    "ReportView",
    {
        "kind": str,
        "book": str,
        "user": str | None,
        "period": str,
        "from": str,
        "to": str,
        "time_zone": str,
        "at": str,
        "known_at": str,
        "known_seq": int,
        "provisional": bool,
        "reference": str | None,
        "digest": str,
        "notes": list[NoteView],
        "tables": dict[str, list[dict[str, str | None]]],
    },
)

Period = Annotated[
    str, Query(max_length=10, examples=["2026-10"], description="A day, month, quarter (2026-Q4) or year.")
]
Format = Annotated[Form, Query(alias="format", description="What it's written as.")]
Lang = Annotated[Language, Query(description="The language of its words; JSON has none.")]
KnownAt = Annotated[Instant | None, Query(description="As it would have been told then.")]
KnownSeq = Annotated[
    int | None, Query(ge=0, le=SEQ_MAX, description="Or as an earlier report's known_seq says: the same again.")
]
ClosedOnly = Annotated[bool, Query(description="Refuse a period that isn't closed.")]


@router.get(
    "/treasury/reports/{kind}",
    response_model=ReportView,
    responses=_FORMS,
    summary="A report of a period",
    dependencies=[caller(Scope.TREASURY_READ)],
)
async def read_report(
    parts: Parts,
    kind: ReportKind,
    period: Period,
    form: Format = Form.JSON,
    lang: Lang = Language.EN,
    known_at: KnownAt = None,
    known_seq: KnownSeq = None,
    closed_only: ClosedOnly = False,
    user: Annotated[str | None, Query(max_length=64, description="Whose statement: @handle, or a user id.")] = None,
) -> Response:
    """Of a closed period the same to the last byte, whenever it's asked for; of an open one it's provisional."""
    whose = None if user is None else (await parts.identity.user(user)).id
    known = _known(known_at, known_seq)
    return await _answer(
        parts, Asked(kind=kind, period=period, known=known, closed_only=closed_only, user=whose), form, lang
    )


@router.get(
    "/me/statements",
    response_model=ReportView,
    responses=_FORMS,
    summary="My statement of a period: every asset, every line",
)
async def read_my_statement(
    parts: Parts,
    user: Annotated[str, owner(Scope.WALLET_READ)],
    period: Period,
    form: Format = Form.JSON,
    lang: Lang = Language.EN,
    known_at: KnownAt = None,
    known_seq: KnownSeq = None,
    closed_only: ClosedOnly = False,
) -> Response:
    """By effective time. One account's, between any two instants: GET /v1/statements."""
    known = _known(known_at, known_seq)
    asked = Asked(kind=ReportKind.STATEMENT, period=period, known=known, closed_only=closed_only, user=user)
    return await _answer(parts, asked, form, lang)


def _known(at: Instant | None, seq: int | None) -> Instant | int | None:
    if at is not None and seq is not None:
        raise InvalidRequest("give known_at or known_seq, not both", param="known_seq")
    return seq if at is None else at


async def _answer(parts: Parts, asked: Asked, form: Form, language: Language) -> Response:
    """The report, made whole in a thread before its first byte is sent: an error is never half an answer."""
    stream: Any = tempfile.SpooledTemporaryFile(max_size=MEMORY_BYTES)  # noqa: SIM115 - closed when it's sent
    try:
        async with parts.reports.report(asked) as report:
            await asyncio.to_thread(render, report, form, language, stream)
            name = file_name(report, form, language)
    except BaseException:
        stream.close()
        raise
    size = stream.tell()
    stream.seek(0)
    headers = {"Content-Length": str(size)}
    if form is not Form.JSON:
        headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return StreamingResponse(_parts_of(stream), media_type=form.media_type, headers=headers)


async def _parts_of(stream: Any) -> AsyncIterator[bytes]:
    with stream:
        while part := stream.read(CHUNK_BYTES):
            yield part
