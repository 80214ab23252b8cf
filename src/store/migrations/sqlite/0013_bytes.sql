-- A hash that is bound as bytes, as Python's bcrypt makes it, is told as that and not by what GLOB sees in it.
DROP TRIGGER users_insert_hash_likeness;
DROP TRIGGER users_update_hash_likeness;

CREATE TRIGGER users_insert_hash_likeness BEFORE INSERT ON users
WHEN typeof(NEW.password_hash) = 'blob' OR NEW.password_hash NOT GLOB '$*'
  OR NEW.password_hash GLOB '*[^!-~]' BEGIN
  SELECT RAISE(ABORT, 'users.password_hash: bytes, which decode() or string() makes a text')
    WHERE typeof(NEW.password_hash) = 'blob';
  INSERT INTO unlike_password_hashes (hash) VALUES (NEW.password_hash);
END;

CREATE TRIGGER users_update_hash_likeness BEFORE UPDATE OF password_hash ON users
WHEN NEW.password_hash IS NOT OLD.password_hash
  AND (typeof(NEW.password_hash) = 'blob' OR NEW.password_hash NOT GLOB '$*'
    OR NEW.password_hash GLOB '*[^!-~]') BEGIN
  SELECT RAISE(ABORT, 'users.password_hash: bytes, which decode() or string() makes a text')
    WHERE typeof(NEW.password_hash) = 'blob';
  INSERT INTO unlike_password_hashes (hash) VALUES (NEW.password_hash);
END;
