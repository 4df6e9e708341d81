"""How long the page of `orbatch view` takes to open with few outputs and with many, and what it then holds.

    python -m bench.page --outputs 5000

Both batches are made by the simulator with the same tiny clip. Times are of a real Chromium, the middle of five, from
the navigation to the first output that is drawn; ``frame`` is the mean of the frames while it scrolls 400 pixels each.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from bench.harness import page_address
from orbatch_simulator import SimulatorSettings, simulator_thread

FEW = 40
_REPEATS = 5
_SPEED = 10_000
_MODELS = ["google/veo-3.1-lite", "google/veo-3.1-fast"]
_SCROLL = """async () => {
  const main = document.getElementById("main"), began = performance.now();
  let frames = 0;
  while (performance.now() - began < 2000) {
    main.scrollTop += 400;
    await new Promise(requestAnimationFrame);
    frames++;
  }
  return (performance.now() - began) / frames;
}"""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="bench.page", description=__doc__)
    parser.add_argument("--outputs", type=int, default=5000)
    given = parser.parse_args(arguments)
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    head = "| outputs | open | nodes | script memory | frame while scrolling |\n| ---: | ---: | ---: | ---: | ---: |"
    print(head)  # noqa: T201 - a bench prints
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        few, many = (_measured(opened, outputs) for outputs in (FEW, given.outputs))
        opened.close()
    print(f"\n{many / few:.1f} times as long to open for {given.outputs / FEW:g} times the outputs")  # noqa: T201


def _measured(browser: Browser, outputs: int) -> float:
    """Print the row of a batch with so many outputs; returns the seconds it took to open."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        env = os.environ | {"OPENROUTER_API_KEY": "sk-or-v1-bench", "ORBATCH_DB": str(folder / "ledger.db")}
        _fill(folder, env, outputs)
        command = [sys.executable, "-m", "orbatch", "view", "films", "--no-browser", "--json"]
        with subprocess.Popen(  # noqa: S603 - the program that is measured
            command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as server:
            try:
                assert server.stdout is not None
                return _opened(browser, page_address(server.stdout), outputs)
            finally:
                server.terminate()


def _fill(folder: Path, env: dict[str, str], outputs: int) -> None:
    prompts = [{"prompt": "shot {{ n }}", "vars": {"n": list(range(outputs // len(_MODELS)))}}]
    batch = {
        "name": "films",
        "defaults": {"duration": 4, "resolution": "720p"},
        "models": _MODELS,
        "prompts": prompts,
        "limits": {"in_flight": 400, "submits_per_minute": 10_000, "polls_per_second": 1000},
    }
    (folder / "films.yaml").write_text(json.dumps(batch), "utf-8")
    with simulator_thread(SimulatorSettings(speed=_SPEED, clip_bytes=3000)) as simulator:
        command = [sys.executable, "-m", "orbatch", "run", "films.yaml", "--yes", "--quiet", "--speed", str(_SPEED)]
        env = env | {"OPENROUTER_BASE_URL": simulator.base_url}
        subprocess.run(command, cwd=folder, env=env, check=True, capture_output=True)  # noqa: S603 - our own command


def _opened(browser: Browser, url: str, outputs: int) -> float:
    with browser.new_context(viewport={"width": 1360, "height": 900}) as context, context.new_page() as page:
        took = []
        for _ in range(_REPEATS):
            began = time.perf_counter()
            page.goto(url)
            page.wait_for_selector("td[data-job]")
            took.append(time.perf_counter() - began)
        session = context.new_cdp_session(page)
        session.send("Performance.enable")
        metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
        frame_ms = page.evaluate(_SCROLL)
    seconds = statistics.median(took)
    memory = f"{metrics['JSHeapUsedSize'] / 1e6:.0f} MB"
    row = f"| {outputs:,} | {seconds:.2f} s | {metrics['Nodes']:,.0f} | {memory} | {frame_ms:.0f} ms |"
    print(row, flush=True)  # noqa: T201
    return seconds


if __name__ == "__main__":
    main()
