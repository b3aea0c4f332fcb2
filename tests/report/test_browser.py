"""The page in a real browser, where one is installed: its width holds it, and it is quiet."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import escape
from pathlib import Path

import pytest
import upper_run

from llmkit.report.page import write_report

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
PHONE = 360  # pixels; a browser's own window is not made so narrow, a frame is
LAPTOP = 1280
# How wide the page in the frame is, how many files it asked for, and how many of its tables scroll.
MEASURE = """
const page = document.querySelector("iframe").contentWindow;
onload = () => {
  page.document.querySelectorAll("details").forEach(part => part.open = true);
  const wide = [...page.document.querySelectorAll(".wide")];
  document.title = "measured " + page.document.documentElement.scrollWidth + " " +
    page.performance.getEntriesByType("resource").length + " " +
    wide.filter(part => part.scrollWidth > part.clientWidth).length + " " +
    page.getComputedStyle(page.document.querySelector("svg.curve polyline.s0")).stroke;
};
"""


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not BROWSER, reason="no Chromium or Chrome is installed"),
]


def measured(page: str, width: int, tmp_path: Path) -> re.Match[str]:
    """What MEASURE tells of the page in a frame of this width."""
    frame = (
        f'<iframe width="{width}" height="800" frameborder="0" srcdoc="{escape(page)}"></iframe>'
    )
    wrapped = tmp_path / "frame.html"
    wrapped.write_text(f"<!doctype html><body>{frame}<script>{MEASURE}</script>", encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'user'}"]
    dom = subprocess.run(
        [BROWSER, *flags, "--virtual-time-budget=5000", "--dump-dom", wrapped.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    found = re.search(r"<title>measured (\d+) (\d+) (\d+) (.*?)</title>", dom)
    assert found is not None, dom[:2000]
    return found


def test_a_phone_shows_it_without_scrolling_sideways(tmp_path: Path) -> None:
    page = write_report(upper_run.write_run(tmp_path / "upper")).read_text(encoding="utf-8")
    found = measured(page, PHONE, tmp_path)
    assert int(found[1]) <= PHONE, "wider than the phone"
    assert int(found[2]) == 0, "it fetched something"
    assert int(found[3]) > 0, "a table scrolls in its own frame"
    assert found[4] == "rgb(29, 95, 214)", "the style is not applied"


def test_a_laptop_shows_every_table_whole(tmp_path: Path) -> None:
    run = upper_run.write_run(tmp_path / "upper")
    file = run / "evaluate" / "metrics.json"
    metrics = json.loads(file.read_text())
    widest = {"value": 1.0, "low": 0.97, "high": 1.0, "n": 10_000}
    many = {f"a_longer_name_{place}/accuracy": widest for place in range(9)}
    far = {"some/loss": {"value": 12345.6, "low": 12345.5, "high": 12345.7, "n": 10_000}}
    metrics["../elsewhere/a-model-with-a-long-name/sft"] = metrics["sft"] | many | far
    file.write_text(json.dumps(metrics))
    page = write_report(run).read_text(encoding="utf-8")
    found = measured(page, LAPTOP, tmp_path)
    assert int(found[1]) <= LAPTOP
    assert int(found[3]) == 0, "a table has to be scrolled sideways"
