-- A hash that is bound as bytes, as Python's bcrypt makes it, comes as `\x2432...` and is told as that; and
-- so are schemes that look like those that are taken, and are not.
CREATE FUNCTION check_hash_form() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
  PERFORM holds(NOT starts_with(NEW.password_hash, '\x'),
    'users.password_hash: bytes, which decode() or string() makes a text');
  PERFORM holds(FALSE,
    'users.password_hash: another scheme, which no login takes: the user needs a new password');
  RETURN NEW;
END $$;
CREATE TRIGGER users_insert_hash_form BEFORE INSERT ON users FOR EACH ROW
  WHEN (NEW.password_hash ~ '^(\\x|\$(argon2[di]|bcrypt-sha256|[156y])\$[!-~]+$)')
  EXECUTE FUNCTION check_hash_form();
CREATE TRIGGER users_update_hash_form BEFORE UPDATE ON users FOR EACH ROW
  WHEN (NEW.password_hash IS DISTINCT FROM OLD.password_hash
    AND NEW.password_hash ~ '^(\\x|\$(argon2[di]|bcrypt-sha256|[156y])\$[!-~]+$)')
  EXECUTE FUNCTION check_hash_form();

-- With what is unlimited, for which -1 is NATS's own word.
ALTER TABLE tenants DROP CONSTRAINT tenants_max_connections,
  ADD CONSTRAINT tenants_max_connections CHECK (holds(max_connections >= 0,
    'tenants.max_connections: a whole number, 0 or more; NULL is unlimited'));

-- As in 0004.
DO $$
BEGIN
  EXECUTE format('ALTER FUNCTION check_hash_form() SET search_path = %I, pg_temp',
    current_schema());
  REVOKE ALL ON FUNCTION check_hash_form() FROM PUBLIC;
END $$;
