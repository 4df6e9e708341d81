"""``retry`` and ``resolve``: the user's decision about jobs that failed, or whose outcome is unknown."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

import typer

from orbatch.cli.session import (
    Batch,
    Failure,
    Only,
    Session,
    Yes,
    confirm,
    find_batch,
    find_job,
    outlive_readers,
    parse_usd,
)
from orbatch.cli.tables import SCREEN, amount, jobs_are, json_usd, pluralize
from orbatch.ledger import TRANSITIONS, AttemptRecord, BatchRecord, Counts, JobRecord, Ledger, Status
from orbatch.money import to_nano

ACTIVITY_PAGE = "https://openrouter.ai/activity"
_PROMPT_SHOWN = 60  # characters
# Derived, so that the ledger's table of transitions alone decides what may be tried again.
_RETRYABLE = [status for status in SCREEN["failed"] if Status.PENDING in TRANSITIONS[status]]


def retry(
    context: typer.Context,
    batch: Batch = None,
    status: Annotated[
        str, typer.Option(help=f"Status of the jobs to retry: {', '.join(_RETRYABLE)}; several with commas.")
    ] = "failed",
    only: Only = None,
) -> None:
    """Set failed jobs back to pending. The next run submits them."""
    session: Session = context.obj
    outlive_readers()
    wanted = [Status(word.strip()) for word in status.split(",") if word.strip() in _RETRYABLE]
    if len(wanted) != status.count(",") + 1:  # a typo fails before the ledger is opened
        raise Failure(f"--status {status}: only {', '.join(_RETRYABLE)} jobs can be retried.")
    with session.open_ledger() as ledger:
        found = find_batch(ledger, batch)
        counts = ledger.queries.counts(found.id)  # before they change
        reopened = ledger.attempts.reopen(ledger.queries.reopenable(found.id, wanted, only), reset_attempts=True)
    if session.json:
        session.data({"batch": found.name, "reopened": reopened})
    elif reopened:
        again = f"`orbatch run {shlex.quote(found.config_path)}{session.flags}`"
        them = "it" if reopened == 1 else "them"
        session.result(f"{pluralize(reopened, 'job')} of {found.name} set to pending. {again} submits {them} again.")
    else:
        matching = "" if only is None else f" that match {only}"
        present = ", ".join(f"{jobs} {status}" for status, jobs in counts.by_status.items()) or "none"
        session.result(f"{found.name} has no {' or '.join(wanted)} jobs{matching}. Its jobs: {present}.")


def retry_hint(name: str, counts: Counts, flags: str) -> list[str]:
    """One line about the failed jobs of a batch, with the command for those that can be retried; [] without any."""
    failed = {status: counts[status] for status in SCREEN["failed"] if counts[status]}
    if not failed:
        return []
    statuses = ", ".join(f"{jobs} {status}" for status, jobs in failed.items())
    line = f"{pluralize(sum(failed.values()), 'job')} failed ({statuses})."
    retryable = [status for status in failed if status in _RETRYABLE]
    if retryable:
        # `retry` alone takes failed jobs.
        chosen = "" if retryable == [Status.FAILED] else f" --status {','.join(retryable)}"
        line += f" To retry: orbatch retry {name}{chosen}{flags}"
    else:
        line += f" {' and '.join(failed).capitalize()} jobs cannot be retried."
    return [line]


@dataclass(frozen=True, slots=True)
class _Verdict:
    """The outcome of an uncertain job. ``cost_nusd`` None: the worst case, which is what is reserved."""

    remote_id: str | None
    not_charged: bool
    cost_nusd: int | None

    def cost(self, attempt: AttemptRecord) -> int:
        """What to record as charged, in nano-dollars. Raises Failure without an upper price."""
        cost = attempt.reserved_nusd if self.cost_nusd is None else self.cost_nusd
        if cost is None:
            raise Failure(f"Attempt {attempt.number} of job {attempt.job_id} has no upper price. Pass --charged USD.")
        return cost

    def apply(self, ledger: Ledger, attempt: AttemptRecord) -> str:
        """Record the outcome; returns what it now is."""
        if self.remote_id is not None:
            ledger.attempts.attach_remote_id(attempt, self.remote_id)
            return f"submitted as {self.remote_id}. The next `orbatch run` polls and downloads it."
        if self.not_charged:
            ledger.attempts.resolve_not_charged(attempt)
            return "not charged, set to pending. The next `orbatch run` submits it again."
        cost = self.cost(attempt)
        ledger.attempts.resolve_charged(attempt, cost)
        return f"lost, {amount(cost)} USD charged."


def resolve(
    context: typer.Context,
    job: Annotated[str, typer.Argument(help="First characters of a job id; with --all, the name of a batch.")],
    remote_id: Annotated[str | None, typer.Option(help="The job id at the provider: poll and download it.")] = None,
    not_charged: Annotated[
        bool, typer.Option("--not-charged", help="It was not charged: the next run submits it again.")
    ] = False,
    charged: Annotated[
        Decimal | None,
        typer.Option(
            parser=parse_usd, metavar="USD", help="It was charged this amount and the output cannot be retrieved."
        ),
    ] = None,
    charged_at_most: Annotated[
        bool, typer.Option("--charged-at-most", help="Record the worst case as charged, and the output as lost.")
    ] = False,
    all_: Annotated[bool, typer.Option("--all", help="All uncertain jobs of the batch.")] = False,
    yes: Yes = False,
) -> None:
    """Record the outcome of an uncertain job.

    The response to its submit request was lost, so it may have been charged. Pass exactly one of --remote-id,
    --not-charged, --charged and --charged-at-most.
    """
    session: Session = context.obj
    outlive_readers()
    if [remote_id is not None, not_charged, charged is not None, charged_at_most].count(True) != 1:
        raise Failure("Pass one of --remote-id ID, --not-charged, --charged USD or --charged-at-most.")
    cost = 0 if not_charged else None if charged is None else to_nano(charged)
    verdict = _Verdict(remote_id, not_charged, cost)
    with session.open_ledger() as ledger:
        if not all_:
            _resolve_one(session, ledger, job, verdict)
        elif remote_id is not None or charged is not None:
            raise Failure("--all works with --not-charged or --charged-at-most. Pass ids and amounts job by job.")
        else:
            _resolve_all(session, ledger, job, verdict, yes=yes)


def _resolve_one(session: Session, ledger: Ledger, prefix: str, verdict: _Verdict) -> None:
    job = find_job(ledger, prefix)
    attempts = ledger.queries.attempts(job.id)  # a settled job may have an earlier attempt whose charge is unknown
    uncertain = [attempt for attempt in attempts if attempt.status == Status.UNCERTAIN]
    if uncertain:
        if verdict.remote_id is not None and _answers_in_response(job):
            raise Failure(
                f"Job {job.id} ({job.kind}) cannot be polled: its output was part of the lost response. "
                "Pass --charged USD or --not-charged."
            )
        _show_result(session, job.id, verdict.apply(ledger, uncertain[0]))
        return
    unsettled = [attempt for attempt in attempts if not attempt.settled and attempt.completed_at is not None]
    if not unsettled or verdict.remote_id is not None:
        raise Failure(f"Job {job.id} is {job.status}. There is nothing to resolve.")
    cost = verdict.cost(unsettled[0])
    ledger.attempts.settle_manually(unsettled[0], cost)
    _show_result(session, job.id, f"attempt {unsettled[0].number} settled at {amount(cost)} USD.")


def _answers_in_response(job: JobRecord) -> bool:
    from orbatch.plan import KINDS  # not above: `status` and `jobs` start faster without the price lists

    return KINDS[job.kind].is_synchronous


def _resolve_all(session: Session, ledger: Ledger, name: str, verdict: _Verdict, *, yes: bool) -> None:
    uncertain = _uncertain(ledger, find_batch(ledger, name).id)
    if not uncertain:  # no error: a script may call this after every run
        _show_result(session, name, "no job is uncertain.")
        return
    jobs = pluralize(len(uncertain), "job")
    for job, attempt in uncertain:
        for line in _evidence(ledger, job, attempt, len(uncertain)):
            (session.say if yes else session.warn)(line)  # --quiet must not hide what is asked about
    if not yes:
        outcome = "as not charged, to be submitted again" if verdict.not_charged else "as lost, the worst case charged"
        confirm(f"Record {jobs} {outcome}?", "Nothing was changed.")
    for _, attempt in uncertain:
        verdict.apply(ledger, attempt)
    _show_result(session, name, f"{jobs} resolved.")


def _show_result(session: Session, subject: str, text: str) -> None:
    if session.json:
        session.data({"subject": subject, "result": text})
    else:
        session.result(f"{subject}: {text}")


def _uncertain(ledger: Ledger, batch_id: int | None) -> list[tuple[JobRecord, AttemptRecord]]:
    """Each uncertain job with its attempt."""
    return [(job, job.attempt) for job in ledger.queries.uncertain(batch_id) if job.attempt is not None]


def uncertain_lines(ledger: Ledger, batch_id: int | None, flags: str) -> list[str]:
    """The uncertain jobs with the evidence there is, and how to resolve them; [] without any."""
    uncertain = _uncertain(ledger, batch_id)
    if not uncertain:
        return []
    them, they = ("it", "it is") if len(uncertain) == 1 else ("them", "they are")
    lines = [f"{jobs_are(len(uncertain))} uncertain: the provider may have accepted {them}, so {they} not retried."]
    for job, attempt in uncertain:
        lines += _evidence(ledger, job, attempt, len(uncertain))
    lines.append(f"  Look for a generation of that model, time and price on {ACTIVITY_PAGE}, then record the result:")
    if not all(_answers_in_response(job) for job, _ in uncertain):  # images and texts have no remote id
        lines.append(
            f"    orbatch resolve JOB --remote-id ID{flags}    listed there with this job id: poll and download it"
        )
    lines += [
        f"    orbatch resolve JOB --not-charged{flags}     not listed there: submit it again",
        f"    orbatch resolve JOB --charged USD{flags}     charged, and the output cannot be retrieved",
    ]
    if len(uncertain) > 1:  # saves typing; the command asks before it changes them
        lines.append(f"    orbatch resolve BATCH --all --not-charged{flags}   none of them is listed there")
    return lines


def _evidence(ledger: Ledger, job: JobRecord, attempt: AttemptRecord, of: int) -> list[str]:
    """Two lines about one of ``of`` uncertain jobs: which it is, what is known of its submit and of the key's usage."""
    prompt = " ".join(job.prompt.split())
    shown = prompt if len(prompt) <= _PROMPT_SHOWN else prompt[: _PROMPT_SHOWN - 1] + "…"
    worst = amount(attempt.reserved_nusd)
    reserved = (
        "nothing reserved: it has no upper price" if attempt.reserved_nusd is None else f"up to {worst} USD reserved"
    )
    error = (attempt.error or "no response on record").rstrip(".")  # a killed run leaves no error
    line = f"    submitted {attempt.created_at}, {reserved}; {error}."
    if usage := ledger.usage.around(attempt):
        line += f" Hint: until {usage.read_at}, usage of the key "
        # A charge is rarely less than half of the worst case.
        if attempt.reserved_nusd is not None and usage.unexplained_nusd < attempt.reserved_nusd // 2:
            line += f"did not rise by {worst} USD beyond the charges of known jobs. Usage lags, so check again later."
        else:
            charged = "it was" if of == 1 else "at least one uncertain job was"  # the rise cannot be told apart
            rise = amount(usage.unexplained_nusd)
            line += f"rose by {rise} USD that no known job accounts for, so {charged} probably charged."
    return [f"  {job.id}  {job.model}  {shown}", line]


def holds_data(ledger: Ledger, batch: BatchRecord) -> list[dict[str, Any]]:
    """Why jobs of a batch are not submitted, for machines."""
    return [{"reason": reason, "jobs": jobs} for reason, jobs in ledger.queries.wait_reasons(batch.id)]


def uncertain_data(ledger: Ledger, batch_id: int | None) -> list[dict[str, Any]]:
    """The uncertain jobs for machines."""
    found = []
    for job, attempt in _uncertain(ledger, batch_id):
        usage = ledger.usage.around(attempt)
        found.append(
            {
                "job_id": job.id,
                "prompt_id": job.prompt_id,
                "prompt": job.prompt,
                "model": job.model,
                "attempt": attempt.number,
                "submitted_at": attempt.created_at,
                "reserved_usd": json_usd(attempt.reserved_nusd),
                "error": attempt.error,
                "usage_rise_unexplained_usd": None if usage is None else json_usd(usage.unexplained_nusd),
                "usage_read_at": None if usage is None else usage.read_at,
            }
        )
    return found
