-- A tenant that goes on, or whose end has moved, is noted too: servers have to learn what its account is
-- good for from then on.
CREATE TRIGGER tenants_over_note AFTER UPDATE OF status, expires_at ON tenants
WHEN NEW.status = 'active' AND (NEW.status, NEW.expires_at) IS NOT (OLD.status, OLD.expires_at) BEGIN
  INSERT INTO changes (kind, key, account, pushes) VALUES ('tenant', NEW.id,
    (SELECT account FROM tenant_accounts WHERE tenant_id = NEW.id), 1);
END;
