-- The role of a license server: it writes tenants, users and their tokens with plain SQL, and
-- nothing else. Run it as a superuser, once the tables are there, and again after an upgrade:
--
--   psql -d nats_callout -f deploy/postgres/license-server.sql
--
-- Then give it a password: \password license_server
--
-- It writes a hash again in an upsert (ON CONFLICT ... SET password_hash = '...'), since EXCLUDED would
-- read it, and rows by INSERT rather than COPY. To be rid of it: DROP OWNED BY license_server; DROP
-- ROLE license_server;
--
-- Within the tenants that it made (tenants.made_by, noted by the database) it does as it likes with
-- users of plain policies and their tokens. It gives no policy, no subject that begins with $, * or
-- >, and no certificate, whose names the database cannot tell from another's. All other tenants,
-- and users with a policy of their own, are to it as if the rows were not there. (The users of a
-- tenant go with the tenant all the same.) It reads no hash, of passwords or tokens, and has no right
-- to accounts, changes, instances or events. The rules are in the tables themselves, by the role's
-- name, whether it is there or not.
--
-- To hand a tenant over to it, or take it away:
--
--   UPDATE tenants SET made_by = 'license_server' WHERE id = '42';
--   UPDATE tenants SET made_by = NULL WHERE id = '42';

BEGIN;

DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'license_server') THEN
    CREATE ROLE license_server LOGIN;
  END IF;
  EXECUTE format('GRANT CONNECT ON DATABASE %I TO license_server', current_database());
  EXECUTE format('GRANT USAGE ON SCHEMA %I TO license_server', current_schema());
  -- Nobody makes tables of his own here, not even temporary ones, unless he was given that right.
  EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', current_schema());
  EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
  -- A time that is written without an offset is one in UTC.
  EXECUTE format('ALTER ROLE license_server IN DATABASE %I SET timezone = %L',
    current_database(), 'UTC');
  -- A program that hangs in a transaction keeps its locks no longer. It may set these for itself:
  -- they stop accidents, not malice.
  EXECUTE format('ALTER ROLE license_server IN DATABASE %I '
    'SET idle_in_transaction_session_timeout = %L', current_database(), '10s');
  EXECUTE format('ALTER ROLE license_server IN DATABASE %I SET statement_timeout = %L',
    current_database(), '30s');
  EXECUTE format('ALTER ROLE license_server IN DATABASE %I SET lock_timeout = %L',
    current_database(), '2s');
END $$;
ALTER ROLE license_server CONNECTION LIMIT 10;

-- What an earlier release gave.
REVOKE ALL ON tenants, users, tokens FROM license_server;

GRANT SELECT, DELETE ON tenants TO license_server;
GRANT INSERT (id, name, status, isolation, js_memory, js_storage, js_streams, js_consumers,
    max_connections, expires_at),
  UPDATE (name, status, isolation, js_memory, js_storage, js_streams, js_consumers,
    max_connections, expires_at)
  ON tenants TO license_server;

GRANT DELETE ON users TO license_server;
GRANT SELECT (name, tenant_id, kind, nkey, certificate, publish, subscribe, policy, status,
    expires_at, last_login_at, created_at, updated_at),
  INSERT (name, tenant_id, kind, password_hash, nkey, publish, subscribe, status, expires_at),
  UPDATE (name, tenant_id, kind, password_hash, nkey, publish, subscribe, status, expires_at)
  ON users TO license_server;

GRANT DELETE ON tokens TO license_server;
GRANT SELECT (id, user_name, label, expires_at, created_at),
  INSERT (user_name, token_hash, label, expires_at)
  ON tokens TO license_server;

GRANT SELECT ON schema_version TO license_server;

COMMIT;
