"""What an attempt adds to every sum, said once: the triggers that keep ``spend``, and the reports that group the
attempts themselves, are both made from this."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def one_of(column: str, values: Iterable[str]) -> str:
    """``column in (values)``, for triggers and constraints: there SQLite builds a table for each list of three or more,
    every time, which made an update of one attempt ten times as slow."""
    return "(" + " or ".join(f"{column} = '{value}'" for value in values) + ")"


_BILLED = (
    f"{{0}}.settled = 1 and {{0}}.is_byok = 0 and {one_of('{0}.status', ('completed', 'done', 'lost'))} "
    "and {0}.estimate_high_nusd is not null"
)
_WATCHED = "{0}.status = 'done' and {0}.settled = 1 and {0}.is_byok = 0 and {0}.output_seconds is not null"

# By the name of the sum: an integer expression over the attempt ``{0}``.
MEASURES: Mapping[str, str] = {
    "first_attempts": "{0}.number = 1",
    "attempts": "{0}.status not in ('released', 'rejected')",
    "done": "{0}.status = 'done'",
    "reserved_nusd": "case when {0}.settled = 0 then coalesce({0}.reserved_nusd, 0) else 0 end",
    "charged_nusd": "case when {0}.settled = 1 and {0}.is_byok = 0 then {0}.cost_nusd else 0 end",
    # A charge to the user's own provider account (BYOK) is only a fee: the rest is billed elsewhere. So it is kept
    # apart, and against a cap the attempt goes on counting at its worst case.
    "byok_attempts": "{0}.is_byok",
    "byok_fee_nusd": "case when {0}.settled = 1 and {0}.is_byok = 1 then {0}.cost_nusd else 0 end",
    "byok_held_nusd": "case when {0}.settled = 1 and {0}.is_byok = 1 "
    "then max({0}.cost_nusd, coalesce({0}.reserved_nusd, 0)) else 0 end",
    "unpriced_open": "{0}.settled = 0 and {0}.reserved_nusd is null",
    "failed_charged_nusd": "case when {0}.settled = 1 and {0}.is_byok = 0 "
    f"and {one_of('{0}.status', ('failed', 'cancelled', 'expired', 'lost'))} then {{0}}.cost_nusd else 0 end",
    "uncertain": "{0}.status = 'uncertain'",
    "uncertain_nusd": "case when {0}.status = 'uncertain' then coalesce({0}.reserved_nusd, 0) else 0 end",
    # Milliseconds, because sums of whole numbers do not drift.
    "output_ms": "case when {0}.status = 'done' then cast(round(coalesce({0}.output_seconds, 0) * 1000) as integer) "
    "else 0 end",
    "billed_ms": f"case when {_WATCHED} then cast(round({{0}}.output_seconds * 1000) as integer) else 0 end",
    "billed_ms_nusd": f"case when {_WATCHED} then {{0}}.cost_nusd else 0 end",
    "bills": _BILLED,
    "estimated_nusd": f"case when {_BILLED} then coalesce({{0}}.estimate_exact_nusd, {{0}}.estimate_high_nusd) "
    "else 0 end",
    "billed_nusd": f"case when {_BILLED} then {{0}}.cost_nusd else 0 end",
}

# What counts against a cap.
COMMITTED = "reserved_nusd + charged_nusd + byok_held_nusd"
COMMITTED_BY_ATTEMPT = " + ".join(f"({MEASURES[name]})" for name in COMMITTED.split(" + "))

# Sums over rows of ``spend``, and over attempts themselves as ``a``.
OVER_SPEND = ", ".join(f"coalesce(sum({name}), 0) as {name}" for name in MEASURES)
OVER_ATTEMPTS = ", ".join(f"coalesce(sum({measure.format('a')}), 0) as {name}" for name, measure in MEASURES.items())
