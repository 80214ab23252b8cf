-- What the service reads: the tables with their times as unix seconds. A time that cannot be read
-- becomes 0, long past, so that nothing lives longer for being broken.

CREATE VIEW tenant_records AS
  SELECT t.id AS tenant_id, t.incarnation, t.name AS tenant_name, t.status AS tenant_status, t.isolation,
    t.policy AS tenant_policy, t.account AS placement, a.account AS account, t.js_memory,
    t.js_storage, t.js_streams, t.js_consumers, t.max_connections, t.answers,
    CASE WHEN t.expires_at IS NOT NULL THEN ifnull(CAST(strftime('%s', t.expires_at ||
      substr(':00', 1, 3 * (t.expires_at GLOB '*:*[-+][0-9][0-9]'))) AS INTEGER), 0) END
      AS tenant_expires_at,
    ifnull(CAST(strftime('%s', t.created_at) AS INTEGER), 0) AS tenant_created_at,
    ifnull(CAST(strftime('%s', t.updated_at) AS INTEGER), 0) AS tenant_updated_at
  FROM tenants AS t LEFT JOIN tenant_accounts AS a ON a.tenant_id = t.id;

CREATE VIEW user_records AS
  SELECT u.tenant_id AS user_tenant_id, u.name AS user_name, u.kind, u.password_hash, u.nkey,
    u.certificate, u.publish, u.subscribe, u.policy AS user_policy, u.status AS user_status,
    CASE WHEN u.expires_at IS NOT NULL THEN ifnull(CAST(strftime('%s', u.expires_at ||
      substr(':00', 1, 3 * (u.expires_at GLOB '*:*[-+][0-9][0-9]'))) AS INTEGER), 0) END
      AS user_expires_at,
    CAST(strftime('%s', u.last_login_at) AS INTEGER) AS last_login_at,
    ifnull(CAST(strftime('%s', u.created_at) AS INTEGER), 0) AS user_created_at,
    ifnull(CAST(strftime('%s', u.updated_at) AS INTEGER), 0) AS user_updated_at
  FROM users AS u;

CREATE VIEW login_records AS
  SELECT u.*, t.* FROM user_records AS u JOIN tenant_records AS t ON t.tenant_id = u.user_tenant_id;

-- Without the tokens that INSERT OR REPLACE INTO users left without a user.
CREATE VIEW token_records AS
  SELECT k.id AS token_id, k.user_name, k.token_hash, k.label,
    CASE WHEN k.expires_at IS NOT NULL THEN ifnull(CAST(strftime('%s', k.expires_at ||
      substr(':00', 1, 3 * (k.expires_at GLOB '*:*[-+][0-9][0-9]'))) AS INTEGER), 0) END
      AS token_expires_at,
    ifnull(CAST(strftime('%s', k.created_at) AS INTEGER), 0) AS token_created_at
  FROM tokens AS k JOIN users AS u ON u.name = k.user_name;

-- What connections of a tenant's users depend on, and what its account may use.
CREATE VIEW tenant_grants AS
  SELECT t.id, a.account,
    json_array(t.status, t.isolation, t.policy, t.account) AS grants,
    json_array(t.js_memory, t.js_storage, t.js_streams, t.js_consumers, t.max_connections)
      AS limits,
    r.tenant_expires_at AS ends_at
  FROM tenants AS t JOIN tenant_records AS r ON r.tenant_id = t.id
    LEFT JOIN tenant_accounts AS a ON a.tenant_id = t.id;

-- What connections of a user depend on.
CREATE VIEW user_grants AS
  SELECT u.name, a.account,
    json_array(u.tenant_id, u.kind, u.publish, u.subscribe, u.policy, u.status) AS grants,
    r.user_expires_at AS ends_at
  FROM users AS u JOIN user_records AS r ON r.user_name = u.name
    LEFT JOIN tenant_accounts AS a ON a.tenant_id = u.tenant_id;

-- Changes with their age in seconds by the database's own clock.
CREATE VIEW change_records AS
  SELECT c.seq, c.kind, c.key, c.account, c.closes, c.ends_at, c.pushes,
    max(0.0, (julianday('now') - julianday(c.at)) * 86400.0) AS age
  FROM changes AS c;

-- Which version of this schema the database has.
CREATE VIEW schema_version AS
  SELECT max(version) AS version FROM _sqlx_migrations WHERE success;
