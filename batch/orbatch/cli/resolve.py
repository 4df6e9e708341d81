"""``retry`` and ``resolve``: the user's decision about jobs that failed, or that have no outcome."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orbatch.cli.errors import ExitCode, Failure
from orbatch.cli.files import relative_path
from orbatch.cli.options import Batch, Model, Only, Prompt, Yes, parse_usd
from orbatch.cli.session import Session, confirm, find_batch, find_job
from orbatch.cli.streams import outlive_readers
from orbatch.cli.tables import SCREEN, amount, jobs_are, json_usd, pluralize
from orbatch.ledger import (
    PAID_AND_OPEN,
    TRANSITIONS,
    AttemptRecord,
    BatchRecord,
    Counts,
    JobRecord,
    Ledger,
    Selection,
    Status,
    utc_now,
)
from orbatch.money import to_nano

if TYPE_CHECKING:
    from orbatch.runner.lookup import Finding

ACTIVITY_PAGE = "https://openrouter.ai/activity"
_PROMPT_SHOWN = 60  # characters
_LONGEST_ID = 128  # characters of a remote id
# Derived, so that the ledger's table of transitions alone decides what may be tried again.
_RETRYABLE = [status for status in SCREEN["failed"] if Status.PENDING in TRANSITIONS[status]]


def retry(
    context: typer.Context,
    batch: Batch = None,
    status: Annotated[
        str, typer.Option(help=f"Status of the jobs to retry: {', '.join(_RETRYABLE)}; several with commas.")
    ] = "failed",
    prompt: Prompt = None,
    model: Model = None,
    only: Only = None,
) -> None:
    """Set failed jobs back to pending. The next run submits them.

    A lost job was paid for: --status lost buys it again.
    """
    session: Session = context.obj
    outlive_readers()
    wanted = [Status(word.strip()) for word in status.split(",") if word.strip() in _RETRYABLE]
    if len(wanted) != status.count(",") + 1:  # a typo fails before the ledger is opened
        raise Failure(f"--status {status}: only {', '.join(_RETRYABLE)} jobs can be retried.")
    with session.open_ledger() as ledger:
        found = find_batch(ledger, batch)
        counts = ledger.queries.counts(found.id)  # before they change
        which = Selection(only, prompt, model, tuple(wanted))
        reopened = ledger.attempts.reopen(ledger.queries.reopenable(found.id, which), reset_attempts=True)
    if session.json:
        session.data({"batch": found.name, "reopened": reopened})
    elif reopened:
        again = f"`orbatch run {shlex.quote(found.config_path)}{session.flags}`"
        them = "it" if reopened == 1 else "them"
        session.result(f"{pluralize(reopened, 'job')} of {found.name} set to pending. {again} submits {them} again.")
    else:
        patterns = [text for text in (only, prompt, model) if text is not None]
        matching = f" that match {' and '.join(patterns)}" if patterns else ""
        present = ", ".join(f"{jobs} {status}" for status, jobs in counts.by_status.items()) or "none"
        session.result(f"{found.name} has no {' or '.join(wanted)} jobs{matching}. Its jobs: {present}.")


def retry_hint(name: str, counts: Counts, flags: str) -> list[str]:
    """One line about the failed jobs of a batch, with the command for those that can be retried; [] without any."""
    failed = {status: counts[status] for status in SCREEN["failed"] if counts[status]}
    if not failed:
        return []
    statuses = ", ".join(f"{jobs} {status}" for status, jobs in failed.items())
    line = f"{pluralize(sum(failed.values()), 'job')} failed ({statuses})."
    # Lost jobs are paid for, so buying them again is never part of a suggestion for others.
    retryable = [status for status in failed if status in _RETRYABLE and status is not Status.LOST]
    if retryable:
        # `retry` alone takes failed jobs.
        chosen = "" if retryable == [Status.FAILED] else f" --status {','.join(retryable)}"
        line += f" To retry: orbatch retry {name}{chosen}{flags}"
    else:
        line += f" Lost jobs were paid for. To buy them again: orbatch retry {name} --status lost{flags}"
    return [line]


@dataclass(frozen=True, slots=True)
class _Verdict:
    """The outcome of a job. ``cost_nusd`` None: the worst case, which is what is reserved. ``lost``: given up although
    it was accepted."""

    remote_id: str | None
    not_charged: bool
    cost_nusd: int | None
    lost: bool
    accept_file: bool = False

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
    lost: Annotated[
        bool, typer.Option("--lost", help="Give up a submitted or completed job whose output cannot be retrieved.")
    ] = False,
    found: Annotated[
        bool, typer.Option("--found", help="Look for it in the account's records, and take the job that it can be.")
    ] = False,
    accept_file: Annotated[
        bool, typer.Option("--accept-file", help="Take the file of a completed job that does not decode as it is.")
    ] = False,
    all_: Annotated[bool, typer.Option("--all", help="All uncertain jobs of the batch.")] = False,
    yes: Yes = False,
) -> None:
    """Record the outcome of an uncertain job, or of a paid job that cannot be retrieved.

    Uncertain: the response to its submit request was lost, so it may have been charged. Pass exactly one of
    --found, --remote-id, --not-charged, --charged and --charged-at-most. --found reads the account's records, which
    needs OPENROUTER_MANAGEMENT_KEY; `orbatch run` reads them too, and takes the jobs that carry their key
    there. An id is polled before it is recorded, and a mistyped one is replaced by --remote-id with the right one.
    A paid job that the provider never returns is ended by --lost, one whose file never decodes by --accept-file or
    --lost.
    """
    session: Session = context.obj
    outlive_readers()
    outcomes = [found, remote_id is not None, not_charged, charged is not None, charged_at_most, lost, accept_file]
    if outcomes.count(True) != 1:
        raise Failure(
            "Pass one of --found, --remote-id ID, --not-charged, --charged USD, --charged-at-most, --lost or "
            "--accept-file."
        )
    if remote_id is not None:
        remote_id = remote_id.strip()  # copied from a page
        if not 0 < len(remote_id) <= _LONGEST_ID:
            raise Failure(f"--remote-id must have 1 to {_LONGEST_ID} characters. Nothing was changed.")
    cost = 0 if not_charged else None if charged is None else to_nano(charged)
    verdict = _Verdict(remote_id, not_charged, cost, lost, accept_file)
    with session.open_ledger() as ledger:
        if found:
            _resolve_found(session, ledger, job, all_=all_, yes=yes)
        elif not all_:
            _resolve_one(session, ledger, job, verdict)
        elif remote_id is not None or charged is not None or lost or accept_file:
            raise Failure(
                "--all works with --found, --not-charged or --charged-at-most. Pass ids and amounts job by job, and "
                "--lost."
            )
        else:
            _resolve_all(session, ledger, job, verdict, yes=yes)


def _resolve_one(session: Session, ledger: Ledger, prefix: str, verdict: _Verdict) -> None:
    job = find_job(ledger, prefix)
    attempts = ledger.queries.attempts(job.id)  # a settled job may have an earlier attempt whose charge is unknown
    uncertain = [attempt for attempt in attempts if attempt.status == Status.UNCERTAIN]
    if verdict.accept_file:
        _show_result(session, job.id, _accept_file(ledger, job))
        return
    if job.status in PAID_AND_OPEN and job.attempt is not None and (verdict.lost or verdict.remote_id is not None):
        _show_result(session, job.id, _resolve_paid(session, ledger, job, job.attempt, verdict))
        return
    if uncertain and not verdict.lost:
        if verdict.remote_id is not None and _answers_in_response(job):
            raise Failure(
                f"Job {job.id} ({job.kind}) cannot be polled: its output was part of the lost response. "
                "Pass --charged USD or --not-charged."
            )
        if verdict.remote_id is not None:
            _check_remote_id(session, verdict.remote_id)
        _show_result(session, job.id, verdict.apply(ledger, uncertain[0]))
        return
    if uncertain:
        raise Failure(f"Job {job.id} is uncertain. Pass --charged USD or --charged-at-most.")
    unsettled = [
        attempt
        for attempt in attempts
        if not attempt.settled and (attempt.completed_at is not None or attempt.status == Status.LOST)
    ]
    if not unsettled or verdict.remote_id is not None or verdict.lost:
        hint = " If its output cannot be retrieved, pass --lost." if job.status in PAID_AND_OPEN else ""
        raise Failure(f"Job {job.id} is {job.status}. There is nothing to resolve.{hint}")
    cost = verdict.cost(unsettled[0])
    ledger.attempts.settle_manually(unsettled[0], cost)
    _show_result(session, job.id, f"attempt {unsettled[0].number} settled at {amount(cost)} USD.")


def _accept_file(ledger: Ledger, job: JobRecord) -> str:
    """The files that a run has kept because they do not decode are the job's output."""
    from orbatch.runner.download import accept_unplayable  # not above: the other outcomes need no runner

    ledger.leases.check_free(job.batch_id, utc_now())
    batch = next(batch for batch in ledger.plans.batches() if batch.id == job.batch_id)
    files = []
    if job.status is Status.COMPLETED and job.attempt is not None:
        files = accept_unplayable(ledger, Path(batch.output_dir), job, job.attempt)
    if not files:
        raise Failure(f"Job {job.id} is {job.status}, and no file of it is kept that does not decode.")
    return f"done, {', '.join(relative_path(file.path) for file in files)} as it is."


def _resolve_paid(session: Session, ledger: Ledger, job: JobRecord, attempt: AttemptRecord, verdict: _Verdict) -> str:
    """The way out of a job that was accepted and never arrives; returns what it now is."""
    ledger.leases.check_free(job.batch_id, utc_now())
    if verdict.lost:
        ledger.attempts.give_up(attempt)
        if attempt.settled:
            return f"lost, {amount(attempt.cost_nusd)} USD charged."
        known = "an unknown amount" if attempt.reserved_nusd is None else f"at most {amount(attempt.reserved_nusd)} USD"
        return f"lost, {known} charged. `orbatch resolve {job.id} --charged USD{session.flags}` records the charge."
    if verdict.remote_id is not None and job.status is Status.SUBMITTED:
        _check_remote_id(session, verdict.remote_id)
        ledger.attempts.correct_remote_id(attempt, verdict.remote_id)
        return f"submitted as {verdict.remote_id}. The next `orbatch run` polls and downloads it."
    raise Failure(f"Job {job.id} is completed, so its id is right. If its output cannot be retrieved, pass --lost.")


def _check_remote_id(session: Session, remote_id: str) -> None:
    """Poll an id before it is recorded. Raises Failure when the provider does not know it."""
    from orbatch.cli.provider import connect  # not above: the other outcomes need no provider
    from orbatch_provider import APIError, ConfigurationError, OpenRouterError

    async def poll() -> None:
        async with connect(session) as connection:
            await connection.provider.poll(remote_id)

    try:
        asyncio.run(poll())
    except (ConfigurationError, OpenRouterError) as exc:
        # A refusal is about the id; anything else may be over at the next try.
        is_refused = isinstance(exc, ConfigurationError) or (isinstance(exc, APIError) and not exc.temporary)
        code = ExitCode.USAGE if is_refused else ExitCode.FAILED
        raise Failure(f"A poll of {remote_id} failed, so nothing was changed: {exc}", code) from exc


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
        worst = amount(sum(attempt.reserved_nusd or 0 for _, attempt in uncertain))
        if verdict.not_charged:
            outcome = f"as not charged ({worst} USD released), assuming that the provider lists none of them"
        else:
            outcome = f"as lost, charged at the worst case ({worst} USD), assuming that none can be retrieved"
        confirm(f"Record {jobs} {outcome}?", "Nothing was changed.")
    for _, attempt in uncertain:
        verdict.apply(ledger, attempt)
    _show_result(session, name, f"{jobs} resolved.")


def _resolve_found(session: Session, ledger: Ledger, which: str, *, all_: bool, yes: bool) -> None:
    """Take the job that the account's records list for each uncertain one, where it is one."""
    if all_:
        uncertain = ledger.queries.uncertain(find_batch(ledger, which).id)
    else:
        job = find_job(ledger, which)
        which = job.id
        if job.status is not Status.UNCERTAIN:
            raise Failure(f"Job {job.id} is {job.status}. There is nothing to look for.")
        uncertain = [job]
    if not uncertain:  # no error: a script may call this after every run
        _show_result(session, which, "no job is uncertain.")
        return
    findings = _look_up(session, ledger, uncertain)
    found = [finding for finding in findings if finding.remote_id is not None]
    guesses = [finding for finding in found if not finding.is_certain]
    for finding in findings:
        (session.say if yes or not guesses else session.warn)(f"  {finding.job.id}  {finding.text}.")
    if guesses and not yes:
        confirm(
            f"Record {pluralize(len(found), 'job')} as found, assuming that nothing else submitted such videos with "
            "this API key in those minutes?",
            "Nothing was changed.",
        )
    for finding in findings:
        if finding.remote_id is not None:
            ledger.attempts.attach_remote_id(finding.attempt, finding.remote_id)
        elif finding.text != finding.job.error:
            ledger.attempts.add_event(finding.job.id, finding.attempt.id, finding.text)
    left = len(uncertain) - len(found)
    rest = f" {jobs_are(left)} still uncertain." if left else ""
    then = " The next `orbatch run` polls and downloads what was found." if found else ""
    _show_result(session, which, f"{len(found)} of {pluralize(len(uncertain), 'job')} found.{rest}{then}")


def _look_up(session: Session, ledger: Ledger, jobs: Sequence[JobRecord]) -> Sequence[Finding]:
    """Raises Failure when the account's records cannot be read."""
    from orbatch.cli.provider import connect  # not above: the other outcomes need no provider
    from orbatch.runner.context import Clock
    from orbatch.runner.lookup import look_up, refusal_text
    from orbatch_provider import OpenRouterError

    async def ask() -> Sequence[Finding]:
        async with connect(session) as connection:
            return await look_up(ledger, connection.provider, jobs, Clock(connection.speed))

    try:
        return asyncio.run(ask())
    except OpenRouterError as exc:
        code = ExitCode.FAILED if exc.temporary else ExitCode.USAGE
        raise Failure(
            f"The account's records cannot be read, so nothing was changed: {refusal_text(exc)}", code
        ) from exc


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
    which = uncertain[0][0].id if len(uncertain) == 1 else "JOB"
    if "--simulate" in flags or "OPENROUTER_MANAGEMENT_KEY" in os.environ:
        lines.append(f"  To look for {them} in the account's records: orbatch resolve {which} --found{flags}")
    else:
        lines.append(f"  With OPENROUTER_MANAGEMENT_KEY set, `orbatch run` looks for {them} in the account's records.")
    lines.append(f"  Or look for a generation of that model, time and price on {ACTIVITY_PAGE}, and record the result:")
    if not all(_answers_in_response(job) for job, _ in uncertain):  # images and texts have no remote id
        lines.append(
            f"    orbatch resolve {which} --remote-id ID{flags}    listed there with this job id: poll and download it"
        )
    lines += [
        f"    orbatch resolve {which} --not-charged{flags}     not listed there: submit it again",
        f"    orbatch resolve {which} --charged USD{flags}     charged, and the output cannot be retrieved",
    ]
    if len(uncertain) > 1:  # saves typing; the command asks before it changes them
        lines.append(f"    orbatch resolve BATCH --all --not-charged{flags}   none of them is listed there")
    return lines


def _evidence(ledger: Ledger, job: JobRecord, attempt: AttemptRecord, of: int) -> list[str]:
    """Lines about one of ``of`` uncertain jobs: which it is, what is known of its submit, of the key's usage and from a
    lookup."""
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
    looked_up = [f"    {job.error}."] if job.error not in (None, attempt.error) else []
    return [f"  {job.id}  {job.model}  {shown}", line, *looked_up]


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
                "looked_up": job.error if job.error != attempt.error else None,
                "usage_rise_unexplained_usd": None if usage is None else json_usd(usage.unexplained_nusd),
                "usage_read_at": None if usage is None else usage.read_at,
            }
        )
    return found
