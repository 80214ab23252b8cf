-- The end of a tenant closes the connections of all its users, those too that have no row and are
-- known by a JWT alone.
CREATE OR REPLACE FUNCTION note_tenant() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO changes (kind, key) VALUES ('tenant', NEW.id);
  ELSIF TG_OP = 'DELETE' THEN
    INSERT INTO changes (kind, key, closes) VALUES ('tenant', OLD.id, 1);
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

-- As in 0004, since a function that is replaced loses its settings.
DO $$
BEGIN
  EXECUTE format('ALTER FUNCTION note_tenant() SET search_path = %I, pg_temp', current_schema());
END $$;
