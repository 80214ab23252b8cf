//! The statements that the databases share, word for word: parameters are `$1`, and what differs
//! between dialects hides behind the views of the migrations (times as unix seconds) and the
//! function `datetime(seconds, 'unixepoch')`, which SQLite has and other databases are given.

/// A user with its tenant, by login name: all that a login asks.
pub(crate) const LOGIN: &str = "SELECT * FROM login_records WHERE user_name = $1";

/// A user with its tenant, by a public nkey.
pub(crate) const LOGIN_BY_NKEY: &str = "SELECT * FROM login_records WHERE nkey = $1";

/// A user with its tenant, by a name that a certificate certifies.
pub(crate) const LOGIN_BY_CERTIFICATE: &str = "SELECT * FROM login_records WHERE certificate = $1";

/// A token by its hash.
pub(crate) const TOKEN: &str =
    "SELECT user_name, token_expires_at FROM token_records WHERE token_hash = $1";

/// The account of one incarnation of a tenant.
pub(crate) const ACCOUNT: &str = "SELECT a.account FROM tenant_accounts AS a \
     JOIN tenants AS t ON t.id = a.tenant_id WHERE t.id = $1 AND t.incarnation = $2";

/// Keeps an account for an incarnation of a tenant that exists and has none.
pub(crate) const KEEP_ACCOUNT: &str = "INSERT INTO tenant_accounts (tenant_id, account) \
     SELECT id, $2 FROM tenants WHERE id = $1 AND incarnation = $3 ON CONFLICT (tenant_id) DO NOTHING";

pub(crate) const ADD_TENANT: &str = "INSERT INTO tenants \
     (id, name, isolation, policy, js_memory, js_storage, js_streams, js_consumers, \
      max_connections, expires_at, answers) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, datetime($10, 'unixepoch'), $11)";

pub(crate) const ADD_USER: &str = "INSERT INTO users \
     (tenant_id, name, kind, password_hash, nkey, certificate, publish, subscribe, policy) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";

pub(crate) const SET_PASSWORD: &str =
    "UPDATE users SET password_hash = $3 WHERE tenant_id = $1 AND name = $2";

pub(crate) const SET_TENANT_STATUS: &str = "UPDATE tenants SET status = $2 WHERE id = $1";

pub(crate) const SET_USER_STATUS: &str =
    "UPDATE users SET status = $3 WHERE tenant_id = $1 AND name = $2";

pub(crate) const REMOVE_USER: &str = "DELETE FROM users WHERE tenant_id = $1 AND name = $2";

pub(crate) const TOKENS: &str = "SELECT k.*, u.user_tenant_id FROM token_records AS k \
     JOIN user_records AS u ON u.user_name = k.user_name \
     ORDER BY u.user_tenant_id, k.user_name, k.token_created_at, k.token_id";

pub(crate) const REMOVE_TOKEN_BY_ID: &str = "DELETE FROM tokens WHERE id = $1";

/// Adds a token to a user, if the tenant has that user.
pub(crate) const ADD_TOKEN: &str = "INSERT INTO tokens (user_name, token_hash, label, expires_at) \
     SELECT name, $3, $4, datetime($5, 'unixepoch') FROM users WHERE tenant_id = $1 AND name = $2";

pub(crate) const REMOVE_TOKEN: &str = "DELETE FROM tokens WHERE token_hash = $1";

pub(crate) const REMOVE_TENANT: &str = "DELETE FROM tenants WHERE id = $1";

pub(crate) const TENANTS: &str = "SELECT * FROM tenant_records ORDER BY tenant_id";

pub(crate) const TENANT: &str = "SELECT * FROM tenant_records WHERE tenant_id = $1";

pub(crate) const TENANT_OF_ACCOUNT: &str = "SELECT * FROM tenant_records WHERE account = $1";

/// The tenants with `answers` that have an account, by id.
pub(crate) const ANSWERING: &str =
    "SELECT * FROM tenant_records WHERE answers AND account IS NOT NULL ORDER BY tenant_id";

/// The tenants that have an account, by id.
pub(crate) const WITH_ACCOUNT: &str =
    "SELECT * FROM tenant_records WHERE account IS NOT NULL ORDER BY tenant_id";

pub(crate) const USERS: &str =
    "SELECT * FROM user_records WHERE user_tenant_id = $1 ORDER BY user_name";

/// Users with a password hash, by name, from a name on.
pub(crate) const PASSWORD_HASHES: &str = "SELECT user_tenant_id, user_name, password_hash \
     FROM user_records WHERE password_hash IS NOT NULL AND user_name > $1 ORDER BY user_name LIMIT 4096";

/// Users by name, from a name on.
pub(crate) const LOGINS: &str = "SELECT user_tenant_id, user_name, nkey, certificate, user_policy \
     FROM user_records WHERE user_name > $1 ORDER BY user_name LIMIT 4096";

pub(crate) const TENANT_EXISTS: &str = "SELECT 1 FROM tenants WHERE id = $1";

/// Replaces a hash by another of the same password, unless it changed meanwhile.
pub(crate) const REHASH: &str =
    "UPDATE users SET password_hash = $3 WHERE name = $1 AND password_hash = $2";

/// Around [`REHASH`], in its transaction: the new hash is of the same password, and no event.
pub(crate) const BEGIN_REHASH: &str = "INSERT INTO rehashes (user_name) VALUES ($1)";
pub(crate) const END_REHASH: &str = "DELETE FROM rehashes WHERE user_name = $1";

/// The changes that mean something to connections or servers.
pub(crate) const EFFECTS: &str = "SELECT * FROM change_records \
     WHERE closes <> 0 OR revokes <> 0 OR pushes <> 0 OR ends_at IS NOT NULL ORDER BY seq";

pub(crate) const REMOVED_ACCOUNTS: &str = "SELECT account FROM removed_accounts \
     WHERE account NOT IN (SELECT account FROM tenant_accounts) ORDER BY account";

pub(crate) const HEARTBEAT: &str = "INSERT INTO instances (id, seen_at) \
     SELECT $1, now_ms / 1000 FROM clock WHERE TRUE \
     ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at";

pub(crate) const DEPART: &str = "DELETE FROM instances WHERE id = $1";

/// The oldest events, at most so many, up to about 16 MB of data; without those of the tenants in a
/// JSON array of ids.
pub(crate) const PENDING: &str = "SELECT id, type, tenant_id, subject, at, data FROM ( \
       SELECT oldest.*, sum(length(data)) OVER (ORDER BY seq) - length(data) AS ahead FROM ( \
         SELECT * FROM outbox_records \
         WHERE tenant_id NOT IN (SELECT value FROM json_each($2)) ORDER BY seq LIMIT $1 \
       ) AS oldest \
     ) AS counted WHERE ahead < 16777216 ORDER BY seq";

pub(crate) const BACKLOG: &str = "SELECT count(*) AS count FROM outbox";

/// Deletes the events of a JSON array of ids.
pub(crate) const PUBLISHED: &str =
    "DELETE FROM outbox WHERE id IN (SELECT value FROM json_each($1))";

/// Who publishes, if anyone's time lasts: never longer than a minute, unless the clock was set back.
pub(crate) const LEASE_HOLDER: &str =
    "SELECT holder FROM lease_records WHERE name = 'outbox' AND left_ms BETWEEN 1 AND 60000";

/// Takes the turn for so many milliseconds, unless another's lasts.
pub(crate) const LEASE: &str = "INSERT INTO leases (name, holder, until) \
     SELECT 'outbox', $1, c.now_ms + $2 FROM clock AS c WHERE TRUE \
     ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until \
     WHERE leases.holder = excluded.holder OR leases.until <= excluded.until - $2 \
     OR leases.until > excluded.until - $2 + 60000";

pub(crate) const RELEASE: &str = "DELETE FROM leases WHERE name = 'outbox' AND holder = $1";

pub(crate) const INSTANCES: &str = "SELECT i.id FROM instances AS i, clock AS c \
     WHERE i.seen_at >= c.now_ms / 1000 - $1 ORDER BY i.id";

/// Texts that a rule of today would refuse: how many, and which.
pub(crate) const MISFITS: &str = "SELECT (SELECT count(*) FROM misfits) AS count, tbl, key, col FROM misfits \
     ORDER BY tbl, key, col LIMIT 3";

/// Whether the tables are there and can be read: the schema's version.
pub(crate) const PING: &str = "SELECT version FROM schema_version \
     WHERE (SELECT count(*) FROM (SELECT 1 FROM tenants LIMIT 1) AS one) >= 0";
