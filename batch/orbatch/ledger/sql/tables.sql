-- The tables of the ledger, in portable SQL but for `strict`. docs/ledger.md explains every column to its readers.

-- What models could do and cost when a batch was planned; the same content is kept once.
create table catalogs (
  id integer primary key,
  digest text not null unique,
  source text not null,
  read_at text not null,
  models text not null
) strict;

-- One row per batch file; the lease says which process is running it.
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
  receipts_read integer not null default 0,
  receipts_written integer not null default 0,
  lease_owner text,
  lease_host text,
  lease_pid integer,
  lease_until text
) strict;

-- `status = ... or ...`, not `in (...)`: in a constraint SQLite builds a table for such a list at every write, ten
-- times as slow.
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
  status text not null check (status = 'pending' or status = 'submitting' or status = 'submitted'
    or status = 'completed' or status = 'done' or status = 'rejected' or status = 'failed'
    or status = 'cancelled' or status = 'expired' or status = 'uncertain' or status = 'lost'),
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
) strict;

-- One paid request, or one that may have been paid. `released`: it certainly started nothing.
create table attempts (
  id integer primary key,
  job_id text not null references jobs(id),
  batch_id integer not null references batches(id),
  model text not null,
  number integer not null,
  status text not null check (status = 'released' or status = 'submitting' or status = 'submitted'
    or status = 'completed' or status = 'done' or status = 'rejected' or status = 'failed'
    or status = 'cancelled' or status = 'expired' or status = 'uncertain' or status = 'lost'),
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
  key text not null unique,
  unique (job_id, number),
  check (settled = case when cost_nusd is null then 0 else 1 end)
) strict;

-- Files that were verified and hashed.
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
) strict;

-- Append-only.
create table events (
  id integer primary key,
  job_id text not null references jobs(id),
  attempt_id integer references attempts(id),
  at text not null,
  from_status text,
  to_status text not null,
  detail text
) strict;

-- What `GET /key` said that an account has used in all: a hint about attempts of unknown fate.
create table usage_readings (
  id integer primary key,
  account text not null,
  read_at text not null,
  usage_nusd integer not null
) strict;

-- The one sum that is kept: a cap is checked before every submit, and summing all attempts each time would make a large
-- batch quadratic. The verb that changes an attempt writes it in the same transaction.
create table committed (
  batch_id integer not null references batches(id),
  model text not null,
  day text not null,
  committed_nusd integer not null,
  primary key (batch_id, model, day)
) strict;
