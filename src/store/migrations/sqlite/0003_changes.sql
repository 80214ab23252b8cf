-- Every change that a cached login depends on is noted in `changes`, in its own transaction, and
-- stamps the row's updated_at, which never goes back. A login itself (last_login_at) is no change.
--
-- Connections that are alive are closed by what they were granted: suspension, an earlier end,
-- another tenant, kind, policy, account or list of subjects, and the end of the row. Names for
-- people, passwords and other credentials, limits and times of a row close nothing: what they give
-- or take comes with the next login, and no grant lives long.

-- What closes nothing and pushes nothing matters to caches alone, which forget everything once they
-- have missed a row. The rest is kept for longer than any grant lives, however much follows it.
CREATE INDEX changes_passing ON changes (seq) WHERE closes = 0 AND pushes = 0 AND ends_at IS NULL;

CREATE TRIGGER changes_prune AFTER INSERT ON changes BEGIN
  DELETE FROM changes
    WHERE seq <= NEW.seq - 65536 AND closes = 0 AND pushes = 0 AND ends_at IS NULL;
END;

CREATE TRIGGER changes_prune_old AFTER INSERT ON changes WHEN NEW.seq % 4096 = 0 BEGIN
  DELETE FROM changes WHERE seq <= NEW.seq - 65536 AND julianday(at) < julianday('now', '-2 days');
END;

CREATE TRIGGER tenants_replace_keep BEFORE INSERT ON tenants BEGIN
  DELETE FROM replaced;
  INSERT INTO replaced (kind, key, account, grants, limits, ends_at)
    SELECT 'tenant', id, account, grants, limits, ends_at FROM tenant_grants WHERE id = NEW.id;
END;

CREATE TRIGGER tenants_insert_note AFTER INSERT ON tenants BEGIN
  INSERT INTO changes (kind, key, account, closes, ends_at, pushes)
    SELECT 'tenant', g.id, g.account, r.key IS NOT NULL AND r.grants IS NOT g.grants,
      CASE WHEN r.key IS NOT NULL AND (r.ends_at IS NULL OR g.ends_at < r.ends_at)
        THEN g.ends_at END,
      r.key IS NOT NULL AND r.limits IS NOT g.limits
    FROM tenant_grants AS g LEFT JOIN replaced AS r ON r.kind = 'tenant' AND r.key = g.id
    WHERE g.id = NEW.id;
  DELETE FROM replaced;
END;

CREATE TRIGGER tenants_update_note AFTER UPDATE OF
  name, status, isolation, policy, account, js_memory, js_storage, js_streams, js_consumers,
  max_connections, expires_at, created_at ON tenants
WHEN (NEW.name, NEW.status, NEW.isolation, NEW.policy, NEW.account, NEW.js_memory, NEW.js_storage,
    NEW.js_streams, NEW.js_consumers, NEW.max_connections, NEW.expires_at, NEW.created_at)
  IS NOT (OLD.name, OLD.status, OLD.isolation, OLD.policy, OLD.account, OLD.js_memory,
    OLD.js_storage, OLD.js_streams, OLD.js_consumers, OLD.max_connections, OLD.expires_at,
    OLD.created_at)
BEGIN
  INSERT INTO changes (kind, key, account, closes, ends_at, pushes)
    SELECT 'tenant', g.id, g.account,
      (NEW.status = 'suspended' AND OLD.status IS NOT 'suspended')
        OR (NEW.isolation, NEW.policy, NEW.account)
        IS NOT (OLD.isolation, OLD.policy, OLD.account),
      CASE WHEN OLD.expires_at IS NULL OR g.ends_at < ifnull(CAST(strftime('%s', OLD.expires_at ||
        substr(':00', 1, 3 * (OLD.expires_at GLOB '*:*[-+][0-9][0-9]'))) AS INTEGER), 0)
        THEN g.ends_at END,
      (NEW.js_memory, NEW.js_storage, NEW.js_streams, NEW.js_consumers, NEW.max_connections)
        IS NOT (OLD.js_memory, OLD.js_storage, OLD.js_streams, OLD.js_consumers,
        OLD.max_connections)
    FROM tenant_grants AS g WHERE g.id = NEW.id;
  UPDATE tenants SET updated_at = max(strftime('%Y-%m-%d %H:%M:%f+00:00', 'now'),
    strftime('%Y-%m-%d %H:%M:%f+00:00', OLD.updated_at, '+0.001 seconds')) WHERE id = NEW.id;
END;

CREATE TRIGGER tenants_updated_at AFTER UPDATE OF updated_at ON tenants
WHEN julianday(NEW.updated_at) < julianday(OLD.updated_at) BEGIN
  UPDATE tenants SET updated_at = OLD.updated_at WHERE id = NEW.id;
END;

CREATE TRIGGER tenants_delete_note AFTER DELETE ON tenants BEGIN
  INSERT INTO changes (kind, key) VALUES ('tenant', OLD.id);
END;

CREATE TRIGGER users_replace_keep BEFORE INSERT ON users BEGIN
  DELETE FROM replaced;
  INSERT INTO replaced (kind, key, account, grants, ends_at)
    SELECT 'user', name, account, grants, ends_at FROM user_grants WHERE name = NEW.name;
END;

CREATE TRIGGER users_insert_note AFTER INSERT ON users BEGIN
  INSERT INTO changes (kind, key, account, closes, ends_at)
    SELECT 'user', g.name, r.account, r.key IS NOT NULL AND r.grants IS NOT g.grants,
      CASE WHEN r.key IS NOT NULL AND (r.ends_at IS NULL OR g.ends_at < r.ends_at)
        THEN g.ends_at END
    FROM user_grants AS g LEFT JOIN replaced AS r ON r.kind = 'user' AND r.key = g.name
    WHERE g.name = NEW.name;
  DELETE FROM replaced;
END;

CREATE TRIGGER users_update_note AFTER UPDATE OF
  name, tenant_id, kind, password_hash, nkey, certificate, publish, subscribe, policy, status,
  expires_at, created_at ON users
WHEN (NEW.name, NEW.tenant_id, NEW.kind, NEW.password_hash, NEW.nkey, NEW.certificate, NEW.publish,
    NEW.subscribe, NEW.policy, NEW.status, NEW.expires_at, NEW.created_at)
  IS NOT (OLD.name, OLD.tenant_id, OLD.kind, OLD.password_hash, OLD.nkey, OLD.certificate,
    OLD.publish, OLD.subscribe, OLD.policy, OLD.status, OLD.expires_at, OLD.created_at)
BEGIN
  INSERT INTO changes (kind, key, account, closes, ends_at)
    SELECT 'user', OLD.name,
      (SELECT account FROM tenant_accounts WHERE tenant_id = OLD.tenant_id),
      (NEW.status = 'suspended' AND OLD.status IS NOT 'suspended')
        OR (NEW.name, NEW.tenant_id, NEW.kind, NEW.publish, NEW.subscribe, NEW.policy)
        IS NOT (OLD.name, OLD.tenant_id, OLD.kind, OLD.publish, OLD.subscribe, OLD.policy),
      CASE WHEN OLD.expires_at IS NULL OR g.ends_at < ifnull(CAST(strftime('%s', OLD.expires_at ||
        substr(':00', 1, 3 * (OLD.expires_at GLOB '*:*[-+][0-9][0-9]'))) AS INTEGER), 0)
        THEN g.ends_at END
    FROM user_grants AS g WHERE g.name = NEW.name;
  INSERT INTO changes (kind, key) SELECT 'user', NEW.name WHERE NEW.name IS NOT OLD.name;
  UPDATE users SET updated_at = max(strftime('%Y-%m-%d %H:%M:%f+00:00', 'now'),
    strftime('%Y-%m-%d %H:%M:%f+00:00', OLD.updated_at, '+0.001 seconds')) WHERE name = NEW.name;
END;

CREATE TRIGGER users_updated_at AFTER UPDATE OF updated_at ON users
WHEN julianday(NEW.updated_at) < julianday(OLD.updated_at) BEGIN
  UPDATE users SET updated_at = OLD.updated_at WHERE name = NEW.name;
END;

-- The tenant's own end deletes its users before its account (0002), which is still known here.
CREATE TRIGGER users_delete_note AFTER DELETE ON users BEGIN
  INSERT INTO changes (kind, key, account, closes) VALUES ('user', OLD.name,
    (SELECT account FROM tenant_accounts WHERE tenant_id = OLD.tenant_id), 1);
END;

-- What OR REPLACE is about to delete without a trigger.
CREATE TRIGGER tokens_replace_note BEFORE INSERT ON tokens BEGIN
  INSERT INTO changes (kind, key) SELECT 'token', token_hash FROM tokens WHERE id = NEW.id;
END;

CREATE TRIGGER tokens_insert_note AFTER INSERT ON tokens BEGIN
  INSERT INTO changes (kind, key) VALUES ('token', NEW.token_hash);
END;

CREATE TRIGGER tokens_update_note AFTER UPDATE OF user_name, token_hash, expires_at ON tokens
WHEN (NEW.user_name, NEW.token_hash, NEW.expires_at)
  IS NOT (OLD.user_name, OLD.token_hash, OLD.expires_at)
BEGIN
  INSERT INTO changes (kind, key) VALUES ('token', OLD.token_hash);
  INSERT INTO changes (kind, key)
    SELECT 'token', NEW.token_hash WHERE NEW.token_hash IS NOT OLD.token_hash;
END;

CREATE TRIGGER tokens_delete_note AFTER DELETE ON tokens BEGIN
  INSERT INTO changes (kind, key) VALUES ('token', OLD.token_hash);
END;

CREATE TRIGGER tenant_accounts_insert_note AFTER INSERT ON tenant_accounts BEGIN
  INSERT INTO changes (kind, key) VALUES ('tenant', NEW.tenant_id);
  DELETE FROM removed_accounts WHERE account = NEW.account;
END;

CREATE TRIGGER tenant_accounts_delete_note AFTER DELETE ON tenant_accounts BEGIN
  INSERT INTO changes (kind, key) VALUES ('tenant', OLD.tenant_id);
  INSERT INTO changes (kind, key, account, closes)
    VALUES ('account', OLD.tenant_id, OLD.account, 1);
  DELETE FROM removed_accounts WHERE account = OLD.account;
  INSERT INTO removed_accounts (account, tenant_id) VALUES (OLD.account, OLD.tenant_id);
END;

-- A server that comes back after a quarter of a year may keep what it held.
CREATE TRIGGER removed_accounts_prune AFTER INSERT ON removed_accounts BEGIN
  DELETE FROM removed_accounts WHERE julianday(removed_at) < julianday('now', '-90 days');
END;

CREATE TRIGGER instances_insert_prune AFTER INSERT ON instances BEGIN
  DELETE FROM instances WHERE seen_at < NEW.seen_at - 86400;
END;

CREATE TRIGGER tenants_answers_note AFTER UPDATE OF answers ON tenants
WHEN NEW.answers IS NOT OLD.answers BEGIN
  INSERT INTO changes (kind, key) VALUES ('tenant', NEW.id);
  UPDATE tenants SET updated_at = max(strftime('%Y-%m-%d %H:%M:%f+00:00', 'now'),
    strftime('%Y-%m-%d %H:%M:%f+00:00', OLD.updated_at, '+0.001 seconds')) WHERE id = NEW.id;
END;
