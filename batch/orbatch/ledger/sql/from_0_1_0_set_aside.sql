-- A ledger of 0.1.0, before today's tables are made: its own are set aside. Foreign keys must be off.

drop view job_report;

alter table catalogs rename to old_catalogs;

alter table batches rename to old_batches;

alter table jobs rename to old_jobs;

alter table attempts rename to old_attempts;

alter table outputs rename to old_outputs;

alter table events rename to old_events;

alter table usage_readings rename to old_usage_readings;
