"""``retry`` and ``resolve``: the user's word about jobs that ended, or whose fate is unknown."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from orbatch.cli.exit_codes import Exit
from orbatch.cli.session import Failure, Session, confirmed, find_batch, find_job
from orbatch.cli.tables import amount, json_usd, pluralize
from orbatch.ledger import AttemptRecord, Counts, JobRecord, Ledger
from orbatch.ledger.status import TRANSITIONS, Status
from orbatch.money import to_nano
from orbatch.plan.kinds import KINDS

_RETRYABLE = [
    status
    for status, following in TRANSITIONS.items()
    if Status.PENDING in following and status not in (Status.SUBMITTING, Status.UNCERTAIN)
]


@dataclass(frozen=True, slots=True)
class Resolution:
    """What the user says became of a job; exactly one is given."""

    remote_id: str | None
    not_charged: bool
    charged: Decimal | None
    charged_at_most: bool

    @property
    def given(self) -> int:
        return sum([self.remote_id is not None, self.not_charged, self.charged is not None, self.charged_at_most])


def retry_jobs(session: Session, name: str | None, *, status: str, only: str | None, simulate: bool) -> None:
    wanted = [_retryable(word.strip()) for word in status.split(",")]
    with session.open_ledger(simulate=simulate) as ledger:
        batch = find_batch(ledger, name)
        counts = ledger.queries.counts(batch.id)
        reopened = ledger.attempts.reopen(ledger.queries.reopenable(batch.id, wanted, only), reset_attempts=True)
    if session.json:
        session.data({"batch": batch.name, "reopened": reopened})
    elif reopened:
        are = "is" if reopened == 1 else "are"
        text = f"{pluralize(reopened, 'job')} of {batch.name} {are} pending again; the next `orbatch run` buys anew."
        session.result(text)
    else:
        chosen = "" if only is None else f" and match {only}"
        session.result(f"{batch.name} has no jobs that are {' or '.join(wanted)}{chosen}. It has: {_standing(counts)}.")


def _standing(counts: Counts) -> str:
    return ", ".join(f"{jobs} {status}" for status, jobs in counts.by_status.items()) or "none"


def _retryable(word: str) -> Status:
    if word not in _RETRYABLE:
        raise Failure(f"--status {word}: jobs can be sent again when they are {', '.join(_RETRYABLE)}.")
    return Status(word)


def resolve_jobs(
    session: Session, job: str, verdict: Resolution, *, everything: bool, yes: bool, simulate: bool
) -> None:
    if verdict.given != 1:
        raise Failure("Say one of --remote-id ID, --not-charged, --charged USD or --charged-at-most.")
    with session.open_ledger(simulate=simulate) as ledger:
        if everything:
            _resolve_all(session, ledger, job, verdict, yes=yes)
        else:
            _resolve_one(session, ledger, job, verdict)


def _resolve_one(session: Session, ledger: Ledger, prefix: str, verdict: Resolution) -> None:
    job = find_job(ledger, prefix)
    attempts = ledger.queries.attempts(job.id)
    uncertain = [attempt for attempt in attempts if attempt.status == Status.UNCERTAIN]
    if uncertain:
        if verdict.remote_id is not None and KINDS[job.kind].is_synchronous:
            raise Failure(
                f"Job {job.id} is for {job.kind}, whose result comes in the answer alone: there is nothing to follow. "
                "Say --charged USD if it was charged, or --not-charged."
            )
        _said(session, job.id, _apply(ledger, uncertain[0], verdict))
        return
    unsettled = [attempt for attempt in attempts if not attempt.settled and attempt.completed_at is not None]
    if not unsettled or verdict.remote_id is not None:
        raise Failure(f"Job {job.id} is {job.status}, with nothing to resolve.")
    cost = _cost(unsettled[0], verdict)
    ledger.attempts.settle_manually(unsettled[0], cost)
    _said(session, job.id, f"attempt {unsettled[0].number} settled at {amount(cost)} USD.")


def _resolve_all(session: Session, ledger: Ledger, name: str, verdict: Resolution, *, yes: bool) -> None:
    if verdict.remote_id is not None or verdict.charged is not None:
        raise Failure("--all goes with --not-charged or --charged-at-most; ids and amounts are said job by job.")
    jobs = ledger.queries.uncertain(find_batch(ledger, name).id)
    if not jobs:
        _said(session, name, "nothing is uncertain.")
        return
    for job in jobs:
        (session.say if yes else session.warn)(_announced(job, verdict))
    if not yes:
        if not sys.stdin.isatty():
            raise Failure("There is no terminal to ask on; pass --yes to resolve all of the jobs above.")
        if not confirmed(f"Resolve {pluralize(len(jobs), 'job')} so?"):
            raise Failure("Nothing was changed.", Exit.DONE)
    for job in jobs:
        assert job.attempt is not None
        _apply(ledger, job.attempt, verdict)
    _said(session, name, f"{pluralize(len(jobs), 'job')} resolved.")


def _announced(job: JobRecord, verdict: Resolution) -> str:
    assert job.attempt is not None
    worst = amount(job.attempt.reserved_nusd, "an unknown amount of")
    became = "pending again" if verdict.not_charged else f"lost, pluralize at {worst} USD"
    return f"{job.id}  {job.prompt_id} {job.model}, sent {job.attempt.created_at}: {became}"


def _apply(ledger: Ledger, attempt: AttemptRecord, verdict: Resolution) -> str:
    if verdict.remote_id is not None:
        ledger.attempts.attach_remote_id(attempt, verdict.remote_id)
        return f"found as {verdict.remote_id}; the next `orbatch run` follows and downloads it."
    if verdict.not_charged:
        ledger.attempts.resolve_not_charged(attempt)
        return "not charged; the next `orbatch run` sends it again."
    cost = _cost(attempt, verdict)
    ledger.attempts.resolve_charged(attempt, cost)
    return f"lost, charged {amount(cost)} USD."


def _cost(attempt: AttemptRecord, verdict: Resolution) -> int:
    if verdict.charged is not None:
        return to_nano(verdict.charged)
    if verdict.not_charged:
        return 0
    if attempt.reserved_nusd is None:
        raise Failure(f"Attempt {attempt.number} of job {attempt.job_id} has no upper price; say --charged USD.")
    return attempt.reserved_nusd


def _said(session: Session, subject: str, text: str) -> None:
    if session.json:
        session.data({"subject": subject, "result": text})
    else:
        session.result(f"{subject}: {text}")


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
    from orbatch.plan.kinds import KINDS  # not above: commands that only read start without the price lists

    if not all(KINDS[job.kind].is_synchronous for job in jobs):
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
        rise = ledger.usage.around(attempt)
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
    rise = ledger.usage.around(attempt)
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
