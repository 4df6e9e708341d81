"""Jobs that wait: why a pending one is not sent, and how an ended one becomes pending again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from orbatch import budget
from orbatch.budget import Caps, Refused
from orbatch.ledger import moves
from orbatch.ledger.connection import timestamp, utc_now
from orbatch.ledger.queries import ONLY
from orbatch.ledger.schema import OPEN
from orbatch.ledger.settlement import committed
from orbatch.ledger.sums import COMMITTED_BY_ATTEMPT
from orbatch.ledger.transactions import Transactions
from orbatch.lifecycle import ENDED_REMOTELY, Status

_REOPENABLE = ENDED_REMOTELY | {Status.REJECTED}


_PENDING = f"""
select id, model, estimate_high_nusd as high, hold, coalesce(
  (select sum({COMMITTED_BY_ATTEMPT.format("attempts")}) from attempts where job_id = jobs.id), 0) as used
from jobs where batch_id = ? and status = 'pending' and retired = 0 and {ONLY}
"""


class Waiting(Transactions):
    """The verbs around ``pending``."""

    def note(self, job_id: str, attempt_id: int | None, text: str) -> None:
        """Add a line to the history of a job that stays where it is, and show it beside the job."""
        with self.writing() as db:
            moves.remark(db, job_id, attempt_id, timestamp(utc_now()), text)
            db.execute("update jobs set error = ? where id = ?", (text, job_id))

    def hold_pending(self, batch_id: int, model: str | None, reason: str) -> None:
        """Say beside all pending jobs of a batch, or of one model, why they are not sent, where no reason is said."""
        with self.writing() as db:
            db.execute(
                "update jobs set hold = ? where batch_id = ? and status = 'pending' and retired = 0 "
                "and hold is null and (? is null or model = ?)",
                (reason, batch_id, model, model),
            )

    def hold_over_budget(self, batch_id: int, caps: Caps, only: str | None = None) -> int:
        """Say beside every pending job that no cap has room for what is missing. Returns how many there are."""
        day = timestamp(utc_now())[:10]
        with self.writing() as db:
            scopes = {
                row["model"]: committed(db, batch_id, row["model"], day, "")
                for row in db.execute("select distinct model from spend where batch_id = ?", (batch_id,)).fetchall()
            }
            nothing_sent = committed(db, batch_id, "", day, "")
            # Few kinds of jobs differ in what is decided of them; 100,000 alike are decided once.
            reasons: dict[tuple[str, int | None, int], str | None] = {}
            held = 0
            news = []
            for job_id, model, high, hold, used in db.execute(_PENDING, (batch_id, *[only] * 4)):
                kind = (model, high, used)
                if kind not in reasons:
                    scope = replace(scopes.get(model, nothing_sent), job=used)
                    decision = budget.decide(model, high, caps, scope)
                    reasons[kind] = decision.reason if isinstance(decision, Refused) else None
                reason = reasons[kind]
                held += reason is not None
                if reason is not None and reason != hold:
                    news.append((reason, job_id))
            db.executemany("update jobs set hold = ? where id = ?", news)
        return held

    def reopen(self, job_ids: Iterable[str], *, forgive: bool) -> int:
        """rejected, failed, cancelled or expired -> pending: a new attempt, by policy or by ``retry``.

        ``forgive``: attempts so far no longer count against ``retries.attempts``. A job in another state is left
        alone, and so is one of which an attempt is still open. Returns how many were reopened.
        """
        at = timestamp(utc_now())
        reopened = 0
        with self.writing() as db:
            for job_id in job_ids:
                old = moves.status_of(db, job_id)
                open_one = db.execute(f"select 1 from attempts where job_id = ? and {OPEN}", (job_id,)).fetchone()
                if old not in _REOPENABLE or open_one is not None:
                    continue
                moves.move(db, job_id, None, old, Status.PENDING, at, detail="to be sent again")
                if forgive:
                    db.execute(
                        "update jobs set attempts_forgiven = (select count(*) from attempts where job_id = jobs.id) "
                        "where id = ?",
                        (job_id,),
                    )
                reopened += 1
        return reopened
