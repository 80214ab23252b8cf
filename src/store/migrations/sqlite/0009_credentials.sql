-- A credential that is taken away or replaced closes the connections of its user some minutes later,
-- however long their grants live: whoever has another one, or the new one, comes back.
ALTER TABLE changes ADD COLUMN revokes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE replaced ADD COLUMN revokes INTEGER NOT NULL DEFAULT 0;

DROP VIEW change_records;

CREATE VIEW change_records AS
  SELECT c.seq, c.kind, c.key, c.account, c.closes, c.revokes, c.ends_at, c.pushes,
    max(0.0, (julianday('now') - julianday(c.at)) * 86400.0) AS age
  FROM changes AS c;

-- As in 0003.
DROP INDEX changes_passing;
DROP TRIGGER changes_prune;

CREATE INDEX changes_passing ON changes (seq)
  WHERE closes = 0 AND revokes = 0 AND pushes = 0 AND ends_at IS NULL;

CREATE TRIGGER changes_prune AFTER INSERT ON changes BEGIN
  DELETE FROM changes
    WHERE seq <= NEW.seq - 65536 AND closes = 0 AND revokes = 0 AND pushes = 0 AND ends_at IS NULL;
END;

-- As in 0003, and whether the row that is replaced had a credential that the new one has not.
DROP TRIGGER users_replace_keep;
DROP TRIGGER users_insert_note;

CREATE TRIGGER users_replace_keep BEFORE INSERT ON users BEGIN
  DELETE FROM replaced;
  INSERT INTO replaced (kind, key, account, grants, ends_at, revokes)
    SELECT 'user', g.name, g.account, g.grants, g.ends_at,
      ifnull(u.password_hash IS NOT NEW.password_hash AND u.password_hash IS NOT NULL, 0)
        OR (u.nkey IS NOT NEW.nkey AND u.nkey IS NOT NULL)
        OR (u.certificate IS NOT NEW.certificate AND u.certificate IS NOT NULL)
        OR EXISTS (SELECT 1 FROM tokens WHERE user_name = u.name)
    FROM user_grants AS g JOIN users AS u ON u.name = g.name WHERE g.name = NEW.name;
END;

CREATE TRIGGER users_insert_note AFTER INSERT ON users BEGIN
  INSERT INTO changes (kind, key, account, closes, ends_at)
    SELECT 'user', g.name, r.account, r.key IS NOT NULL AND r.grants IS NOT g.grants,
      CASE WHEN r.key IS NOT NULL AND (r.ends_at IS NULL OR g.ends_at < r.ends_at)
        THEN g.ends_at END
    FROM user_grants AS g LEFT JOIN replaced AS r ON r.kind = 'user' AND r.key = g.name
    WHERE g.name = NEW.name;
  INSERT INTO changes (kind, key, account, revokes)
    SELECT 'user', key, account, 1 FROM replaced
      WHERE kind = 'user' AND key = NEW.name AND revokes;
  DELETE FROM replaced;
END;

-- Not of a hash that the service replaced by another of the same password (0005).
CREATE TRIGGER users_revoke_note AFTER UPDATE OF password_hash, nkey, certificate ON users
WHEN (OLD.nkey IS NOT NULL AND NEW.nkey IS NOT OLD.nkey)
  OR (OLD.certificate IS NOT NULL AND NEW.certificate IS NOT OLD.certificate)
  OR (OLD.password_hash IS NOT NULL AND NEW.password_hash IS NOT OLD.password_hash
    AND NOT EXISTS (SELECT 1 FROM rehashes WHERE user_name = OLD.name))
BEGIN
  INSERT INTO changes (kind, key, account, revokes) VALUES ('user', OLD.name,
    (SELECT account FROM tenant_accounts WHERE tenant_id = OLD.tenant_id), 1);
END;

-- Writing a user's name here notes that one of its tokens is no longer what it was. A user that is
-- gone is noted already.
CREATE VIEW token_revocations (user_name) AS SELECT NULL WHERE FALSE;

CREATE TRIGGER token_revocations_note INSTEAD OF INSERT ON token_revocations BEGIN
  INSERT INTO changes (kind, key, account, revokes)
    SELECT 'user', name, account, 1 FROM user_grants WHERE name = NEW.user_name;
END;

CREATE TRIGGER tokens_replace_revoke_note BEFORE INSERT ON tokens BEGIN
  INSERT INTO token_revocations (user_name)
    SELECT user_name FROM tokens WHERE (id = NEW.id OR token_hash = NEW.token_hash)
      AND (user_name, token_hash) IS NOT (NEW.user_name, NEW.token_hash);
END;

CREATE TRIGGER tokens_update_revoke_note AFTER UPDATE OF user_name, token_hash, expires_at ON tokens
WHEN (NEW.user_name, NEW.token_hash) IS NOT (OLD.user_name, OLD.token_hash)
  OR (NEW.expires_at IS NOT OLD.expires_at AND NEW.expires_at IS NOT NULL)
BEGIN
  INSERT INTO token_revocations (user_name) VALUES (OLD.user_name);
END;

CREATE TRIGGER tokens_delete_revoke_note AFTER DELETE ON tokens BEGIN
  INSERT INTO token_revocations (user_name) VALUES (OLD.user_name);
END;
