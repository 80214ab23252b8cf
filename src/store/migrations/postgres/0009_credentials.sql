-- A credential that is taken away or replaced closes the connections of its user some minutes later,
-- however long their grants live: whoever has another one, or the new one, comes back.
-- `revokes` is 1 then.
ALTER TABLE changes ADD COLUMN revokes BIGINT NOT NULL DEFAULT 0 CHECK (revokes IN (0, 1));

CREATE OR REPLACE VIEW change_records AS
  SELECT c.seq, c.kind, c.key, c.account, c.closes, c.ends_at, c.pushes,
    greatest(0, extract(epoch FROM clock_timestamp() - c.at))::FLOAT8 AS age, c.revokes
  FROM changes AS c;

-- As in 0003.
DROP INDEX changes_passing, changes_lasting;
CREATE INDEX changes_passing ON changes (seq)
  WHERE closes = 0 AND revokes = 0 AND pushes = 0 AND ends_at IS NULL;
CREATE INDEX changes_lasting ON changes (seq)
  WHERE closes <> 0 OR revokes <> 0 OR pushes <> 0 OR ends_at IS NOT NULL;

CREATE OR REPLACE FUNCTION prune_changes() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
  horizon CONSTANT XID8 := pg_snapshot_xmin(pg_current_snapshot());
BEGIN
  DELETE FROM changes WHERE seq IN (
    SELECT seq FROM changes
    WHERE seq <= NEW.seq - 65536 AND closes = 0 AND revokes = 0 AND pushes = 0 AND ends_at IS NULL
      AND xid < horizon
    ORDER BY seq LIMIT 8192 FOR UPDATE SKIP LOCKED);
  IF NEW.seq % 4096 = 0 THEN
    DELETE FROM changes WHERE seq IN (
      SELECT seq FROM changes
      WHERE seq <= NEW.seq - 65536 AND at < clock_timestamp() - INTERVAL '2 days'
        AND xid < horizon
      FOR UPDATE SKIP LOCKED);
  END IF;
  RETURN NULL;
END $$;

-- Not of a hash that the service replaced by another of the same password (0005).
CREATE FUNCTION note_user_revoked() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  IF NEW.nkey IS DISTINCT FROM OLD.nkey AND OLD.nkey IS NOT NULL
    OR NEW.certificate IS DISTINCT FROM OLD.certificate AND OLD.certificate IS NOT NULL
    OR NEW.password_hash IS DISTINCT FROM OLD.password_hash AND OLD.password_hash IS NOT NULL
      AND NOT EXISTS (SELECT FROM rehashes WHERE user_name = OLD.name)
  THEN
    INSERT INTO changes (kind, key, account, revokes) VALUES ('user', OLD.name,
      (SELECT account FROM tenant_accounts WHERE tenant_id = OLD.tenant_id), 1);
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER users_note_revoked AFTER UPDATE ON users FOR EACH ROW
  WHEN ((NEW.password_hash, NEW.nkey, NEW.certificate)
    IS DISTINCT FROM (OLD.password_hash, OLD.nkey, OLD.certificate))
  EXECUTE FUNCTION note_user_revoked();

-- One of a user's tokens is no longer what it was. A user that is gone is noted already.
CREATE FUNCTION note_token_revoked() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  INSERT INTO changes (kind, key, account, revokes)
    SELECT 'user', u.name, a.account, 1 FROM users AS u
      LEFT JOIN tenant_accounts AS a ON a.tenant_id = u.tenant_id
      WHERE u.name = OLD.user_name;
  RETURN NULL;
END $$;
CREATE TRIGGER tokens_note_revoked AFTER DELETE ON tokens FOR EACH ROW
  EXECUTE FUNCTION note_token_revoked();
CREATE TRIGGER tokens_note_revoked_update AFTER UPDATE ON tokens FOR EACH ROW
  WHEN ((NEW.user_name, NEW.token_hash) IS DISTINCT FROM (OLD.user_name, OLD.token_hash)
    OR NEW.expires_at IS DISTINCT FROM OLD.expires_at AND NEW.expires_at IS NOT NULL)
  EXECUTE FUNCTION note_token_revoked();

-- As in 0004.
DO $$
DECLARE
  name TEXT;
BEGIN
  FOREACH name IN ARRAY ARRAY['prune_changes()', 'note_user_revoked()', 'note_token_revoked()']
  LOOP
    EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', name, current_schema());
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', name);
  END LOOP;
END $$;
