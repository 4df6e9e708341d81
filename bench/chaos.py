"""Kills real runs with SIGKILL, many times, and compares what is left with the simulator's journal.

    python -m bench.chaos --kills 200 --seed 1

Each round is a batch of eight jobs against a simulator in another process. Its run is killed up to four times, at one
named point or at random instants, started again until everything is done, and audited; in some rounds one of its
records is removed after a kill. Uncertain jobs are resolved as a user would, with the journal in the place of the
provider's activity page. Prints a table, and exits with 1 if a job was paid twice, a paid result was lost, or ledger,
files and journal disagree in anything else.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import cycle
from pathlib import Path

from tests.chaos.arena import Arena, Scene
from tests.chaos.audit import unaccounted
from tests.chaos.launcher import POINTS
from tests.chaos.processes import Launcher

KILLS_PER_ROUND = 4
AT_RANDOM = "at a random instant"
WITH_PROVIDER = "at a random instant, the provider too"
# What is removed after a kill: each of the two records, or what the first had not yet moved into its file.
LOSSES = {
    "at a random instant, and the ledger is removed": "ledger.db*",
    "at a random instant, and the ledger's WAL is removed": "ledger.db-*",
    "at a random instant, and the receipts are removed": "out/.orbatch/*",
}
RECOVERY = "in the recovery of an earlier kill"
ANSWER_DELAY_S = 20.0  # simulated: long enough for a random instant to find requests in the air
COLUMNS = ("kills", "restarts", "provider kills", "uncertain", "duplicates", "lost", "mismatches")

Play = Callable[[Arena, random.Random], None]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.chaos", description="Kill runs many times and audit what is left.")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--directory", type=Path, help="keep every round here, instead of in a temporary directory")
    given = parser.parse_args(arguments)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        figures, findings = rampage(given.kills, given.seed, given.directory or Path(temporary))
    say(table(figures))
    say("\n".join(findings))
    say(f"{given.kills} kills asked for, seed {given.seed}, {time.monotonic() - started:.0f} s")
    return 1 if findings else 0


def rampage(kills: int, seed: int, directory: Path) -> tuple[dict[str, Counter[str]], list[str]]:
    """Rounds at one point after another until there were ``kills``: the figures by point, and what was found wrong."""
    luck = random.Random(seed)
    figures: dict[str, Counter[str]] = {}
    findings: list[str] = []
    launcher = Launcher()
    try:
        for number, point in enumerate(cycle([*POINTS, AT_RANDOM, WITH_PROVIDER, AT_RANDOM, *LOSSES])):
            left = kills - sum(row["kills"] for row in figures.values())
            if left <= 0:
                break
            delay_s = ANSWER_DELAY_S if point in (AT_RANDOM, WITH_PROVIDER, *LOSSES) else 0.0
            scene = Scene(prompts=4, in_flight=luck.randint(1, 6), ranges=luck.random() < 0.5, answer_delay_s=delay_s)
            with Arena(directory / f"round-{number}", scene, launcher) as arena:
                found = play_round(arena, luck, point, min(KILLS_PER_ROUND, left), figures.setdefault(point, Counter()))
            findings += [f"round {number}, killed {point}: {finding}" for finding in found]
    finally:
        launcher.close()
    return figures, findings


def play_round(arena: Arena, luck: random.Random, point: str, kills: int, row: Counter[str]) -> list[str]:
    """Kill, go on, finish, audit; adds to ``row``. Returns what was found wrong."""
    play = PLAYS.get(point) or partial(kill_at_point, point)
    found: list[str] = []
    for _ in range(kills):
        before = arena.kills
        play(arena, luck)
        # A ledger that has lost something learns it from the receipts in the next run.
        found += unaccounted(arena.ledger, arena.journal()) if arena.ledger.exists() and point not in LOSSES else []
        if arena.kills == before or arena.kills >= kills:
            break
    arena.finish()
    audit = arena.audit()
    row.update(
        {
            "kills": arena.kills,
            "restarts": arena.starts - 1,
            "provider kills": arena.provider_kills,
            "uncertain": arena.uncertain,
            "duplicates": audit.duplicates,
            "lost": len(audit.lost),
            "mismatches": len(audit.mismatches) + len(found),
        }
    )
    return found + audit.findings


def kill_at_point(point: str, arena: Arena, luck: random.Random) -> None:
    arena.run(point, luck.randint(1, 3))


def kill_recovery(arena: Arena, luck: random.Random) -> None:
    """A recovery has something to do only after a kill that left a request in the air."""
    arena.run("while the answer is awaited", luck.randint(1, 2))
    arena.run(RECOVERY)


def kill_at_random(arena: Arena, luck: random.Random) -> None:
    arena.run_and_kill(luck.uniform(0.0, 0.6))


def kill_and_lose(pattern: str, arena: Arena, luck: random.Random) -> None:
    kill_at_random(arena, luck)
    for path in arena.folder.glob(pattern):
        path.unlink()


def kill_with_provider(arena: Arena, luck: random.Random) -> None:
    with arena.running() as process:
        time.sleep(luck.uniform(0.0, 0.3))
        arena.kill_simulator()
        time.sleep(luck.uniform(0.0, 0.3))
        if luck.random() < 0.5:
            process.signal(signal.SIGKILL)
        arena.start_simulator()
        time.sleep(luck.uniform(0.0, 0.3))
        process.signal(signal.SIGKILL)


PLAYS: Mapping[str, Play] = {
    AT_RANDOM: kill_at_random,
    WITH_PROVIDER: kill_with_provider,
    RECOVERY: kill_recovery,
    **{point: partial(kill_and_lose, pattern) for point, pattern in LOSSES.items()},
}


def table(figures: Mapping[str, Counter[str]]) -> str:
    """The figures as a Markdown table, with their sums."""
    total: Counter[str] = Counter()
    for row in figures.values():
        total.update(row)
    lines = [("killed", *COLUMNS), ("---", *["---:"] * len(COLUMNS))]
    lines += [(point, *(str(row[column]) for column in COLUMNS)) for point, row in (*figures.items(), ("all", total))]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def say(text: str) -> None:
    if text:
        sys.stdout.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
