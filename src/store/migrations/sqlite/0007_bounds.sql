-- What one row may do to others: how long it may be, and how much of an event is read at once. The
-- rules bind what is new and what changes: a row from before stays, logs in as it did, and may be
-- changed in all that keeps the rules.

-- The rows that have a text whose form bounds nothing and that is too long: what a row holds goes
-- into a JWT, and into events.
CREATE VIEW misfits (tbl, key, col) AS
  SELECT 'users', name, 'publish' FROM users WHERE length(CAST(publish AS BLOB)) > 65536
  UNION ALL SELECT 'users', name, 'subscribe' FROM users
    WHERE length(CAST(subscribe AS BLOB)) > 65536
  UNION ALL SELECT 'users', name, 'expires_at' FROM users
    WHERE length(CAST(expires_at AS BLOB)) > 64
  UNION ALL SELECT 'users', name, 'last_login_at' FROM users
    WHERE length(CAST(last_login_at AS BLOB)) > 64
  UNION ALL SELECT 'users', name, 'created_at' FROM users
    WHERE length(CAST(created_at AS BLOB)) > 64
  UNION ALL SELECT 'users', name, 'updated_at' FROM users
    WHERE length(CAST(updated_at AS BLOB)) > 64
  UNION ALL SELECT 'tenants', id, 'incarnation' FROM tenants
    WHERE length(CAST(incarnation AS BLOB)) > 64
  UNION ALL SELECT 'tenants', id, 'expires_at' FROM tenants
    WHERE length(CAST(expires_at AS BLOB)) > 64
  UNION ALL SELECT 'tenants', id, 'created_at' FROM tenants
    WHERE length(CAST(created_at AS BLOB)) > 64
  UNION ALL SELECT 'tenants', id, 'updated_at' FROM tenants
    WHERE length(CAST(updated_at AS BLOB)) > 64
  UNION ALL SELECT 'tokens', id, 'expires_at' FROM tokens
    WHERE length(CAST(expires_at AS BLOB)) > 64
  UNION ALL SELECT 'tokens', id, 'created_at' FROM tokens
    WHERE length(CAST(created_at AS BLOB)) > 64;

-- As in 0002, where what a whole list says was asked anew for each of its elements: a long list took
-- many seconds, and the file's lock with it.
DROP VIEW illegal_subjects;

CREATE VIEW illegal_subjects (user_name, list) AS
  SELECT name, 'publish' FROM users WHERE instr(replace(publish, '\\', ''), '\u0000') > 0
  UNION ALL SELECT name, 'subscribe' FROM users
    WHERE instr(replace(subscribe, '\\', ''), '\u0000') > 0
  UNION ALL SELECT l.user_name, l.list
  FROM (
    SELECT name AS user_name, 'publish' AS list, publish AS json FROM users
    UNION ALL SELECT name, 'subscribe', subscribe FROM users
  ) AS l, json_each(l.json) AS e
  WHERE e.type <> 'text'
    OR length(e.value) NOT BETWEEN 1 AND 255
    OR e.value GLOB '*[' || char(1, 45, 32, 127, 45, 160, 5760, 8192, 45, 8202, 8232, 8233, 8239,
      8287, 12288, 65533, 45, 65535) || ']*'
    OR e.value GLOB '.*' OR e.value GLOB '*.' OR instr(e.value, '..') > 0
    OR instr(replace('.' || replace(e.value, '.', '..') || '.', '.*.', ''), '*') > 0
    OR (instr(e.value, '>') > 0 AND NOT (
      instr(e.value, '>') = length(e.value) AND (e.value = '>' OR substr(e.value, -2) = '.>')))
    OR (e.value GLOB '*[^' || char(1, 45, 127) || ']*'
      AND EXISTS (SELECT 1 FROM characters AS c WHERE c.n <= length(e.value)
        AND char(unicode(substr(e.value, c.n, 1))) IS NOT substr(e.value, c.n, 1)));

-- Before anything else reads the whole of a row.
CREATE TRIGGER users_insert_bound BEFORE INSERT ON users BEGIN
  SELECT RAISE(ABORT, 'users.publish: at most 65536 bytes; a wildcard says the same in less')
    WHERE length(CAST(NEW.publish AS BLOB)) > 65536;
  SELECT RAISE(ABORT, 'users.subscribe: at most 65536 bytes; a wildcard says the same in less')
    WHERE length(CAST(NEW.subscribe AS BLOB)) > 65536;
  SELECT RAISE(ABORT, 'users: a time has at most 64 bytes')
    WHERE max(ifnull(length(CAST(NEW.expires_at AS BLOB)), 0),
      ifnull(length(CAST(NEW.last_login_at AS BLOB)), 0),
      length(CAST(NEW.created_at AS BLOB)), length(CAST(NEW.updated_at AS BLOB))) > 64;
END;

CREATE TRIGGER users_publish_bound BEFORE UPDATE OF publish ON users
WHEN NEW.publish IS NOT OLD.publish AND length(CAST(NEW.publish AS BLOB)) > 65536 BEGIN
  SELECT RAISE(ABORT, 'users.publish: at most 65536 bytes; a wildcard says the same in less');
END;

CREATE TRIGGER users_subscribe_bound BEFORE UPDATE OF subscribe ON users
WHEN NEW.subscribe IS NOT OLD.subscribe AND length(CAST(NEW.subscribe AS BLOB)) > 65536 BEGIN
  SELECT RAISE(ABORT, 'users.subscribe: at most 65536 bytes; a wildcard says the same in less');
END;

CREATE TRIGGER users_times_bound
BEFORE UPDATE OF expires_at, last_login_at, created_at, updated_at ON users
WHEN (NEW.expires_at IS NOT OLD.expires_at AND length(CAST(NEW.expires_at AS BLOB)) > 64)
  OR (NEW.last_login_at IS NOT OLD.last_login_at AND length(CAST(NEW.last_login_at AS BLOB)) > 64)
  OR (NEW.created_at IS NOT OLD.created_at AND length(CAST(NEW.created_at AS BLOB)) > 64)
  OR (NEW.updated_at IS NOT OLD.updated_at AND length(CAST(NEW.updated_at AS BLOB)) > 64)
BEGIN
  SELECT RAISE(ABORT, 'users: a time has at most 64 bytes');
END;

CREATE TRIGGER tenants_insert_bound BEFORE INSERT ON tenants BEGIN
  SELECT RAISE(ABORT, 'tenants.incarnation: at most 64 bytes; leave it to the database')
    WHERE length(CAST(NEW.incarnation AS BLOB)) > 64;
  SELECT RAISE(ABORT, 'tenants: a time has at most 64 bytes')
    WHERE max(ifnull(length(CAST(NEW.expires_at AS BLOB)), 0),
      length(CAST(NEW.created_at AS BLOB)), length(CAST(NEW.updated_at AS BLOB))) > 64;
END;

CREATE TRIGGER tenants_incarnation_bound BEFORE UPDATE OF incarnation ON tenants
WHEN NEW.incarnation IS NOT OLD.incarnation AND length(CAST(NEW.incarnation AS BLOB)) > 64 BEGIN
  SELECT RAISE(ABORT, 'tenants.incarnation: at most 64 bytes; leave it to the database');
END;

CREATE TRIGGER tenants_times_bound BEFORE UPDATE OF expires_at, created_at, updated_at ON tenants
WHEN (NEW.expires_at IS NOT OLD.expires_at AND length(CAST(NEW.expires_at AS BLOB)) > 64)
  OR (NEW.created_at IS NOT OLD.created_at AND length(CAST(NEW.created_at AS BLOB)) > 64)
  OR (NEW.updated_at IS NOT OLD.updated_at AND length(CAST(NEW.updated_at AS BLOB)) > 64)
BEGIN
  SELECT RAISE(ABORT, 'tenants: a time has at most 64 bytes');
END;

CREATE TRIGGER tokens_insert_bound BEFORE INSERT ON tokens
WHEN max(ifnull(length(CAST(NEW.expires_at AS BLOB)), 0), length(CAST(NEW.created_at AS BLOB))) > 64
BEGIN
  SELECT RAISE(ABORT, 'tokens: a time has at most 64 bytes');
END;

CREATE TRIGGER tokens_times_bound BEFORE UPDATE OF expires_at, created_at ON tokens
WHEN (NEW.expires_at IS NOT OLD.expires_at AND length(CAST(NEW.expires_at AS BLOB)) > 64)
  OR (NEW.created_at IS NOT OLD.created_at AND length(CAST(NEW.created_at AS BLOB)) > 64)
BEGIN
  SELECT RAISE(ABORT, 'tokens: a time has at most 64 bytes');
END;

-- Events without data that no message could hold.
DROP VIEW outbox_records;

CREATE VIEW outbox_records AS
  SELECT seq, id, type, tenant_id, subject, at,
    CASE WHEN length(CAST(data AS BLOB)) > 524288 THEN '{"omitted":true}' ELSE data END AS data
  FROM outbox;
