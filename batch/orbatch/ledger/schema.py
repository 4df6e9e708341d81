"""The tables of the ledger, as migrations. docs/ledger.md explains every column to its readers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlite_utils.migrations import Migrations

from orbatch.lifecycle import Status

if TYPE_CHECKING:
    from sqlite_utils import Database

APPLICATION_ID = 0x6F726274  # "orbt": tells a ledger from any other SQLite file

migrations = Migrations("orbatch")

_STATUSES = ", ".join(f"'{status}'" for status in Status)

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
  status text not null check (status in ({_STATUSES})),
  hold text,
  retired integer not null default 0,
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
create index jobs_by_status on jobs (batch_id, status, retired, model, position);
create index jobs_by_position on jobs (batch_id, position);

create table attempts (
  id integer primary key,
  job_id text not null references jobs,
  batch_id integer not null references batches,
  model text not null,
  number integer not null,
  status text not null,
  origin text not null,
  account text not null,
  day text not null,
  price_lines text not null,
  estimate_low_nusd integer,
  estimate_exact_nusd integer,
  estimate_high_nusd integer,
  reserved_nusd integer,
  settled integer not null default 0,
  cost_nusd integer,
  is_byok integer not null default 0,
  remote_id text,
  generation_id text,
  output_seconds real,
  error text,
  created_at text not null,
  submitted_at text,
  completed_at text,
  settled_at text,
  unique (job_id, number)
) strict;
create unique index attempts_by_remote_id on attempts (origin, remote_id) where remote_id is not null;
create index attempts_open on attempts (status, batch_id)
  where status in ('submitting', 'submitted', 'completed', 'uncertain');
create index attempts_unsettled on attempts (batch_id) where settled = 0;
create index attempts_by_time on attempts (created_at);
create index attempts_for_sums on attempts (model, price_lines, batch_id, day, settled, is_byok, status, cost_nusd,
  reserved_nusd, estimate_exact_nusd, estimate_high_nusd, output_seconds, job_id);

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
  reserved_nusd integer not null default 0,
  charged_nusd integer not null default 0,
  primary key (batch_id, model, day)
) strict, without rowid;
"""

# What an attempt counts for. A charge to the user's own provider account (BYOK) is only a fee: the rest is billed
# elsewhere, so against a cap the attempt goes on counting at its worst case.
_RESERVED = "case when {0}.settled = 0 then coalesce({0}.reserved_nusd, 0) else 0 end"
_CHARGED = """case when {0}.settled = 0 then 0
  when {0}.is_byok = 1 then max(coalesce({0}.cost_nusd, 0), coalesce({0}.reserved_nusd, 0))
  else coalesce({0}.cost_nusd, 0) end"""

# Caps are checked before every submit; summing all attempts each time would make a large batch quadratic. The
# triggers keep the sums in the transaction that changes an attempt, so they cannot differ from it.
_SPEND_TRIGGERS = f"""
create trigger attempts_spend_insert after insert on attempts begin
  insert into spend (batch_id, model, day, reserved_nusd, charged_nusd)
  values (new.batch_id, new.model, new.day, {_RESERVED.format("new")}, {_CHARGED.format("new")})
  on conflict do update set reserved_nusd = reserved_nusd + excluded.reserved_nusd,
    charged_nusd = charged_nusd + excluded.charged_nusd;
end;

create trigger attempts_spend_update after update of settled, cost_nusd, reserved_nusd, is_byok on attempts begin
  update spend set
    reserved_nusd = reserved_nusd - ({_RESERVED.format("old")}) + ({_RESERVED.format("new")}),
    charged_nusd = charged_nusd - ({_CHARGED.format("old")}) + ({_CHARGED.format("new")})
  where batch_id = new.batch_id and model = new.model and day = new.day;
end;

create trigger events_are_history before update on events begin
  select raise(abort, 'events are append-only');
end;
create trigger events_stay before delete on events begin
  select raise(abort, 'events are append-only');
end;
"""

_JOB_REPORT = """
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
  (select a.id from attempts a where a.job_id = jobs.id order by a.number desc limit 1)
left join outputs first_output on first_output.id =
  (select o.id from outputs o where o.job_id = jobs.id order by o.attempt_id desc, o.number limit 1);
"""


def _statements(script: str) -> list[str]:
    """A script as single statements; a trigger ends at its ``end;``. (``executescript`` would commit first.)"""
    statements, lines = [], []
    for line in script.splitlines():
        lines.append(line)
        text = "\n".join(lines).strip()
        inside_trigger = text.startswith("create trigger") and not text.endswith("end;")
        if text.endswith(";") and not inside_trigger:
            statements.append(text)
            lines = []
    return statements


def _run(db: Database, script: str) -> None:
    for statement in _statements(script):
        db.execute(statement)


@migrations()
def m001_ledger(db: Database) -> None:
    _run(db, _TABLES)
    _run(db, _SPEND_TRIGGERS)
    _run(db, _JOB_REPORT)
    db.execute(f"pragma application_id = {APPLICATION_ID}")
