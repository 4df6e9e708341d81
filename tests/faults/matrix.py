"""What every fault does to every call. Read a row as: "when this comes back, that becomes of the job".

The words are explained in OUTCOMES, by call. ``submit``, ``images`` and ``text`` cost money; a "no-id" of the latter
two is an answer without picture or text that says what it cost. A fault without a row, or a row without a word for each
call, fails.
"""

from __future__ import annotations

from dataclasses import dataclass

from orbatch.ledger.status import Status
from tests.faults.workshop import CALLS

TABLE = """
fault          submit         images         text           poll       content    models    key     generation
302            uncertain      uncertain      uncertain      ridden     wrong      fallback  silent  open
400            rejected       rejected       rejected       tolerated  wrong      fallback  silent  open
401            stops-run      stops-run      stops-run      stops-run  stops-run  fallback  silent  raises
402            stops-submits  stops-submits  stops-submits  tolerated  wrong      fallback  silent  open
403            rejected       rejected       rejected       tolerated  wrong      fallback  silent  open
403-budget     stops-submits  stops-submits  stops-submits  tolerated  wrong      fallback  silent  open
404            rejected       rejected       rejected       tolerated  not-ready  fallback  silent  open
408            uncertain      uncertain      uncertain      ridden     ridden     fallback  silent  open
409            rejected       rejected       rejected       tolerated  not-ready  fallback  silent  open
410            rejected       rejected       rejected       tolerated  lost       fallback  silent  open
413            rejected       rejected       rejected       tolerated  wrong      fallback  silent  open
418            rejected       rejected       rejected       tolerated  wrong      fallback  silent  open
422            rejected       rejected       rejected       tolerated  wrong      fallback  silent  open
429            again          again          again          ridden     ridden     fallback  silent  open
499            uncertain      uncertain      uncertain      ridden     ridden     fallback  silent  open
500            uncertain      uncertain      uncertain      ridden     ridden     fallback  silent  open
502            uncertain      again          uncertain      ridden     ridden     fallback  silent  open
503            again          again          again          ridden     ridden     fallback  silent  open
504            uncertain      uncertain      uncertain      ridden     ridden     fallback  silent  open
520            uncertain      uncertain      uncertain      ridden     ridden     fallback  silent  open
524            uncertain      uncertain      uncertain      ridden     ridden     fallback  silent  open
529            uncertain      again          again          ridden     ridden     fallback  silent  open
500-retryable  uncertain      uncertain      again          ridden     ridden     fallback  silent  open
503-final      again          again          rejected       ridden     ridden     fallback  silent  open
refused        again          again          again          ridden     ridden     fallback  silent  open
dns            again          again          again          ridden     ridden     fallback  silent  open
tls            again          again          again          ridden     ridden     fallback  silent  open
cut-before     uncertain      uncertain      uncertain      ridden     ridden     fallback  silent  open
cut-during     uncertain      uncertain      uncertain      ridden     ridden     fallback  silent  open
cut-after      uncertain      uncertain      uncertain      ridden     ridden     fallback  silent  open
cut-answer     uncertain      uncertain      uncertain      ridden     wrong      fallback  silent  open
too-late       uncertain      uncertain      uncertain      ridden     ridden     fallback  silent  open
html           uncertain      uncertain      uncertain      tolerated  wrong      fallback  silent  open
empty          uncertain      uncertain      uncertain      tolerated  wrong      fallback  silent  open
truncated      uncertain      uncertain      uncertain      tolerated  wrong      fallback  silent  open
wrong-types    uncertain      uncertain      uncertain      tolerated  wrong      fallback  silent  open
unknown-word   accepted       done           done           shown      wrong      live      silent  open
no-id          uncertain      failed         failed         tolerated  wrong      fallback  silent  open
200-error      uncertain      uncertain      uncertain      ridden     ridden     fallback  silent  open
200-retryable  uncertain      uncertain      again          ridden     ridden     fallback  silent  open
"""


@dataclass(frozen=True)
class Outcome:
    """``once``: the job's status when the call goes well the second time; ``always``: when it never does.

    ``resend``: whether the paid request may be sent again. ``says``: part of what the user reads; "" is silence.
    """

    once: Status
    always: Status
    says: str
    resend: bool = False


S = Status
NOT_ACCEPTED = {
    "rejected": Outcome(S.REJECTED, S.REJECTED, "rejected, not charged"),
    "stops-run": Outcome(S.PENDING, S.PENDING, "OPENROUTER_API_KEY", resend=True),
    "stops-submits": Outcome(S.PENDING, S.PENDING, "budget", resend=True),
    "uncertain": Outcome(S.UNCERTAIN, S.UNCERTAIN, "may have been charged"),
}
# The paid result is in the answer itself, and so is its cost, also when there is no result.
AT_ONCE = NOT_ACCEPTED | {"again": Outcome(S.DONE, S.PENDING, "Retrying in", resend=True)}

OUTCOMES: dict[str, dict[str, Outcome]] = {
    "submit": NOT_ACCEPTED
    | {
        "accepted": Outcome(S.SUBMITTED, S.SUBMITTED, "accepted as"),
        "again": Outcome(S.SUBMITTED, S.PENDING, "Retrying in", resend=True),
    },
    "images": AT_ONCE
    | {
        "done": Outcome(S.DONE, S.DONE, "0.04 USD · "),
        "failed": Outcome(S.FAILED, S.FAILED, "charged 0.04 USD"),
    },
    "text": AT_ONCE
    | {
        "done": Outcome(S.DONE, S.DONE, "0.00005 USD · "),
        "failed": Outcome(S.FAILED, S.FAILED, "charged 0.00005 USD"),
    },
    "poll": {
        # An outage: asked again with backoff, left for the next run after hours of it.
        "ridden": Outcome(S.COMPLETED, S.SUBMITTED, "poll failed, retrying"),
        # An answer that is no use: asked again until the batch's timeout, then left for the next run.
        "tolerated": Outcome(S.COMPLETED, S.SUBMITTED, "poll failed, retrying"),
        "shown": Outcome(S.COMPLETED, S.SUBMITTED, "dreaming"),
        "stops-run": Outcome(S.SUBMITTED, S.SUBMITTED, "OPENROUTER_API_KEY"),
    },
    "content": {
        "ridden": Outcome(S.DONE, S.COMPLETED, "Retrying in"),
        # Downloaded again a few times, then left for the next run; nothing of it is on disk.
        "wrong": Outcome(S.DONE, S.COMPLETED, "Retrying in"),
        "not-ready": Outcome(S.DONE, S.COMPLETED, "Retrying in"),
        "lost": Outcome(S.LOST, S.LOST, "lost: it was paid for"),
        "stops-run": Outcome(S.COMPLETED, S.COMPLETED, "OPENROUTER_API_KEY"),
    },
    # No job is concerned: the plan is priced with what is at hand, and says so.
    "models": {
        "fallback": Outcome(S.PENDING, S.PENDING, "Prices from the packaged snapshot", resend=True),
        "live": Outcome(S.PENDING, S.PENDING, "Prices read live", resend=True),
    },
    # Evidence about an uncertain job is missing, and nothing else.
    "key": {"silent": Outcome(S.UNCERTAIN, S.UNCERTAIN, "")},
    # The charge stays unknown and pluralize at its worst case.
    "generation": {
        "open": Outcome(S.COMPLETED, S.COMPLETED, ""),
        "raises": Outcome(S.COMPLETED, S.COMPLETED, "OPENROUTER_API_KEY"),
    },
}


def cells() -> dict[tuple[str, str], str]:
    """(fault, call) -> word."""
    header, *rows = [line.split() for line in TABLE.strip().splitlines()]
    assert tuple(header[1:]) == CALLS
    return {(row[0], call): word for row in rows for call, word in zip(header[1:], row[1:], strict=True)}


CELLS = cells()
