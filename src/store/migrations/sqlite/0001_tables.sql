-- The tenant table: what other programs read and write with plain SQL, and the service beside it.
-- A constraint's name is the text that whoever breaks it reads. There are no foreign keys: the
-- sqlite3 shell does not enforce them, so 0002 has triggers for references and cascades.
--
-- length(CAST(x AS BLOB)) = length(x) says: ASCII without an embedded NUL. The '+0 days' makes old
-- releases of SQLite count the days of a month.

CREATE TABLE tenants (
  id TEXT PRIMARY KEY NOT NULL
    CONSTRAINT "tenants.id: one subject token, 1 to 64 characters out of A-Z a-z 0-9 _ -" CHECK (
      typeof(id) = 'text' AND length(id) BETWEEN 1 AND 64
      AND length(CAST(id AS BLOB)) = length(id) AND id NOT GLOB '*[^A-Za-z0-9_-]*'),
  -- Tells a tenant from one of the same id that was deleted before it.
  incarnation TEXT NOT NULL DEFAULT (lower(hex(randomblob(16)))),
  name TEXT NOT NULL
    CONSTRAINT "tenants.name: printable, 1 to 128 characters" CHECK (
      typeof(name) = 'text' AND length(name) BETWEEN 1 AND 128 AND instr(name, char(0)) = 0
      AND name NOT GLOB '*[' || char(1, 45, 31, 127, 45, 159, 8232, 8233) || ']*'),
  status TEXT NOT NULL DEFAULT 'active'
    CONSTRAINT "tenants.status: active or suspended" CHECK (status IN ('active', 'suspended')),
  -- NULL: as the configuration says.
  isolation TEXT
    CONSTRAINT "tenants.isolation: account or shared" CHECK (isolation IN ('account', 'shared')),
  policy TEXT
    CONSTRAINT "tenants.policy: a policy's name, 1 to 64 characters out of A-Z a-z 0-9 _ -" CHECK (
      policy IS NULL OR (typeof(policy) = 'text' AND length(policy) BETWEEN 1 AND 64
      AND length(CAST(policy AS BLOB)) = length(policy) AND policy NOT GLOB '*[^A-Za-z0-9_-]*')),
  -- Config mode: the name of the NATS account.
  account TEXT
    CONSTRAINT "tenants.account: 1 to 64 characters out of A-Z a-z 0-9 _ -, not AUTH or SYS" CHECK (
      account IS NULL OR (typeof(account) = 'text' AND length(account) BETWEEN 1 AND 64
      AND length(CAST(account AS BLOB)) = length(account)
      AND account NOT GLOB '*[^A-Za-z0-9_-]*' AND account NOT IN ('AUTH', 'SYS'))),
  -- Bytes. Neither: no JetStream.
  js_memory INTEGER NOT NULL DEFAULT 0
    CONSTRAINT "tenants.js_memory: bytes, a whole number, 0 or more" CHECK (
      typeof(js_memory) = 'integer' AND js_memory >= 0),
  js_storage INTEGER NOT NULL DEFAULT 0
    CONSTRAINT "tenants.js_storage: bytes, a whole number, 0 or more" CHECK (
      typeof(js_storage) = 'integer' AND js_storage >= 0),
  -- NULL: unlimited. nats-server would take 0 streams or consumers for unlimited, too.
  js_streams INTEGER
    CONSTRAINT "tenants.js_streams: a whole number, 1 or more; NULL is unlimited" CHECK (
      js_streams IS NULL OR (typeof(js_streams) = 'integer' AND js_streams >= 1)),
  js_consumers INTEGER
    CONSTRAINT "tenants.js_consumers: a whole number, 1 or more; NULL is unlimited" CHECK (
      js_consumers IS NULL OR (typeof(js_consumers) = 'integer' AND js_consumers >= 1)),
  max_connections INTEGER
    CONSTRAINT "tenants.max_connections: a whole number, 0 or more" CHECK (
      max_connections IS NULL OR (typeof(max_connections) = 'integer' AND max_connections >= 0)),
  -- Operator mode, own account: whether BB's requests on user.<id>.Notifications are answered.
  answers BOOLEAN NOT NULL DEFAULT FALSE
    CONSTRAINT "tenants.answers: true or false" CHECK (
      typeof(answers) = 'integer' AND answers IN (0, 1)),
  expires_at TEXT
    CONSTRAINT "tenants.expires_at: a time such as 2027-01-01 00:00:00+00:00" CHECK (
      expires_at IS NULL OR CASE
        WHEN typeof(expires_at) = 'text' AND length(CAST(expires_at AS BLOB)) = length(expires_at)
          AND (expires_at GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]' OR expires_at GLOB
            '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9][ T][0-9][0-9]:[0-9][0-9]*')
        THEN date(substr(expires_at, 1, 10), '+0 days') IS substr(expires_at, 1, 10)
          AND strftime('%s', expires_at ||
            substr(':00', 1, 3 * (expires_at GLOB '*:*[-+][0-9][0-9]'))) IS NOT NULL
        ELSE 0 END),
  created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f+00:00', 'now'))
    CONSTRAINT "tenants.created_at: a time" CHECK (strftime('%s', created_at) IS NOT NULL),
  updated_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f+00:00', 'now'))
    CONSTRAINT "tenants.updated_at: a time" CHECK (strftime('%s', updated_at) IS NOT NULL)
);
CREATE INDEX tenants_answers ON tenants (id) WHERE answers;

CREATE TABLE users (
  -- The login, unique over all tenants.
  name TEXT PRIMARY KEY NOT NULL
    CONSTRAINT "users.name: printable, 1 to 128 characters" CHECK (
      typeof(name) = 'text' AND length(name) BETWEEN 1 AND 128 AND instr(name, char(0)) = 0
      AND name NOT GLOB '*[' || char(1, 45, 31, 127, 45, 159, 8232, 8233) || ']*'),
  tenant_id TEXT NOT NULL,
  kind TEXT NOT NULL DEFAULT 'bb'
    CONSTRAINT "users.kind: bb or service" CHECK (kind IN ('bb', 'service')),
  password_hash TEXT
    CONSTRAINT "users.password_hash: argon2id, bcrypt, pbkdf2 or scrypt in PHC or passlib form"
    CHECK (password_hash IS NULL OR (
      typeof(password_hash) = 'text' AND length(password_hash) <= 512
      AND length(CAST(password_hash AS BLOB)) = length(password_hash)
      AND password_hash NOT GLOB '*[' || char(1, 45, 32, 127) || ']*'
      AND (password_hash GLOB '$argon2id$?*'
        OR password_hash GLOB '$2[aby]$?*'
        OR password_hash GLOB '$pbkdf2$?*' OR password_hash GLOB '$pbkdf2-sha[0-9]*$?*'
        OR password_hash GLOB '$scrypt$?*'))),
  nkey TEXT
    CONSTRAINT "users.nkey: a public user nkey, U and 55 characters of base32" CHECK (
      nkey IS NULL OR (typeof(nkey) = 'text' AND length(nkey) = 56
      AND length(CAST(nkey AS BLOB)) = 56 AND nkey GLOB 'U*' AND nkey NOT GLOB '*[^A-Z2-7]*')),
  certificate TEXT
    CONSTRAINT "users.certificate: printable, 1 to 255 characters" CHECK (
      certificate IS NULL OR (
      typeof(certificate) = 'text' AND length(certificate) BETWEEN 1 AND 255
      AND instr(certificate, char(0)) = 0
      AND certificate NOT GLOB '*[' || char(1, 45, 31, 127, 45, 159, 8232, 8233) || ']*')),
  publish TEXT NOT NULL DEFAULT '[]'
    CONSTRAINT "users.publish: a JSON array of subjects" CHECK (
      typeof(publish) = 'text' AND json_valid(publish) AND instr(publish, char(0)) = 0
      AND CASE WHEN json_valid(publish) THEN json_type(publish) = 'array' ELSE 0 END),
  subscribe TEXT NOT NULL DEFAULT '[]'
    CONSTRAINT "users.subscribe: a JSON array of subjects" CHECK (
      typeof(subscribe) = 'text' AND json_valid(subscribe) AND instr(subscribe, char(0)) = 0
      AND CASE WHEN json_valid(subscribe) THEN json_type(subscribe) = 'array' ELSE 0 END),
  policy TEXT
    CONSTRAINT "users.policy: a policy's name, 1 to 64 characters out of A-Z a-z 0-9 _ -" CHECK (
      policy IS NULL OR (typeof(policy) = 'text' AND length(policy) BETWEEN 1 AND 64
      AND length(CAST(policy AS BLOB)) = length(policy) AND policy NOT GLOB '*[^A-Za-z0-9_-]*')),
  status TEXT NOT NULL DEFAULT 'active'
    CONSTRAINT "users.status: active or suspended" CHECK (status IN ('active', 'suspended')),
  expires_at TEXT
    CONSTRAINT "users.expires_at: a time such as 2027-01-01 00:00:00+00:00" CHECK (
      expires_at IS NULL OR CASE
        WHEN typeof(expires_at) = 'text' AND length(CAST(expires_at AS BLOB)) = length(expires_at)
          AND (expires_at GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]' OR expires_at GLOB
            '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9][ T][0-9][0-9]:[0-9][0-9]*')
        THEN date(substr(expires_at, 1, 10), '+0 days') IS substr(expires_at, 1, 10)
          AND strftime('%s', expires_at ||
            substr(':00', 1, 3 * (expires_at GLOB '*:*[-+][0-9][0-9]'))) IS NOT NULL
        ELSE 0 END),
  last_login_at TEXT
    CONSTRAINT "users.last_login_at: a time" CHECK (
      last_login_at IS NULL OR strftime('%s', last_login_at) IS NOT NULL),
  created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f+00:00', 'now'))
    CONSTRAINT "users.created_at: a time" CHECK (strftime('%s', created_at) IS NOT NULL),
  updated_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f+00:00', 'now'))
    CONSTRAINT "users.updated_at: a time" CHECK (strftime('%s', updated_at) IS NOT NULL)
);
CREATE INDEX users_tenant_id ON users (tenant_id);
CREATE UNIQUE INDEX users_nkey ON users (nkey) WHERE nkey IS NOT NULL;
CREATE UNIQUE INDEX users_certificate ON users (certificate) WHERE certificate IS NOT NULL;

CREATE TABLE tokens (
  -- Public: what a person names when the token is to be removed.
  id TEXT PRIMARY KEY NOT NULL DEFAULT (lower(hex(randomblob(6))))
    CONSTRAINT "tokens.id: 1 to 64 characters out of A-Z a-z 0-9 _ -" CHECK (
      typeof(id) = 'text' AND length(id) BETWEEN 1 AND 64
      AND length(CAST(id AS BLOB)) = length(id) AND id NOT GLOB '*[^A-Za-z0-9_-]*'),
  user_name TEXT NOT NULL,
  token_hash TEXT NOT NULL UNIQUE
    CONSTRAINT "tokens.token_hash: SHA-256 in 64 lower-case hex digits" CHECK (
      typeof(token_hash) = 'text' AND length(token_hash) = 64
      AND length(CAST(token_hash AS BLOB)) = 64 AND token_hash NOT GLOB '*[^0-9a-f]*'),
  label TEXT
    CONSTRAINT "tokens.label: printable, at most 128 characters" CHECK (
      label IS NULL OR (typeof(label) = 'text' AND length(label) <= 128
      AND instr(label, char(0)) = 0
      AND label NOT GLOB '*[' || char(1, 45, 31, 127, 45, 159, 8232, 8233) || ']*')),
  expires_at TEXT
    CONSTRAINT "tokens.expires_at: a time such as 2027-01-01 00:00:00+00:00" CHECK (
      expires_at IS NULL OR CASE
        WHEN typeof(expires_at) = 'text' AND length(CAST(expires_at AS BLOB)) = length(expires_at)
          AND (expires_at GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]' OR expires_at GLOB
            '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9][ T][0-9][0-9]:[0-9][0-9]*')
        THEN date(substr(expires_at, 1, 10), '+0 days') IS substr(expires_at, 1, 10)
          AND strftime('%s', expires_at ||
            substr(':00', 1, 3 * (expires_at GLOB '*:*[-+][0-9][0-9]'))) IS NOT NULL
        ELSE 0 END),
  created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f+00:00', 'now'))
    CONSTRAINT "tokens.created_at: a time" CHECK (strftime('%s', created_at) IS NOT NULL)
);
CREATE INDEX tokens_user_name ON tokens (user_name);

-- Operator mode: the account of this incarnation of a tenant. It goes with the tenant's row, and
-- JetStream data hangs on it, so it never changes; INSERT OR REPLACE of the tenant keeps it.
CREATE TABLE tenant_accounts (
  tenant_id TEXT PRIMARY KEY NOT NULL,
  account TEXT NOT NULL UNIQUE
    CONSTRAINT "tenant_accounts.account: a public account nkey, A and 55 characters of base32"
    CHECK (typeof(account) = 'text' AND length(account) = 56
      AND length(CAST(account AS BLOB)) = 56
      AND account GLOB 'A*' AND account NOT GLOB '*[^A-Z2-7]*'),
  created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f+00:00', 'now'))
    CONSTRAINT "tenant_accounts.created_at: a time" CHECK (strftime('%s', created_at) IS NOT NULL)
);

-- What was changed, noted in the transaction that changed it (0003): for caches, which forget it,
-- and for the connections that are alive and the accounts that servers hold.
CREATE TABLE changes (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL CHECK (kind IN ('tenant', 'user', 'token', 'account')),
  -- A tenant's id, a user's name, a token's hash; of an account that is gone, its tenant's id.
  key TEXT NOT NULL,
  -- Operator mode: the tenant's account at that time, in which connections may be alive.
  account TEXT,
  -- Whether the connections that are alive stand for what is no longer granted.
  closes INTEGER NOT NULL DEFAULT 0,
  -- The unix time that grants must not outlive from now on, where they could before.
  ends_at INTEGER,
  -- Whether servers have to learn new limits of the account.
  pushes INTEGER NOT NULL DEFAULT 0,
  at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
);

-- Accounts that tenants had: they are taken off servers, also off one that was down then.
CREATE TABLE removed_accounts (
  account TEXT PRIMARY KEY NOT NULL,
  tenant_id TEXT NOT NULL,
  removed_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f+00:00', 'now'))
);

-- What the row granted that an INSERT OR REPLACE deletes without a trigger; one row, for the time
-- between what runs before an INSERT and what runs after it.
CREATE TABLE replaced (
  kind TEXT NOT NULL,
  key TEXT NOT NULL,
  account TEXT,
  grants TEXT NOT NULL,
  limits TEXT,
  ends_at INTEGER
);

-- The instances of the service that are alive, with the unix time of their last heartbeat.
CREATE TABLE instances (
  id TEXT PRIMARY KEY NOT NULL,
  seen_at INTEGER NOT NULL CHECK (typeof(seen_at) = 'integer')
);
