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

-- One row a decision. No DEFAULT partition: it would hide that a day's own is missing.
CREATE TABLE IF NOT EXISTS zt_audit.decision (
  id uuid NOT NULL,
  time timestamptz NOT NULL,
  verdict text NOT NULL CHECK (verdict IN ('ALLOW', 'DENY')),
  would_be text CHECK (would_be IN ('ALLOW', 'DENY')),                -- where it was only observed
  phase text CHECK (phase IN ('observe', 'canary', 'enforce')),       -- of a declared destination
  source_id text,                                                     -- none was presented: null
  source_pod text,
  source_node text,
  destination_id text NOT NULL,
  destination_port integer NOT NULL CHECK (destination_port BETWEEN 0 AND 65535),
  rule text NOT NULL,                                                 -- policy_matched
  reason text NOT NULL,
  layer text NOT NULL,                                                -- who decided: evaluator, ...
  revision text NOT NULL,                                             -- of the decision table
  latency_us integer CHECK (latency_us >= 0),
  PRIMARY KEY (id, time)
) PARTITION BY RANGE (time);
CREATE INDEX IF NOT EXISTS decision_time ON zt_audit.decision USING brin (time);
REVOKE ALL ON zt_audit.decision FROM PUBLIC;

-- ENABLE ALWAYS: session_replication_role = replica would silence an ordinary trigger.
CREATE OR REPLACE FUNCTION zt_audit.refuse() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RAISE EXCEPTION 'zt_audit.% is append-only: % is refused', TG_TABLE_NAME, TG_OP
    USING ERRCODE = 'restrict_violation';
END
$$;

CREATE OR REPLACE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON zt_audit.decision
  FOR EACH ROW EXECUTE FUNCTION zt_audit.refuse();
CREATE OR REPLACE TRIGGER refuse_truncate BEFORE TRUNCATE ON zt_audit.decision
  FOR EACH STATEMENT EXECUTE FUNCTION zt_audit.refuse();
ALTER TABLE zt_audit.decision ENABLE ALWAYS TRIGGER refuse_change;
ALTER TABLE zt_audit.decision ENABLE ALWAYS TRIGGER refuse_truncate;

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

-- Partitions of some days from the first on; those that exist stay as they are.
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
GRANT INSERT ON zt_audit.decision TO zt_writer;
GRANT SELECT ON zt_audit.decision TO zt_reader;
GRANT EXECUTE ON FUNCTION zt_audit.ensure_partitions(date, integer) TO zt_writer;
GRANT EXECUTE ON FUNCTION zt_audit.drop_before(date) TO zt_retention;

RESET ROLE;
REVOKE zt_owner FROM CURRENT_USER;
