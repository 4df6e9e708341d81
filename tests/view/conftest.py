"""A real browser, and a batch of the simulator that is served to it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]


# Not of the session: the driver keeps an event loop running, which the tests of other modules would meet.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if BROWSER is None:
        message = "needs Chromium: apt-get install chromium, or any Chrome on the PATH"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield opened
        opened.close()
