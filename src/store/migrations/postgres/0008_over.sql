-- A tenant that goes on, or whose end has moved, is noted too: servers have to learn what its account is
-- good for from then on.
CREATE FUNCTION note_over() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  INSERT INTO changes (kind, key, account, pushes) VALUES ('tenant', NEW.id,
    (SELECT account FROM tenant_accounts WHERE tenant_id = NEW.id), 1);
  RETURN NULL;
END $$;
CREATE TRIGGER tenants_note_over AFTER UPDATE ON tenants FOR EACH ROW
  WHEN (NEW.status = 'active'
    AND (NEW.status, NEW.expires_at) IS DISTINCT FROM (OLD.status, OLD.expires_at))
  EXECUTE FUNCTION note_over();

-- As in 0004.
DO $$
BEGIN
  EXECUTE format('ALTER FUNCTION note_over() SET search_path = %I, pg_temp', current_schema());
  REVOKE ALL ON FUNCTION note_over() FROM PUBLIC;
END $$;
