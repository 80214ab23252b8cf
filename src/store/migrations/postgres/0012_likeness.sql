-- What is nearly a password hash is refused with what mends it: a prefix is to be taken off only where
-- what is left is a hash, and what README converts is to be converted. Nothing helps with others.
CREATE OR REPLACE FUNCTION check_hash_likeness() RETURNS TRIGGER LANGUAGE plpgsql AS $$
DECLARE
  hash CONSTANT TEXT := NEW.password_hash;
BEGIN
  PERFORM holds(hash !~ '^\s|\s$', 'users.password_hash: there is white space around it');
  PERFORM holds(hash !~ '^\{.*\}\$(argon2id|2[aby])\$.',
    'users.password_hash: a prefix in braces, which is to be taken off: see README');
  PERFORM holds(hash !~ '^argon2\$argon2id\$.',
    'users.password_hash: Django''s prefix argon2, which is to be taken off: see README');
  PERFORM holds(hash !~ '^bcrypt\$\$2[aby]\$.',
    'users.password_hash: Django''s prefix bcrypt$, which is to be taken off: see README');
  PERFORM holds(
    hash !~ '^pbkdf2_sha(1|256)\$[0-9].*\$.*\$.'
      AND hash !~ '^scrypt\$[0-9].*\$.*\$[0-9].*\$[0-9].*\$.'
      AND hash !~ '^scrypt:[0-9].*:[0-9].*:[0-9].*\$.*\$.'
      AND hash !~ '^pbkdf2:sha(1|256|512):[0-9].*\$.*\$.',
    'users.password_hash: Django''s or Werkzeug''s form, which is to be converted: see README');
  PERFORM holds(hash !~ '^\{' AND hash !~ '^pbkdf2[_:].*\$' AND hash !~ '^argon2\$'
      AND hash !~ '^scrypt[$:]' AND hash !~ '^bcrypt(_.*)?\$',
    'users.password_hash: another scheme, which no login takes: the user needs a new password');
  PERFORM holds(hash !~ '^b["'']',
    'users.password_hash: bytes as Python prints them, b''...'': decode() makes them a text');
  PERFORM holds(hash !~ '^["'']', 'users.password_hash: there are quotes around it');
  RETURN NEW;
END $$;

-- Names that are printed nowhere, since they are secrets in the wrong place, and names of which nobody
-- sees where they end. The rule binds what is new and what changes: a row from before stays.
CREATE FUNCTION check_user_name_form() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
  PERFORM holds(NEW.name !~ '^nct_',
    'users.name: looks like a token (nct_...), and names are printed');
  PERFORM holds(NEW.name !~ '^eyJ' OR octet_length(NEW.name) < 16,
    'users.name: looks like a JWT (eyJ...), and names are printed');
  PERFORM holds(NEW.name !~ '^S([A-Z2-7]{55}|[A-Z2-7]{57})$',
    'users.name: looks like the seed of an nkey (S...), and names are printed');
  PERFORM holds(
    NEW.name !~ '^[ \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]|[ \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]$',
    'users.name: begins or ends with a blank');
  RETURN NULL;
END $$;
CREATE TRIGGER users_insert_name_form_check AFTER INSERT ON users FOR EACH ROW
  EXECUTE FUNCTION check_user_name_form();
CREATE TRIGGER users_update_name_form_check AFTER UPDATE ON users FOR EACH ROW
  WHEN (NEW.name <> OLD.name)
  EXECUTE FUNCTION check_user_name_form();

-- As in 0004.
DO $$
DECLARE
  name TEXT;
BEGIN
  FOREACH name IN ARRAY ARRAY['check_hash_likeness()', 'check_user_name_form()'] LOOP
    EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', name, current_schema());
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', name);
  END LOOP;
END $$;
