"""Draws docs/images/view-*.png: the page of a simulated batch at three widths, light and dark.

    python -m docs.make_page_pictures

Needs Chromium, as the tests of the page do.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from bench.harness import page_address
from orbatch.ledger import Ledger

IMAGES = Path(__file__).parent / "images"
WIDTHS = {"phone": (390, 800), "desk": (1360, 900), "wide": (2560, 1440)}
_PAINTED = """[...document.images].every((image) => {
  const { top, left } = image.getBoundingClientRect();
  return top > innerHeight || left > innerWidth || (image.complete && image.naturalWidth);
})"""
BATCH = {
    "name": "cats",
    "defaults": {"resolution": "720p"},
    "models": [
        {"model": "google/veo-3.1-lite", "duration": 4},
        {"model": "alibaba/wan-2.6", "duration": 5},
        {"model": "bytedance/seedance-2.0-mini", "duration": 5},
    ],
    "prompts": [
        {"id": "yarn", "prompt": "A cat playing with a ball of yarn, {{ light }}", "vars": {"light": ["dawn", "noon"]}},
        {"id": "window", "prompt": "A cat watches the rain from a window, slow dolly in"},
        {"id": "market", "prompt": "A cat crosses a fish market unnoticed, handheld"},
    ],
}


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "cats.yaml").write_text(json.dumps(BATCH), "utf-8")
        _orbatch(folder, "run", "cats.yaml", "--simulate", "--yes", "--speed", "600")
        _review(folder / "orbatch.db-sim")
        command = [sys.executable, "-m", "orbatch", "view", "cats", "--simulate", "--no-browser", "--json"]
        with subprocess.Popen(  # noqa: S603 - the program under the picture
            command, cwd=folder, stdout=subprocess.PIPE, text=True
        ) as server:
            try:
                assert server.stdout is not None
                _draw(page_address(server.stdout))
            finally:
                server.terminate()


def _orbatch(folder: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "orbatch", *arguments]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)  # noqa: S603 - the program under the picture


def _review(path: Path) -> None:
    with Ledger.open(path, create=False) as ledger:
        jobs = [job.job_id for job in ledger.reports.exported_jobs(1) if job.status == "done"]
        for job, rating in zip(jobs, (4, 3, 5, 2, 4, 4, 5, 3), strict=False):
            ledger.reviews.add(job, "ana", "rating", str(rating))
        for job, mark in ((jobs[2], "pick"), (jobs[6], "pick"), (jobs[3], "reject")):
            ledger.reviews.add(job, "ana", "mark", mark)


def _draw(url: str) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        page = opened.new_page()
        page.goto(url)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            for name, (width, height) in WIDTHS.items():
                page.set_viewport_size({"width": width, "height": height})
                page.reload()
                page.wait_for_selector("td[data-job] img")
                _until_painted(page)
                _shoot(page, IMAGES / f"view-{name}-{scheme}.png")
        opened.close()


def _until_painted(page: Page) -> None:
    while not page.evaluate(_PAINTED):
        page.wait_for_timeout(50)


def _shoot(page: Page, path: Path) -> None:
    """With 256 colors: a third of the bytes, and nobody sees it."""
    page.screenshot(path=path)
    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(256)
    small.save(path, optimize=True)


if __name__ == "__main__":
    main()
