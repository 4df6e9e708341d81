"""``init``, ``schema``, ``doctor``, ``backup``, ``simulate``, help and completion: what comes before a batch."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from decimal import Decimal
from importlib import metadata
from pathlib import Path

import pytest

import orbatch
from orbatch.batchfile.loader import load_config
from orbatch.cli.app import COMMANDS
from orbatch_simulator import Fault
from tests.conftest import Open
from tests.desk import Desk

# -- init and schema --------------------------------------------------------------------------------------------------


def test_init_writes_a_starter_and_the_schema_it_names(desk: Desk) -> None:
    desk.call("init", "films/first.yaml")
    starter = (desk.folder / "films" / "first.yaml").read_text("utf-8")
    named = re.search(r"\$schema=(\S+)", starter.splitlines()[0])
    assert named is not None
    schema = desk.folder / "films" / named[1]
    assert json.loads(schema.read_text("utf-8")) == desk.call("schema").json
    assert load_config(desk.folder / "films" / "first.yaml").name == "my-first-batch"


def test_init_overwrites_nothing(desk: Desk) -> None:
    schema = desk.folder / "orbatch.schema.json"
    schema.write_text("mine")
    desk.call("init")
    assert schema.read_text() == "mine"
    assert "batch.yaml already exists" in desk.call("init", code=2).err
    assert "is a directory" in desk.call("init", ".", code=2).err


# -- doctor -----------------------------------------------------------------------------------------------------------


def test_doctor_finds_everything_in_order(open_desk: Open) -> None:
    desk = open_desk(key_limit_usd=Decimal(5))
    out = desk.orbatch("doctor").out
    assert "ok    ledger: orbatch.db does not exist yet; the first run creates it" in out
    assert "ok    key: accepted by http://127.0.0.1" in out
    assert "ok    credit: 5.00 USD left on this key" in out
    assert "GB free" in out
    assert "Prices read live" in out
    assert not desk.db.exists(), "looking makes no ledger"
    desk.run(desk.write())
    assert "ok    ledger: orbatch.db is writable" in desk.call("doctor").out


FINDINGS = [
    pytest.param({"OPENROUTER_API_KEY": ""}, "key", "OPENROUTER_API_KEY", id="no key"),
    pytest.param({}, "key", "not accepted by", id="a key that is refused"),
    pytest.param({"ORBATCH_DB": "file/orbatch.db"}, "ledger", "is not writable", id="a ledger that cannot be created"),
    pytest.param({"ORBATCH_DB": "file"}, "ledger", "is not a SQLite file", id="a ledger that is another file"),
    pytest.param({"OPENROUTER_BASE_URL": "http://openrouter.invalid/v1"}, "base URL", "http", id="an unsafe base URL"),
]


@pytest.mark.parametrize(("env", "subject", "words"), FINDINGS)
def test_doctor_names_what_is_wrong_and_ends_with_1(desk: Desk, env: dict[str, str], subject: str, words: str) -> None:
    (desk.folder / "file").write_text("no database " * 100)
    if not env:
        desk.simulator.set_faults(Fault("key", status=401, message="User not found."))
    findings = desk.call("doctor", "--json", code=1, **env).json
    wrong = {finding["subject"]: finding["text"] for finding in findings if finding["ok"] is False}
    assert list(wrong) == [subject]
    assert words in wrong[subject]


def test_doctor_and_plan_say_when_prices_are_not_live(desk: Desk) -> None:
    desk.simulator.set_faults(Fault("models", status=503))
    assert "note  catalog: Prices from the packaged snapshot" in desk.call("doctor").out
    plan = desk.call("plan", desk.write(), "--quiet")
    assert "Prices from the packaged snapshot" in plan.err, "too important to be quiet about"


# -- backup -----------------------------------------------------------------------------------------------------------


def test_a_backup_is_a_ledger_and_overwrites_nothing(desk: Desk) -> None:
    desk.run(desk.write())
    desk.call("backup", "copy.db")
    assert desk.call("report", "--db", "copy.db", "--json").json == desk.call("report", "--json").json
    assert "copy.db already exists" in desk.call("backup", "copy.db", code=2).err
    assert "is a directory" in desk.call("backup", ".", code=2).err
    assert "nowhere is not a directory" in desk.call("backup", "nowhere/copy.db", code=2).err


# -- simulate ---------------------------------------------------------------------------------------------------------


def test_simulate_refuses_a_fault_that_is_none(desk: Desk) -> None:
    assert "submit is no fault" in desk.call("simulate", "--port", "0", "--fault", "submit", code=2).err
    wrong = '{"call": "submit", "action": "explode"}'
    assert "submit knows the actions" in desk.call("simulate", "--port", "0", "--fault", wrong, code=2).err


def test_simulate_says_when_its_port_is_taken(desk: Desk) -> None:
    port = desk.simulator.base_url.split(":")[2].split("/")[0]
    assert "address already in use" in desk.call("simulate", "--port", port, code=1).err


# -- help and completion ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_and_its_options(desk: Desk, command: str) -> None:
    out = desk.call(command, "--help").out
    assert f"Usage: orbatch {command}" in out or f"{command} [OPTIONS]" in out
    assert "--json" in out
    for line in out.splitlines():
        option = re.match(r"  (-\w, )?--[\w-]+(?P<rest>.*)$", line)
        assert option is None or option["rest"].strip() or line.endswith(">"), f"{line} has no help"


def test_the_list_of_commands_is_whole_and_not_cut_off(desk: Desk) -> None:
    out = desk.call("--help").out
    listed = out[out.index("Run a batch:") :]
    assert re.findall(r"^  (\w+)  ", listed, re.MULTILINE) == list(COMMANDS)
    assert "..." not in listed


def test_global_options_stand_before_or_behind_the_command(desk: Desk) -> None:
    desk.run(desk.write(prompts=["one"]))
    assert desk.call("status", "--json", "--db", desk.db).json == desk.call("--db", desk.db, "--json", "status").json


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["rum"], "Did you mean", id="command"),
        pytest.param(["run", "films.yaml", "--buget", "3"], "--budget", id="option"),
        pytest.param(["run"], "batch.yaml: there is no such file; `orbatch init` writes one", id="no batch file"),
        pytest.param(["resolve"], "Missing argument", id="missing argument"),
        pytest.param(["run", "films.yaml", "--budget", "much"], "is not an amount in USD", id="amount"),
        pytest.param(["run", "films.yaml", "--budget", "-1"], "is not an amount in USD", id="negative amount"),
        *(
            pytest.param(
                [*command, amount], "is not an amount in USD from 0 to 1,000,000", id=f"{command[0]} {amount[:9]}"
            )
            for command in (
                ["run", "films.yaml", "--budget"],
                ["plan", "films.yaml", "--budget"],
                ["generate", "a cat", "-m", "a/b", "-o", "a.mp4", "--budget"],
                ["resolve", "1a2b", "--charged"],
            )
            for amount in ("1e300", "9e99999", "9" * 5000, "NaN", "Infinity", "1000000.01", "0.0000000001")
        ),
        pytest.param(["jobs", "--limit", str(10**30)], "Input should be less than or equal to", id="limit"),
        pytest.param(
            ["run", "films.yaml", "--in-flight", str(10**30)], "Input should be less than or equal to", id="in flight"
        ),
        pytest.param(["models", "--duration", str(10**30)], "Input should be less than or equal to", id="duration"),
        pytest.param(["report", "--by", "colour"], "'prompt'", id="choice"),
    ],
)
def test_bad_usage_ends_with_2_and_a_hint(desk: Desk, arguments: list[str], words: str) -> None:
    err = desk.call(*arguments, code=2).err
    assert words in err
    assert len(err) < 1000


def test_a_batch_file_of_the_usual_name_needs_no_naming(desk: Desk) -> None:
    desk.write("batch")
    assert "batch: 3 jobs to submit" in desk.call("plan").out
    assert "batch: 3 of 3 done" in desk.call("run", "--yes", "--speed", desk.speed).out


def test_batches_jobs_prompts_models_and_statuses_are_completed(desk: Desk) -> None:
    desk.call("plan", desk.write("films", prompts=[{"id": "dawn", "prompt": "a harbour"}]))
    [job] = desk.jobs()

    def offered(*words: str) -> list[str]:
        program = Path(sys.executable).parent / "orbatch"  # its name is that of the variable
        asked = {"_ORBATCH_COMPLETE": "complete_bash", "COMP_WORDS": shlex.join(["orbatch", *words])}
        environment = dict(os.environ) | desk.env | asked | {"COMP_CWORD": str(len(words))}
        done = subprocess.run([program], env=environment, cwd=desk.folder, capture_output=True, text=True, check=False)
        assert done.stderr == ""
        return done.stdout.split()

    assert offered("jobs", "fi") == offered("status", "f") == offered("set", "fil") == ["films"]
    assert offered("show", job["job_id"][:4]) == [job["job_id"]]
    assert offered("jobs", "--prompt", "d") == offered("path", "da") == ["dawn"]
    assert offered("report", "--model", "google/") == [job["model"]]
    assert offered("retry", "--status", "failed,ex") == []
    assert offered("jobs", "--status", "failed,ex") == ["failed,expired"]
    assert offered("jobs", "nothing") == []


def test_completion_completes_commands_and_installs(desk: Desk) -> None:
    environment = dict(os.environ) | desk.env | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    (desk.folder / "home").mkdir()
    asked = environment | {"_ORBATCH_COMPLETE": "complete_bash", "COMP_WORDS": "orbatch re", "COMP_CWORD": "1"}
    found = subprocess.run(["orbatch"], env=asked, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["report", "retry", "resolve"]
    # Which shell it is for is told by the parent process.
    install = "orbatch --show-completion; orbatch --install-completion; :"
    done = subprocess.run(["bash", "-c", install], env=environment, capture_output=True, text=True, check=True)
    assert "complete -o default -F _orbatch_completion orbatch" in done.stdout
    assert "bash completion installed" in done.stdout
    assert [*(desk.folder / "home").rglob("orbatch.sh")]


def test_the_version_is_that_of_the_package(desk: Desk) -> None:
    assert desk.call("--version").out == f"orbatch {metadata.version('orbatch')}\n"
    assert orbatch.__version__ == metadata.version("orbatch")


PROMPTFOO = """
description: cats at work
prompts: ['A {{animal}} reads {{what}}', 'file://more.txt']
providers: ['openrouter:openai/gpt-4o-mini', {id: 'openrouter:google/veo-3.1-lite'}, 'anthropic:messages:x']
defaultTest: {vars: {what: a book}}
tests:
  - {description: a cat, vars: {animal: cat}, assert: [{type: contains, value: cat}]}
  - vars: {animal: [dog, fox]}
"""


def test_a_promptfoo_configuration_becomes_a_batch_file(desk: Desk) -> None:
    (desk.folder / "promptfooconfig.yaml").write_text(PROMPTFOO)
    (desk.folder / "more.txt").write_text("Describe a {{animal}}\n---\nDraw a {{animal}}\n")
    made = desk.call("init", "cats.yaml", "--from", "promptfooconfig.yaml")
    assert "Left out, because orbatch has nothing like it: provider anthropic:messages:x, assertions." in made.err
    plan = desk.call("plan", "cats.yaml", "--json").json
    assert (plan["batch"], plan["jobs_to_submit"]) == ("cats-at-work", 18), "3 prompts, 3 animals, 2 models"
    assert "A dog reads a book" in {job["prompt"] for job in desk.jobs()}
    for text, why in (
        ("[]", "it is not a mapping"),
        ("prompts: [a]", "no provider that begins"),
        ("a: [", "while parsing"),
    ):
        (desk.folder / "bad.yaml").write_text(text)
        assert why in desk.call("init", "other.yaml", "--from", "bad.yaml", code=2).err
