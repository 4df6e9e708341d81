"""Uncertain attempts, looked up in the account's records: which generation each of them is, if any.

The rules follow from what the API promises: a submit carries the key of its attempt in ``user``, the id of a video's
generation is the id of its job, and a generation is listed only some time after its end.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from orbatch.ledger import AttemptRecord, JobRecord, Ledger, parse_timestamp, utc_now
from orbatch.money import format_usd, to_nano
from orbatch.plan import KINDS
from orbatch.runner.context import Clock, Provider
from orbatch_provider import (
    AuthenticationError,
    GenerationRow,
    GenerationRows,
    NotFoundError,
    OpenRouterError,
    PermissionDeniedError,
)
from orbatch_provider.errors import InvalidResponseError

LOOKUP_AFTER_S = 600.0  # beyond the usual duration of a job: the records lag by minutes
UNKNOWN_DURATION_S = 600.0  # in place of the usual duration, while no job of a model has ended
NEVER_LISTED_S = 24 * 3600.0  # from here on a generation that is not listed was probably never started
_CLOCKS_APART = timedelta(minutes=1)
_SUBMIT_TAKES = timedelta(minutes=10)  # at most: a submit is given up then
_OLDEST = timedelta(days=30)  # one query spans 31 days
_USERS_AT_ONCE = 100  # keys of attempts in one query
_MOST_CANDIDATES = 20  # beyond it, none is looked at
_VIDEO_ID = re.compile(r"gen-vid-(\d{9,11})-[A-Za-z0-9]+")  # with the second of its submit


@dataclass(frozen=True, slots=True)
class Finding:
    """What the account's records say about an uncertain attempt.

    ``remote_id``: the one job that it can be, which the provider has; None for none or several. ``is_certain``: that
    job carries the attempt's key; without it, another program with the same API key may have started it. ``text``: all
    that was found, for people.
    """

    job: JobRecord
    attempt: AttemptRecord
    text: str
    remote_id: str | None = None
    is_certain: bool = False


def is_due(job: JobRecord, usual_s: float | None, clock: Clock) -> bool:
    """Whether a generation of this uncertain job would be listed by now. ``usual_s``: how long its model takes, in the
    provider's seconds, where that is known."""
    assert job.attempt is not None  # an uncertain job has one
    wait_s = (UNKNOWN_DURATION_S if usual_s is None else usual_s) + LOOKUP_AFTER_S
    return utc_now() - _submitted_at(job.attempt) >= timedelta(seconds=clock.real(wait_s))


def refusal_text(error: OpenRouterError) -> str:
    """Why the records cannot be read, without the advice of other calls, which is about the key of the jobs."""
    if isinstance(error, (AuthenticationError, PermissionDeniedError)):
        return f"OPENROUTER_MANAGEMENT_KEY was not accepted as a management key: {error.detail or error}"
    return str(error)


async def look_up(ledger: Ledger, provider: Provider, jobs: Sequence[JobRecord], clock: Clock) -> list[Finding]:
    """A finding for each uncertain job of this API key, except where the provider does not answer about it.

    Raises OpenRouterError when the records cannot be read; ConfigurationError, one of them, without a management key.
    """
    oldest = utc_now() - _OLDEST
    asked = [
        (job, job.attempt)
        for job in jobs
        if job.attempt and job.attempt.account == provider.account and _submitted_at(job.attempt) > oldest
    ]
    if not asked:
        return []
    start = min(_submitted_at(attempt) for _, attempt in asked) - _CLOCKS_APART
    by_key = await _rows_by_key(provider, [attempt.key for _, attempt in asked], start)
    everything: GenerationRows | None = None  # of the account; read once, and only if needed
    findings = []
    for job, attempt in asked:
        own = [row for row in by_key.rows if row.user == attempt.key]
        try:
            if len(own) == 1:
                finding = await _identified(provider, job, attempt, own[0].id, own[0].cost)
            elif own:
                finding = Finding(job, attempt, f"{len(own)} generations of the account carry its key: {_listed(own)}")
            elif KINDS[job.kind].is_synchronous:
                finding = _not_listed(job, attempt, by_key, clock)
            else:
                everything = everything or await provider.generations_between(start, utc_now())
                finding = await _by_time(ledger, provider, job, attempt, everything, clock)
        except OpenRouterError:
            continue  # the next time
        findings.append(finding)
    shared = Counter(finding.remote_id for finding in findings)
    return [
        finding if shared[finding.remote_id] == 1 else replace(finding, remote_id=None, is_certain=False)
        for finding in findings
    ]


async def _rows_by_key(provider: Provider, keys: Sequence[str], start: datetime) -> GenerationRows:
    """The generations whose request carried one of these attempt keys."""
    rows: list[GenerationRow] = []
    cached_at = None
    for first in range(0, len(keys), _USERS_AT_ONCE):
        part = await provider.generations_between(start, utc_now(), keys[first : first + _USERS_AT_ONCE])
        if not part.is_complete:  # what is missing may be a second generation with the same key
            raise InvalidResponseError("The account's list of generations is incomplete")
        rows += part.rows
        cached_at = part.cached_at or cached_at
    return GenerationRows(tuple(rows), True, cached_at)


async def _identified(
    provider: Provider, job: JobRecord, attempt: AttemptRecord, generation_id: str, cost: Decimal | None
) -> Finding:
    """The generation that carries the attempt's key. Raises OpenRouterError where a poll of it has no clear answer."""
    charged = "an unknown amount" if cost is None else f"{format_usd(to_nano(cost))} USD"
    text = f"the account lists {generation_id} with its key, charged {charged}"
    if KINDS[job.kind].is_synchronous:
        return Finding(job, attempt, f"{text}; what it made was in the lost response")
    if not await _is_there(provider, generation_id):
        return Finding(job, attempt, f"{text}; the provider does not have the job any more")
    return Finding(job, attempt, text, generation_id, is_certain=True)


async def _is_there(provider: Provider, job_id: str) -> bool:
    try:
        await provider.poll(job_id)
    except NotFoundError:
        return False
    return True


async def _by_time(
    ledger: Ledger, provider: Provider, job: JobRecord, attempt: AttemptRecord, listed: GenerationRows, clock: Clock
) -> Finding:
    """The videos that were submitted when the attempt was, with its model, and that no job here accounts for."""
    at = _submitted_at(attempt)
    near = [row for row in listed.rows if _is_submitted_between(row.id, at - _CLOCKS_APART, at + _SUBMIT_TAKES)]
    users = {"", str(job.request.get("user") or "")}  # any other user is another attempt's key, or another program's
    known = ledger.queries.known_remote_ids([row.id for row in near])
    near = [row for row in near if row.id not in known and row.user in users]
    if len(near) > _MOST_CANDIDATES or not listed.is_complete:
        return Finding(job, attempt, "the account lists too many generations of those minutes to tell which it is")
    candidates = []
    for row in near:
        try:
            generation = await provider.generation(row.id)
        except NotFoundError:  # not this key's
            continue
        if generation.user == attempt.key:
            return await _identified(provider, job, attempt, row.id, generation.total_cost)
        if generation.model == job.model:
            candidates.append(row)
    if not candidates:
        return _not_listed(job, attempt, listed, clock)
    if len(candidates) > 1:
        return Finding(job, attempt, f"it may be one of {_listed(candidates)}")
    (only,) = candidates
    text = f"it may be {only.id}, the one video of {job.model} from those minutes that is no other job of this ledger"
    if not await _is_there(provider, only.id):
        return Finding(job, attempt, f"{text}; the provider does not have it any more")
    return Finding(job, attempt, text, only.id)


def _not_listed(job: JobRecord, attempt: AttemptRecord, listed: GenerationRows, clock: Clock) -> Finding:
    as_of = listed.cached_at or utc_now()
    if not listed.is_complete or as_of - _submitted_at(attempt) < timedelta(seconds=clock.real(NEVER_LISTED_S)):
        return Finding(job, attempt, "the account lists no generation for it yet")
    text = "the account lists no generation for it 24 hours after its submit, so it was probably never started"
    return Finding(job, attempt, text)


def _is_submitted_between(generation_id: str, start: datetime, end: datetime) -> bool:
    match = _VIDEO_ID.fullmatch(generation_id)
    return match is not None and start <= datetime.fromtimestamp(int(match[1]), UTC) <= end


def _submitted_at(attempt: AttemptRecord) -> datetime:
    return parse_timestamp(attempt.created_at)


def _listed(found: Sequence[GenerationRow]) -> str:
    return ", ".join(each.id for each in found)
