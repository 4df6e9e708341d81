"""Ratings, picks, notes and blind votes: what people think of the outputs."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import sqrt

from orbatch.ledger.database import Database, LedgerError, timestamp, utc_now

MARKS = ("pick", "reject")
LONGEST_NOTE = 2000  # characters
_Z = 1.96  # of a 95 % interval

_HOLDING = """
select job_id, who, field, value from reviews where id in (
  select max(reviews.id) from reviews join jobs on jobs.id = job_id
  where batch_id = :batch_id group by job_id, who, field
) and value is not null order by id
"""
_VOTES = """
select winner.model as winner, loser.model as loser, count(*) as votes from votes
join jobs winner on winner.id = winner_job join jobs loser on loser.id = loser_job
where winner.batch_id = :batch_id group by winner.model, loser.model
"""


@dataclass(slots=True)
class Review:
    """The opinions on one output, by person."""

    ratings: dict[str, int] = field(default_factory=dict)
    marks: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def is_picked(self) -> bool:
        """Whether somebody has picked it."""
        return "pick" in self.marks.values()

    @property
    def rating(self) -> float | None:
        """The mean over the people who rated it."""
        return sum(self.ratings.values()) / len(self.ratings) if self.ratings else None


@dataclass(frozen=True, slots=True)
class WinRate:
    """Blind votes of one model: ``wins`` of ``votes``, and the Wilson score interval of its share at 95 %."""

    wins: int
    votes: int

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper bound, from 0 to 1. Wilson (1927): honest for few votes, and never outside 0 to 1."""
        n, share = self.votes, self.wins / self.votes if self.votes else 0.5
        if not n:
            return 0.0, 1.0
        middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
        half = _Z * sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2)) / (1 + _Z**2 / n)
        return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True, slots=True)
class ModelOpinion:
    """What people think of the outputs of one model. ``rating``: the mean, None without any."""

    picks: int
    rating: float | None
    wins: int
    votes: int


class Reviews:
    """The reviewing verbs of a ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, job_id: str, who: str, name: object, value: str | None) -> None:
        """Record a person's opinion; None takes the earlier one back. Raises LedgerError for a value that is none."""
        allowed = {
            "rating": value is None or value in ("1", "2", "3", "4", "5"),
            "mark": value is None or value in MARKS,
            "note": value is None or len(value) <= LONGEST_NOTE,
        }
        if not allowed.get(str(name), False):
            raise LedgerError(f"{name} cannot be {value!r}.")
        with self._database.write() as db:
            db.execute(
                "insert into reviews (job_id, who, field, value, at) select id, :who, :field, :value, :at from jobs "
                "where id = :job_id",
                {"job_id": job_id, "who": who, "field": name, "value": value, "at": timestamp(utc_now())},
            )

    def vote(self, winner_job: str, loser_job: str, who: str) -> None:
        """Record which of two outputs was better."""
        with self._database.write() as db:
            db.execute(
                "insert into votes (winner_job, loser_job, who, at) values (:winner, :loser, :who, :at)",
                {"winner": winner_job, "loser": loser_job, "who": who, "at": timestamp(utc_now())},
            )

    def of_batch(self, batch_id: int) -> dict[str, Review]:
        """By job, for the jobs that somebody has reviewed."""
        found: dict[str, Review] = {}
        for job_id, who, name, value in self._database.rows(_HOLDING, batch_id=batch_id):
            review = found.setdefault(job_id, Review())
            if name == "rating":
                review.ratings[who] = int(value)
            else:
                (review.marks if name == "mark" else review.notes)[who] = value
        return found

    def win_rates(self, batch_id: int) -> dict[str, WinRate]:
        """By model, over the blind votes of a batch."""
        wins: dict[str, int] = {}
        votes: dict[str, int] = {}
        for winner, loser, count in self._database.rows(_VOTES, batch_id=batch_id):
            wins[winner] = wins.get(winner, 0) + count
            votes[winner] = votes.get(winner, 0) + count
            votes[loser] = votes.get(loser, 0) + count
        return {model: WinRate(wins.get(model, 0), count) for model, count in votes.items()}

    def by_model(self, batch_id: int) -> dict[str, ModelOpinion]:
        """Picks, mean rating and blind votes of a batch by model, and of all models as ``total``."""
        reviews, rates = self.of_batch(batch_id), self.win_rates(batch_id)
        rows = self._database.rows("select id, model from jobs where batch_id = :batch_id", batch_id=batch_id)
        of_model: dict[str, list[Review]] = {model: [] for model in rates}
        for job_id, model in rows:
            if job_id in reviews:
                of_model.setdefault(model, []).append(reviews[job_id])
        found = {model: _opinion(each, rates.get(model, WinRate(0, 0))) for model, each in of_model.items()}
        if found:
            found["total"] = _opinion(list(reviews.values()), WinRate(0, 0))
        return found

    def newest(self) -> int:
        """Grows with every review and vote."""
        row = self._database.row(
            "select (select coalesce(max(id), 0) from reviews) + (select coalesce(max(id), 0) from votes) as id"
        )
        return 0 if row is None else int(row["id"])


def _opinion(reviews: list[Review], rate: WinRate) -> ModelOpinion:
    ratings = [review.rating for review in reviews if review.rating is not None]
    mean = sum(ratings) / len(ratings) if ratings else None
    return ModelOpinion(sum(review.is_picked for review in reviews), mean, rate.wins, rate.votes)
