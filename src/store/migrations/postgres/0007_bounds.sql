-- What one writer, and one row, may do to others: whom a license server reaches, how long a row may
-- be, and how much of an event is read at once. The rules bind what is new and what changes: a row
-- from before stays, logs in as it did, and may be changed in all that keeps the rules.

-- Whether whoever asks is the role license_server (deploy/postgres/license-server.sql), or has its
-- rights. A superuser, and the owner of the tables, are bound by nothing here.
CREATE FUNCTION is_license_server() RETURNS BOOLEAN LANGUAGE sql STABLE
  RETURN EXISTS (
    SELECT FROM pg_catalog.pg_roles AS role, pg_catalog.pg_roles AS me
    WHERE role.rolname = 'license_server' AND me.rolname = current_user AND NOT me.rolsuper
      AND pg_catalog.pg_has_role(me.oid, role.oid, 'USAGE'));

-- Who makes a tenant: a role's name, the same for all that have the license server's rights.
CREATE FUNCTION maker() RETURNS TEXT LANGUAGE sql STABLE
  RETURN CASE WHEN is_license_server() THEN 'license_server' ELSE current_user::TEXT END;

-- NULL: not known, from before this was noted. What a license server may have made is left to it: a
-- tenant none of whose users has a policy, or is an admin by the tenant's.
ALTER TABLE tenants ADD COLUMN made_by TEXT COLLATE "C" DEFAULT 'license_server';
ALTER TABLE tenants ALTER COLUMN made_by SET DEFAULT maker();
-- However many rows that are: whoever brings the schema up to date waits, rather than begin in vain.
SET LOCAL statement_timeout = 0;
-- Nothing that an event would tell.
ALTER TABLE tenants DISABLE TRIGGER tenants_tell_update;
UPDATE tenants AS t SET made_by = NULL
  WHERE t.policy = 'admin'
    OR EXISTS (SELECT FROM users AS u WHERE u.tenant_id = t.id AND u.policy IS NOT NULL);
ALTER TABLE tenants ENABLE TRIGGER tenants_tell_update;

-- A policy that gives no more than the user's kind.
CREATE FUNCTION is_plain(policy TEXT) RETURNS BOOLEAN LANGUAGE sql IMMUTABLE
  RETURN policy IS NULL OR policy IN ('bb', 'service');

-- Subjects none of which is a whole account, or an interface of the server's.
CREATE FUNCTION are_plain(list TEXT) RETURNS BOOLEAN LANGUAGE sql IMMUTABLE
  RETURN NOT EXISTS (
    SELECT FROM json_array_elements_text(list::JSON) AS e (value) WHERE e.value ~ '^[$>*]');

-- What the rules below ask of other tables: by the rights of the owner, so that a role with rights to
-- one table needs none to the others.
CREATE FUNCTION is_own_tenant(tenant TEXT) RETURNS BOOLEAN LANGUAGE sql STABLE SECURITY DEFINER
  RETURN EXISTS (
    SELECT FROM tenants AS t
    WHERE t.id = tenant AND t.made_by = 'license_server' AND is_plain(t.policy));

CREATE FUNCTION is_own_user(login TEXT) RETURNS BOOLEAN LANGUAGE sql STABLE SECURITY DEFINER
  RETURN EXISTS (
    SELECT FROM users AS u
    WHERE u.name = login AND is_plain(u.policy) AND is_own_tenant(u.tenant_id));

CREATE FUNCTION has_plain_lists(login TEXT) RETURNS BOOLEAN LANGUAGE sql STABLE SECURITY DEFINER
  RETURN EXISTS (
    SELECT FROM users AS u
    WHERE u.name = login AND is_own_user(login) AND are_plain(u.publish) AND are_plain(u.subscribe));

-- The license server reaches the tenants that it made and their users, unless these have more than
-- a plain policy, and the users' tokens. All else is to it as if the row were not there.
DROP POLICY IF EXISTS license_server ON users;
DROP POLICY IF EXISTS others ON users;
ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
ALTER TABLE users ENABLE ROW LEVEL SECURITY;
ALTER TABLE tokens ENABLE ROW LEVEL SECURITY;
CREATE POLICY reach ON tenants
  USING ((SELECT NOT is_license_server()) OR made_by = 'license_server');
CREATE POLICY reach ON users
  USING ((SELECT NOT is_license_server()) OR (is_plain(policy) AND is_own_tenant(tenant_id)));
-- A user that the license server could not have made gets no credential by it.
CREATE POLICY reach ON tokens
  USING ((SELECT NOT is_license_server()) OR is_own_user(user_name))
  WITH CHECK ((SELECT NOT is_license_server()) OR has_plain_lists(user_name));

-- After the row's own checks, so that the lists are lists.
CREATE FUNCTION bound_license_server() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
  PERFORM holds(are_plain(NEW.publish),
    'users.publish: a license server grants no subject that begins with $, * or >');
  PERFORM holds(are_plain(NEW.subscribe),
    'users.subscribe: a license server grants no subject that begins with $, * or >');
  RETURN NULL;
END $$;
CREATE TRIGGER users_bound_license_server
  AFTER INSERT OR UPDATE OF name, tenant_id, kind, password_hash, nkey, publish, subscribe ON users
  FOR EACH ROW WHEN (is_license_server()) EXECUTE FUNCTION bound_license_server();

-- A certificate has names that are not in the table, so that nobody can tell whether it is another's.
DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'license_server') THEN
    REVOKE INSERT (certificate), UPDATE (certificate) ON users FROM license_server;
  END IF;
END $$;

-- How long the texts may be whose form bounds nothing: what a row holds goes into a JWT, and into
-- events.
CREATE FUNCTION list_limit() RETURNS INT LANGUAGE sql IMMUTABLE RETURN 65536;
CREATE FUNCTION incarnation_limit() RETURNS INT LANGUAGE sql IMMUTABLE RETURN 64;

-- Before the row's own checks, which read the whole of it.
CREATE FUNCTION bound_user() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' OR NEW.publish IS DISTINCT FROM OLD.publish THEN
    PERFORM holds(octet_length(NEW.publish) <= list_limit(),
      'users.publish: at most 65536 bytes; a wildcard says the same in less');
  END IF;
  IF TG_OP = 'INSERT' OR NEW.subscribe IS DISTINCT FROM OLD.subscribe THEN
    PERFORM holds(octet_length(NEW.subscribe) <= list_limit(),
      'users.subscribe: at most 65536 bytes; a wildcard says the same in less');
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER users_bound BEFORE INSERT OR UPDATE OF publish, subscribe ON users FOR EACH ROW
  EXECUTE FUNCTION bound_user();

CREATE FUNCTION bound_tenant() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
  PERFORM holds(octet_length(NEW.incarnation) <= incarnation_limit(),
    'tenants.incarnation: at most 64 bytes; leave it to the database');
  RETURN NEW;
END $$;
CREATE TRIGGER tenants_bound BEFORE INSERT ON tenants FOR EACH ROW EXECUTE FUNCTION bound_tenant();

-- The rows from before that could not be written today.
CREATE VIEW misfits (tbl, key, col) AS
  SELECT 'users', name, 'publish' FROM users WHERE octet_length(publish) > list_limit()
  UNION ALL
  SELECT 'users', name, 'subscribe' FROM users WHERE octet_length(subscribe) > list_limit()
  UNION ALL
  SELECT 'tenants', id, 'incarnation' FROM tenants
  WHERE octet_length(incarnation) > incarnation_limit();

-- Events without data that no message could hold. What is large even as it is stored is not read
-- for that.
CREATE OR REPLACE VIEW outbox_records AS
  SELECT seq, id, type, tenant_id, subject,
    to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS at,
    CASE WHEN pg_column_size(data) > 524288 OR octet_length(data::TEXT) > 524288
      THEN '{"omitted":true}' ELSE data::TEXT END AS data
  FROM outbox;

-- As in 0004: whatever the search path of whoever writes a row.
DO $$
DECLARE
  name TEXT;
BEGIN
  FOREACH name IN ARRAY ARRAY['bound_license_server()', 'bound_user()', 'bound_tenant()'] LOOP
    EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', name, current_schema());
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', name);
  END LOOP;
END $$;
