"""What a new user does on the first day, each command a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import av

from tests.conftest import Open
from tests.desk import Desk


def test_the_starter_is_written_planned_rehearsed_and_accounted_for(desk: Desk) -> None:
    assert "orbatch plan batch.yaml" in desk.orbatch("init").out
    assert {"batch.yaml", "orbatch.schema.json"} <= {path.name for path in desk.folder.iterdir()}
    assert "4 jobs to submit, 0.76 USD" in desk.orbatch("plan", "batch.yaml").out
    run = desk.orbatch("run", "batch.yaml", "--simulate", "--speed", "2000", OPENROUTER_API_KEY="")
    assert "4 of 4 done. Spent 0.76 of 2.00 USD" in run.out
    assert run.err.count("✓ ") == 4
    assert "accepted as" not in run.err, "the steps of a job are for --verbose"
    assert desk.accepted() == 0, "a rehearsal has a simulator of its own"
    clips = list((desk.folder / "outputs" / "my-first-batch-sim").glob("*.mp4"))
    assert len(clips) == 4
    with av.open(clips[0]) as clip:
        assert (clip.streams.video[0].width, clip.streams.video[0].height) == (1280, 720)
    assert desk.orbatch("report", "--simulate", "--json").json["total"]["cost_usd"] == 0.76


def test_the_simulator_serves_another_process_until_it_is_interrupted(desk: Desk) -> None:
    with desk.started("simulate", "--port", "0", "--speed", "400", "--json", "--journal", "journal.jsonl") as served:
        assert served.process.stdout is not None
        announced = ""
        while not announced.rstrip().endswith("}"):
            announced += served.process.stdout.readline()
        base_url = json.loads(announced)["base_url"]
        run = desk.orbatch("run", desk.write(), "--yes", "--speed", "400", "--json", OPENROUTER_BASE_URL=base_url)
        assert run.json["total"]["cost_usd"] == 0.36
        served.signal(signal.SIGINT)
        served.finish(0)
    assert (desk.folder / "journal.jsonl").read_text().count('"accepted"') == 3


def test_help_needs_none_of_the_heavy_packages() -> None:
    """They would make every call slow, also those that only look something up."""
    heavy = {"httpx", "aiohttp", "av", "sqlite_utils", "sqlite3", "jinja2", "yaml", "rich", "PIL", "asyncio"}
    script = (
        "import sys; sys.argv = ['orbatch', '--help']\n"
        "from orbatch.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"print(sorted({heavy!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "Usage: orbatch" in done.stdout


def test_a_second_run_costs_nothing_and_a_new_prompt_buys_one_job(open_desk: Open) -> None:
    desk = open_desk()
    path = desk.write()
    assert desk.orbatch("run", path, "--yes", "--speed", desk.speed).code == 0
    desk.run(path)
    assert desk.accepted() == 3
    desk.write(prompts=["a pig", "a cow", "a cat"])
    run = desk.run(path)
    assert "2 jobs already done or submitted." in run.err
    assert desk.prompts_bought() == ["a cat", "a cow", "a dog", "a pig"]
    by_prompt = {row["prompt"]: row for row in desk.jobs()}
    assert by_prompt["a dog"]["retired"] == 1, "what has left the file is kept with all it cost"
    assert "done (retired)" in desk.call("jobs").out
    desk.assert_report_equals_journal()
