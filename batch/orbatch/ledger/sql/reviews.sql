-- What people think of the outputs. Append-only: of each person the newest row of a field holds, so that two who rate at
-- once do not overwrite each other. Fields: rating (1 to 5), mark (pick, reject), note; null takes one back.
create table reviews (
  id integer primary key,
  job_id text not null references jobs(id),
  who text not null,
  field text not null check (field = 'rating' or field = 'mark' or field = 'note'),
  value text,
  at text not null
) strict;

create index reviews_by_job on reviews (job_id, who, field, id);

-- One comparison in which names were hidden: which of two outputs of a prompt was better.
create table votes (
  id integer primary key,
  winner_job text not null references jobs(id),
  loser_job text not null references jobs(id),
  who text not null,
  at text not null
) strict;

create trigger reviews_are_history before update on reviews begin
  select raise(abort, 'reviews are append-only');
end;

create trigger votes_are_history before update on votes begin
  select raise(abort, 'votes are append-only');
end;
