"""What every fault does to every call. Read a row as: "when this comes back, that becomes of the job".

The words are explained in OUTCOMES, by call. A fault without a row, or a row without a word for each call, fails.
"""

from __future__ import annotations

from dataclasses import dataclass

from orbatch.lifecycle import Status
from tests.faults.workshop import CALLS

TABLE = """
fault         submit         poll       content    models    key     generation
302           uncertain      ridden     wrong      fallback  silent  open
400           rejected       tolerated  wrong      fallback  silent  open
401           stops-run      stops-run  stops-run  fallback  silent  raises
402           stops-submits  tolerated  wrong      fallback  silent  open
403           rejected       tolerated  wrong      fallback  silent  open
403-budget    stops-submits  tolerated  wrong      fallback  silent  open
404           rejected       tolerated  not-ready  fallback  silent  open
408           uncertain      ridden     ridden     fallback  silent  open
409           rejected       tolerated  not-ready  fallback  silent  open
410           rejected       tolerated  lost       fallback  silent  open
413           rejected       tolerated  wrong      fallback  silent  open
418           rejected       tolerated  wrong      fallback  silent  open
422           rejected       tolerated  wrong      fallback  silent  open
429           again          ridden     ridden     fallback  silent  open
499           uncertain      ridden     ridden     fallback  silent  open
500           uncertain      ridden     ridden     fallback  silent  open
502           uncertain      ridden     ridden     fallback  silent  open
503           again          ridden     ridden     fallback  silent  open
504           uncertain      ridden     ridden     fallback  silent  open
520           uncertain      ridden     ridden     fallback  silent  open
524           uncertain      ridden     ridden     fallback  silent  open
529           uncertain      ridden     ridden     fallback  silent  open
refused       again          ridden     ridden     fallback  silent  open
dns           again          ridden     ridden     fallback  silent  open
tls           again          ridden     ridden     fallback  silent  open
cut-before    uncertain      ridden     ridden     fallback  silent  open
cut-during    uncertain      ridden     ridden     fallback  silent  open
cut-after     uncertain      ridden     ridden     fallback  silent  open
cut-answer    uncertain      ridden     wrong      fallback  silent  open
too-late      uncertain      ridden     ridden     fallback  silent  open
html          uncertain      tolerated  wrong      fallback  silent  open
empty         uncertain      tolerated  wrong      fallback  silent  open
truncated     uncertain      tolerated  wrong      fallback  silent  open
wrong-types   uncertain      tolerated  wrong      fallback  silent  open
unknown-word  accepted       shown      wrong      live      silent  open
no-id         uncertain      tolerated  wrong      fallback  silent  open
200-error     uncertain      ridden     ridden     fallback  silent  open
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
OUTCOMES: dict[str, dict[str, Outcome]] = {
    "submit": {
        "accepted": Outcome(S.SUBMITTED, S.SUBMITTED, "accepted as"),
        "again": Outcome(S.SUBMITTED, S.PENDING, "Trying again in", resend=True),
        "rejected": Outcome(S.REJECTED, S.REJECTED, "rejected, not charged"),
        "stops-run": Outcome(S.PENDING, S.PENDING, "OPENROUTER_API_KEY", resend=True),
        "stops-submits": Outcome(S.PENDING, S.PENDING, "budget", resend=True),
        "uncertain": Outcome(S.UNCERTAIN, S.UNCERTAIN, "may have been charged"),
    },
    "poll": {
        # An outage: asked again with backoff, left for the next run after hours of it.
        "ridden": Outcome(S.COMPLETED, S.SUBMITTED, "is asked for again"),
        # An answer that is no use: asked again until the batch's timeout, then left for the next run.
        "tolerated": Outcome(S.COMPLETED, S.SUBMITTED, "is asked for again"),
        "shown": Outcome(S.COMPLETED, S.SUBMITTED, "dreaming"),
        "stops-run": Outcome(S.SUBMITTED, S.SUBMITTED, "OPENROUTER_API_KEY"),
    },
    "content": {
        "ridden": Outcome(S.DONE, S.COMPLETED, "Trying again in"),
        # Downloaded again a few times, then left for the next run; nothing of it is on disk.
        "wrong": Outcome(S.DONE, S.COMPLETED, "Trying again in"),
        "not-ready": Outcome(S.DONE, S.COMPLETED, "Trying again in"),
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
    # The charge stays unknown and counted at its worst case.
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
