-- A user without a row has its tenant's id and a slash before its name, and is barred by a row of that
-- name in the tenant. A row of another tenant must not take that name: it would be in the way. The rule
-- binds what is new and what changes: a row from before stays, also one from before that tenant.

CREATE TRIGGER users_insert_name_check AFTER INSERT ON users WHEN instr(NEW.name, '/') > 0 BEGIN
  SELECT RAISE(ABORT,
    'users.name: a name of another tenant''s id and a slash is for that tenant''s users')
    FROM tenants
    WHERE id = substr(NEW.name, 1, instr(NEW.name, '/') - 1) AND id <> NEW.tenant_id;
END;

CREATE TRIGGER users_update_name_check AFTER UPDATE OF name, tenant_id ON users
WHEN (NEW.name, NEW.tenant_id) IS NOT (OLD.name, OLD.tenant_id) AND instr(NEW.name, '/') > 0 BEGIN
  SELECT RAISE(ABORT,
    'users.name: a name of another tenant''s id and a slash is for that tenant''s users')
    FROM tenants
    WHERE id = substr(NEW.name, 1, instr(NEW.name, '/') - 1) AND id <> NEW.tenant_id
      AND NEW.name <> OLD.name;
  SELECT RAISE(ABORT,
    'users.tenant_id: a name of another tenant''s id and a slash is for that tenant''s users')
    FROM tenants
    WHERE id = substr(NEW.name, 1, instr(NEW.name, '/') - 1) AND id <> NEW.tenant_id;
END;
