-- What a program writes as bytes (Python's b'...', Go's []byte) is told as that, and not by what the rules
-- of its column make of it, which let none in. A token's hash of 32 bytes is a digest, of which no decode()
-- makes a text: its column's rule says what is wanted.
CREATE VIEW texts_of_tenants (id, name, status, isolation, policy, account, expires_at) AS
  SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL WHERE FALSE;

CREATE TRIGGER texts_of_tenants_refuse INSTEAD OF INSERT ON texts_of_tenants BEGIN
  SELECT RAISE(ABORT, 'tenants.id: bytes, which decode() or string() makes a text')
    WHERE typeof(NEW.id) = 'blob';
  SELECT RAISE(ABORT, 'tenants.name: bytes, which decode() or string() makes a text')
    WHERE typeof(NEW.name) = 'blob';
  SELECT RAISE(ABORT, 'tenants.status: bytes, which decode() or string() makes a text')
    WHERE typeof(NEW.status) = 'blob';
  SELECT RAISE(ABORT, 'tenants.isolation: bytes, which decode() or string() makes a text')
    WHERE typeof(NEW.isolation) = 'blob';
  SELECT RAISE(ABORT, 'tenants.policy: bytes, which decode() or string() makes a text')
    WHERE typeof(NEW.policy) = 'blob';
  SELECT RAISE(ABORT, 'tenants.account: bytes, which decode() or string() makes a text')
    WHERE typeof(NEW.account) = 'blob';
  SELECT RAISE(ABORT, 'tenants.expires_at: bytes, which decode() or string() makes a text')
    WHERE typeof(NEW.expires_at) = 'blob';
END;

CREATE TRIGGER tenants_insert_bytes BEFORE INSERT ON tenants BEGIN
  INSERT INTO texts_of_tenants VALUES (
    NEW.id, NEW.name, NEW.status, NEW.isolation, NEW.policy, NEW.account, NEW.expires_at
  );
END;

CREATE TRIGGER tenants_update_bytes BEFORE UPDATE OF
  id, name, status, isolation, policy, account, expires_at ON tenants
BEGIN
  INSERT INTO texts_of_tenants VALUES (
    NEW.id, NEW.name, NEW.status, NEW.isolation, NEW.policy, NEW.account, NEW.expires_at
  );
END;

CREATE VIEW texts_of_users (
  name, tenant_id, kind, password_hash, nkey, certificate, publish, subscribe, policy, status,
  expires_at
) AS
  SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL WHERE FALSE;

CREATE TRIGGER texts_of_users_refuse INSTEAD OF INSERT ON texts_of_users BEGIN
  SELECT RAISE(ABORT, 'users.name: bytes, which decode() or string() makes a text')
    WHERE typeof(NEW.name) = 'blob';
  SELECT RAISE(ABORT, 'users.tenant_id: bytes, which decode() or string() makes a text')
    WHERE typeof(NEW.tenant_id) = 'blob';
  SELECT RAISE(ABORT, 'users.kind: bytes, which decode() or string() makes a text')
    WHERE typeof(NEW.kind) = 'blob';
  SELECT RAISE(ABORT, 'users.password_hash: bytes, which decode() or string() makes a text')
    WHERE typeof(NEW.password_hash) = 'blob';
  SELECT RAISE(ABORT, 'users.nkey: bytes, which decode() or string() makes a text')
    WHERE typeof(NEW.nkey) = 'blob';
  SELECT RAISE(ABORT, 'users.certificate: bytes, which decode() or string() makes a text')
    WHERE typeof(NEW.certificate) = 'blob';
  SELECT RAISE(ABORT, 'users.publish: bytes, which decode() or string() makes a text')
    WHERE typeof(NEW.publish) = 'blob';
  SELECT RAISE(ABORT, 'users.subscribe: bytes, which decode() or string() makes a text')
    WHERE typeof(NEW.subscribe) = 'blob';
  SELECT RAISE(ABORT, 'users.policy: bytes, which decode() or string() makes a text')
    WHERE typeof(NEW.policy) = 'blob';
  SELECT RAISE(ABORT, 'users.status: bytes, which decode() or string() makes a text')
    WHERE typeof(NEW.status) = 'blob';
  SELECT RAISE(ABORT, 'users.expires_at: bytes, which decode() or string() makes a text')
    WHERE typeof(NEW.expires_at) = 'blob';
END;

CREATE TRIGGER users_insert_bytes BEFORE INSERT ON users BEGIN
  INSERT INTO texts_of_users VALUES (
    NEW.name, NEW.tenant_id, NEW.kind, NEW.password_hash, NEW.nkey, NEW.certificate, NEW.publish,
    NEW.subscribe, NEW.policy, NEW.status, NEW.expires_at
  );
END;

CREATE TRIGGER users_update_bytes BEFORE UPDATE OF
  name, tenant_id, kind, password_hash, nkey, certificate, publish, subscribe, policy, status,
  expires_at ON users
BEGIN
  INSERT INTO texts_of_users VALUES (
    NEW.name, NEW.tenant_id, NEW.kind, NEW.password_hash, NEW.nkey, NEW.certificate, NEW.publish,
    NEW.subscribe, NEW.policy, NEW.status, NEW.expires_at
  );
END;

CREATE VIEW texts_of_tokens (id, user_name, token_hash, label, expires_at) AS
  SELECT NULL, NULL, NULL, NULL, NULL WHERE FALSE;

CREATE TRIGGER texts_of_tokens_refuse INSTEAD OF INSERT ON texts_of_tokens BEGIN
  SELECT RAISE(ABORT, 'tokens.id: bytes, which decode() or string() makes a text')
    WHERE typeof(NEW.id) = 'blob';
  SELECT RAISE(ABORT, 'tokens.user_name: bytes, which decode() or string() makes a text')
    WHERE typeof(NEW.user_name) = 'blob';
  SELECT RAISE(ABORT, 'tokens.token_hash: bytes, which decode() or string() makes a text')
    WHERE typeof(NEW.token_hash) = 'blob' AND length(NEW.token_hash) <> 32;
  SELECT RAISE(ABORT, 'tokens.label: bytes, which decode() or string() makes a text')
    WHERE typeof(NEW.label) = 'blob';
  SELECT RAISE(ABORT, 'tokens.expires_at: bytes, which decode() or string() makes a text')
    WHERE typeof(NEW.expires_at) = 'blob';
END;

CREATE TRIGGER tokens_insert_bytes BEFORE INSERT ON tokens BEGIN
  INSERT INTO texts_of_tokens VALUES (
    NEW.id, NEW.user_name, NEW.token_hash, NEW.label, NEW.expires_at
  );
END;

CREATE TRIGGER tokens_update_bytes BEFORE UPDATE OF
  id, user_name, token_hash, label, expires_at ON tokens
BEGIN
  INSERT INTO texts_of_tokens VALUES (
    NEW.id, NEW.user_name, NEW.token_hash, NEW.label, NEW.expires_at
  );
END;

-- As in 0010, of texts; and schemes that look like those that are taken, and are not.
DROP TRIGGER users_insert_hash_likeness;
DROP TRIGGER users_update_hash_likeness;

CREATE TRIGGER other_password_hash_refuse INSTEAD OF INSERT ON unlike_password_hashes
WHEN NEW.hash NOT GLOB '*[^!-~]'
  AND (NEW.hash GLOB '$argon2[di]$?*' OR NEW.hash GLOB '$bcrypt-sha256$?*'
    OR NEW.hash GLOB '$[156y]$?*') BEGIN
  SELECT RAISE(ABORT,
    'users.password_hash: another scheme, which no login takes: the user needs a new password');
END;

CREATE TRIGGER users_insert_hash_likeness BEFORE INSERT ON users
WHEN typeof(NEW.password_hash) = 'text' BEGIN
  INSERT INTO unlike_password_hashes (hash) VALUES (NEW.password_hash);
END;

CREATE TRIGGER users_update_hash_likeness BEFORE UPDATE OF password_hash ON users
WHEN NEW.password_hash IS NOT OLD.password_hash AND typeof(NEW.password_hash) = 'text' BEGIN
  INSERT INTO unlike_password_hashes (hash) VALUES (NEW.password_hash);
END;

-- The column's rule (0001) does not say what is unlimited, for which -1 is NATS's own word.
CREATE TRIGGER tenants_insert_connections BEFORE INSERT ON tenants
WHEN typeof(NEW.max_connections) NOT IN ('integer', 'null') OR NEW.max_connections < 0 BEGIN
  SELECT RAISE(ABORT, 'tenants.max_connections: a whole number, 0 or more; NULL is unlimited');
END;

CREATE TRIGGER tenants_update_connections BEFORE UPDATE OF max_connections ON tenants
WHEN typeof(NEW.max_connections) NOT IN ('integer', 'null') OR NEW.max_connections < 0 BEGIN
  SELECT RAISE(ABORT, 'tenants.max_connections: a whole number, 0 or more; NULL is unlimited');
END;
