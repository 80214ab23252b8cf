-- Every change of a tenant or a user is an event in `outbox`, written in the changing transaction.
-- The service publishes it, and deletes the row by its id once the stream has it.
--
-- No event: a statement that changes nothing, a login (last_login_at), the times of a row, a hash
-- that the service replaced by another of the same password, the account that a tenant is given
-- (tenant_accounts). A change of a user's tokens is one of the user, `changed` being ["tokens"].
-- INSERT OR REPLACE of a row that exists is an update. No event holds a hash.

CREATE TABLE outbox (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  -- The event's own id, by which the stream knows a repetition.
  id TEXT NOT NULL UNIQUE DEFAULT (lower(hex(randomblob(16))))
    CHECK (typeof(id) = 'text' AND length(id) BETWEEN 1 AND 64 AND id NOT GLOB '*[^0-9A-Za-z-]*'),
  type TEXT NOT NULL CHECK (type IN ('auth.tenant.created', 'auth.tenant.updated',
    'auth.tenant.removed', 'auth.user.created', 'auth.user.updated', 'auth.user.removed')),
  tenant_id TEXT NOT NULL CHECK (typeof(tenant_id) = 'text'),
  -- The tenant's id, or the user's name.
  subject TEXT NOT NULL CHECK (typeof(subject) = 'text'),
  at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
    CHECK (strftime('%Y-%m-%dT%H:%M:%fZ', at) IS at),
  data TEXT NOT NULL
    CHECK (CASE WHEN json_valid(data) THEN json_type(data) = 'object' ELSE FALSE END)
);

-- Which instance does what only one of them does at a time, until when, in milliseconds of unix
-- time by the database's own clock.
CREATE TABLE leases (
  name TEXT PRIMARY KEY NOT NULL,
  holder TEXT NOT NULL,
  until INTEGER NOT NULL
);

CREATE VIEW clock AS
  SELECT CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) AS now_ms;

CREATE VIEW lease_records AS
  SELECT l.name, l.holder, l.until - c.now_ms AS left_ms FROM leases AS l, clock AS c;

CREATE VIEW outbox_records AS SELECT seq, id, type, tenant_id, subject, at, data FROM outbox;

-- The user whose hash is being replaced by one of the same password; empty outside of that
-- transaction.
CREATE TABLE rehashes (
  user_name TEXT PRIMARY KEY NOT NULL
);

-- What a row said that is about to be changed or replaced: one row for each kind, for the time
-- between what runs before the change and what runs after it.
CREATE TABLE outbox_before (
  kind TEXT NOT NULL,
  -- As it will be called; what is no name at all is refused in a moment.
  key TEXT,
  tenant_id TEXT NOT NULL,
  facts TEXT NOT NULL,
  new_password INTEGER NOT NULL DEFAULT 0
);

-- What events say of a row.
CREATE VIEW tenant_facts AS
  SELECT t.id, json_object('name', t.name, 'status', t.status, 'isolation', t.isolation,
    'policy', t.policy, 'account', t.account, 'js_memory', t.js_memory, 'js_storage', t.js_storage,
    'js_streams', t.js_streams, 'js_consumers', t.js_consumers,
    'max_connections', t.max_connections,
    'answers', json(CASE WHEN t.answers THEN 'true' ELSE 'false' END),
    'expires_at', strftime('%Y-%m-%dT%H:%M:%SZ', t.expires_at ||
      substr(':00', 1, 3 * (t.expires_at GLOB '*:*[-+][0-9][0-9]')))) AS facts
  FROM tenants AS t;

CREATE VIEW user_facts AS
  SELECT u.name, u.tenant_id, json_object('name', u.name, 'tenant_id', u.tenant_id,
    'kind', u.kind, 'nkey', u.nkey, 'certificate', u.certificate, 'publish', json(u.publish),
    'subscribe', json(u.subscribe), 'policy', u.policy, 'status', u.status,
    'expires_at', strftime('%Y-%m-%dT%H:%M:%SZ', u.expires_at ||
      substr(':00', 1, 3 * (u.expires_at GLOB '*:*[-+][0-9][0-9]')))) AS facts
  FROM users AS u;

-- Writing a row here notes an update: the columns that differ, by name and with their new values,
-- and what a user was called, and whose it was, before. Nothing differs, nothing is noted.
CREATE VIEW updates (type, tenant_id, subject, before, after, new_password) AS
  SELECT NULL, NULL, NULL, NULL, NULL, NULL WHERE FALSE;

CREATE TRIGGER updates_note INSTEAD OF INSERT ON updates BEGIN
  INSERT INTO outbox (type, tenant_id, subject, data)
    SELECT NEW.type, NEW.tenant_id, NEW.subject, d.data
    FROM (
      SELECT count(*) AS differing, json_group_object(f.key, json(f.value)) AS data
      FROM (
        SELECT 'changed' AS key, json_group_array(c.key) AS value, count(*) AS differing
        FROM (
          SELECT n.key FROM json_each(NEW.after) AS n JOIN json_each(NEW.before) AS o
            ON o.key = n.key WHERE n.value IS NOT o.value OR n.type <> o.type
          UNION ALL SELECT 'password_hash' WHERE NEW.new_password
        ) AS c
        UNION ALL
        SELECT n.key, CASE n.type WHEN 'array' THEN n.value WHEN 'text' THEN json_quote(n.value)
          WHEN 'integer' THEN CAST(n.value AS TEXT) ELSE n.type END, 1
        FROM json_each(NEW.after) AS n JOIN json_each(NEW.before) AS o
          ON o.key = n.key WHERE n.value IS NOT o.value OR n.type <> o.type
        UNION ALL
        SELECT 'previous_' || n.key, json_quote(o.value), 1
        FROM json_each(NEW.after) AS n JOIN json_each(NEW.before) AS o
          ON o.key = n.key WHERE n.value IS NOT o.value
            AND NEW.type = 'auth.user.updated' AND n.key IN ('name', 'tenant_id')
      ) AS f
      WHERE f.differing > 0
    ) AS d
    WHERE d.differing > 0;
END;

CREATE TRIGGER tenants_insert_event_before BEFORE INSERT ON tenants BEGIN
  DELETE FROM outbox_before WHERE kind = 'tenant';
  INSERT INTO outbox_before (kind, key, tenant_id, facts)
    SELECT 'tenant', id, id, facts FROM tenant_facts WHERE id = NEW.id;
END;

CREATE TRIGGER tenants_insert_event AFTER INSERT ON tenants BEGIN
  INSERT INTO updates (type, tenant_id, subject, before, after, new_password)
    SELECT 'auth.tenant.updated', f.id, f.id, b.facts, f.facts, 0
    FROM tenant_facts AS f JOIN outbox_before AS b ON b.kind = 'tenant' AND b.key = f.id
    WHERE f.id = NEW.id;
  INSERT INTO outbox (type, tenant_id, subject, data)
    SELECT 'auth.tenant.created', f.id, f.id, f.facts FROM tenant_facts AS f WHERE f.id = NEW.id
      AND NOT EXISTS (SELECT 1 FROM outbox_before AS b WHERE b.kind = 'tenant' AND b.key = f.id);
  DELETE FROM outbox_before WHERE kind = 'tenant';
END;

CREATE TRIGGER tenants_update_event_before BEFORE UPDATE OF
  name, status, isolation, policy, account, js_memory, js_storage, js_streams, js_consumers,
  max_connections, answers, expires_at ON tenants
BEGIN
  DELETE FROM outbox_before WHERE kind = 'tenant';
  INSERT INTO outbox_before (kind, key, tenant_id, facts)
    SELECT 'tenant', id, id, facts FROM tenant_facts WHERE id = OLD.id;
END;

CREATE TRIGGER tenants_update_event AFTER UPDATE OF
  name, status, isolation, policy, account, js_memory, js_storage, js_streams, js_consumers,
  max_connections, answers, expires_at ON tenants
BEGIN
  INSERT INTO updates (type, tenant_id, subject, before, after, new_password)
    SELECT 'auth.tenant.updated', f.id, f.id, b.facts, f.facts, 0
    FROM tenant_facts AS f JOIN outbox_before AS b ON b.kind = 'tenant' AND b.key = f.id
    WHERE f.id = NEW.id;
  DELETE FROM outbox_before WHERE kind = 'tenant';
END;

-- Where a client has REPLACE fire these, a row that is replaced is one that was removed.
CREATE TRIGGER tenants_delete_event AFTER DELETE ON tenants BEGIN
  DELETE FROM outbox_before WHERE kind = 'tenant' AND key = OLD.id;
  INSERT INTO outbox (type, tenant_id, subject, data)
    VALUES ('auth.tenant.removed', OLD.id, OLD.id, json_object('name', OLD.name));
END;

CREATE TRIGGER users_insert_event_before BEFORE INSERT ON users BEGIN
  DELETE FROM outbox_before WHERE kind = 'user';
  INSERT INTO outbox_before (kind, key, tenant_id, facts, new_password)
    SELECT 'user', u.name, f.tenant_id, f.facts, u.password_hash IS NOT NEW.password_hash
    FROM users AS u JOIN user_facts AS f ON f.name = u.name WHERE u.name = NEW.name;
END;

CREATE TRIGGER users_insert_event AFTER INSERT ON users BEGIN
  INSERT INTO updates (type, tenant_id, subject, before, after, new_password)
    SELECT 'auth.user.updated', f.tenant_id, f.name, b.facts, f.facts, b.new_password
    FROM user_facts AS f JOIN outbox_before AS b ON b.kind = 'user' AND b.key = f.name
    WHERE f.name = NEW.name;
  INSERT INTO outbox (type, tenant_id, subject, data)
    SELECT 'auth.user.created', f.tenant_id, f.name, f.facts
    FROM user_facts AS f WHERE f.name = NEW.name
      AND NOT EXISTS (SELECT 1 FROM outbox_before AS b WHERE b.kind = 'user' AND b.key = f.name);
  DELETE FROM outbox_before WHERE kind = 'user';
END;

CREATE TRIGGER users_update_event_before BEFORE UPDATE OF
  name, tenant_id, kind, password_hash, nkey, certificate, publish, subscribe, policy, status,
  expires_at ON users
BEGIN
  DELETE FROM outbox_before WHERE kind = 'user';
  INSERT INTO outbox_before (kind, key, tenant_id, facts, new_password)
    SELECT 'user', NEW.name, f.tenant_id, f.facts, NEW.password_hash IS NOT OLD.password_hash
      AND NOT EXISTS (SELECT 1 FROM rehashes WHERE user_name = OLD.name)
    FROM user_facts AS f WHERE f.name = OLD.name;
END;

CREATE TRIGGER users_update_event AFTER UPDATE OF
  name, tenant_id, kind, password_hash, nkey, certificate, publish, subscribe, policy, status,
  expires_at ON users
BEGIN
  INSERT INTO updates (type, tenant_id, subject, before, after, new_password)
    SELECT 'auth.user.updated', f.tenant_id, f.name, b.facts, f.facts, b.new_password
    FROM user_facts AS f JOIN outbox_before AS b ON b.kind = 'user' AND b.key = f.name
    WHERE f.name = NEW.name;
  DELETE FROM outbox_before WHERE kind = 'user';
END;

CREATE TRIGGER users_delete_event AFTER DELETE ON users BEGIN
  DELETE FROM outbox_before WHERE kind = 'user' AND key = OLD.name;
  INSERT INTO outbox (type, tenant_id, subject, data) VALUES ('auth.user.removed', OLD.tenant_id,
    OLD.name, json_object('name', OLD.name, 'tenant_id', OLD.tenant_id, 'kind', OLD.kind));
END;

-- Writing a row here notes a change of a token of a user who is there: the tokens of one who is
-- being removed or renamed go the same way without a word.
CREATE VIEW token_updates (user_name, token, change) AS SELECT NULL, NULL, NULL WHERE FALSE;

CREATE TRIGGER token_updates_note INSTEAD OF INSERT ON token_updates BEGIN
  INSERT INTO outbox (type, tenant_id, subject, data)
    SELECT 'auth.user.updated', u.tenant_id, u.name, json_object('changed', json_array('tokens'),
      'token', json_object('id', NEW.token, 'change', NEW.change))
    FROM users AS u WHERE u.name = NEW.user_name;
END;

CREATE TRIGGER tokens_insert_event_before BEFORE INSERT ON tokens BEGIN
  DELETE FROM outbox_before WHERE kind = 'token';
  INSERT INTO outbox_before (kind, key, tenant_id, facts)
    SELECT 'token', id, '', user_name FROM tokens WHERE id = NEW.id;
END;

CREATE TRIGGER tokens_insert_event AFTER INSERT ON tokens BEGIN
  INSERT INTO token_updates (user_name, token, change)
    SELECT facts, NEW.id, 'removed' FROM outbox_before
      WHERE kind = 'token' AND key = NEW.id AND facts IS NOT NEW.user_name;
  INSERT INTO token_updates (user_name, token, change)
    SELECT NEW.user_name, NEW.id, CASE WHEN EXISTS (SELECT 1 FROM outbox_before
      WHERE kind = 'token' AND key = NEW.id AND facts IS NEW.user_name)
      THEN 'updated' ELSE 'created' END;
  DELETE FROM outbox_before WHERE kind = 'token';
END;

CREATE TRIGGER tokens_update_event AFTER UPDATE OF id, user_name, token_hash, label, expires_at
  ON tokens
WHEN (NEW.id, NEW.token_hash, NEW.label, NEW.expires_at)
    IS NOT (OLD.id, OLD.token_hash, OLD.label, OLD.expires_at)
  OR (NEW.user_name IS NOT OLD.user_name
    AND EXISTS (SELECT 1 FROM users WHERE name = OLD.user_name))
BEGIN
  INSERT INTO token_updates (user_name, token, change)
    SELECT OLD.user_name, OLD.id, 'removed'
      WHERE (NEW.id, NEW.user_name) IS NOT (OLD.id, OLD.user_name);
  INSERT INTO token_updates (user_name, token, change)
    VALUES (NEW.user_name, NEW.id, CASE WHEN (NEW.id, NEW.user_name) IS (OLD.id, OLD.user_name)
      THEN 'updated' ELSE 'created' END);
END;

CREATE TRIGGER tokens_delete_event AFTER DELETE ON tokens BEGIN
  INSERT INTO token_updates (user_name, token, change) VALUES (OLD.user_name, OLD.id, 'removed');
END;
