-- The audit trail of hanzo. Apply it in one transaction: psql --single-transaction -f schema.sql
-- The one who applies it needs CREATEROLE and CREATE on the database; a superuser has both.

-- Roles: zt_owner owns, zt_writer inserts, zt_reader selects, zt_retention drops what is old.
DO $$
DECLARE
  wanted text;
BEGIN
  FOREACH wanted IN ARRAY ARRAY['zt_owner', 'zt_writer', 'zt_reader', 'zt_retention'] LOOP
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wanted) THEN
      EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', wanted);
    END IF;
  END LOOP;
END
$$;

-- Everything below is made as the owner, so that nothing belongs to who applies this.
GRANT zt_owner TO CURRENT_USER;
CREATE SCHEMA IF NOT EXISTS zt_audit AUTHORIZATION zt_owner;
SET ROLE zt_owner;
REVOKE ALL ON SCHEMA zt_audit FROM PUBLIC;

-- What decisions say. Equal connections have equal outcomes, so one row serves many decisions; its
-- ID is the hash of its canonical encoding.
CREATE TABLE IF NOT EXISTS zt_audit.outcome (
  id uuid PRIMARY KEY,
  verdict text NOT NULL CHECK (verdict IN ('ALLOW', 'DENY')),
  would_be text NOT NULL CHECK (would_be IN ('ALLOW', 'DENY')),       -- were it enforced
  phase text NOT NULL CHECK (phase IN ('observe', 'canary', 'enforce')),
  source_id text,                                                     -- none was presented: null
  source_pod text,
  source_node text,
  destination_id text NOT NULL,
  destination_port integer NOT NULL CHECK (destination_port BETWEEN 0 AND 65535),
  rule text NOT NULL,                                                 -- policy_matched
  reason text NOT NULL,
  layer text NOT NULL,                                                -- who decided: evaluator, ...
  revision text NOT NULL,                                             -- of the decision table
  on_behalf_of text
);

-- One row a decision. No DEFAULT partition: it would hide that a day's own is missing. No foreign
-- key: it would lock a row of outcome for every decision, and verification finds what is missing.
CREATE TABLE IF NOT EXISTS zt_audit.decision (
  id uuid NOT NULL,
  time timestamptz NOT NULL,
  outcome uuid NOT NULL,
  latency_us integer NOT NULL CHECK (latency_us >= 0),
  PRIMARY KEY (time, id)
) PARTITION BY RANGE (time);
CREATE INDEX IF NOT EXISTS decision_outcome ON zt_audit.decision (outcome, time);

-- The ledger: which stretch of a writer's records is in the trail, and the root of their hashes.
-- Records that were lost are a stretch as well; its root is the hash of nothing.
CREATE TABLE IF NOT EXISTS zt_audit.batch (
  number bigint PRIMARY KEY,
  writer bigint NOT NULL CHECK (writer >= 0),
  first bigint NOT NULL CHECK (first >= 1),
  last bigint NOT NULL,
  since timestamptz,
  until timestamptz,
  root bytea NOT NULL CHECK (octet_length(root) = 32),
  chain bytea NOT NULL CHECK (octet_length(chain) = 32),
  committed timestamptz NOT NULL DEFAULT now(),
  UNIQUE (writer, first),
  CHECK (last >= first),
  CHECK ((since IS NULL) = (root = sha256(''))),
  CHECK ((since IS NULL) = (until IS NULL))
);

-- Who called whom, by hour, by day and ever; source_id is '' where none was presented. Kept from
-- the decisions and no evidence itself, so the owner's function may change it.
CREATE TABLE IF NOT EXISTS zt_audit.edge_count (
  span text NOT NULL CHECK (span IN ('hour', 'day', 'ever')),
  start timestamptz NOT NULL,                                         -- of 'ever': the epoch
  source_id text NOT NULL,
  destination_id text NOT NULL,
  destination_port integer NOT NULL,
  allowed bigint NOT NULL,
  denied bigint NOT NULL,
  would_deny bigint NOT NULL,                                         -- some of those allowed
  last_seen timestamptz NOT NULL,
  PRIMARY KEY (span, start, source_id, destination_id, destination_port)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

CREATE OR REPLACE VIEW zt_audit.trail AS
SELECT decision.id, time, latency_us, verdict, would_be, phase, source_id, source_pod, source_node,
  destination_id, destination_port, rule, reason, layer, revision, on_behalf_of
FROM zt_audit.decision JOIN zt_audit.outcome ON outcome.id = decision.outcome;

REVOKE ALL ON ALL TABLES IN SCHEMA zt_audit FROM PUBLIC;

-- ENABLE ALWAYS: session_replication_role = replica would silence an ordinary trigger.
CREATE OR REPLACE FUNCTION zt_audit.refuse() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RAISE EXCEPTION 'zt_audit.% is append-only: % is refused', TG_TABLE_NAME, TG_OP
    USING ERRCODE = 'restrict_violation';
END
$$;

DO $$
DECLARE
  kept text;
BEGIN
  FOREACH kept IN ARRAY ARRAY['decision', 'outcome', 'batch'] LOOP
    EXECUTE pg_catalog.format(
      'CREATE OR REPLACE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON zt_audit.%1$I '
      'FOR EACH ROW EXECUTE FUNCTION zt_audit.refuse(); '
      'CREATE OR REPLACE TRIGGER refuse_truncate BEFORE TRUNCATE ON zt_audit.%1$I '
      'FOR EACH STATEMENT EXECUTE FUNCTION zt_audit.refuse(); '
      'ALTER TABLE zt_audit.%1$I ENABLE ALWAYS TRIGGER refuse_change; '
      'ALTER TABLE zt_audit.%1$I ENABLE ALWAYS TRIGGER refuse_truncate', kept);
  END LOOP;
END
$$;

-- The last record of a writer that the trail has; 0 if none. A drainer goes on behind it.
CREATE OR REPLACE FUNCTION zt_audit.last_recorded(writer bigint) RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(
    (SELECT last FROM zt_audit.batch WHERE batch.writer = last_recorded.writer
     ORDER BY first DESC LIMIT 1), 0)
$$;

-- Enters a stretch of records into the ledger, chained to the one before:
-- chain = SHA256(0x02 || chain before || number || writer || first || last || root), integers in
-- eight bytes, big end first; before the first are 32 zero bytes. One stretch at a time, and only
-- where the writer's last one ended: whoever drains the same records again fails as a whole.
CREATE OR REPLACE FUNCTION zt_audit.microseconds(moment timestamptz) RETURNS bytea
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT int8send(coalesce((extract(epoch FROM moment) * 1000000)::bigint, -9223372036854775808))
$$;

CREATE OR REPLACE FUNCTION zt_audit.add_batch(
  writer bigint, first bigint, last bigint, since timestamptz, until timestamptz, root bytea,
  OUT number bigint, OUT chain bytea)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('zt_audit.batch', 0));
  IF first IS DISTINCT FROM zt_audit.last_recorded(writer) + 1 THEN
    RAISE EXCEPTION 'writer % is recorded until %, a batch from % on does not follow',
      writer, zt_audit.last_recorded(writer), first
      USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  SELECT kept.number, kept.chain INTO number, chain
    FROM zt_audit.batch AS kept ORDER BY kept.number DESC LIMIT 1;
  number := coalesce(number, 0) + 1;
  chain := sha256(decode('02', 'hex') || coalesce(chain, decode(repeat('00', 32), 'hex'))
    || int8send(number) || int8send(writer) || int8send(first) || int8send(last)
    || zt_audit.microseconds(since) || zt_audit.microseconds(until) || root);
  INSERT INTO zt_audit.batch (number, writer, first, last, since, until, root, chain)
    VALUES (number, writer, first, last, since, until, root, chain);
END
$$;

-- Adds to the counts of edges; each list has an item an edge, whose records are of one hour.
CREATE OR REPLACE FUNCTION zt_audit.add_counts(
  sources text[], destinations text[], ports integer[], allowed bigint[], denied bigint[],
  would_deny bigint[], last_seen timestamptz[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  INSERT INTO zt_audit.edge_count AS kept
  SELECT span, start, source, destination, port, sum(a), sum(d), sum(w), max(seen)
  FROM unnest(sources, destinations, ports, allowed, denied, would_deny, last_seen)
      AS edge (source, destination, port, a, d, w, seen)
    CROSS JOIN LATERAL (VALUES
      ('hour', date_trunc('hour', seen, 'UTC')),
      ('day', date_trunc('day', seen, 'UTC')),
      ('ever', to_timestamp(0))) AS spans (span, start)
  GROUP BY 1, 2, 3, 4, 5
  ORDER BY 1, 2, 3, 4, 5
  ON CONFLICT (span, start, source_id, destination_id, destination_port) DO UPDATE SET
    allowed = kept.allowed + excluded.allowed,
    denied = kept.denied + excluded.denied,
    would_deny = kept.would_deny + excluded.would_deny,
    last_seen = greatest(kept.last_seen, excluded.last_seen)
$$;

-- Mesh hanzo: lifetimes.audit
CREATE OR REPLACE FUNCTION zt_audit.retention_days() RETURNS integer
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS 'SELECT 365';

-- A day's partition, in UTC. LIKE and ATTACH, because PARTITION OF would stop all writers.
CREATE OR REPLACE FUNCTION zt_audit.add_partition(day date) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  part text := 'decision_' || to_char(day, 'YYYYMMDD');
BEGIN
  IF to_regclass(format('zt_audit.%I', part)) IS NOT NULL THEN
    RETURN;
  END IF;
  EXECUTE format(
    'CREATE TABLE zt_audit.%I (LIKE zt_audit.decision INCLUDING DEFAULTS INCLUDING CONSTRAINTS)',
    part);
  EXECUTE format('REVOKE ALL ON zt_audit.%I FROM PUBLIC', part);
  EXECUTE format(
    'ALTER TABLE zt_audit.decision ATTACH PARTITION zt_audit.%I FOR VALUES FROM (%L) TO (%L)',
    part, day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC');
  -- Row triggers come with ATTACH, those of TRUNCATE do not.
  EXECUTE format(
    'CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON zt_audit.%I '
    'FOR EACH STATEMENT EXECUTE FUNCTION zt_audit.refuse()', part);
  EXECUTE format('ALTER TABLE zt_audit.%I ENABLE ALWAYS TRIGGER refuse_truncate', part);
END
$$;

-- Partitions of some days from the first on; those that exist stay as they are. As this is called
-- daily, counts by hour that nobody reads any more go at the same time.
CREATE OR REPLACE FUNCTION zt_audit.ensure_partitions(first date, days integer) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  today date := (now() AT TIME ZONE 'UTC')::date;
BEGIN
  IF days NOT BETWEEN 1 AND 31
    OR first NOT BETWEEN today - zt_audit.retention_days() AND today + 31
  THEN
    RAISE EXCEPTION 'partitions are made for 1 to 31 days, within the last % days and the next 31',
      zt_audit.retention_days() USING ERRCODE = 'invalid_parameter_value';
  END IF;
  PERFORM pg_advisory_xact_lock(hashtextextended('zt_audit.ensure_partitions', 0));
  FOR number IN 0 .. days - 1 LOOP
    PERFORM zt_audit.add_partition(first + number);
  END LOOP;
  DELETE FROM zt_audit.edge_count WHERE span = 'hour' AND start < now() - interval '9 days'
    OR span = 'day' AND start < now() - make_interval(days => zt_audit.retention_days() + 1);
END
$$;

-- Drops the days before one, and returns their tables. A drop waits for readers, and writers wait
-- for the drop: so it gives up after five seconds and is to be tried again.
CREATE OR REPLACE FUNCTION zt_audit.drop_before(day date) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
  oldest date := (now() AT TIME ZONE 'UTC')::date - zt_audit.retention_days();
  part text;
BEGIN
  IF day IS NULL OR day > oldest THEN
    RAISE EXCEPTION 'audit records are kept % days: nothing from % on may be dropped, % was asked',
      zt_audit.retention_days(), oldest, day USING ERRCODE = 'restrict_violation';
  END IF;
  FOR part IN
    SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
    WHERE inhparent = 'zt_audit.decision'::regclass
      AND relname < 'decision_' || to_char(day, 'YYYYMMDD')
    ORDER BY relname
  LOOP
    EXECUTE format('DROP TABLE zt_audit.%I', part);
    RAISE LOG 'zt_audit: % was dropped by %', part, session_user;
    RETURN NEXT part;
  END LOOP;
END
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA zt_audit FROM PUBLIC;
GRANT USAGE ON SCHEMA zt_audit TO zt_writer, zt_reader, zt_retention;
GRANT INSERT ON zt_audit.decision, zt_audit.outcome TO zt_writer;
GRANT SELECT ON zt_audit.decision, zt_audit.outcome, zt_audit.batch, zt_audit.edge_count,
  zt_audit.trail TO zt_reader;
GRANT EXECUTE ON FUNCTION zt_audit.ensure_partitions(date, integer),
  zt_audit.last_recorded(bigint),
  zt_audit.add_batch(bigint, bigint, bigint, timestamptz, timestamptz, bytea),
  zt_audit.add_counts(text[], text[], integer[], bigint[], bigint[], bigint[], timestamptz[])
  TO zt_writer;
GRANT EXECUTE ON FUNCTION zt_audit.retention_days() TO zt_reader, zt_retention;
GRANT EXECUTE ON FUNCTION zt_audit.drop_before(date) TO zt_retention;

RESET ROLE;
REVOKE zt_owner FROM CURRENT_USER;
