-- A password hash that no login could ever use is refused where it is written. The rule binds what is
-- new and what changes: a row from before stays. What is checked is what the service can verify, no
-- more and no less; and besides, of what is new, whether the hash is one that libraries write, since one
-- that was cut short is a hash like any other, and lets nobody in.

-- The parts of each hash between its dollars, the parameters as an object of JSON besides, and base64
-- without the `=` at its end, which are counted.
CREATE VIEW password_hash_parts (
  tenant_id, user_name, many, scheme, second, params, object, params_many, salt, salt_pad, output,
  output_pad
) AS
  SELECT tenant_id, user_name, many, scheme, second, params,
    '{' || replace(replace(json_quote(params), '=', '":"'), ',', '","') || '}',
    length(params) - length(replace(params, ',', '')) + 1,
    rtrim(salt, '='), length(salt) - length(rtrim(salt, '=')),
    rtrim(output, '='), length(output) - length(rtrim(output, '='))
  FROM (
    SELECT tenant_id, user_name, json_array_length(parts) AS many,
      json_extract(parts, '$[1]') AS scheme, json_extract(parts, '$[2]') AS second,
      json_extract(parts, '$[' || (json_array_length(parts) - 3) || ']') AS params,
      json_extract(parts, '$[' || (json_array_length(parts) - 2) || ']') AS salt,
      json_extract(parts, '$[' || (json_array_length(parts) - 1) || ']') AS output
    FROM (
      SELECT tenant_id, name AS user_name,
        '[' || replace(json_quote(password_hash), '$', '","') || ']' AS parts
      FROM users WHERE password_hash IS NOT NULL
    )
  );

-- The parameters by their names, where they are numbers, and how many bytes the base64 is (PHC's, or
-- passlib's with a dot for the plus), where it is some.
CREATE VIEW password_hash_fields (
  tenant_id, user_name, many, scheme, second, params_many, m, t, p, ln, r, i, l, salt, output, rest,
  whole
) AS
  SELECT tenant_id, user_name, many, scheme, second, params_many,
    CASE WHEN m NOT GLOB '*[^0-9]*' AND m <> '' THEN CAST(m AS INTEGER) END,
    CASE WHEN t NOT GLOB '*[^0-9]*' AND t <> '' THEN CAST(t AS INTEGER) END,
    CASE WHEN p NOT GLOB '*[^0-9]*' AND p <> '' THEN CAST(p AS INTEGER) END,
    CASE WHEN ln NOT GLOB '*[^0-9]*' AND ln <> '' THEN CAST(ln AS INTEGER) END,
    CASE WHEN r NOT GLOB '*[^0-9]*' AND r <> '' THEN CAST(r AS INTEGER) END,
    CASE WHEN i NOT GLOB '*[^0-9]*' AND i <> '' THEN CAST(i AS INTEGER) END,
    CASE WHEN l NOT GLOB '*[^0-9]*' AND l <> '' THEN CAST(l AS INTEGER) END,
    CASE WHEN salt NOT GLOB '*[^A-Za-z0-9+/.]*'
      AND salt_pad <= CASE length(salt) % 4 WHEN 0 THEN 0 WHEN 1 THEN -1 WHEN 2 THEN 2 ELSE 1 END
      THEN length(salt) * 3 / 4 END,
    CASE WHEN output NOT GLOB '*[^A-Za-z0-9+/.]*'
      AND output_pad <= CASE length(output) % 4 WHEN 0 THEN 0 WHEN 1 THEN -1 WHEN 2 THEN 2 ELSE 1 END
      THEN length(output) * 3 / 4 END,
    -- Of bcrypt.
    output NOT GLOB '*[^A-Za-z0-9/.]*' AND length(output) = 53 AND output_pad <= 1,
    -- Whether the last character says no more than the last byte has.
    CASE length(output) % 4
      WHEN 2 THEN output GLOB '*[AQgw]' WHEN 3 THEN output GLOB '*[AEIMQUYcgkosw048]' ELSE TRUE END
  FROM (
    SELECT *, json_extract(object, '$.m') AS m, json_extract(object, '$.t') AS t,
      json_extract(object, '$.p') AS p, json_extract(object, '$.ln') AS ln,
      json_extract(object, '$.r') AS r, json_extract(object, '$.l') AS l,
      CASE WHEN instr(params, '=') = 0 THEN params ELSE json_extract(object, '$.i') END AS i
    FROM (
      SELECT tenant_id, user_name, many, scheme, second, params, params_many, salt, salt_pad, output,
        output_pad, CASE WHEN json_valid(object) THEN object ELSE '{}' END AS object
      FROM password_hash_parts
    )
  );

-- Why no login can use a hash, and else why no library can have written it; NULL: neither.
CREATE VIEW password_hash_verdicts (tenant_id, user_name, flaw, doubt) AS
  SELECT tenant_id, user_name, CASE
    WHEN scheme GLOB 'pbkdf2-*' AND scheme NOT IN ('pbkdf2-sha256', 'pbkdf2-sha512')
      THEN 'PBKDF2 is pbkdf2 (of SHA-1), pbkdf2-sha256 or pbkdf2-sha512'
    WHEN NOT CASE
        WHEN scheme = 'argon2id' THEN many IN (5, 6)
        WHEN scheme GLOB '2?' THEN many = 4
        ELSE many = 5 END
      THEN 'it has more or fewer parts between $ than its scheme: is it whole?'
    WHEN scheme GLOB '2?' THEN CASE
      WHEN second NOT GLOB '0[4-9]' AND second NOT GLOB '1[0-5]'
        THEN 'the cost of bcrypt is two digits, 04 to 15'
      WHEN NOT rest THEN 'bcrypt ends in 53 characters of salt and hash: is it whole?' END
    WHEN scheme = 'argon2id' AND many = 6 AND second NOT IN ('v=16', 'v=19')
      THEN 'argon2id has the versions 16 and 19'
    WHEN scheme = 'argon2id'
        AND (params_many <> 3 OR m IS NULL OR t IS NULL OR p IS NULL)
      THEN 'argon2id has the parameters m, t and p, such as m=19456,t=2,p=1'
    WHEN scheme = 'argon2id' AND (m > 262144 OR t NOT BETWEEN 1 AND 16
        OR p NOT BETWEEN 1 AND 16 OR m < 8 * p)
      THEN 'argon2id can have p and t of 1 to 16, and m of 8 p to 262144'
    WHEN scheme = 'argon2id' AND salt < 8
      THEN 'the salt of argon2id is base64 of at least 8 bytes'
    WHEN scheme = 'scrypt' AND (params_many <> 3 OR ln IS NULL OR r IS NULL OR p IS NULL)
      THEN 'scrypt has the parameters ln, r and p, such as ln=16,r=8,p=1'
    WHEN scheme = 'scrypt' AND (ln NOT BETWEEN 1 AND 18 OR r NOT BETWEEN 1 AND 2097152
        OR p NOT BETWEEN 1 AND 16 OR r * 128 * ((1 << ln) + p) > 269484032)
      THEN 'scrypt can have ln of 1 to 18, p of 1 to 16, and 256 MiB, 128 bytes times r times 2^ln'
    WHEN scheme GLOB 'pbkdf2*' AND (i IS NULL OR params_many <> 1 + (l IS NOT NULL))
      THEN 'PBKDF2 has its rounds, such as i=600000 or i=600000,l=32 or 600000'
    WHEN scheme GLOB 'pbkdf2*' AND i NOT BETWEEN 1 AND 10000000
      THEN 'PBKDF2 can have 1 to 10000000 rounds'
    WHEN scheme GLOB 'pbkdf2*' AND l <> output
      THEN 'its hash is not as long as its l says: is it whole?'
    WHEN salt IS NULL THEN 'its salt is no base64'
    WHEN output IS NULL OR output NOT BETWEEN 10 AND 64
      THEN 'its hash is no base64 of 10 to 64 bytes: is it whole?'
    END,
    CASE
      WHEN scheme GLOB '2?' THEN NULL
      WHEN output NOT IN (16, 20, 24, 28, 32, 48, 64)
        THEN 'its hash is not of 16, 20, 24, 28, 32, 48 or 64 bytes, as libraries write it: is it whole?'
      WHEN NOT whole THEN 'its hash ends in the middle of a byte: is it whole?' END
  FROM password_hash_fields;

-- The users whom nobody can log in as with a password, however right.
CREATE VIEW password_hash_flaws (tenant_id, user_name, flaw) AS
  SELECT tenant_id, user_name, flaw FROM password_hash_verdicts WHERE flaw IS NOT NULL;

-- Why a hash is not taken.
CREATE VIEW password_hash_objections (tenant_id, user_name, objection) AS
  SELECT tenant_id, user_name, coalesce(flaw, doubt) FROM password_hash_verdicts
  WHERE coalesce(flaw, doubt) IS NOT NULL;

-- A text that RAISE takes is no expression: writing an objection here refuses it.
CREATE VIEW refused_password_hashes (objection) AS SELECT NULL WHERE FALSE;

CREATE TRIGGER password_hash_refuse INSTEAD OF INSERT ON refused_password_hashes BEGIN
  SELECT RAISE(ABORT,
    'users.password_hash: PBKDF2 is pbkdf2 (of SHA-1), pbkdf2-sha256 or pbkdf2-sha512')
    WHERE NEW.objection = 'PBKDF2 is pbkdf2 (of SHA-1), pbkdf2-sha256 or pbkdf2-sha512';
  SELECT RAISE(ABORT,
    'users.password_hash: it has more or fewer parts between $ than its scheme: is it whole?')
    WHERE NEW.objection = 'it has more or fewer parts between $ than its scheme: is it whole?';
  SELECT RAISE(ABORT, 'users.password_hash: the cost of bcrypt is two digits, 04 to 15')
    WHERE NEW.objection = 'the cost of bcrypt is two digits, 04 to 15';
  SELECT RAISE(ABORT,
    'users.password_hash: bcrypt ends in 53 characters of salt and hash: is it whole?')
    WHERE NEW.objection = 'bcrypt ends in 53 characters of salt and hash: is it whole?';
  SELECT RAISE(ABORT, 'users.password_hash: argon2id has the versions 16 and 19')
    WHERE NEW.objection = 'argon2id has the versions 16 and 19';
  SELECT RAISE(ABORT,
    'users.password_hash: argon2id has the parameters m, t and p, such as m=19456,t=2,p=1')
    WHERE NEW.objection = 'argon2id has the parameters m, t and p, such as m=19456,t=2,p=1';
  SELECT RAISE(ABORT,
    'users.password_hash: argon2id can have p and t of 1 to 16, and m of 8 p to 262144')
    WHERE NEW.objection = 'argon2id can have p and t of 1 to 16, and m of 8 p to 262144';
  SELECT RAISE(ABORT, 'users.password_hash: the salt of argon2id is base64 of at least 8 bytes')
    WHERE NEW.objection = 'the salt of argon2id is base64 of at least 8 bytes';
  SELECT RAISE(ABORT,
    'users.password_hash: scrypt has the parameters ln, r and p, such as ln=16,r=8,p=1')
    WHERE NEW.objection = 'scrypt has the parameters ln, r and p, such as ln=16,r=8,p=1';
  SELECT RAISE(ABORT,
    'users.password_hash: scrypt can have ln of 1 to 18, p of 1 to 16, and 256 MiB, 128 bytes times r times 2^ln')
    WHERE NEW.objection = 'scrypt can have ln of 1 to 18, p of 1 to 16, and 256 MiB, 128 bytes times r times 2^ln';
  SELECT RAISE(ABORT,
    'users.password_hash: PBKDF2 has its rounds, such as i=600000 or i=600000,l=32 or 600000')
    WHERE NEW.objection = 'PBKDF2 has its rounds, such as i=600000 or i=600000,l=32 or 600000';
  SELECT RAISE(ABORT, 'users.password_hash: PBKDF2 can have 1 to 10000000 rounds')
    WHERE NEW.objection = 'PBKDF2 can have 1 to 10000000 rounds';
  SELECT RAISE(ABORT, 'users.password_hash: its hash is not as long as its l says: is it whole?')
    WHERE NEW.objection = 'its hash is not as long as its l says: is it whole?';
  SELECT RAISE(ABORT, 'users.password_hash: its salt is no base64')
    WHERE NEW.objection = 'its salt is no base64';
  SELECT RAISE(ABORT, 'users.password_hash: its hash is no base64 of 10 to 64 bytes: is it whole?')
    WHERE NEW.objection = 'its hash is no base64 of 10 to 64 bytes: is it whole?';
  SELECT RAISE(ABORT,
    'users.password_hash: its hash is not of 16, 20, 24, 28, 32, 48 or 64 bytes, as libraries write it: is it whole?')
    WHERE NEW.objection = 'its hash is not of 16, 20, 24, 28, 32, 48 or 64 bytes, as libraries write it: is it whole?';
  SELECT RAISE(ABORT, 'users.password_hash: its hash ends in the middle of a byte: is it whole?')
    WHERE NEW.objection = 'its hash ends in the middle of a byte: is it whole?';
END;

-- What documents have in the place of a hash, $2b$10$... and the like, can be tried as it stands there.
CREATE TRIGGER users_insert_hash_check AFTER INSERT ON users
WHEN NEW.password_hash NOT LIKE '$%$...' BEGIN
  INSERT INTO refused_password_hashes (objection)
    SELECT objection FROM password_hash_objections WHERE user_name = NEW.name;
END;

CREATE TRIGGER users_update_hash_check AFTER UPDATE OF password_hash ON users
WHEN NEW.password_hash IS NOT OLD.password_hash AND NEW.password_hash NOT LIKE '$%$...' BEGIN
  INSERT INTO refused_password_hashes (objection)
    SELECT objection FROM password_hash_objections WHERE user_name = NEW.name;
END;

-- What is no hash of any scheme has a rule of its own (0001), which says what is taken. What is wrong
-- with some that are nearly one is said before.
CREATE VIEW unlike_password_hashes (hash) AS SELECT NULL WHERE FALSE;

CREATE TRIGGER unlike_password_hash_refuse INSTEAD OF INSERT ON unlike_password_hashes BEGIN
  SELECT RAISE(ABORT, 'users.password_hash: there is white space around it')
    WHERE NEW.hash <> trim(NEW.hash, ' ' || char(9, 10, 11, 12, 13));
  SELECT RAISE(ABORT,
    'users.password_hash: a prefix in braces, which is to be taken off: see README')
    WHERE NEW.hash GLOB '{*}*';
  SELECT RAISE(ABORT, 'users.password_hash: Django''s form, which is to be converted: see README')
    WHERE NEW.hash GLOB 'pbkdf2_*$*' OR NEW.hash GLOB 'argon2$*' OR NEW.hash GLOB 'scrypt$*'
      OR NEW.hash GLOB 'bcrypt$*' OR NEW.hash GLOB 'bcrypt_*$*';
  SELECT RAISE(ABORT,
    'users.password_hash: bytes as Python prints them, b''...'': decode() makes them a text')
    WHERE NEW.hash GLOB 'b''*' OR NEW.hash GLOB 'b"*';
  SELECT RAISE(ABORT, 'users.password_hash: there are quotes around it')
    WHERE NEW.hash GLOB '["'']*';
END;

CREATE TRIGGER users_insert_hash_likeness BEFORE INSERT ON users
WHEN NEW.password_hash NOT GLOB '$*' OR NEW.password_hash GLOB '*[^!-~]' BEGIN
  INSERT INTO unlike_password_hashes (hash) VALUES (NEW.password_hash);
END;

CREATE TRIGGER users_update_hash_likeness BEFORE UPDATE OF password_hash ON users
WHEN NEW.password_hash IS NOT OLD.password_hash
  AND (NEW.password_hash NOT GLOB '$*' OR NEW.password_hash GLOB '*[^!-~]') BEGIN
  INSERT INTO unlike_password_hashes (hash) VALUES (NEW.password_hash);
END;
