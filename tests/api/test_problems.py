"""The catalogue explains every error that any package can raise, and every foreign error becomes one of ours."""

import ast
import importlib
from pathlib import Path

import pytest
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from api import foreign
from api.catalogue import CATALOGUE
from api.problems import ALIASES, problem_of, response_for
from base.errors import BrokenInvariant, ConfigError, NotFound, OnebookError, Rejected, Unavailable
from db.errors import DatabaseUnavailable
from ledger.errors import RefusedByBook
from ledger.money import Asset, AssetKind
from ledger.outcomes import Refused

ROOT = Path(__file__).parents[2]
REACHABLE = ("api", "identity", "wallet", "treasury", "fiat", "chain", "ledger", "db")
"""Packages whose errors can come out of a request. The signer's and the command line's can't."""

OFFLINE = {"ProofInvalid", "BadFile", "ListUnfit", "SolvencyProofInvalid", "AnchorUnfit", "ControlUnfit"}
"""Kinds of errors that no request meets: a proof's reader does at home, whoever imports a file at the command line.

Anchors are asked for, and signatures handed in, there as well.
"""


def _kinds() -> dict[str, type[OnebookError]]:
    """Every class of these packages' errors, by name; not those that other tests brought in (a local chain's)."""
    for package in REACHABLE:
        for path in (ROOT / package).rglob("errors.py"):
            importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    found: dict[str, type[OnebookError]] = {}
    waiting: list[type[OnebookError]] = [OnebookError]
    while waiting:
        kind = waiting.pop()
        if kind.__module__.endswith("errors"):
            found[kind.__name__] = kind
        waiting += kind.__subclasses__()
    return found


def _refusal_codes() -> dict[str, str]:
    """Every code with which these packages refuse a request, and where. Others are told by their class."""
    kinds = _kinds()
    refusals = [kind for name, kind in kinds.items() if issubclass(kind, Rejected) and name not in OFFLINE]
    found = {kind.default_code: kind.__module__ for kind in refusals if kind.__module__.split(".")[0] in REACHABLE}
    for package in REACHABLE:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in kinds:
                    codes = (given.value for given in node.keywords if given.arg == "code")
                    if kinds[node.func.id] in refusals:
                        found |= {str(code.value): str(path) for code in codes if isinstance(code, ast.Constant)}
    return found


def test_every_code_that_a_request_can_meet_has_its_page():
    missing = {code: at for code, at in _refusal_codes().items() if ALIASES.get(code, code) not in CATALOGUE}
    assert not missing, "\n".join(f"{code}: {where}" for code, where in sorted(missing.items()))


def test_every_refusal_of_the_book_has_its_page():
    assert {code for code in map(str, Refused) if ALIASES.get(code, code) not in CATALOGUE} == set()


def test_every_page_says_why_and_what_to_do():
    for code, row in CATALOGUE.items():
        assert row.code == code
        assert 400 <= row.status < 600
        assert (row.why[-1], row.remedy[-1]) == (".", "."), code
        assert row.private or row.status != 500, code


CLASSES = [
    (NotFound("x", code="made_up"), 404),
    (Rejected("x", code="made_up"), 422),
    (Unavailable("x", code="made_up"), 503),
    (ConfigError("x", code="made_up"), 500),
    (BrokenInvariant("x", code="made_up"), 500),
    (OnebookError("x", code="made_up"), 500),
]


@pytest.mark.parametrize(("error", "status"), CLASSES)
def test_unknown_code_is_told_by_its_class(error, status):
    assert problem_of(error).status == status


@pytest.mark.parametrize("error", [ConfigError("secret"), BrokenInvariant("secret"), DatabaseUnavailable("secret")])
def test_what_broke_inside_is_not_told(error):
    error.facts = {"password": "secret"}
    assert b"secret" not in response_for(error, request_id="req_1").body


@pytest.mark.parametrize("error", [Unavailable("x"), DatabaseUnavailable("x")])
def test_what_may_succeed_later_says_when_to_try_again(error):
    assert response_for(error, request_id="req_1").headers["Retry-After"] == "2"


def test_amounts_among_the_facts_are_decimal_strings_and_other_numbers_are_not():
    error = RefusedByBook("x", code="insufficient_funds")
    error.facts = {"account": "usr_1/wallet/ETH", "required": 10**18 + 1, "available": 0, "line": 7, "seq": 2**60}
    body = str(
        bytes(response_for(error, request_id="r", assets={"ETH": Asset("ETH", AssetKind.CRYPTO, 18)}).body), "utf-8"
    )
    assert '"required":"1.000000000000000001"' in body
    assert '"available":"0.00"' in body
    assert '"line":7' in body
    assert f'"seq":"{2**60}"' in body


def test_every_foreign_error_becomes_one_of_ours():
    assert foreign.from_http(HTTPException(404), method="GET", path="/x").code == "unknown_path"
    assert foreign.from_http(HTTPException(405), method="PUT", path="/x").code == "method_not_allowed"
    assert foreign.from_http(HTTPException(418, "tea"), method="GET", path="/x").code == "http_error"
    assert foreign.from_anything(ValueError("x")).code == "internal"
    assert foreign.from_anything(ConnectionRefusedError()).code == "database_unavailable"
    fault = {"type": "missing", "loc": ("body", "asset"), "msg": "Field required"}
    assert foreign.from_validation(RequestValidationError([fault])).param == "asset"


def test_amounts_without_an_asset_of_their_own_are_in_the_requests_asset():
    error = Rejected("x", code="not_a_whole_unit", nearest=["1", "2"], decimals=5)
    assets = {"USDC": Asset("USDC", AssetKind.STABLECOIN, 6)}
    body = bytes(response_for(error, request_id="r", assets=assets, body={"asset": "USDC"}).body)
    assert b'"nearest":["0.000001","0.000002"]' in body
    assert b'"decimals":5' in body
