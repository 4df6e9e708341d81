-- What `stop` and `set` ask of a run, which looks here twice a second. Append-only: the newest row of a setting holds, as
-- long as the batch file is the one it was given for. A value of null returns to the batch file's own.
create table controls (
  id integer primary key,
  batch_id integer not null references batches(id),
  setting text not null,
  value text,
  reason text,
  config_sha256 text not null,
  at text not null
) strict;

create index controls_by_batch on controls (batch_id, id);

create trigger controls_are_history before update on controls begin
  select raise(abort, 'controls are append-only');
end;
