-- The tenant table: what other programs read and write with plain SQL, and the service beside it.
-- Everything lies in the first schema of the search path of whoever applies this. Each rule's text
-- is what whoever breaks it reads. Texts are compared by their bytes, whatever the locale.

-- A rule of a table: the error is the rule's own text, which would be too long for the name of a
-- constraint.
CREATE FUNCTION holds(condition BOOLEAN, rule TEXT) RETURNS BOOLEAN LANGUAGE plpgsql AS $$
BEGIN
  IF NOT condition THEN
    RAISE check_violation USING MESSAGE = rule;
  END IF;
  RETURN TRUE;
END $$;

-- 1 to `most` characters, none of them a control.
CREATE FUNCTION is_printable(text TEXT, most INT) RETURNS BOOLEAN LANGUAGE sql IMMUTABLE
  RETURN length(text) BETWEEN 1 AND most
    AND text !~ '[\u0001-\u001f\u007f-\u009f\u2028\u2029\ufffe\uffff]';

-- 1 to 255 characters, none of them white space or a control; no token is empty; * is a whole
-- token, > the whole last one.
CREATE FUNCTION is_subject(text TEXT) RETURNS BOOLEAN LANGUAGE sql IMMUTABLE
  RETURN length(text) BETWEEN 1 AND 255
    AND text !~ '[\u0001-\u0020\u007f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]'
    AND text !~ '[\ufffd-\uffff]'
    AND text ~ '^((\*|[^.*>]+)\.)*(\*|>|[^.*>]+)$';

-- A JSON array of subjects, in the column named.
CREATE FUNCTION holds_subjects(list TEXT, col TEXT) RETURNS BOOLEAN LANGUAGE plpgsql AS $$
DECLARE
  parsed JSONB;
BEGIN
  IF list = '[]' THEN
    RETURN TRUE;
  END IF;
  BEGIN
    parsed := list::JSONB;
  EXCEPTION WHEN data_exception OR statement_too_complex OR program_limit_exceeded THEN
    parsed := NULL;
  END;
  PERFORM holds(parsed IS NOT NULL AND jsonb_typeof(parsed) = 'array',
    col || ': a JSON array of subjects');
  PERFORM holds(NOT EXISTS (
    SELECT FROM jsonb_array_elements(parsed) AS e (value)
    WHERE jsonb_typeof(e.value) <> 'string' OR NOT is_subject(e.value #>> '{}')
  ), col || ': holds a text that is no subject');
  RETURN TRUE;
END $$;

-- A time that can be written down: neither infinite nor beyond the year 9999.
CREATE FUNCTION holds_time(at TIMESTAMPTZ, col TEXT) RETURNS BOOLEAN LANGUAGE plpgsql AS $$
BEGIN
  RETURN holds(at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00',
    col || ': a time such as 2027-01-01 00:00:00+00:00');
END $$;

CREATE TABLE tenants (
  id TEXT COLLATE "C" NOT NULL
    CONSTRAINT "tenants.id: another tenant has it" PRIMARY KEY
    CONSTRAINT tenants_id CHECK (holds(id ~ '^[A-Za-z0-9_-]{1,64}$',
      'tenants.id: one subject token, 1 to 64 characters out of A-Z a-z 0-9 _ -')),
  -- Tells a tenant from one of the same id that was deleted before it.
  incarnation TEXT COLLATE "C" NOT NULL DEFAULT (replace(gen_random_uuid()::TEXT, '-', '')),
  name TEXT NOT NULL
    CONSTRAINT tenants_name CHECK (holds(is_printable(name, 128),
      'tenants.name: printable, 1 to 128 characters')),
  status TEXT COLLATE "C" NOT NULL DEFAULT 'active'
    CONSTRAINT tenants_status CHECK (holds(status IN ('active', 'suspended'),
      'tenants.status: active or suspended')),
  -- NULL: as the configuration says.
  isolation TEXT COLLATE "C"
    CONSTRAINT tenants_isolation CHECK (holds(isolation IN ('account', 'shared'),
      'tenants.isolation: account or shared')),
  policy TEXT COLLATE "C"
    CONSTRAINT tenants_policy CHECK (holds(policy ~ '^[A-Za-z0-9_-]{1,64}$',
      'tenants.policy: a policy''s name, 1 to 64 characters out of A-Z a-z 0-9 _ -')),
  -- Config mode: the name of the NATS account.
  account TEXT COLLATE "C"
    CONSTRAINT tenants_account CHECK (holds(
      account ~ '^[A-Za-z0-9_-]{1,64}$' AND account NOT IN ('AUTH', 'SYS'),
      'tenants.account: 1 to 64 characters out of A-Z a-z 0-9 _ -, not AUTH or SYS')),
  -- Bytes. Neither: no JetStream.
  js_memory BIGINT NOT NULL DEFAULT 0
    CONSTRAINT tenants_js_memory CHECK (holds(js_memory >= 0,
      'tenants.js_memory: bytes, a whole number, 0 or more')),
  js_storage BIGINT NOT NULL DEFAULT 0
    CONSTRAINT tenants_js_storage CHECK (holds(js_storage >= 0,
      'tenants.js_storage: bytes, a whole number, 0 or more')),
  -- NULL: unlimited. nats-server would take 0 streams or consumers for unlimited, too.
  js_streams BIGINT
    CONSTRAINT tenants_js_streams CHECK (holds(js_streams >= 1,
      'tenants.js_streams: a whole number, 1 or more; NULL is unlimited')),
  js_consumers BIGINT
    CONSTRAINT tenants_js_consumers CHECK (holds(js_consumers >= 1,
      'tenants.js_consumers: a whole number, 1 or more; NULL is unlimited')),
  max_connections BIGINT
    CONSTRAINT tenants_max_connections CHECK (holds(max_connections >= 0,
      'tenants.max_connections: a whole number, 0 or more')),
  -- Operator mode, own account: whether BB's requests on user.<id>.Notifications are answered.
  answers BOOLEAN NOT NULL DEFAULT FALSE,
  expires_at TIMESTAMPTZ
    CONSTRAINT tenants_expires_at CHECK (holds_time(expires_at, 'tenants.expires_at')),
  created_at TIMESTAMPTZ NOT NULL DEFAULT date_trunc('milliseconds', clock_timestamp())
    CONSTRAINT tenants_created_at CHECK (holds_time(created_at, 'tenants.created_at')),
  updated_at TIMESTAMPTZ NOT NULL DEFAULT date_trunc('milliseconds', clock_timestamp())
    CONSTRAINT tenants_updated_at CHECK (holds_time(updated_at, 'tenants.updated_at'))
);
CREATE INDEX tenants_answers ON tenants (id) WHERE answers;

CREATE TABLE users (
  -- The login, unique over all tenants.
  name TEXT COLLATE "C" NOT NULL
    CONSTRAINT "users.name: another user has it" PRIMARY KEY
    CONSTRAINT users_name CHECK (holds(is_printable(name, 128),
      'users.name: printable, 1 to 128 characters')),
  tenant_id TEXT COLLATE "C" NOT NULL
    CONSTRAINT "users.tenant_id: no such tenant" REFERENCES tenants ON DELETE CASCADE,
  kind TEXT COLLATE "C" NOT NULL DEFAULT 'bb'
    CONSTRAINT users_kind CHECK (holds(kind IN ('bb', 'service'), 'users.kind: bb or service')),
  password_hash TEXT COLLATE "C"
    CONSTRAINT users_password_hash CHECK (holds(
      length(password_hash) <= 512 AND password_hash ~ '^[!-~]+$' AND password_hash ~
        '^\$(argon2id|2[aby]|pbkdf2|pbkdf2-sha[0-9][^$]*|scrypt)\$.',
      'users.password_hash: argon2id, bcrypt, pbkdf2 or scrypt in PHC or passlib form')),
  nkey TEXT COLLATE "C"
    CONSTRAINT "users.nkey: another user has it" UNIQUE
    CONSTRAINT users_nkey CHECK (holds(nkey ~ '^U[A-Z2-7]{55}$',
      'users.nkey: a public user nkey, U and 55 characters of base32')),
  certificate TEXT COLLATE "C"
    CONSTRAINT "users.certificate: another user has it" UNIQUE
    CONSTRAINT users_certificate CHECK (holds(is_printable(certificate, 255),
      'users.certificate: printable, 1 to 255 characters')),
  publish TEXT NOT NULL DEFAULT '[]'
    CONSTRAINT users_publish CHECK (holds_subjects(publish, 'users.publish')),
  subscribe TEXT NOT NULL DEFAULT '[]'
    CONSTRAINT users_subscribe CHECK (holds_subjects(subscribe, 'users.subscribe')),
  policy TEXT COLLATE "C"
    CONSTRAINT users_policy CHECK (holds(policy ~ '^[A-Za-z0-9_-]{1,64}$',
      'users.policy: a policy''s name, 1 to 64 characters out of A-Z a-z 0-9 _ -')),
  status TEXT COLLATE "C" NOT NULL DEFAULT 'active'
    CONSTRAINT users_status CHECK (holds(status IN ('active', 'suspended'),
      'users.status: active or suspended')),
  expires_at TIMESTAMPTZ
    CONSTRAINT users_expires_at CHECK (holds_time(expires_at, 'users.expires_at')),
  last_login_at TIMESTAMPTZ
    CONSTRAINT users_last_login_at CHECK (holds_time(last_login_at, 'users.last_login_at')),
  created_at TIMESTAMPTZ NOT NULL DEFAULT date_trunc('milliseconds', clock_timestamp())
    CONSTRAINT users_created_at CHECK (holds_time(created_at, 'users.created_at')),
  updated_at TIMESTAMPTZ NOT NULL DEFAULT date_trunc('milliseconds', clock_timestamp())
    CONSTRAINT users_updated_at CHECK (holds_time(updated_at, 'users.updated_at'))
);
CREATE INDEX users_tenant_id ON users (tenant_id);

CREATE TABLE tokens (
  -- Public: what a person names when the token is to be removed.
  id TEXT COLLATE "C" NOT NULL DEFAULT (left(replace(gen_random_uuid()::TEXT, '-', ''), 12))
    CONSTRAINT "tokens.id: another token has it" PRIMARY KEY
    CONSTRAINT tokens_id CHECK (holds(id ~ '^[A-Za-z0-9_-]{1,64}$',
      'tokens.id: 1 to 64 characters out of A-Z a-z 0-9 _ -')),
  user_name TEXT COLLATE "C" NOT NULL
    CONSTRAINT "tokens.user_name: no such user" REFERENCES users
    ON DELETE CASCADE ON UPDATE CASCADE,
  token_hash TEXT COLLATE "C" NOT NULL
    CONSTRAINT "tokens.token_hash: another token has it" UNIQUE
    CONSTRAINT tokens_token_hash CHECK (holds(token_hash ~ '^[0-9a-f]{64}$',
      'tokens.token_hash: SHA-256 in 64 lower-case hex digits')),
  label TEXT
    CONSTRAINT tokens_label CHECK (holds(label = '' OR is_printable(label, 128),
      'tokens.label: printable, at most 128 characters')),
  expires_at TIMESTAMPTZ
    CONSTRAINT tokens_expires_at CHECK (holds_time(expires_at, 'tokens.expires_at')),
  created_at TIMESTAMPTZ NOT NULL DEFAULT date_trunc('milliseconds', clock_timestamp())
    CONSTRAINT tokens_created_at CHECK (holds_time(created_at, 'tokens.created_at'))
);
CREATE INDEX tokens_user_name ON tokens (user_name);

-- Operator mode: the account of this incarnation of a tenant. It goes with the tenant's row, and
-- JetStream data hangs on it, so it never changes.
CREATE TABLE tenant_accounts (
  tenant_id TEXT COLLATE "C" NOT NULL
    CONSTRAINT "tenant_accounts.tenant_id: another account has it" PRIMARY KEY
    CONSTRAINT "tenant_accounts.tenant_id: no such tenant" REFERENCES tenants ON DELETE CASCADE,
  account TEXT COLLATE "C" NOT NULL
    CONSTRAINT "tenant_accounts.account: another tenant has it" UNIQUE
    CONSTRAINT tenant_accounts_account CHECK (holds(account ~ '^A[A-Z2-7]{55}$',
      'tenant_accounts.account: a public account nkey, A and 55 characters of base32')),
  created_at TIMESTAMPTZ NOT NULL DEFAULT date_trunc('milliseconds', clock_timestamp())
);

-- What was changed, noted in the transaction that changed it (0003): for caches, which forget it,
-- and for the connections that are alive and the accounts that servers hold.
CREATE TABLE changes (
  seq BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
  -- The transaction: commits overtake each other, so only this tells what has become visible since.
  xid XID8 NOT NULL DEFAULT pg_current_xact_id(),
  -- `pruned`: notes are gone, of transactions up to the one that `key` names.
  kind TEXT COLLATE "C" NOT NULL
    CHECK (kind IN ('tenant', 'user', 'token', 'account', 'pruned')),
  -- A tenant's id, a user's name, a token's hash; of an account that is gone, its tenant's id.
  key TEXT COLLATE "C" NOT NULL,
  -- Operator mode: the tenant's account at that time, in which connections may be alive.
  account TEXT COLLATE "C",
  -- 1: the connections that are alive stand for what is no longer granted.
  closes BIGINT NOT NULL DEFAULT 0 CHECK (closes IN (0, 1)),
  -- The unix time that grants must not outlive from now on, where they could before.
  ends_at BIGINT,
  -- 1: servers have to learn new limits of the account.
  pushes BIGINT NOT NULL DEFAULT 0 CHECK (pushes IN (0, 1)),
  at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX changes_xid ON changes (xid);

-- Accounts that tenants had: they are taken off servers, also off one that was down then.
CREATE TABLE removed_accounts (
  account TEXT COLLATE "C" PRIMARY KEY,
  tenant_id TEXT COLLATE "C" NOT NULL,
  removed_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
);

-- The instances of the service that are alive, with the unix time of their last heartbeat.
CREATE TABLE instances (
  id TEXT COLLATE "C" PRIMARY KEY,
  seen_at BIGINT NOT NULL
);
