"""The alert rules that are delivered: each names only what a scrape has."""

import re
from pathlib import Path

from api.metrics import Metrics
from treasury.alerts import AlertCode

FOLDER = Path(__file__).parents[2] / "docs" / "operations"
RULES = (FOLDER / "alerts.yml").read_text()


def scraped() -> set[str]:
    metrics = Metrics()
    metrics.observe(method="GET", route="/", status=200, seconds=0.1)
    metrics.ready.labels("database").set(1)
    metrics.broken.labels("internal").inc()
    page = bytes(metrics.page().body).decode()
    return {re.split(r"[{ ]", line)[0] for line in page.splitlines() if not line.startswith("#")}


def test_each_metric_in_the_rules_is_exported():
    named = set(re.findall(r"\bonebook_\w+", RULES))
    assert named
    assert named <= scraped()


def test_each_code_in_the_rules_is_an_alerts():
    codes = {code for listed in re.findall(r'code[=!]~"([^"]+)"', RULES) for code in listed.split("|")}
    assert codes
    assert codes <= {code.value for code in AlertCode}


def test_each_rule_is_explained():
    rules = re.findall(r"alert: (\w+)", RULES)
    assert rules
    assert rules == re.findall(r"^\| `(Onebook\w+)`", (FOLDER / "README.md").read_text(), re.MULTILINE)
