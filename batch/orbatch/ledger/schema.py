"""The tables of the ledger, as the SQL of its migrations. docs/ledger.md explains every column to its readers."""

from __future__ import annotations

from collections.abc import Mapping

from orbatch.ledger.status import Status
from orbatch.ledger.totals import MEASURES, one_of

APPLICATION_ID = 0x6F726274  # "orbt": tells a ledger from any other SQLite file
MIGRATION_SET = "orbatch"

RELEASED = "released"  # an attempt that certainly started nothing, so that its job is pending again

# What a partial index is for; SQLite uses one only for a query that repeats its condition word for word.
OPEN = "status in ('submitting', 'submitted', 'completed', 'uncertain')"

_IS_JOB_STATUS = one_of("status", Status)
_IS_ATTEMPT_STATUS = one_of("status", [status for status in (*Status, RELEASED) if status is not Status.PENDING])

_TABLES = f"""
create table catalogs (
  id integer primary key,
  digest text not null unique,
  source text not null,
  read_at text not null,
  models text not null
) strict;

create table batches (
  id integer primary key,
  name text not null unique,
  config_path text not null,
  config_sha256 text not null,
  output_dir text not null,
  origin text not null,
  catalog_id integer references catalogs,
  created_at text not null,
  planned_at text not null,
  lease_owner text,
  lease_host text,
  lease_pid integer,
  lease_until text
) strict;

create table jobs (
  id text primary key,
  batch_id integer not null references batches,
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
  status text not null check ({_IS_JOB_STATUS}),
  hold text,
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
) strict;
create index jobs_by_status on jobs (batch_id, status, retired, model, position, estimate_high_nusd);
create index jobs_by_position on jobs (batch_id, position);
create index jobs_held on jobs (batch_id, hold) where hold is not null;

create table attempts (
  id integer primary key,
  job_id text not null references jobs,
  batch_id integer not null references batches,
  model text not null,
  number integer not null,
  status text not null check ({_IS_ATTEMPT_STATUS}),
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
  check (settled = (cost_nusd is not null))
) strict;
create unique index attempts_by_remote_id on attempts (remote_id, origin) where remote_id is not null;
create index attempts_open on attempts (batch_id) where {OPEN};
create index attempts_unsettled on attempts (batch_id) where settled = 0;
create index attempts_by_time on attempts (created_at);
create index attempts_by_settlement on attempts (account, settled_at) where settled = 1;

create table outputs (
  id integer primary key,
  job_id text not null references jobs,
  attempt_id integer not null references attempts,
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
) strict;
create index outputs_by_job on outputs (job_id);

create table events (
  id integer primary key,
  job_id text not null references jobs,
  attempt_id integer references attempts,
  at text not null,
  from_status text,
  to_status text not null,
  detail text
) strict;
create index events_by_job on events (job_id);

create table usage_readings (
  id integer primary key,
  account text not null,
  read_at text not null,
  usage_nusd integer not null
) strict;
create index usage_by_account on usage_readings (account, read_at);

create table spend (
  batch_id integer not null references batches,
  model text not null,
  day text not null,
  price_lines text not null,
{"".join(f"  {name} integer not null default 0,{chr(10)}" for name in MEASURES)}\
  primary key (batch_id, model, day, price_lines)
) strict, without rowid;
create index spend_by_day on spend (day);
"""

_NAMES = ", ".join(MEASURES)
_OF_NEW = ", ".join(measure.format("new") for measure in MEASURES.values())
_ADDED = ", ".join(f"{name} = {name} + excluded.{name}" for name in MEASURES)
_CHANGED = ", ".join(
    f"{name} = {name} - ({measure.format('old')}) + ({measure.format('new')})" for name, measure in MEASURES.items()
)

# Caps are checked before every submit and reports are read over years; summing all attempts each time would make a
# large batch quadratic. The triggers keep the sums in the transaction that changes an attempt, so they cannot differ.
_SPEND_TRIGGERS = f"""
create trigger attempts_spend_insert after insert on attempts begin
  insert into spend (batch_id, model, day, price_lines, {_NAMES})
  values (new.batch_id, new.model, new.day, new.price_lines, {_OF_NEW})
  on conflict do update set {_ADDED};
end;

create trigger attempts_spend_update after update on attempts begin
  update spend set {_CHANGED}
  where batch_id = new.batch_id and model = new.model and day = new.day and price_lines = new.price_lines;
end;

create trigger attempts_keep_their_place before update of job_id, batch_id, model, number, day, price_lines on attempts
when (new.job_id, new.batch_id, new.model, new.number, new.day, new.price_lines)
  is not (old.job_id, old.batch_id, old.model, old.number, old.day, old.price_lines) begin
  select raise(abort, 'what an attempt belongs to does not change');
end;
create trigger attempts_stay before delete on attempts begin
  select raise(abort, 'attempts are kept: they may have been paid for');
end;
create trigger events_are_history before update on events begin
  select raise(abort, 'events are append-only');
end;
create trigger events_stay before delete on events begin
  select raise(abort, 'events are append-only');
end;
"""

# The attempt a job stands for: the newest one that was started, or else the newest.
LATEST_ATTEMPT = """(select a.id from attempts a where a.job_id = jobs.id
    order by a.status in ('released', 'rejected'), a.number desc limit 1)"""

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
  coalesce(jobs.error, jobs.hold) as error,
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
  (select o.id from outputs o where o.job_id = jobs.id order by o.attempt_id desc, o.number limit 1);
"""


# No row says that some job may not stand as the last plan has it.
_PLANS = """
create table plans (
  batch_id integer primary key references batches,
  sources text not null,
  prices text not null,
  models text not null,
  left_open text not null,
  jobs_digest text not null
) strict;

create table plan_pictures (
  batch_id integer not null references batches,
  path text not null,
  sha256 text not null,
  primary key (batch_id, path)
) strict, without rowid;
"""


def _statements(script: str) -> tuple[str, ...]:
    """A script as single statements; a trigger ends at its ``end;``. (``executescript`` would commit first.)"""
    statements, lines = [], []
    for line in script.splitlines():
        lines.append(line)
        text = "\n".join(lines).strip()
        inside_trigger = text.startswith("create trigger") and not text.endswith("end;")
        if text.endswith(";") and not inside_trigger:
            statements.append(text)
            lines = []
    return tuple(statements)


# By name, in the order in which they are applied. What was released is never edited: a change is a new migration.
MIGRATIONS: Mapping[str, tuple[str, ...]] = {
    "m001_ledger": (
        *_statements(_TABLES + _SPEND_TRIGGERS + _JOB_REPORT),
        f"pragma application_id = {APPLICATION_ID}",
    ),
    "m002_plans": _statements(_PLANS),
}
