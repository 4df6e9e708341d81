"""Jobs of unknown fate, as a user needs them: what, when, how much, and where to look."""

from __future__ import annotations

from typing import Any

from orbatch.cli.tables import amount, json_usd
from orbatch.ledger import JobRecord, Ledger

ACTIVITY_PAGE = "https://openrouter.ai/activity"
_PROMPT_SHOWN = 60  # characters


def uncertain_lines(ledger: Ledger, batch_id: int | None, flag: str) -> list[str]:
    """One line per uncertain attempt with the evidence there is, and how to settle them; [] when there is none."""
    jobs = ledger.queries.uncertain(batch_id)
    if not jobs:
        return []
    lines = [f"{len(jobs)} uncertain: the provider may have accepted them, so they are not sent again by themselves."]
    for job in jobs:
        lines.append(f"  {job.id}  {job.model}  {_shortened(job.prompt)}")
        lines.append(f"    {_when_and_how_much(job)}{_evidence(ledger, job)}")
    lines.append(
        f"  Look for a generation of that model, time and price on {ACTIVITY_PAGE}, then say what became of it:"
    )
    from orbatch.kinds import KINDS  # not above: commands that only read start without the price lists

    if not all(KINDS[job.kind].at_once for job in jobs):
        lines.append(
            f"    orbatch resolve JOB --remote-id ID{flag}    it is there, under this job id: follow and download it"
        )
    lines += [
        f"    orbatch resolve JOB --not-charged{flag}     it is not there: free to run again",
        f"    orbatch resolve JOB --charged USD{flag}     it was charged and cannot be fetched",
    ]
    if len(jobs) > 1:
        lines.append(f"    orbatch resolve BATCH --all --not-charged{flag}   the same for all of them")
    return lines


def uncertain_data(ledger: Ledger, batch_id: int | None) -> list[dict[str, Any]]:
    """The same for machines."""
    found = []
    for job in ledger.queries.uncertain(batch_id):
        attempt = job.attempt
        assert attempt is not None
        rise = ledger.evidence.around(attempt)
        found.append(
            {
                "job_id": job.id,
                "prompt_id": job.prompt_id,
                "prompt": job.prompt,
                "model": job.model,
                "attempt": attempt.number,
                "sent_at": attempt.created_at,
                "reserved_usd": json_usd(attempt.reserved_nusd),
                "error": attempt.error,
                "usage_rise_unexplained_usd": None if rise is None else json_usd(rise.unexplained_nusd),
                "usage_read_at": None if rise is None else rise.read_at,
            }
        )
    return found


def _when_and_how_much(job: JobRecord) -> str:
    attempt = job.attempt
    assert attempt is not None
    worst = amount(attempt.reserved_nusd, "an unknown amount of")
    error = (attempt.error or "no answer on record").rstrip(".")
    return f"sent {attempt.created_at}, up to {worst} USD reserved; {error}."


def _evidence(ledger: Ledger, job: JobRecord) -> str:
    """A hint from the account's own usage, with its age."""
    attempt = job.attempt
    assert attempt is not None
    rise = ledger.evidence.around(attempt)
    if rise is None:
        return ""
    if attempt.reserved_nusd is not None and rise.unexplained_nusd < attempt.reserved_nusd // 2:
        return (
            f" Hint: until {rise.read_at} the key's usage did not rise by {amount(attempt.reserved_nusd)} USD beyond "
            f"what is billed to known jobs (it lags, so look again later)."
        )
    return (
        f" Hint: until {rise.read_at} the key's usage rose by {amount(rise.unexplained_nusd)} USD that no known job "
        "explains."
    )


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _PROMPT_SHOWN else line[: _PROMPT_SHOWN - 1] + "…"
