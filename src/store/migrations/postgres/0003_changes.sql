-- Every change that a cached login depends on is noted in `changes`, in its own transaction, and
-- stamps the row's updated_at, which never goes back. A login itself (last_login_at) is no change.
-- What notes has the rights of the tables' owner: whoever may write a tenant need not be able to
-- write this.
--
-- Connections that are alive are closed by what they were granted: suspension, an earlier end,
-- another tenant, kind, policy, account or list of subjects, and the end of the row. Names for
-- people, passwords and other credentials, limits and times of a row close nothing: what they give
-- or take comes with the next login, and no grant lives long.

-- What closes nothing and pushes nothing matters to caches alone, which forget everything once they
-- have missed a row. The rest is kept for longer than any grant lives, however much follows it.
CREATE INDEX changes_passing ON changes (seq) WHERE closes = 0 AND pushes = 0 AND ends_at IS NULL;
CREATE INDEX changes_lasting ON changes (seq)
  WHERE closes <> 0 OR pushes <> 0 OR ends_at IS NOT NULL;

-- Notes of transactions that nobody can have missed but whoever was away. Rows that another
-- transaction is just deleting are left to it, so that nobody waits for anybody.
CREATE FUNCTION prune_changes() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
  horizon CONSTANT XID8 := pg_snapshot_xmin(pg_current_snapshot());
BEGIN
  DELETE FROM changes WHERE seq IN (
    SELECT seq FROM changes
    WHERE seq <= NEW.seq - 65536 AND closes = 0 AND pushes = 0 AND ends_at IS NULL
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
CREATE TRIGGER changes_prune AFTER INSERT ON changes FOR EACH ROW
  WHEN (NEW.seq % 1024 = 0) EXECUTE FUNCTION prune_changes();

-- Whoever has not read what is deleted learns that it is gone.
CREATE FUNCTION note_pruned() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  INSERT INTO changes (kind, key)
    SELECT 'pruned', xid::TEXT FROM pruned ORDER BY xid DESC LIMIT 1;
  RETURN NULL;
END $$;
CREATE TRIGGER changes_note_pruned AFTER DELETE ON changes REFERENCING OLD TABLE AS pruned
  FOR EACH STATEMENT EXECUTE FUNCTION note_pruned();

-- Those that listen look at once; the notice says no more than that.
CREATE FUNCTION notify_changes() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('nats_callout', '');
  RETURN NULL;
END $$;
CREATE TRIGGER changes_notify AFTER INSERT ON changes FOR EACH STATEMENT
  EXECUTE FUNCTION notify_changes();

-- The time of a change is that of its commit: connections that began in a long transaction began
-- before the change.
CREATE FUNCTION stamp_change() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  IF NEW.at < clock_timestamp() - INTERVAL '0.1 seconds' THEN
    UPDATE changes SET at = clock_timestamp() WHERE seq = NEW.seq;
  END IF;
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER changes_stamp AFTER INSERT ON changes DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION stamp_change();

CREATE FUNCTION unix_seconds(at TIMESTAMPTZ) RETURNS BIGINT LANGUAGE sql IMMUTABLE
  RETURN floor(extract(epoch FROM at))::BIGINT;

-- The end that grants must not outlive from now on, where they could before.
CREATE FUNCTION earlier_end(new TIMESTAMPTZ, old TIMESTAMPTZ) RETURNS BIGINT LANGUAGE sql IMMUTABLE
  RETURN CASE WHEN old IS NULL OR unix_seconds(new) < unix_seconds(old) THEN unix_seconds(new) END;

-- A row's updated_at moves on with every change of it, and never back.
CREATE FUNCTION stamp_row() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
  NEW.updated_at := greatest(date_trunc('milliseconds', clock_timestamp()),
    OLD.updated_at + INTERVAL '0.001 seconds');
  RETURN NEW;
END $$;

CREATE FUNCTION keep_stamp() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
  NEW.updated_at := greatest(NEW.updated_at, OLD.updated_at);
  RETURN NEW;
END $$;

CREATE TRIGGER tenants_keep_stamp BEFORE UPDATE ON tenants FOR EACH ROW
  WHEN (NEW.updated_at < OLD.updated_at) EXECUTE FUNCTION keep_stamp();
CREATE TRIGGER tenants_stamp BEFORE UPDATE ON tenants FOR EACH ROW
  WHEN ((NEW.name, NEW.status, NEW.isolation, NEW.policy, NEW.account, NEW.js_memory,
      NEW.js_storage, NEW.js_streams, NEW.js_consumers, NEW.max_connections, NEW.answers,
      NEW.expires_at, NEW.created_at)
    IS DISTINCT FROM (OLD.name, OLD.status, OLD.isolation, OLD.policy, OLD.account, OLD.js_memory,
      OLD.js_storage, OLD.js_streams, OLD.js_consumers, OLD.max_connections, OLD.answers,
      OLD.expires_at, OLD.created_at))
  EXECUTE FUNCTION stamp_row();

CREATE TRIGGER users_keep_stamp BEFORE UPDATE ON users FOR EACH ROW
  WHEN (NEW.updated_at < OLD.updated_at) EXECUTE FUNCTION keep_stamp();
CREATE TRIGGER users_stamp BEFORE UPDATE ON users FOR EACH ROW
  WHEN ((NEW.name, NEW.tenant_id, NEW.kind, NEW.password_hash, NEW.nkey, NEW.certificate,
      NEW.publish, NEW.subscribe, NEW.policy, NEW.status, NEW.expires_at, NEW.created_at)
    IS DISTINCT FROM (OLD.name, OLD.tenant_id, OLD.kind, OLD.password_hash, OLD.nkey,
      OLD.certificate, OLD.publish, OLD.subscribe, OLD.policy, OLD.status, OLD.expires_at,
      OLD.created_at))
  EXECUTE FUNCTION stamp_row();

CREATE FUNCTION note_tenant() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO changes (kind, key) VALUES ('tenant', NEW.id);
  ELSIF TG_OP = 'DELETE' THEN
    INSERT INTO changes (kind, key) VALUES ('tenant', OLD.id);
  ELSE
    INSERT INTO changes (kind, key, account, closes, ends_at, pushes) VALUES ('tenant', NEW.id,
      (SELECT account FROM tenant_accounts WHERE tenant_id = NEW.id),
      (NEW.status = 'suspended' AND OLD.status <> 'suspended'
        OR (NEW.isolation, NEW.policy, NEW.account)
        IS DISTINCT FROM (OLD.isolation, OLD.policy, OLD.account))::INT,
      earlier_end(NEW.expires_at, OLD.expires_at),
      ((NEW.js_memory, NEW.js_storage, NEW.js_streams, NEW.js_consumers, NEW.max_connections)
        IS DISTINCT FROM (OLD.js_memory, OLD.js_storage, OLD.js_streams, OLD.js_consumers,
        OLD.max_connections))::INT);
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER tenants_note AFTER INSERT OR DELETE ON tenants FOR EACH ROW
  EXECUTE FUNCTION note_tenant();
CREATE TRIGGER tenants_note_update AFTER UPDATE ON tenants FOR EACH ROW
  WHEN ((NEW.name, NEW.status, NEW.isolation, NEW.policy, NEW.account, NEW.js_memory,
      NEW.js_storage, NEW.js_streams, NEW.js_consumers, NEW.max_connections, NEW.answers,
      NEW.expires_at, NEW.created_at)
    IS DISTINCT FROM (OLD.name, OLD.status, OLD.isolation, OLD.policy, OLD.account, OLD.js_memory,
      OLD.js_storage, OLD.js_streams, OLD.js_consumers, OLD.max_connections, OLD.answers,
      OLD.expires_at, OLD.created_at))
  EXECUTE FUNCTION note_tenant();

CREATE FUNCTION note_user() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO changes (kind, key) VALUES ('user', NEW.name);
  ELSIF TG_OP = 'DELETE' THEN
    INSERT INTO changes (kind, key, account, closes) VALUES ('user', OLD.name,
      (SELECT account FROM tenant_accounts WHERE tenant_id = OLD.tenant_id), 1);
  ELSE
    INSERT INTO changes (kind, key, account, closes, ends_at) VALUES ('user', OLD.name,
      (SELECT account FROM tenant_accounts WHERE tenant_id = OLD.tenant_id),
      (NEW.status = 'suspended' AND OLD.status <> 'suspended'
        OR (NEW.name, NEW.tenant_id, NEW.kind, NEW.publish, NEW.subscribe, NEW.policy)
        IS DISTINCT FROM (OLD.name, OLD.tenant_id, OLD.kind, OLD.publish, OLD.subscribe,
        OLD.policy))::INT,
      earlier_end(NEW.expires_at, OLD.expires_at));
    INSERT INTO changes (kind, key) SELECT 'user', NEW.name WHERE NEW.name <> OLD.name;
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER users_note AFTER INSERT OR DELETE ON users FOR EACH ROW
  EXECUTE FUNCTION note_user();
CREATE TRIGGER users_note_update AFTER UPDATE ON users FOR EACH ROW
  WHEN ((NEW.name, NEW.tenant_id, NEW.kind, NEW.password_hash, NEW.nkey, NEW.certificate,
      NEW.publish, NEW.subscribe, NEW.policy, NEW.status, NEW.expires_at, NEW.created_at)
    IS DISTINCT FROM (OLD.name, OLD.tenant_id, OLD.kind, OLD.password_hash, OLD.nkey,
      OLD.certificate, OLD.publish, OLD.subscribe, OLD.policy, OLD.status, OLD.expires_at,
      OLD.created_at))
  EXECUTE FUNCTION note_user();

CREATE FUNCTION note_token() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  IF TG_OP <> 'INSERT' THEN
    INSERT INTO changes (kind, key) VALUES ('token', OLD.token_hash);
  END IF;
  IF TG_OP = 'INSERT' OR TG_OP = 'UPDATE' AND NEW.token_hash <> OLD.token_hash THEN
    INSERT INTO changes (kind, key) VALUES ('token', NEW.token_hash);
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER tokens_note AFTER INSERT OR DELETE ON tokens FOR EACH ROW
  EXECUTE FUNCTION note_token();
CREATE TRIGGER tokens_note_update AFTER UPDATE ON tokens FOR EACH ROW
  WHEN ((NEW.user_name, NEW.token_hash, NEW.expires_at)
    IS DISTINCT FROM (OLD.user_name, OLD.token_hash, OLD.expires_at))
  EXECUTE FUNCTION note_token();

-- A server that comes back after a quarter of a year may keep what it held.
CREATE FUNCTION note_account() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO changes (kind, key) VALUES ('tenant', NEW.tenant_id);
    DELETE FROM removed_accounts WHERE account = NEW.account;
  ELSE
    INSERT INTO changes (kind, key) VALUES ('tenant', OLD.tenant_id);
    INSERT INTO changes (kind, key, account, closes)
      VALUES ('account', OLD.tenant_id, OLD.account, 1);
    INSERT INTO removed_accounts (account, tenant_id) VALUES (OLD.account, OLD.tenant_id)
      ON CONFLICT (account) DO UPDATE
      SET tenant_id = excluded.tenant_id, removed_at = excluded.removed_at;
    DELETE FROM removed_accounts WHERE account IN (
      SELECT account FROM removed_accounts
      WHERE removed_at < clock_timestamp() - INTERVAL '90 days' LIMIT 64 FOR UPDATE SKIP LOCKED);
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER tenant_accounts_note AFTER INSERT OR DELETE ON tenant_accounts FOR EACH ROW
  EXECUTE FUNCTION note_account();
CREATE INDEX removed_accounts_removed_at ON removed_accounts (removed_at);

CREATE FUNCTION prune_instances() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  DELETE FROM instances WHERE seen_at < NEW.seen_at - 86400;
  RETURN NULL;
END $$;
CREATE TRIGGER instances_prune AFTER INSERT ON instances FOR EACH ROW
  EXECUTE FUNCTION prune_instances();
