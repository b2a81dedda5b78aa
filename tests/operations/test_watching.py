"""The alert rules and the dashboard that are delivered: they name only what a scrape has, and fire when they should."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from api.metrics import Metrics
from tests.support.require import require
from treasury.alerts import AlertCode

FOLDER = Path(__file__).parents[2] / "docs" / "operations"
FIRING = Path(__file__).parent / "alerts_fire.yml"
RULES = (FOLDER / "alerts.yml").read_text()
README = (FOLDER / "README.md").read_text()
PAGE = (FOLDER / "metrics.md").read_text()
DASHBOARD = json.loads((FOLDER / "dashboard.json").read_text())
ENDINGS = ("_bucket", "_sum", "_count")
PROCESS = {"process_resident_memory_bytes", "process_cpu_seconds_total"}


def documented() -> set[str]:
    """Metrics of the page: tests hold it to what API and worker serve."""
    told = set(re.findall(r"^\| `(onebook_\w+)`", PAGE, re.MULTILINE))
    assert len(told) > 40
    return told | {name + ending for name in told for ending in ENDINGS}


def queries(node: Any = DASHBOARD) -> Iterator[str]:
    """Every expression of the dashboard's panels."""
    match node:
        case {"expr": str(expression)}:
            yield expression
        case dict():
            for child in node.values():
                yield from queries(child)
        case list():
            for child in node:
                yield from queries(child)


def promtool(*arguments: str, cwd: Path) -> str:
    require(shutil.which("promtool"), "promtool: it's in Debian's package prometheus")
    ended = subprocess.run(["promtool", *arguments], cwd=cwd, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_the_apis_metrics_are_those_of_the_page():
    metrics = Metrics()
    metrics.observe(method="GET", route="/", status=200, seconds=0.1)
    metrics.ready.labels("database").set(1)
    metrics.broken.labels("internal").inc()
    page = bytes(metrics.page().body).decode()
    served = {
        name for name in re.findall(r"^# TYPE (onebook_\w+) ", page, re.MULTILINE) if not name.endswith("_created")
    }
    assert served == set(re.findall(r"^\| `(onebook_\w+)`", PAGE.partition("## The API's")[2], re.MULTILINE))


def test_each_metric_in_the_rules_and_on_the_dashboard_is_one_of_the_page():
    named = set(re.findall(r"\b(?:onebook|process)_\w+", RULES))
    shown = {name for query in queries() for name in re.findall(r"\b(?:onebook|process)_\w+", query)}
    assert named
    assert len(shown) > 20
    assert named | shown <= documented() | PROCESS


def test_the_dashboard_shows_every_figure_lag_queue_and_break():
    shown = {name for query in queries() for name in re.findall(r"\bonebook_\w+", query)}
    assert shown >= {
        *("onebook_position", "onebook_value", "onebook_coverage_ratio", "onebook_custody", "onebook_bank_balance"),
        *("onebook_provider_balance", "onebook_in_transit", "onebook_hot_share_ratio", "onebook_gas_runway_days"),
        *("onebook_follower_lag_seconds", "onebook_settlement_lag_seconds", "onebook_statement_lag_seconds"),
        *("onebook_queue_items", "onebook_queue_oldest_seconds", "onebook_breaks", "onebook_break_oldest_seconds"),
    }


def test_the_dashboards_panels_dont_overlap_and_have_ids_of_their_own():
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


def test_each_code_in_the_rules_is_an_alerts():
    codes = {code for listed in re.findall(r'code[=!]~"([^"]+)"', RULES) for code in listed.split("|")}
    assert codes
    assert codes <= {code.value for code in AlertCode}


def test_each_queue_in_the_rules_is_one_of_the_page():
    told = set(re.findall(r"^\| `(\w+)` \|", PAGE.partition("## Queues")[2], re.MULTILINE))
    named = {queue for listed in re.findall(r'queue=~?"([^"]+)"', RULES) for queue in listed.split("|")}
    assert named
    assert named <= told


def test_each_rule_is_explained_and_tried():
    rules = re.findall(r"alert: (\w+)", RULES)
    assert rules
    assert rules == re.findall(r"^\| `(Onebook\w+)`", README, re.MULTILINE)
    assert rules == re.findall(r"alertname: (\w+)", FIRING.read_text())


def test_prometheus_own_tool_reads_the_rules_and_each_fires_when_it_should_and_not_beside_it(tmp_path):
    shutil.copy(FOLDER / "alerts.yml", tmp_path)
    shutil.copy(FIRING, tmp_path)
    promtool("check", "rules", "alerts.yml", cwd=tmp_path)
    assert "SUCCESS" in promtool("test", "rules", FIRING.name, cwd=tmp_path)


def test_prometheus_own_tool_reads_each_query_of_the_dashboard(tmp_path):
    asked = [query.replace("$__rate_interval", "5m").replace("$asset", ".*") for query in queries()]
    assert len(asked) > 25
    rules = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(asked)]
    (tmp_path / "panels.yml").write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    assert f"{len(asked)} rules found" in promtool("check", "rules", "panels.yml", cwd=tmp_path)
