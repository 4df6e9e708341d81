-- Indexes, triggers and the view. Made after the rows of an older ledger were copied, which is several times as fast.

create index jobs_by_status on jobs (batch_id, status, retired, model, position, estimate_high_nusd);

create index jobs_by_position on jobs (batch_id, position);

create index jobs_by_key on jobs (key) where status = 'done';

create index jobs_waiting on jobs (batch_id, wait_reason) where wait_reason is not null;

create unique index attempts_by_remote_id on attempts (remote_id, origin) where remote_id is not null;

-- At most one open attempt of a job. SQLite uses it only for a query that repeats the condition word for word (OPEN).
create unique index attempts_open on attempts (batch_id, job_id)
where status in ('submitting', 'submitted', 'completed', 'uncertain');

create index attempts_unsettled on attempts (batch_id) where settled = 0;

create index attempts_byok on attempts (batch_id) where is_byok = 1;

create index attempts_by_time on attempts (created_at);

create index attempts_by_settlement on attempts (account, settled_at) where settled = 1;

create index outputs_by_job on outputs (job_id);

create index events_by_job on events (job_id);

create index usage_by_account on usage_readings (account, read_at);

create index committed_by_day on committed (day);

-- The triggers bind everybody who opens the file, not only orbatch.
create trigger attempts_keep_their_place before update of job_id, batch_id, model, number, day, price_lines, key on attempts
when (new.job_id, new.batch_id, new.model, new.number, new.day, new.price_lines, new.key)
  is not (old.job_id, old.batch_id, old.model, old.number, old.day, old.price_lines, old.key) begin
  select raise(abort, 'what an attempt belongs to does not change');
end;

create trigger attempts_keep_what_was_charged before update of settled, cost_nusd, remote_id on attempts
when (old.settled = 1 and (new.settled = 0 or new.cost_nusd is not old.cost_nusd))
  or (old.remote_id is not null and new.remote_id is null) begin
  select raise(abort, 'a recorded charge and an id do not change');
end;

create trigger jobs_stay before delete on jobs when exists (select 1 from attempts where job_id = old.id) begin
  select raise(abort, 'jobs with attempts are kept: they may have been paid for');
end;

create trigger outputs_are_as_measured before update on outputs begin
  select raise(abort, 'the record of a file does not change');
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

-- One row per job, for people and other programs: the promised columns first. Its attempt is the newest one that was
-- started, or else the newest.
create view job_report as
select
  jobs.id as job_id,
  batches.name as batch,
  jobs.prompt_id,
  jobs.prompt,
  jobs.variables,
  jobs.request ->> 'seed' as seed,
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
  (select a.id from attempts a where a.job_id = jobs.id
    order by case when a.status in ('released', 'rejected') then 1 else 0 end, a.number desc limit 1)
left join outputs first_output on first_output.id =
  (select o.id from outputs o where o.job_id = jobs.id order by o.attempt_id desc, o.number limit 1);
