"""Pages for people: what is here, and what each problem means. They need no key, no script and no other server."""

import re
from collections.abc import Mapping
from importlib.resources import files

from fastapi import APIRouter
from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from api.catalogue import CATALOGUE
from api.errors import UnknownPath
from api.health import readiness
from api.parts import Parts
from api.problem import Problem
from api.routes.networks import NetworkView, network_view
from api.routes.treasury import SumView, sum_views
from base.errors import OnebookError
from wiring.services import Services

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""Content-Security-Policy of our pages: one style sheet inside the page, and nothing else."""

router = APIRouter(include_in_schema=False)


def _codes(text: str) -> Markup:
    """The text as HTML, what stands between backquotes as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped before


def _templates() -> Environment:
    folder = files("api") / "templates"
    texts = {name: (folder / name).read_text(encoding="utf-8") for name in ("layout.html", "home.html", "problem.html")}
    environment = Environment(loader=DictLoader(texts), autoescape=True, undefined=StrictUndefined)
    environment.filters["codes"] = _codes
    return environment


_TEMPLATES = _templates()


@router.get("/")
async def home(request: Request, parts: Parts) -> Response:
    checks = await readiness(parts)
    context = {
        "book": parts.ledger.book,
        "ready": not any(checks.values()),
        "checks": checks,
        "networks": await _networks(parts),
        "sums": await _sums(parts),
        "public_books": parts.public_books,
        "base": str(request.base_url).rstrip("/"),
    }
    return _page("home.html", context)


@router.get("/problems")
async def list_problems(request: Request) -> Response:
    if not _wants_html(request):
        return JSONResponse({"items": [_row(problem) for problem in CATALOGUE.values()], "has_more": False})
    return _page("problem.html", {"problems": list(CATALOGUE.values())})


@router.get("/problems/{code}")
async def read_problem(request: Request, code: str) -> Response:
    """What a problem's `type` leads to: a page for a browser, JSON for everybody else."""
    problem = CATALOGUE.get(code)
    if problem is None:
        raise UnknownPath(f"there is no problem called {code[:60]}; /problems lists all", path=request.scope["path"])
    return _page("problem.html", {"problems": [problem]}) if _wants_html(request) else JSONResponse(_row(problem))


async def _networks(services: Services) -> list[NetworkView]:
    """Where each network stands; none while the database can't tell, which the checks show."""
    try:
        return [network_view(network, status) for network, status in await services.chains.status()]
    except OnebookError:
        return []


async def _sums(services: Services) -> list[SumView]:
    """The books' totals, where this installation shows them to anybody."""
    if not services.public_books:
        return []
    try:
        return sum_views(await services.ledger.accounts(), await services.ledger.assets())
    except OnebookError:
        return []


def _row(problem: Problem) -> dict[str, object]:
    return {
        "type": f"/problems/{problem.code}",
        "code": problem.code,
        "status": problem.status,
        "title": problem.title,
        "why": problem.why,
        "remedy": problem.remedy,
    }


def _wants_html(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")


def _page(template: str, context: Mapping[str, object]) -> HTMLResponse:
    text = _TEMPLATES.get_template(template).render(context)
    return HTMLResponse(text, headers={"Content-Security-Policy": _POLICY})
