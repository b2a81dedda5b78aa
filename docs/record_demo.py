"""Records `onebook demo --exit` as docs/demo.svg: its real output, each line appearing when it was printed.

    .venv/bin/python docs/record_demo.py

Waits longer than two seconds are shortened; the picture says how long the run really took. Then it begins again.
"""

import html
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAUSE_MAX_SECONDS = 2.0
REST_SECONDS = 12.0
"""How long the finished picture stands before it begins again."""

LINE, TOP, LEFT = 17, 46, 18
"""Geometry of the picture, in pixels."""

CHARACTER = 7.6
"""How wide one character is, in pixels: the longest line decides the picture's width."""

STYLE = """
text { font: 12.5px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; fill: #d7dde5; white-space: pre }
.title { fill: #7ee0c6; font-weight: 600 } .dim { fill: #8b97a7 } .good { fill: #7fe0a0; font-weight: 600 }
"""


@dataclass(frozen=True)
class Printed:
    at: float
    text: str


def main() -> int:
    onebook = Path(sys.executable).with_name("onebook")
    lines = [Printed(0.0, "$ EXIT=1 make demo")]
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        command = [str(onebook), "demo", "--exit"]
        child = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True, bufsize=1)
        assert child.stdout is not None
        for text in child.stdout:
            lines.append(Printed(time.monotonic() - started, text.rstrip()))
        status = child.wait()
    took = time.monotonic() - started
    if status == 0:
        (HERE / "demo.svg").write_text(draw(lines, took), encoding="utf-8")
        print(f"wrote docs/demo.svg: {len(lines)} lines, {took:.0f} s")
    return status


def draw(lines: list[Printed], took: float) -> str:
    """The animated picture of what was printed."""
    shown, clock = [], 0.0
    for before, line in zip([lines[0], *lines], lines, strict=False):
        clock += min(PAUSE_MAX_SECONDS, line.at - before.at)
        shown.append((clock, line.text))
    total = clock + REST_SECONDS
    rows = "\n".join(row(number, at, total, text) for number, (at, text) in enumerate(shown))
    height = TOP + LINE * len(lines) + 20
    width = 2 * LEFT + round(CHARACTER * max(len(line.text) for line in lines))
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img"
  aria-label="The demo's output, line by line">
<title>onebook demo, as it was printed; the run took {took:.0f} seconds</title>
<style>{STYLE}</style>
<rect width="100%" height="100%" rx="10" fill="#14181d"/>
<circle cx="20" cy="20" r="6" fill="#ff6159"/><circle cx="40" cy="20" r="6" fill="#ffbd2e"/>
<circle cx="60" cy="20" r="6" fill="#28c941"/>
<text x="{width - LEFT}" y="24" text-anchor="end" class="dim">recorded; {took:.0f} s in all</text>
{rows}
</svg>
"""


def row(number: int, at: float, total: float, text: str) -> str:
    """One line, invisible until its time in each round."""
    kind = "title" if text.startswith("*") else "good" if "0 breaks" in text else "dim" if text.startswith("$") else ""
    start = max(0.0001, at / total)
    return (
        f'<text x="{LEFT}" y="{TOP + LINE * number}" class="{kind}" xml:space="preserve">{html.escape(text)}'
        f'<animate attributeName="opacity" dur="{total:.2f}s" repeatCount="indefinite" calcMode="discrete"'
        f' keyTimes="0;{start:.4f}" values="0;1"/></text>'
    )


if __name__ == "__main__":
    sys.exit(main())
