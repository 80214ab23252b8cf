//! The `nats` bodies of every NATS JWT that is read or written here. Field names and defaults are
//! those of the Go library `github.com/nats-io/jwt/v2`; a body writes what it has and leaves out
//! the rest, as there.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use super::jwt::Body;
use crate::keys::{AccountId, KeyError, OperatorId, UserNkey, XPublicKey};

/// "Unlimited" in every limit of a NATS JWT.
pub const NO_LIMIT: i64 = -1;

fn is_zero(value: &i64) -> bool {
    *value == 0
}

fn is_false(value: &bool) -> bool {
    !*value
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Reads a key that may be left out: to the Go library an empty text is the same as none, and some
/// writers leave it in.
fn key_or_empty<'de, D, K>(deserializer: D) -> Result<Option<K>, D::Error>
where
    D: Deserializer<'de>,
    K: FromStr<Err = KeyError>,
{
    match Option::<Cow<'de, str>>::deserialize(deserializer)?.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => text.parse().map(Some).map_err(serde::de::Error::custom),
    }
}

/// Subjects to allow and to deny.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Permission {
    /// Allowed subjects; the server takes an empty list for "everything".
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// Denied subjects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
}

impl Permission {
    /// These subjects, and no other.
    pub(crate) fn allow<S: Into<String>>(subjects: impl IntoIterator<Item = S>) -> Self {
        Self { allow: subjects.into_iter().map(Into::into).collect(), deny: Vec::new() }
    }

    /// Every subject but these.
    pub(crate) fn deny<S: Into<String>>(subjects: impl IntoIterator<Item = S>) -> Self {
        Self { allow: Vec::new(), deny: subjects.into_iter().map(Into::into).collect() }
    }
}

/// The right to answer the reply subject of a message that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ResponsePermission {
    /// How many answers to each request.
    pub max: i64,
    /// For how long after the request, in nanoseconds.
    pub ttl: i64,
}

/// Publish, subscribe and response permissions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Permissions {
    /// What may be published.
    #[serde(default, rename = "pub", skip_serializing_if = "is_default")]
    pub publish: Permission,
    /// What may be subscribed.
    #[serde(default, rename = "sub", skip_serializing_if = "is_default")]
    pub subscribe: Permission,
    /// Which requests may be answered.
    #[serde(default, rename = "resp", skip_serializing_if = "Option::is_none")]
    pub responses: Option<ResponsePermission>,
}

/// The body of a user JWT.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserBody {
    /// What the user may publish, subscribe and answer.
    #[serde(flatten)]
    pub permissions: Permissions,
    /// Subscriptions; [`NO_LIMIT`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub subs: i64,
    /// Bytes; [`NO_LIMIT`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub data: i64,
    /// Bytes of a message; [`NO_LIMIT`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub payload: i64,
    /// Whether the JWT alone admits, with no signature over the server's nonce.
    #[serde(default, skip_serializing_if = "is_false")]
    pub bearer_token: bool,
    /// How the user may be connected (`STANDARD`, `WEBSOCKET`, ...); none is in every way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_connection_types: Vec<String>,
    /// The account's identity, where a signing key issued the JWT.
    #[serde(default, deserialize_with = "key_or_empty", skip_serializing_if = "Option::is_none")]
    pub issuer_account: Option<AccountId>,
}

impl UserBody {
    /// A body with these permissions and no limits of its own.
    #[must_use]
    pub fn new(permissions: Permissions) -> Self {
        Self {
            permissions,
            subs: NO_LIMIT,
            data: NO_LIMIT,
            payload: NO_LIMIT,
            bearer_token: false,
            allowed_connection_types: Vec::new(),
            issuer_account: None,
        }
    }
}

impl Body for UserBody {
    const TYPE: &'static str = "user";
}

/// Whether an export or import carries messages one way or requests with answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExportType {
    /// Messages from the exporter to the importer.
    Stream,
    /// Requests from the importer to the exporter, and their answers.
    Service,
}

/// A subject that an account offers to others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Export {
    /// A label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The subject, wildcards allowed.
    pub subject: String,
    /// Which way it works.
    #[serde(rename = "type")]
    pub kind: ExportType,
    /// Whether an importer needs an activation token.
    #[serde(default, skip_serializing_if = "is_false")]
    pub token_req: bool,
    /// `Singleton` (the default), `Stream` or `Chunked`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_type: Option<String>,
    /// How long a request may wait for its answer, in nanoseconds; two minutes without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_threshold: Option<u64>,
}

impl Export {
    /// One that every account may take; a request has one answer.
    #[must_use]
    pub fn new(subject: String, kind: ExportType) -> Self {
        let (token_req, response_type, response_threshold) = (false, None, None);
        Self { name: None, subject, kind, token_req, response_type, response_threshold }
    }
}

/// A subject that an account takes from another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    /// A label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The subject as the exporter names it.
    pub subject: String,
    /// The exporter.
    pub account: AccountId,
    /// The subject as the importer sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_subject: Option<String>,
    /// Which way it works.
    #[serde(rename = "type")]
    pub kind: ExportType,
}

impl Import {
    /// Takes `subject` of `account`, and has it as `local`.
    pub(crate) fn new(
        kind: ExportType,
        account: AccountId,
        subject: String,
        local: String,
    ) -> Self {
        let local_subject = (local != subject).then_some(local);
        Self { name: None, subject, account, local_subject, kind }
    }
}

/// What an account may use; every value is a count or bytes, [`NO_LIMIT`] is unlimited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are the Go library's")]
pub struct AccountLimits {
    #[serde(default, skip_serializing_if = "is_zero")]
    pub subs: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub data: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub payload: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub imports: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub exports: i64,
    #[serde(default, skip_serializing_if = "is_false")]
    pub wildcards: bool,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub conn: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub leaf: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub mem_storage: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub disk_storage: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub streams: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub consumer: i64,
}

impl Default for AccountLimits {
    /// Everything unlimited but JetStream, which is off.
    fn default() -> Self {
        Self {
            subs: NO_LIMIT,
            data: NO_LIMIT,
            payload: NO_LIMIT,
            imports: NO_LIMIT,
            exports: NO_LIMIT,
            wildcards: true,
            conn: NO_LIMIT,
            leaf: NO_LIMIT,
            mem_storage: 0,
            disk_storage: 0,
            streams: 0,
            consumer: 0,
        }
    }
}

/// The auth callout settings of an account (operator mode).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ExternalAuthorization {
    /// Users that the server lets in by itself: the service's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub auth_users: Vec<UserNkey>,
    /// Accounts that users may be placed in: ids, or `*` alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_accounts: Vec<String>,
    /// The curve key that requests are sealed for.
    #[serde(default, deserialize_with = "key_or_empty", skip_serializing_if = "Option::is_none")]
    pub xkey: Option<XPublicKey>,
}

/// The body of an account JWT.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AccountBody {
    /// What it takes from other accounts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub imports: Vec<Import>,
    /// What it offers to other accounts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exports: Vec<Export>,
    /// What it may use.
    #[serde(default)]
    pub limits: AccountLimits,
    /// Keys that may sign users of this account.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signing_keys: Vec<AccountId>,
    /// Revoked users (`*` for all) and the time up to which their JWTs are void.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub revocations: BTreeMap<String, i64>,
    /// The permissions of users that bring none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub default_permissions: Permissions,
    /// Its auth callout, if it has one.
    #[serde(default, skip_serializing_if = "is_default")]
    pub authorization: ExternalAuthorization,
}

impl Body for AccountBody {
    const TYPE: &'static str = "account";
}

/// The body of the order to forget accounts, which an operator's key signs for itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct AccountDeletion {
    /// The accounts.
    pub accounts: Vec<AccountId>,
}

impl Body for AccountDeletion {
    const TYPE: &'static str = "generic";
}

/// The body of an operator JWT.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OperatorBody {
    /// Keys that may sign accounts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signing_keys: Vec<OperatorId>,
    /// The account for server events and requests.
    #[serde(default, deserialize_with = "key_or_empty", skip_serializing_if = "Option::is_none")]
    pub system_account: Option<AccountId>,
    /// Whether the operator's identity itself signs no accounts.
    #[serde(default, skip_serializing_if = "is_false")]
    pub strict_signing_key_usage: bool,
}

impl Body for OperatorBody {
    const TYPE: &'static str = "operator";
}

/// The server that asks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ServerInfo {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Its host.
    #[serde(default)]
    pub host: String,
    /// Its identity, `N...`.
    #[serde(default)]
    pub id: String,
    /// Its version.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Its cluster.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    /// Its tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Its public curve key, where requests are encrypted.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub xkey: String,
}

/// What the server knows of the client.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ClientInfo {
    /// Its address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// The connection id on that server.
    #[serde(default, skip_serializing_if = "is_default")]
    pub id: u64,
    /// The user it claims; `[REDACTED]` for tokens.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// The connection's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Tags of the user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The name tag of the user.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name_tag: String,
    /// `Client`, `Leafnode` and so on.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// `nats`, `mqtt` or `websocket`.
    #[serde(default, rename = "type", skip_serializing_if = "String::is_empty")]
    pub connection_type: String,
    /// The MQTT client id.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mqtt_id: String,
    /// The nonce that an nkey client has signed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub nonce: String,
}

/// What the client sent in CONNECT. Holds secrets: shown by no `Debug`.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ConnectOptions {
    /// A JWT; in operator mode the sentinel's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub jwt: String,
    /// A public user nkey.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub nkey: String,
    /// The signature over the nonce, base64url.
    #[serde(default, rename = "sig", skip_serializing_if = "String::is_empty")]
    pub signature: String,
    /// A token.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub auth_token: String,
    /// A user name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// A password.
    #[serde(default, rename = "pass", skip_serializing_if = "String::is_empty")]
    pub password: String,
    /// The connection's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The client library's language.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub lang: String,
    /// The client library's version.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// The protocol's version.
    #[serde(default)]
    pub protocol: i64,
}

impl std::fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectOptions")
            .field("user", &self.user)
            .field("name", &self.name)
            .field("lang", &self.lang)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// The TLS state of the client's connection.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ClientTls {
    /// The protocol's version.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// The cipher suite.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cipher: String,
    /// Certificates that the server did **not** verify, in PEM.
    #[serde(default, rename = "certs", skip_serializing_if = "Vec::is_empty")]
    pub unverified_certs: Vec<String>,
    /// Chains that the server verified, in PEM, the client's certificate first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verified_chains: Vec<Vec<String>>,
}

/// The body of an authorization request.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AuthorizationRequestBody {
    /// The server that asks.
    #[serde(rename = "server_id")]
    pub server: ServerInfo,
    /// The key that the server made for this connection: the subject of the answer.
    pub user_nkey: String,
    /// What the server knows of the client.
    #[serde(default)]
    pub client_info: ClientInfo,
    /// What the client sent.
    #[serde(default)]
    pub connect_opts: ConnectOptions,
    /// Its TLS state, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_tls: Option<ClientTls>,
    /// A nonce of the request.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub request_nonce: String,
}

impl Body for AuthorizationRequestBody {
    const TYPE: &'static str = "authorization_request";
}

/// The body of an authorization response: a JWT or an error, never both.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AuthorizationResponseBody {
    /// The user's JWT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<String>,
    /// The refusal, which the server logs as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The account's identity, where a signing key issued the response.
    #[serde(default, deserialize_with = "key_or_empty", skip_serializing_if = "Option::is_none")]
    pub issuer_account: Option<AccountId>,
}

impl Body for AuthorizationResponseBody {
    const TYPE: &'static str = "authorization_response";
}
