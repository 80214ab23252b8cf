-- What is nearly a password hash is refused with what mends it: a prefix is to be taken off only where
-- what is left is a hash, and what README converts is to be converted. Nothing helps with others.
DROP TRIGGER unlike_password_hash_refuse;

CREATE TRIGGER unlike_password_hash_refuse INSTEAD OF INSERT ON unlike_password_hashes BEGIN
  SELECT RAISE(ABORT, 'users.password_hash: there is white space around it')
    WHERE NEW.hash <> trim(NEW.hash, ' ' || char(9, 10, 11, 12, 13));
  SELECT RAISE(ABORT,
    'users.password_hash: a prefix in braces, which is to be taken off: see README')
    WHERE NEW.hash GLOB '{*}$argon2id$?*' OR NEW.hash GLOB '{*}$2[aby]$?*';
  SELECT RAISE(ABORT,
    'users.password_hash: Django''s prefix argon2, which is to be taken off: see README')
    WHERE NEW.hash GLOB 'argon2$argon2id$?*';
  SELECT RAISE(ABORT,
    'users.password_hash: Django''s prefix bcrypt$, which is to be taken off: see README')
    WHERE NEW.hash GLOB 'bcrypt$$2[aby]$?*';
  SELECT RAISE(ABORT,
    'users.password_hash: Django''s or Werkzeug''s form, which is to be converted: see README')
    WHERE NEW.hash GLOB 'pbkdf2_sha256$[0-9]*$*$?*' OR NEW.hash GLOB 'pbkdf2_sha1$[0-9]*$*$?*'
      OR NEW.hash GLOB 'scrypt$[0-9]*$*$[0-9]*$[0-9]*$?*'
      OR NEW.hash GLOB 'scrypt:[0-9]*:[0-9]*:[0-9]*$*$?*'
      OR NEW.hash GLOB 'pbkdf2:sha1:[0-9]*$*$?*' OR NEW.hash GLOB 'pbkdf2:sha256:[0-9]*$*$?*'
      OR NEW.hash GLOB 'pbkdf2:sha512:[0-9]*$*$?*';
  SELECT RAISE(ABORT,
    'users.password_hash: another scheme, which no login takes: the user needs a new password')
    WHERE NEW.hash GLOB '{*' OR NEW.hash GLOB 'pbkdf2[_:]*$*' OR NEW.hash GLOB 'argon2$*'
      OR NEW.hash GLOB 'scrypt[$:]*' OR NEW.hash GLOB 'bcrypt$*' OR NEW.hash GLOB 'bcrypt_*$*';
  SELECT RAISE(ABORT,
    'users.password_hash: bytes as Python prints them, b''...'': decode() makes them a text')
    WHERE NEW.hash GLOB 'b''*' OR NEW.hash GLOB 'b"*';
  SELECT RAISE(ABORT, 'users.password_hash: there are quotes around it')
    WHERE NEW.hash GLOB '["'']*';
END;

-- Names that are printed nowhere, since they are secrets in the wrong place, and names of which nobody
-- sees where they end. The rule binds what is new and what changes: a row from before stays.
CREATE VIEW refused_user_names (name) AS SELECT NULL WHERE FALSE;

CREATE TRIGGER user_name_refuse INSTEAD OF INSERT ON refused_user_names BEGIN
  SELECT RAISE(ABORT, 'users.name: looks like a token (nct_...), and names are printed')
    WHERE NEW.name GLOB 'nct_*';
  SELECT RAISE(ABORT, 'users.name: looks like a JWT (eyJ...), and names are printed')
    WHERE NEW.name GLOB 'eyJ*' AND length(CAST(NEW.name AS BLOB)) >= 16;
  SELECT RAISE(ABORT, 'users.name: looks like the seed of an nkey (S...), and names are printed')
    WHERE NEW.name GLOB 'S*' AND NEW.name NOT GLOB '*[^A-Z2-7]*' AND length(NEW.name) IN (56, 58);
  SELECT RAISE(ABORT, 'users.name: begins or ends with a blank')
    WHERE NEW.name <> trim(NEW.name, char(32, 160, 5760, 8192, 8193, 8194, 8195, 8196, 8197, 8198,
      8199, 8200, 8201, 8202, 8239, 8287, 12288));
END;

CREATE TRIGGER users_insert_name_form_check AFTER INSERT ON users BEGIN
  INSERT INTO refused_user_names (name) VALUES (NEW.name);
END;

CREATE TRIGGER users_update_name_form_check AFTER UPDATE OF name ON users
WHEN NEW.name IS NOT OLD.name BEGIN
  INSERT INTO refused_user_names (name) VALUES (NEW.name);
END;
