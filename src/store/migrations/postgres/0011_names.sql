-- A user without a row has its tenant's id and a slash before its name, and is barred by a row of that
-- name in the tenant. A row of another tenant must not take that name: it would be in the way. The rule
-- binds what is new and what changes: a row from before stays, also one from before that tenant.

-- By the rights of the owner: whoever writes a user may not see all tenants (0007).
CREATE FUNCTION check_user_name() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
  -- There is no OLD of a row that is new.
  col CONSTANT TEXT := CASE WHEN NEW.name = OLD.name THEN 'tenant_id' ELSE 'name' END;
BEGIN
  PERFORM holds(NOT EXISTS (
    SELECT FROM tenants AS t
    WHERE t.id = split_part(NEW.name, '/', 1) AND t.id <> NEW.tenant_id
  ), 'users.' || col || ': a name of another tenant''s id and a slash is for that tenant''s users');
  RETURN NULL;
END $$;
CREATE TRIGGER users_insert_name_check AFTER INSERT ON users FOR EACH ROW
  WHEN (NEW.name LIKE '%/%')
  EXECUTE FUNCTION check_user_name();
CREATE TRIGGER users_update_name_check AFTER UPDATE ON users FOR EACH ROW
  WHEN ((NEW.name, NEW.tenant_id) IS DISTINCT FROM (OLD.name, OLD.tenant_id)
    AND NEW.name LIKE '%/%')
  EXECUTE FUNCTION check_user_name();

-- As in 0004.
DO $$
BEGIN
  EXECUTE format('ALTER FUNCTION check_user_name() SET search_path = %I, pg_temp', current_schema());
  REVOKE ALL ON FUNCTION check_user_name() FROM PUBLIC;
END $$;
