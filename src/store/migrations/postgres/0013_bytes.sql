-- A hash that is bound as bytes, as Python's bcrypt makes it, comes as `\x2432...` and is told as that.
CREATE FUNCTION check_hash_is_text() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
  PERFORM holds(FALSE, 'users.password_hash: bytes, which decode() or string() makes a text');
  RETURN NEW;
END $$;
CREATE TRIGGER users_insert_hash_bytes BEFORE INSERT ON users FOR EACH ROW
  WHEN (starts_with(NEW.password_hash, '\x'))
  EXECUTE FUNCTION check_hash_is_text();
CREATE TRIGGER users_update_hash_bytes BEFORE UPDATE ON users FOR EACH ROW
  WHEN (NEW.password_hash IS DISTINCT FROM OLD.password_hash
    AND starts_with(NEW.password_hash, '\x'))
  EXECUTE FUNCTION check_hash_is_text();

-- As in 0004.
DO $$
BEGIN
  EXECUTE format('ALTER FUNCTION check_hash_is_text() SET search_path = %I, pg_temp',
    current_schema());
  REVOKE ALL ON FUNCTION check_hash_is_text() FROM PUBLIC;
END $$;
