"""A report has its shape, tells its figures, and renews its own section of the page only."""

import json
from datetime import UTC, datetime

from bench.frame import Better, Figure, Options, Report, percentile, record, rows, to_json


def report(area="ledger", value=13_000.0):
    return Report(
        area=area,
        machine={"cpu": "one"},
        settings={"run": {"seconds": 5}},
        at=datetime(2026, 1, 1, tzinfo=UTC),
        figures=[
            Figure("fast", value, "entries/s", 12_000, Better.HIGHER),
            Figure("slow", 13.0, "ms", 12, Better.LOWER),
            Figure("told", 1.0, "cores"),
        ],
    )


def test_json_has_the_shape_that_readers_rely_on():
    document = json.loads(to_json([report()]))
    assert list(document) == ["area", "machine", "settings", "at", "figures"]
    assert document["at"] == "2026-01-01T00:00:00+00:00"
    assert document["figures"][0] == {
        "name": "fast",
        "value": 13_000.0,
        "unit": "entries/s",
        "target": 12_000,
        "better": "higher",
    }
    assert [each["area"] for each in json.loads(to_json([report("ledger"), report("api")]))] == ["ledger", "api"]


def test_figure_is_met_on_its_better_side():
    assert [figure.met for figure in report().figures] == [True, False, None]
    assert [row[-1] for row in rows(report())] == ["yes", "NO", ""]


def test_page_keeps_what_others_wrote(tmp_path):
    page = tmp_path / "RESULTS.md"
    record(report("ledger"), page)
    record(report("api"), page)
    page.write_text(page.read_text().replace("## api", "Where the time goes.\n\n## api"))
    record(report("ledger", value=14_000.0), page)
    text = page.read_text()
    assert text.count("| `fast` |") == 2
    assert "14,000" in text
    assert text.count("13,000") == 1
    assert text.index("14,000") < text.index("Where the time goes.") < text.index("13,000")


def test_only_names_rows_by_pattern():
    options = Options(only=("batcher*", "bulk100"))
    assert options.wants("batcher64")
    assert options.wants("bulk100")
    assert not options.wants("bulk1000")
    assert Options().wants("anything")


def test_percentile_is_a_value_that_was_measured():
    assert percentile([5, 1, 3], 0.5) == 3
    assert percentile(list(range(100)), 0.99) == 99
