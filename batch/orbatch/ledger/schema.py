"""The tables of the ledger, as SQL. docs/ledger.md explains every column to its readers."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping

from orbatch.ledger.status import Status

APPLICATION_ID = 0x6F726274  # "orbt": tells a ledger from any other SQLite file
MIGRATION_SET = "orbatch"

RELEASED = "released"  # status of an attempt that certainly started nothing, so that its job is pending again

# The condition of a partial index; SQLite uses the index only for a query that repeats it word for word.
OPEN = "status in ('submitting', 'submitted', 'completed', 'uncertain')"

# What an attempt counts for under a cap. A charge to the user's own provider account (BYOK) is only OpenRouter's fee:
# the provider bills the rest elsewhere, so such an attempt keeps counting at its worst case.
COUNTED = """case when settled = 0 then coalesce(reserved_nusd, 0)
    when is_byok = 0 or cost_nusd > coalesce(reserved_nusd, 0) then cost_nusd else coalesce(reserved_nusd, 0) end"""

# The attempt that a job's state comes from: the newest one that was started, or else the newest.
LATEST_ATTEMPT = """(select a.id from attempts a where a.job_id = jobs.id
    order by case when a.status in ('released', 'rejected') then 1 else 0 end, a.number desc limit 1)"""


def only_condition(only: str | None) -> str:
    """The condition of ``--only``, behind others on ``jobs``: ``:only`` is a pattern for prompt id, model or job id."""
    if only is None:
        return ""
    # The function, not the operator `glob`, because another database can be given a function.
    return " and (glob(:only, jobs.prompt_id) or glob(:only, jobs.model) or glob(:only, jobs.id)) "


def _one_of(values: Iterable[str]) -> str:
    # Not `in (...)`: in a constraint SQLite builds a table for such a list at every write, ten times as slow.
    return " or ".join(f"status = '{value}'" for value in values)


_TABLES = f"""
create table catalogs (
  id integer primary key,
  digest text not null unique,
  source text not null,
  read_at text not null,
  models text not null
) strict

create table batches (
  id integer primary key,
  name text not null unique,
  config_path text not null,
  config_sha256 text not null,
  output_dir text not null,
  origin text not null,
  catalog_id integer references catalogs(id),
  created_at text not null,
  planned_at text not null,
  lease_owner text,
  lease_host text,
  lease_pid integer,
  lease_until text
) strict

create table jobs (
  id text primary key,
  batch_id integer not null references batches(id),
  key text not null,
  position integer not null,
  kind text not null,
  model text not null,
  prompt_id text not null,
  prompt text not null,
  variables text not null,
  request text not null,
  repeat integer not null,
  stem text not null,
  status text not null check ({_one_of(Status)}),
  wait_reason text,
  retired integer not null default 0 check (retired in (0, 1)),
  estimate_low_nusd integer,
  estimate_exact_nusd integer,
  estimate_high_nusd integer,
  price_lines text not null,
  price_why text not null,
  attempts_forgiven integer not null default 0,
  error text,
  created_at text not null,
  done_at text,
  unique (batch_id, key)
) strict

create table attempts (
  id integer primary key,
  job_id text not null references jobs(id),
  batch_id integer not null references batches(id),
  model text not null,
  number integer not null,
  status text not null check ({_one_of([RELEASED, *(s for s in Status if s is not Status.PENDING)])}),
  origin text not null,
  account text not null,
  day text not null,
  price_lines text not null,
  estimate_low_nusd integer,
  estimate_exact_nusd integer,
  estimate_high_nusd integer,
  reserved_nusd integer check (reserved_nusd >= 0),
  settled integer not null default 0 check (settled in (0, 1)),
  cost_nusd integer check (cost_nusd >= 0),
  is_byok integer not null default 0 check (is_byok in (0, 1)),
  remote_id text,
  generation_id text,
  output_seconds real,
  error text,
  created_at text not null,
  submitted_at text,
  completed_at text,
  settled_at text,
  unique (job_id, number),
  check (settled = case when cost_nusd is null then 0 else 1 end)
) strict

create table outputs (
  id integer primary key,
  job_id text not null references jobs(id),
  attempt_id integer not null references attempts(id),
  number integer not null,
  path text not null,
  bytes integer not null,
  sha256 text not null,
  mime_type text not null,
  seconds real,
  width integer,
  height integer,
  fps real,
  video_codec text,
  audio_codec text,
  warning text,
  created_at text not null,
  unique (attempt_id, number)
) strict

create table events (
  id integer primary key,
  job_id text not null references jobs(id),
  attempt_id integer references attempts(id),
  at text not null,
  from_status text,
  to_status text not null,
  detail text
) strict

create table usage_readings (
  id integer primary key,
  account text not null,
  read_at text not null,
  usage_nusd integer not null
) strict
"""
_TABLE_NAMES = ("catalogs", "batches", "jobs", "attempts", "outputs", "events", "usage_readings")

# The one sum that is kept: a cap is checked before every submit, and summing all attempts each time would make a large
# batch quadratic. The verb that changes an attempt writes it in the same transaction.
_COMMITTED = """
create table committed (
  batch_id integer not null references batches(id),
  model text not null,
  day text not null,
  committed_nusd integer not null,
  primary key (batch_id, model, day)
) strict
"""

# Made after the rows of an older ledger were copied, which is several times as fast.
_INDEXES = f"""
create index jobs_by_status on jobs (batch_id, status, retired, model, position, estimate_high_nusd)

create index jobs_by_position on jobs (batch_id, position)

create index jobs_waiting on jobs (batch_id, wait_reason) where wait_reason is not null

create unique index attempts_by_remote_id on attempts (remote_id, origin) where remote_id is not null

create unique index attempts_open on attempts (batch_id, job_id) where {OPEN}

create index attempts_unsettled on attempts (batch_id) where settled = 0

create index attempts_byok on attempts (batch_id) where is_byok = 1

create index attempts_by_time on attempts (created_at)

create index attempts_by_settlement on attempts (account, settled_at) where settled = 1

create index outputs_by_job on outputs (job_id)

create index events_by_job on events (job_id)

create index usage_by_account on usage_readings (account, read_at)

create index committed_by_day on committed (day)
"""

# They bind everybody who opens the file, not only orbatch.
_TRIGGERS = """
create trigger attempts_keep_their_place before update of job_id, batch_id, model, number, day, price_lines on attempts
when (new.job_id, new.batch_id, new.model, new.number, new.day, new.price_lines)
  is not (old.job_id, old.batch_id, old.model, old.number, old.day, old.price_lines) begin
  select raise(abort, 'what an attempt belongs to does not change');
end

create trigger attempts_stay before delete on attempts begin
  select raise(abort, 'attempts are kept: they may have been paid for');
end

create trigger events_are_history before update on events begin
  select raise(abort, 'events are append-only');
end

create trigger events_stay before delete on events begin
  select raise(abort, 'events are append-only');
end
"""

_JOB_REPORT = f"""
create view job_report as
select
  jobs.id as job_id,
  batches.name as batch,
  jobs.prompt_id,
  jobs.prompt,
  jobs.model,
  jobs.kind,
  jobs.status,
  latest.remote_id,
  (select count(*) from attempts a
    where a.job_id = jobs.id and a.status not in ('released', 'rejected')) as attempts,
  jobs.estimate_low_nusd / 1e9 as estimate_low_usd,
  jobs.estimate_high_nusd / 1e9 as estimate_high_usd,
  (select sum(a.cost_nusd) from attempts a where a.job_id = jobs.id) / 1e9 as cost_usd,
  first_output.path as output_path,
  first_output.bytes,
  first_output.sha256,
  coalesce(jobs.error, jobs.wait_reason) as error,
  jobs.created_at,
  latest.submitted_at,
  latest.completed_at,
  jobs.done_at,
  jobs.estimate_low_nusd,
  jobs.estimate_high_nusd,
  (select sum(a.cost_nusd) from attempts a where a.job_id = jobs.id) as cost_nusd,
  (select sum(a.reserved_nusd) from attempts a where a.job_id = jobs.id and a.settled = 0) as reserved_nusd,
  jobs.retired,
  jobs.batch_id,
  jobs.position
from jobs
join batches on batches.id = jobs.batch_id
left join attempts latest on latest.id =
  {LATEST_ATTEMPT}
left join outputs first_output on first_output.id =
  (select o.id from outputs o where o.job_id = jobs.id order by o.attempt_id desc, o.number limit 1)
"""

# A ledger of 0.1.0 may have several open attempts of one job, since it could submit an uncertain job once more. Only
# the newest moves its job now; what an earlier one may have cost stays reserved until `orbatch resolve` settles it.
_SUPERSEDED = f"""from attempts where {OPEN} and exists (select 1 from attempts later
  where later.job_id = attempts.job_id and later.number > attempts.number
  and later.status not in ('released', 'rejected'))"""
_CLOSE_SUPERSEDED = f"""
insert into events (job_id, attempt_id, at, from_status, to_status, detail)
select job_id, id, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), (select status from jobs where jobs.id = job_id),
  (select status from jobs where jobs.id = job_id),
  'attempt ' || number || ' was ' || status || ' when a later attempt took its place; its cost is not known'
{_SUPERSEDED}

update attempts set status = 'lost', error = 'a later attempt took its place; its result was not collected'
where id in (select id {_SUPERSEDED})
"""
_SUM_COMMITTED = f"""
insert into committed (batch_id, model, day, committed_nusd)
select batch_id, model, day, sum({COUNTED}) from attempts group by batch_id, model, day
"""


def _run(db: sqlite3.Connection, script: str) -> None:
    # Not `executescript`, which would commit the migration's transaction first.
    for statement in script.strip().split("\n\n"):
        db.execute(statement)


def _make_in_m003(_: sqlite3.Connection) -> None:
    """What 0.1.0 made in this migration is replaced by m003, so a new ledger does not make it first."""


def _write_tables(db: sqlite3.Connection) -> None:
    """Make today's tables, and move the rows of a ledger of 0.1.0 into them.

    Foreign keys must be off: SQLite changes the columns of a table only by re-creating it.
    """
    is_old = db.execute("select 1 from sqlite_master where name = 'jobs'").fetchone() is not None
    if is_old:
        db.execute("drop view job_report")
        for name in _TABLE_NAMES:
            db.execute(f"alter table {name} rename to old_{name}")
    _run(db, _TABLES + _COMMITTED)
    if is_old:
        for name in _TABLE_NAMES:
            db.execute(f"insert into {name} select * from old_{name}")  # the same columns in the same order
        for name in [f"old_{name}" for name in reversed(_TABLE_NAMES)] + ["spend", "plan_pictures", "plans"]:
            db.execute(f"drop table if exists {name}")
        _run(db, _CLOSE_SUPERSEDED + _SUM_COMMITTED)
    _run(db, _INDEXES + _TRIGGERS + _JOB_REPORT)
    db.execute(f"pragma application_id = {APPLICATION_ID}")


# By name, in the order in which they are applied. What was released is never edited: a change is a new migration.
MIGRATIONS: Mapping[str, Callable[[sqlite3.Connection], None]] = {
    "m001_ledger": _make_in_m003,
    "m002_plans": _make_in_m003,
    "m003_committed": _write_tables,
}
