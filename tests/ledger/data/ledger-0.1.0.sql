BEGIN TRANSACTION;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
) STRICT;
INSERT INTO "_sqlite_migrations" VALUES(1,'orbatch','m001_ledger','2026-11-26 01:39:55.292404+00:00');
INSERT INTO "_sqlite_migrations" VALUES(2,'orbatch','m002_plans','2026-11-26 01:39:55.292703+00:00');
CREATE TABLE attempts (
  id integer primary key,
  job_id text not null references jobs,
  batch_id integer not null references batches,
  model text not null,
  number integer not null,
  status text not null check ((status = 'submitting' or status = 'submitted' or status = 'completed' or status = 'done' or status = 'rejected' or status = 'failed' or status = 'cancelled' or status = 'expired' or status = 'uncertain' or status = 'lost' or status = 'released')),
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
INSERT INTO "attempts" VALUES(1,'c23261e127cf3cde-1',1,'a/one',1,'submitting','https://openrouter.ai','key-1','2026-11-26','per_second',400000000,400000000,400000000,400000000,0,NULL,0,NULL,NULL,NULL,NULL,'2026-11-26T01:39:55.297Z',NULL,NULL,NULL);
INSERT INTO "attempts" VALUES(2,'4bcc63dcf66bb6e6-1',1,'a/one',1,'submitted','https://openrouter.ai','key-1','2026-11-26','per_second',400000000,400000000,400000000,400000000,0,NULL,0,'remote-2','gen-2',NULL,NULL,'2026-11-26T01:39:55.298Z','2026-11-26T01:39:55.299Z',NULL,NULL);
INSERT INTO "attempts" VALUES(3,'1a621e88995200a3-1',1,'a/one',1,'completed','https://openrouter.ai','key-1','2026-11-26','per_second',400000000,400000000,400000000,400000000,1,300000000,0,'remote-3','gen-3',NULL,NULL,'2026-11-26T01:39:55.300Z','2026-11-26T01:39:55.300Z','2026-11-26T01:39:55.301Z','2026-11-26T01:39:55.301Z');
INSERT INTO "attempts" VALUES(4,'95bd8f197a79f2ed-1',1,'a/one',1,'done','https://openrouter.ai','key-1','2026-11-26','per_second',400000000,400000000,400000000,400000000,1,300000000,0,'remote-4','gen-4',5.0,NULL,'2026-11-26T01:39:55.302Z','2026-11-26T01:39:55.302Z','2026-11-26T01:39:55.303Z','2026-11-26T01:39:55.303Z');
INSERT INTO "attempts" VALUES(5,'5986fbe340ae79ba-1',1,'a/one',1,'rejected','https://openrouter.ai','key-1','2026-11-26','per_second',400000000,400000000,400000000,400000000,1,0,0,NULL,NULL,NULL,'no such model','2026-11-26T01:39:55.309Z',NULL,NULL,'2026-11-26T01:39:55.310Z');
INSERT INTO "attempts" VALUES(6,'e327d3656cd3f32f-1',1,'a/one',1,'failed','https://openrouter.ai','key-1','2026-11-26','per_second',400000000,400000000,400000000,400000000,1,300000000,0,'remote-6','gen-6',NULL,'it ended so','2026-11-26T01:39:55.311Z','2026-11-26T01:39:55.312Z','2026-11-26T01:39:55.313Z','2026-11-26T01:39:55.313Z');
INSERT INTO "attempts" VALUES(7,'0a261a2e2382dcec-1',1,'a/one',1,'cancelled','https://openrouter.ai','key-1','2026-11-26','per_second',400000000,400000000,400000000,400000000,1,300000000,0,'remote-7','gen-7',NULL,'it ended so','2026-11-26T01:39:55.313Z','2026-11-26T01:39:55.314Z','2026-11-26T01:39:55.315Z','2026-11-26T01:39:55.315Z');
INSERT INTO "attempts" VALUES(8,'8e09cbc921d62fbd-1',1,'a/one',1,'expired','https://openrouter.ai','key-1','2026-11-26','per_second',400000000,400000000,400000000,400000000,1,300000000,0,'remote-8','gen-8',NULL,'it ended so','2026-11-26T01:39:55.315Z','2026-11-26T01:39:55.316Z','2026-11-26T01:39:55.317Z','2026-11-26T01:39:55.317Z');
INSERT INTO "attempts" VALUES(9,'3a4fe03432742e14-1',1,'a/one',1,'uncertain','https://openrouter.ai','key-1','2026-11-26','per_second',400000000,400000000,400000000,400000000,0,NULL,0,NULL,NULL,NULL,'the connection was cut','2026-11-26T01:39:55.317Z',NULL,NULL,NULL);
INSERT INTO "attempts" VALUES(10,'ed58970ea6c10288-1',1,'a/one',1,'lost','https://openrouter.ai','key-1','2026-11-26','per_second',400000000,400000000,400000000,400000000,1,300000000,0,NULL,NULL,NULL,'charged, and its result was not found','2026-11-26T01:39:55.319Z',NULL,NULL,'2026-11-26T01:39:55.321Z');
INSERT INTO "attempts" VALUES(11,'7f5db25f7ca65d42-2',2,'a/one',1,'uncertain','https://openrouter.ai','key-1','2026-11-26','per_second',400000000,400000000,400000000,400000000,0,NULL,0,NULL,NULL,NULL,'the connection was cut','2026-11-26T01:39:55.323Z',NULL,NULL,NULL);
INSERT INTO "attempts" VALUES(12,'7f5db25f7ca65d42-2',2,'a/one',2,'submitted','https://openrouter.ai','key-1','2026-11-26','per_second',400000000,400000000,400000000,400000000,0,NULL,0,'second',NULL,NULL,NULL,'2026-11-26T01:39:55.326Z','2026-11-26T01:39:55.328Z',NULL,NULL);
INSERT INTO "attempts" VALUES(13,'a438e44eb64d1b11-2',2,'a/one',1,'uncertain','https://openrouter.ai','key-1','2026-11-26','per_second',400000000,400000000,400000000,400000000,0,NULL,0,NULL,NULL,NULL,'the connection was cut','2026-11-26T01:39:55.329Z',NULL,NULL,NULL);
INSERT INTO "attempts" VALUES(14,'a438e44eb64d1b11-2',2,'a/one',2,'released','https://openrouter.ai','key-1','2026-11-26','per_second',400000000,400000000,400000000,400000000,1,0,0,NULL,NULL,NULL,NULL,'2026-11-26T01:39:55.331Z',NULL,NULL,'2026-11-26T01:39:55.332Z');
INSERT INTO "attempts" VALUES(15,'4b6b81ada74fb81d-2',2,'a/one',1,'done','https://openrouter.ai','key-1','2026-11-26','per_second',400000000,400000000,400000000,400000000,1,20000,1,'byok','gen-byok',5.0,NULL,'2026-11-26T01:39:55.333Z','2026-11-26T01:39:55.334Z','2026-11-26T01:39:55.334Z','2026-11-26T01:39:55.334Z');
INSERT INTO "attempts" VALUES(16,'f038cfca48ce68dc-2',2,'a/one',1,'done','https://openrouter.ai','key-1','2026-11-26','per_second',400000000,400000000,400000000,400000000,0,NULL,0,'remote-16','gen-16',5.0,NULL,'2026-11-26T01:39:55.336Z','2026-11-26T01:39:55.337Z','2026-11-26T01:39:55.338Z',NULL);
INSERT INTO "attempts" VALUES(17,'998ea65603922753-2',2,'a/one',1,'submitting','https://openrouter.ai','key-1','2026-11-26','per_second',NULL,NULL,NULL,NULL,0,NULL,0,NULL,NULL,NULL,NULL,'2026-11-26T01:39:55.340Z',NULL,NULL,NULL);
INSERT INTO "attempts" VALUES(18,'948b34e7c8f938c7-2',2,'a/one',1,'failed','https://openrouter.ai','key-1','2026-11-26','per_second',400000000,400000000,400000000,400000000,1,100,0,'remote-18','gen-18',NULL,'it ended so','2026-11-26T01:39:55.341Z','2026-11-26T01:39:55.342Z','2026-11-26T01:39:55.342Z','2026-11-26T01:39:55.342Z');
INSERT INTO "attempts" VALUES(19,'948b34e7c8f938c7-2',2,'a/one',2,'done','https://openrouter.ai','key-1','2026-11-26','per_second',400000000,400000000,400000000,400000000,1,200,0,'remote-19','gen-19',5.0,NULL,'2026-11-26T01:39:55.344Z','2026-11-26T01:39:55.344Z','2026-11-26T01:39:55.345Z','2026-11-26T01:39:55.345Z');
INSERT INTO "attempts" VALUES(20,'137e4894a2ff7189-2',2,'a/one',1,'submitted','https://openrouter.ai','key-1','2026-11-26','per_second',400000000,400000000,400000000,400000000,0,NULL,0,'late',NULL,NULL,NULL,'2026-11-26T01:39:55.346Z','2026-11-26T01:39:55.349Z',NULL,NULL);
INSERT INTO "attempts" VALUES(21,'137e4894a2ff7189-2',2,'a/one',2,'submitted','https://openrouter.ai','key-1','2026-11-26','per_second',400000000,400000000,400000000,400000000,0,NULL,0,'soon',NULL,NULL,NULL,'2026-11-26T01:39:55.348Z','2026-11-26T01:39:55.349Z',NULL,NULL);
CREATE TABLE batches (
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
INSERT INTO "batches" VALUES(1,'cats','/batches/cats.yaml','sha256:2','/outputs/cats','https://openrouter.ai',1,'2026-11-26T01:39:55.295Z','2026-11-26T01:39:55.295Z',NULL,NULL,NULL,NULL);
INSERT INTO "batches" VALUES(2,'dogs','/batches/dogs.yaml','sha256:2','/outputs/dogs','https://openrouter.ai',1,'2026-11-26T01:39:55.322Z','2026-11-26T01:39:55.322Z',NULL,NULL,NULL,NULL);
CREATE TABLE catalogs (
  id integer primary key,
  digest text not null unique,
  source text not null,
  read_at text not null,
  models text not null
) strict;
INSERT INTO "catalogs" VALUES(1,'sha256:1','https://openrouter.ai','2026-01-01T00:00:00.000Z','{}');
CREATE TABLE events (
  id integer primary key,
  job_id text not null references jobs,
  attempt_id integer references attempts,
  at text not null,
  from_status text,
  to_status text not null,
  detail text
) strict;
INSERT INTO "events" VALUES(1,'c23261e127cf3cde-1',1,'2026-11-26T01:39:55.297Z','pending','submitting',NULL);
INSERT INTO "events" VALUES(2,'4bcc63dcf66bb6e6-1',2,'2026-11-26T01:39:55.298Z','pending','submitting',NULL);
INSERT INTO "events" VALUES(3,'4bcc63dcf66bb6e6-1',2,'2026-11-26T01:39:55.299Z','submitting','submitted','remote id remote-2');
INSERT INTO "events" VALUES(4,'1a621e88995200a3-1',3,'2026-11-26T01:39:55.300Z','pending','submitting',NULL);
INSERT INTO "events" VALUES(5,'1a621e88995200a3-1',3,'2026-11-26T01:39:55.300Z','submitting','submitted','remote id remote-3');
INSERT INTO "events" VALUES(6,'1a621e88995200a3-1',3,'2026-11-26T01:39:55.301Z','submitted','completed',NULL);
INSERT INTO "events" VALUES(7,'95bd8f197a79f2ed-1',4,'2026-11-26T01:39:55.302Z','pending','submitting',NULL);
INSERT INTO "events" VALUES(8,'95bd8f197a79f2ed-1',4,'2026-11-26T01:39:55.302Z','submitting','submitted','remote id remote-4');
INSERT INTO "events" VALUES(9,'95bd8f197a79f2ed-1',4,'2026-11-26T01:39:55.303Z','submitted','completed',NULL);
INSERT INTO "events" VALUES(10,'95bd8f197a79f2ed-1',4,'2026-11-26T01:39:55.308Z','completed','done',NULL);
INSERT INTO "events" VALUES(11,'5986fbe340ae79ba-1',5,'2026-11-26T01:39:55.309Z','pending','submitting',NULL);
INSERT INTO "events" VALUES(12,'5986fbe340ae79ba-1',5,'2026-11-26T01:39:55.310Z','submitting','rejected','no such model');
INSERT INTO "events" VALUES(13,'e327d3656cd3f32f-1',6,'2026-11-26T01:39:55.311Z','pending','submitting',NULL);
INSERT INTO "events" VALUES(14,'e327d3656cd3f32f-1',6,'2026-11-26T01:39:55.312Z','submitting','submitted','remote id remote-6');
INSERT INTO "events" VALUES(15,'e327d3656cd3f32f-1',6,'2026-11-26T01:39:55.313Z','submitted','failed','it ended so');
INSERT INTO "events" VALUES(16,'0a261a2e2382dcec-1',7,'2026-11-26T01:39:55.313Z','pending','submitting',NULL);
INSERT INTO "events" VALUES(17,'0a261a2e2382dcec-1',7,'2026-11-26T01:39:55.314Z','submitting','submitted','remote id remote-7');
INSERT INTO "events" VALUES(18,'0a261a2e2382dcec-1',7,'2026-11-26T01:39:55.315Z','submitted','cancelled','it ended so');
INSERT INTO "events" VALUES(19,'8e09cbc921d62fbd-1',8,'2026-11-26T01:39:55.315Z','pending','submitting',NULL);
INSERT INTO "events" VALUES(20,'8e09cbc921d62fbd-1',8,'2026-11-26T01:39:55.316Z','submitting','submitted','remote id remote-8');
INSERT INTO "events" VALUES(21,'8e09cbc921d62fbd-1',8,'2026-11-26T01:39:55.317Z','submitted','expired','it ended so');
INSERT INTO "events" VALUES(22,'3a4fe03432742e14-1',9,'2026-11-26T01:39:55.317Z','pending','submitting',NULL);
INSERT INTO "events" VALUES(23,'3a4fe03432742e14-1',9,'2026-11-26T01:39:55.318Z','submitting','uncertain','the connection was cut');
INSERT INTO "events" VALUES(24,'ed58970ea6c10288-1',10,'2026-11-26T01:39:55.319Z','pending','submitting',NULL);
INSERT INTO "events" VALUES(25,'ed58970ea6c10288-1',10,'2026-11-26T01:39:55.320Z','submitting','uncertain','the connection was cut');
INSERT INTO "events" VALUES(26,'ed58970ea6c10288-1',10,'2026-11-26T01:39:55.321Z','uncertain','lost','charged, and its result was not found');
INSERT INTO "events" VALUES(27,'7f5db25f7ca65d42-2',11,'2026-11-26T01:39:55.323Z','pending','submitting',NULL);
INSERT INTO "events" VALUES(28,'7f5db25f7ca65d42-2',11,'2026-11-26T01:39:55.324Z','submitting','uncertain','the connection was cut');
INSERT INTO "events" VALUES(29,'7f5db25f7ca65d42-2',12,'2026-11-26T01:39:55.326Z','uncertain','pending','sent again by uncertain: resubmit; the earlier attempt stays reserved');
INSERT INTO "events" VALUES(30,'7f5db25f7ca65d42-2',12,'2026-11-26T01:39:55.326Z','pending','submitting',NULL);
INSERT INTO "events" VALUES(31,'7f5db25f7ca65d42-2',12,'2026-11-26T01:39:55.328Z','submitting','submitted','remote id second');
INSERT INTO "events" VALUES(32,'a438e44eb64d1b11-2',13,'2026-11-26T01:39:55.329Z','pending','submitting',NULL);
INSERT INTO "events" VALUES(33,'a438e44eb64d1b11-2',13,'2026-11-26T01:39:55.330Z','submitting','uncertain','the connection was cut');
INSERT INTO "events" VALUES(34,'a438e44eb64d1b11-2',14,'2026-11-26T01:39:55.331Z','uncertain','pending','sent again by uncertain: resubmit; the earlier attempt stays reserved');
INSERT INTO "events" VALUES(35,'a438e44eb64d1b11-2',14,'2026-11-26T01:39:55.331Z','pending','submitting',NULL);
INSERT INTO "events" VALUES(36,'a438e44eb64d1b11-2',14,'2026-11-26T01:39:55.332Z','submitting','submitting','attempt 2: released, busy');
INSERT INTO "events" VALUES(37,'a438e44eb64d1b11-2',13,'2026-11-26T01:39:55.332Z','submitting','uncertain','attempt 1 counts again');
INSERT INTO "events" VALUES(38,'4b6b81ada74fb81d-2',15,'2026-11-26T01:39:55.333Z','pending','submitting',NULL);
INSERT INTO "events" VALUES(39,'4b6b81ada74fb81d-2',15,'2026-11-26T01:39:55.334Z','submitting','submitted','remote id byok');
INSERT INTO "events" VALUES(40,'4b6b81ada74fb81d-2',15,'2026-11-26T01:39:55.334Z','submitted','completed',NULL);
INSERT INTO "events" VALUES(41,'4b6b81ada74fb81d-2',15,'2026-11-26T01:39:55.335Z','completed','done',NULL);
INSERT INTO "events" VALUES(42,'f038cfca48ce68dc-2',16,'2026-11-26T01:39:55.336Z','pending','submitting',NULL);
INSERT INTO "events" VALUES(43,'f038cfca48ce68dc-2',16,'2026-11-26T01:39:55.337Z','submitting','submitted','remote id remote-16');
INSERT INTO "events" VALUES(44,'f038cfca48ce68dc-2',16,'2026-11-26T01:39:55.338Z','submitted','completed',NULL);
INSERT INTO "events" VALUES(45,'f038cfca48ce68dc-2',16,'2026-11-26T01:39:55.339Z','completed','done',NULL);
INSERT INTO "events" VALUES(46,'998ea65603922753-2',17,'2026-11-26T01:39:55.340Z','pending','submitting',NULL);
INSERT INTO "events" VALUES(47,'948b34e7c8f938c7-2',18,'2026-11-26T01:39:55.341Z','pending','submitting',NULL);
INSERT INTO "events" VALUES(48,'948b34e7c8f938c7-2',18,'2026-11-26T01:39:55.342Z','submitting','submitted','remote id remote-18');
INSERT INTO "events" VALUES(49,'948b34e7c8f938c7-2',18,'2026-11-26T01:39:55.342Z','submitted','failed','it ended so');
INSERT INTO "events" VALUES(50,'948b34e7c8f938c7-2',NULL,'2026-11-26T01:39:55.343Z','failed','pending','to be sent again');
INSERT INTO "events" VALUES(51,'948b34e7c8f938c7-2',19,'2026-11-26T01:39:55.344Z','pending','submitting',NULL);
INSERT INTO "events" VALUES(52,'948b34e7c8f938c7-2',19,'2026-11-26T01:39:55.344Z','submitting','submitted','remote id remote-19');
INSERT INTO "events" VALUES(53,'948b34e7c8f938c7-2',19,'2026-11-26T01:39:55.345Z','submitted','completed',NULL);
INSERT INTO "events" VALUES(54,'948b34e7c8f938c7-2',19,'2026-11-26T01:39:55.346Z','completed','done',NULL);
INSERT INTO "events" VALUES(55,'137e4894a2ff7189-2',20,'2026-11-26T01:39:55.346Z','pending','submitting',NULL);
INSERT INTO "events" VALUES(56,'137e4894a2ff7189-2',20,'2026-11-26T01:39:55.347Z','submitting','uncertain','the connection was cut');
INSERT INTO "events" VALUES(57,'137e4894a2ff7189-2',21,'2026-11-26T01:39:55.348Z','uncertain','pending','sent again by uncertain: resubmit; the earlier attempt stays reserved');
INSERT INTO "events" VALUES(58,'137e4894a2ff7189-2',21,'2026-11-26T01:39:55.348Z','pending','submitting',NULL);
INSERT INTO "events" VALUES(59,'137e4894a2ff7189-2',20,'2026-11-26T01:39:55.349Z','submitting','submitting','attempt 1: submitted, remote id late');
INSERT INTO "events" VALUES(60,'137e4894a2ff7189-2',21,'2026-11-26T01:39:55.349Z','submitting','submitted','remote id soon');
CREATE TABLE jobs (
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
  status text not null check ((status = 'pending' or status = 'submitting' or status = 'submitted' or status = 'completed' or status = 'done' or status = 'rejected' or status = 'failed' or status = 'cancelled' or status = 'expired' or status = 'uncertain' or status = 'lost')),
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
INSERT INTO "jobs" VALUES('344e80a453fb4419-1',1,'k1:344e80a453fb44194d2778cc1c6dcf04fc1a82786973d54581f2d1e56e4f5c2d',1,'video','a/one','pending','pending','{}','{"model": "a/one", "prompt": "pending", "duration": 5}',1,'pending','pending','no credit',0,400000000,400000000,400000000,'per_second','said so',0,NULL,'2026-11-26T01:39:55.295Z',NULL);
INSERT INTO "jobs" VALUES('c23261e127cf3cde-1',1,'k1:c23261e127cf3cde97ea90196262674c84660cf462b289b897affde517e87ea0',2,'video','a/one','submitting','submitting','{}','{"model": "a/one", "prompt": "submitting", "duration": 5}',1,'submitting','submitting',NULL,0,400000000,400000000,400000000,'per_second','said so',0,NULL,'2026-11-26T01:39:55.295Z',NULL);
INSERT INTO "jobs" VALUES('4bcc63dcf66bb6e6-1',1,'k1:4bcc63dcf66bb6e6861a68a31f4a6f553fa8f6baa60dfacae063defbfdc24cab',3,'video','a/one','submitted','submitted','{}','{"model": "a/one", "prompt": "submitted", "duration": 5}',1,'submitted','submitted',NULL,0,400000000,400000000,400000000,'per_second','said so',0,NULL,'2026-11-26T01:39:55.295Z',NULL);
INSERT INTO "jobs" VALUES('1a621e88995200a3-1',1,'k1:1a621e88995200a340ccaa5400ffa1285664527c3d036edd36946bf00911b63d',4,'video','a/one','completed','completed','{}','{"model": "a/one", "prompt": "completed", "duration": 5}',1,'completed','completed',NULL,0,400000000,400000000,400000000,'per_second','said so',0,NULL,'2026-11-26T01:39:55.295Z',NULL);
INSERT INTO "jobs" VALUES('95bd8f197a79f2ed-1',1,'k1:95bd8f197a79f2edee5430a76c7030c69ab6498e73721cbb217806dcc7ba6f95',5,'video','a/one','done','done','{}','{"model": "a/one", "prompt": "done", "duration": 5}',1,'done','done',NULL,0,400000000,400000000,400000000,'per_second','said so',0,NULL,'2026-11-26T01:39:55.295Z','2026-11-26T01:39:55.308Z');
INSERT INTO "jobs" VALUES('5986fbe340ae79ba-1',1,'k1:5986fbe340ae79bad54807954ad430671db9e2ab68f1041af5b49cac9b1374d0',6,'video','a/one','rejected','rejected','{}','{"model": "a/one", "prompt": "rejected", "duration": 5}',1,'rejected','rejected',NULL,0,400000000,400000000,400000000,'per_second','said so',0,'no such model','2026-11-26T01:39:55.295Z',NULL);
INSERT INTO "jobs" VALUES('e327d3656cd3f32f-1',1,'k1:e327d3656cd3f32f643badb94ba1297da2b744a4423ad1e1a3ade7a054a94ade',7,'video','a/one','failed','failed','{}','{"model": "a/one", "prompt": "failed", "duration": 5}',1,'failed','failed',NULL,0,400000000,400000000,400000000,'per_second','said so',0,'it ended so','2026-11-26T01:39:55.295Z',NULL);
INSERT INTO "jobs" VALUES('0a261a2e2382dcec-1',1,'k1:0a261a2e2382dcecc8f6944ff2c90bfc2545f7f6dacb260854dbe0760ce21837',8,'video','a/one','cancelled','cancelled','{}','{"model": "a/one", "prompt": "cancelled", "duration": 5}',1,'cancelled','cancelled',NULL,0,400000000,400000000,400000000,'per_second','said so',0,'it ended so','2026-11-26T01:39:55.295Z',NULL);
INSERT INTO "jobs" VALUES('8e09cbc921d62fbd-1',1,'k1:8e09cbc921d62fbd417caf39c023b9ea6e4a89126c6eba22662375de0b193521',9,'video','a/one','expired','expired','{}','{"model": "a/one", "prompt": "expired", "duration": 5}',1,'expired','expired',NULL,0,400000000,400000000,400000000,'per_second','said so',0,'it ended so','2026-11-26T01:39:55.295Z',NULL);
INSERT INTO "jobs" VALUES('3a4fe03432742e14-1',1,'k1:3a4fe03432742e14144c395b2c0ef8efb3ab9bf2f50ad395d55df55c8f1ee88e',10,'video','a/one','uncertain','uncertain','{}','{"model": "a/one", "prompt": "uncertain", "duration": 5}',1,'uncertain','uncertain',NULL,0,400000000,400000000,400000000,'per_second','said so',0,'the connection was cut','2026-11-26T01:39:55.295Z',NULL);
INSERT INTO "jobs" VALUES('ed58970ea6c10288-1',1,'k1:ed58970ea6c1028871fa1100f882ca244fd1ec6e371a39ef02fce32087ebcfb6',11,'video','a/one','lost','lost','{}','{"model": "a/one", "prompt": "lost", "duration": 5}',1,'lost','lost',NULL,0,400000000,400000000,400000000,'per_second','said so',0,'charged, and its result was not found','2026-11-26T01:39:55.295Z',NULL);
INSERT INTO "jobs" VALUES('7f5db25f7ca65d42-2',2,'k1:7f5db25f7ca65d421ff00f971d60c645c72dadbdc44ecf05f9931c989f2dad77',1,'video','a/one','twice','twice','{}','{"model": "a/one", "prompt": "twice", "duration": 5}',1,'twice','submitted',NULL,0,400000000,400000000,400000000,'per_second','said so',0,NULL,'2026-11-26T01:39:55.322Z',NULL);
INSERT INTO "jobs" VALUES('a438e44eb64d1b11-2',2,'k1:a438e44eb64d1b1173ecebfafd548cab5918f412a6599f75949446cbdbb70af0',2,'video','a/one','returned','returned','{}','{"model": "a/one", "prompt": "returned", "duration": 5}',1,'returned','uncertain',NULL,0,400000000,400000000,400000000,'per_second','said so',0,'the connection was cut','2026-11-26T01:39:55.322Z',NULL);
INSERT INTO "jobs" VALUES('4b6b81ada74fb81d-2',2,'k1:4b6b81ada74fb81d5c88c23b0e35b4c10dd62381c1f9399293694541957b8680',3,'video','a/one','byok','byok','{}','{"model": "a/one", "prompt": "byok", "duration": 5}',1,'byok','done',NULL,0,400000000,400000000,400000000,'per_second','said so',0,NULL,'2026-11-26T01:39:55.322Z','2026-11-26T01:39:55.335Z');
INSERT INTO "jobs" VALUES('f038cfca48ce68dc-2',2,'k1:f038cfca48ce68dcf27a1827a5d0c6c4fbfb4cc4de4714a65ef970fbc30919b9',4,'video','a/one','unsettled','unsettled','{}','{"model": "a/one", "prompt": "unsettled", "duration": 5}',1,'unsettled','done',NULL,0,400000000,400000000,400000000,'per_second','said so',0,NULL,'2026-11-26T01:39:55.322Z','2026-11-26T01:39:55.339Z');
INSERT INTO "jobs" VALUES('998ea65603922753-2',2,'k1:998ea65603922753fe19598d1f89d99ddcb3da1872ba57a1c1eba163e05f30d0',5,'video','a/one','unpriced','unpriced','{}','{"model": "a/one", "prompt": "unpriced", "duration": 5}',1,'unpriced','submitting',NULL,0,NULL,NULL,NULL,'per_second','said so',0,NULL,'2026-11-26T01:39:55.322Z',NULL);
INSERT INTO "jobs" VALUES('948b34e7c8f938c7-2',2,'k1:948b34e7c8f938c70a54c33ed0f15078595fd82201dc90f24dac46be81360435',6,'video','a/one','tried again','tried again','{}','{"model": "a/one", "prompt": "tried again", "duration": 5}',1,'tried again','done',NULL,0,400000000,400000000,400000000,'per_second','said so',1,NULL,'2026-11-26T01:39:55.322Z','2026-11-26T01:39:55.346Z');
INSERT INTO "jobs" VALUES('137e4894a2ff7189-2',2,'k1:137e4894a2ff71892e5df79b89a63d9159a3ea5956daf748d58fa8644c2a52af',7,'video','a/one','accepted twice','accepted twice','{}','{"model": "a/one", "prompt": "accepted twice", "duration": 5}',1,'accepted twice','submitted',NULL,0,400000000,400000000,400000000,'per_second','said so',0,NULL,'2026-11-26T01:39:55.322Z',NULL);
CREATE TABLE outputs (
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
INSERT INTO "outputs" VALUES(1,'95bd8f197a79f2ed-1',4,0,'/outputs/4.mp4',1000,'abababababababababababababababababababababababababababababababab','video/mp4',5.0,1280,720,24.0,'h264','aac',NULL,'2026-11-26T01:39:55.308Z');
INSERT INTO "outputs" VALUES(2,'4b6b81ada74fb81d-2',15,0,'/outputs/byok.mp4',1000,'abababababababababababababababababababababababababababababababab','video/mp4',5.0,1280,720,24.0,'h264','aac',NULL,'2026-11-26T01:39:55.335Z');
INSERT INTO "outputs" VALUES(3,'f038cfca48ce68dc-2',16,0,'/outputs/16.mp4',1000,'abababababababababababababababababababababababababababababababab','video/mp4',5.0,1280,720,24.0,'h264','aac',NULL,'2026-11-26T01:39:55.339Z');
INSERT INTO "outputs" VALUES(4,'948b34e7c8f938c7-2',19,0,'/outputs/19.mp4',1000,'abababababababababababababababababababababababababababababababab','video/mp4',5.0,1280,720,24.0,'h264','aac',NULL,'2026-11-26T01:39:55.346Z');
CREATE TABLE plan_pictures (
  batch_id integer not null references batches,
  path text not null,
  sha256 text not null,
  primary key (batch_id, path)
) strict, without rowid;
INSERT INTO "plan_pictures" VALUES(1,'/a.png','sha256:1');
CREATE TABLE plans (
  batch_id integer primary key references batches,
  sources text not null,
  prices text not null,
  models text not null,
  left_open text not null,
  jobs_digest text not null
) strict;
INSERT INTO "plans" VALUES(1,'sha256:3','sha256:4','{"video": ["a/one"]}','[["a/one", "per_second", 1, null, "duration", "0.10", null]]','sha256:5');
CREATE TABLE spend (
  batch_id integer not null references batches,
  model text not null,
  day text not null,
  price_lines text not null,
  first_attempts integer not null default 0,
  attempts integer not null default 0,
  done integer not null default 0,
  reserved_nusd integer not null default 0,
  charged_nusd integer not null default 0,
  byok_attempts integer not null default 0,
  byok_fee_nusd integer not null default 0,
  byok_held_nusd integer not null default 0,
  unpriced_open integer not null default 0,
  failed_charged_nusd integer not null default 0,
  uncertain integer not null default 0,
  uncertain_nusd integer not null default 0,
  output_ms integer not null default 0,
  billed_ms integer not null default 0,
  billed_ms_nusd integer not null default 0,
  bills integer not null default 0,
  estimated_nusd integer not null default 0,
  billed_nusd integer not null default 0,
  primary key (batch_id, model, day, price_lines)
) strict, without rowid;
INSERT INTO "spend" VALUES(1,'a/one','2026-11-26','per_second',10,9,1,1200000000,1800000000,0,0,0,0,1200000000,1,400000000,5000,5000,300000000,3,1200000000,900000000);
INSERT INTO "spend" VALUES(2,'a/one','2026-11-26','per_second',7,10,3,2400000000,300,1,20000,400000000,1,100,2,800000000,15000,5000,200,1,400000000,200);
CREATE TABLE usage_readings (
  id integer primary key,
  account text not null,
  read_at text not null,
  usage_nusd integer not null
) strict;
INSERT INTO "usage_readings" VALUES(1,'key-1','2026-11-26T01:34:55.297Z',1000);
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
CREATE INDEX jobs_by_status on jobs (batch_id, status, retired, model, position, estimate_high_nusd);
CREATE INDEX jobs_by_position on jobs (batch_id, position);
CREATE INDEX jobs_held on jobs (batch_id, hold) where hold is not null;
CREATE UNIQUE INDEX attempts_by_remote_id on attempts (remote_id, origin) where remote_id is not null;
CREATE INDEX attempts_open on attempts (batch_id) where status in ('submitting', 'submitted', 'completed', 'uncertain');
CREATE INDEX attempts_unsettled on attempts (batch_id) where settled = 0;
CREATE INDEX attempts_by_time on attempts (created_at);
CREATE INDEX attempts_by_settlement on attempts (account, settled_at) where settled = 1;
CREATE INDEX outputs_by_job on outputs (job_id);
CREATE INDEX events_by_job on events (job_id);
CREATE INDEX usage_by_account on usage_readings (account, read_at);
CREATE INDEX spend_by_day on spend (day);
CREATE TRIGGER attempts_spend_insert after insert on attempts begin
  insert into spend (batch_id, model, day, price_lines, first_attempts, attempts, done, reserved_nusd, charged_nusd, byok_attempts, byok_fee_nusd, byok_held_nusd, unpriced_open, failed_charged_nusd, uncertain, uncertain_nusd, output_ms, billed_ms, billed_ms_nusd, bills, estimated_nusd, billed_nusd)
  values (new.batch_id, new.model, new.day, new.price_lines, new.number = 1, new.status not in ('released', 'rejected'), new.status = 'done', case when new.settled = 0 then coalesce(new.reserved_nusd, 0) else 0 end, case when new.settled = 1 and new.is_byok = 0 then new.cost_nusd else 0 end, new.is_byok, case when new.settled = 1 and new.is_byok = 1 then new.cost_nusd else 0 end, case when new.settled = 1 and new.is_byok = 1 then max(new.cost_nusd, coalesce(new.reserved_nusd, 0)) else 0 end, new.settled = 0 and new.reserved_nusd is null, case when new.settled = 1 and new.is_byok = 0 and (new.status = 'failed' or new.status = 'cancelled' or new.status = 'expired' or new.status = 'lost') then new.cost_nusd else 0 end, new.status = 'uncertain', case when new.status = 'uncertain' then coalesce(new.reserved_nusd, 0) else 0 end, case when new.status = 'done' then cast(round(coalesce(new.output_seconds, 0) * 1000) as integer) else 0 end, case when new.status = 'done' and new.settled = 1 and new.is_byok = 0 and new.output_seconds is not null then cast(round(new.output_seconds * 1000) as integer) else 0 end, case when new.status = 'done' and new.settled = 1 and new.is_byok = 0 and new.output_seconds is not null then new.cost_nusd else 0 end, new.settled = 1 and new.is_byok = 0 and (new.status = 'completed' or new.status = 'done' or new.status = 'lost') and new.estimate_high_nusd is not null, case when new.settled = 1 and new.is_byok = 0 and (new.status = 'completed' or new.status = 'done' or new.status = 'lost') and new.estimate_high_nusd is not null then coalesce(new.estimate_exact_nusd, new.estimate_high_nusd) else 0 end, case when new.settled = 1 and new.is_byok = 0 and (new.status = 'completed' or new.status = 'done' or new.status = 'lost') and new.estimate_high_nusd is not null then new.cost_nusd else 0 end)
  on conflict do update set first_attempts = first_attempts + excluded.first_attempts, attempts = attempts + excluded.attempts, done = done + excluded.done, reserved_nusd = reserved_nusd + excluded.reserved_nusd, charged_nusd = charged_nusd + excluded.charged_nusd, byok_attempts = byok_attempts + excluded.byok_attempts, byok_fee_nusd = byok_fee_nusd + excluded.byok_fee_nusd, byok_held_nusd = byok_held_nusd + excluded.byok_held_nusd, unpriced_open = unpriced_open + excluded.unpriced_open, failed_charged_nusd = failed_charged_nusd + excluded.failed_charged_nusd, uncertain = uncertain + excluded.uncertain, uncertain_nusd = uncertain_nusd + excluded.uncertain_nusd, output_ms = output_ms + excluded.output_ms, billed_ms = billed_ms + excluded.billed_ms, billed_ms_nusd = billed_ms_nusd + excluded.billed_ms_nusd, bills = bills + excluded.bills, estimated_nusd = estimated_nusd + excluded.estimated_nusd, billed_nusd = billed_nusd + excluded.billed_nusd;
end;
CREATE TRIGGER attempts_spend_update after update on attempts begin
  update spend set first_attempts = first_attempts - (old.number = 1) + (new.number = 1), attempts = attempts - (old.status not in ('released', 'rejected')) + (new.status not in ('released', 'rejected')), done = done - (old.status = 'done') + (new.status = 'done'), reserved_nusd = reserved_nusd - (case when old.settled = 0 then coalesce(old.reserved_nusd, 0) else 0 end) + (case when new.settled = 0 then coalesce(new.reserved_nusd, 0) else 0 end), charged_nusd = charged_nusd - (case when old.settled = 1 and old.is_byok = 0 then old.cost_nusd else 0 end) + (case when new.settled = 1 and new.is_byok = 0 then new.cost_nusd else 0 end), byok_attempts = byok_attempts - (old.is_byok) + (new.is_byok), byok_fee_nusd = byok_fee_nusd - (case when old.settled = 1 and old.is_byok = 1 then old.cost_nusd else 0 end) + (case when new.settled = 1 and new.is_byok = 1 then new.cost_nusd else 0 end), byok_held_nusd = byok_held_nusd - (case when old.settled = 1 and old.is_byok = 1 then max(old.cost_nusd, coalesce(old.reserved_nusd, 0)) else 0 end) + (case when new.settled = 1 and new.is_byok = 1 then max(new.cost_nusd, coalesce(new.reserved_nusd, 0)) else 0 end), unpriced_open = unpriced_open - (old.settled = 0 and old.reserved_nusd is null) + (new.settled = 0 and new.reserved_nusd is null), failed_charged_nusd = failed_charged_nusd - (case when old.settled = 1 and old.is_byok = 0 and (old.status = 'failed' or old.status = 'cancelled' or old.status = 'expired' or old.status = 'lost') then old.cost_nusd else 0 end) + (case when new.settled = 1 and new.is_byok = 0 and (new.status = 'failed' or new.status = 'cancelled' or new.status = 'expired' or new.status = 'lost') then new.cost_nusd else 0 end), uncertain = uncertain - (old.status = 'uncertain') + (new.status = 'uncertain'), uncertain_nusd = uncertain_nusd - (case when old.status = 'uncertain' then coalesce(old.reserved_nusd, 0) else 0 end) + (case when new.status = 'uncertain' then coalesce(new.reserved_nusd, 0) else 0 end), output_ms = output_ms - (case when old.status = 'done' then cast(round(coalesce(old.output_seconds, 0) * 1000) as integer) else 0 end) + (case when new.status = 'done' then cast(round(coalesce(new.output_seconds, 0) * 1000) as integer) else 0 end), billed_ms = billed_ms - (case when old.status = 'done' and old.settled = 1 and old.is_byok = 0 and old.output_seconds is not null then cast(round(old.output_seconds * 1000) as integer) else 0 end) + (case when new.status = 'done' and new.settled = 1 and new.is_byok = 0 and new.output_seconds is not null then cast(round(new.output_seconds * 1000) as integer) else 0 end), billed_ms_nusd = billed_ms_nusd - (case when old.status = 'done' and old.settled = 1 and old.is_byok = 0 and old.output_seconds is not null then old.cost_nusd else 0 end) + (case when new.status = 'done' and new.settled = 1 and new.is_byok = 0 and new.output_seconds is not null then new.cost_nusd else 0 end), bills = bills - (old.settled = 1 and old.is_byok = 0 and (old.status = 'completed' or old.status = 'done' or old.status = 'lost') and old.estimate_high_nusd is not null) + (new.settled = 1 and new.is_byok = 0 and (new.status = 'completed' or new.status = 'done' or new.status = 'lost') and new.estimate_high_nusd is not null), estimated_nusd = estimated_nusd - (case when old.settled = 1 and old.is_byok = 0 and (old.status = 'completed' or old.status = 'done' or old.status = 'lost') and old.estimate_high_nusd is not null then coalesce(old.estimate_exact_nusd, old.estimate_high_nusd) else 0 end) + (case when new.settled = 1 and new.is_byok = 0 and (new.status = 'completed' or new.status = 'done' or new.status = 'lost') and new.estimate_high_nusd is not null then coalesce(new.estimate_exact_nusd, new.estimate_high_nusd) else 0 end), billed_nusd = billed_nusd - (case when old.settled = 1 and old.is_byok = 0 and (old.status = 'completed' or old.status = 'done' or old.status = 'lost') and old.estimate_high_nusd is not null then old.cost_nusd else 0 end) + (case when new.settled = 1 and new.is_byok = 0 and (new.status = 'completed' or new.status = 'done' or new.status = 'lost') and new.estimate_high_nusd is not null then new.cost_nusd else 0 end)
  where batch_id = new.batch_id and model = new.model and day = new.day and price_lines = new.price_lines;
end;
CREATE TRIGGER attempts_keep_their_place before update of job_id, batch_id, model, number, day, price_lines on attempts
when (new.job_id, new.batch_id, new.model, new.number, new.day, new.price_lines)
  is not (old.job_id, old.batch_id, old.model, old.number, old.day, old.price_lines) begin
  select raise(abort, 'what an attempt belongs to does not change');
end;
CREATE TRIGGER attempts_stay before delete on attempts begin
  select raise(abort, 'attempts are kept: they may have been paid for');
end;
CREATE TRIGGER events_are_history before update on events begin
  select raise(abort, 'events are append-only');
end;
CREATE TRIGGER events_stay before delete on events begin
  select raise(abort, 'events are append-only');
end;
CREATE VIEW job_report as
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
  (select a.id from attempts a where a.job_id = jobs.id
    order by a.status in ('released', 'rejected'), a.number desc limit 1)
left join outputs first_output on first_output.id =
  (select o.id from outputs o where o.job_id = jobs.id order by o.attempt_id desc, o.number limit 1);
COMMIT;
