-- The role of a license server: it inserts, updates and deletes tenants and users with plain SQL, and
-- nothing else. Run it as the owner of the tables or a superuser, once they are there, and again
-- after an upgrade:
--
--   psql -d nats_callout -f deploy/postgres/license-server.sql
--
-- Then give it a password: \password license_server
--
-- It writes a hash again in an upsert (ON CONFLICT ... SET password_hash = '...'), since EXCLUDED would
-- read it, and users by INSERT rather than COPY. To be rid of it: DROP OWNED BY license_server; DROP
-- ROLE license_server;
--
-- It cannot make an admin: it gives no policy, neither to a user nor to a tenant, and a user who has
-- one, or whose tenant's users are admins, is out of its reach, as if the row were not there. (The
-- users of a tenant go with the tenant all the same.) It reads no password hash and no key, and has
-- no right to tokens, accounts, changes, instances or events.

BEGIN;

DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'license_server') THEN
    CREATE ROLE license_server LOGIN;
  END IF;
  EXECUTE format('GRANT USAGE ON SCHEMA %I TO license_server', current_schema());
  -- Nobody makes tables of his own here, not even temporary ones, unless he was given that right.
  EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', current_schema());
  EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
  -- A time that is written without an offset is one in UTC.
  EXECUTE format('ALTER ROLE license_server IN DATABASE %I SET timezone = %L',
    current_database(), 'UTC');
END $$;

GRANT SELECT, DELETE ON tenants TO license_server;
GRANT INSERT (id, name, status, isolation, js_memory, js_storage, js_streams, js_consumers,
    max_connections, expires_at),
  UPDATE (name, status, isolation, js_memory, js_storage, js_streams, js_consumers,
    max_connections, expires_at)
  ON tenants TO license_server;

GRANT DELETE ON users TO license_server;
GRANT SELECT (name, tenant_id, kind, publish, subscribe, policy, status, expires_at, last_login_at,
    created_at, updated_at),
  INSERT (name, tenant_id, kind, password_hash, nkey, certificate, publish, subscribe, status,
    expires_at),
  UPDATE (name, tenant_id, kind, password_hash, nkey, certificate, publish, subscribe, status,
    expires_at)
  ON users TO license_server;

GRANT SELECT ON schema_version TO license_server;

-- The owner of the table, and so the service's triggers, are not bound by this; nor is any other role
-- that has been given rights to the table.
ALTER TABLE users ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS license_server ON users;
DROP POLICY IF EXISTS others ON users;
CREATE POLICY license_server ON users TO license_server
  USING (policy IS NULL AND NOT EXISTS (
    SELECT FROM tenants AS t WHERE t.id = tenant_id AND t.policy = 'admin'));
-- By name: it goes on holding for the others when the role is gone, or not there after a restore.
CREATE POLICY others ON users USING (NOT EXISTS (
  SELECT FROM pg_roles AS r WHERE r.rolname = 'license_server' AND pg_has_role(r.oid, 'USAGE')));

COMMIT;
