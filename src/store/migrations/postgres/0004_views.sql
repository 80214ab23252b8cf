-- What the service reads: the tables with their times as unix seconds.

CREATE FUNCTION datetime(seconds BIGINT, unit TEXT) RETURNS TIMESTAMPTZ LANGUAGE sql IMMUTABLE
  RETURN CASE WHEN unit = 'unixepoch' THEN to_timestamp(seconds) END;

CREATE VIEW tenant_records AS
  SELECT t.id AS tenant_id, t.incarnation, t.name AS tenant_name, t.status AS tenant_status,
    t.isolation, t.policy AS tenant_policy, t.account AS placement, a.account AS account,
    t.js_memory, t.js_storage, t.js_streams, t.js_consumers, t.max_connections, t.answers,
    unix_seconds(t.expires_at) AS tenant_expires_at,
    unix_seconds(t.created_at) AS tenant_created_at,
    unix_seconds(t.updated_at) AS tenant_updated_at
  FROM tenants AS t LEFT JOIN tenant_accounts AS a ON a.tenant_id = t.id;

CREATE VIEW user_records AS
  SELECT u.tenant_id AS user_tenant_id, u.name AS user_name, u.kind, u.password_hash, u.nkey,
    u.certificate, u.publish, u.subscribe, u.policy AS user_policy, u.status AS user_status,
    unix_seconds(u.expires_at) AS user_expires_at,
    unix_seconds(u.last_login_at) AS last_login_at,
    unix_seconds(u.created_at) AS user_created_at,
    unix_seconds(u.updated_at) AS user_updated_at
  FROM users AS u;

CREATE VIEW login_records AS
  SELECT u.*, t.* FROM user_records AS u JOIN tenant_records AS t ON t.tenant_id = u.user_tenant_id;

CREATE VIEW token_records AS
  SELECT k.id AS token_id, k.user_name, k.token_hash, k.label,
    unix_seconds(k.expires_at) AS token_expires_at,
    unix_seconds(k.created_at) AS token_created_at
  FROM tokens AS k;

-- Changes with their age in seconds by the database's own clock.
CREATE VIEW change_records AS
  SELECT c.seq, c.kind, c.key, c.account, c.closes, c.ends_at, c.pushes,
    greatest(0, extract(epoch FROM clock_timestamp() - c.at))::FLOAT8 AS age
  FROM changes AS c;

-- Which version of this schema the database has.
CREATE VIEW schema_version AS
  SELECT max(version) AS version FROM _sqlx_migrations WHERE success;

-- Whatever the search path of whoever writes a row, the functions find these tables, and nothing
-- that somebody else has put in the way. What has its owner's rights is nobody else's to attach to
-- a table of his own.
DO $$
DECLARE
  name TEXT;
BEGIN
  FOREACH name IN ARRAY ARRAY['holds_subjects(TEXT, TEXT)', 'holds_time(TIMESTAMPTZ, TEXT)',
    'delete_users()', 'prune_changes()', 'note_pruned()', 'stamp_change()', 'note_tenant()',
    'note_user()', 'note_token()', 'note_account()', 'prune_instances()']
  LOOP
    EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', name, current_schema());
    IF name LIKE '%()' THEN
      EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', name);
    END IF;
  END LOOP;
END $$;
