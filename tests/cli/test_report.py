"""``report``, ``status``, ``jobs`` and ``show``: every grouping and format, ids by prefix, and stdout for data only."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest

from orbatch_simulator import Fault
from tests.conftest import Open
from tests.desk import HORSE, LITE, Desk


@pytest.fixture
def ran(open_desk: Open) -> Desk:
    """A desk on which six jobs of two batches were run; one failed and was charged for."""
    desk = open_desk(failures_report_usage=True)
    desk.simulator.set_faults(Fault("job", "failed", prompt_contains="a dog", charged=True))
    desk.run(desk.write("films"), code=3)
    desk.run(desk.write("horses", models=[HORSE], prompts=["a horse"]))
    return desk


GROUPS = [
    pytest.param("model", [HORSE, LITE], id="model"),
    pytest.param("batch", ["horses", "films"], id="batch"),
    pytest.param("prompt", ["p1", "p2", "p3"], id="prompt"),
    pytest.param("status", ["done", "failed"], id="status"),
]


@pytest.mark.parametrize(("grouping", "keys"), GROUPS)
def test_every_grouping_has_the_same_total_in_every_format(ran: Desk, grouping: str, keys: list[str]) -> None:
    data = ran.call("report", "--by", grouping, "--json").json
    assert sorted(row["key"] for row in data["rows"]) == sorted(keys)
    assert json.loads(ran.call("report", "--by", grouping, "--format", "json").out) == data
    assert sum(row["jobs"] for row in data["rows"]) == data["total"]["jobs"] == 4
    rows = list(csv.DictReader(io.StringIO(ran.call("report", "--by", grouping, "--format", "csv").out)))
    assert [row[grouping] for row in rows] == [row["key"] for row in data["rows"]]
    assert [float(row["cost_usd"]) for row in rows] == [row["cost_usd"] for row in data["rows"]]
    assert all(key in ran.call("report", "--by", grouping).out for key in keys)


def test_days_can_be_chosen(ran: Desk) -> None:
    [today] = ran.call("report", "--by", "day", "--json").json["rows"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", today["key"])
    assert ran.call("report", "--since", today["key"], "--until", today["key"], "--json").json["total"]["attempts"] == 4
    assert ran.call("report", "--until", "2020-01-01", "--json").json["rows"] == []
    assert "is not a day" in ran.call("report", "--since", "yesterday", code=2).err
    assert "is after" in ran.call("report", "--since", "2020-01-02", "--until", "2020-01-01", code=2).err


def test_one_batch_can_be_chosen_and_a_misspelt_one_is_guessed(ran: Desk) -> None:
    assert ran.call("report", "films", "--json").json["total"]["jobs"] == 3
    err = ran.call("report", "flims", code=2).err
    assert "has no batch flims.\nhint:  Did you mean films? It has: horses, films." in err


def test_a_table_for_spreadsheets_holds_no_formula(desk: Desk) -> None:
    (desk.folder / "prompts.csv").write_text('id,prompt\n"=1+1","a cat"\n"@x","a dog"\n')
    desk.run(desk.write(prompts=None, prompts_from="prompts.csv"))
    cells = [row[0] for row in csv.reader(io.StringIO(desk.call("report", "--by", "prompt", "--format", "csv").out))]
    assert not [cell for cell in cells if cell.startswith(("=", "@", "+", "-"))]


def test_json_is_all_that_stands_on_stdout(ran: Desk) -> None:
    path = ran.folder / "films.yaml"
    for command in (
        ["plan", path], ["status"], ["jobs"], ["report", "--settle"], ["models", "veo"], ["doctor"], ["verify"],
        ["retry", "--status", "cancelled"],
    ):  # fmt: skip
        json.loads(ran.call(*command, "--json").out)
    run = ran.run(path, "--json", code=3)
    assert run.json["jobs"] == {"done": 2, "failed": 1}
    assert run.json["total"]["cost_usd"] == 0.36
    assert "Prices" in run.err


def test_quiet_leaves_results_and_errors(ran: Desk) -> None:
    path = ran.folder / "films.yaml"
    run = ran.run(path, "--quiet", code=3)
    assert run.out.startswith("model")
    assert "Prices" not in run.err
    assert "failed: " in run.err
    [row, *_] = ran.jobs("films")
    assert ran.call("--quiet", "show", row["job_id"]).out.startswith("job ")


def test_a_log_file_has_every_step_with_its_time(desk: Desk) -> None:
    desk.run(desk.write(prompts=["one"]), "--log-file", "run.log", "--quiet")
    lines = (desk.folder / "run.log").read_text().splitlines()
    assert all(
        re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (detail|done|failed|info|warning|error) ", line) for line in lines
    )
    assert any("accepted as" in line for line in lines)
    assert any("Z done p1 · veo-3.1-lite · 0.12 USD · " in line for line in lines)
    ended = desk.run(desk.write(prompts=["two"]), "--log-file", "nowhere/run.log", code=2)
    assert "The log file nowhere/run.log cannot be written" in ended.err
    assert desk.accepted() == 1, "said before anything is bought"


def test_jobs_are_found_by_the_beginning_of_their_id_or_remote_id(ran: Desk) -> None:
    row = ran.jobs("horses")[0]
    shown = ran.call("show", row["job_id"][:12]).out
    assert shown == ran.call("show", row["remote_id"]).out
    for expected in ("a horse", HORSE, "4 s x 0.0988 USD/s", "charged 0.3952 USD", row["sha256"], "completed -> done"):
        assert expected in shown
    assert "begins the ids of several jobs" in ran.call("show", "gen-vid-", code=2).err
    assert "has an id that begins with 'zzz'" in ran.call("show", "zzz", code=2).err
    assert "Give the first characters" in ran.call("show", "", code=2).err
    assert ran.call("show", row["job_id"], "--json").json["attempts"][0]["cost_usd"] == 0.3952


def test_jobs_can_be_chosen_by_status(ran: Desk) -> None:
    [failed] = ran.jobs("--status", "failed")
    assert (failed["prompt"], failed["cost_usd"]) == ("a dog", 0.12)
    assert len(ran.jobs("--limit", "2")) == 2
    assert (
        "error: faild is not a status.\nhint:  Did you mean failed?"
        in ran.call("jobs", "--status", "faild", code=2).err
    )


def test_status_names_every_batch_and_where_it_stands(ran: Desk) -> None:
    lines = {line.split()[0]: line.split()[1:] for line in ran.call("status").out.splitlines() if line.strip()}
    assert lines["films"][:2] == ["2/3", "1"]
    assert lines["horses"][0] == "1/1"
    only = ran.call("status", "films", "--json").json
    assert [batch["batch"] for batch in only["batches"]] == ["films"]


def test_without_a_ledger_reading_says_how_one_is_made(desk: Desk) -> None:
    assert "`orbatch run` creates one" in desk.call("status", code=1).err
    assert "`orbatch run --simulate` creates it" in desk.call("status", "--simulate", code=1).err
    desk.run(desk.write(), "--simulate", "--speed", "2000")
    assert "add --simulate" in desk.call("status", code=1).err
    assert "films" in desk.call("status", "--simulate").out
