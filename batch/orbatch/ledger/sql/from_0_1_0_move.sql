-- A ledger of 0.1.0, after today's tables are made: its rows move into them.

insert into catalogs select * from old_catalogs;

insert into batches (id, name, config_path, config_sha256, output_dir, origin, catalog_id, created_at, planned_at,
  lease_owner, lease_host, lease_pid, lease_until)
select * from old_batches;

insert into jobs select * from old_jobs;

insert into attempts select *, lower(hex(randomblob(16))) from old_attempts;

insert into outputs select * from old_outputs;

insert into events select * from old_events;

insert into usage_readings select * from old_usage_readings;

drop table old_usage_readings;

drop table old_events;

drop table old_outputs;

drop table old_attempts;

drop table old_jobs;

drop table old_batches;

drop table old_catalogs;

drop table if exists spend;

drop table if exists plan_pictures;

drop table if exists plans;

-- 0.1.0 could submit an uncertain job once more, so a job may have several open attempts. Only the newest moves its job
-- now; what an earlier one may have cost stays reserved until `orbatch resolve` settles it.
insert into events (job_id, attempt_id, at, from_status, to_status, detail)
select job_id, id, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), (select status from jobs where jobs.id = job_id),
  (select status from jobs where jobs.id = job_id),
  'attempt ' || number || ' was ' || status || ' when a later attempt took its place; its cost is not known'
from attempts where status in ('submitting', 'submitted', 'completed', 'uncertain')
  and exists (select 1 from attempts later where later.job_id = attempts.job_id and later.number > attempts.number
    and later.status not in ('released', 'rejected'));

update attempts set status = 'lost', error = 'a later attempt took its place; its result was not collected'
where status in ('submitting', 'submitted', 'completed', 'uncertain')
  and exists (select 1 from attempts later where later.job_id = attempts.job_id and later.number > attempts.number
    and later.status not in ('released', 'rejected'));

insert into committed (batch_id, model, day, committed_nusd)
select batch_id, model, day, sum(case when settled = 0 then coalesce(reserved_nusd, 0)
  when is_byok = 0 or cost_nusd > coalesce(reserved_nusd, 0) then cost_nusd else coalesce(reserved_nusd, 0) end)
from attempts group by batch_id, model, day;
