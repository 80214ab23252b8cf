-- A password hash that no login could ever use is refused where it is written. The rule binds what is
-- new and what changes: a row from before stays. What is checked is what the service can verify, no
-- more and no less; and besides, of what is new, whether the hash is one that libraries write, since one
-- that was cut short is a hash like any other, and lets nobody in.

-- How many bytes a text of base64 is (PHC's, or passlib's with a dot for the plus), or NULL for no
-- base64.
CREATE FUNCTION base64_bytes(text TEXT) RETURNS INT LANGUAGE sql IMMUTABLE
  RETURN CASE
    WHEN rtrim(text, '=') ~ '[^A-Za-z0-9+/.]' THEN NULL
    WHEN length(text) - length(rtrim(text, '='))
      <= (ARRAY[0, -1, 2, 1])[length(rtrim(text, '=')) % 4 + 1]
    THEN length(rtrim(text, '=')) * 3 / 4
  END;

-- The number that a parameter has among others such as m=19456,t=2,p=1.
CREATE FUNCTION hash_parameter(parameters TEXT, name TEXT) RETURNS NUMERIC LANGUAGE sql IMMUTABLE
  RETURN substring(parameters FROM '(?:^|,)' || name || '=([0-9]+)(?:,|$)')::NUMERIC;

-- Why no login can use a hash, of one of the schemes; NULL: a login can.
CREATE FUNCTION password_hash_flaw(hash TEXT) RETURNS TEXT LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  parts CONSTANT TEXT[] := string_to_array(hash, '$');
  count CONSTANT INT := cardinality(parts);
  scheme CONSTANT TEXT := parts[2];
  parameters CONSTANT TEXT := parts[count - 2];
  many CONSTANT INT := cardinality(string_to_array(parameters, ','));
  salt CONSTANT INT := base64_bytes(parts[count - 1]);
  output CONSTANT INT := base64_bytes(parts[count]);
  a NUMERIC;
  b NUMERIC;
  c NUMERIC;
BEGIN
  IF scheme LIKE 'pbkdf2-%' AND scheme NOT IN ('pbkdf2-sha256', 'pbkdf2-sha512') THEN
    RETURN 'PBKDF2 is pbkdf2 (of SHA-1), pbkdf2-sha256 or pbkdf2-sha512';
  END IF;
  IF NOT count = ANY (CASE
    WHEN scheme = 'argon2id' THEN ARRAY[5, 6]
    WHEN scheme LIKE '2_' THEN ARRAY[4]
    ELSE ARRAY[5] END)
  THEN
    RETURN 'it has more or fewer parts between $ than its scheme: is it whole?';
  END IF;
  IF scheme LIKE '2_' THEN
    IF parts[3] !~ '^(0[4-9]|1[0-5])$' THEN
      RETURN 'the cost of bcrypt is two digits, 04 to 15';
    ELSIF parts[4] !~ '^[./A-Za-z0-9]{53}=?$' THEN
      RETURN 'bcrypt ends in 53 characters of salt and hash: is it whole?';
    END IF;
    RETURN NULL;
  END IF;
  IF scheme = 'argon2id' THEN
    IF count = 6 AND parts[3] NOT IN ('v=16', 'v=19') THEN
      RETURN 'argon2id has the versions 16 and 19';
    END IF;
    a := hash_parameter(parameters, 'm');
    b := hash_parameter(parameters, 't');
    c := hash_parameter(parameters, 'p');
    IF many <> 3 OR a IS NULL OR b IS NULL OR c IS NULL THEN
      RETURN 'argon2id has the parameters m, t and p, such as m=19456,t=2,p=1';
    ELSIF a > 262144 OR b NOT BETWEEN 1 AND 16 OR c NOT BETWEEN 1 AND 16 OR a < 8 * c THEN
      RETURN 'argon2id can have p and t of 1 to 16, and m of 8 p to 262144';
    ELSIF salt < 8 THEN
      RETURN 'the salt of argon2id is base64 of at least 8 bytes';
    END IF;
  ELSIF scheme = 'scrypt' THEN
    a := hash_parameter(parameters, 'ln');
    b := hash_parameter(parameters, 'r');
    c := hash_parameter(parameters, 'p');
    IF many <> 3 OR a IS NULL OR b IS NULL OR c IS NULL THEN
      RETURN 'scrypt has the parameters ln, r and p, such as ln=16,r=8,p=1';
    ELSIF a NOT BETWEEN 1 AND 18 OR b < 1 OR c NOT BETWEEN 1 AND 16
      OR b * 128 * (2 ^ a + c) > 269484032
    THEN
      RETURN 'scrypt can have ln of 1 to 18, p of 1 to 16, and 256 MiB, 128 bytes times r times 2^ln';
    END IF;
  ELSE
    a := CASE WHEN parameters ~ '^[0-9]+$' THEN parameters::NUMERIC
      ELSE hash_parameter(parameters, 'i') END;
    b := hash_parameter(parameters, 'l');
    IF a IS NULL OR many <> 1 + num_nonnulls(b) THEN
      RETURN 'PBKDF2 has its rounds, such as i=600000 or i=600000,l=32 or 600000';
    ELSIF a NOT BETWEEN 1 AND 10000000 THEN
      RETURN 'PBKDF2 can have 1 to 10000000 rounds';
    ELSIF b <> output THEN
      RETURN 'its hash is not as long as its l says: is it whole?';
    END IF;
  END IF;
  IF salt IS NULL THEN
    RETURN 'its salt is no base64';
  ELSIF output IS NULL OR output NOT BETWEEN 10 AND 64 THEN
    RETURN 'its hash is no base64 of 10 to 64 bytes: is it whole?';
  END IF;
  RETURN NULL;
END $$;

-- Why a hash is not taken: that, or that no library can have written it.
CREATE FUNCTION password_hash_objection(hash TEXT) RETURNS TEXT LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  flaw CONSTANT TEXT := password_hash_flaw(hash);
  parts CONSTANT TEXT[] := string_to_array(hash, '$');
  output CONSTANT TEXT := rtrim(parts[cardinality(parts)], '=');
BEGIN
  IF flaw IS NOT NULL OR parts[2] LIKE '2_' THEN
    RETURN flaw;
  ELSIF base64_bytes(output) NOT IN (16, 20, 24, 28, 32, 48, 64) THEN
    RETURN 'its hash is not of 16, 20, 24, 28, 32, 48 or 64 bytes, as libraries write it: is it whole?';
  -- The last character says more than the last byte has.
  ELSIF output !~ (ARRAY['', '', '[AQgw]$', '[AEIMQUYcgkosw048]$'])[length(output) % 4 + 1] THEN
    RETURN 'its hash ends in the middle of a byte: is it whole?';
  END IF;
  RETURN NULL;
END $$;

-- The users whom nobody can log in as with a password, however right.
CREATE VIEW password_hash_flaws (tenant_id, user_name, flaw) AS
  SELECT f.* FROM (
    SELECT tenant_id, name, password_hash_flaw(password_hash) AS flaw FROM users
    WHERE password_hash IS NOT NULL
  ) AS f WHERE f.flaw IS NOT NULL;

-- Those whose hash would not be taken today.
CREATE VIEW password_hash_objections (tenant_id, user_name, objection) AS
  SELECT f.* FROM (
    SELECT tenant_id, name, password_hash_objection(password_hash) AS objection FROM users
    WHERE password_hash IS NOT NULL
  ) AS f WHERE f.objection IS NOT NULL;

-- What documents have in the place of a hash, $2b$10$... and the like, can be tried as it stands
-- there.
CREATE FUNCTION check_password_hash() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
  PERFORM holds(password_hash_objection(NEW.password_hash) IS NULL,
    'users.password_hash: ' || password_hash_objection(NEW.password_hash));
  RETURN NULL;
END $$;
CREATE TRIGGER users_insert_hash_check AFTER INSERT ON users FOR EACH ROW
  WHEN (NEW.password_hash NOT LIKE '$%$...')
  EXECUTE FUNCTION check_password_hash();
CREATE TRIGGER users_update_hash_check AFTER UPDATE ON users FOR EACH ROW
  WHEN (NEW.password_hash IS DISTINCT FROM OLD.password_hash AND NEW.password_hash NOT LIKE '$%$...')
  EXECUTE FUNCTION check_password_hash();

-- What is no hash of any scheme has a rule of its own (0001), which says what is taken. What is wrong
-- with some that are nearly one is said before.
CREATE FUNCTION check_hash_likeness() RETURNS TRIGGER LANGUAGE plpgsql AS $$
DECLARE
  hash CONSTANT TEXT := NEW.password_hash;
BEGIN
  PERFORM holds(hash !~ '^\s|\s$', 'users.password_hash: there is white space around it');
  PERFORM holds(hash !~ '^\{.*\}',
    'users.password_hash: a prefix in braces, which is to be taken off: see README');
  PERFORM holds(hash !~ '^(pbkdf2_.*|argon2|scrypt|bcrypt|bcrypt_.*)\$',
    'users.password_hash: Django''s form, which is to be converted: see README');
  PERFORM holds(hash !~ '^b["'']',
    'users.password_hash: bytes as Python prints them, b''...'': decode() makes them a text');
  PERFORM holds(hash !~ '^["'']', 'users.password_hash: there are quotes around it');
  RETURN NEW;
END $$;
CREATE TRIGGER users_insert_hash_likeness BEFORE INSERT ON users FOR EACH ROW
  WHEN (NEW.password_hash !~ '^\$.*[!-~]$')
  EXECUTE FUNCTION check_hash_likeness();
CREATE TRIGGER users_update_hash_likeness BEFORE UPDATE ON users FOR EACH ROW
  WHEN (NEW.password_hash IS DISTINCT FROM OLD.password_hash AND NEW.password_hash !~ '^\$.*[!-~]$')
  EXECUTE FUNCTION check_hash_likeness();

-- Row security would speak first, of a rule that was broken, where a row that is written refers to one
-- that is not there. To the license server one that it may not see is not there either.
CREATE FUNCTION check_tenant_is_there() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM tenants WHERE id = NEW.tenant_id) THEN
    RAISE foreign_key_violation USING MESSAGE = 'users.tenant_id: no such tenant',
      CONSTRAINT = 'users.tenant_id: no such tenant';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER users_check_tenant BEFORE INSERT OR UPDATE OF tenant_id ON users FOR EACH ROW
  WHEN (is_license_server()) EXECUTE FUNCTION check_tenant_is_there();

CREATE FUNCTION check_user_is_there() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM users WHERE name = NEW.user_name) THEN
    RAISE foreign_key_violation USING MESSAGE = 'tokens.user_name: no such user',
      CONSTRAINT = 'tokens.user_name: no such user';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER tokens_check_user BEFORE INSERT OR UPDATE OF user_name ON tokens FOR EACH ROW
  WHEN (is_license_server()) EXECUTE FUNCTION check_user_is_there();

-- As in 0004: whatever the search path of whoever writes a row.
DO $$
DECLARE
  name TEXT;
BEGIN
  FOREACH name IN ARRAY ARRAY['password_hash_flaw(TEXT)', 'password_hash_objection(TEXT)'] LOOP
    EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', name, current_schema());
  END LOOP;
  FOREACH name IN ARRAY ARRAY['check_password_hash()', 'check_hash_likeness()',
    'check_tenant_is_there()', 'check_user_is_there()']
  LOOP
    EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', name, current_schema());
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', name);
  END LOOP;
END $$;
