"""The page in a real browser, where one is installed: a phone's width holds it, and it is quiet."""

from __future__ import annotations

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
# How wide the page in the frame is, and how many files it asked for.
MEASURE = """
const page = document.querySelector("iframe").contentWindow;
onload = () => document.title = "measured " + page.document.documentElement.scrollWidth + " " +
  page.performance.getEntriesByType("resource").length + " " +
  page.getComputedStyle(page.document.querySelector("svg.curve polyline.s0")).stroke;
"""


@pytest.mark.slow
@pytest.mark.skipif(not BROWSER, reason="no Chromium or Chrome is installed")
def test_a_phone_shows_it_without_scrolling_sideways(tmp_path: Path) -> None:
    page = write_report(upper_run.write_run(tmp_path / "upper")).read_text(encoding="utf-8")
    frame = (
        f'<iframe width="{PHONE}" height="800" frameborder="0" srcdoc="{escape(page)}"></iframe>'
    )
    wrapped = tmp_path / "phone.html"
    wrapped.write_text(f"<!doctype html><body>{frame}<script>{MEASURE}</script>", encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'user'}"]
    dom = subprocess.run(
        [BROWSER, *flags, "--virtual-time-budget=5000", "--dump-dom", wrapped.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    found = re.search(r"<title>measured (\d+) (\d+) (.*?)</title>", dom)
    assert found is not None, dom[:2000]
    assert int(found[1]) <= PHONE, "wider than the phone"
    assert int(found[2]) == 0, "it fetched something"
    assert found[3] == "rgb(29, 95, 214)", "the style is not applied"
