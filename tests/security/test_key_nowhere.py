"""One batch against a service that gossips about the key: afterwards the key is in no file, no output and no server
but its own."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest

from orbatch.ledger import Ledger
from tests.security.gossip import JOBS, Gossip, Listener, listening

SECRET = "c0ffee/0123456789+c0ffee0123456789="
KEY = f"plain-{SECRET}"  # a form that no pattern recognises, so that only knowing the key can hide it
FORMS = [KEY, SECRET, quote(KEY, safe=""), base64.b64encode(KEY.encode()).decode(), json.dumps(KEY)[1:-1]]

# Runs a command with a bug in the runner, and prints what a logger that shows locals would print.
WITH_A_BUG = """
import sys, traceback
import orbatch.cli.run as running
from orbatch.cli import main
async def drive(session, ledger, batch, connection, options, *more):
    key = await connection.provider.key()
    raise ZeroDivisionError("a bug")
running.drive = drive
try:
    main()
except ZeroDivisionError as exc:
    shown = traceback.TracebackException.from_exception(exc, capture_locals=True)
    sys.exit("".join(shown.format()))
"""


@dataclass
class Scene:
    """A user's folder after a run with faults; ``printed``: all that the commands printed."""

    folder: Path
    service: Gossip
    elsewhere: Listener
    printed: list[str] = field(default_factory=list)

    def orbatch(self, *arguments: str, code: Sequence[int] = (0,), program: Sequence[str] = ("-m", "orbatch")) -> str:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("OPENROUTER_", "ORBATCH_"))}
        places = {"ORBATCH_DB": str(self.folder / "ledger.db"), "ORBATCH_CACHE_DIR": str(self.folder / "cache")}
        # A proxy for plain http would see the key; orbatch must not use one.
        proxies = {"HTTP_PROXY": self.elsewhere.url, "http_proxy": self.elsewhere.url}
        done = subprocess.run(
            [sys.executable, *program, *arguments],
            env=kept
            | places
            | proxies
            | {"OPENROUTER_API_KEY": KEY, "OPENROUTER_BASE_URL": f"{self.service.url}/api/v1"},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode in code, done.stdout + done.stderr
        self.printed += [done.stdout, done.stderr]
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("gossip")
    batch = {
        "name": "gossip",
        "defaults": {"duration": 4, "resolution": "720p", "generate_audio": False},
        "models": ["google/veo-3.1-lite"],
        "prompts": list(JOBS),
        "limits": {"submits_per_minute": 6000, "polls_per_second": 500},
    }
    (folder / "batch.yaml").write_text(json.dumps(batch))
    elsewhere = Listener()
    with listening(elsewhere):
        service = Gossip(elsewhere=elsewhere.url)
        with listening(service):
            made = Scene(folder, service, elsewhere)
            speed = ("--speed", "5000")
            made.orbatch("--log-file", "run.log", "run", "batch.yaml", "--yes", *speed, code=(5,))
            made.orbatch("--json", "run", "batch.yaml", "--yes", *speed, code=(5,))
            made.orbatch("jobs", "--json")
            made.orbatch("run", "batch.yaml", "--yes", *speed, code=(1,), program=("-c", WITH_A_BUG))
            yield made


def test_the_faults_ended_every_job_in_its_own_way(scene: Scene) -> None:
    with Ledger.open(scene.folder / "ledger.db", create=False) as ledger:
        ends = {row["prompt"]: row["status"] for row in ledger.reports.job_rows(1, None, 100)}

    assert ends == JOBS
    assert {heard.authorization for heard in scene.service.heard if "/models" not in heard.path} == {f"Bearer {KEY}"}


def test_the_key_is_in_no_file(scene: Scene) -> None:
    files = [path for path in scene.folder.rglob("*") if path.is_file()]

    assert {"ledger.db", "run.log", "batch.yaml"} <= {path.name for path in files}
    assert [path.name for path in files if any(form.encode() in path.read_bytes() for form in FORMS)] == []


def test_the_key_is_in_nothing_that_is_printed_not_even_in_a_traceback_with_locals(scene: Scene) -> None:
    text = "\n".join(scene.printed)

    assert "ZeroDivisionError: a bug" in text
    assert "connection = " in text  # locals are there
    assert not any(form in text for form in FORMS)


def test_the_key_and_the_jobs_go_to_no_other_server(scene: Scene) -> None:
    """Not by redirects, polling_url, unsigned_urls or urls, and not through a proxy that could read it."""
    assert scene.elsewhere.heard == []


def test_the_catalog_is_read_without_the_key(scene: Scene) -> None:
    assert {heard.authorization for heard in scene.service.heard if heard.path == "/videos/models"} == {None}


def test_an_answer_that_is_no_video_is_saved_by_no_name(scene: Scene) -> None:
    videos = [path.name for path in scene.folder.rglob("*.mp4")]

    assert len(videos) == 1
    assert b"<html>" not in b"".join(path.read_bytes() for path in scene.folder.rglob("outputs/**/*") if path.is_file())


def test_a_job_id_names_no_file(scene: Scene) -> None:
    assert list(scene.folder.parent.rglob("*climbed*")) == []
