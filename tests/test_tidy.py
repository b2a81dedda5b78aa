"""Rules that a reader would otherwise have to remember, held over the whole tree; and a report of what has grown."""

import ast
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.commands.bench import AREAS
from cli.main import COMMANDS

ROOT = Path(__file__).parents[1]
PACKAGES = (
    *("base", "db", "ledger", "exchange", "tariff", "fiat", "custody", "chain", "wallet", "treasury", "identity"),
    *("wiring", "api", "worker", "bench", "railsim", "cli"),
)
MONEY_PACKAGES = ("ledger", "exchange", "tariff", "fiat", "custody", "chain", "wallet", "treasury", "api")
ENTRY_POINTS = {"cli.__main__", "cli.bench_house", "custody.signer", "worker.run", "api.serve"}
"""Modules that are started, not imported. Those of the commands are imported by name: see `cli.main.COMMANDS`."""

AWAITED = {"chain.evm.crosscheck"}
"""Modules that only tests use yet: backfill is to cross-check what it took in."""

LONG_FUNCTION, LONG_FILE = 60, 400
"""Lines from which the report names a function or a file. A report, not a limit."""

TIME_WORDS = re.compile(r"second|pause|timeout|wait|interval|deadline|started|elapsed|monotonic", re.IGNORECASE)
"""A float may measure time, and nothing else."""


REFUSALS = re.compile(r"isinstance\(|finite")
"""... or be recognised, in order to be refused."""


def modules() -> dict[str, Path]:
    """Every product module by its dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def tracked(*patterns: str) -> list[Path]:
    """Files under version control; every file when this isn't a checkout."""
    listed = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def floats(path: Path) -> Iterator[str]:
    """Places where a float appears that isn't plainly a measure of time."""
    lines = path.read_text(encoding="utf-8").splitlines()
    for node in ast.walk(tree(path)):
        if not isinstance(node, ast.Constant | ast.Name):
            continue
        is_float = isinstance(node.value, float) if isinstance(node, ast.Constant) else node.id == "float"
        if is_float and not (TIME_WORDS.search(lines[node.lineno - 1]) or REFUSALS.search(lines[node.lineno - 1])):
            yield f"{path.relative_to(ROOT)}:{node.lineno}: {lines[node.lineno - 1].strip()}"


def test_no_float_comes_near_money():
    paths = [path for name, path in modules().items() if name.split(".")[0] in MONEY_PACKAGES]
    assert [place for path in paths for place in floats(path)] == []


def test_no_division_makes_a_fraction_of_money():
    found = []
    for name, path in modules().items():
        if name.split(".")[0] in ("ledger", "exchange", "tariff", "wallet", "treasury", "fiat"):
            for node in ast.walk(tree(path)):
                if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and not is_path(node):
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert found == []


def is_path(node: ast.BinOp) -> bool:
    """Whether a `/` joins paths: one side is text, or named for a path."""
    text = ast.unparse(node).lower()
    return any(
        isinstance(side, ast.Constant) and isinstance(side.value, str) for side in (node.left, node.right)
    ) or any(word in text for word in ("path", "folder", "file", "schemas", "here", "name"))


def test_no_module_is_dead():
    named = modules()
    imported: set[str] = set()
    for name, path in named.items():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names if alias.name != name}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    packages = {name for name in named if named[name].name == "__init__.py"}
    imported |= {command.place.partition(":")[0] for command in COMMANDS.values()} | set(AREAS.values())
    dead = {
        name
        for name in named
        if name not in imported | packages | ENTRY_POINTS | AWAITED and not name.startswith("db.migrations.")
    }
    assert dead == set()


def test_every_module_says_its_idea():
    silent = [name for name, path in modules().items() if not ast.get_docstring(tree(path))]
    assert silent == []


@pytest.mark.parametrize("package", PACKAGES)
def test_our_package_is_not_shadowed_by_an_installed_one(package):
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    assert Path(spec.origin).is_relative_to(ROOT)


def test_lock_files_name_no_address():
    for name in ("requirements.txt", "hardhat-local/package-lock.json"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert '"resolved"' not in text
        urls = set(re.findall(r"https?://[^\s\"']+", text))
        assert not {url for url in urls if re.search(r"registry|pypi|\.whl|\.tgz|simple/", url)}, name


def test_no_file_names_a_folder_of_one_machine():
    words = ("/ro" + "ot/", "/wo" + "rk/", "/ho" + "me/")
    found = [
        f"{path.relative_to(ROOT)}: {word}"
        for path in tracked("*.py", "*.md", "*.toml", "*.ts", "*.sol", "Makefile", ".ci/run", "*.html")
        for word in words
        if word in path.read_text(encoding="utf-8")
    ]
    assert found == []


def test_the_failure_catalogue_and_the_tests_name_each_other():
    written = (ROOT / "docs" / "failures.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_f\d+\w*)`", written))
    exist = {
        node.name
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and re.match(r"test_f\d", node.name)
    }
    assert named - exist == set(), "named in docs/failures.md, but there is no such test"
    assert exist - named == set(), "a test that docs/failures.md doesn't name"


def test_long_functions_and_files_are_reported(capsys):
    """Always passes; `pytest -rP` or a failing run shows what has grown."""
    report = []
    for path in modules().values():
        parsed = tree(path)
        length = len(path.read_text(encoding="utf-8").splitlines())
        if length > LONG_FILE:
            report.append(f"{path.relative_to(ROOT)}: {length} lines")
        for node in ast.walk(parsed):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                span = node.end_lineno - node.lineno + 1
                if span > LONG_FUNCTION:
                    report.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {span} lines")
    print("\n".join(report), file=sys.stderr)
