-- The end of a tenant closes the connections of all its users, those too that have no row and are
-- known by a JWT alone.
DROP TRIGGER tenants_delete_note;

CREATE TRIGGER tenants_delete_note AFTER DELETE ON tenants BEGIN
  INSERT INTO changes (kind, key, closes) VALUES ('tenant', OLD.id, 1);
END;
